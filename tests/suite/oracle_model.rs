//! The naive reference (design invariant 5): one trigger after another, linear scans, maps of facts. It shares no code
//! with the crate; where the design leaves something to the reference, the section is named.

use std::collections::HashMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::harness::{SECOND, Who};

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    Text(&'static str),
    /// `{{api_trigger_properties.KEY}}`
    Print(&'static str),
    /// `{{number api_trigger_properties.KEY}}`
    Number(&'static str),
    /// `{{#if api_trigger_properties.KEY}}{{abort_message "no"}}{{/if}}`
    AbortIf(&'static str),
}

/// A channel and its fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    pub name: &'static str,
    pub fields: Vec<(&'static str, Vec<Piece>)>,
}

/// A variant; a campaign without variants has one without a name, a decide-only campaign one without channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    pub name: Option<&'static str>,
    pub percent: u8,
    pub channels: Vec<Channel>,
}

#[derive(Clone, PartialEq)]
pub struct Camp {
    pub id: &'static str,
    pub broken: bool,
    pub paused: bool,
    pub rule: &'static str,
    pub max_age: Option<&'static str>,
    pub pick_last: bool,
    pub control: u8,
    pub blank: bool,
    pub arms: Vec<Arm>,
}

#[derive(Clone)]
pub enum Line {
    /// A row that cannot be read, with its reason.
    Bad(&'static str),
    Trigger(Trig),
}

#[derive(Clone)]
pub struct Trig {
    pub campaign: &'static str,
    pub who: Who,
    pub at: Option<i64>,
    pub id: Option<&'static str>,
    pub properties: Map<String, Value>,
    pub duplicate: bool,
}

/// The flags of a run.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    pub event: bool,
    pub time_defaults: bool,
    pub as_of: i64,
    pub max_age: Option<i64>,
    pub since: Option<i64>,
    pub until: Option<i64>,
    pub floor: Option<i64>,
    pub excluded: Vec<Who>,
    pub only: Option<&'static str>,
}

/// Campaign, kind and name of a recipient.
pub type Key = (&'static str, &'static str, String);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    pub at: i64,
    /// The variant received; `None` is an enrolment in control.
    pub received: Option<Option<&'static str>>,
    pub id: Option<&'static str>,
}

pub type Past = HashMap<Key, Vec<Fact>>;

/// What becomes of a trigger.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fate {
    pub outcome: &'static str,
    pub reason: Option<&'static str>,
    pub variant: Option<&'static str>,
    /// The receipt at fault.
    pub blocked_by: Option<i64>,
    pub eligible_at: Option<i64>,
    /// Channel, and its fields or why there are none.
    pub channels: Vec<(&'static str, Result<Vec<(&'static str, String)>, &'static str>)>,
}

impl Fate {
    fn of(outcome: &'static str, reason: &'static str) -> Fate {
        Fate { outcome, reason: Some(reason), ..Fate::default() }
    }
}

/// Decides all triggers of a run and adds to the past what was received and who was enrolled.
pub fn expect(camps: &[Camp], flags: &Flags, past: &mut Past, lines: &[Line]) -> Vec<Fate> {
    let mut fates: Vec<Option<Fate>> = Vec::new();
    let mut open: Vec<(Key, i64, usize)> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        match line {
            Line::Bad(reason) => fates.push(Some(Fate::of("rejected", reason))),
            Line::Trigger(trigger) => match settle(camps, flags, trigger) {
                Err(fate) => fates.push(Some(fate)),
                Ok(at) => {
                    fates.push(None);
                    let (kind, name) = identity(&trigger.who);
                    open.push(((trigger.campaign, kind, name), at, index));
                }
            },
        }
    }
    open.sort();
    for group in open.chunk_by(|a, b| a.0 == b.0) {
        let camp = camps.iter().find(|camp| camp.id == group[0].0.0).unwrap();
        let facts = past.entry(group[0].0.clone()).or_default();
        let trigger = |index: usize| match &lines[index] {
            Line::Trigger(trigger) => trigger,
            Line::Bad(_) => unreachable!(),
        };
        let assigned = assigned(camp, facts, &trigger(group[0].2).who);
        let mut order: Vec<_> = group.iter().collect();
        if !flags.event && camp.pick_last && assigned.is_some() {
            order.reverse();
        }
        for (_, at, index) in order {
            let at = if flags.event { *at } else { flags.as_of };
            fates[*index] = Some(decide(camp, assigned, facts, at, trigger(*index)));
        }
    }
    fates.into_iter().map(Option::unwrap).collect()
}

