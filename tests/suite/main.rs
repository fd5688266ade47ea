//! Tests of the whole, by subject.

mod parity;
