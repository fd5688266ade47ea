//! `retrigger` processes bulk trigger files offline: it decides once per recipient and campaign who is sent what,
//! renders the messages and commits them as delivery batches in one atomic run.
//!
//! Layers, each of which only looks down: `cli` → [`runs`] → the edges ([`input`], [`delivery`], [`state`]) → the engine
//! ([`pipeline`]) → the domain ([`triggers`], [`campaigns`], [`templates`], [`eligibility`]) → [`storage`], [`ids`], [`error`].

pub mod error;
pub mod ids;
pub mod input;
pub mod pipeline;
pub mod storage;
pub mod templates;
pub mod triggers;
