//! `simulate`: campaigns, triggers and what a state knew, given to the engine that tries rules. A state is only read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::check::spool;
use super::exclude;
use super::plan::check_attributes;
use super::spill::SpillFile;
use super::state_life::open_state;
use crate::campaigns::{self, Campaign, Campaigns, LoadOptions};
use crate::eligibility::{Clock, Reeligibility};
use crate::error::{Error, Kind, Result, nearest};
use crate::input::{InputOptions, Inputs};
use crate::pipeline::{Execution, Memory, Progress, ReceiptSource, Rules, Schemas, StoredReceipt};
use crate::simulate::{self, Reading, Simulation, Timing, WindowRule};
use crate::state::{Receipts, State};
use crate::storage::Disk;
use crate::triggers::Micros;

/// The name of the rules as they are.
const TODAY: &str = "today";
/// The name of the other campaigns' rules.
const AGAINST: &str = "against";

/// What to simulate.
#[derive(Debug, Clone)]
pub struct SimulateSettings {
    /// Folder of campaign folders.
    pub campaigns: PathBuf,
    /// Which campaigns, here and in `against`.
    pub load: LoadOptions,
    /// Other campaigns to compare with.
    pub against: Option<PathBuf>,
    /// Windows to try, by name.
    pub sweep: Vec<(String, Reeligibility)>,
    /// Campaigns that the windows are tried on; all where empty.
    pub sweep_campaigns: Vec<String>,
    /// Trigger files.
    pub inputs: Vec<String>,
    /// How they are read.
    pub input: InputOptions,
    /// A state, and the instant after which its receipts are ignored.
    pub state: Option<(PathBuf, Micros)>,
    /// When receipts happen; of no meaning with `nights`.
    pub clock: Clock,
    /// The instant of the run, and the limit of the future.
    pub as_of: Micros,
    /// The instants of nightly runs to replay, ascending, the last one more than a day after `as_of`.
    pub nights: Option<Vec<Micros>>,
    /// Triggers older than this are too late.
    pub max_age_micros: Option<Micros>,
    /// Triggers before this are out of scope.
    pub since: Option<Micros>,
    /// Triggers at or after this are out of scope.
    pub until: Option<Micros>,
    /// Triggers without a time happen at as-of.
    pub default_time_is_as_of: bool,
    /// A table of recipients who get nothing.
    pub exclude: Option<PathBuf>,
    /// Bytes of memory to take, at least [`Memory::LEAST`].
    pub memory: u64,
}

/// Simulates: the rules as they are, every window of the sweep, and the other campaigns, in this order.
///
/// # Errors
/// Faulty campaigns (kind `Definition`), unreadable input (`Input`), a damaged or locked state (`State`, `Busy`).
pub fn simulate(disk: &Arc<dyn Disk>, settings: &SimulateSettings, progress: &dyn Progress) -> Result<Simulation> {
    let campaigns = campaigns::load(&settings.campaigns, &settings.load)?;
    let against = settings.against.as_ref().map(|folder| campaigns::load(folder, &settings.load)).transpose()?;
    let rules = window_rules(settings, &campaigns)?;
    let order: Vec<String> = rules.iter().map(|rule| rule.name.clone()).collect();
    let state = settings.state.as_ref().map(|(path, _)| open_state(disk, path, Duration::ZERO)).transpose()?;
    let mut passes = Vec::new();
    for rules in by_keys_pass(rules, state.as_ref()) {
        passes.push(Pass::new(settings, campaigns.clone(), rules, state.as_ref())?);
    }
    if let Some(campaigns) = against {
        let rule = as_they_are(&campaigns, AGAINST);
        passes.push(Pass::new(settings, campaigns, vec![rule], state.as_ref())?);
    }
    let spool = spool()?;
    let options = InputOptions { spool: spool.path().to_owned(), ..settings.input.clone() };
    let inputs = Inputs::open(&settings.inputs, options)?;
    passes.iter().try_for_each(|pass| check_attributes(&pass.rules.campaigns, &inputs))?;
    let spill = SpillFile::new(disk.clone(), spool.path().to_owned());
    let memory = Memory::new(settings.memory, &spill);
    let known = KnownThen::of(settings, state.as_ref())?;
    let around = Around { inputs: &inputs, memory: &memory, known: known.as_ref(), settings, progress };
    let readings: Vec<Reading<'_>> = passes.iter().map(|pass| pass.reading(&around)).collect();
    let timing = settings.nights.clone().map_or(Timing::AtOnce, Timing::Nights);
    let mut simulation = simulate::simulate(&readings, &timing)?;
    inputs.check_unchanged()?;
    // Passes may have torn a sweep apart; the other campaigns stay last.
    simulation.rules.sort_by_key(|rule| order.iter().position(|name| *name == rule.name).unwrap_or(order.len()));
    Ok(simulation)
}

/// The rules as they are, and with each window of the sweep.
fn window_rules(settings: &SimulateSettings, campaigns: &Campaigns) -> Result<Vec<WindowRule>> {
    let ids = || campaigns.loaded.iter().map(|campaign| campaign.id.as_str());
    let swept = &settings.sweep_campaigns;
    if let Some(unknown) = swept.iter().find(|id| ids().all(|known| known != id.as_str())) {
        let error = Error::new(Kind::Definition, format!("`--campaign {unknown}`: no campaign has this id"));
        return Err(match nearest(unknown, ids()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        });
    }
    let today = as_they_are(campaigns, TODAY);
    let tried = settings.sweep.iter().map(|(name, window)| {
        let windows = ids().zip(&today.reeligibility).map(|(id, now)| {
            let is_swept = swept.is_empty() || swept.iter().any(|swept| swept == id);
            if is_swept { *window } else { *now }
        });
        WindowRule { name: name.clone(), reeligibility: windows.collect() }
    });
    let tried: Vec<WindowRule> = tried.collect();
    Ok([vec![today], tried].concat())
}

