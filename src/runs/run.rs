//! `run`: plan, execute, commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::check::spool;
use super::commit;
use super::guards;
use super::manifest::{RUN_FORMAT, RunManifest, Summary, peak_rss_bytes};
use super::out::OutFolder;
use super::plan::{Definitions, Plan};
use super::settings::{RunSettings, StateUse, clock_code};
use super::spill::SpillFile;
use super::state_life;
use crate::delivery::{ChannelSpec, FileKind, RunFolder, WrittenFile};
use crate::error::{Error, IoContext, Kind, Result};
use crate::input::InputOptions;
use crate::interrupt::Interrupt;
use crate::pipeline::{
    DeliverySink, Executed, Execution, LinesFile, Memory, Progress, ReceiptSink, ReceiptSource, Table,
};
use crate::state::{Delta, State};
use crate::storage::Disk;
use crate::triggers::format_micros;

/// How a run ended.
pub struct Finished {
    /// 0 or 3; for a repeated run, what it was the first time.
    pub exit_code: u8,
    /// Where the run is published, or staged while it is held; none for a dry run.
    pub published: Option<PathBuf>,
    /// What happened.
    pub outcome: RunOutcome,
}

/// Whether something was done.
pub enum RunOutcome {
    /// This run was decided now.
    Ran(Box<Summary>),
    /// This run was decided now and waits: see [`super::commit_held`].
    Held(Box<Summary>),
    /// The same run was committed before: nothing was done.
    AlreadyCommitted {
        /// Its id.
        run_id: String,
    },
}

/// Runs. Everything is committed or nothing.
///
/// # Errors
/// Each [`Kind`]; after any error nothing was committed, except where the summary of the error says so.
pub fn run(disk: Arc<dyn Disk>, settings: &RunSettings, progress: &dyn Progress) -> Result<Finished> {
    let definitions = Definitions::load(settings)?;
    if settings.dry_run {
        return dry_run(disk, settings, definitions, progress);
    }
    let out = OutFolder::open(disk.clone(), &settings.out, settings.wait_lock)?;
    let state = open_state(&disk, settings)?;
    if let Some(state) = &state {
        state.refuse_held()?;
        commit::check_fence(state, &out)?;
        commit::roll_forward(state, &out)?;
        commit::remember(state, &out)?;
    }
    out.clear_staging(state.as_ref().map(|s| s.manifest().state_id.as_str()))?;
    let options = InputOptions { spool: out.spool(), ..settings.input.clone() };
    let mut plan = Plan::new(settings, definitions, options)?;
    if let Some(finished) = already_committed(&plan, state.as_ref(), &out)? {
        return Ok(finished);
    }
    if let Some(state) = &state {
        know(&mut plan, state, settings)?;
    }
    out.check_free(&plan.run_id)?;
    let staged = stage(&disk, &plan, settings, state.as_ref(), &out, progress);
    let staged = staged.inspect_err(|_| out.discard(&plan.run_id))?;
    match state {
        Some(state) => commit_with_state(staged, &plan, state, &out, settings.hold),
        None => commit_stateless(staged, &plan, &out),
    }
}

fn open_state(disk: &Arc<dyn Disk>, settings: &RunSettings) -> Result<Option<State>> {
    let StateUse::Folder { path, create } = &settings.state else { return Ok(None) };
    if *create && !disk.exists(&path.join("manifest.json")) {
        return State::init(disk.clone(), path, settings.new_state_id).map(Some);
    }
    state_life::open_state(disk, path, settings.wait_lock).map(Some)
}

/// What the state has to say of a run before it begins.
fn know(plan: &mut Plan, state: &State, settings: &RunSettings) -> Result<()> {
    settings.guards.check_locked(state, plan)?;
    check_consumed(plan, state, settings.allow_consumed)?;
    guards::check_history(plan, state)?;
    plan.rules.history_floors = floors(plan, state);
    plan.rules.erased = state.tombstones();
    Ok(())
}

fn floors(plan: &Plan, state: &State) -> Vec<Option<i64>> {
    let kept = &state.manifest().campaigns;
    plan.rules.campaigns.loaded.iter().map(|c| kept.get(&c.id).and_then(|k| k.history_floor)).collect()
}

