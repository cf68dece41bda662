//! Route classes: a path with its identifiers folded, so that one limit's requests share one lane.
//!
//! Most identifiers look like one: a number, a UUID, a long token. Others do not (`/users/ann`, `/orders/2026-11-7`), but they
//! are many: where more different names have stood at one place of a path than an API has names for, that place holds
//! identifiers, and is `{id}` from then on. Names with digits in them are suspected sooner.

use crate::control::NameHashes;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

/// The route classes met so far, bounded in number.
#[derive(Debug)]
pub(super) struct Routes {
    /// Read by every request of every shard, and written when a class is met for the first time.
    known: RwLock<Known>,
    other: Arc<str>,
}

#[derive(Debug)]
struct Known {
    classes: HashSet<Arc<str>, NameHashes>,
    classes_max: usize,
    /// Where identifiers were found that do not look like one, by the class up to there. Each has a class of its own that
    /// goes on from there, so there are no more of them.
    crowded: HashMap<Box<str>, Crowded, NameHashes>,
    names_max: usize,
}

/// Which names at a place are identifiers.
#[derive(Clone, Copy, Debug, Default)]
struct Crowded {
    numbered: bool,
    plain: bool,
}

impl Routes {
    /// At most `classes_max` classes; what comes later is `other`. At most `names_max` names at one place of a path, and an
    /// eighth as many with digits in them; where there are more, they are identifiers.
    pub(super) fn new(classes_max: usize, names_max: usize) -> Self {
        let known =
            Known { classes: HashSet::default(), classes_max, crowded: HashMap::default(), names_max };
        Self { known: RwLock::new(known), other: "other".into() }
    }

    /// The class of `path`.
    pub(super) fn class(&self, path: &str) -> Arc<str> {
        FOLDED.with_borrow_mut(|folded| {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.fold(path, folded);
            if let Some(class) = known.classes.get(folded.as_str()) {
                return Arc::clone(class);
            }
            if known.is_full() {
                return Arc::clone(&self.other);
            }
            drop(known);
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.meet(path, folded).unwrap_or_else(|| Arc::clone(&self.other))
        })
    }
}

impl Known {
    fn is_full(&self) -> bool {
        self.classes.len() >= self.classes_max
    }

    /// `/api/v2/users/42/` → `/api/v2/users/{id}`. Empty and dot segments fall away: they name no resource of their
    /// own, and no class may be made by adding slashes. Percent-encodings stay as they are.
    fn fold(&self, path: &str, class: &mut String) {
        class.clear();
        for segment in path.split('/').filter(|segment| !matches!(*segment, "" | "." | "..")) {
            let shown = if is_identifier(segment) || self.is_crowded(class, segment) { ID } else { segment };
            if class.len() + 1 + shown.len() > LENGTH_MAX {
                class.push_str(REST);
                break;
            }
            class.push('/');
            class.push_str(shown);
        }
        if class.is_empty() {
            class.push('/');
        }
    }

    /// Whether `segment` is an identifier because there are so many like it behind `before`.
    fn is_crowded(&self, before: &str, segment: &str) -> bool {
        !self.crowded.is_empty()
            && self.crowded.get(before).is_some_and(|crowded| {
                if is_numbered(segment) { crowded.numbered } else { crowded.plain && !is_version(segment) }
            })
    }

    /// The class of a path that may be new, with `folded` as room for it. `None`: there are too many.
    fn meet(&mut self, path: &str, folded: &mut String) -> Option<Arc<str>> {
        loop {
            self.fold(path, folded);
            if let Some(class) = self.classes.get(folded.as_str()) {
                return Some(Arc::clone(class));
            }
            let Some((before, numbered)) = self.crowding(folded) else { break };
            let crowded = self.crowded.entry(before.into()).or_default();
            *if numbered { &mut crowded.numbered } else { &mut crowded.plain } = true;
            // What was taken for a name before is met again as what it is.
            let stays = |class: &str| {
                !name_behind(class, before).is_some_and(|name| is_name(name) && is_numbered(name) == numbered)
            };
            self.classes.retain(|class| stays(class));
            self.crowded.retain(|class, _| stays(class));
        }
        if self.is_full() {
            return None;
        }
        let class: Arc<str> = folded.as_str().into();
        self.classes.insert(Arc::clone(&class));
        Some(class)
    }

