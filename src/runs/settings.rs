//! What a run will do: every flag checked, nothing left to a default.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::guards::Guards;
use crate::campaigns::LoadOptions;
use crate::delivery::DeliveryOptions;
use crate::eligibility::Clock;
use crate::input::{InputFormat, InputOptions, PropertiesFrom};
use crate::triggers::{EpochUnit, Micros, format_micros};

/// Where receipts are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateUse {
    /// Nowhere: the run knows no earlier one.
    Stateless,
    /// In this folder.
    Folder {
        /// The folder.
        path: PathBuf,
        /// Make it where it is missing.
        create: bool,
    },
}

/// How many bad triggers (rejected and failed) a run may have and still commit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxBad {
    /// This many.
    Count(u64),
    /// This share of all triggers, in percent.
    Percent(f64),
}

impl MaxBad {
    /// Whether `bad` of `triggers` is too many.
    pub fn is_exceeded(self, bad: u64, triggers: u64) -> bool {
        match self {
            MaxBad::Count(most) => bad > most,
            MaxBad::Percent(most) => bad as f64 * 100.0 > most * triggers as f64,
        }
    }
}

/// The settings of one run.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// Folder of campaign folders.
    pub campaigns: PathBuf,
    /// Which campaigns.
    pub load: LoadOptions,
    /// Trigger files, folders, globs, `-`.
    pub inputs: Vec<String>,
    /// How they are read.
    pub input: InputOptions,
    /// Where runs are published.
    pub out: PathBuf,
    /// Where receipts are kept.
    pub state: StateUse,
    /// The form of the batches.
    pub delivery: DeliveryOptions,
    /// When receipts happen.
    pub clock: Clock,
    /// The run's instant.
    pub as_of: Micros,
    /// Whether `as_of` was given, and so is part of the run's identity.
    pub as_of_given: bool,
    /// The wall clock: what is kept of old receipts is counted from the earlier of this and `as_of`.
    pub now: Micros,
    /// Triggers older than this are too late.
    pub max_age_micros: Option<Micros>,
    /// Triggers before this are out of scope.
    pub since: Option<Micros>,
    /// Triggers at or after this are out of scope.
    pub until: Option<Micros>,
    /// Triggers without a time happen at as-of on the event clock too.
    pub default_time_is_as_of: bool,
    /// Bad triggers allowed; without it any number commits, with exit 3.
    pub max_bad: Option<MaxBad>,
    /// The run's id; by default derived from its content.
    pub run_id: Option<String>,
    /// A table of recipients who get nothing.
    pub exclude: Option<PathBuf>,
    /// What must hold beyond the ledger.
    pub guards: Guards,
    /// Decide and render, commit nothing.
    pub dry_run: bool,
    /// Stage everything and wait for `commit` or `discard`.
    pub hold: bool,
    /// How long to wait for a held lock.
    pub wait_lock: Duration,
    /// Record receipts without writing messages.
    pub record_only: bool,
    /// Take inputs that another run of this state has consumed.
    pub allow_consumed: bool,
    /// Bytes of memory that the run may take, at least [`crate::pipeline::Memory::LEAST`]. Not part of its identity.
    pub memory: u64,
    /// The id of a state that this run creates.
    pub new_state_id: u128,
}

impl RunSettings {
    /// A run without a state and without anything that is optional, as the command line has it.
    pub fn new(campaigns: PathBuf, inputs: Vec<String>, out: PathBuf, as_of: Micros) -> RunSettings {
        RunSettings {
            campaigns,
            load: LoadOptions::default(),
            inputs,
            input: InputOptions::default(),
            out,
            state: StateUse::Stateless,
            delivery: DeliveryOptions::default(),
            clock: Clock::Run,
            as_of,
            as_of_given: true,
            now: as_of,
            max_age_micros: None,
            since: None,
            until: None,
            default_time_is_as_of: false,
            max_bad: None,
            run_id: None,
            exclude: None,
            guards: Guards::default(),
            dry_run: false,
            hold: false,
            wait_lock: Duration::ZERO,
            record_only: false,
            allow_consumed: false,
            memory: u64::MAX,
            new_state_id: 0,
        }
    }

    /// Everything that decides what a run says, apart from the contents of its files: part of its identity.
    pub fn semantic_flags(&self) -> Value {
        let mapping = &self.input.mapping;
        let properties = match &mapping.properties {
            PropertiesFrom::Field => Value::Null,
            PropertiesFrom::Columns(names) => json!(names),
            PropertiesFrom::All => "*".into(),
        };
        let flags = json!({
            "clock": clock_code(self.clock),
            "as_of": self.as_of_given.then(|| format_micros(self.as_of)),
            "max_age_micros": self.max_age_micros,
            "since": self.since.map(format_micros),
            "until": self.until.map(format_micros),
            "default_triggered_at": self.default_time_is_as_of.then_some("as-of"),
            "record_only": self.record_only,
            "only": self.load.only,
            "skip_broken": self.load.skip_broken,
            "input_format": self.input.format.map(format_code),
            "map": mapping.columns,
            "campaign_id": mapping.campaign_id,
            "properties": properties,
            "body": self.input.body,
            "carry": self.input.carry,
            "trigger_id_from": self.input.trigger_id_from,
            "timezone": self.input.times.zone.iana_name(),
            "epoch_unit": self.input.times.epoch_unit.map(EpochUnit::per_second),
            "format": self.delivery.format.code(),
            "compression": self.delivery.compression.code(),
            "batch_size": self.delivery.batch_size,
        });
        // What was not given is left out, so that a flag of a later version does not change today's digests.
        match flags {
            Value::Object(map) => Value::Object(map.into_iter().filter(|(_, v)| !is_unset(v)).collect::<Map<_, _>>()),
            other => other,
        }
    }
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// The word of a clock in files.
pub fn clock_code(clock: Clock) -> &'static str {
    match clock {
        Clock::Run => "run",
        Clock::Event => "event",
    }
}

fn format_code(format: InputFormat) -> &'static str {
    match format {
        InputFormat::Parquet => "parquet",
        InputFormat::Ndjson => "ndjson",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_counts_from_the_whole() {
        assert!(!MaxBad::Percent(10.0).is_exceeded(1, 10));
        assert!(MaxBad::Percent(10.0).is_exceeded(2, 10));
        assert!(MaxBad::Count(0).is_exceeded(1, 10));
        assert!(!MaxBad::Percent(0.0).is_exceeded(0, 0));
    }
}
