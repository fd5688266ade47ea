//! `verify --input`: a run is made again from its input and compared.

use std::fs;
use std::path::Path;

use retrigger::ids::Digest;
use serde_json::{Value, json};

use crate::sandbox::{Ended, NOTE, ROW, RunDir, Sandbox, gzip, row};

const SAME: &str = "every row is the same";

#[track_caller]
fn same(ended: Ended) -> Ended {
    let ended = ended.with_code(0);
    assert!(ended.stdout.contains(SAME), "{}", ended.stdout);
    ended
}

/// The words of `verify` for the one published run.
fn verify(sandbox: &Sandbox, inputs: &[&str]) -> Ended {
    verify_run(sandbox, &sandbox.published(), inputs)
}

fn verify_run(sandbox: &Sandbox, run: &RunDir, inputs: &[&str]) -> Ended {
    sandbox.call(&[&["verify", run.0.to_str().unwrap(), "--input"], inputs].concat())
}

/// Changes a file of a run and lets the manifest agree, as if the run had written it so.
#[track_caller]
fn forge(run: &RunDir, file: &str, change: impl Fn(String) -> String) {
    let path = run.0.join(file);
    let before = fs::read_to_string(&path).unwrap();
    let after = change(before.clone());
    assert_ne!(before, after);
    fs::write(&path, &after).unwrap();
    let place = run.0.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&place).unwrap()).unwrap();
    let files = manifest["files"].as_array_mut().unwrap();
    let entry = files.iter_mut().find(|entry| entry["path"] == file).unwrap();
    entry["bytes"] = json!(after.len());
    entry["checksum"] = json!(Digest::of(after.as_bytes()).to_string());
    fs::write(place, manifest.to_string()).unwrap();
}

const DEFINITION: &str = "campaigns/note/campaign.json";

#[test]
fn a_stateless_run_is_decided_and_rendered_again() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let fixtures = fixtures.to_str().unwrap();
    for (form, file) in [("parquet", "nightly.parquet"), ("ndjson --compression zstd", "nightly.ndjson")] {
        let sandbox = Sandbox::new();
        let input = format!("{fixtures}/triggers/{file}");
        sandbox
            .run_on(&[&input], &format!("--campaigns {fixtures}/campaigns --batch-size 100 --format {form}"))
            .with_code(3);
        let ended = same(verify(&sandbox, &[&input]));
        assert!(ended.stdout.contains("triggers of the input decided and rendered again"), "{}", ended.stdout);
        assert!(!ended.stdout.contains("receipts of the state"), "{}", ended.stdout);
    }
}

#[test]
fn of_a_run_with_a_state_the_receipts_are_taken_on_its_word_and_the_rest_is_made_again() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let fixtures = fixtures.to_str().unwrap();
    let sandbox = Sandbox::new();
    let input = format!("{fixtures}/triggers/nightly.parquet");
    let flags = format!("--campaigns {fixtures}/campaigns --state state --create-state");
    sandbox.run_on(&[&input], &flags).with_code(3);
    same(verify(&sandbox, &[&input]));
    // The next night finds receipts, assignments and enrolments.
    let next = format!("{flags} --allow-consumed --run-id next --as-of 2026-11-23T08:00:00Z");
    sandbox.run_on(&[&input], &next).with_code(3);
    let ended = same(verify_run(&sandbox, &RunDir(sandbox.path("out/next")), &[&input]));
    assert!(ended.stdout.contains("receipts of the state"), "{}", ended.stdout);
}

