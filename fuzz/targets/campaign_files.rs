//! Any files are a campaign, or have faults: `checks/campaign_files.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retrigger_fuzz::campaign_files::check;

fuzz_target!(|input: &[u8]| check(input));