/// The instant of a trigger whose key decides, or its fate.
fn settle(camps: &[Camp], flags: &Flags, trigger: &Trig) -> Result<i64, Fate> {
    let known = camps.iter().find(|camp| camp.id == trigger.campaign);
    let Some(camp) = known else { return Err(Fate::of("rejected", "unknown_campaign")) };
    let out_of_scope = Fate { outcome: "out_of_scope", ..Fate::default() };
    if flags.only.is_some_and(|only| only != camp.id) {
        return Err(out_of_scope);
    }
    if camp.broken {
        return Err(Fate::of("rejected", "campaign_broken"));
    }
    let at = match trigger.at {
        Some(at) if at > flags.as_of + 24 * 3600 * SECOND => return Err(Fate::of("rejected", "in_future")),
        Some(at) => at,
        None if flags.event && !flags.time_defaults => return Err(Fate::of("rejected", "missing_field")),
        None => flags.as_of,
    };
    if flags.since.is_some_and(|since| at < since) || flags.until.is_some_and(|until| at >= until) {
        return Err(out_of_scope);
    }
    let age = flags.as_of - at;
    let same = |other: &Who| identity(other) == identity(&trigger.who);
    let oldest_asked = if flags.event { at } else { flags.as_of } - window(camp.rule).unwrap_or(i64::MAX / 4);
    let reasons = [
        (trigger.duplicate, "duplicate_recipient"),
        (camp.paused, "paused"),
        (flags.excluded.iter().any(same), "excluded"),
        (flags.max_age.is_some_and(|most| age > most), "too_late"),
        (camp.max_age.is_some_and(|most| age > duration(most)), "too_late"),
        (window(camp.rule) != Some(0) && flags.floor.is_some_and(|floor| oldest_asked < floor), "history_expired"),
        // An earlier trigger of the same id was received a day before it was triggered, or later.
        (trigger.id.is_some() && flags.floor.is_some_and(|floor| at - 24 * 3600 * SECOND < floor), "history_expired"),
    ];
    match reasons.iter().find(|(applies, _)| *applies) {
        Some((_, reason)) => Err(Fate::of("suppressed", reason)),
        None => Ok(at),
    }
}

fn decide(camp: &Camp, assigned: Option<usize>, facts: &mut Vec<Fact>, at: i64, trigger: &Trig) -> Fate {
    let Some(arm) = assigned.map(|arm| &camp.arms[arm]) else {
        if facts.iter().all(|fact| fact.received.is_some()) {
            facts.push(Fact { at, received: None, id: trigger.id });
        }
        return Fate { outcome: "control", ..Fate::default() };
    };
    if trigger.id.is_some() && facts.iter().any(|fact| fact.id == trigger.id) {
        return Fate::of("suppressed", "duplicate_trigger");
    }
    let receipts: Vec<i64> = facts.iter().filter(|fact| fact.received.is_some()).map(|fact| fact.at).collect();
    match window(camp.rule) {
        None => {
            if let Some(first) = receipts.iter().min() {
                return Fate { blocked_by: Some(*first), ..Fate::of("suppressed", "already_received") };
            }
        }
        Some(window) => {
            let close = |at: i64| receipts.iter().copied().filter(move |receipt| (receipt - at).abs() < window);
            let by = close(at).filter(|receipt| *receipt <= at).max().or(close(at).min());
            if by.is_some() {
                let later = receipts.iter().map(|receipt| receipt + window).filter(|free| *free > at);
                let eligible_at = later.filter(|free| close(*free).next().is_none()).min();
                return Fate { blocked_by: by, eligible_at, ..Fate::of("suppressed", "within_window") };
            }
        }
    }
    let channels = render(camp, arm, trigger);
    let mut fate = Fate { outcome: "sent", variant: arm.name, channels, ..Fate::default() };
    if fate.channels.iter().any(|(_, message)| message.is_ok()) {
        facts.push(Fact { at, received: Some(arm.name), id: trigger.id });
        return fate;
    }
    let stops: Vec<_> = fate.channels.iter().map(|(_, message)| *message.as_ref().unwrap_err()).collect();
    let reason = *stops.iter().find(|stop| **stop != "aborted").unwrap_or(&stops[0]);
    (fate.outcome, fate.reason) = (if reason == "aborted" { "suppressed" } else { "failed" }, Some(reason));
    fate
}