/// The same id with the same digest is done already; with another digest it is a mistake.
fn already_committed(plan: &Plan, state: Option<&State>, out: &OutFolder) -> Result<Option<Finished>> {
    let published = out.published(&plan.run_id);
    let in_state = state.and_then(|s| s.manifest().run(&plan.run_id));
    let known = match in_state {
        Some(record) => Some((record.config_digest.clone(), record.exit_code, PathBuf::from(&record.out))),
        None => out.manifest(&plan.run_id)?.map(|m| (m.config_digest.to_string(), m.exit_code, published)),
    };
    let Some((digest, exit_code, place)) = known else { return Ok(None) };
    if in_state.is_none() && state.is_some() {
        let summary = format!("`{}` holds a run of this id that this state knows nothing of", place.display());
        return Err(Error::new(Kind::Output, summary).hint("use another `--out`, or the state that it was run with"));
    }
    if state.is_some_and(|state| state.manifest().revocation(&plan.run_id).is_some()) {
        let summary = format!("run `{}` was revoked: its id is taken", plan.run_id);
        return Err(Error::new(Kind::Output, summary).hint("give another `--run-id`"));
    }
    if digest != plan.config_digest.to_string() {
        let summary = format!("run `{}` is committed already, with other inputs, campaigns or flags", plan.run_id);
        return Err(Error::new(Kind::Output, summary).hint("give another `--run-id`, or none"));
    }
    let outcome = RunOutcome::AlreadyCommitted { run_id: plan.run_id.clone() };
    Ok(Some(Finished { exit_code, published: Some(place), outcome }))
}

fn check_consumed(plan: &Plan, state: &State, allowed: bool) -> Result<()> {
    if allowed {
        return Ok(());
    }
    // An empty file holds nothing to consume, and every empty night is the same bytes.
    let consumed = plan.records.iter().filter(|input| input.bytes > 0).filter_map(|input| {
        let run = state.manifest().consumer_of(&input.digest.to_string())?;
        Some(crate::error::Fault::new(input.name.clone(), format!("was consumed by run `{}`", run.run_id)))
    });
    let faults: Vec<_> = consumed.collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Input, "this state has consumed some of the input already").with_faults(faults).hint(
        "leave these files out; to replay them on purpose give `--allow-consumed`: what was received stays received",
    ))
}

/// A run that is durable in staging and not committed.
struct Staged {
    manifest: RunManifest,
    summary: Summary,
    /// Its receipts, where there is a state.
    delta: Option<Delta>,
}

fn stage(
    disk: &Arc<dyn Disk>,
    plan: &Plan,
    settings: &RunSettings,
    state: Option<&State>,
    out: &OutFolder,
    progress: &dyn Progress,
) -> Result<Staged> {
    let staged = out.staged(&plan.run_id);
    let channels = plan.schemas.channels.iter();
    let channels = channels.map(|(name, schema)| ChannelSpec { name: name.clone(), schema: schema.clone() }).collect();
    let (decisions, dropped) = (plan.schemas.decisions.clone(), plan.schemas.dropped.clone());
    let mut folder = RunFolder::create(disk.clone(), staged.clone(), settings.delivery, channels, decisions, dropped)?;
    let delta = |state: &State| state.delta(&plan.run_id).hold_at_most(settings.memory / 4);
    let mut collected = state.map(|state| commit::Collected { delta: delta(state), plan });
    let kept = collected.as_mut().map(|collected| collected as &mut dyn ReceiptSink);
    let spill = SpillFile::new(disk.clone(), out.staging().to_owned());
    let memory = Memory::new(settings.memory, &spill);
    let executed = execute_plan(plan, state, &memory, kept, &mut folder, (progress, &settings.input.interrupt))?;
    let exit_code = judge(&**disk, &executed, settings, state)?;
    plan.inputs.check_unchanged()?;
    for campaign in &plan.rules.campaigns.loaded {
        let root = Path::new("campaigns").join(crate::delivery::path_segment(&campaign.id));
        for (name, text) in &campaign.files {
            folder.write_file(&root.join(name), text.as_bytes())?;
        }
    }
    let summary = summary(plan, settings, state, &executed, &memory, folder.seal()?);
    let text = format!("{:#}\n", summary.to_json());
    folder.write_file(Path::new("summary.json"), text.as_bytes())?;
    let files = folder.close()?;
    let manifest = RunManifest {
        format: RUN_FORMAT,
        written_by: format!("retrigger {}", env!("CARGO_PKG_VERSION")),
        run_id: plan.run_id.clone(),
        config_digest: plan.config_digest,
        flags: plan.flags.clone(),
        campaigns: plan.campaign_digests.clone(),
        as_of: format_micros(plan.rules.as_of),
        inputs: plan.records.clone(),
        ledger: executed.ledger,
        files,
        state_id: summary.state_id.clone(),
        generation: summary.generation,
        state_path: state.map(|state| path_of(&**disk, state)).transpose()?,
        exit_code,
    };
    commit::seal(&**disk, &staged, &manifest)?;
    Ok(Staged { manifest, summary, delta: collected.map(|collected| collected.delta) })
}

