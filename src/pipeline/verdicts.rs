//! Verdicts by source position: one byte a trigger, and notes beside those that need more than that.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use super::memory::{Memory, Spillable};
use crate::eligibility::{Blocked, Verdict};
use crate::error::Result;
use crate::triggers::{Micros, Outcome, Reason};

/// What is known of one trigger after deciding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// Not decided yet; never seen after the decide phase.
    Pending,
    /// To be sent in this variant. A note says which of equal triggers it is, where it is not the first.
    Sent { variant: u8 },
    /// Control.
    Control { enrols: bool },
    /// Allowed, but no channel of this variant produces a message.
    NotReceivable { variant: u8 },
    /// Suppressed, rejected or out of scope. A note says by which receipt, where it was one.
    Settled(Reason),
}

/// The first code of each group of verdicts; variants and reasons count on from there.
const SETTLED: u8 = 16;
const SENT: u8 = 128;
const NOT_RECEIVABLE: u8 = 192;

impl Decided {
    fn pack(self) -> u8 {
        match self {
            Decided::Pending => 0,
            Decided::Control { enrols } => 1 + u8::from(enrols),
            Decided::Settled(reason) => SETTLED + reason as u8,
            Decided::Sent { variant } => SENT + variant,
            Decided::NotReceivable { variant } => NOT_RECEIVABLE + variant,
        }
    }

    fn unpack(code: u8) -> Decided {
        match code {
            0 => Decided::Pending,
            1..SETTLED => Decided::Control { enrols: code == 2 },
            SETTLED..SENT => Decided::Settled(Reason::ALL[usize::from(code - SETTLED)]),
            SENT..NOT_RECEIVABLE => Decided::Sent { variant: code - SENT },
            NOT_RECEIVABLE.. => Decided::NotReceivable { variant: code - NOT_RECEIVABLE },
        }
    }

    /// The decision of a key for a variant.
    pub fn of(verdict: Verdict, variant: u8) -> Decided {
        match verdict {
            Verdict::Sent { .. } => Decided::Sent { variant },
            Verdict::Control { enrols } => Decided::Control { enrols },
            Verdict::NotReceivable => Decided::NotReceivable { variant },
            Verdict::Refused { reason, .. } => Decided::Settled(reason),
        }
    }

    /// Whether the row could not be understood.
    pub fn is_rejected(self) -> bool {
        matches!(self, Decided::Settled(reason) if reason.outcome() == Outcome::Rejected)
    }
}

/// What a verdict's byte has no room for: 24 bytes, since on some nights nearly every trigger needs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// Position in the split.
    pub ordinal: u32,
    /// Of a sent trigger: how many equal ones are sent before it.
    pub repeat: u16,
    by: Micros,
    eligible_at: Micros,
}

/// An instant that stands for "never".
const NEVER: Micros = Micros::MIN;

const NOTE_WORDS: usize = 3;

impl Note {
    /// What there is to note of a trigger's verdict, if anything.
    pub fn of(ordinal: u32, verdict: Verdict) -> Option<Note> {
        match verdict {
            Verdict::Refused { blocked: Some(Blocked { by, eligible_at }), .. } => {
                Some(Note { ordinal, repeat: 0, by, eligible_at: eligible_at.unwrap_or(NEVER) })
            }
            Verdict::Sent { ordinal: repeat } if repeat > 0 => Some(Note { ordinal, repeat, by: 0, eligible_at: 0 }),
            _ => None,
        }
    }

    /// Of a refused trigger: the receipt that refused it.
    pub fn blocked(self) -> Blocked {
        Blocked { by: self.by, eligible_at: Some(self.eligible_at).filter(|at| *at != NEVER) }
    }
}

impl Spillable<NOTE_WORDS> for Note {
    fn to_words(self) -> [u64; NOTE_WORDS] {
        [u64::from(self.ordinal) | u64::from(self.repeat) << 32, self.by as u64, self.eligible_at as u64]
    }

    fn from_words([position, by, eligible_at]: [u64; NOTE_WORDS]) -> Note {
        let (ordinal, repeat) = (position as u32, (position >> 32) as u16);
        Note { ordinal, repeat, by: by as Micros, eligible_at: eligible_at as Micros }
    }
}

/// The notes of one split: those that are held, and where others were spilled (place and number).
#[derive(Debug, Default)]
struct SplitNotes {
    held: Vec<Note>,
    spilled: Vec<(u64, u32)>,
}

/// The verdicts of one split. Every trigger is decided by exactly one bucket, so stores never race.
#[derive(Debug, Default)]
pub struct SplitVerdicts {
    codes: Vec<AtomicU8>,
    notes: Mutex<SplitNotes>,
}

impl SplitVerdicts {
    /// Adds the next trigger of the split.
    pub fn push(&mut self, decided: Decided) {
        self.codes.push(AtomicU8::new(decided.pack()));
    }

    /// Number of triggers.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// The verdict of a trigger.
    pub fn get(&self, ordinal: usize) -> Option<Decided> {
        self.codes.get(ordinal).map(|code| Decided::unpack(code.load(Ordering::Relaxed)))
    }

    /// Decides a trigger.
    pub fn set(&self, ordinal: u32, decided: Decided) {
        self.codes[ordinal as usize].store(decided.pack(), Ordering::Relaxed);
    }

