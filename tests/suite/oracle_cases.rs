//! Random histories for the oracle: campaigns, and runs of triggers over them. They print in few words, so that a shrunk
//! failure can be read.

use std::fmt;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

use crate::harness::{DAY, SECOND, Who};
use crate::oracle_model::{Arm, Camp, Channel, Flags, Line, Piece, Trig};

/// 2026-11-23T00:00:00Z: every instant is counted from here.
pub const START: i64 = 1_795_392_000 * SECOND;

pub const IDS: [&str; 3] = ["c0", "c1", "c2"];

/// When a trigger happened.
#[derive(Debug, Clone, Copy)]
pub enum When {
    Missing,
    /// After the start.
    At(i64),
    /// After the edge of the future.
    Edge(i64),
}

/// One line of input, before its run's as-of is known.
#[derive(Clone)]
pub enum Drawn {
    Bad(&'static str),
    Trigger { trigger: Trig, when: When },
}

impl Drawn {
    /// Makes it no repetition within a request.
    pub fn stand_alone(&mut self) {
        if let Drawn::Trigger { trigger, .. } = self {
            trigger.duplicate = false;
        }
    }
}

/// One run of a history.
#[derive(Clone)]
pub struct Step {
    /// Definitions that replace earlier ones before the run.
    pub edits: Vec<Camp>,
    pub flags: Flags,
    pub lines: Vec<Drawn>,
    /// Lines in a split.
    pub split: usize,
    pub record_only: bool,
}

#[derive(Clone)]
pub struct History {
    pub camps: Vec<Camp>,
    pub steps: Vec<Step>,
    pub stateless: bool,
}

impl Step {
    pub fn lines(&self) -> Vec<Line> {
        let line = |drawn: &Drawn| match drawn {
            Drawn::Bad(reason) => Line::Bad(reason),
            Drawn::Trigger { trigger, when } => {
                let at = match when {
                    When::Missing => None,
                    When::At(after) => Some(START + after),
                    When::Edge(after) => Some(self.flags.as_of + DAY + after),
                };
                Line::Trigger(Trig { at, ..trigger.clone() })
            }
        };
        self.lines.iter().map(line).collect()
    }
}

/// The definitions after a run's edits.
pub fn edit(camps: &mut [Camp], edits: &[Camp]) {
    for new in edits {
        camps.iter_mut().filter(|camp| camp.id == new.id).for_each(|camp| *camp = new.clone());
    }
}

/// A campaign as `campaign.json`.
pub fn definition(camp: &Camp) -> Value {
    let mut json = json!({"id": camp.id, "reeligibility": camp.rule, "control_percent": camp.control});
    let mut put = |key: &str, value: Value| json[key] = value;
    if camp.paused {
        put("status", "paused".into());
    }
    if camp.pick_last {
        put("pick", "last".into());
    }
    if camp.blank {
        put("on_missing", "blank".into());
    }
    if camp.broken {
        put("statsu", "active".into());
    }
    camp.max_age.iter().for_each(|age| put("max_age", (*age).into()));
    match camp.arms.as_slice() {
        [arm] if arm.name.is_none() && arm.channels.is_empty() => {}
        [arm] if arm.name.is_none() => put("messages", messages(arm)),
        arms => put("variants", arms.iter().map(variant).collect()),
    }
    json
}

fn variant(arm: &Arm) -> Value {
    json!({"name": arm.name, "percent": arm.percent, "messages": messages(arm)})
}

fn messages(arm: &Arm) -> Value {
    let field = |(name, pieces): &(&str, Vec<Piece>)| ((*name).to_owned(), json!(template(pieces)));
    let channel = |channel: &Channel| (channel.name.to_owned(), channel.fields.iter().map(field).collect());
    Value::Object(arm.channels.iter().map(channel).collect())
}

fn template(pieces: &[Piece]) -> String {
    let text = |piece: &Piece| match piece {
        Piece::Text(text) => (*text).to_owned(),
        Piece::Print(key) => format!("{{{{api_trigger_properties.{key}}}}}"),
        Piece::Number(key) => format!("{{{{number api_trigger_properties.{key}}}}}"),
        Piece::AbortIf(key) => {
            format!("{{{{#if api_trigger_properties.{key}}}}}{{{{abort_message \"no\"}}}}{{{{/if}}}}")
        }
    };
    pieces.iter().map(text).collect()
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        3 => select(&["hi ", "é"][..]).prop_map(Piece::Text),
        2 => select(&["a", "b"][..]).prop_map(Piece::Print),
        1 => select(&["a", "b"][..]).prop_map(Piece::AbortIf),
        1 => Just(Piece::Number("b")),
    ]
}

