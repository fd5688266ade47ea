//! Any bytes are NDJSON rows: `checks/ndjson_rows.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retrigger_fuzz::ndjson_rows::check;

fuzz_target!(|input: &[u8]| check(input));
