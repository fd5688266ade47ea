//! `simulate` says what `run` does: for every window of a sweep, other campaigns, nights, and states of long ago.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use retrigger::eligibility::{Clock, Reeligibility};
use retrigger::runs::{RunSettings, SimulateSettings, StateUse, simulate};
use retrigger::simulate::{SimulatedRule, Simulation};
use retrigger::storage::{Disk, RealDisk};
use retrigger::triggers::format_micros;
use serde_json::{Value, json};

use crate::harness::{DAY, Ran, Record, Row, SECOND, Site, at, commit, ndjson, sum, with_threads};
use crate::metamorphic::{rows, site, with_bad_lines};
use crate::sandbox::{AS_OF, Sandbox, files};

const HOUR: i64 = 3_600 * SECOND;
const WINDOWS: [&str; 6] = ["always", "10m", "6h", "1d", "3d", "never"];

/// A simulation of what a run of these settings decides.
fn settings(run: &RunSettings) -> SimulateSettings {
    SimulateSettings {
        campaigns: run.campaigns.clone(),
        load: run.load.clone(),
        against: None,
        sweep: WINDOWS.map(|text| (text.to_owned(), Reeligibility::parse(text).unwrap())).to_vec(),
        sweep_campaigns: Vec::new(),
        inputs: run.inputs.clone(),
        input: run.input.clone(),
        state: None,
        clock: run.clock,
        as_of: run.as_of,
        nights: None,
        max_age_micros: run.max_age_micros,
        since: run.since,
        until: run.until,
        default_time_is_as_of: run.default_time_is_as_of,
        exclude: None,
        memory: u64::MAX,
    }
}

fn simulated(settings: &SimulateSettings) -> Simulation {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    simulate(&disk, settings, &()).unwrap_or_else(|error| panic!("{error}"))
}

fn rule<'s>(simulation: &'s Simulation, name: &str) -> &'s SimulatedRule {
    simulation.rules.iter().find(|rule| rule.name == name).unwrap()
}

/// Counts of a run as a simulation has them: messages that cannot be produced are one number.
fn expected_outcomes(counts: &Value) -> Value {
    let mut suppressed = counts["suppressed"].as_object().unwrap().clone();
    let aborted = suppressed.remove("aborted").map_or(0, |count| sum(&count));
    json!({
        "triggers": counts["triggers"], "sent": counts["sent"], "control": counts["control"], "suppressed": suppressed,
        "not_receivable": sum(&counts["failed"]) + aborted, "rejected": counts["rejected"], "out_of_scope": counts["out_of_scope"],
    })
}

/// The summaries of one run or several have the counts of a rule: in all, and by campaign.
#[track_caller]
fn assert_counts(rule: &SimulatedRule, summaries: &[&Value]) {
    let total = |part: &dyn Fn(&Value) -> Value| -> Value {
        summaries.iter().map(|summary| expected_outcomes(&part(summary))).fold(json!({}), |all, one| plus(&all, &one))
    };
    assert_eq!(json!(rule.outcomes), total(&|summary| summary.clone()), "{}", rule.name);
    for campaign in &rule.campaigns {
        let of_campaign = total(&|summary| summary["campaigns"][&campaign.id].clone());
        assert_eq!(json!(campaign.outcomes), of_campaign, "{} under {}", campaign.id, rule.name);
    }
}

/// Adds numbers under the same names.
fn plus(a: &Value, b: &Value) -> Value {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let mut all = a.clone();
            for (key, value) in b {
                let known = all.get(key).cloned().unwrap_or(Value::Null);
                all.insert(key.clone(), plus(&known, value));
            }
            Value::Object(all)
        }
        (Value::Null, value) => value.clone(),
        (a, b) => json!(a.as_u64().unwrap() + b.as_u64().unwrap()),
    }
}

/// Sent triggers of a run by recipient (`KIND:ID`).
fn sent(ran: &Ran) -> BTreeMap<String, u32> {
    let mut sent = BTreeMap::new();
    for decision in ran.decisions.iter().filter(|d| d["outcome"].as_deref() == Some("sent")) {
        let [kind, who] = ["recipient_kind", "recipient"].map(|column| decision[column].clone().unwrap());
        *sent.entry(format!("{kind}:{who}")).or_default() += 1;
    }
    sent
}

