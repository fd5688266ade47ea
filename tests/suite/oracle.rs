//! Decisions and messages against the naive reference, over random histories: in memory through the engine, and through
//! whole runs of files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use arrow_array::RecordBatch;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use retrigger::campaigns::{self, LoadOptions};
use retrigger::eligibility::Clock;
use retrigger::error::Result;
use retrigger::ids::KeyHash;
use retrigger::pipeline::{
    DeliverySink, LinesFile, Need, ReceiptSource, Row, Rules, Schemas, SplitLines, StoredOutcome, StoredReceipt, Table,
    TriggerSource, execute,
};
use retrigger::runs::RunSettings;
use retrigger::triggers::{Properties, Reason, Recipient, Rejection, Trigger};
use serde_json::{Value, json};

use crate::harness::{self, Ran, Record, Site, Who, attempt, records};
use crate::oracle_cases::{Drawn, History, Step, definition, edit, history, steady_history};
use crate::oracle_model::{Camp, Fact, Fate, Flags, Key, Line, Past, Trig, expect, identity, window};

fn config(cases: u32, max_shrink_iters: u32) -> Config {
    Config { cases, failure_persistence: None, max_shrink_iters, ..Config::default() }
}

fn recipient(who: &Who) -> Recipient<'_> {
    match who {
        Who::External(id) => Recipient::external(id.as_str()),
        Who::Braze(id) => Recipient::braze(id.as_str()),
        Who::Email(id) => Recipient::email(id.as_str()),
        Who::Alias { label, name } => Recipient::alias(name.as_str(), label.as_str()),
    }
}

/// Lines in memory as splits of a file. A pass over keys gets as little as a reader may give it.
struct Lines<'a> {
    lines: &'a [Line],
    split: usize,
}

impl TriggerSource for Lines<'_> {
    fn splits(&self) -> usize {
        self.lines.len().div_ceil(self.split)
    }

    fn split_bytes(&self, _: usize) -> u64 {
        1
    }

    fn file_of(&self, _: usize) -> usize {
        0
    }

    fn file_name(&self, _: usize) -> &str {
        "memory"
    }

    fn read(&self, split: usize, _: Need, visit: &mut dyn FnMut(Row<'_>) -> Result<()>) -> Result<SplitLines> {
        let lines = self.lines.chunks(self.split).nth(split).unwrap();
        for (number, line) in lines.iter().enumerate() {
            let parsed = match line {
                Line::Bad(reason) => {
                    Err(Rejection::new(Reason::from_code(reason).unwrap(), "", "a row", "something else"))
                }
                Line::Trigger(trigger) => Ok(as_trigger(trigger)),
            };
            visit(Row { line: number as u64, recipient_index: None, offset: None, raw: None, parsed })?;
        }
        Ok(SplitLines { lines: lines.len() as u64, unknown_fields: 0 })
    }
}

fn as_trigger(trigger: &Trig) -> Trigger<'_> {
    let text = || Properties::Text(Value::Object(trigger.properties.clone()).to_string().into());
    Trigger {
        campaign_id: trigger.campaign.into(),
        recipient: recipient(&trigger.who),
        triggered_at: trigger.at,
        trigger_id: trigger.id.map(Into::into),
        send_id: None,
        properties: text(),
        attributes: Properties::Empty,
        carried: Vec::new(),
        duplicate_recipient: trigger.duplicate,
    }
}

/// A receipt as a state would give it back.
#[derive(Clone)]
struct Stored {
    key: KeyHash,
    campaign: String,
    at: i64,
    outcome: StoredOutcome,
    variant: Option<String>,
    trigger_hash: Option<u64>,
}

/// Receipts in memory, three a piece, the newest first: no order may be relied on.
struct Log<'a>(&'a [Stored]);

impl ReceiptSource for Log<'_> {
    fn pieces(&self) -> usize {
        self.0.len().div_ceil(3)
    }

    fn read(&self, piece: usize, buckets: &[bool], visit: &mut dyn FnMut(StoredReceipt<'_>)) -> Result<()> {
        let pieces: Vec<_> = self.0.rchunks(3).collect();
        for stored in pieces[piece].iter().rev().filter(|stored| buckets[stored.key.bucket()]) {
            visit(StoredReceipt {
                key: stored.key,
                campaign_id: &stored.campaign,
                received_at: stored.at,
                outcome: stored.outcome,
                variant: stored.variant.as_deref(),
                trigger_hash: stored.trigger_hash,
            });
        }
        Ok(())
    }
}

