//! What people and programs read on standard output.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::pipeline::{ByWord, Counts};
use crate::runs::{Checked, Ended, Finished, Rederived, Revoked, RunOutcome, Summary, Verified};

/// Writes to standard output; a reader that has gone away is not an error.
pub fn out(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Output, "cannot write to standard output").caused_by(error))
        }
        _ => Ok(()),
    }
}

/// `1234567` as `1,234,567`.
pub fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest fitting binary unit.
pub fn bytes_text(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (0..units.len() - 1).find(|p| bytes < 1 << (10 * (p + 1))).unwrap_or(units.len() - 1);
    if power == 0 {
        format!("{bytes} B")
    } else {
        format!("{:.1} {}", bytes as f64 / (1u64 << (10 * power)) as f64, units[power])
    }
}

/// The summary of a run as JSON; for a repeated run, that it is one.
pub fn finished_json(finished: &Finished) -> String {
    let mut object = match &finished.outcome {
        RunOutcome::Ran(summary) => summary.to_json(),
        RunOutcome::Held(summary) => {
            let mut object = summary.to_json();
            object["held"] = true.into();
            object
        }
        RunOutcome::AlreadyCommitted { run_id } => Value::Object(Map::from_iter([
            ("run_id".to_owned(), run_id.as_str().into()),
            ("already_committed".to_owned(), true.into()),
        ])),
    };
    if let (Value::Object(map), Some(path)) = (&mut object, &finished.published) {
        map.insert("path".to_owned(), path.display().to_string().into());
    }
    format!("{object:#}\n")
}

/// The summary of a run for a person.
pub fn finished(finished: &Finished, verbose: bool) -> String {
    let place = finished.published.as_ref().map(|p| p.display().to_string());
    match &finished.outcome {
        RunOutcome::AlreadyCommitted { run_id } => {
            format!("run {run_id} was committed before to {}: nothing to do\n", place.unwrap_or_default())
        }
        RunOutcome::Held(summary) => {
            let place = place.unwrap_or_default();
            let mut text =
                format!("run {} is held in {place}: nothing is committed, and its state waits\n", summary.run_id);
            push_counts(&mut text, &summary.ledger.total);
            push_campaigns(&mut text, summary);
            let _ = writeln!(
                text,
                "\n  look at it, then: retrigger commit {place}\n                or: retrigger discard {place}"
            );
            text
        }
        RunOutcome::Ran(summary) => {
            let seconds: f64 = summary.seconds.iter().map(|(_, s)| s).sum();
            let mut text = match place {
                Some(place) => format!("run {} committed to {place} in {seconds:.2} s\n", summary.run_id),
                None => format!("run {} would do this; nothing was written ({seconds:.2} s)\n", summary.run_id),
            };
            push_counts(&mut text, &summary.ledger.total);
            push_campaigns(&mut text, summary);
            if verbose {
                push_costs(&mut text, summary);
            }
            text
        }
    }
}

/// How a held run ended.
pub fn ended(ended: &Ended) -> String {
    let already = if ended.already { " before" } else { "" };
    match &ended.published {
        Some(place) => format!("run {} was committed{already} to {}\n", ended.run_id, place.display()),
        None => format!("run {} was discarded{already}: nobody has received anything of it\n", ended.run_id),
    }
}

/// What a revocation took back.
pub fn revoked(revoked: &Revoked) -> String {
    let already = if revoked.already { " before" } else { "" };
    let receipts = count_text(revoked.receipts);
    format!(
        "run {} was revoked{already}: {receipts} receipts count no more; its triggers can be run again\n",
        revoked.run_id
    )
}

fn words(words: &ByWord) -> String {
    words.iter().map(|(word, count)| format!("{word} {}", count_text(*count))).collect::<Vec<_>>().join(", ")
}

fn push_counts(text: &mut String, counts: &Counts) {
    let sum = |part: &ByWord| part.values().sum::<u64>();
    let rows = [
        ("triggers", counts.triggers, String::new()),
        ("sent", counts.sent, words(&counts.messages)),
        ("control", counts.control, String::new()),
        ("suppressed", sum(&counts.suppressed), words(&counts.suppressed)),
        ("failed", sum(&counts.failed), words(&counts.failed)),
        ("rejected", sum(&counts.rejected), words(&counts.rejected)),
        ("out of scope", counts.out_of_scope, String::new()),
    ];
    for (name, count, detail) in rows {
        if count > 0 || name != "out of scope" {
            let _ = writeln!(text, "{}", format!("  {name:<13}{:>14}   {detail}", count_text(count)).trim_end());
        }
    }
    for (channel, reasons) in &counts.messages_dropped {
        let _ = writeln!(text, "  {:<13}{:>14}   {channel}: {}", "dropped", count_text(sum(reasons)), words(reasons));
    }
    if counts.bad() > 0 {
        let _ =
            writeln!(text, "  see rejected.ndjson, dropped_messages.parquet and remainder.ndjson in the run's folder");
    }
}

