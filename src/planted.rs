//! Bugs that tests plant, to see that the tests find them; and the size at which receipts spill, so that a small run
//! spills too. Only compiled into the tests of this crate.
//!
//! Bugs in the order of what is done to a disk need no switch: [`crate::storage::simulated::Lie`] makes them.

use std::cell::Cell;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A trigger that failed leaves a receipt with its hash: mended and sent again, it would be dropped.
    FailedTriggersRecorded,
    /// Checksums of receipts are not looked at.
    ChecksumIgnored,
    /// A start does not finish what an earlier run committed.
    NotRolledForward,
    /// A state that was put back to an older copy is taken as it is.
    FenceSkipped,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    static SPILL_AFTER: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Whether this bug is planted on this thread.
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// The number of receipts after which a delta spills on this thread, if a test has set it.
pub(crate) fn spill_after() -> Option<usize> {
    SPILL_AFTER.get()
}

/// Does the work with this bug and this size.
pub(crate) fn with<T>(bug: Option<Bug>, spill_after: Option<usize>, work: impl FnOnce() -> T) -> T {
    let before = (PLANTED.replace(bug), SPILL_AFTER.replace(spill_after));
    let done = work();
    PLANTED.set(before.0);
    SPILL_AFTER.set(before.1);
    done
}
