//! Everything that is tested from outside the crate, in one binary: one link instead of a dozen.

#![allow(missing_docs)]

mod readback;
