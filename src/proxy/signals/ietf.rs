//! The IETF's `RateLimit` fields, in every form that its drafts (draft-ietf-httpapi-ratelimit-headers) have had.
//!
//! | drafts | form |
//! |---|---|
//! | 00 to 03 | `RateLimit-Limit: 10, 10;w=1, 50;w=60` with `RateLimit-Remaining` and `RateLimit-Reset` |
//! | 04 to 06 | the same three, and `RateLimit-Policy: 10;w=1, 50;w=60` |
//! | 07 | `RateLimit: limit=100, remaining=50, reset=5`, and the policies as before |
//! | 08 on | `RateLimit-Policy: "burst";q=100;w=60` with `RateLimit: "burst";r=50;t=30` |
//!
//! GitLab has the three under these names too, and `RateLimit-Observed`, `RateLimit-ResetTime` and `RateLimit-Name`
//! beside them; its reset is a moment.

use super::fields::Fields;
use super::limits::{LIMITS_MAX, Limits, NAME_BYTES_MAX, is_name};
use super::{count, wait, words};
use crate::config::ResetUnit;
use crate::control::{AnnouncedBy, Announcement, Quota};
use http::HeaderName;
use sfv::{BareItem, Dictionary, Item, List, ListEntry, Parameters, Parser};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// One limit as the API has set it.
struct Policy {
    /// From draft 08 on.
    name: Option<String>,
    requests: u32,
    window: Option<Duration>,
}

/// How much of a limit is left.
#[derive(Clone, Copy, Default)]
struct Standing {
    remaining: Option<u32>,
    reset: Option<Duration>,
    /// One of the numbers was none that makes sense.
    is_odd: bool,
}

impl Standing {
    fn of(remaining: Option<i64>, reset: Option<i64>) -> Self {
        let left = remaining.and_then(|left| u32::try_from(left).ok());
        let end = reset.and_then(seconds).and_then(wait::sensible);
        let is_odd = remaining.is_some() != left.is_some() || reset.is_some() != end.is_some();
        Self { remaining: left, reset: end, is_odd }
    }
}

/// Adds what these fields announce: one limit for each policy, and how it stands where that is told.
/// Of a refusal, a reset counts that belongs to no known limit, too.
pub(super) fn announced(fields: &mut Fields<'_>, is_refusal: bool, limits: &mut Limits) {
    let mut policies = Vec::new();
    for item in list(fields, &POLICY).unwrap_or_default().iter().filter(|item| counts_requests(item)) {
        match policy(item) {
            Some(policy) if policies.len() < LIMITS_MAX => policies.push(policy),
            Some(_) => break,
            None => fields.ignore(&POLICY),
        }
    }
    match fields.joined(&STATE).map(|state| (items(&state), dictionary(&state))) {
        Some((Some(items), _)) => {
            let standing = |item: &Item| Standing::of(integer(&item.params, "r"), integer(&item.params, "t"));
            let standings: Vec<_> =
                items.iter().filter_map(|item| Some((name_of(item)?, standing(item)))).collect();
            if standings.iter().any(|(_, standing)| standing.is_odd) {
                fields.ignore(&STATE);
            }
            named(&policies, &standings, limits);
        }
        Some((None, Some(in_force))) => {
            if in_force.1.is_odd {
                fields.ignore(&STATE);
            }
            nameless(policies, Some(in_force), Arc::clone(&PLAIN), limits);
        }
        state => {
            if state.is_some() {
                fields.ignore(&STATE);
            }
            let in_force = three_fields(fields, &mut policies);
            let name =
                fields.read(&GITLAB_NAME, |name| is_name(name).then(|| format!("{NAME}:{name}").into()));
            if in_force.is_none() && is_refusal && fields.read(&REMAINING, count).is_none_or(|left| left == 0)
            {
                limits.waits(reset(fields));
            }
            nameless(policies, in_force, name.unwrap_or_else(|| Arc::clone(&PLAIN)), limits);
        }
    }
}