/// As many recipients get as much as in the run, and sends lie in the same hours.
#[track_caller]
fn assert_recipients(rule: &SimulatedRule, ran: &Ran, receipt_at: &dyn Fn(i64) -> i64) {
    let mut recipients: BTreeMap<u32, u64> = BTreeMap::new();
    sent(ran).into_values().for_each(|sends| *recipients.entry(sends).or_default() += 1);
    let got = rule.recipients.distribution.iter().filter(|count| count.messages > 0);
    assert_eq!(got.map(|count| (count.messages, count.recipients)).collect::<BTreeMap<_, _>>(), recipients);
    let mut hours: BTreeMap<String, u64> = BTreeMap::new();
    for decision in ran.decisions.iter().filter(|d| d["outcome"].as_deref() == Some("sent")) {
        let at = receipt_at(decision["triggered_at"].as_deref().unwrap().parse().unwrap());
        *hours.entry(format_micros(at.div_euclid(HOUR) * HOUR)).or_default() += 1;
    }
    let curve = rule.sends_an_hour.curve.iter().map(|hour| (hour.hour.clone(), hour.sends));
    assert_eq!(curve.collect::<BTreeMap<_, _>>(), hours);
    let peak = rule.sends_an_hour.peak.as_ref().map(|peak| peak.sends);
    assert_eq!(peak, hours.values().max().copied());
}

/// The control group has the recipients of the run's control outcomes.
#[track_caller]
fn assert_control(rule: &SimulatedRule, campaign: &str, ran: &Ran) {
    let is_control =
        |d: &&Record| d["outcome"].as_deref() == Some("control") && d["campaign_id"].as_deref() == Some(campaign);
    let control: BTreeSet<_> =
        ran.decisions.iter().filter(is_control).map(|d| [&d["recipient_kind"], &d["recipient"]]).collect();
    let ratio = rule.campaigns.iter().find(|c| c.id == campaign).unwrap().sample_ratio.as_ref().unwrap();
    let arms: Vec<_> = ratio.arms.iter().map(|arm| (arm.name.as_deref().unwrap(), arm.percent)).collect();
    assert_eq!(arms, [("short", 45), ("long", 45), ("control", 10)]);
    assert_eq!(ratio.arms[2].recipients, control.len() as u64);
    assert!(ratio.chi_squared.is_some() && !ratio.mismatch && ratio.control_share > 0.0, "{ratio:?}");
    assert!(rule.campaigns.iter().all(|c| c.id == campaign || c.sample_ratio.is_none()));
}

/// Gained and lost are those who are sent something in one run and nothing in the other.
#[track_caller]
fn assert_gained_and_lost(rule: &SimulatedRule, today: &Ran, other: &Ran) {
    let who = |ran: &Ran| sent(ran).into_keys().collect::<BTreeSet<String>>();
    let (before, after) = (who(today), who(other));
    let compared = rule.compared.as_ref().unwrap();
    for (count, examples, expected) in [
        (compared.gained, &compared.gained_examples, &after - &before),
        (compared.lost, &compared.lost_examples, &before - &after),
    ] {
        assert_eq!((count, examples.len()), (expected.len() as u64, expected.len().min(10)));
        assert!(examples.iter().all(|example| expected.contains(example)), "{examples:?} of {expected:?}");
        assert_eq!(examples.iter().collect::<BTreeSet<_>>().len(), examples.len(), "an example twice");
    }
    assert_eq!(compared.more_sent, other.sent().len() as i64 - today.sent().len() as i64);
}

