//! Whose limit is it? What its name says, as far as names are words: `per-user`, `orgRequests`, `client.credentials.token.rate`.
//!
//! People name limits after what they are on. The narrowest that a name speaks of counts: a limit for each user and route
//! is met by one lane alone. A user's or an application's limit is on all its tokens; there is no such node, and the token
//! is the nearest that holds nobody else back. What is on an address or an organisation is on all that goes to the API.

use super::limits::NAME_BYTES_MAX;
use crate::control::Level;
use serde_json::Value;

const OF_ROUTE: &[&str] = &["route", "endpoint", "path", "method", "operation", "resource"];
const OF_CREDENTIAL: &[&str] =
    &["token", "user", "client", "key", "apikey", "app", "application", "credential", "credentials", "bot"];
const OF_UPSTREAM: &[&str] = &[
    "org",
    "organization",
    "organisation",
    "tenant",
    "workspace",
    "account",
    "project",
    "ip",
    "global",
    "site",
];

/// Keys of a refusal's body beneath which the name of the limit stands: RFC 9457's problem type of the `RateLimit` drafts,
/// Google's quotas and reasons.
const NAMING: &[&str] = &["violated-policies", "quota_limit", "quotaLimit", "reason"];
/// So deep, and so many values, a body is searched.
const DEPTH_MAX: usize = 8;
const VALUES_MAX: usize = 100;

/// Whom the limit of this name is on, if the name says.
pub(super) fn level_of(name: &str) -> Option<Level> {
    let words = words(name);
    let one_of = |known: &[&str]| words.iter().any(|word| known.contains(&word.as_str()));
    let levels =
        [(OF_ROUTE, Level::Route), (OF_CREDENTIAL, Level::Credential), (OF_UPSTREAM, Level::Upstream)];
    levels.into_iter().find(|(known, _)| one_of(known)).map(|(_, level)| level)
}

/// Whom the limit is on that a refusal's body names.
pub(super) fn level_in(body: &Value) -> Option<Level> {
    let mut left = VALUES_MAX;
    search(body, false, DEPTH_MAX, &mut left)
}

fn search(value: &Value, is_named: bool, depth: usize, left: &mut usize) -> Option<Level> {
    *left = left.checked_sub(1)?;
    let depth = depth.checked_sub(1)?;
    match value {
        Value::String(name) if is_named && name.len() <= NAME_BYTES_MAX => level_of(name),
        Value::Array(values) => values.iter().find_map(|value| search(value, is_named, depth, left)),
        Value::Object(members) => members
            .iter()
            .find_map(|(key, value)| search(value, is_named || NAMING.contains(&key.as_str()), depth, left)),
        _ => None,
    }
}

/// The words of a name in small letters: apart by whatever is no letter, or by a capital one.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for c in name.chars().take(NAME_BYTES_MAX) {
        let is_letter = c.is_ascii_alphabetic();
        if !is_letter || (c.is_ascii_uppercase() && was_small) {
            words.push(String::new());
        }
        if is_letter && let Some(word) = words.last_mut() {
            word.push(c.to_ascii_lowercase());
        }
        was_small = c.is_ascii_lowercase();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_narrowest_word_of_a_name_counts() {
        for (name, level) in [
            ("per-user", Some(Level::Credential)),
            ("user_per_route", Some(Level::Route)),
            ("perEndpoint", Some(Level::Route)),
            ("client.credentials.token.rate.per.minute", Some(Level::Credential)),
            ("org.rate.per.minute", Some(Level::Upstream)),
            ("org.app.user.rate.per.minute", Some(Level::Credential)),
            ("RequestsPerMinutePerProjectPerUser", Some(Level::Credential)),
            ("RequestsPerMinutePerProject", Some(Level::Upstream)),
            ("ip", Some(Level::Upstream)),
            ("API-KEY", Some(Level::Credential)),
            ("burst", None),
            ("daily", None),
            ("tokens", None),
            ("monkey", None),
            ("", None),
        ] {
            assert_eq!(level_of(name), level, "{name}");
        }
    }

    #[test]
    fn a_body_names_it_where_names_stand_and_nowhere_else() {
        let problem = json!({"type": "…#quota-exceeded", "violated-policies": ["burst", "per-ip"]});
        assert_eq!(level_in(&problem), Some(Level::Upstream));
        let google = json!({"error": {"code": 429, "details": [
            {"@type": "…ErrorInfo", "metadata": {"quota_limit": "DefaultRequestsPerMinutePerUser"}}]}});
        assert_eq!(level_in(&google), Some(Level::Credential));
        assert_eq!(level_in(&json!({"message": "the user's budget is spent", "user": "route"})), None);
        let deep = (0..20).fold(json!("per-user"), |inner, _| json!({"reason": inner}));
        assert_eq!(level_in(&deep), None);
        let long = json!({"reason": [vec!["x"; 1_000], vec!["per-user"]]});
        assert_eq!(level_in(&long), None);
    }
}
