//! Which limits does a request count against? A key is a path whose every node must grant.

use std::fmt;
use std::sync::Arc;

/// A keyed hash of a credential: tells credentials apart, gives none away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialHash(pub u64);

impl CredentialHash {
    /// The first `digits` hexadecimal digits, as names show it (`3f9a`).
    pub fn short(self, digits: usize) -> String {
        let mut text = format!("{:016x}", self.0);
        text.truncate(digits.clamp(4, 16));
        text
    }
}

/// The nodes of a key's path, from the narrowest to the widest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// One route class of one credential: the lane itself.
    #[default]
    Route,
    /// Everything that one credential sends.
    Credential,
    /// Everything that goes to one upstream.
    Upstream,
}

impl Level {
    /// The word on pages and in metrics: what a limit is per.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Credential => "credential",
            Self::Upstream => "upstream",
        }
    }
}

/// A path: upstream › credential › route class. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey {
    /// The upstream's authority, `host:port`.
    pub upstream: Arc<str>,
    /// Who asks; `None` for requests without a credential.
    pub credential: Option<CredentialHash>,
    /// The route class: a path with its identifiers folded, or `other`.
    pub route: Arc<str>,
}

impl LaneKey {
    /// The name's first part: the class, or the last literal segment of a folded path.
    ///
    /// ```
    /// # use tidegate::control::LaneKey;
    /// let key = LaneKey { upstream: "h:80".into(), credential: None, route: "/api/v2/messages/{id}".into() };
    /// assert_eq!(key.label(), "messages");
    /// ```
    pub fn label(&self) -> &str {
        let literal = |part: &&str| !part.is_empty() && !part.starts_with('{');
        self.route.rsplit('/').find(literal).unwrap_or("root")
    }

    /// The lane's name with `digits` of the credential's hash: `messages@3f9a`; `messages@none` without one.
    pub fn name(&self, digits: usize) -> String {
        match self.credential {
            Some(hash) => format!("{}@{}", self.label(), hash.short(digits)),
            None => format!("{}@none", self.label()),
        }
    }
}

impl fmt::Display for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.upstream, self.name(4))
    }
}