/// The variant of a recipient, `None` for control (reference 6.3, R23). Any receipt beats an enrolment: who has received
/// the campaign never enters control. Of receipts of one instant, that of a variant that is still there counts.
fn assigned(camp: &Camp, facts: &[Fact], who: &Who) -> Option<usize> {
    let place = |fact: &Fact| camp.arms.iter().position(|arm| Some(arm.name) == fact.received);
    let newest = facts.iter().max_by_key(|fact| (fact.received.is_some(), fact.at, place(fact)));
    let text = match who {
        Who::External(id) | Who::Braze(id) => id.clone(),
        Who::Email(_) => identity(who).1,
        Who::Alias { label, name } => format!("{label}:{name}"),
    };
    let digest = Sha256::digest(format!("{text}{}", camp.id));
    let drawn = digest.iter().fold(0u64, |rest, byte| (rest * 256 + u64::from(*byte)) % 100);
    let variants_share: u64 = camp.arms.iter().map(|arm| u64::from(arm.percent)).sum();
    let arm_at = |point: u64| {
        let mut end = 0;
        camp.arms.iter().position(|arm| {
            end += u64::from(arm.percent);
            point < end
        })
    };
    match newest {
        None => arm_at(drawn),
        Some(fact) if fact.received.is_none() && camp.control > 0 => None,
        // Who has received it, or was in a control group that is gone, is never put into control.
        Some(fact) => place(fact).or(arm_at(drawn)).or(arm_at(drawn % variants_share.max(1))).or(Some(0)),
    }
}

#[expect(clippy::type_complexity, reason = "a list of channels and what they gave")]
fn render(
    camp: &Camp,
    arm: &Arm,
    trigger: &Trig,
) -> Vec<(&'static str, Result<Vec<(&'static str, String)>, &'static str>)> {
    if arm.channels.is_empty() {
        let text = Value::Object(trigger.properties.clone()).to_string();
        return vec![("properties", Ok(vec![("properties", text)]))];
    }
    let field =
        |pieces: &[Piece]| pieces.iter().map(|piece| print(camp, piece, trigger)).collect::<Result<String, _>>();
    let message = |channel: &Channel| channel.fields.iter().map(|(name, pieces)| Ok((*name, field(pieces)?))).collect();
    arm.channels.iter().map(|channel| (channel.name, message(channel))).collect()
}

fn print(camp: &Camp, piece: &Piece, trigger: &Trig) -> Result<String, &'static str> {
    let value = |key: &str| trigger.properties.get(key).cloned().unwrap_or(Value::Null);
    match piece {
        Piece::Text(text) => Ok((*text).to_owned()),
        Piece::Print(key) => match value(key) {
            Value::Null if camp.blank => Ok(String::new()),
            Value::Null => Err("missing_value"),
            Value::String(text) => Ok(text),
            other => Ok(other.to_string()),
        },
        Piece::Number(key) => match value(key) {
            Value::Number(number) => Ok(number.to_string()),
            Value::Null if camp.blank => Ok(String::new()),
            Value::String(text) if camp.blank && text.is_empty() => Ok(text),
            _ => Err("render_error"),
        },
        Piece::AbortIf(key) => match value(key) {
            Value::Null | Value::Bool(false) => Ok(String::new()),
            Value::Number(number) if number.as_i64() == Some(0) => Ok(String::new()),
            Value::String(text) if text.is_empty() => Ok(text),
            _ => Err("aborted"),
        },
    }
}

/// Kind and name: two rows with the same are the same recipient.
pub fn identity(who: &Who) -> (&'static str, String) {
    match who {
        Who::External(id) => ("external_user_id", id.clone()),
        Who::Braze(id) => ("braze_id", id.clone()),
        Who::Email(id) => ("email", id.trim().to_ascii_lowercase()),
        Who::Alias { label, name } => ("user_alias", format!("{label}:{name}")),
    }
}

/// The window of a rule in microseconds; `None` for never.
pub fn window(rule: &str) -> Option<i64> {
    match rule {
        "never" => None,
        "always" => Some(0),
        rule => Some(duration(rule)),
    }
}

pub fn duration(text: &str) -> i64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => 86_400,
    };
    number.parse::<i64>().unwrap() * seconds * SECOND
}