fn channels() -> impl Strategy<Value = Vec<Channel>> {
    let names = proptest::sample::subsequence(vec!["email", "sms", "push"], 1..=3).prop_shuffle();
    names.prop_flat_map(|names| {
        let fields = || (option::weighted(0.3, vec(piece(), 1..3)), vec(piece(), 1..4));
        let copies = vec(fields(), names.len());
        copies.prop_map(move |copies| {
            let channel = |(name, (title, body)): (&&'static str, (Option<Vec<Piece>>, Vec<Piece>))| {
                let title = title.map(|title| ("title", title));
                Channel { name, fields: title.into_iter().chain([("text", body)]).collect() }
            };
            names.iter().zip(copies).map(channel).collect()
        })
    })
}

fn arms(control: u8) -> impl Strategy<Value = Vec<Arm>> {
    let rest = 100 - control;
    let lone = move |channels| vec![Arm { name: None, percent: rest, channels }];
    let names = proptest::sample::subsequence(vec!["A", "B", "C"], 1..=3).prop_shuffle();
    let several = names.prop_flat_map(move |names| {
        let drawn = vec((0u8..4, channels()), names.len());
        drawn.prop_map(move |drawn| {
            let weights: u32 = drawn.iter().map(|(weight, _)| u32::from(*weight)).sum::<u32>().max(1);
            let share = |weight: u8| (u32::from(weight) * u32::from(rest) / weights) as u8;
            let arm = |(name, (weight, channels)): (&&'static str, (u8, Vec<Channel>))| Arm {
                name: Some(name),
                percent: share(weight),
                channels,
            };
            let mut arms: Vec<Arm> = names.iter().zip(drawn).map(arm).collect();
            let given: u8 = arms.iter().map(|arm| arm.percent).sum();
            arms[0].percent += rest - given;
            arms
        })
    });
    prop_oneof![1 => Just(lone(Vec::new())), 3 => channels().prop_map(lone), 4 => several]
}

prop_compose! {
    fn camp(id: &'static str, sane: bool)(control in select(&[0u8, 0, 0, 10, 50, 100][..]))(
        arms in arms(control),
        control in Just(control),
        broken in prop::bool::weighted(if sane { 0.0 } else { 0.05 }),
        paused in prop::bool::weighted(0.05),
        rule in select(&["never", "always", "0s", "1s", "3s", "10s", "1d"][..]),
        max_age in option::weighted(0.1, select(&["5s", "20s"][..])),
        pick_last in any::<bool>(),
        blank in prop::bool::weighted(0.3),
    ) -> Camp {
        Camp { id, broken, paused, rule, max_age, pick_last, control, blank, arms }
    }
}

/// A few people under several names. Two spellings of one address are one recipient.
fn who() -> impl Strategy<Value = Who> {
    let text = str::to_owned;
    select(vec![
        Who::External(text("ada")),
        Who::External(text("bob")),
        Who::External(text("zoë")),
        Who::Braze(text("ada")),
        Who::Email(text(" Eve@X.org")),
        Who::Email(text("eve@x.org")),
        Who::Alias { label: text("crm"), name: text("ada") },
    ])
}

fn properties() -> impl Strategy<Value = Map<String, Value>> {
    let value = || {
        let some = select(vec![json!(null), json!(""), json!("x"), json!(0), json!(3), json!(true)]);
        prop_oneof![1 => Just(None), 3 => some.prop_map(Some)]
    };
    (value(), value()).prop_map(|(a, b)| {
        let named = [("a", a), ("b", b)].into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        named.collect()
    })
}

fn when() -> impl Strategy<Value = When> {
    // Whole seconds with an odd microsecond here and there: on and beside the edges of windows.
    let near = (0i64..25, select(&[0i64, 0, 0, 0, -1, 1][..])).prop_map(|(s, jitter)| When::At(s * SECOND + jitter));
    prop_oneof![12 => near, 1 => Just(When::Missing), 1 => (-1i64..=1).prop_map(When::Edge)]
}

prop_compose! {
    fn trigger()(
        campaign in prop_oneof![40 => select(&IDS[..]), 1 => Just("nope")],
        who in who(),
        id in option::weighted(0.3, select(&["t1", "t2"][..])),
        properties in properties(),
        duplicate in prop::bool::weighted(0.03),
        when in when(),
    ) -> Drawn {
        Drawn::Trigger { trigger: Trig { campaign, who, at: None, id, properties, duplicate }, when }
    }
}

fn line() -> impl Strategy<Value = Drawn> {
    prop_oneof![30 => trigger(), 1 => select(&["bad_json", "no_recipient", "too_deep"][..]).prop_map(Drawn::Bad)]
}