/// Draft 08 on: each policy has a name, and the item of that name says how it stands.
fn named(policies: &[Policy], standings: &[(&str, Standing)], limits: &mut Limits) {
    for policy in policies {
        let Some(name) = &policy.name else { continue };
        let told = standings.iter().find(|(known, _)| known == name).map(|(_, standing)| *standing);
        limits.add(policy.announcement(format!("{NAME}:{name}").into(), told.unwrap_or_default()));
    }
    // Of a limit whose size is not told it is known all the same when there is room again.
    let is_known = |name: &str| policies.iter().any(|policy| policy.name.as_deref() == Some(name));
    for (name, standing) in standings.iter().filter(|(name, _)| !is_known(name)) {
        if standing.remaining == Some(0) {
            limits.waits(standing.reset);
            limits.spent(name);
        }
    }
}

/// Drafts to 07: one limit is in force, and policies have no names.
fn nameless(policies: Vec<Policy>, in_force: Option<(u32, Standing)>, plain: Arc<str>, limits: &mut Limits) {
    let mut in_force =
        in_force.map(|(requests, standing)| (Policy { name: None, requests, window: None }, standing));
    let is_only = policies.len() + usize::from(in_force.is_some()) == 1
        || matches!((&*policies, &in_force), ([policy], Some((limit, _))) if policy.requests == limit.requests);
    for policy in policies {
        let standing = in_force.take_if(|(limit, _)| limit.requests == policy.requests);
        let name = match &policy.name {
            Some(name) => format!("{NAME}:{name}").into(),
            None if is_only => Arc::clone(&plain),
            None => policy.quota(),
        };
        limits.add(policy.announcement(name, standing.map(|(_, standing)| standing).unwrap_or_default()));
    }
    if let Some((limit, standing)) = in_force {
        limits.add(limit.announcement(plain, standing));
    }
}

/// Draft 07: everything in one field.
fn dictionary(field: &[u8]) -> Option<(u32, Standing)> {
    let members: Dictionary = Parser::new(field).parse().ok()?;
    let member = |key| match members.get(key) {
        Some(ListEntry::Item(item)) => item.bare_item.as_integer().map(i64::from),
        _ => None,
    };
    let requests = member("limit").and_then(positive)?;
    Some((requests, Standing::of(member("remaining"), member("reset"))))
}

/// Drafts 00 to 06: a field for each number. The first item of the limits is in force, those with a window are
/// policies.
fn three_fields(fields: &mut Fields<'_>, policies: &mut Vec<Policy>) -> Option<(u32, Standing)> {
    let told = list(fields, &LIMIT)?;
    let Some(requests) = told.first().and_then(|limit| limit.bare_item.as_integer()).map(i64::from) else {
        fields.ignore(&LIMIT);
        return None;
    };
    // Zero and less stand for "unknown".
    let requests = positive(requests)?;
    if policies.is_empty() {
        let told = told.iter().filter_map(policy).filter(|policy| policy.window.is_some());
        policies.extend(told.take(LIMITS_MAX));
    }
    let remaining = fields.read(&REMAINING, count);
    let observed = || fields.read(&GITLAB_OBSERVED, count).map(|used| requests.saturating_sub(used));
    let remaining = remaining.or_else(observed);
    Some((requests, Standing { remaining, reset: reset(fields), is_odd: false }))
}

/// Some send the moment here, as they would in X-RateLimit-Reset.
fn reset(fields: &mut Fields<'_>) -> Option<Duration> {
    [&RESET, &GITLAB_RESET].into_iter().find_map(|name| wait::reset(fields, name, ResetUnit::Seconds))
}

/// Other units than requests are for others to count.
fn counts_requests(item: &Item) -> bool {
    item.params.get("qu").is_none_or(|unit| unit.as_string().is_some_and(|unit| unit.as_str() == REQUESTS))
}

/// `100;w=60` or `"burst";q=100;w=60`.
fn policy(item: &Item) -> Option<Policy> {
    let (name, requests) = match name_of(item) {
        Some(name) if name.len() <= NAME_BYTES_MAX => (Some(name.to_owned()), integer(&item.params, "q")?),
        Some(_) => return None,
        None => (None, item.bare_item.as_integer()?.into()),
    };
    let window = match item.params.get("w") {
        None => None,
        // A window that is none makes the whole item malformed.
        Some(window) => Some(seconds(window.as_integer()?.into()).filter(|window| !window.is_zero())?),
    };
    Some(Policy { name, requests: positive(requests)?, window })
}

