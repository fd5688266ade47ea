//! A simulation as a short table, as JSON and as CSV.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::print::count_text;
use crate::error::{Error, Kind, Result};
use crate::pipeline::ByWord;
use crate::simulate::{Outcomes, SimulatedRule, Simulation};

/// Every number, as JSON.
pub fn json(simulation: &Simulation) -> Result<String> {
    let text = serde_json::to_string_pretty(simulation);
    let text = text.map_err(|e| Error::new(Kind::Internal, "cannot write the simulation as JSON").caused_by(e))?;
    Ok(text + "\n")
}

/// One line a rule, and what deserves a second look.
pub fn table(simulation: &Simulation) -> String {
    let clock = match simulation.clock {
        "nights" => "in nightly runs".to_owned(),
        clock => format!("on the {clock} clock"),
    };
    let mut text = format!("{} triggers, decided {clock}\n\n", count_text(simulation.triggers));
    let curves = sparklines(simulation);
    let name = |rule: &SimulatedRule| rule.name.chars().count();
    let width = simulation.rules.iter().map(name).max().unwrap_or(0).max(5);
    let _ = writeln!(
        text,
        "  {:<width$} {:>11} {:>8} {:>9} {:>11} {:>4} {:>4} {:>4} {:>5} {:>8} {:>9} {:>9} {:>9}  sends an hour",
        "rule",
        "sent",
        "change",
        "control",
        "suppressed",
        "p50",
        "p95",
        "p99",
        "max",
        "nothing",
        "gained",
        "lost",
        "peak/hour"
    );
    for (rule, curve) in simulation.rules.iter().zip(curves) {
        let (counts, people) = (&rule.outcomes, &rule.recipients);
        let against = |number: fn(&crate::simulate::Compared) -> u64| {
            rule.compared.as_ref().map_or("–".to_owned(), |compared| count_text(number(compared)))
        };
        let peak = rule.sends_an_hour.peak.as_ref().map_or(0, |peak| peak.sends);
        let _ = writeln!(
            text,
            "  {:<width$} {:>11} {:>8} {:>9} {:>11} {:>4} {:>4} {:>4} {:>5} {:>8} {:>9} {:>9} {:>9}  {curve}",
            rule.name,
            count_text(counts.sent),
            change(simulation, rule),
            count_text(counts.control),
            count_text(counts.suppressed.values().sum()),
            people.p50,
            people.p95,
            people.p99,
            people.max,
            format!("{:.1} %", people.nothing_share * 100.0),
            against(|compared| compared.gained),
            against(|compared| compared.lost),
            count_text(peak),
        );
    }
    let legend = "p50 to max: messages a recipient; nothing: recipients who get none; gained and lost: recipients against the first rule";
    let _ = writeln!(text, "\n  {legend}");
    push_notes(&mut text, simulation);
    text
}

/// How much more is sent than by the first rule.
fn change(simulation: &Simulation, rule: &SimulatedRule) -> String {
    let first = simulation.rules[0].outcomes.sent;
    match &rule.compared {
        Some(compared) if first > 0 => format!("{:+.1} %", compared.more_sent as f64 * 100.0 / first as f64),
        _ => "–".to_owned(),
    }
}

/// What is not in the table, and must not be overlooked.
fn push_notes(text: &mut String, simulation: &Simulation) {
    let first = &simulation.rules[0].outcomes;
    let notes = [
        (first.rejected.values().sum(), "are rejected"),
        (first.out_of_scope, "are out of scope"),
        (first.not_receivable, "have no message that can be produced; a run says why"),
    ];
    for (count, what) in notes.into_iter().filter(|(count, _)| *count > 0) {
        let _ = writeln!(text, "  by the first rule {} triggers {what}", count_text(count));
    }
    for rule in &simulation.rules {
        let off = rule.campaigns.iter().filter(|c| c.sample_ratio.as_ref().is_some_and(|ratio| ratio.mismatch));
        for campaign in off {
            let _ = writeln!(
                text,
                "  warning: {} ({}): its groups do not have the sizes that were asked for (sample ratio mismatch)",
                campaign.id, rule.name
            );
        }
    }
}

/// Columns of a sparkline.
const COLUMNS: u64 = 24;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The sends an hour of each rule over the same time and on the same scale; the hours that share a column show their busiest.
fn sparklines(simulation: &Simulation) -> Vec<String> {
    let numbers: Vec<BTreeMap<i64, u64>> = simulation.rules.iter().map(hours).collect();
    let all = || numbers.iter().flatten();
    let Some((first, last)) = all().map(|(hour, _)| *hour).min().zip(all().map(|(hour, _)| *hour).max()) else {
        return vec![String::new(); numbers.len()];
    };
    let most = all().map(|(_, sends)| *sends).max().unwrap_or(1);
    let span = last.abs_diff(first) + 1;
    let columns = COLUMNS.min(span);
    let line = |hours: &BTreeMap<i64, u64>| {
        let mut heights = vec![0; columns as usize];
        for (hour, sends) in hours {
            let column = u128::from(hour.abs_diff(first)) * u128::from(columns) / u128::from(span);
            let height = &mut heights[column as usize];
            *height = (*height).max(*sends);
        }
        heights.into_iter().map(|sends| bar(sends, most)).collect()
    };
    numbers.iter().map(line).collect()
}

