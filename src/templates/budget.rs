//! What one render may cost, so that loops over large values end: about the number of bytes written and values touched.
//!
//! A render runs on one thread from beginning to end and the crate has no place to carry a counter in, so it is kept per
//! thread and set anew by every render.

use std::cell::Cell;
use std::fmt;

use serde_json::Value;

use super::program::Measure;

/// Most that one render may cost.
pub(super) const MAX_WORK: u64 = 16 << 20;

/// What one call of a helper costs beside its result.
pub(super) const CALL_COST: u64 = 8;

/// What one round of a loop costs beside what it holds.
const ROUND_COST: u64 = 64;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// A limit that a render went over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    /// Too much work.
    Work,
    /// Too much text.
    Output,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Work => f.write_str("the template repeats too much for this data"),
            Limit::Output => write!(f, "the rendered text is over {} bytes", super::MAX_OUTPUT_BYTES),
        }
    }
}

impl std::error::Error for Limit {}

/// Begins a render.
pub(super) fn begin() {
    LEFT.set(MAX_WORK);
}

/// Takes from what is left.
pub(super) fn charge(cost: u64) -> Result<(), Limit> {
    let left = LEFT.get().checked_sub(cost);
    LEFT.set(left.unwrap_or(0));
    left.map(drop).ok_or(Limit::Work)
}

/// What copying a value costs: one for each value and name in it, and the bytes of its texts.
pub(super) fn cost_of(value: &Value) -> u64 {
    match value {
        Value::Null => 0,
        Value::String(text) => text.len() as u64 + 1,
        Value::Array(items) => items.iter().map(cost_of).sum::<u64>() + 1,
        Value::Object(map) => map.iter().map(|(key, value)| key.len() as u64 + 1 + cost_of(value)).sum::<u64>() + 1,
        _ => 1,
    }
}

/// What one round of a loop costs.
pub(super) fn cost_of_round(body: Measure) -> u64 {
    body.text.saturating_add(body.values.saturating_mul(CALL_COST)).saturating_add(ROUND_COST)
}
