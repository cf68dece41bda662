//! Route classes: a path with its identifiers folded, so that one limit's requests share one lane.

use crate::control::NameHashes;
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

/// The route classes met so far, bounded in number.
#[derive(Debug)]
pub(super) struct Routes {
    /// Read by every request of every shard, and written when a class is met for the first time.
    known: RwLock<HashSet<Arc<str>, NameHashes>>,
    classes_max: usize,
    other: Arc<str>,
}

impl Routes {
    /// At most `classes_max` classes; what comes later is `other`.
    pub(super) fn new(classes_max: usize) -> Self {
        Self { known: RwLock::default(), classes_max, other: "other".into() }
    }

    /// The class of `path`.
    pub(super) fn class(&self, path: &str) -> Arc<str> {
        FOLDED.with_borrow_mut(|folded| {
            fold(path, folded);
            self.known(folded)
        })
    }

    /// The class that a folded path is, or comes under.
    fn known(&self, folded: &str) -> Arc<str> {
        let found = |known: &HashSet<Arc<str>, NameHashes>| match known.get(folded) {
            Some(class) => Some(Arc::clone(class)),
            None => (known.len() >= self.classes_max).then(|| Arc::clone(&self.other)),
        };
        if let Some(class) = found(&self.known.read().unwrap_or_else(PoisonError::into_inner)) {
            return class;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(class) = found(&known) {
            return class;
        }
        let class: Arc<str> = folded.into();
        known.insert(Arc::clone(&class));
        class
    }
}

/// `/api/v2/users/42/` → `/api/v2/users/{id}`. Empty and dot segments fall away: they name no resource of their
/// own, and no class may be made by adding slashes. Percent-encodings stay as they are.
fn fold(path: &str, class: &mut String) {
    class.clear();
    for segment in path.split('/').filter(|segment| !matches!(*segment, "" | "." | "..")) {
        let shown = if is_identifier(segment) { "{id}" } else { segment };
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

thread_local! {
    /// Room for a path while its class is looked for: most are known.
    static FOLDED: RefCell<String> = const { RefCell::new(String::new()) };
}

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

/// A segment that is longer than this names nothing that a person wrote.
const SEGMENT_MAX: usize = 64;

/// A class is a label on a dashboard: no longer than this.
const LENGTH_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fold(path: &str) -> String {
        let mut class = "what was there before".to_owned();
        super::fold(path, &mut class);
        class
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
        let routes = Routes::new(2);
        assert_eq!(&*routes.class("/a"), "/a");
        assert_eq!(&*routes.class("/b"), "/b");
        assert_eq!(&*routes.class("/c"), "other");
        assert_eq!(&*routes.class("/a/"), "/a");
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