fn bar(sends: u64, most: u64) -> char {
    match sends {
        0 => ' ',
        _ => BARS[((sends * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
    }
}

fn hours(rule: &SimulatedRule) -> BTreeMap<i64, u64> {
    rule.sends_an_hour.curve.iter().map(|hour| (hour.number, hour.sends)).collect()
}

/// Every number as a row of `rule,campaign,measure,item,value`; the campaign is empty for all of them.
pub fn csv(simulation: &Simulation) -> String {
    let mut rows = Rows("rule,campaign,measure,item,value\n".to_owned());
    for rule in &simulation.rules {
        rows.outcomes(&rule.name, "", &rule.outcomes);
        rows.recipients(rule);
        for hour in &rule.sends_an_hour.curve {
            rows.push([&rule.name, "", "sends_an_hour", &hour.hour], hour.sends);
        }
        if let Some(compared) = &rule.compared {
            rows.push([&rule.name, "", "more_sent", &compared.with], compared.more_sent);
            rows.push([&rule.name, "", "gained", ""], compared.gained);
            rows.push([&rule.name, "", "lost", ""], compared.lost);
            let examples = [("gained_example", &compared.gained_examples), ("lost_example", &compared.lost_examples)];
            for (measure, ids) in examples {
                ids.iter().for_each(|id| rows.push([&rule.name, "", measure, id], 1));
            }
        }
        for campaign in &rule.campaigns {
            let place = |measure, item| [rule.name.as_str(), campaign.id.as_str(), measure, item];
            rows.outcomes(&rule.name, &campaign.id, &campaign.outcomes);
            campaign.window_seconds.iter().for_each(|seconds| rows.push(place("window_seconds", ""), seconds));
            let Some(ratio) = &campaign.sample_ratio else { continue };
            for arm in &ratio.arms {
                let name = arm.name.as_deref().unwrap_or("");
                rows.push(place("arm_percent", name), arm.percent);
                rows.push(place("arm_recipients", name), arm.recipients);
            }
            rows.push(place("control_share", ""), ratio.control_share);
            ratio.chi_squared.iter().for_each(|found| rows.push(place("chi_squared", ""), found));
            rows.push(place("degrees_of_freedom", ""), ratio.degrees_of_freedom);
            rows.push(place("sample_ratio_mismatch", ""), u8::from(ratio.mismatch));
        }
    }
    rows.0
}

struct Rows(String);

impl Rows {
    fn push(&mut self, places: [&str; 4], value: impl std::fmt::Display) {
        for place in places {
            match place.contains(['"', ',', '\n', '\r']) {
                true => drop(write!(self.0, "\"{}\",", place.replace('"', "\"\""))),
                false => drop(write!(self.0, "{place},")),
            }
        }
        let _ = writeln!(self.0, "{value}");
    }

    fn outcomes(&mut self, rule: &str, campaign: &str, counts: &Outcomes) {
        let single = [
            ("triggers", counts.triggers),
            ("sent", counts.sent),
            ("control", counts.control),
            ("not_receivable", counts.not_receivable),
            ("out_of_scope", counts.out_of_scope),
        ];
        single.iter().for_each(|(measure, count)| self.push([rule, campaign, measure, ""], count));
        let mut by_word = |measure: &str, words: &ByWord| {
            words.iter().for_each(|(word, count)| self.push([rule, campaign, measure, word], count));
        };
        by_word("suppressed", &counts.suppressed);
        by_word("rejected", &counts.rejected);
    }

    fn recipients(&mut self, rule: &SimulatedRule) {
        let people = &rule.recipients;
        self.push([&rule.name, "", "recipients", ""], people.recipients);
        self.push([&rule.name, "", "recipients_with_nothing", ""], people.nothing);
        self.push([&rule.name, "", "nothing_share", ""], people.nothing_share);
        self.push([&rule.name, "", "messages_mean", ""], people.mean);
        for (percentile, messages) in
            [("p50", people.p50), ("p95", people.p95), ("p99", people.p99), ("max", people.max)]
        {
            self.push([&rule.name, "", "messages_a_recipient", percentile], messages);
        }
        for count in &people.distribution {
            self.push([&rule.name, "", "recipients_by_messages", &count.messages.to_string()], count.recipients);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_share_and_never_vanish() {
        assert_eq!([0, 1, 50, 99, 100].map(|sends| bar(sends, 100)), [' ', '▁', '▄', '█', '█']);
    }

    #[test]
    fn cells_with_commas_and_quotes_are_quoted() {
        let mut rows = Rows(String::new());
        rows.push(["a,b", "", "say \"x\"", "plain"], 1.5);
        assert_eq!(rows.0, "\"a,b\",,\"say \"\"x\"\"\",plain,1.5\n");
    }
}
