//! What a run refuses before it commits, and what a signal leaves.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::sandbox::{NOTE, ROW, RunDir, Sandbox, row};

fn rows(count: usize) -> String {
    (0..count).map(|n| format!("{}\n", row(&format!("p-{n}")))).collect()
}

#[test]
fn the_number_of_triggers_is_as_expected_or_nothing_is_committed() {
    let sandbox = Sandbox::with_rows(&[ROW, ROW, "{}"]);
    for wrong in ["4..", "..2", "4..9", "0..2"] {
        let ended = sandbox.run(&format!("--expect-triggers {wrong}")).with_code(1);
        ended.says("the input has 3 triggers").says("nothing was committed");
        sandbox.assert_nothing_left();
    }
    for wrong in ["3", "5..3", "..", "a..b", "-1..3"] {
        sandbox.run(&format!("--expect-triggers={wrong}")).with_code(2).says("--expect-triggers");
    }
    for (number, right) in ["3..3", "1..", "..3"].iter().enumerate() {
        sandbox.run(&format!("--expect-triggers {right} --run-id run-{number}")).with_code(3);
    }
}

#[test]
fn a_marker_must_stand_beside_every_file_or_above_it() {
    let sandbox = Sandbox::with_rows(&[ROW]);
    sandbox.write("night/dt=1/a.ndjson", rows(1));
    sandbox.write("night/dt=2/b.ndjson", rows(2));
    let run = |inputs: &[&str], id: &str| sandbox.run_on(inputs, &format!("--require-marker _SUCCESS --run-id {id}"));
    run(&["night"], "x")
        .with_code(1)
        .says("dt=1/a.ndjson: there is no `_SUCCESS` beside it")
        .says("is not complete yet");
    sandbox.write("night/dt=1/_SUCCESS", "");
    run(&["night"], "x").with_code(1).says("dt=2/b.ndjson");
    sandbox.assert_nothing_left();
    run(&["night/dt=1/a.ndjson"], "file").with_code(0);
    sandbox.write("night/_SUCCESS", "");
    run(&["night"], "folder").with_code(0);
    run(&["night/dt=2/b.ndjson"], "x").with_code(1);
    sandbox.run("--require-marker a/b").with_code(2).says("must be the name of a file");
}

#[test]
fn shares_that_change_too_much_commit_nothing_unless_accepted() {
    let sandbox = Sandbox::new();
    for id in ["note", "other"] {
        sandbox.write(&format!("campaigns/{id}/campaign.json"), NOTE.replace("\"note\"", &format!("\"{id}\"")));
    }
    let broken = r#"{"campaign_id":"note","external_user_id":"x","triggered_at":"2026-11-22T08:00:00Z"}"#;
    let night = |day: usize, bad: usize, more: &str| {
        let other = row("o").replace("note", "other");
        let name = format!("night-{day}-{bad}.ndjson");
        sandbox.write(
            &name,
            format!("{}{}\n{other}{day}\n", rows(8), vec![broken; bad].join("\n"))
                .replace(&format!("{other}{day}"), &other.replace("\"o\"", &format!("\"o{day}\""))),
        );
        sandbox.run_on(
            &[&name],
            &format!("--state state --create-state --as-of 2026-11-2{day}T02:00:00Z --max-change 5% {more}"),
        )
    };
    night(3, 2, "").with_code(3);
    night(4, 2, "").with_code(3);
    let ended = night(5, 8, "").with_code(1);
    ended
        .says("shares changed by more than 5 percentage points")
        .says("note: sent 50.0 % of its triggers, 80.0 % before (median of 2 runs)");
    let ended = night(5, 8, "").with_code(1).says("note: failed 50.0 %").says("--accept-change");
    assert!(!ended.stderr.contains("other:"), "{}", ended.stderr);
    assert_eq!((sandbox.generation(), sandbox.exists("out.staging")), (2, false));
    night(5, 8, "--accept-change other").with_code(1);
    night(5, 8, "--accept-change note").with_code(3);
    assert_eq!(sandbox.generation(), 3);
    // A run that was taken back is nothing to be compared with: only the two before it count.
    let wrong =
        sandbox.runs().into_iter().find(|run| RunDir(run.clone()).json("manifest.json")["generation"] == 3).unwrap();
    sandbox.call(&["revoke", wrong.to_str().unwrap(), "--reason", "wrong"]).with_code(0);
    night(6, 8, "").with_code(1).says("80.0 % before (median of 2 runs)");
    let again = |more: &str| sandbox.run_on(&["night-3-2.ndjson"], more);
    again("--stateless --max-change 5%").with_code(2);
    again("--state state --max-change much").with_code(2).says("percentage points");
}

