//! What is left of erased recipients: that they have received a campaign which is sent once ever, and nothing that tells
//! who they are.
//!
//! A tombstone is a keyed hash of recipient and campaign. It answers "is this the one?" for a recipient that a trigger
//! names, and cannot be compared with any other list. Whoever holds both the state and a list of candidates can still try
//! them one by one, as with any such record.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, KeyHash};

/// The tombstones of a state.
#[derive(Debug, Clone, Default)]
pub struct Tombstones {
    key: Vec<u8>,
    hashes: HashSet<Digest>,
}

impl Tombstones {
    /// Tombstones that were made with this key.
    pub fn new(key: &[u8], hashes: impl IntoIterator<Item = Digest>) -> Tombstones {
        Tombstones { key: key.to_vec(), hashes: hashes.into_iter().collect() }
    }

    /// Whether nobody was erased.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether a recipient of a campaign was erased.
    pub fn contain(&self, campaign_id: &str, recipient: KeyHash) -> bool {
        !self.hashes.is_empty() && self.hashes.contains(&tombstone(&self.key, campaign_id, recipient))
    }
}

/// The first 128 bits of SHA-256 over the key (32 bytes), the recipient's hash (16 bytes) and the campaign.
pub fn tombstone(key: &[u8], campaign_id: &str, recipient: KeyHash) -> Digest {
    let hash = Sha256::new().chain_update(key).chain_update(recipient.to_bytes()).chain_update(campaign_id).finalize();
    Digest(hash[..16].iter().fold(0, |bits, byte| bits << 8 | u128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_is_of_one_recipient_one_campaign_and_one_key() {
        let (ada, bob) = (KeyHash(1), KeyHash(2));
        let stones = Tombstones::new(&[7; 32], [tombstone(&[7; 32], "welcome", ada)]);
        assert!(stones.contain("welcome", ada));
        assert!(!stones.contain("welcome", bob) && !stones.contain("welcome2", ada));
        assert!(!Tombstones::new(&[8; 32], [tombstone(&[7; 32], "welcome", ada)]).contain("welcome", ada));
        assert!(!Tombstones::default().contain("welcome", ada));
    }

    /// Part of the format: this number never changes.
    #[test]
    fn tombstones_are_pinned() {
        assert_eq!(tombstone(&[0; 32], "welcome", KeyHash(1)).to_string(), PINNED);
    }

    const PINNED: &str = "4c00d31cee6e397243159734ed85aeaf";
}
