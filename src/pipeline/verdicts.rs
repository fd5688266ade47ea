//! Verdicts by source position: four bytes a trigger, and the blocking receipts beside them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::eligibility::{Blocked, Verdict};
use crate::triggers::{Micros, Reason};

/// What is known of one trigger after deciding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// Not decided yet; never seen after the decide phase.
    Pending,
    /// To be sent in this variant, with this ordinal among equals.
    Sent { variant: u8, ordinal: u16 },
    /// Control.
    Control { enrols: bool },
    /// Allowed, but no channel of this variant produces a message.
    NotReceivable { variant: u8 },
    /// Suppressed, rejected or out of scope.
    Settled(Reason),
}

impl Decided {
    fn pack(self) -> u32 {
        match self {
            Decided::Pending => 0,
            Decided::Sent { variant, ordinal } => 1 | u32::from(variant) << 8 | u32::from(ordinal) << 16,
            Decided::Control { enrols } => 2 + u32::from(enrols),
            Decided::NotReceivable { variant } => 4 | u32::from(variant) << 8,
            Decided::Settled(reason) => 16 + reason as u32,
        }
    }

    fn unpack(packed: u32) -> Decided {
        match packed & 0xff {
            0 => Decided::Pending,
            1 => Decided::Sent { variant: (packed >> 8) as u8, ordinal: (packed >> 16) as u16 },
            kind @ (2 | 3) => Decided::Control { enrols: kind == 3 },
            4 => Decided::NotReceivable { variant: (packed >> 8) as u8 },
            code => Decided::Settled(Reason::ALL[code as usize - 16]),
        }
    }

    /// The decision of a key for a variant.
    pub fn of(verdict: Verdict, variant: u8) -> Decided {
        match verdict {
            Verdict::Sent { ordinal } => Decided::Sent { variant, ordinal },
            Verdict::Control { enrols } => Decided::Control { enrols },
            Verdict::NotReceivable => Decided::NotReceivable { variant },
            Verdict::Refused { reason, .. } => Decided::Settled(reason),
        }
    }
}

/// The verdicts of one split. Every trigger is decided by exactly one bucket, so stores never race.
#[derive(Debug, Default)]
pub struct SplitVerdicts {
    packed: Vec<AtomicU32>,
    blocked: Mutex<Vec<BlockedTrigger>>,
}

impl SplitVerdicts {
    /// Adds the next trigger of the split.
    pub fn push(&mut self, decided: Decided) {
        self.packed.push(AtomicU32::new(decided.pack()));
    }

    /// Number of triggers.
    pub fn len(&self) -> usize {
        self.packed.len()
    }

    /// The verdict of a trigger.
    pub fn get(&self, ordinal: usize) -> Option<Decided> {
        self.packed.get(ordinal).map(|v| Decided::unpack(v.load(Ordering::Relaxed)))
    }

    /// Notes triggers that receipts refused, in any order.
    pub fn add_blocked(&self, blocked: &[BlockedTrigger]) {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(blocked);
    }

    /// Takes the triggers that receipts refused, in source order.
    pub fn take_blocked(&self) -> Vec<BlockedTrigger> {
        let mut blocked = std::mem::take(&mut *self.blocked.lock().unwrap_or_else(PoisonError::into_inner));
        blocked.sort_unstable_by_key(|b| b.ordinal);
        blocked
    }

    /// Decides a trigger.
    pub fn set(&self, ordinal: u32, decided: Decided) {
        self.packed[ordinal as usize].store(decided.pack(), Ordering::Relaxed);
    }
}

/// A trigger that a receipt refused, and which: 24 bytes, since nearly every trigger may be one.
#[derive(Debug, Clone, Copy)]
pub struct BlockedTrigger {
    /// Position in the split.
    pub ordinal: u32,
    by: Micros,
    eligible_at: Micros,
}

/// An instant that stands for "never".
const NEVER: Micros = Micros::MIN;

impl BlockedTrigger {
    /// A trigger and the receipt that refused it.
    pub fn new(ordinal: u32, blocked: Blocked) -> BlockedTrigger {
        BlockedTrigger { ordinal, by: blocked.by, eligible_at: blocked.eligible_at.unwrap_or(NEVER) }
    }

    /// The receipt.
    pub fn blocked(self) -> Blocked {
        Blocked { by: self.by, eligible_at: Some(self.eligible_at).filter(|at| *at != NEVER) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_loses_nothing() {
        let mut all = vec![
            Decided::Pending,
            Decided::Sent { variant: 7, ordinal: u16::MAX },
            Decided::Control { enrols: true },
            Decided::Control { enrols: false },
            Decided::NotReceivable { variant: 3 },
        ];
        all.extend(Reason::ALL.iter().map(|r| Decided::Settled(*r)));
        all.iter().for_each(|d| assert_eq!(Decided::unpack(d.pack()), *d));
    }
}
