//! Any bytes are logged request bodies: `checks/request_bodies.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retrigger_fuzz::request_bodies::check;

fuzz_target!(|input: &[u8]| check(input));
