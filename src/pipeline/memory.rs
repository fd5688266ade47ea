//! What a run may take of the machine's memory, and where the rest goes.
//!
//! An eighth of the ceiling holds records, a sixteenth the notes beside the verdicts, a quarter the index, and half the
//! rows that are rendered and written. The shares are low, since spilling costs next to nothing (it is read back from the page
//! cache), and since an allocator seldom gives back all that was freed. What finds no room is spilled; the index is filled for
//! as many buckets at a time as fit. One byte a trigger, its verdict, is always held.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Kind, Result};

/// A place for bytes that need not outlive the run. Written and read by any thread.
pub trait Spill: Sync {
    /// Keeps some bytes and says where they begin.
    fn append(&self, bytes: &[u8]) -> Result<u64>;
    /// Fills `into` with what was kept at a place.
    fn read(&self, at: u64, into: &mut [u8]) -> Result<()>;
}

/// What can be spilled: so many words of 64 bits.
pub(super) trait Spillable<const WORDS: usize>: Copy {
    fn to_words(self) -> [u64; WORDS];
    fn from_words(words: [u64; WORDS]) -> Self;
}

/// Nowhere: for runs without a ceiling.
impl Spill for () {
    fn append(&self, _: &[u8]) -> Result<u64> {
        Err(Error::new(Kind::Internal, "a run without a memory ceiling was about to spill"))
    }

    fn read(&self, _: u64, _: &mut [u8]) -> Result<()> {
        Err(Error::new(Kind::Internal, "a run without a memory ceiling spilled nothing"))
    }
}

/// Bytes of rows that one rendering task may produce, at most: more than 32,768 ordinary messages have.
const TASK_BYTES: u64 = 32 << 20;

const AMPLE_BYTES: u64 = 1 << 30;

/// Bytes of the index for one recipient of a campaign: key, history, two lists with an entry, and room of the map.
const INDEX_BYTES_PER_KEY: u64 = 320;

/// Part of the ceiling that is in use.
struct Share {
    limit: u64,
    used: AtomicU64,
}

impl Share {
    fn new(limit: u64) -> Share {
        Share { limit, used: AtomicU64::new(0) }
    }

    fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }
}

/// The memory of one run.
pub struct Memory<'a> {
    ceiling: u64,
    records: Share,
    notes: Share,
    spill: &'a dyn Spill,
    spilled: AtomicU64,
}

impl Memory<'static> {
    /// No ceiling: nothing is ever spilled.
    pub fn unlimited() -> Memory<'static> {
        Memory::new(u64::MAX, &())
    }
}

impl<'a> Memory<'a> {
    /// The least ceiling, in bytes: below it one task and the program itself have no room.
    pub const LEAST: u64 = 128 << 20;

    /// A ceiling in bytes, at least [`Memory::LEAST`], and where to go beyond it.
    pub fn new(ceiling: u64, spill: &'a dyn Spill) -> Memory<'a> {
        let (records, notes) = (Share::new(ceiling / 8), Share::new(ceiling / 16));
        Memory { ceiling, records, notes, spill, spilled: AtomicU64::new(0) }
    }

    /// Bytes that went beyond it.
    pub fn spilled_bytes(&self) -> u64 {
        self.spilled.load(Ordering::Relaxed)
    }

    /// Whether there is room to hold records of this many bytes; it is taken.
    pub(super) fn holds_records(&self, bytes: usize) -> bool {
        self.records.take(bytes as u64)
    }

    /// Whether there is room to hold notes of this many bytes; it is taken.
    pub(super) fn holds_notes(&self, bytes: usize) -> bool {
        self.notes.take(bytes as u64)
    }

    /// Keys whose history the index may hold at once.
    pub(super) fn index_keys(&self) -> u64 {
        self.ceiling / 4 / INDEX_BYTES_PER_KEY
    }

    /// Bytes of rows that one rendering task may produce before it hands them on; one row more may stand over.
    pub(super) fn task_bytes(&self) -> u64 {
        (self.ceiling / 8).min(TASK_BYTES)
    }

    /// Whether what has grown may stay as large as it is: some 20 MB a task.
    pub(super) fn is_ample(&self) -> bool {
        self.ceiling >= AMPLE_BYTES
    }

    /// Rendering tasks at once: what they produce is held twice, while it grows and while it is encoded.
    pub(super) fn tasks(&self, threads: usize) -> usize {
        let fitting = self.ceiling / 4 / self.task_bytes().max(1);
        usize::try_from(fitting).unwrap_or(usize::MAX).clamp(1, threads * TASKS_PER_THREAD)
    }

    /// Spills items and says where they begin. Item `n` stands `n * WORDS * 8` bytes further on.
    pub(super) fn spill<T: Spillable<WORDS>, const WORDS: usize>(
        &self,
        items: impl ExactSizeIterator<Item = T>,
    ) -> Result<u64> {
        let mut bytes = Vec::with_capacity(items.len() * WORDS * 8);
        items.flat_map(T::to_words).for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        self.spilled.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.spill.append(&bytes)
    }

    /// Visits so many spilled items from a place on.
    pub(super) fn read<T: Spillable<WORDS>, const WORDS: usize>(
        &self,
        at: u64,
        items: usize,
        mut visit: impl FnMut(T),
    ) -> Result<()> {
        let mut bytes = vec![0; items * WORDS * 8];
        self.spill.read(at, &mut bytes)?;
        let words = bytes.as_chunks::<8>().0;
        words.as_chunks::<WORDS>().0.iter().for_each(|item| visit(T::from_words(item.map(u64::from_le_bytes))));
        Ok(())
    }
}

/// More than one, so that a thread that has finished early finds work.
const TASKS_PER_THREAD: usize = 2;

#[cfg(test)]
pub(super) mod testing {
    use std::sync::Mutex;

    use super::*;

    /// Spilled bytes, in memory.
    #[derive(Default)]
    pub struct InMemorySpill(pub Mutex<Vec<u8>>);

    impl Spill for InMemorySpill {
        fn append(&self, bytes: &[u8]) -> Result<u64> {
            let mut kept = self.0.lock().unwrap();
            let at = kept.len() as u64;
            kept.extend_from_slice(bytes);
            Ok(at)
        }

        fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
            into.copy_from_slice(&self.0.lock().unwrap()[at as usize..][..into.len()]);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_taken_until_it_is_full_and_what_does_not_fit_takes_nothing() {
        let memory = Memory::new(Memory::LEAST, &());
        assert!(memory.holds_records(10 << 20));
        assert!(!memory.holds_records(7 << 20));
        assert!(memory.holds_records(6 << 20));
        assert!(!memory.holds_records(1));
        assert!(memory.holds_notes(8 << 20) && !memory.holds_notes(1));
    }

    #[test]
    fn tasks_are_bounded_by_memory_and_by_threads() {
        assert_eq!(Memory::new(Memory::LEAST, &()).tasks(8), 2);
        assert_eq!(Memory::new(0, &()).tasks(8), 1);
        assert_eq!(Memory::new(256 << 20, &()).tasks(8), 2);
        assert_eq!(Memory::new(64 << 30, &()).tasks(8), 16);
        assert_eq!(Memory::unlimited().tasks(2), 4);
    }
}
