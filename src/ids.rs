//! Hashes that are part of the format: recipient keys, buckets, dispatch ids, content digests.
//!
//! Everything here is stable for ever: a change would send messages twice. Parts are length-prefixed, so that
//! (`ab`, `c`) and (`a`, `bc`) differ.

use std::fmt;

use xxhash_rust::xxh3::Xxh3;

/// Number of buckets: fixed hash ranges of recipients, the unit of deciding, of state order and of distribution.
pub const BUCKETS: usize = 256;

/// XXH3-128 (seed 0) over length-prefixed parts, each as a little-endian `u32` length and its bytes.
#[derive(Default, Clone)]
pub struct PartsHasher(Xxh3);

impl PartsHasher {
    /// An empty hasher.
    pub fn new() -> PartsHasher {
        PartsHasher(Xxh3::new())
    }

    /// Adds one byte without a length: a kind or a tag.
    #[must_use]
    pub fn tag(mut self, tag: u8) -> PartsHasher {
        self.0.update(&[tag]);
        self
    }

    /// Adds a part of any length below 4 GiB.
    #[must_use]
    pub fn part(mut self, bytes: &[u8]) -> PartsHasher {
        self.0.update(&(bytes.len() as u32).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// The 128-bit hash.
    pub fn finish(self) -> u128 {
        self.0.digest128()
    }

    /// The 64-bit hash.
    pub fn finish64(self) -> u64 {
        self.0.digest()
    }
}

/// The hash of a recipient: XXH3-128 over its kind and parts. Its order is the order of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u128);

impl KeyHash {
    /// The bucket: the top eight bits.
    pub fn bucket(self) -> usize {
        (self.0 >> 120) as usize
    }

    /// The 64 bits after the bucket's own: with the bucket they name the recipient inside a run (72 bits).
    pub fn within_bucket(self) -> u64 {
        (self.0 >> 56) as u64
    }

    /// Big-endian bytes, so that byte order is hash order.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// From big-endian bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> KeyHash {
        KeyHash(u128::from_be_bytes(bytes))
    }
}

/// The stable name of one message: 32 lower-case hex digits. It depends on the trigger and the channel, never on the
/// run, the file or the batch, so that a sender can drop repeats across runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DispatchId(pub u128);

impl fmt::Display for DispatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A 128-bit XXH3 digest of content, printed as 32 hex digits. Finds accidents, not forgeries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(xxhash_rust::xxh3::xxh3_128(bytes))
    }

    /// Reads 32 hex digits.
    pub fn parse(text: &str) -> Option<Digest> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(Digest)).flatten()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        Digest::parse(&text).ok_or_else(|| serde::de::Error::custom("expected 32 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let a = PartsHasher::new().part(b"ab").part(b"c").finish();
        let b = PartsHasher::new().part(b"a").part(b"bc").finish();
        assert_ne!(a, b);
    }

    #[test]
    fn bucket_and_rest_are_disjoint_bits_in_hash_order() {
        let key = KeyHash(0x12_3456789abcdef012_3456789abcdef0);
        assert_eq!((key.bucket(), key.within_bucket()), (0x12, 0x3456789abcdef012));
        assert_eq!(KeyHash::from_bytes(key.to_bytes()), key);
    }
}
