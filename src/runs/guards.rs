//! What must hold before a run may commit, beyond its own ledger: how much input there is, that it is complete, and that
//! shares are what they were in earlier runs.

use std::path::Path;

use super::manifest::RunManifest;
use super::plan::Plan;
use crate::campaigns::Campaign;
use crate::error::{Error, Fault, Kind, Result};
use crate::input::InputFile;
use crate::pipeline::{Counts, Ledger};
use crate::state::{RunRecord, State, Window};
use crate::storage::Disk;
use crate::triggers::format_micros;

/// The guards of one run. None is part of its identity.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guards {
    /// Fewest and most triggers of the input.
    pub expect_triggers: Option<(u64, u64)>,
    /// A file that must stand in every folder that input is read from.
    pub require_marker: Option<String>,
    /// Refuse campaigns that differ from those of the state's newest run.
    pub locked: bool,
    /// By how many percentage points the share of sent, failed or suppressed triggers of a campaign may differ from the median of
    /// earlier runs.
    pub max_change: Option<f64>,
    /// Campaigns whose shares may differ.
    pub accept_change: Vec<String>,
}

/// Runs that a run is compared with, at most.
const EARLIER_RUNS: usize = 7;

impl Guards {
    /// Looks for the marker: beside each file, or in a folder above it up to the one that was given.
    pub fn check_marker(&self, arguments: &[String], files: &[InputFile]) -> Result<()> {
        let Some(marker) = &self.require_marker else { return Ok(()) };
        let faults: Vec<Fault> = files
            .iter()
            .filter(|file| file.is_stdin() || !is_marked(marker, arguments, &file.path))
            .map(|file| Fault::new(&file.name, format!("there is no `{marker}` beside it")))
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::Input, "the input is not complete yet")
            .with_faults(faults)
            .hint(format!("run again when whoever writes it has put `{marker}` there; nothing was committed")))
    }

    /// Compares the campaigns with those of the state's newest run. The first run has nothing to be compared with.
    pub fn check_locked(&self, state: &State, plan: &Plan) -> Result<()> {
        let newest = state.manifest().publication.as_ref().filter(|_| self.locked);
        let newest = newest.and_then(|newest| serde_json::from_str::<RunManifest>(newest.manifest.get()).ok());
        let Some(newest) = newest else { return Ok(()) };
        let differing = plan.campaign_digests.iter().filter(|(id, digest)| newest.campaigns.get(*id) != Some(digest));
        let faults: Vec<Fault> = differing
            .map(|(id, _)| match newest.campaigns.contains_key(id) {
                true => Fault::new(id, "was changed since"),
                false => Fault::new(id, "was not there"),
            })
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        let summary = format!("`--locked`: the campaigns are not those of the newest run, `{}`", newest.run_id);
        Err(Error::new(Kind::Guard, summary)
            .with_faults(faults)
            .hint("if the change is meant, run once without `--locked`; `check` shows what they are now"))
    }

    /// Checks how many triggers there were.
    pub fn check_triggers(&self, triggers: u64) -> Result<()> {
        let Some((fewest, most)) = self.expect_triggers else { return Ok(()) };
        if (fewest..=most).contains(&triggers) {
            return Ok(());
        }
        let expected = match most {
            u64::MAX => format!("at least {fewest}"),
            _ => format!("{fewest} to {most}"),
        };
        let summary =
            format!("the input has {triggers} triggers, `--expect-triggers` wants {expected}; nothing was committed");
        Err(Error::new(Kind::Input, summary).hint("look whether files are missing or given twice"))
    }

    /// Compares each campaign's shares with those of earlier runs of the state. The first run has nothing to be compared with.
    pub fn check_change(&self, disk: &dyn Disk, state: &State, ledger: &Ledger) -> Result<()> {
        let Some(most) = self.max_change else { return Ok(()) };
        let earlier = earlier_ledgers(disk, state);
        let faults: Vec<Fault> = ledger
            .campaigns
            .iter()
            .filter(|(id, _)| !self.accept_change.contains(id))
            .flat_map(|(id, counts)| changes(id, counts, &earlier, most))
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        let summary = format!("shares changed by more than {most} percentage points; nothing was committed");
        Err(Error::new(Kind::Guard, summary).with_faults(faults).hint(
            "look at what would be sent with `--dry-run` or `--hold`; if it is meant, give `--accept-change` with the campaigns' ids",
        ))
    }
}

/// Refuses a window that was lengthened to where receipts have been dropped already: what it would have to know is gone.
pub fn check_history(plan: &Plan, state: &State) -> Result<()> {
    let as_of = plan.rules.as_of;
    let fault = |campaign: &Campaign| {
        let kept = state.manifest().campaigns.get(&campaign.id)?;
        let floor = kept.history_floor?;
        let window = campaign.reeligibility.window_seconds().map_or(Window::Never, Window::Seconds);
        let is_longer = kept.largest_window.is_none_or(|largest| window > largest);
        let is_short = campaign.reeligibility.looks_back_to(as_of) < floor;
        (is_longer && is_short).then(|| {
            let known = format!("receipts before {} have been dropped", format_micros(floor));
            Fault::new(&campaign.id, format!("its window is longer than any before, and {known}"))
        })
    };
    let faults: Vec<Fault> = plan.rules.campaigns.loaded.iter().filter_map(fault).collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::State, "a window was lengthened beyond the history that is kept; nothing was committed")
        .with_faults(faults)
        .hint("keep the window shorter until that date is far enough in the past, or give the campaign a new id"))
}