/// Keeps every row.
#[derive(Default)]
struct Kept {
    tables: BTreeMap<Table, Vec<Record>>,
    rejected: Mutex<Vec<u8>>,
}

impl DeliverySink for Kept {
    type Piece = (Table, RecordBatch);
    type Encoded = (Table, RecordBatch);

    fn cut(&mut self, table: Table, rows: RecordBatch) -> Result<Vec<Self::Piece>> {
        Ok(vec![(table, rows)])
    }

    fn cut_rest(&mut self) -> Result<Vec<Self::Piece>> {
        Ok(Vec::new())
    }

    fn encode(&self, piece: Self::Piece) -> Result<Self::Encoded> {
        Ok(piece)
    }

    fn append(&mut self, (table, rows): Self::Encoded) -> Result<()> {
        self.tables.entry(table).or_default().extend(records(&rows));
        Ok(())
    }

    fn append_lines(&mut self, file: LinesFile, lines: &[u8]) -> Result<()> {
        if file == LinesFile::Rejected {
            self.rejected.lock().unwrap().extend_from_slice(lines);
        }
        Ok(())
    }
}

/// What a run said, in the order of its lines.
#[derive(Debug)]
struct Said {
    decisions: Vec<Record>,
    messages: Vec<Record>,
    dropped: Vec<Record>,
    /// Facts that the run added, where they can be seen.
    facts: Vec<(Key, Fact)>,
}

/// What stands for a trigger id in a fact of the engine, which keeps a hash of it. The ids themselves are compared by what
/// they refuse later.
const HASHED: &str = "hashed";

/// Runs the engine over a history's step.
fn run_in_memory(site: &Site, step: &Step, lines: &[Line], log: Option<&mut Vec<Stored>>) -> Said {
    let flags = &step.flags;
    let options = LoadOptions { only: flags.only.iter().map(|id| (*id).to_owned()).collect(), skip_broken: true };
    let campaigns = campaigns::load(&site.path("campaigns"), &options).unwrap_or_else(|error| panic!("{error}"));
    let rules = Rules {
        numbers: Rules::numbers_of(&campaigns),
        erased: Default::default(),
        history_floors: vec![flags.floor; campaigns.loaded.len()],
        campaigns,
        clock: if flags.event { Clock::Event } else { Clock::Run },
        as_of: flags.as_of,
        max_age_micros: flags.max_age,
        since: flags.since,
        until: flags.until,
        default_time_is_as_of: flags.time_defaults,
        excluded: flags.excluded.iter().map(|who| recipient(who).key_hash()).collect(),
        carry: Vec::new(),
        record_only: step.record_only,
    };
    let schemas = Schemas::new(&rules).unwrap();
    let source = Lines { lines, split: step.split };
    let mut sink = Kept::default();
    let known = log.as_ref().map(|log| (**log).clone());
    let known = known.as_deref().map(Log);
    let receipts = known.as_ref().map(|log| log as &dyn ReceiptSource);
    let executed = execute(&rules, &schemas, &source, receipts, &mut sink, &()).unwrap_or_else(|e| panic!("{e}"));
    assert!(executed.ledger.balances(), "{:?}", executed.ledger);
    assert_eq!(executed.ledger.total.triggers, lines.len() as u64);
    let decisions = sink.tables.remove(&Table::Decisions).unwrap_or_default();
    let dropped = sink.tables.remove(&Table::Dropped).unwrap_or_default();
    let mut facts = Vec::new();
    for receipt in &executed.receipts {
        let campaign = &rules.campaigns.loaded[usize::from(receipt.campaign)];
        let variant = receipt.variant.and_then(|variant| campaign.variants[usize::from(variant)].name.clone());
        let sent = receipt.outcome == StoredOutcome::Sent;
        let received = sent.then(|| variant.as_deref().map(static_name));
        let key = (static_name(&campaign.id), receipt.kind.code(), receipt.recipient.clone());
        facts.push((key, Fact { at: receipt.received_at, received, id: receipt.trigger_hash.map(|_| HASHED) }));
    }
    if let Some(log) = log {
        log.extend(executed.receipts.iter().map(|receipt| {
            let campaign = &rules.campaigns.loaded[usize::from(receipt.campaign)];
            Stored {
                key: receipt.key,
                campaign: campaign.id.clone(),
                at: receipt.received_at,
                outcome: receipt.outcome,
                variant: receipt.variant.and_then(|variant| campaign.variants[usize::from(variant)].name.clone()),
                trigger_hash: receipt.trigger_hash,
            }
        }));
    }
    Said { decisions, messages: sink.tables.into_values().flatten().collect(), dropped, facts }
}

