//! Replays: what was missed is sent, what went out is not sent again.

use std::fs;

use crate::sandbox::{NOTE, ROW, RunDir, Sandbox, row};

/// A campaign that is sent once ever, so that a second message would be a fault.
fn once(rows: &[&str]) -> Sandbox {
    let sandbox = Sandbox::with_rows(rows);
    sandbox.write("campaigns/note/campaign.json", NOTE.replace("always", "never"));
    sandbox.call(&["state", "init", "state"]).with_code(0);
    sandbox
}

fn run(sandbox: &Sandbox, input: &str, id: &str, code: i32) -> RunDir {
    sandbox.run_on(&[input], &format!("--state state --run-id {id}")).with_code(code);
    RunDir(sandbox.path(format!("out/{id}")))
}

#[test]
fn since_and_until_take_the_first_instant_and_not_the_last() {
    let at = |day: &str| row(&format!("u{day}")).replace("2026-11-22T08:00:00Z", &format!("2026-11-{day}T00:00:00Z"));
    let rows = [at("19"), at("20"), at("21"), at("22")];
    let sandbox = Sandbox::with_rows(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    let ended = sandbox.run("--since 2026-11-20T00:00:00Z --until 2026-11-22T00:00:00Z --json").with_code(0);
    assert_eq!(sandbox.published().recipients(), ["u20", "u21"]);
    assert_eq!((&ended.json()["triggers"], &ended.json()["out_of_scope"]), (&4.into(), &2.into()));
}

#[test]
fn a_file_of_which_a_part_went_out_sends_exactly_the_rest() {
    let sandbox = once(&[ROW, &row("bob")]);
    run(&sandbox, "input.ndjson", "part", 0);
    sandbox.write("whole.ndjson", format!("{ROW}\n{}\n{}\n", row("bob"), row("cem")));
    assert_eq!(run(&sandbox, "whole.ndjson", "whole", 0).recipients(), ["cem"]);
}

#[test]
fn what_was_recorded_only_is_not_sent_later() {
    let sandbox = once(&[ROW]);
    sandbox.run("--state state --record-only --run-id recorded").with_code(0);
    assert!(!sandbox.exists("out/recorded/deliveries"));
    sandbox.write("whole.ndjson", format!("{ROW}\n{}\n", row("bob")));
    assert_eq!(run(&sandbox, "whole.ndjson", "whole", 0).recipients(), ["bob"]);
}

#[test]
fn the_remainder_is_sent_once_after_a_mend() {
    let sandbox = once(&[ROW, &row("bob").replace(r#""name":"Ada""#, "")]);
    let failed = run(&sandbox, "input.ndjson", "night", 3);
    assert_eq!(failed.recipients(), ["ada"]);
    let remainder = fs::read_to_string(failed.0.join("remainder.ndjson")).unwrap();
    let mended = remainder.trim_end().trim_end_matches('}').to_owned() + r#","trigger_properties":{"name":"Bob"}}"#;
    sandbox.write("mended.ndjson", format!("{mended}\n"));
    assert_eq!(run(&sandbox, "mended.ndjson", "mended", 0).recipients(), ["bob"]);
    sandbox.write("again.ndjson", format!("{mended}\n\n"));
    assert_eq!(run(&sandbox, "again.ndjson", "again", 0).recipients(), Vec::<String>::new());
}
