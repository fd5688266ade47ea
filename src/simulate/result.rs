//! What a simulation found, under names: everything that a table, a file or a report is made of.

use std::collections::BTreeMap;

use serde::Serialize;

use super::engine::{Reading, Timing};
use super::people::{Crossing, Place, percentile};
use super::tally::{Arms, ByOutcome, CONTROL, HOUR, Hours, NOT_RECEIVABLE, ReadingTally, RuleTally, SENT, Tally};
use crate::campaigns::{Campaign, MAX_VARIANTS};
use crate::eligibility::{Clock, Reeligibility};
use crate::pipeline::ByWord;
use crate::triggers::{Outcome, Reason, format_micros};

/// What each rule would have sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Simulation {
    /// `event`, `run`, or `nights`.
    pub clock: &'static str,
    /// Triggers of the input, the same for every rule.
    pub triggers: u64,
    /// The rules; the others are compared with the first.
    pub rules: Vec<SimulatedRule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimulatedRule {
    /// `today`, a window, or `against`.
    pub name: String,
    /// Its triggers by outcome.
    #[serde(flatten)]
    pub outcomes: Outcomes,
    /// What recipients get.
    pub recipients: RecipientNumbers,
    /// When it is sent.
    pub sends_an_hour: SendsAnHour,
    /// Against the first rule; none for that one.
    pub compared: Option<Compared>,
    /// By campaign, ordered by id.
    pub campaigns: Vec<CampaignOutcome>,
}

/// Triggers by outcome: they sum to `triggers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// All triggers.
    pub triggers: u64,
    /// Those that are sent.
    pub sent: u64,
    /// Those of control users.
    pub control: u64,
    /// Suppressed ones by reason.
    pub suppressed: ByWord,
    /// Those that would be sent if a message could be produced: a run calls them aborted or failed.
    pub not_receivable: u64,
    /// Rejected ones by reason.
    pub rejected: ByWord,
    /// Those outside of `--since`, `--until` or `--only`.
    pub out_of_scope: u64,
}

/// What recipients get: those with a trigger that their key decides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecipientNumbers {
    /// How many.
    pub recipients: u64,
    /// Those who get nothing.
    pub nothing: u64,
    /// Their share, 0 to 1.
    pub nothing_share: f64,
    /// Messages a recipient, those with none included: the mean.
    pub mean: f64,
    /// Half of them get at most this.
    pub p50: u32,
    /// 95 % of them get at most this.
    pub p95: u32,
    /// 99 % of them get at most this.
    pub p99: u32,
    /// Nobody gets more.
    pub max: u32,
    /// How many get how much, ascending.
    pub distribution: Vec<MessageCount>,
}

/// A number of messages and the recipients who get as many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MessageCount {
    /// Messages.
    pub messages: u32,
    /// Recipients.
    pub recipients: u64,
}

/// Sends by hour, UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SendsAnHour {
    /// The hour with most sends, the first of them.
    pub peak: Option<HourlySends>,
    /// Hours with sends, ascending.
    pub curve: Vec<HourlySends>,
}

/// One hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HourlySends {
    /// When it begins.
    pub hour: String,
    /// The same as a number: hours since 1970.
    #[serde(skip)]
    pub number: i64,
    /// Triggers that are sent in it.
    pub sends: u64,
}

/// A rule against the first one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The first rule's name.
    pub with: String,
    /// Sends more, or fewer where it is negative.
    pub more_sent: i64,
    /// Recipients who get something, and nothing by the first rule.
    pub gained: u64,
    /// The first of them in the source, as `KIND:ID`; at most 10.
    pub gained_examples: Vec<String>,
    /// Recipients who get nothing, and something by the first rule.
    pub lost: u64,
    /// The first of them in the source; at most 10.
    pub lost_examples: Vec<String>,
}

/// One campaign under one rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CampaignOutcome {
    /// Its id.
    pub id: String,
    /// Its window under this rule in seconds; none is `never`.
    pub window_seconds: Option<u64>,
    /// Its triggers by outcome.
    #[serde(flatten)]
    pub outcomes: Outcomes,
    /// Whether its groups have the sizes that were asked for; of campaigns with variants or control.
    pub sample_ratio: Option<SampleRatio>,
}