fn static_name(name: &str) -> &'static str {
    ["A", "B", "C", "c0", "c1", "c2"].into_iter().find(|known| *known == name).unwrap()
}

/// The line that a row's source names, from 0.
fn line_of(record: &Record) -> usize {
    record["source"].as_deref().unwrap().rsplit(':').next().unwrap().parse::<usize>().unwrap() - 1
}

fn number(text: &Option<String>) -> Option<i64> {
    text.as_deref().map(|text| text.parse().unwrap())
}

/// Compares what a run said with what it should have said, line by line.
fn compare(said: &Said, expected: &[Fate], record_only: bool) -> Result<(), TestCaseError> {
    prop_assert_eq!(said.decisions.len(), expected.len());
    let mut ids = BTreeSet::new();
    for (index, (decision, fate)) in said.decisions.iter().zip(expected).enumerate() {
        let place = format!("line {}", index + 1);
        let cell = |name: &str| decision[name].as_deref();
        let found = (cell("outcome").unwrap(), cell("reason"), cell("variant"));
        prop_assert_eq!(found, (fate.outcome, fate.reason, fate.variant), "{}", &place);
        let found = (number(&decision["blocked_by"]), number(&decision["eligible_at"]));
        prop_assert_eq!(found, (fate.blocked_by, fate.eligible_at), "{}: blocked by, eligible at", &place);
        let (mut messages, mut dropped) = (BTreeMap::new(), BTreeMap::new());
        for (channel, message) in &fate.channels {
            match message {
                Ok(fields) => drop(messages.insert(*channel, fields.clone())),
                Err(reason) => drop(dropped.insert(*channel, *reason)),
            }
        }
        let decided = cell("dispatch_ids").unwrap_or_default().split(',').filter(|id| !id.is_empty());
        let decided: Vec<String> = decided.map(str::to_owned).collect();
        prop_assert_eq!(decided.len(), messages.len(), "{}: dispatch ids", &place);
        for id in decided {
            prop_assert!(ids.insert(id), "{}: a dispatch id stands twice", &place);
        }
        let here = |record: &&Record| line_of(record) == index;
        let found: BTreeMap<_, _> = said
            .dropped
            .iter()
            .filter(here)
            .map(|d| (d["channel"].as_deref().unwrap(), d["reason"].as_deref().unwrap()))
            .collect();
        prop_assert_eq!(found, dropped, "{}: dropped messages", &place);
        let rows: Vec<_> = said.messages.iter().filter(here).collect();
        prop_assert_eq!(rows.len(), if record_only { 0 } else { messages.len() }, "{}: messages", &place);
        for row in rows {
            let channel = row["channel"].as_deref().unwrap();
            prop_assert_eq!(row["variant"].as_deref(), fate.variant);
            let fields: BTreeMap<_, _> = ["title", "text", "properties"]
                .into_iter()
                .filter_map(|name| Some((name, row.get(name)?.clone()?)))
                .collect();
            let expected: BTreeMap<_, _> = messages[channel].iter().cloned().collect();
            prop_assert_eq!(fields, expected, "{}: {}", &place, channel);
        }
    }
    Ok(())
}

/// Facts by key, sorted, as the engine would say them.
fn facts_of(past: &Past) -> Vec<(Key, Fact)> {
    let each = past.iter().flat_map(|(key, facts)| {
        facts.iter().map(move |fact| (key.clone(), Fact { id: fact.id.map(|_| HASHED), ..fact.clone() }))
    });
    let mut facts: Vec<_> = each.collect();
    facts.sort();
    facts
}

fn define(site: &Site, camps: &[Camp]) {
    camps.iter().for_each(|camp| site.campaign(&definition(camp)));
}

/// Plays a history through `run` and compares every step; `facts_seen` where the receipts can be compared too.
fn play(
    history: &History,
    facts_seen: bool,
    mut run: impl FnMut(&Site, &Step, &[Line]) -> Said,
) -> Result<(), TestCaseError> {
    let site = Site::new();
    let mut camps = history.camps.clone();
    let mut past = Past::new();
    let mut facts = Vec::new();
    for (number, step) in history.steps.iter().enumerate() {
        edit(&mut camps, &step.edits);
        define(&site, &camps);
        if history.stateless {
            past.clear();
        }
        let lines = step.lines();
        let expected = expect(&camps, &step.flags, &mut past, &lines);
        let said = run(&site, step, &lines);
        let compared = compare(&said, &expected, step.record_only);
        compared.map_err(|error| TestCaseError::fail(format!("run {}, {error}", number + 1)))?;
        facts.extend(said.facts);
        if facts_seen {
            facts.sort();
            prop_assert_eq!(&facts, &facts_of(&past), "run {}: receipts and enrolments", number + 1);
        }
    }
    Ok(())
}