prop_compose! {
    fn flags()(
        event in any::<bool>(),
        time_defaults in any::<bool>(),
        as_of in 10i64..40,
        max_age in option::weighted(0.1, 3i64..30),
        since in option::weighted(0.1, 0i64..15),
        until in option::weighted(0.1, 10i64..30),
        floor in option::weighted(0.05, -5i64..20),
        excluded in vec(who(), 0..=1),
        exclude in prop::bool::weighted(0.15),
        only in option::weighted(0.05, select(&IDS[..])),
    ) -> Flags {
        let after = |seconds: i64| START + seconds * SECOND;
        Flags {
            event,
            time_defaults,
            as_of: after(as_of),
            max_age: max_age.map(|age| age * SECOND),
            since: since.map(after),
            until: until.map(after),
            floor: floor.map(after),
            excluded: if exclude { excluded } else { Vec::new() },
            only,
        }
    }
}

/// Lines, some of which stand there again. What comes first in a tuple shrinks first: lines before flags before
/// definitions, so that a failure is soon short.
fn step(sane: bool) -> impl Strategy<Value = Step> {
    let repeated = vec((any::<Index>(), any::<Index>()), 0..5);
    let edits = IDS.map(|id| option::weighted(0.25, camp(id, sane)));
    (vec(line(), 0..28), repeated, flags(), edits, 1usize..12, prop::bool::weighted(0.1)).prop_map(
        |(mut lines, repeated, flags, edits, split, record_only)| {
            for (line, place) in repeated.iter().filter(|_| !lines.is_empty()).collect::<Vec<_>>() {
                let line = line.get(&lines).clone();
                lines.insert(place.index(lines.len() + 1), line);
            }
            let edits = edits.into_iter().flatten().collect();
            Step { edits, flags, lines, split, record_only }
        },
    )
}

/// One to four runs over three campaigns.
pub fn history() -> impl Strategy<Value = History> {
    let camps = IDS.map(|id| camp(id, false));
    (vec(step(false), 1..=4), camps, prop::bool::weighted(0.15)).prop_map(|(steps, camps, stateless)| History {
        camps: camps.into(),
        steps,
        stateless,
    })
}

/// A history whose definitions and flags stay as they are: what differs between runs is the triggers and as-of.
pub fn steady_history() -> impl Strategy<Value = History> {
    let camps = IDS.map(|id| camp(id, true));
    (vec(step(true), 1..=4), flags(), camps).prop_map(|(mut steps, flags, camps)| {
        for step in &mut steps {
            step.edits.clear();
            step.flags = Flags { as_of: step.flags.as_of, ..flags.clone() };
        }
        History { camps: camps.into(), steps, stateless: false }
    })
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.stateless { "stateless" } else { "with a state" })?;
        self.camps.iter().try_for_each(|camp| writeln!(f, "  {camp:?}"))?;
        self.steps.iter().try_for_each(|step| write!(f, "{step:?}"))
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = |at: i64| (at - START) as f64 / SECOND as f64;
        let flags = &self.flags;
        write!(f, "run on the {} clock as of {}s", if flags.event { "event" } else { "run" }, after(flags.as_of))?;
        let times = [("since", flags.since), ("until", flags.until), ("floor", flags.floor)];
        let times = times.into_iter().filter_map(|(name, at)| Some((name, at?)));
        times.into_iter().try_for_each(|(name, at)| write!(f, ", {name} {}s", after(at)))?;
        flags.max_age.iter().try_for_each(|age| write!(f, ", max age {}s", age / SECOND))?;
        flags.only.iter().try_for_each(|only| write!(f, ", only {only}"))?;
        flags.excluded.iter().try_for_each(|who| write!(f, ", excluding {who:?}"))?;
        let switches = [(flags.time_defaults, ", times default to as-of"), (self.record_only, ", recording only")];
        switches.iter().filter(|(on, _)| *on).try_for_each(|(_, name)| write!(f, "{name}"))?;
        writeln!(f, ", {} lines a split", self.split)?;
        self.edits.iter().try_for_each(|camp| writeln!(f, "  edited: {camp:?}"))?;
        self.lines.iter().enumerate().try_for_each(|(index, line)| writeln!(f, "  {}. {line:?}", index + 1))
    }
}

impl fmt::Debug for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Drawn::Trigger { trigger, when } = self else {
            let Drawn::Bad(reason) = self else { unreachable!() };
            return write!(f, "{reason}");
        };
        write!(f, "{} {:?} ", trigger.campaign, trigger.who)?;
        match when {
            When::Missing => write!(f, "at no time")?,
            When::At(after) => write!(f, "at {}s", *after as f64 / SECOND as f64)?,
            When::Edge(after) => write!(f, "at as-of + 24h + {after}us")?,
        }
        trigger.id.iter().try_for_each(|id| write!(f, " id {id}"))?;
        write!(f, " {}", Value::Object(trigger.properties.clone()))?;
        if trigger.duplicate { write!(f, " repeated in its request") } else { Ok(()) }
    }
}

impl fmt::Debug for Camp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.broken { "BROKEN " } else { "" }, definition(self))
    }
}
