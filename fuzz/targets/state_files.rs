//! A damaged state is refused, or read as it was: `checks/state_files.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retrigger_fuzz::state_files::check;

fuzz_target!(|input: &[u8]| check(input));