/// Whether a run of a key keeps every receipt that it adds at its distance from every other.
fn check_spacing(before: &[(Key, Fact)], added: &[(Key, Fact)], camps: &[Camp]) -> Result<(), TestCaseError> {
    for (index, (key, fact)) in added.iter().enumerate().filter(|(_, (_, fact))| fact.received.is_some()) {
        let rule = camps.iter().find(|camp| camp.id == key.0).unwrap().rule;
        let others = before.iter().chain(added[..index].iter()).filter(|(k, f)| k == key && f.received.is_some());
        for (_, other) in others {
            let close = window(rule).is_none_or(|window| (other.at - fact.at).abs() < window);
            prop_assert!(!close, "{key:?} was received at {} and at {}, and the rule is {rule}", other.at, fact.at);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(1_500, 5_000))]

    #[test]
    fn the_engine_decides_and_renders_as_the_naive_reference(history in history()) {
        let mut log = Vec::new();
        play(&history, !history.stateless, |site, step, lines| {
            run_in_memory(site, step, lines, (!history.stateless).then_some(&mut log))
        })?;
    }
}

proptest! {
    #![proptest_config(config(400, 5_000))]

    #[test]
    fn no_receipt_that_a_run_decides_is_closer_than_the_window_to_another(history in history()) {
        let site = Site::new();
        let mut camps = history.camps.clone();
        let (mut log, mut facts) = (Vec::new(), Vec::new());
        for step in &history.steps {
            edit(&mut camps, &step.edits);
            define(&site, &camps);
            let said = run_in_memory(&site, step, &step.lines(), Some(&mut log));
            check_spacing(&facts, &said.facts, &camps)?;
            facts.extend(said.facts);
        }
    }

    /// Invariant 4, second half: with one as-of, and nobody's later trigger in an earlier run.
    #[test]
    fn on_the_event_clock_runs_one_after_the_other_equal_one_run_over_all(history in steady_history()) {
        let site = Site::new();
        define(&site, &history.camps);
        let flags = Flags { event: true, ..history.steps[0].flags.clone() };
        let whole = Step { flags, ..history.steps[0].clone() };
        let mut lines: Vec<Line> = history.steps.iter().flat_map(|step| step.lines()).collect();
        // A trigger without a time happens at as-of; the sort is stable, so that neighbours in time keep their order.
        lines.sort_by_key(|line| match line {
            Line::Bad(_) => i64::MIN,
            Line::Trigger(trigger) => trigger.at.unwrap_or(whole.flags.as_of),
        });
        let once = run_in_memory(&site, &whole, &lines, Some(&mut Vec::new()));
        let mut log = Vec::new();
        let mut apart = Vec::new();
        let size = lines.len().div_ceil(history.steps.len()).max(1);
        for part in lines.chunks(size) {
            apart.extend(run_in_memory(&site, &whole, part, Some(&mut log)).decisions);
        }
        // Where equal triggers without an id fall into two runs, both begin to count at 0: their dispatch ids may be equal.
        let hidden = ["source", "dispatch_ids"];
        prop_assert_eq!(harness::without(&apart, &hidden), harness::without(&once.decisions, &hidden));
    }
}