/// Where a state is, as `commit` and `discard` find it again.
fn path_of(disk: &dyn Disk, state: &State) -> Result<String> {
    let path = disk.canonicalize(state.dir()).at(Kind::State, "look at", state.dir())?;
    commit::path_text(&path)
}

fn execute_plan<S: DeliverySink>(
    plan: &Plan,
    state: Option<&State>,
    memory: &Memory<'_>,
    kept: Option<&mut dyn ReceiptSink>,
    sink: &mut S,
    (progress, interrupt): (&dyn Progress, &Interrupt),
) -> Result<Executed> {
    let known = state.map(State::receipts).transpose()?;
    let known = known.as_ref().map(|r| r as &dyn ReceiptSource);
    let (rules, schemas, source) = (&plan.rules, &plan.schemas, &plan.inputs);
    let executed = Execution { rules, schemas, source, known, memory, progress, interrupt }.run(kept, sink)?;
    if executed.ledger.balances() {
        return Ok(executed);
    }
    Err(Error::new(
        Kind::Internal,
        "the ledger does not balance: a trigger was lost or counted twice; nothing was committed",
    ))
}

/// The exit code of a run that may commit, or why it may not.
fn judge(disk: &dyn Disk, executed: &Executed, settings: &RunSettings, state: Option<&State>) -> Result<u8> {
    let total = &executed.ledger.total;
    settings.guards.check_triggers(total.triggers)?;
    if let Some(state) = state {
        settings.guards.check_change(disk, state, &executed.ledger)?;
    }
    match settings.max_bad {
        None => Ok(if total.bad() > 0 { 3 } else { 0 }),
        Some(most) if most.is_exceeded(total.bad(), total.triggers) => {
            let reasons = total.rejected.iter().chain(&total.failed);
            let reasons: Vec<String> = reasons.map(|(reason, count)| format!("{reason} {count}")).collect();
            let summary = format!(
                "{} of {} triggers are bad ({}), more than `--max-bad` allows; nothing was committed",
                total.bad(),
                total.triggers,
                reasons.join(", ")
            );
            Err(Error::new(Kind::TooManyBad, summary).hint("run without `--max-bad` to see them in `rejected.ndjson`"))
        }
        Some(_) => Ok(0),
    }
}

