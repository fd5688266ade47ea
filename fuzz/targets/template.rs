//! Any text is a template, or has faults with places: `checks/template.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retrigger_fuzz::template::check;

fuzz_target!(|input: &[u8]| check(input));