    /// The first place of `class` that has too many names with it: what stands before it, and whether it is those with digits.
    fn crowding<'a>(&self, class: &'a str) -> Option<(&'a str, bool)> {
        class.match_indices('/').find_map(|(at, _)| {
            let (before, _) = class.split_at_checked(at)?;
            let name = name_behind(class, before).filter(|name| is_name(name))?;
            let numbered = is_numbered(name);
            let names: HashSet<&str> = self
                .classes
                .iter()
                .filter_map(|known| name_behind(known, before))
                .filter(|name| is_name(name) && is_numbered(name) == numbered)
                .chain([name])
                .collect();
            let most = if numbered { self.names_max.div_ceil(NUMBERED_SHARE) } else { self.names_max };
            (names.len() > most).then_some((before, numbered))
        })
    }
}

/// The segment of `class` right behind `before`.
fn name_behind<'a>(class: &'a str, before: &str) -> Option<&'a str> {
    class.strip_prefix(before)?.strip_prefix('/')?.split('/').next()
}

/// Whether a segment of a class is a name that may turn out to be an identifier.
fn is_name(segment: &str) -> bool {
    !matches!(segment, "" | ID | REST_NAME) && !is_version(segment)
}

/// Whether a name has digits in it: `2026-11-7`, `ann7`, `a%20b`.
fn is_numbered(name: &str) -> bool {
    name.bytes().any(|byte| byte.is_ascii_digit()) && !is_version(name)
}

/// `v2`, `v1.1`: an API's own, however many there are.
fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_digit())
            && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    })
}

thread_local! {
    /// Room for a path while its class is looked for: most are known.
    static FOLDED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What stands for an identifier.
const ID: &str = "{id}";

/// One in so many names of an API has a digit in it, at most.
const NUMBERED_SHARE: usize = 8;

/// Numbers, UUIDs, long hexadecimal, long tokens of letters and digits, and whatever is too long for a name.
fn is_identifier(segment: &str) -> bool {
    let all = segment.len();
    if all > SEGMENT_MAX {
        return true;
    }
    let (mut digits, mut letters_to_f, mut other_letters, mut dashes, mut underscores) = (0, 0, 0, 0, 0);
    for byte in segment.bytes() {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'a'..=b'f' | b'A'..=b'F' => letters_to_f += 1,
            b'g'..=b'z' | b'G'..=b'Z' => other_letters += 1,
            b'-' => dashes += 1,
            b'_' => underscores += 1,
            // Nothing that stands for a thing has more than that in it.
            _ => return false,
        }
    }
    let hexadecimal = digits + letters_to_f;
    let words = hexadecimal + other_letters + dashes + underscores;
    let is_number = digits == all;
    let is_uuid = all == 36 && dashes == 4 && hexadecimal == 32;
    let is_long_hexadecimal = all >= 8 && hexadecimal == all && digits > 0;
    let is_token = all >= 20 && words == all && digits > 0;
    is_number || is_uuid || is_long_hexadecimal || is_token
}

/// What stands for the end of a path that is too long for a label.
const REST: &str = "/{rest}";
/// The same as a segment.
const REST_NAME: &str = "{rest}";

/// A segment that is longer than this names nothing that a person wrote.
const SEGMENT_MAX: usize = 64;