/// The recipients of each group against the sizes that were asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SampleRatio {
    /// The variants in their order, and the control group.
    pub arms: Vec<Arm>,
    /// The share of recipients in control, 0 to 1.
    pub control_share: f64,
    /// Pearson's chi-squared; none where a group is too small to tell (fewer than 5 recipients expected).
    pub chi_squared: Option<f64>,
    /// Groups less one.
    pub degrees_of_freedom: usize,
    /// Whether chance alone would differ as much in fewer than one of a thousand draws.
    pub mismatch: bool,
}

/// A group of a campaign.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Arm {
    /// The variant's name; `control` for that group; none without variants.
    pub name: Option<String>,
    /// Its share that was asked for, of 100.
    pub percent: u8,
    /// Recipients that were drawn into it.
    pub recipients: u64,
}

/// The counts under their names. `ids` names the examples.
pub fn describe(
    readings: &[Reading<'_>],
    timing: &Timing,
    tally: &Tally,
    triggers: u64,
    ids: &BTreeMap<Place, String>,
) -> Simulation {
    let clock = match (timing, readings[0].execution.rules.clock) {
        (Timing::Nights(_), _) => "nights",
        (Timing::AtOnce, Clock::Event) => "event",
        (Timing::AtOnce, Clock::Run) => "run",
    };
    let mut rules: Vec<SimulatedRule> = Vec::new();
    for (reading, counts) in readings.iter().zip(&tally.readings) {
        for (number, counted) in counts.rules.iter().enumerate() {
            let mut rule = describe_rule(reading, counts, number);
            rule.compared = rules.first().map(|first| compare(first, &rule, counted, ids));
            rules.push(rule);
        }
    }
    Simulation { clock, triggers, rules }
}

fn describe_rule(reading: &Reading<'_>, counts: &ReadingTally, number: usize) -> SimulatedRule {
    let (rule, counted) = (&reading.rules[number], &counts.rules[number]);
    let campaigns = reading.execution.rules.campaigns.loaded.iter().enumerate();
    let campaigns = campaigns.map(|(number, campaign)| CampaignOutcome {
        id: campaign.id.clone(),
        window_seconds: Reeligibility::window_seconds(rule.reeligibility[number]),
        outcomes: Outcomes::of(&counted.outcomes[number]),
        sample_ratio: SampleRatio::of(campaign, &counts.drawn[number]),
    });
    let mut total = [0; SENT + 3];
    counted.outcomes.iter().for_each(|of_one| total.iter_mut().zip(of_one).for_each(|(sum, count)| *sum += count));
    SimulatedRule {
        name: rule.name.clone(),
        outcomes: Outcomes::of(&total),
        recipients: RecipientNumbers::of(&counted.people.entries()),
        sends_an_hour: SendsAnHour::of(&counted.hours),
        compared: None,
        campaigns: campaigns.collect(),
    }
}

fn compare(
    first: &SimulatedRule,
    rule: &SimulatedRule,
    counted: &RuleTally,
    ids: &BTreeMap<Place, String>,
) -> Compared {
    let examples = |crossing: &Crossing| crossing.first.iter().filter_map(|place| ids.get(place).cloned()).collect();
    Compared {
        with: first.name.clone(),
        more_sent: rule.outcomes.sent as i64 - first.outcomes.sent as i64,
        gained: counted.gained.count,
        gained_examples: examples(&counted.gained),
        lost: counted.lost.count,
        lost_examples: examples(&counted.lost),
    }
}

impl Outcomes {
    fn of(counts: &ByOutcome) -> Outcomes {
        let named = |outcome: Outcome| -> ByWord {
            let reasons = Reason::ALL.iter().filter(|r| r.outcome() == outcome && counts[**r as usize] > 0);
            reasons.map(|reason| (reason.code().to_owned(), counts[*reason as usize])).collect()
        };
        Outcomes {
            triggers: counts.iter().sum(),
            sent: counts[SENT],
            control: counts[CONTROL],
            suppressed: named(Outcome::Suppressed),
            not_receivable: counts[NOT_RECEIVABLE],
            rejected: named(Outcome::Rejected),
            out_of_scope: counts[Reason::OutOfScope as usize],
        }
    }
}

/// A part of a whole, 0 where there is no whole.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl RecipientNumbers {
    fn of(entries: &[(u32, u64)]) -> RecipientNumbers {
        let recipients = entries.iter().map(|(_, recipients)| recipients).sum();
        let messages = entries.iter().map(|(messages, recipients)| u64::from(*messages) * recipients).sum();
        let nothing = entries.first().filter(|(messages, _)| *messages == 0).map_or(0, |(_, recipients)| *recipients);
        let count = |(messages, recipients): &(u32, u64)| MessageCount { messages: *messages, recipients: *recipients };
        RecipientNumbers {
            recipients,
            nothing,
            nothing_share: share(nothing, recipients),
            mean: share(messages, recipients),
            p50: percentile(entries, 50),
            p95: percentile(entries, 95),
            p99: percentile(entries, 99),
            max: percentile(entries, 100),
            distribution: entries.iter().map(count).collect(),
        }
    }
}