/// Runs a step with files: flat NDJSON, a state folder, an exclude table.
fn run_with_files(site: &Site, step: &Step, lines: &[Line], number: usize, stateless: bool) -> Said {
    let text = |line: &Line| match line {
        Line::Bad("no_recipient") => "{\"campaign_id\":\"c0\"}\n".to_owned(),
        Line::Bad("too_deep") => format!(
            "{{\"campaign_id\":\"c0\",\"email\":\"a\",\"trigger_properties\":{{\"a\":{}1{}}}}}\n",
            "[".repeat(70),
            "]".repeat(70)
        ),
        Line::Bad(_) => "{\"campaign_id\":\n".to_owned(),
        Line::Trigger(trigger) => harness::ndjson(&[harness::Row {
            campaign: trigger.campaign.to_owned(),
            who: trigger.who.clone(),
            at: trigger.at,
            id: trigger.id.map(str::to_owned),
            send_id: None,
            properties: trigger.properties.clone(),
        }]),
    };
    let content: String = lines.iter().map(text).collect();
    let input = site.write(&format!("in/run-{number}.ndjson"), content);
    let flags = &step.flags;
    let mut settings = site.settings(&[input]);
    settings.input.split_bytes = step.split as u64 * 60;
    settings.load = LoadOptions { only: flags.only.iter().map(|id| (*id).to_owned()).collect(), skip_broken: true };
    let exclude = |who: &Who| match who {
        Who::Alias { label, name } => json!({"alias_name": name, "alias_label": label}),
        Who::External(id) => json!({"external_user_id": id}),
        Who::Braze(id) => json!({"braze_id": id}),
        Who::Email(id) => json!({"email": id}),
    };
    let table = flags
        .excluded
        .first()
        .map(|who| site.write(&format!("exclude-{number}.ndjson"), format!("{}\n", exclude(who))));
    let settings = RunSettings {
        clock: if flags.event { Clock::Event } else { Clock::Run },
        as_of: flags.as_of,
        max_age_micros: flags.max_age,
        since: flags.since,
        until: flags.until,
        default_time_is_as_of: flags.time_defaults,
        exclude: table.map(Into::into),
        record_only: step.record_only,
        state: if stateless { settings.state.clone() } else { site.state("state") },
        run_id: Some(format!("run-{number}")),
        allow_consumed: true,
        ..settings
    };
    let Ran { decisions, messages, dropped, .. } = attempt(&settings).unwrap_or_else(|error| panic!("{error}"));
    Said { decisions, messages, dropped, facts: Vec::new() }
}

proptest! {
    #![proptest_config(config(60, 300))]

    #[test]
    fn whole_runs_of_files_decide_and_render_as_the_naive_reference(mut history in history()) {
        for step in &mut history.steps {
            // Flat rows cannot say that a request repeats a recipient, and no flag sets the floor of a state.
            step.flags.floor = None;
            step.lines.iter_mut().for_each(Drawn::stand_alone);
        }
        let mut number = 0;
        play(&history, false, |site, step, lines| {
            number += 1;
            run_with_files(site, step, lines, number, history.stateless)
        })?;
    }
}

/// Reference 6.3: whoever has received a campaign never enters control, even where the receipt is earlier than an enrolment.
#[test]
fn a_receipt_beats_an_enrolment_whatever_their_order() {
    let site = Site::new();
    let trigger = |time: &str, name: &str| {
        site.write(&format!("in/{name}.ndjson"), harness::ndjson(&[harness::Row::new("ada", "c", time)]))
    };
    let run = |control: u8, time: &str| {
        let arm = json!({"name": "A", "percent": 100 - control, "messages": {"sms": {"text": "hi"}}});
        site.campaign(&json!({"id": "c", "reeligibility": "always", "control_percent": control, "variants": [arm]}));
        let settings = site.settings(&[trigger(time, &format!("{control}-{time}"))]);
        let ran = harness::commit(&RunSettings { clock: Clock::Event, state: site.state("state"), ..settings });
        ran.fates()[0].to_owned()
    };
    let fates = [run(100, "2026-11-10"), run(0, "2026-11-05"), run(100, "2026-11-12")];
    assert_eq!(fates, ["control", "sent", "sent"]);
}

/// What the oracle never meets it cannot judge.
#[test]
fn random_histories_meet_every_outcome_and_reason_many_times() {
    let mut runner = TestRunner::deterministic();
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..300 {
        let history = history().new_tree(&mut runner).unwrap().current();
        let (mut camps, mut past) = (history.camps.clone(), Past::new());
        for step in &history.steps {
            edit(&mut camps, &step.edits);
            for fate in expect(&camps, &step.flags, &mut past, &step.lines()) {
                *met.entry(fate.reason.unwrap_or(fate.outcome)).or_default() += 1;
                let partly = fate.outcome == "sent" && fate.channels.iter().any(|(_, message)| message.is_err());
                *met.entry("sent in some channels").or_default() += usize::from(partly);
            }
        }
    }
    let reasons = [
        "sent",
        "sent in some channels",
        "control",
        "out_of_scope",
        "duplicate_recipient",
        "paused",
        "excluded",
        "too_late",
        "history_expired",
        "duplicate_trigger",
        "already_received",
        "within_window",
        "aborted",
        "missing_value",
        "render_error",
        "bad_json",
        "no_recipient",
        "too_deep",
        "missing_field",
        "in_future",
        "unknown_campaign",
        "campaign_broken",
    ];
    for reason in reasons {
        assert!(met.get(reason).is_some_and(|times| *times >= 20), "{reason}: {met:?}");
    }
}

#[test]
fn the_reference_knows_one_recipient_by_two_spellings() {
    assert_eq!(identity(&Who::Email(" Eve@X.org".into())), identity(&Who::Email("eve@x.org".into())));
}
