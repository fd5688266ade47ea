//! `explain`: its flags, and what it prints.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as ClapArgs;

use super::print;
use super::settings;
use crate::error::{Error, Kind, Result};
use crate::runs::{self, ExplainSettings, Explained, ExplainedRun, ExplainedTrigger};
use crate::storage::{Disk, RealDisk};

/// What became of a recipient, and why.
#[derive(Debug, ClapArgs)]
pub struct ExplainArgs {
    /// The recipient, such as `external_user_id:ada`; an alias is `user_alias:LABEL:NAME`
    #[arg(long, value_name = "KIND:ID")]
    pub recipient: String,
    /// Only this campaign
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
    /// Folder of published runs, or one run's folder
    #[arg(long, value_name = "DIR", required_unless_present = "state")]
    pub out: Option<PathBuf>,
    /// A state, for its receipts
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Wait this long for a lock that a run holds
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub wait_lock: String,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Looks and prints. Finding nothing is no failure.
pub fn explain(args: &ExplainArgs) -> Result<u8> {
    let settings = ExplainSettings {
        recipient: settings::recipient(&args.recipient)?,
        campaign: args.campaign.clone(),
        out: args.out.clone(),
        state: args.state.clone(),
        wait_lock: settings::wait_lock(&args.wait_lock)?,
        threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let explained = runs::explain(&disk, &settings)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&explained)
            .map(|text| text + "\n")
            .map_err(|e| Error::new(Kind::Internal, "cannot print what was found").caused_by(e))?,
        false => text(&explained),
    };
    print::out(&text)?;
    Ok(0)
}

fn text(explained: &Explained) -> String {
    let mut text = String::new();
    if explained.runs.is_empty() && explained.receipts.is_empty() {
        push_nothing(&mut text, explained);
        return text;
    }
    let _ = writeln!(text, "{}, newest first", explained.recipient);
    explained.runs.iter().for_each(|run| push_run(&mut text, run));
    if !explained.receipts.is_empty() {
        let _ = writeln!(text, "\nreceipts in the state");
    }
    for receipt in &explained.receipts {
        let variant = receipt.variant.as_ref().map_or(String::new(), |name| format!(", variant `{name}`"));
        let word = match receipt.outcome.as_str() {
            "control" => "enrolled in control",
            "revoked" => "taken back",
            _ => "received",
        };
        let _ = writeln!(text, "  {}  {}: {word}{variant}", receipt.received_at, receipt.campaign_id);
    }
    text
}

fn push_nothing(text: &mut String, explained: &Explained) {
    let _ = writeln!(text, "no trigger and no receipt of {} found in", explained.recipient);
    explained.searched.iter().for_each(|place| {
        let _ = writeln!(text, "  {place}");
    });
    if !explained.near.is_empty() {
        let _ = writeln!(text, "but there is");
    }
    explained.near.iter().for_each(|name| {
        let _ = writeln!(text, "  {name}");
    });
    let _ = writeln!(text, "rows that could not be read name nobody for certain: see `rejected.ndjson`");
}

fn push_run(text: &mut String, run: &ExplainedRun) {
    let _ = writeln!(text, "\nrun {} as of {}, on the {} clock, in {}", run.run_id, run.as_of, run.clock, run.path);
    if run.revoked {
        let _ = writeln!(text, "  revoked since: none of its receipts counts any more");
    }
    run.triggers.iter().for_each(|trigger| push_trigger(text, trigger));
}

fn push_trigger(text: &mut String, trigger: &ExplainedTrigger) {
    let at = trigger.triggered_at.as_deref().unwrap_or("without a time");
    let id = trigger.trigger_id.as_ref().map_or(String::new(), |id| format!(", id `{id}`"));
    let (campaign, source) = (trigger.campaign_id.as_deref().unwrap_or("-"), trigger.source.as_deref().unwrap_or("-"));
    let _ = writeln!(text, "  {at}  {campaign}{id}, from {source}");
    let code = trigger.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let _ = writeln!(text, "    {}{code}: {}", trigger.outcome, trigger.rule);
    if let Some(by) = &trigger.blocked_by {
        let again = match &trigger.eligible_at {
            Some(at) => format!("eligible again from {at}"),
            None => "never eligible again".to_owned(),
        };
        let _ = writeln!(text, "    blocked by the receipt of {by}; {again}");
    }
    if let Some(draw) = &trigger.assigned {
        let (first, last) = draw.slices;
        let whose = match &draw.variant {
            _ if draw.control => "control".to_owned(),
            Some(name) => format!("variant `{name}`"),
            None => "the messages".to_owned(),
        };
        let kept = if draw.overruled { "; an earlier receipt or enrolment counts instead" } else { "" };
        let _ = writeln!(text, "    hash slice {} of 0 to 99: {whose} has {first} to {last}{kept}", draw.slice);
    }
    if let Some(name) = &trigger.variant {
        let _ = writeln!(text, "    variant `{name}`");
    }
    trigger.dropped.iter().for_each(|drop| {
        let _ = writeln!(text, "    no {} ({}): {}", drop.channel, drop.reason, drop.detail);
    });
    trigger.dispatch_ids.iter().for_each(|id| {
        let _ = writeln!(text, "    dispatch id {id}");
    });
}