#[test]
fn every_flag_that_decides_is_taken_from_the_manifest() {
    let sandbox = Sandbox::with_rows(&[]);
    let line = |who: &str, day: &str| {
        format!(
            r#"{{"campaign":"note","customer":"{who}","at":"2026-11-{day} 08:00:00","name":"x","order":"{who}{day}"}}"#
        )
    };
    let rows = [line("ada", "20"), line("bob", "21"), line("cem", "22"), line("dan", "22").replace("note", "other")];
    sandbox.write("input.ndjson", rows.join("\n") + "\n" + "no json\n{\"campaign\":\"broken\"}\n");
    sandbox.write("campaigns/other/campaign.json", NOTE.replace("\"note\"", "\"other\""));
    sandbox.write("campaigns/broken/campaign.json", r#"{"id":"broken"}"#);
    sandbox.write("exclude.csv", "external_user_id\ncem\n");
    let flags = "--map campaign_id=campaign --map external_user_id=customer --map triggered_at=at --properties * \
                 --trigger-id-from order --timezone Europe/Paris --since 2026-11-21 --until 2026-11-23 --clock event \
                 --carry order --only note broken --skip-broken --exclude exclude.csv";
    sandbox.run(flags).with_code(3);
    assert_eq!(sandbox.published().recipients(), ["bob"]);
    verify(&sandbox, &["input.ndjson"]).with_code(2).says("--exclude FILE");
    same(verify(&sandbox, &["input.ndjson", "--exclude", "exclude.csv"]));
    sandbox.write("exclude.csv", "external_user_id\nbob\n");
    verify(&sandbox, &["input.ndjson", "--exclude", "exclude.csv"]).with_code(1).says("input.ndjson:2");
}

#[test]
fn files_are_known_by_their_content_and_a_wrong_one_is_named() {
    let sandbox = Sandbox::with_rows(&[ROW]);
    sandbox.write("more.ndjson.gz", gzip(format!("{}\n", row("bob")).as_bytes()));
    sandbox.run_on(&["input.ndjson", "more.ndjson.gz"], "").with_code(0);
    sandbox.write("moved/a.ndjson.gz", fs::read(sandbox.path("more.ndjson.gz")).unwrap());
    same(verify(&sandbox, &["moved/a.ndjson.gz", "input.ndjson"]));
    verify(&sandbox, &["input.ndjson"]).with_code(1).says("more.ndjson.gz: was read by the run");
    sandbox.write("other.ndjson", format!("{}\n", row("eve")));
    let ended = verify(&sandbox, &["input.ndjson", "other.ndjson"]).with_code(1);
    ended.says("more.ndjson.gz: was read by the run").says("other.ndjson: is not what any input of the run held");
}

#[test]
fn a_message_that_the_input_does_not_give_is_found_although_the_manifest_agrees() {
    let sandbox = Sandbox::with_rows(&[&row("bob"), ROW]);
    sandbox.run("").with_code(0);
    let run = sandbox.published();
    let batch = "deliveries/sms/batch-00000.ndjson";
    let whole = fs::read_to_string(run.0.join(batch)).unwrap();
    forge(&run, batch, |text| text.replacen("Hello Ada", "Hello Eve", 1));
    sandbox.call(&["verify", run.0.to_str().unwrap()]).with_code(0);
    let ended = verify(&sandbox, &["input.ndjson"]).with_code(1);
    let ended = ended.says("1 rows differ").says("input.ndjson:1: the message for `sms` has another `body`");
    assert!(!ended.stderr.contains("Eve") && !ended.stderr.contains("Hello"), "{}", ended.stderr);
    // Messages in another order are still paired with their triggers.
    forge(&run, batch, |_| whole.lines().rev().map(|line| format!("{line}\n")).collect());
    verify(&sandbox, &["input.ndjson"]).with_code(1).says("2 rows differ").says("is not there");
}

#[test]
fn decisions_by_other_rules_are_found_with_their_source() {
    for state in ["--stateless", "--state state --create-state"] {
        let sandbox = Sandbox::with_rows(&[ROW, &row("bob"), ROW]);
        sandbox.run(state).with_code(0);
        let run = sandbox.published();
        same(verify(&sandbox, &["input.ndjson"]));
        forge(&run, DEFINITION, |text| text.replace("always", "never"));
        let ended = verify(&sandbox, &["input.ndjson"]).with_code(1).says("2 rows differ");
        ended.says("input.ndjson:3: the decision has the `outcome` `sent`; the input gives `suppressed`");
        forge(&run, DEFINITION, |text| {
            text.replace("never", "always").replace("{\"id\"", "{\"status\":\"paused\",\"id\"")
        });
        verify(&sandbox, &["input.ndjson"]).with_code(1).says("6 rows differ");
    }
}

#[test]
fn of_a_run_with_a_state_a_refusal_that_no_receipt_explains_is_found() {
    let sandbox = Sandbox::with_rows(&[ROW, &row("bob")]);
    let paused = NOTE.replace("{\"id\"", "{\"status\":\"paused\",\"id\"");
    sandbox.write("campaigns/note/campaign.json", &paused);
    sandbox.run("--state state --create-state").with_code(0);
    forge(&sandbox.published(), DEFINITION, |text| text.replace("\"status\":\"paused\",", ""));
    verify(&sandbox, &["input.ndjson"]).with_code(1).says("has the `outcome` `suppressed`; the input gives `sent`");
}

#[test]
fn twenty_differences_are_shown_and_all_are_counted() {
    let rows: Vec<String> = (0..25).map(|i| row(&format!("u{i}"))).collect();
    let sandbox = Sandbox::with_rows(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    sandbox.run("").with_code(0);
    forge(&sandbox.published(), DEFINITION, |text| text.replace("Hello", "Hallo"));
    let ended = verify(&sandbox, &["input.ndjson"]).with_code(1).says("25 rows differ, of which 20 are shown");
    assert_eq!(ended.stderr.matches("has another `body`").count(), 20, "{}", ended.stderr);
}

#[test]
fn lines_to_mend_are_compared_too() {
    let sandbox = Sandbox::with_rows(&[ROW, "{}", &ROW.replace(r#""name":"Ada""#, "")]);
    sandbox.run("").with_code(3);
    same(verify(&sandbox, &["input.ndjson"]));
    let run = sandbox.published();
    forge(&run, "remainder.ndjson", |text| text.replace("ada", "eve"));
    verify(&sandbox, &["input.ndjson"]).with_code(1).says("remainder.ndjson:1: is not the line that the input gives");
    forge(&run, "rejected.ndjson", |text| text.replace("no_recipient", "bad_row").replace("missing_field", "bad_row"));
    verify(&sandbox, &["input.ndjson"]).with_code(1).says("2 rows differ").says("rejected.ndjson:1");
}

#[test]
fn a_run_from_which_somebody_was_erased_is_not_compared() {
    let sandbox = Sandbox::with_rows(&[ROW, &row("bob")]);
    sandbox.run("--state state --create-state").with_code(0);
    let words = ["state", "erase", "state", "--recipient", "external_user_id:ada", "--out", "out"];
    sandbox.call(&words).with_code(0);
    verify(&sandbox, &["input.ndjson"]).with_code(2).says("were erased from this run");
}
