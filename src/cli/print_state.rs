//! What people and programs read of a state.

use std::fmt::Write as _;
use std::path::Path;

use super::print::{bytes_text, count_text};
use crate::error::{Error, Kind, Result};
use crate::runs::{Compacted, ErasedFrom, Imported};
use crate::state::{CampaignSummary, Summary, Window};
use crate::triggers::format_micros;

/// Generations that are shown to people.
const SHOWN_GENERATIONS: usize = 10;

/// What a state holds, as JSON.
pub fn overview_json(overview: &Summary) -> Result<String> {
    serde_json::to_string_pretty(overview)
        .map(|text| text + "\n")
        .map_err(|e| Error::new(Kind::Internal, "cannot print the state").caused_by(e))
}

/// A state that is what its manifest says.
pub fn verified(overview: &Summary) -> String {
    format!(
        "state {}, generation {}: {} receipts in {} files, {}: all there and unchanged\n",
        overview.state_id,
        overview.generation,
        count_text(overview.receipts),
        overview.files,
        bytes_text(overview.bytes)
    )
}

/// What a state holds.
pub fn overview(overview: &Summary) -> String {
    let time = |at: Option<i64>| at.map_or_else(|| "-".to_owned(), format_micros);
    let mut text = format!("state {}, generation {}\n", overview.state_id, overview.generation);
    let size = bytes_text(overview.bytes);
    let _ = writeln!(
        text,
        "  receipts  {} in {} files, {size}",
        count_text(overview.receipts),
        overview.receipt_files.len()
    );
    let _ = writeln!(
        text,
        "  oldest    {}\n  newest    {}\n  floor     {}\n  runs      {}",
        time(overview.oldest),
        time(overview.newest),
        time(overview.history_floor),
        overview.runs
    );
    for (id, campaign) in &overview.campaigns {
        let _ = writeln!(text, "  {id}: {}", campaign_text(campaign));
    }
    push_files(&mut text, overview);
    push_generations(&mut text, overview);
    text
}

/// The newest generations.
fn push_generations(text: &mut String, overview: &Summary) {
    let left_out = overview.made_by.len().saturating_sub(SHOWN_GENERATIONS);
    if left_out > 0 {
        let _ = writeln!(text, "  … {} earlier generations; `--json` has all", count_text(left_out as u64));
    }
    for made in &overview.made_by[left_out..] {
        let _ = writeln!(text, "  generation {}: {} {}", made.generation, made.kind, made.id);
    }
}

/// What an import did, and which rows it left out.
pub fn imported(imported: &Imported) -> String {
    if imported.again {
        return format!("imported before, as generation {}: nothing to do\n", imported.generation);
    }
    let receipts = count_text(imported.receipts);
    let mut text = format!("{receipts} receipts imported; the state is at generation {}\n", imported.generation);
    for fault in &imported.faults {
        let _ = writeln!(text, "  left out {}: {}", fault.file, fault.message);
    }
    if imported.bad > imported.faults.len() as u64 {
        let _ = writeln!(text, "  left out {} rows in all", count_text(imported.bad));
    }
    text
}

/// What a compaction did.
pub fn compacted(compacted: &Compacted) -> String {
    let Compacted { removed, files: (before, after), generation } = compacted;
    if *removed == 0 && before == after {
        return format!("nothing to do: {after} files, and nothing has expired\n");
    }
    let removed = count_text(*removed);
    format!(
        "{before} files became {after}, {removed} expired receipts are gone; the state is at generation {generation}\n"
    )
}

/// What a fork is for.
pub fn forked(from: &Summary, fork: &Summary, to: &Path) -> String {
    format!(
        "state {} forked at generation {}: state {} in {} holds the same {} receipts\n  from here the two go separate \
         ways: try rules, campaigns or a replay on one of them, and send from the other alone.\n  What one sends the other \
         does not know, and would send again.\n",
        from.state_id,
        from.generation,
        fork.state_id,
        to.display(),
        count_text(fork.receipts)
    )
}

/// What an erasure did.
pub fn erased(erased: &ErasedFrom, with_runs: bool) -> String {
    let mut text = format!(
        "{} receipts of {} recipients erased; the state is at generation {}\n",
        count_text(erased.receipts),
        count_text(erased.recipients),
        erased.generation
    );
    let _ = match with_runs {
        true => writeln!(
            text,
            "  {} rows erased from {} files of {} runs",
            count_text(erased.from_runs.rows),
            count_text(erased.from_runs.files),
            count_text(erased.runs)
        ),
        false => writeln!(text, "  the runs that were published still hold what they were sent: give `--out` for them"),
    };
    text.push_str("  copies, exports, forks and trigger files are not touched\n");
    text
}

fn campaign_text(campaign: &CampaignSummary) -> String {
    let window = match campaign.largest_window {
        None => "none: no run has loaded it".to_owned(),
        Some(Window::Never) => "never".to_owned(),
        Some(Window::Seconds(seconds)) => format!("{seconds} s"),
    };
    let kept = match campaign.kept_seconds {
        None => "kept for ever".to_owned(),
        Some(seconds) if campaign.keeps_newest => format!("kept {} d, the newest for ever", seconds.div_ceil(86_400)),
        Some(seconds) => format!("kept {} d", seconds.div_ceil(86_400)),
    };
    let mut text = format!("{} receipts, largest window {window}, {kept}", count_text(campaign.receipts));
    if let Some(floor) = campaign.history_floor {
        let _ = write!(text, ", known since {}", format_micros(floor));
    }
    text
}

fn push_files(text: &mut String, overview: &Summary) {
    for file in &overview.receipt_files {
        let _ = writeln!(
            text,
            "  {}: generations {} to {}, {} receipts from {} to {}, {}",
            file.name,
            file.first_generation,
            file.last_generation,
            count_text(file.receipts),
            format_micros(file.oldest),
            format_micros(file.newest),
            bytes_text(file.bytes)
        );
    }
}