impl SendsAnHour {
    fn of(hours: &Hours) -> SendsAnHour {
        let named = |(hour, sends): (i64, u64)| {
            let begins = format_micros(hour.saturating_mul(HOUR));
            HourlySends { hour: begins, number: hour, sends }
        };
        let curve: Vec<HourlySends> = hours.entries().into_iter().map(named).collect();
        // Of equals the last one of the reversed order: the first hour.
        SendsAnHour { peak: curve.iter().rev().max_by_key(|hour| hour.sends).cloned(), curve }
    }
}

/// By degrees of freedom from 1: chi-squared exceeds this by chance in one of a thousand draws.
const ONE_IN_A_THOUSAND: [f64; MAX_VARIANTS] = [10.828, 13.816, 16.266, 18.467, 20.515, 22.458, 24.322, 26.124];

/// Groups of fewer expected recipients tell nothing.
const LEAST_EXPECTED: f64 = 5.0;

impl SampleRatio {
    fn of(campaign: &Campaign, drawn: &Arms) -> Option<SampleRatio> {
        if campaign.slices.is_trivial() {
            return None;
        }
        let variants = campaign.variants.iter().zip(drawn);
        let mut arms: Vec<Arm> = variants
            .map(|(variant, n)| Arm { name: variant.name.clone(), percent: variant.percent, recipients: *n })
            .collect();
        let control = 100 - arms.iter().map(|arm| arm.percent).sum::<u8>();
        if control > 0 {
            arms.push(Arm { name: Some("control".to_owned()), percent: control, recipients: drawn[MAX_VARIANTS] });
        }
        let all: u64 = arms.iter().map(|arm| arm.recipients).sum();
        let groups = arms.iter().filter(|arm| arm.percent > 0).count();
        let chi_squared = chi_squared(&arms, all);
        let critical = groups.checked_sub(2).map_or(f64::MAX, |place| ONE_IN_A_THOUSAND[place]);
        Some(SampleRatio {
            control_share: share(drawn[MAX_VARIANTS], all),
            chi_squared,
            degrees_of_freedom: groups.saturating_sub(1),
            mismatch: chi_squared.is_some_and(|found| found > critical),
            arms,
        })
    }
}

fn chi_squared(arms: &[Arm], all: u64) -> Option<f64> {
    let groups = arms.iter().filter(|arm| arm.percent > 0);
    let terms = groups.map(|arm| {
        let expected = all as f64 * f64::from(arm.percent) / 100.0;
        (expected >= LEAST_EXPECTED).then(|| (arm.recipients as f64 - expected).powi(2) / expected)
    });
    terms.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arms(groups: &[(u8, u64)]) -> Vec<Arm> {
        groups.iter().map(|(percent, n)| Arm { name: None, percent: *percent, recipients: *n }).collect()
    }

    #[test]
    fn chi_squared_is_pearsons_and_silent_on_small_groups() {
        // (60-50)²/50 + (40-50)²/50
        assert_eq!(chi_squared(&arms(&[(50, 60), (50, 40)]), 100), Some(4.0));
        assert_eq!(chi_squared(&arms(&[(90, 900), (10, 100), (0, 0)]), 1000), Some(0.0));
        assert_eq!(chi_squared(&arms(&[(99, 99), (1, 1)]), 100), None);
    }

    #[test]
    fn numbers_of_recipients() {
        let numbers = RecipientNumbers::of(&[(0, 5), (1, 4), (3, 1)]);
        assert_eq!((numbers.recipients, numbers.nothing, numbers.nothing_share, numbers.mean), (10, 5, 0.5, 0.7));
        assert_eq!((numbers.p50, numbers.p95, numbers.p99, numbers.max), (0, 3, 3, 3));
        let nobody = RecipientNumbers::of(&[]);
        assert_eq!((nobody.recipients, nobody.nothing_share, nobody.max), (0, 0.0, 0));
    }
}
