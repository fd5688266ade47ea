//! `retrigger` processes bulk triggers offline: it decides once per recipient and campaign who is sent what, renders the
//! messages and commits them as delivery batches in one atomic run. It is a command line (see the README) and this library.
//!
//! Layers, each of which only looks down: [`cli`] → [`runs`] → the edges ([`input`], [`delivery`], [`state`], [`generate`]) → the engine
//! ([`pipeline`], [`simulate`]) → the domain ([`triggers`], [`campaigns`], [`templates`], [`eligibility`]) → [`storage`], [`ids`], [`interrupt`], [`error`].
//!
//! # A whole run
//!
//! [`runs::run`] does what `retrigger run` does: it reads files, keeps a state and commits a run folder.
//!
//! # The engine alone
//!
//! [`pipeline::execute`] decides and renders whatever a [`pipeline::TriggerSource`] yields and hands the rows to a
//! [`pipeline::DeliverySink`]; no file is touched. Here Arrow record batches go in and messages come out:
//!
//! ```
//! use std::sync::Arc;
//!
//! use arrow_array::cast::AsArray;
//! use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
//! use retrigger::campaigns::{LoadOptions, load};
//! use retrigger::delivery::InMemory;
//! use retrigger::eligibility::Clock;
//! use retrigger::input::{ArrowBatches, InputOptions};
//! use retrigger::pipeline::{Rules, Schemas, execute};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Campaigns are folders, as marketers own them.
//! let folder = tempfile::tempdir()?;
//! std::fs::create_dir(folder.path().join("shipped"))?;
//! std::fs::write(
//!     folder.path().join("shipped/campaign.json"),
//!     r#"{"id": "shipped", "reeligibility": "never", "messages": {"push": {"body":
//!         "Your order {{api_trigger_properties.${order}}} is on its way"}}}"#,
//! )?;
//! let campaigns = load(folder.path(), &LoadOptions::default())?;
//!
//! // Triggers have the columns that a Parquet file would have.
//! let orders: ArrayRef = Arc::new(Int64Array::from(vec![7, 8, 9]));
//! let properties = StructArray::try_from(vec![("order", orders)])?;
//! let text = |values: [&str; 3]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
//! let batch = RecordBatch::try_from_iter([
//!     ("campaign_id", text(["shipped"; 3])),
//!     ("external_user_id", text(["ada", "bob", "ada"])),
//!     ("trigger_properties", Arc::new(properties) as ArrayRef),
//! ])?;
//! let source = ArrowBatches::new("orders", &[batch], InputOptions::default())?;
//!
//! // Decide and render. Nothing is known of earlier receipts here: give a `ReceiptSource` instead of `None`.
//! let as_of = 1_795_422_600_000_000; // microseconds since 1970
//! let rules = Rules::new(campaigns, Clock::Run, as_of);
//! let schemas = Schemas::new(&rules)?;
//! let mut delivered = InMemory::default();
//! let executed = execute(&rules, &schemas, &source, None, &mut delivered, &())?;
//!
//! // Ada's second trigger is suppressed: this campaign is sent once ever.
//! assert_eq!((executed.ledger.total.triggers, executed.ledger.total.sent), (3, 2));
//! let (channel, messages) = &delivered.messages[0];
//! assert_eq!(schemas.channels[*channel].0, "push");
//! let bodies = messages.column_by_name("body").expect("a field of the channel").as_string::<i32>();
//! assert_eq!(bodies.value(1), "Your order 8 is on its way");
//! # Ok(())
//! # }
//! ```
//!
//! # Templates alone
//!
//! [`templates::Template`] compiles and renders one text; its page for authors is `docs/templates.md`.

pub mod campaigns;
pub mod cli;
pub mod delivery;
pub mod eligibility;
pub mod error;
mod fence;
pub mod generate;
pub mod ids;
pub mod input;
pub mod interrupt;
pub mod pipeline;
#[cfg(test)]
mod planted;
pub mod runs;
pub mod simulate;
pub mod state;
pub mod storage;
pub mod templates;
pub mod triggers;