fn as_they_are(campaigns: &Campaigns, name: &str) -> WindowRule {
    let reeligibility = campaigns.loaded.iter().map(|campaign| campaign.reeligibility).collect();
    WindowRule { name: name.to_owned(), reeligibility }
}

/// Rules that can share a pass over the keys, the first one in the first group. What is left of erased recipients is looked at
/// while keys are read, and counts for campaigns that are `never`: rules that differ in these cannot share one.
fn by_keys_pass(rules: Vec<WindowRule>, state: Option<&State>) -> Vec<Vec<WindowRule>> {
    if state.is_none_or(|state| state.tombstones().is_empty()) {
        return vec![rules];
    }
    let nevers = |rule: &WindowRule| -> Vec<bool> {
        rule.reeligibility.iter().map(|rule| *rule == Reeligibility::Never).collect()
    };
    let mut groups: Vec<Vec<WindowRule>> = Vec::new();
    for rule in rules {
        match groups.iter_mut().find(|group| nevers(&group[0]) == nevers(&rule)) {
            Some(group) => group.push(rule),
            None => groups.push(vec![rule]),
        }
    }
    groups
}

/// One pass over the input, before the input is opened.
struct Pass {
    rules: Rules,
    schemas: Schemas,
    history_floors: Vec<Option<Micros>>,
    max_ages: Vec<Option<Micros>>,
    window_rules: Vec<WindowRule>,
}

/// What every pass works with.
struct Around<'a> {
    inputs: &'a Inputs,
    memory: &'a Memory<'a>,
    known: Option<&'a KnownThen<'a>>,
    settings: &'a SimulateSettings,
    progress: &'a dyn Progress,
}

impl Pass {
    fn new(
        settings: &SimulateSettings,
        mut campaigns: Campaigns,
        window_rules: Vec<WindowRule>,
        state: Option<&State>,
    ) -> Result<Pass> {
        for (campaign, reeligibility) in campaigns.loaded.iter_mut().zip(&window_rules[0].reeligibility) {
            campaign.reeligibility = *reeligibility;
        }
        let mut max_ages = vec![None; campaigns.loaded.len()];
        if settings.nights.is_some() {
            for (limit, campaign) in max_ages.iter_mut().zip(&mut campaigns.loaded) {
                *limit = [settings.max_age_micros, campaign.max_age_micros.take()].into_iter().flatten().min();
            }
        }
        let excluded = settings.exclude.as_deref().map(exclude::read).transpose()?;
        let history_floors: Vec<Option<Micros>> = campaigns.loaded.iter().map(|c| floor(state, &c.id)).collect();
        let erased = state.map(State::tombstones).unwrap_or_default();
        let known_while_reading = |(floor, campaign): (&Option<Micros>, &Campaign)| {
            // Ahead of what is left of erased recipients, as in a run; the rest depends on the window.
            floor.filter(|_| !erased.is_empty() && campaign.reeligibility == Reeligibility::Never)
        };
        let rules = Rules {
            max_age_micros: settings.max_age_micros.filter(|_| settings.nights.is_none()),
            since: settings.since,
            until: settings.until,
            default_time_is_as_of: settings.default_time_is_as_of,
            excluded: excluded.map(|(keys, _)| keys).unwrap_or_default(),
            history_floors: history_floors.iter().zip(&campaigns.loaded).map(known_while_reading).collect(),
            erased,
            carry: settings.input.carry.clone(),
            // A night needs the time of a trigger, as the event clock does.
            ..Rules::new(campaigns, settings.nights.as_ref().map_or(settings.clock, |_| Clock::Event), settings.as_of)
        };
        let schemas = Schemas::new(&rules)?;
        Ok(Pass { rules, schemas, history_floors, max_ages, window_rules })
    }

    fn reading<'a>(&'a self, around: &Around<'a>) -> Reading<'a> {
        let execution = Execution {
            rules: &self.rules,
            schemas: &self.schemas,
            source: around.inputs,
            known: around.known.map(|known| known as &dyn ReceiptSource),
            memory: around.memory,
            progress: around.progress,
            interrupt: &around.settings.input.interrupt,
        };
        Reading {
            execution,
            history_floors: self.history_floors.clone(),
            max_ages: self.max_ages.clone(),
            rules: self.window_rules.clone(),
        }
    }
}

fn floor(state: Option<&State>, campaign_id: &str) -> Option<Micros> {
    state?.manifest().campaigns.get(campaign_id)?.history_floor
}

/// The receipts of a state as they were at an instant.
struct KnownThen<'a> {
    receipts: Receipts<'a>,
    as_of: Micros,
}

impl<'a> KnownThen<'a> {
    fn of(settings: &SimulateSettings, state: Option<&'a State>) -> Result<Option<KnownThen<'a>>> {
        let (Some(state), Some((_, as_of))) = (state, &settings.state) else { return Ok(None) };
        Ok(Some(KnownThen { receipts: state.receipts()?, as_of: *as_of }))
    }
}

impl ReceiptSource for KnownThen<'_> {
    fn pieces(&self) -> usize {
        self.receipts.pieces()
    }

    fn read(&self, piece: usize, buckets: &[bool], visit: &mut dyn FnMut(StoredReceipt<'_>)) -> Result<()> {
        self.receipts.read(piece, buckets, &mut |receipt| {
            if receipt.received_at <= self.as_of {
                visit(receipt);
            }
        })
    }
}