impl Policy {
    fn announcement(&self, name: Arc<str>, standing: Standing) -> Announcement {
        Announcement {
            name,
            source: AnnouncedBy::Header,
            requests: self.requests,
            used: standing.remaining.map(|remaining| self.requests.saturating_sub(remaining)),
            reset: standing.reset,
            window: self.window,
            level: self.name.as_deref().and_then(words::level_of).unwrap_or_default(),
        }
    }

    /// What a policy without a name is told apart by: `ratelimit:50/min`.
    fn quota(&self) -> Arc<str> {
        match self.window {
            Some(window) => format!("{NAME}:{}", Quota { requests: self.requests, window }).into(),
            None => format!("{NAME}:{}", self.requests).into(),
        }
    }
}

fn name_of(item: &Item) -> Option<&str> {
    match &item.bare_item {
        BareItem::String(name) => Some(name.as_str()),
        BareItem::Token(name) => Some(name.as_str()),
        _ => None,
    }
}

fn integer(parameters: &Parameters, key: &str) -> Option<i64> {
    parameters.get(key)?.as_integer().map(i64::from)
}

fn positive(number: i64) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| *number > 0)
}

fn seconds(number: i64) -> Option<Duration> {
    u64::try_from(number).ok().map(Duration::from_secs)
}

/// The items of a list; `None` when the field is not there, or is no list of items.
fn list(fields: &mut Fields<'_>, name: &HeaderName) -> Option<Vec<Item>> {
    let items = items(&fields.joined(name)?);
    if items.is_none() {
        fields.ignore(name);
    }
    items
}

fn items(field: &[u8]) -> Option<Vec<Item>> {
    let members: List = Parser::new(field).parse().ok()?;
    members
        .into_iter()
        .map(|member| if let ListEntry::Item(item) = member { Some(item) } else { None })
        .collect()
}

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const GITLAB_RESET: HeaderName = HeaderName::from_static("ratelimit-resettime");
const GITLAB_OBSERVED: HeaderName = HeaderName::from_static("ratelimit-observed");
const GITLAB_NAME: HeaderName = HeaderName::from_static("ratelimit-name");

/// The unit that a limit counts unless it says otherwise.
const REQUESTS: &str = "requests";

const NAME: &str = "ratelimit";
static PLAIN: LazyLock<Arc<str>> = LazyLock::new(|| NAME.into());

#[cfg(test)]
mod tests {
    use super::super::tests::{Told, headers, ignored, told};

