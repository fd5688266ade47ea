//! Everything that is tested from outside the crate, in one binary: one link instead of a dozen.

#![allow(missing_docs)]

mod bad_input;
mod cli;
mod explain;
mod formats;
mod fuzz_corpus;
mod generate;
mod golden;
mod guards;
mod harness;
mod kills;
mod memory;
mod metamorphic;
mod oracle;
mod oracle_cases;
mod oracle_model;
mod pages;
mod parity;
mod readback;
mod rederive;
mod replay;
mod sandbox;
mod simulate;
mod state_life;
mod undo;
