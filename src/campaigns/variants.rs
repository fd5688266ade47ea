//! Who gets which variant: a hash of recipient and campaign, in slices of 100, control last (reference R23).

use sha2::{Digest, Sha256};

/// SHA-256 over the profile key directly followed by the campaign id, as a big-endian integer, modulo 100.
pub fn hash_slice(profile_key: &str, campaign_id: &str) -> u8 {
    let digest = Sha256::new().chain_update(profile_key).chain_update(campaign_id).finalize();
    digest.iter().fold(0u32, |rest, byte| (rest * 256 + u32::from(*byte)) % 100) as u8
}

/// The slices of a campaign: variants in configured order, then control. They sum to 100.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slices {
    /// The upper ends of the variants' slices, ascending.
    ends: Vec<u8>,
}

impl Slices {
    /// Slices of these percentages; what is left of 100 is control.
    pub fn new(percents: &[u8]) -> Slices {
        let ends = percents.iter().scan(0u8, |end, p| {
            *end = end.saturating_add(*p);
            Some(*end)
        });
        Slices { ends: ends.collect() }
    }

    /// Whether somebody is in control.
    pub fn has_control(&self) -> bool {
        self.ends.last().is_some_and(|end| *end < 100)
    }

    /// Whether the draw matters at all.
    pub fn is_trivial(&self) -> bool {
        self.ends.len() <= 1 && !self.has_control()
    }

    /// The variant of a slice; `None` is control.
    pub fn variant(&self, slice: u8) -> Option<u8> {
        self.ends.iter().position(|end| slice < *end).map(|i| i as u8)
    }

    /// The variant of somebody who has received the campaign before and so never enters control: a slice in control is
    /// folded onto the variants.
    pub fn variant_outside_control(&self, slice: u8) -> u8 {
        let variants_end = self.ends.last().copied().unwrap_or(0).max(1);
        self.variant(slice).or_else(|| self.variant(slice % variants_end)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the reference, section 15.
    #[test]
    fn slices_match_the_published_vectors() {
        let campaign = "3f6c1a52-0d4e-4b8a-9a77-5e2d10c4b901";
        let vectors =
            [("u-1001", 93), ("u-1002", 41), ("u-1003", 21), ("u-1004", 60), ("u-1005", 59), ("42", 46), ("zoë", 62)];
        for (key, slice) in vectors {
            assert_eq!(hash_slice(key, campaign), slice, "{key}");
        }
    }

    #[test]
    fn control_is_the_last_slice() {
        let slices = Slices::new(&[40, 40]);
        assert_eq!(
            [0, 39, 40, 79, 80, 99].map(|s| slices.variant(s)),
            [Some(0), Some(0), Some(1), Some(1), None, None]
        );
        assert!(slices.has_control() && !Slices::new(&[50, 50]).has_control());
    }

    #[test]
    fn who_has_received_it_is_never_in_control() {
        let slices = Slices::new(&[10, 20]);
        assert!((0..100).all(|s| slices.variant_outside_control(s) < 2));
        assert_eq!(slices.variant_outside_control(95), 0);
    }
}