/// Sets the window of every campaign, in its file.
fn set_window(campaigns: &Path, window: &str) {
    for folder in fs::read_dir(campaigns).unwrap() {
        let file = folder.unwrap().path().join("campaign.json");
        let mut definition: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        definition["reeligibility"] = window.into();
        fs::write(file, definition.to_string()).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn every_window_of_a_sweep_is_the_run_with_that_window() {
    let site = site();
    let input = site.write("in/a.ndjson", with_bad_lines(&rows(900)));
    for clock in [Clock::Event, Clock::Run] {
        let (as_of, since) = (at("2026-11-26T00:00:00Z"), Some(at("2026-11-20T12:00:00Z")));
        let run = RunSettings { clock, as_of, since, ..site.settings(&[input.clone()]) };
        let receipt_at = |at: i64| if clock == Clock::Run { as_of } else { at };
        let simulation = simulated(&settings(&run));
        assert_eq!(simulation.rules.len(), WINDOWS.len() + 1);
        let named = |name: &str| RunSettings { run_id: Some(format!("{clock:?}-{name}")), ..run.clone() };
        copy_campaigns(&site, "campaigns", "today");
        let today = commit(&named("today"));
        assert_counts(rule(&simulation, "today"), &[&today.summary]);
        assert_recipients(rule(&simulation, "today"), &today, &receipt_at);
        assert_control(rule(&simulation, "today"), "viewed", &today);
        for window in WINDOWS {
            copy_campaigns(&site, "campaigns", window);
            set_window(&site.path(window), window);
            let ran = commit(&RunSettings { campaigns: site.path(window), ..named(window) });
            let rule = rule(&simulation, window);
            assert_counts(rule, &[&ran.summary]);
            assert_recipients(rule, &ran, &receipt_at);
            assert_gained_and_lost(rule, &today, &ran);
        }
    }
}

fn copy_campaigns(site: &Site, from: &str, to: &str) {
    for folder in fs::read_dir(site.path(from)).unwrap() {
        let path = folder.unwrap().path();
        copy(&path, &site.path(to).join(path.file_name().unwrap()));
    }
}

#[test]
fn other_campaigns_are_the_run_with_them() {
    let site = site();
    let input = site.write("in/a.ndjson", ndjson(&rows(900)));
    let run = RunSettings { clock: Clock::Event, ..site.settings(&[input]) };
    copy_campaigns(&site, "campaigns", "other");
    let change = |id: &str, field: &str, value: Value| {
        let file = format!("other/{id}/campaign.json");
        let mut definition: Value = serde_json::from_slice(&fs::read(site.path(&file)).unwrap()).unwrap();
        definition[field] = value;
        site.write(&file, definition.to_string());
    };
    change("stock", "status", "paused".into());
    change("shipped", "reeligibility", "1d".into());
    change("shipped", "control_percent", 50.into());
    fs::remove_dir_all(site.path("other/raw")).unwrap();
    let simulation = simulated(&SimulateSettings { against: Some(site.path("other")), ..settings(&run) });
    assert_eq!(simulation.rules.last().unwrap().name, "against");
    let today = commit(&RunSettings { run_id: Some("today".to_owned()), ..run.clone() });
    let other = commit(&RunSettings { campaigns: site.path("other"), ..run.clone() });
    let against = rule(&simulation, "against");
    assert_counts(against, &[&other.summary]);
    assert_recipients(against, &other, &|at| at);
    assert_gained_and_lost(against, &today, &other);
    assert!(against.compared.as_ref().unwrap().lost > 10, "too few to say anything");
    // And the other way round, whoever was lost is gained.
    let back =
        SimulateSettings { campaigns: site.path("other"), against: Some(run.campaigns.clone()), ..settings(&run) };
    let gained = rule(&simulated(&back), "against").compared.clone().unwrap();
    assert_eq!(gained.gained_examples, against.compared.as_ref().unwrap().lost_examples);
}

#[test]
fn a_sweep_of_some_campaigns_leaves_the_others() {
    let site = site();
    let input = site.write("in/a.ndjson", ndjson(&rows(300)));
    let run = RunSettings { clock: Clock::Event, ..site.settings(&[input]) };
    let only = SimulateSettings { sweep_campaigns: vec!["shipped".to_owned()], ..settings(&run) };
    let (all, some) = (simulated(&settings(&run)), simulated(&only));
    let (today, swept) = (&rule(&some, "today").campaigns, &rule(&some, "never").campaigns);
    for ((today, swept), all) in today.iter().zip(swept).zip(&rule(&all, "never").campaigns) {
        assert_eq!(swept, if swept.id == "shipped" { all } else { today });
    }
    let unknown = SimulateSettings { sweep_campaigns: vec!["shiped".to_owned()], ..settings(&run) };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    assert!(simulate(&disk, &unknown, &()).unwrap_err().hint.unwrap().contains("`shipped`"));
}

#[test]
fn a_longer_window_never_sends_more_on_the_event_clock() {
    let site = site();
    // Without ids: a repeated id is refused whatever the window is.
    let rows: Vec<Row> = rows(1_500).into_iter().map(|row| Row { id: None, ..row }).collect();
    let input = site.write("in/a.ndjson", ndjson(&rows));
    let run = RunSettings { clock: Clock::Event, ..site.settings(&[input]) };
    let simulation = simulated(&settings(&run));
    for campaign in 0..4 {
        let sent = WINDOWS.map(|window| rule(&simulation, window).campaigns[campaign].outcomes.sent);
        assert!(sent.is_sorted_by(|a, b| a >= b), "{sent:?}");
        assert!(sent[0] > sent[5] && sent[5] > 0, "{sent:?}");
    }
}

#[test]
fn threads_and_memory_change_nothing() {
    let site = site();
    let input = site.write("in/a.ndjson", with_bad_lines(&rows(900)));
    let mut run = RunSettings { clock: Clock::Event, ..site.settings(&[input]) };
    run.input.split_bytes = 2_000;
    run.state = site.state("state");
    commit(&RunSettings { until: Some(at("2026-11-22")), ..run.clone() });
    let settings = SimulateSettings { state: Some((site.path("state"), run.as_of)), ..settings(&run) };
    let one = with_threads(1, || simulated(&settings));
    assert_eq!(with_threads(4, || simulated(&settings)), one);
    // So little that keys are spilled, and that receipts are loaded for few buckets at a time.
    assert_eq!(simulated(&SimulateSettings { memory: 1 << 14, ..settings }), one);
}

#[test]
fn a_cadence_is_a_run_every_night_with_a_state() {
    let site = site();
    site.campaign(&json!({"id": "raw", "reeligibility": "2d", "max_age": "12h"}));
    let rows = rows(900);
    let first = at("2026-11-20T02:00:00Z");
    let nights: Vec<i64> = (0..9).map(|night| first + night * DAY).collect();
    let run = site.settings(&[site.write("in/all.ndjson", ndjson(&rows))]);
    let cadence = SimulateSettings { nights: Some(nights.clone()), as_of: nights[7], ..settings(&run) };
    let simulation = simulated(&cadence);
    for window in ["today", "1d", "never"] {
        if window != "today" {
            set_window(&run.campaigns, window);
        }
        let mut summaries = Vec::new();
        let mut hours = BTreeMap::new();
        for night in &nights {
            let due: Vec<Row> = rows
                .iter()
                .filter(|r| r.at.is_some_and(|at| (night - DAY..*night).contains(&(at - 1))))
                .cloned()
                .collect();
            let input = site.write(&format!("in/{window}-{night}.ndjson"), ndjson(&due));
            let (out, state) = (site.path(&format!("out-{window}")), site.state(&format!("state-{window}")));
            let ran = commit(&RunSettings {
                out,
                state,
                as_of: *night,
                clock: Clock::Run,
                inputs: vec![input],
                ..run.clone()
            });
            if !ran.sent().is_empty() {
                hours.insert(format_micros(*night), ran.sent().len() as u64);
            }
            summaries.push(ran.summary);
        }
        let rule = rule(&simulation, window);
        assert_counts(rule, &summaries.iter().collect::<Vec<_>>());
        assert_eq!(
            rule.sends_an_hour.curve.iter().map(|h| (h.hour.clone(), h.sends)).collect::<BTreeMap<_, _>>(),
            hours
        );
        assert!(hours.len() > 5 && rule.outcomes.suppressed["too_late"] > 10, "{:?}", rule.outcomes);
    }
}

#[test]
fn a_state_as_of_then_is_the_state_of_then() {
    let site = site();
    let rows = rows(900);
    let days = [at("2026-11-20"), at("2026-11-22"), at("2026-11-24"), at("2026-11-27")];
    let part = |number: usize| {
        let of_part = rows.iter().filter(|row| row.at.is_some_and(|at| (days[number]..days[number + 1]).contains(&at)));
        site.write(&format!("in/{number}.ndjson"), ndjson(&of_part.cloned().collect::<Vec<_>>()))
    };
    let run = RunSettings { clock: Clock::Event, state: site.state("state"), ..site.settings(&[part(0)]) };
    commit(&run);
    copy(&site.path("state"), &site.path("then"));
    commit(&RunSettings { inputs: vec![part(1)], ..run.clone() });
    let last = RunSettings { inputs: vec![part(2)], ..run };
    let from = |state: &str, as_of: i64| {
        simulated(&SimulateSettings { state: Some((site.path(state), as_of)), ..settings(&last) })
    };
    let then = from("then", at("2027-01-01"));
    assert_eq!(from("state", days[1] - 1), then);
    assert_ne!(from("state", days[2]), then);
    assert_ne!(simulated(&settings(&last)), then);
    // And it is what a run says that starts from there.
    for window in WINDOWS {
        copy(&site.path("then"), &site.path(&format!("state-{window}")));
        set_window(&last.campaigns, window);
        let state = StateUse::Folder { path: site.path(&format!("state-{window}")), create: false };
        let ran = commit(&RunSettings { state, out: site.path(&format!("out-{window}")), ..last.clone() });
        assert_counts(rule(&then, window), &[&ran.summary]);
        assert_recipients(rule(&then, window), &ran, &|at| at);
    }
}

#[test]
fn lost_receipts_and_erased_recipients_count_as_in_a_run() {
    let sandbox = Sandbox::new();
    let campaign = |id: &str, window: &str| {
        let messages = json!({"sms": {"body": "Hello {{recipient}}"}});
        let definition = json!({"id": id, "reeligibility": window, "messages": messages});
        sandbox.write(&format!("campaigns/{id}/campaign.json"), definition.to_string());
    };
    let rows = |times: &[&str], ids: &str| -> String {
        let line = |campaign: &str, who: &str, time: &str| {
            let id = format!("{ids}{time}");
            json!({"campaign_id": campaign, "external_user_id": who, "triggered_at": time, "trigger_id": id})
                .to_string()
                + "\n"
        };
        let every = ["daily", "once"].into_iter().flat_map(|c| ["ada", "bob", "eve"].map(|who| (c, who)));
        every.flat_map(|(c, who)| times.iter().map(move |time| line(c, who, time)).collect::<Vec<_>>()).collect()
    };
    campaign("daily", "1d");
    campaign("once", "never");
    sandbox.write("old.ndjson", rows(&["2024-01-01T00:00:00Z", "2024-08-30T00:00:00Z"], "old"));
    sandbox.write(
        "new.ndjson",
        rows(&["2024-01-01T12:00:00Z", "2024-01-03T12:00:00Z", "2024-09-01T00:00:00Z", "2024-09-01T02:00:00Z"], "new"),
    );
    sandbox
        .run_on(&["old.ndjson"], "--state state --create-state --clock event --as-of 2024-09-01T00:00:00Z")
        .with_code(0);
    sandbox.call(&["state", "erase", "state", "--recipient", "external_user_id:ada"]).with_code(0);
    sandbox.call(&["state", "compact", "state", "--campaigns", "campaigns", "--as-of", "2024-09-02"]).with_code(0);
    let flags = "simulate --campaigns campaigns --input new.ndjson --as-of 2024-09-02T00:00:00Z --json --quiet \
        --state state --state-as-of 2024-09-01T00:00:00Z --sweep always,1h,1d,never";
    let simulation = sandbox.call(&flags.split_whitespace().collect::<Vec<_>>()).with_code(0).json();
    let names: Vec<_> =
        simulation["rules"].as_array().unwrap().iter().map(|rule| rule["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["today", "always", "1h", "1d", "never"]);
    let mut reasons = BTreeSet::new();
    for (number, window) in names.iter().enumerate() {
        if number > 0 {
            campaign("daily", window);
            campaign("once", window);
        }
        let run = sandbox
            .run_on(&["new.ndjson"], "--state state --clock event --as-of 2024-09-02T00:00:00Z --dry-run --json");
        let rule = &simulation["rules"][number];
        if *window == "never" {
            // No run lengthens a window beyond the history that is kept; a simulation says what would come of it.
            assert_ne!(run.says("window was lengthened").code, 0);
            let daily = rule["campaigns"].as_array().unwrap().iter().find(|c| c["id"] == "daily").unwrap();
            assert_eq!((&daily["triggers"], &daily["suppressed"]), (&json!(12), &json!({"history_expired": 12})));
            continue;
        }
        let run = run.with_code(0).json();
        for (id, counts) in run["campaigns"].as_object().unwrap() {
            let simulated = rule["campaigns"].as_array().unwrap().iter().find(|c| c["id"] == **id).unwrap();
            for part in ["triggers", "sent", "control", "suppressed"] {
                assert_eq!(simulated[part], counts[part], "{part} of {id} under {window}");
            }
            reasons.extend(counts["suppressed"].as_object().unwrap().keys().cloned());
        }
    }
    assert!(reasons.contains("history_expired") && reasons.contains("already_received"), "{reasons:?}");
}

/// Words of a simulation in a sandbox.
fn call(sandbox: &Sandbox, more: &str) -> crate::sandbox::Ended {
    let words = format!("simulate --campaigns campaigns --input input.ndjson --as-of {AS_OF} --quiet {more}");
    sandbox.call(&words.split_whitespace().collect::<Vec<_>>())
}

#[test]
fn the_table_json_and_csv_say_the_same_and_nothing_is_written() {
    let lines: Vec<String> = (0..6).map(|n| crate::sandbox::row(&format!("p\\\"{}", n % 2))).collect();
    let sandbox = Sandbox::with_rows(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let before = files(&sandbox.path("."));
    let flags = "--sweep 1h,never --against campaigns";
    let table = call(&sandbox, flags).with_code(0).stdout;
    let json = call(&sandbox, &format!("{flags} --json")).with_code(0).json();
    let csv = call(&sandbox, &format!("{flags} --csv")).with_code(0).stdout;
    assert_eq!(json["rules"].as_array().unwrap().len(), 4);
    for (rule, name, sent) in [(0, "today", 6), (1, "1h", 2), (2, "never", 2), (3, "against", 6)] {
        assert_eq!((&json["rules"][rule]["name"], &json["rules"][rule]["sent"]), (&json!(name), &json!(sent)));
        assert!(csv.contains(&format!("\n{name},,sent,,{sent}\n")), "{csv}");
        assert!(csv.contains(&format!("\n{name},note,sent,,{sent}\n")), "{csv}");
        let line = table.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some(&*sent.to_string()), "{table}");
    }
    assert_eq!(files(&sandbox.path(".")), before);
}

#[test]
fn what_cannot_be_simulated_is_refused_with_a_reason() {
    let sandbox = Sandbox::with_rows(&[crate::sandbox::ROW]);
    call(&sandbox, "--state state").with_code(2).says("--state-as-of");
    call(&sandbox, "--state-as-of 2026-01-01").with_code(2);
    call(&sandbox, "--cadence daily@02:00 --clock event").with_code(2).says("run clock");
    for cadence in ["daily", "daily@25:00", "daily@2", "weekly@02:00"] {
        call(&sandbox, &format!("--cadence {cadence}")).with_code(2).says("daily@HH:MM");
    }
    call(&sandbox, "--sweep 1h,60m").with_code(2).says("same window twice");
    call(&sandbox, "--sweep soon").with_code(2).says("not a duration");
    call(&sandbox, "--campaign note").with_code(2);
    call(&sandbox, "--cadence daily@02:00 --clock run --sweep 1h").with_code(0);
}
