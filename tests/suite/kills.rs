//! SIGKILL at random moments of real runs on a real disk. However often a run is killed, once it has ended everything is as
//! if it never was: the same batches, decisions and receipts, byte for byte.
//!
//! `RETRIGGER_KILLS=1000 cargo test --release --test suite kills::` kills more often, `RETRIGGER_KILLS_SEED` elsewhere.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sandbox::{AS_OF, Sandbox, contents, run_words};

const ROWS: usize = 20_000;
const DAYS: [&str; 2] = ["day1.ndjson", "day2.ndjson"];

const CAMPAIGN: &str = r#"{"id": "once", "reeligibility": "never", "control_percent": 10,
 "messages": {"email": {"subject": "For {{api_trigger_properties.name}}", "body": "Hello {{api_trigger_properties.name}}!"},
              "push": {"title": "{{api_trigger_properties.name}}"}}}"#;

/// Two days of triggers: half of the recipients of the second were there on the first; some triggers fail, some are
/// rejected.
fn site() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("campaigns/once/campaign.json", CAMPAIGN);
    for (day, file) in DAYS.iter().enumerate() {
        let row = |n: usize| match n % 100 {
            0 => json!({"campaign_id": "once"}),
            1 => json!({"campaign_id": "once", "external_user_id": format!("u{n}"), "trigger_id": format!("t{n}")}),
            _ => json!({
                "campaign_id": "once", "external_user_id": format!("u{n}"), "trigger_id": format!("t{n}"),
                "trigger_properties": {"name": format!("N{n}")},
            }),
        };
        let first = day * ROWS / 2;
        sandbox.write(file, (first..first + ROWS).map(|n| format!("{}\n", row(n))).collect::<String>());
    }
    sandbox
}

fn words(day: usize) -> Vec<String> {
    let more = ["--state", "state", "--create-state", "--batch-size", "5000", "--as-of", AS_OF];
    run_words(&[DAYS[day]], &more.map(str::to_owned))
}

/// The number of a variable of the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Starts a run and kills it after this time; false where it had ended by then.
fn kill(sandbox: &Sandbox, day: usize, after: Duration) -> bool {
    let mut command = sandbox.command(env!("CARGO_BIN_EXE_retrigger"));
    command.args(words(day)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.signal() == Some(9) || status.code() == Some(3), "{status}");
    status.signal().is_some()
}

/// Everything that OUT and the state hold, apart from the state's id and the time that runs took.
fn result(sandbox: &Sandbox) -> (BTreeMap<PathBuf, Vec<u8>>, Value) {
    let mut files = BTreeMap::new();
    for folder in ["out", "state", "out.staging"] {
        let home = sandbox.path("");
        let inside = contents(&sandbox.path(folder)).into_iter();
        files.extend(inside.map(|(path, bytes)| (path.strip_prefix(&home).unwrap().to_owned(), bytes)));
    }
    let mut state: Value = serde_json::from_slice(&files[&PathBuf::from("state/manifest.json")]).unwrap();
    state["runs"].as_array_mut().unwrap().iter_mut().for_each(|run| run["out"] = Value::Null);
    let kept = json!([state["generation"], state["files"], state["campaigns"], state["runs"]]);
    for (path, bytes) in &mut files {
        let timed = ["manifest.json", "summary.json", "states.json"];
        if timed.iter().any(|name| path.ends_with(name)) {
            bytes.clear();
        }
    }
    (files, kept)
}

fn check(sandbox: &Sandbox) {
    for run in sandbox.runs() {
        sandbox.call(&["verify", run.to_str().unwrap()]).with_code(0);
    }
}

#[test]
fn a_run_killed_at_any_moment_ends_as_if_it_never_was() {
    let calm = site();
    let mut times = Vec::new();
    for day in 0..DAYS.len() {
        let start = Instant::now();
        calm.call(&words(day)).with_code(3);
        times.push(start.elapsed());
    }
    check(&calm);
    let expected = result(&calm);

    let (wanted, seed) = (number("RETRIGGER_KILLS", 50), number("RETRIGGER_KILLS_SEED", 1));
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (mut kills, mut starts) = (0, 0);
    while kills < wanted {
        assert!(starts < 20 * wanted, "of {starts} runs {kills} were killed before they ended");
        let sandbox = site();
        for (day, time) in times.iter().enumerate() {
            for _ in 0..3 {
                // More often towards the end, where the commit is.
                let killed = kill(&sandbox, day, time.mul_f64(random.next().sqrt() * 1.05));
                (kills, starts) = (kills + u64::from(killed), starts + 1);
            }
            sandbox.call(&words(day)).with_code(3);
        }
        check(&sandbox);
        let (found, state) = result(&sandbox);
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            expected.0.keys().collect::<Vec<_>>(),
            "seed {seed}, {kills} kills"
        );
        let differs: Vec<_> = found.iter().filter(|(path, bytes)| expected.0[*path] != **bytes).map(|f| f.0).collect();
        assert_eq!((differs, &state), (vec![], &expected.1), "seed {seed}, {kills} kills");
    }
    println!("{kills} kills in {starts} starts of runs of {times:?}");
}