    fn with_notes<T>(&self, work: impl FnOnce(&mut SplitNotes) -> T) -> T {
        work(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The notes of some triggers, in source order.
    pub fn notes(&self, memory: &Memory<'_>, triggers: &Range<usize>) -> Result<Vec<Note>> {
        let is_meant = |note: &Note| triggers.contains(&(note.ordinal as usize));
        let (mut notes, spilled) = self.with_notes(|notes| {
            (notes.held.iter().copied().filter(is_meant).collect::<Vec<_>>(), notes.spilled.clone())
        });
        for (at, number) in spilled {
            memory.read(at, number as usize, |note| notes.extend(Some(note).filter(is_meant)))?;
        }
        notes.sort_unstable_by_key(|note| note.ordinal);
        Ok(notes)
    }

    /// Gives back the memory of the notes: they are written.
    pub fn forget_notes(&self) {
        self.with_notes(|notes| *notes = SplitNotes::default());
    }
}

/// Notes that found no room, on their way out: with their splits.
pub struct NotesToSpill<'a> {
    memory: &'a Memory<'a>,
    waiting: Mutex<Vec<(u32, Note)>>,
}

/// Notes that are spilled together: 8 MiB, so that a split's notes are in few places.
const SPILLED_TOGETHER: usize = (8 << 20) / size_of::<(u32, Note)>();

impl<'a> NotesToSpill<'a> {
    /// None yet.
    pub fn new(memory: &'a Memory<'a>) -> NotesToSpill<'a> {
        NotesToSpill { memory, waiting: Mutex::new(Vec::new()) }
    }

    /// Adds notes of many splits, sorted by split; `verdicts` gives a split's own.
    pub fn add<'v>(&self, notes: &[(u32, Note)], verdicts: &impl Fn(u32) -> &'v SplitVerdicts) -> Result<()> {
        if self.memory.holds_notes(size_of_val(notes)) {
            for of_split in notes.chunk_by(|a, b| a.0 == b.0) {
                let notes = of_split.iter().map(|(_, note)| *note);
                verdicts(of_split[0].0).with_notes(|kept| kept.held.extend(notes));
            }
            return Ok(());
        }
        let full = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.extend_from_slice(notes);
            if waiting.len() < SPILLED_TOGETHER { Vec::new() } else { std::mem::take(&mut *waiting) }
        };
        self.spill(full, verdicts)
    }

    /// Spills what waits.
    pub fn finish<'v>(self, verdicts: &impl Fn(u32) -> &'v SplitVerdicts) -> Result<()> {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.spill(waiting, verdicts)
    }

    fn spill<'v>(&self, mut notes: Vec<(u32, Note)>, verdicts: &impl Fn(u32) -> &'v SplitVerdicts) -> Result<()> {
        if notes.is_empty() {
            return Ok(());
        }
        notes.sort_unstable_by_key(|(split, _)| *split);
        let mut at = self.memory.spill(notes.iter().map(|(_, note)| *note))?;
        for of_split in notes.chunk_by(|a, b| a.0 == b.0) {
            verdicts(of_split[0].0).with_notes(|kept| kept.spilled.push((at, of_split.len() as u32)));
            at += (of_split.len() * NOTE_WORDS * 8) as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::testing::InMemorySpill;
    use super::*;
    use crate::campaigns::MAX_VARIANTS;

    #[test]
    fn packing_loses_nothing() {
        let mut all = vec![Decided::Pending, Decided::Control { enrols: true }, Decided::Control { enrols: false }];
        all.extend((0..MAX_VARIANTS as u8).map(|variant| Decided::Sent { variant }));
        all.extend((0..MAX_VARIANTS as u8).map(|variant| Decided::NotReceivable { variant }));
        all.extend(Reason::ALL.iter().map(|r| Decided::Settled(*r)));
        all.iter().for_each(|d| assert_eq!(Decided::unpack(d.pack()), *d));
    }

    fn note(ordinal: u32) -> Note {
        let eligible_at = (!ordinal.is_multiple_of(3)).then_some(i64::from(ordinal) << 40);
        Note::of(
            ordinal,
            match ordinal.is_multiple_of(5) {
                true => Verdict::Sent { ordinal: ordinal as u16 + 1 },
                false => Verdict::Refused {
                    reason: Reason::AlreadyReceived,
                    blocked: Some(Blocked { by: -i64::from(ordinal), eligible_at }),
                },
            },
        )
        .unwrap()
    }

    #[test]
    fn notes_come_back_in_order_whether_held_or_spilled() {
        for ceiling in [u64::MAX, 8 * 4 * 64, 0] {
            let spill = InMemorySpill::default();
            let memory = Memory::new(ceiling, &spill);
            let splits: [SplitVerdicts; 3] = std::array::from_fn(|_| SplitVerdicts::default());
            let verdicts = |split: u32| &splits[split as usize];
            let notes = NotesToSpill::new(&memory);
            for bucket in (0..10u32).rev() {
                let of_bucket: Vec<(u32, Note)> =
                    (0..3).flat_map(|split| [(split, note(bucket)), (split, note(bucket + 20))]).collect();
                notes.add(&of_bucket, &verdicts).unwrap();
            }
            notes.finish(&verdicts).unwrap();
            let expected: Vec<Note> = (3..10).chain(20..25).map(note).collect();
            splits.iter().for_each(|split| assert_eq!(split.notes(&memory, &(3..25)).unwrap(), expected, "{ceiling}"));
            assert_eq!(memory.spilled_bytes() > 0, ceiling < u64::MAX);
            splits[0].forget_notes();
            assert!(splits[0].notes(&memory, &(0..100)).unwrap().is_empty());
        }
    }
}
