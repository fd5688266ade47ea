//! What must hold whatever the bytes are: one `check` for every target. The fuzz targets give them new bytes, the test
//! `tests/suite/fuzz_corpus.rs` those of the corpus.

mod files;
mod rows;

pub mod campaign_files;
pub mod manifests;
pub mod ndjson_rows;
pub mod request_bodies;
pub mod state_files;
pub mod template;

/// Parts of an input that is several texts: a form feed stands between them, since no text of ours needs one and an
/// input stays readable.
fn parts(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|byte| *byte == b'\x0c')
}

/// A fault that can be shown, in a place that the text has.
fn assert_placed(fault: &retrigger::error::Fault, text: &str) {
    assert!(!fault.to_string().is_empty());
    let at = fault.at.unwrap_or_else(|| panic!("no place: {fault}"));
    let line = at.line.checked_sub(1).and_then(|index| text.split('\n').nth(index));
    // The place after the last character is one too: there the end of the text is found.
    let columns = line.map_or(0, |line| line.chars().count() + 1);
    assert!((1..=columns).contains(&at.column), "outside the text: {fault}");
}
