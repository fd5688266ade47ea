//! `explain`: what became of a recipient.

use crate::sandbox::{NOTE, ROW, Sandbox, row};

#[test]
fn a_recipient_finds_every_trigger_newest_run_first_with_the_receipt_that_stood_against_it() {
    let sandbox = Sandbox::with_rows(&[ROW, &row("bob")]);
    sandbox.write("campaigns/note/campaign.json", NOTE.replace("always", "1d"));
    sandbox.run("--state state --create-state --run-id first").with_code(0);
    let next = "--state state --allow-consumed --run-id next --as-of 2026-11-23T08:00:00Z";
    sandbox.run(next).with_code(0);
    let words = ["explain", "--recipient", "external_user_id:ada", "--out", "out", "--state", "state"];
    let found = sandbox.call(&[&words[..], &["--json"]].concat()).with_code(0).json();
    assert_eq!((&found["runs"][0]["run_id"], &found["runs"][1]["run_id"]), (&"next".into(), &"first".into()));
    let refused = &found["runs"][0]["triggers"][0];
    assert_eq!(refused["reason"], "within_window");
    assert_eq!(refused["blocked_by"], "2026-11-23T02:00:00Z");
    assert_eq!(refused["eligible_at"], "2026-11-24T02:00:00Z");
    assert_eq!(found["runs"][1]["triggers"][0]["dispatch_ids"].as_array().unwrap().len(), 1);
    assert_eq!(found["receipts"].as_array().unwrap().len(), 1);
    let text = sandbox.call(&words).with_code(0).stdout;
    assert!(text.contains("a receipt lay closer than the window of 1 d") && !text.contains("bob"), "{text}");
}

#[test]
fn nobody_found_lists_what_was_searched_and_who_is_named_alike() {
    let sandbox = Sandbox::with_rows(&[ROW]);
    sandbox.run("--run-id first").with_code(0);
    let text = sandbox.call(&["explain", "--recipient", "braze_id: ADA", "--out", "out"]).with_code(0).stdout;
    assert!(text.contains("run first (1 triggers)") && text.contains("external_user_id:ada"), "{text}");
}

#[test]
fn a_failed_trigger_names_the_field_of_the_template() {
    let sandbox = Sandbox::with_rows(&[&ROW.replace(r#""name":"Ada""#, "")]);
    sandbox.run("").with_code(3);
    let text = sandbox.call(&["explain", "--recipient", "external_user_id:ada", "--out", "out"]).with_code(0).stdout;
    assert!(text.contains("no sms (missing_value)") && text.contains("name"), "{text}");
}
