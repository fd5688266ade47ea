//! Any bytes are the manifest of a run, or are refused: `checks/manifests.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retrigger_fuzz::manifests::check;

fuzz_target!(|input: &[u8]| check(input));