fn push_campaigns(text: &mut String, summary: &Summary) {
    let campaigns = &summary.ledger.campaigns;
    if campaigns.is_empty() {
        return;
    }
    let width = campaigns.keys().map(|id| id.chars().count()).max().unwrap_or(0).max(8);
    let _ = writeln!(
        text,
        "\n  {:<width$}  {:>12} {:>12} {:>10} {:>12} {:>10} {:>10}",
        "campaign", "triggers", "sent", "control", "suppressed", "failed", "rejected"
    );
    for (id, counts) in campaigns {
        let sum = |part: &ByWord| count_text(part.values().sum());
        let [triggers, sent, control] = [counts.triggers, counts.sent, counts.control].map(count_text);
        let (suppressed, failed, rejected) = (sum(&counts.suppressed), sum(&counts.failed), sum(&counts.rejected));
        let _ = writeln!(
            text,
            "  {id:<width$}  {triggers:>12} {sent:>12} {control:>10} {suppressed:>12} {failed:>10} {rejected:>10}"
        );
    }
}

fn push_costs(text: &mut String, summary: &Summary) {
    let phases: Vec<String> = summary.seconds.iter().map(|(name, s)| format!("{name} {s:.2} s")).collect();
    let _ = writeln!(text, "\n  {}", phases.join(", "));
    let _ = writeln!(
        text,
        "  read {}, wrote {} in {} batches{}",
        bytes_text(summary.bytes_read),
        bytes_text(summary.bytes_written),
        summary.batches,
        summary.peak_rss_bytes.map(|b| format!(", peak memory {}", bytes_text(b))).unwrap_or_default()
    );
    if summary.spilled_bytes > 0 {
        let _ =
            writeln!(text, "  {} found no room under `--memory` and went to a file", bytes_text(summary.spilled_bytes));
    }
}

/// A check without faults.
pub fn checked(checked: &Checked) -> String {
    let mut text = String::new();
    for campaign in &checked.campaigns {
        let window = match campaign.window_seconds {
            None => "once ever".to_owned(),
            Some(0) => "every time".to_owned(),
            Some(seconds) => format!("once in {seconds} s"),
        };
        let channels =
            if campaign.channels.is_empty() { "decide-only".to_owned() } else { campaign.channels.join(", ") };
        let fails = if campaign.can_fail { "" } else { ", cannot fail" };
        let _ = writeln!(text, "{}: {}, {window}, {channels}{fails}", campaign.id, campaign.status);
        for (name, percent) in campaign.variants.iter().filter(|(name, _)| name.is_some()) {
            let _ = writeln!(text, "  {percent:>3} % {}", name.as_deref().unwrap_or_default());
        }
        let control = 100 - campaign.variants.iter().map(|(_, percent)| percent).sum::<u8>();
        if control > 0 {
            let _ = writeln!(text, "  {control:>3} % in control");
        }
        campaign.warnings.iter().for_each(|warning| {
            let _ = writeln!(text, "  warning: {warning}");
        });
    }
    for file in &checked.files {
        let _ = writeln!(text, "{}: {}, readable", file.name, bytes_text(file.bytes));
    }
    text
}

/// A run that is what its manifest says.
pub fn verified(verified: &Verified) -> String {
    let manifest = &verified.manifest;
    let bytes = verified.files.iter().map(|f| f.bytes).sum();
    let erased = match verified.erased_rows {
        0 => String::new(),
        rows => format!("; {} rows were erased since, as `amendment.json` says", count_text(rows)),
    };
    let revoked = if verified.revoked { "; it was revoked: send nothing of it" } else { "" };
    format!(
        "run {}: {} files, {}, {} triggers: all there and unchanged, and the ledger balances{erased}{revoked}\n",
        manifest.run_id,
        verified.files.len(),
        bytes_text(bytes),
        count_text(manifest.ledger.total.triggers)
    )
}

/// A run that follows from its input.
pub fn rederived(rederived: &Rederived) -> String {
    let triggers = count_text(rederived.triggers);
    let but = match rederived.had_state {
        true => "; what only the receipts of the state at that time explain is taken as it was recorded",
        false => "",
    };
    format!("  {triggers} triggers of the input decided and rendered again: every row is the same{but}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_bytes_are_readable() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count_text), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1024, 5 << 30].map(bytes_text), ["0 B", "1023 B", "1.0 KiB", "5.0 GiB"]);
    }
}