fn is_marked(marker: &str, arguments: &[String], file: &Path) -> bool {
    let given = arguments.iter().map(Path::new).filter(|argument| argument.is_dir() && file.starts_with(argument));
    let root = given.max_by_key(|argument| argument.components().count()).or(file.parent());
    let folders = file.ancestors().skip(1).take_while(|folder| root.is_some_and(|root| folder.starts_with(root)));
    folders.map(|folder| folder.join(marker)).any(|path| path.exists())
}

/// The ledgers of the newest runs that sent messages and were not revoked: of the newest from the state itself, of others from where they are published.
fn earlier_ledgers(disk: &dyn Disk, state: &State) -> Vec<Ledger> {
    let stands = |run: &&RunRecord| state.manifest().revocation(&run.run_id).is_none();
    let runs = state.manifest().runs.iter().rev().filter(stands);
    let manifests = runs.filter_map(|run| manifest_of(disk, state, run));
    let sending = manifests.filter(|manifest| manifest.flags.get("record_only").is_none());
    sending.take(EARLIER_RUNS).map(|manifest| manifest.ledger).collect()
}

fn manifest_of(disk: &dyn Disk, state: &State, run: &RunRecord) -> Option<RunManifest> {
    let newest = state.manifest().publication.as_ref().filter(|newest| newest.run_id == run.run_id);
    let manifest: RunManifest = match newest {
        Some(newest) => serde_json::from_str(newest.manifest.get()).ok()?,
        None => serde_json::from_slice(&disk.read(&Path::new(&run.out).join("manifest.json")).ok()?).ok()?,
    };
    Some(manifest).filter(|manifest| manifest.run_id == run.run_id && manifest.generation == Some(run.generation))
}

/// The shares of a campaign that differ by more than `most` percentage points.
fn changes(id: &str, counts: &Counts, earlier: &[Ledger], most: f64) -> Vec<Fault> {
    let before: Vec<[f64; 3]> = earlier.iter().filter_map(|ledger| shares(ledger.campaigns.get(id)?)).collect();
    let (Some(now), false) = (shares(counts), before.is_empty()) else { return Vec::new() };
    let words = ["sent", "failed", "suppressed"].into_iter().enumerate();
    let differing = words.filter_map(|(part, word)| {
        let usual = median(before.iter().map(|shares| shares[part]).collect());
        let is_over = (now[part] - usual).abs() > most;
        is_over.then(|| {
            let what = format!("{word} {:.1} % of its triggers, {usual:.1} % before", now[part]);
            Fault::new(id, format!("{what} (median of {} runs)", before.len()))
        })
    });
    differing.collect()
}

/// Sent, failed and suppressed in percent of the triggers in scope; none where there are none.
fn shares(counts: &Counts) -> Option<[f64; 3]> {
    let whole = counts.triggers - counts.out_of_scope;
    let percent = |part: u64| part as f64 * 100.0 / whole as f64;
    let parts = [counts.sent, counts.failed.values().sum(), counts.suppressed.values().sum()];
    (whole > 0).then(|| parts.map(percent))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(sent: u64, suppressed: u64, failed: u64) -> Ledger {
        let by_word = |count: u64| if count > 0 { [("x".to_owned(), count)].into() } else { Default::default() };
        let counts = Counts {
            triggers: sent + suppressed + failed,
            sent,
            suppressed: by_word(suppressed),
            failed: by_word(failed),
            ..Counts::default()
        };
        Ledger { total: counts.clone(), campaigns: [("c".to_owned(), counts)].into() }
    }

    fn said(now: &Ledger, earlier: &[Ledger], most: f64) -> Vec<String> {
        let faults = changes("c", &now.campaigns["c"], earlier, most);
        faults.into_iter().map(|fault| fault.to_string()).collect()
    }

    #[test]
    fn shares_are_compared_with_the_median_of_earlier_runs() {
        let earlier = [ledger(60, 40, 0), ledger(10, 90, 0), ledger(62, 38, 0)];
        assert!(said(&ledger(65, 35, 0), &earlier, 5.0).is_empty());
        let faults = said(&ledger(66, 34, 0), &earlier, 5.0);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("sent 66.0 % of its triggers, 60.0 % before (median of 3 runs)"), "{faults:?}");
        assert!(said(&ledger(60, 30, 10), &earlier, 9.0)[0].contains("failed 10.0 %"));
    }

    #[test]
    fn what_was_never_there_is_not_compared() {
        assert!(said(&ledger(1, 0, 0), &[], 0.0).is_empty());
        assert!(said(&ledger(0, 0, 0), &[ledger(1, 1, 0)], 0.0).is_empty());
        assert!(said(&ledger(1, 0, 0), &[ledger(0, 0, 0)], 0.0).is_empty());
    }

    #[test]
    fn the_median_of_two_is_between_them() {
        assert_eq!((median(vec![3.0, 1.0]), median(vec![9.0, 1.0, 2.0])), (2.0, 2.0));
    }
}
