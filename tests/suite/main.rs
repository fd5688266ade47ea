//! Everything that is tested from outside the crate, in one binary: one link instead of a dozen.

#![allow(missing_docs)]

mod bad_input;
mod cli;
mod fuzz_corpus;
mod golden;
mod harness;
mod kills;
mod memory;
mod metamorphic;
mod oracle;
mod oracle_cases;
mod oracle_model;
mod parity;
mod readback;
mod sandbox;
