//! Credentials are told apart by a keyed hash and never stored or shown.

use super::fields::Fields;
use crate::control::CredentialHash;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use ring::hmac;
use std::fmt;

/// The key of credential hashes: names of lanes are the same as long as the key is.
#[derive(Clone)]
pub struct CredentialKey(hmac::Key);

impl CredentialKey {
    /// A key from 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    }

    /// The hash of one credential.
    pub fn hash(&self, credential: &HeaderValue) -> CredentialHash {
        self.hash_all(std::iter::once(credential.as_bytes()))
    }

    /// The hash of all Authorization fields; `None` without one.
    pub(super) fn of(&self, fields: &Fields) -> Option<CredentialHash> {
        fields.has(&AUTHORIZATION).then(|| self.hash_all(fields.all(&AUTHORIZATION)))
    }

    fn hash_all<'a>(&self, credentials: impl Iterator<Item = &'a [u8]>) -> CredentialHash {
        let mut context = hmac::Context::with_key(&self.0);
        for credential in credentials {
            context.update(credential);
            // No field value has a line feed in it.
            context.update(b"\n");
        }
        let tag = context.sign();
        let first = tag.as_ref().iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte));
        CredentialHash(first)
    }
}

impl fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_told_apart_and_not_shown() {
        let key = CredentialKey::new([7; 32]);
        let [a, b] = ["Bearer a", "Bearer b"].map(HeaderValue::from_static);
        assert_eq!(key.hash(&a), key.hash(&a));
        assert_ne!(key.hash(&a), key.hash(&b));
        assert_ne!(key.hash(&a), CredentialKey::new([8; 32]).hash(&a));
        assert!(!format!("{key:?}").contains('7'));

        let mut fields = Fields::default();
        assert_eq!(key.of(&fields), None);
        fields.append(&AUTHORIZATION, a.as_bytes());
        assert_eq!(key.of(&fields), Some(key.hash(&a)));
        fields.append(&AUTHORIZATION, b.as_bytes());
        assert_ne!(key.of(&fields), Some(key.hash(&a)));
    }
}