    fn read(fields: &[(&'static str, &str)]) -> Vec<Told> {
        told(&headers(fields))
    }

    fn one(name: &str, requests: u32, used: u32, reset: f64, window: Option<f64>) -> Told {
        Told { name: name.into(), requests, used: Some(used), reset: Some(reset), window }
    }

    fn untold(name: &str, requests: u32, window: f64) -> Told {
        Told { name: name.into(), requests, used: None, reset: None, window: Some(window) }
    }

    #[test]
    fn the_first_drafts_have_a_field_for_each_number_and_policies_beside_the_limit() {
        let rest = [("ratelimit-remaining", "1"), ("ratelimit-reset", "7")];
        assert_eq!(
            read(&[("ratelimit-limit", "10"), rest[0], rest[1]]),
            [one("ratelimit", 10, 9, 7.0, None)]
        );
        assert_eq!(
            read(&[("ratelimit-limit", "10, 10;w=1, 50;w=60"), rest[0], rest[1]]),
            [one("ratelimit:10/s", 10, 9, 7.0, Some(1.0)), untold("ratelimit:50/min", 50, 60.0)]
        );
        assert_eq!(
            read(&[("ratelimit-limit", "10, 10;w=1"), rest[0], rest[1]]),
            [one("ratelimit", 10, 9, 7.0, Some(1.0))]
        );
    }

    #[test]
    fn later_drafts_have_policies_in_a_field_of_their_own() {
        let policy = ("ratelimit-policy", "10;w=1, 50;w=60;burst=1000;comment=\"fixed window\"");
        let both = [one("ratelimit:10/s", 10, 9, 7.0, Some(1.0)), untold("ratelimit:50/min", 50, 60.0)];
        let fields = [("ratelimit-limit", "10"), ("ratelimit-remaining", "1"), ("ratelimit-reset", "7")];
        assert_eq!(read(&[policy, fields[0], fields[1], fields[2]]), both);
        assert_eq!(read(&[policy, ("ratelimit", "limit=10, remaining=1, reset=7")]), both);
    }

    #[test]
    fn a_dictionary_holds_all_numbers_of_one_limit() {
        let state = ("ratelimit", "limit=100, remaining=50, reset=5");
        assert_eq!(read(&[state]), [one("ratelimit", 100, 50, 5.0, None)]);
        assert_eq!(
            read(&[state, ("ratelimit-policy", "100;w=10")]),
            [one("ratelimit", 100, 50, 5.0, Some(10.0))]
        );
        assert_eq!(
            read(&[state, ("ratelimit-policy", "7;w=10")]),
            [untold("ratelimit:7/10s", 7, 10.0), one("ratelimit", 100, 50, 5.0, None)]
        );
    }

    #[test]
    fn named_items_stand_where_the_policy_of_that_name_says() {
        let policies = ("ratelimit-policy", "\"burst\";q=100;w=60,\"daily\";q=1000;w=86400");
        assert_eq!(
            read(&[policies, ("ratelimit", "\"burst\";r=50;t=30")]),
            [one("ratelimit:burst", 100, 50, 30.0, Some(60.0)), untold("ratelimit:daily", 1_000, 86_400.0)]
        );
        assert_eq!(
            read(&[
                ("ratelimit-policy", "\"a\"; q=240; w=30; pk=:MTI=:; qu=\"requests\""),
                ("ratelimit-policy", "b;q=5"),
                ("ratelimit", "\"other\";r=1;t=1"),
                ("ratelimit", "b;r=7;t=-1, \"a\";r=0;t=0"),
            ]),
            [
                one("ratelimit:a", 240, 240, 0.0, Some(30.0)),
                Told { name: "ratelimit:b".into(), requests: 5, used: Some(0), reset: None, window: None }
            ]
        );
        assert_eq!(
            read(&[("ratelimit", "\"default\";r=50;t=30")]),
            [],
            "it says of no limit how large it is"
        );
    }

    #[test]
    fn numbers_that_make_no_sense_are_counted() {
        for (state, is_odd) in [
            ("\"a\";r=1;t=9", false),
            ("\"a\";r=-1;t=9", true),
            ("\"a\";r=1;t=99999999", true),
            ("limit=10, remaining=1, reset=9", false),
            ("limit=10, remaining=-1", true),
            ("limit=10, reset=99999999", true),
            ("limit=0", true),
            ("((", true),
        ] {
            let found = ignored(&headers(&[("ratelimit", state)]));
            assert_eq!(found, if is_odd { &["ratelimit"][..] } else { &[] }, "{state}");
        }
        for (policy, is_odd) in [("\"a\";q=5", false), ("\"a\";q=5;qu=\"bytes\"", false), ("\"a\"", true)] {
            assert_eq!(ignored(&headers(&[("ratelimit-policy", policy)])).is_empty(), !is_odd, "{policy}");
        }
    }

    #[test]
    fn what_counts_something_else_or_nothing_is_left_out() {
        for policy in [
            "\"a\";q=10;w=1;qu=\"content-bytes\"",
            "\"a\";q=10;w=1;qu=requests",
            "\"a\";w=1",
            "\"a\";q=0",
            "\"a\";q=-1",
            "\"a\";q=99999999999",
            "\"a\";q=10;w=0",
            "\"a\";q=10;w=x",
            "0;w=1",
            "1.5;w=1",
            "(1 2);w=1",
            "10;w=1,",
            "10;W=1",
            "\"a\";q=10;w=1 trailing",
            "",
        ] {
            assert_eq!(read(&[("ratelimit-policy", policy)]), [], "{policy}");
        }
        let long = format!("\"{}\";q=10", "x".repeat(65));
        assert_eq!(read(&[("ratelimit-policy", &long)]), []);
        let many = vec!["10;w=1"; 100].join(",");
        assert_eq!(read(&[("ratelimit-policy", &many)]).len(), super::super::limits::LIMITS_MAX);
    }
}