fn summary(
    plan: &Plan,
    settings: &RunSettings,
    state: Option<&State>,
    executed: &Executed,
    memory: &Memory<'_>,
    files: &[WrittenFile],
) -> Summary {
    let seconds = |(name, time): &(&'static str, Duration)| (*name, time.as_secs_f64());
    Summary {
        run_id: plan.run_id.clone(),
        committed: !settings.dry_run,
        clock: clock_code(settings.clock),
        as_of: format_micros(settings.as_of),
        state_id: state.map(|s| s.manifest().state_id.clone()),
        generation: state.map(|s| s.manifest().generation + u64::from(!settings.dry_run)),
        ledger: executed.ledger.clone(),
        batches: files.iter().filter(|f| matches!(f.kind, FileKind::Deliveries { .. })).count() as u64,
        bytes_read: plan.records.iter().map(|r| r.bytes).sum(),
        bytes_written: files.iter().map(|f| f.bytes).sum(),
        unknown_fields_ignored: executed.unknown_fields,
        seconds: executed.phases.iter().map(seconds).collect(),
        spilled_bytes: memory.spilled_bytes(),
        peak_rss_bytes: peak_rss_bytes(),
    }
}

/// Once the commit is attempted, what is staged stays: after an error only the manifest on disk says whether the run is
/// committed, and the next start acts on what it says.
fn commit_with_state(
    mut staged: Staged,
    plan: &Plan,
    mut state: State,
    out: &OutFolder,
    hold: bool,
) -> Result<Finished> {
    let delta = staged.delta.take().unwrap_or_else(|| state.delta(&plan.run_id));
    let generation = commit::stage_receipts(&state, plan, staged.manifest.exit_code, delta, out);
    let generation = generation.inspect_err(|_| out.discard(&plan.run_id))?;
    if hold {
        state.hold(generation, commit::publication(out, &plan.run_id, &staged.manifest)?)?;
        let outcome = RunOutcome::Held(Box::new(Summary { committed: false, ..staged.summary }));
        let published = Some(out.staged(&plan.run_id));
        return Ok(Finished { exit_code: staged.manifest.exit_code, published, outcome });
    }
    commit::commit(&mut state, generation, out, &plan.run_id, &staged.manifest).map_err(|error| {
        error.hint("run the same command again: it finishes what was committed, and decides nothing twice")
    })?;
    Ok(finished(out.published(&plan.run_id), staged.manifest.exit_code, staged.summary))
}

fn commit_stateless(staged: Staged, plan: &Plan, out: &OutFolder) -> Result<Finished> {
    let published = out.published(&plan.run_id);
    out.publish(&out.staged(&plan.run_id), &published).map_err(|error| {
        out.discard(&plan.run_id);
        error.hint("run the same command again: it finds the run where it is published, or makes it anew")
    })?;
    Ok(finished(published, staged.manifest.exit_code, staged.summary))
}

fn finished(published: PathBuf, exit_code: u8, summary: Summary) -> Finished {
    Finished { exit_code, published: Some(published), outcome: RunOutcome::Ran(Box::new(summary)) }
}

/// Decides and renders against what is there. OUT is only looked at, and no state is made: one that `--create-state` would
/// make is one in which nobody has received anything.
fn dry_run(
    disk: Arc<dyn Disk>,
    settings: &RunSettings,
    definitions: Definitions,
    progress: &dyn Progress,
) -> Result<Finished> {
    let out = OutFolder::look_at(disk.clone(), &settings.out)?;
    let state = match &settings.state {
        StateUse::Folder { path, create: true } if !disk.exists(&path.join("manifest.json")) => None,
        _ => open_state(&disk, settings)?,
    };
    let spool = spool()?;
    let options = InputOptions { spool: spool.path().to_owned(), ..settings.input.clone() };
    let mut plan = Plan::new(settings, definitions, options)?;
    if let Some(state) = &state {
        commit::check_fence(state, &out)?;
    }
    if let Some(finished) = already_committed(&plan, state.as_ref(), &out)? {
        return Ok(finished);
    }
    if let Some(state) = &state {
        know(&mut plan, state, settings)?;
    }
    let spill = SpillFile::new(disk.clone(), spool.path().to_owned());
    let memory = Memory::new(settings.memory, &spill);
    let watched = (progress, &settings.input.interrupt);
    let executed = execute_plan(&plan, state.as_ref(), &memory, None, &mut Discard, watched)?;
    let exit_code = judge(&*disk, &executed, settings, state.as_ref())?;
    let summary = summary(&plan, settings, state.as_ref(), &executed, &memory, &[]);
    Ok(Finished { exit_code, published: None, outcome: RunOutcome::Ran(Box::new(summary)) })
}

/// The sink of a dry run: renders everything, keeps nothing.
struct Discard;

impl DeliverySink for Discard {
    type Piece = ();
    type Encoded = ();

    fn cut(&mut self, _: Table, _: arrow_array::RecordBatch) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn cut_rest(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn encode(&self, (): ()) -> Result<()> {
        Ok(())
    }

    fn append(&mut self, (): ()) -> Result<()> {
        Ok(())
    }

    fn append_lines(&mut self, _: LinesFile, _: &[u8]) -> Result<()> {
        Ok(())
    }
}