/// A class is a label on a dashboard: no longer than this.
const LENGTH_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fold(path: &str) -> String {
        Routes::new(1, 1000).class(path).to_string()
    }

    #[test]
    fn identifiers_are_folded() {
        for (path, class) in [
            ("", "/"),
            ("/", "/"),
            ("*", "/*"),
            ("//", "/"),
            ("/api/v2/users/42", "/api/v2/users/{id}"),
            ("/api/v2/users/42/", "/api/v2/users/{id}"),
            ("//api/./v2/../users", "/api/v2/users"),
            (
                "/api/v2/conversations/messages/7a3e1f1c-93a5-4d4f-9d5e-1b5a3d1c2b3a/communications",
                "/api/v2/conversations/messages/{id}/communications",
            ),
            ("/x/DEADBEEF01", "/x/{id}"),
            ("/x/5f8f8c44b54764421b7156c9", "/x/{id}"),
            ("/x/AAABeZ1xQ2-3d_4e5f6g7h8", "/x/{id}"),
            ("/api/v2/conversations/messages/inbound/open", "/api/v2/conversations/messages/inbound/open"),
            ("/feedface", "/feedface"),
            ("/abc123", "/abc123"),
            ("/a%2Fb/%7Euser", "/a%2Fb/%7Euser"),
            ("/conversations-details-query-jobs", "/conversations-details-query-jobs"),
        ] {
            assert_eq!(fold(path), class, "{path}");
        }
        assert_eq!(fold(&format!("/{}", "x".repeat(65))), "/{id}");
    }

    #[test]
    fn classes_are_bounded_in_number() {
        let routes = Routes::new(2, 64);
        assert_eq!(&*routes.class("/a"), "/a");
        assert_eq!(&*routes.class("/b"), "/b");
        assert_eq!(&*routes.class("/c"), "other");
        assert_eq!(&*routes.class("/a/"), "/a");
    }

    #[test]
    fn a_place_with_too_many_names_holds_identifiers() {
        let routes = Routes::new(200, 64);
        for order in 0..8 {
            assert_eq!(
                &*routes.class(&format!("/orders/o-{order}/lines")),
                format!("/orders/o-{order}/lines")
            );
        }
        // The ninth says what the others were.
        for order in [8, 0, 3] {
            assert_eq!(&*routes.class(&format!("/orders/o-{order}/lines")), "/orders/{id}/lines");
        }
        assert_eq!(&*routes.class("/orders/o-99"), "/orders/{id}");
        assert_eq!(&*routes.class("/orders/search/lines"), "/orders/search/lines", "a name without digits");
        assert_eq!(&*routes.class("/bills/o-1"), "/bills/o-1", "another place");
        // Plain names take more of them.
        let name = |number: u32| {
            char::from_u32(u32::from('a') + number / 8).unwrap().to_string().repeat(1 + number as usize % 8)
        };
        for user in 0..64 {
            assert_eq!(&*routes.class(&format!("/users/{}", name(user))), format!("/users/{}", name(user)));
        }
        assert_eq!(&*routes.class("/users/zoe"), "/users/{id}");
        assert_eq!(&*routes.class("/users/a/roles"), "/users/{id}/roles");
        assert_eq!(&*routes.class("/users/7"), "/users/{id}");
    }

    #[test]
    fn versions_are_no_identifiers_however_many() {
        let routes = Routes::new(200, 8);
        for version in 0..20 {
            assert_eq!(&*routes.class(&format!("/v{version}/a")), format!("/v{version}/a"));
        }
    }

    #[test]
    fn identifiers_leave_room_for_routes() {
        let routes = Routes::new(20, 64);
        for number in 0..1000 {
            let class = routes.class(&format!("/a/x{number}/b/y{number}z"));
            assert!(number < 20 || &*class == "/a/{id}/b/{id}", "{class}");
        }
        assert_eq!(&*routes.class("/c"), "/c");
    }

    proptest! {
        #[test]
        fn classes_are_short_and_stable(path in "(/[a-zA-Z0-9%._-]{0,80}){0,20}") {
            let class = fold(&path);
            prop_assert!(class.len() <= LENGTH_MAX + REST.len());
            prop_assert!(class.starts_with('/'));
            prop_assert_eq!(fold(&class), class.clone());
        }
    }
}