#[test]
fn a_signal_ends_the_run_and_leaves_nothing() {
    for signal in ["INT", "TERM"] {
        let sandbox = Sandbox::with_rows(&[]);
        sandbox.call(&["state", "init", "state"]).with_code(0);
        let words = ["run", "--campaigns", "campaigns", "--input", "-", "--out", "out", "--state", "state"];
        let mut command = sandbox.command(env!("CARGO_BIN_EXE_retrigger"));
        let mut child =
            command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(rows(100).as_bytes()).unwrap();
        let begun = Instant::now();
        while !sandbox.exists("out.staging/.spool/input-00000.ndjson") {
            assert!(begun.elapsed() < Duration::from_secs(60), "the input is never spooled");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut kill = sandbox.command("kill");
        assert!(kill.args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success());
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(1) && said.contains("interrupted; nothing was committed"),
            "{signal}: {said}"
        );
        sandbox.assert_nothing_left();
        assert_eq!(sandbox.generation(), 0);
    }
}

#[test]
fn locked_refuses_campaigns_that_are_not_those_of_the_newest_run() {
    let sandbox = Sandbox::with_rows(&[ROW]);
    let run = |day: usize, more: &str| {
        sandbox.write("input.ndjson", row(&format!("p-{day}")));
        sandbox.run(&format!("--state state --create-state --as-of 2026-11-2{day}T02:00:00Z {more}"))
    };
    run(3, "--locked").with_code(0);
    run(4, "--locked").with_code(0);
    sandbox.write("campaigns/note/campaign.json", NOTE.replace("Hello", "Good day"));
    let ended = run(5, "--locked").with_code(1);
    ended.says("the campaigns are not those of the newest run").says("note: was changed since");
    assert_eq!((sandbox.generation(), sandbox.exists("out.staging")), (2, false));
    sandbox.write("campaigns/other/campaign.json", NOTE.replace("\"note\"", "\"other\""));
    run(5, "--locked").with_code(1).says("other: was not there");
    run(5, "").with_code(0);
    run(6, "--locked").with_code(0);
    sandbox.run("--locked --stateless").with_code(2);
}

#[test]
fn a_window_longer_than_the_history_is_refused_with_its_date() {
    let sandbox = Sandbox::with_rows(&[ROW]);
    let rule = |window: &str| sandbox.write("campaigns/note/campaign.json", NOTE.replace("always", window));
    let run = |as_of: &str, who: &str| {
        sandbox.write("input.ndjson", row(who).replace("2026-11-22T08:00:00Z", as_of));
        sandbox.run(&format!("--state state --create-state --as-of {as_of}"))
    };
    rule("1d");
    run("2026-01-01T00:00:00Z", "ada").with_code(0);
    run("2026-06-01T00:00:00Z", "bob").with_code(0);
    let compact = ["state", "compact", "state", "--campaigns", "campaigns", "--as-of", "2026-06-02T00:00:00Z"];
    sandbox.call(&compact).with_code(0);
    rule("300d");
    let ended = run("2026-06-03T00:00:00Z", "cyd").with_code(1);
    ended
        .says("note: its window is longer than any before")
        .says("receipts before 2026-01-01T00:00:00.000001Z have been dropped");
    assert!(!sandbox.exists("out.staging"));
    rule("100d");
    run("2026-06-03T00:00:00Z", "cyd").with_code(0);
}
