//! Hashes that are part of the format: recipient keys, buckets, dispatch ids, content digests.
//!
//! Everything here is stable for ever: a change would send messages twice. Parts are length-prefixed, so that
//! (`ab`, `c`) and (`a`, `bc`) differ.

use std::fmt;
use std::hash::Hasher;

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

/// Number of buckets: fixed hash ranges of recipients, the unit of deciding, of state order and of distribution.
pub const BUCKETS: usize = 256;

/// XXH3-128 (seed 0) over length-prefixed parts, each as a little-endian `u32` length and its bytes.
///
/// Most of what is hashed is short: it is put together here and hashed in one go, which is several times as fast as a
/// stream. What is longer goes through a stream, with the same result.
#[derive(Clone)]
pub struct PartsHasher {
    short: [u8; SHORT],
    len: usize,
    stream: Option<Box<Xxh3>>,
}

/// Bytes that are put together.
const SHORT: usize = 160;

impl Default for PartsHasher {
    fn default() -> PartsHasher {
        PartsHasher { short: [0; SHORT], len: 0, stream: None }
    }
}

impl PartsHasher {
    /// An empty hasher.
    pub fn new() -> PartsHasher {
        PartsHasher::default()
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        match (&mut self.stream, self.short.get_mut(self.len..self.len + bytes.len())) {
            (None, Some(place)) => {
                place.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            (Some(stream), _) => stream.update(bytes),
            (None, None) => {
                let mut stream = Box::new(Xxh3::new());
                stream.update(&self.short[..self.len]);
                stream.update(bytes);
                self.stream = Some(stream);
            }
        }
    }

    /// Adds one byte without a length: a kind or a tag.
    #[must_use]
    #[inline]
    pub fn tag(mut self, tag: u8) -> PartsHasher {
        self.push(&[tag]);
        self
    }

    /// Adds a part of any length below 4 GiB.
    #[must_use]
    #[inline]
    pub fn part(mut self, bytes: &[u8]) -> PartsHasher {
        self.push(&(bytes.len() as u32).to_le_bytes());
        self.push(bytes);
        self
    }

    /// The 128-bit hash.
    pub fn finish(self) -> u128 {
        match self.stream {
            Some(stream) => stream.digest128(),
            None => xxh3_128(&self.short[..self.len]),
        }
    }

    /// The 64-bit hash.
    pub fn finish64(self) -> u64 {
        match self.stream {
            Some(stream) => stream.digest(),
            None => xxh3_64(&self.short[..self.len]),
        }
    }
}

/// Hashes the keys of small maps that are asked for every row. The keys are the owner's own, so that nobody can choose ones
/// that collide.
#[derive(Debug, Default, Clone, Copy)]
pub struct TextHasher(u64);

impl Hasher for TextHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(5) ^ xxh3_64(bytes);
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

impl DispatchId {
    /// Its digits, in ASCII.
    pub fn hex(self) -> [u8; 32] {
        let mut digits = [0; 32];
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(self.0.to_be_bytes()) {
            *pair = [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
        }
        digits
    }
}

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
        Digest(xxh3_128(bytes))
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
    fn long_and_short_parts_are_hashed_alike() {
        for lengths in [[0, 0], [3, 150], [3, 155], [152, 0], [1, 151], [151, 1], [200, 5], [5, 200], [5_000, 5_000]] {
            let mut plain = Xxh3::new();
            let mut hasher = PartsHasher::new().tag(7);
            plain.update(&[7]);
            for (number, length) in lengths.into_iter().enumerate() {
                let part = vec![number as u8 + 1; length];
                plain.update(&(length as u32).to_le_bytes());
                plain.update(&part);
                hasher = hasher.part(&part);
            }
            assert_eq!(hasher.clone().finish(), plain.digest128(), "{lengths:?}");
            assert_eq!(hasher.finish64(), plain.digest(), "{lengths:?}");
        }
    }

    #[test]
    fn a_dispatch_id_is_32_hex_digits() {
        for id in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210] {
            assert_eq!(DispatchId(id).hex(), *format!("{id:032x}").as_bytes());
            assert_eq!(DispatchId(id).to_string(), format!("{id:032x}"));
        }
    }

    #[test]
    fn bucket_and_rest_are_disjoint_bits_in_hash_order() {
        let key = KeyHash(0x12_3456789abcdef012_3456789abcdef0);
        assert_eq!((key.bucket(), key.within_bucket()), (0x12, 0x3456789abcdef012));
        assert_eq!(KeyHash::from_bytes(key.to_bytes()), key);
    }
}
