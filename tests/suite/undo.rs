//! Runs that are held and end with a word, committed or discarded; and committed runs that are taken back.

use std::fs;
use std::path::PathBuf;

use crate::sandbox::{AS_OF, Ended, NOTE, ROW, RunDir, Sandbox, contents, row};

/// A campaign that is sent once ever, a state, and Ada's trigger.
fn once() -> Sandbox {
    let sandbox = Sandbox::with_rows(&[ROW]);
    sandbox.write("campaigns/note/campaign.json", NOTE.replace("always", "never"));
    sandbox.write("next.ndjson", format!("{ROW}\n{}\n", row("bob")));
    sandbox.call(&["state", "init", "state"]).with_code(0);
    sandbox
}

const HOLD: &str = "--state state --hold --run-id monday";
const HELD: &str = "out.staging/monday";

fn end(sandbox: &Sandbox, command: &str, more: &[&str]) -> Ended {
    sandbox.call(&[&[command, HELD], more].concat())
}

fn next_night(sandbox: &Sandbox) -> Ended {
    sandbox.run_on(&["next.ndjson"], "--state state --as-of 2026-11-24T02:00:00Z")
}

fn receipt_files(sandbox: &Sandbox) -> Vec<PathBuf> {
    let files = contents(&sandbox.path("state")).into_keys();
    files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with("receipts-")).collect()
}

#[test]
fn a_held_run_is_complete_but_counts_for_nothing() {
    let sandbox = once();
    let ended = sandbox.run(HOLD).with_code(0);
    assert!(ended.stdout.contains("run monday is held in"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("retrigger commit") && ended.stdout.contains("retrigger discard"),
        "{}",
        ended.stdout
    );
    assert_eq!((sandbox.runs().len(), sandbox.generation()), (0, 0));
    sandbox.call(&["verify", HELD]).with_code(0);
    assert_eq!(RunDir(sandbox.path(HELD)).recipients(), ["ada"]);
}

#[test]
fn the_state_admits_no_other_run_while_one_is_held_and_says_how_it_ends() {
    let sandbox = once();
    sandbox.run(HOLD).with_code(0);
    let before = contents(&sandbox.path("state"));
    let ended = next_night(&sandbox).with_code(75);
    ended.says("holds the run `monday`").says("retrigger commit").says("retrigger discard");
    sandbox.run(HOLD).with_code(75);
    sandbox.run_on(&["next.ndjson"], "--state state --out elsewhere").with_code(75);
    assert_eq!(contents(&sandbox.path("state")), before);
    assert!(sandbox.exists(HELD));
    // Runs without this state go on, in the same folder, too.
    sandbox.run("--run-id other").with_code(0);
    assert!(sandbox.exists(HELD));
}

#[test]
fn a_committed_run_is_what_it_would_have_been_without_holding() {
    let (held, direct) = (once(), once());
    held.run(HOLD).with_code(0);
    let staged: Vec<Vec<u8>> = contents(&held.path(HELD)).into_values().collect();
    let ended = end(&held, "commit", &[]).with_code(0);
    assert!(ended.stdout.contains("run monday was committed to"), "{}", ended.stdout);
    direct.run("--state state --run-id monday").with_code(0);
    assert!(contents(&held.published().0).into_values().eq(staged));
    assert_eq!(held.published().messages(), direct.published().messages());
    assert_eq!((held.generation(), held.exists("out.staging")), (1, false));
    for sandbox in [&held, &direct] {
        next_night(sandbox).with_code(0);
        let night = sandbox.runs().into_iter().find(|run| !run.ends_with("monday")).unwrap();
        assert_eq!(RunDir(night).recipients(), ["bob"]);
    }
}

#[test]
fn committing_twice_is_committing_once_and_gives_the_exit_code_of_the_run() {
    let sandbox = once();
    sandbox.write("input.ndjson", format!("{ROW}\n{{}}\n"));
    sandbox.run(HOLD).with_code(3);
    end(&sandbox, "commit", &[]).with_code(3);
    let before = contents(&sandbox.path("out"));
    let again = end(&sandbox, "commit", &[]).with_code(3);
    assert!(again.stdout.contains("was committed before"), "{}", again.stdout);
    sandbox.call(&["commit", "out/monday"]).with_code(3);
    assert_eq!((contents(&sandbox.path("out")), sandbox.generation()), (before, 1));
    end(&sandbox, "discard", &[]).with_code(1).says("is committed");
    sandbox.published();
}

#[test]
fn a_discarded_run_leaves_everything_as_it_was() {
    let sandbox = once();
    let before = contents(&sandbox.path("state"));
    sandbox.run(HOLD).with_code(0);
    assert_eq!(receipt_files(&sandbox).len(), 1);
    let ended = end(&sandbox, "discard", &[]).with_code(0);
    assert!(ended.stdout.contains("run monday was discarded"), "{}", ended.stdout);
    assert_eq!(contents(&sandbox.path("state")), before);
    sandbox.assert_nothing_left();
    end(&sandbox, "commit", &[]).with_code(2).says("is no run");
    sandbox.run("--state state --run-id monday").with_code(0);
    assert_eq!((sandbox.published().recipients(), sandbox.generation()), (vec!["ada".to_owned()], 1));
}

#[test]
fn a_run_is_held_over_a_merge_of_the_state() {
    let sandbox = once();
    sandbox.run("--state state").with_code(0);
    let old = receipt_files(&sandbox);
    sandbox.run_on(&["next.ndjson"], &format!("{HOLD} --as-of 2026-11-24T02:00:00Z")).with_code(0);
    // The next generation is one file in place of the old one; both are needed until a word is given.
    assert_eq!(receipt_files(&sandbox).len(), 2);
    sandbox.call(&["state", "show", "state"]).with_code(0);
    assert_eq!(receipt_files(&sandbox).len(), 2);
    end(&sandbox, "commit", &[]).with_code(0);
    let new = receipt_files(&sandbox);
    assert!(new.len() == 1 && new != old, "{new:?}");
    assert_eq!(sandbox.generation(), 2);
}

#[test]
fn a_moved_state_is_named_and_a_wrong_one_is_refused() {
    let sandbox = once();
    sandbox.run(HOLD).with_code(0);
    fs::rename(sandbox.path("state"), sandbox.path("moved")).unwrap();
    end(&sandbox, "commit", &[]).with_code(1).says("--state");
    sandbox.call(&["state", "init", "state"]).with_code(0);
    end(&sandbox, "commit", &[]).with_code(1).says("belongs to another state");
    end(&sandbox, "commit", &["--state", "moved"]).with_code(0);
    assert_eq!(sandbox.published().recipients(), ["ada"]);
}

#[test]
fn only_a_run_with_a_state_can_be_held() {
    let sandbox = once();
    let words = ["run", "--campaigns", "campaigns", "--input", "input.ndjson", "--out", "out", "--as-of", AS_OF];
    sandbox.call(&[&words[..], &["--stateless", "--hold"]].concat()).with_code(2);
    sandbox.run("--run-id plain").with_code(0);
    sandbox.call(&["commit", "out/plain"]).with_code(2).says("was made without a state");
    sandbox.call(&["discard", "campaigns"]).with_code(2).says("is no run");
}

const REVOKE: [&str; 4] = ["revoke", "out/monday", "--reason", "wrong template"];

fn again(sandbox: &Sandbox, id: &str) -> Ended {
    sandbox.run(&format!("--state state --run-id {id} --as-of 2026-11-24T02:00:00Z"))
}

#[test]
fn a_revoked_run_is_as_if_it_had_not_been_and_says_so_itself() {
    let sandbox = once();
    sandbox.run("--state state --run-id monday").with_code(0);
    let before = contents(&sandbox.path("out/monday"));
    let ended = sandbox.call(&REVOKE).with_code(0);
    assert!(ended.stdout.contains("run monday was revoked: 1 receipts count no more"), "{}", ended.stdout);
    let run = sandbox.published();
    assert_eq!(run.json("revoked.json")["reason"], "wrong template");
    let mut after = contents(&run.0);
    after.retain(|file, _| !file.ends_with("revoked.json"));
    assert!(after == before, "nothing was rewritten");
    let verified = sandbox.call(&["verify", "out/monday"]).with_code(0);
    assert!(verified.stdout.contains("revoked"), "{}", verified.stdout);
    let explained =
        sandbox.call(&["explain", "--recipient", "external_user_id:ada", "--out", "out", "--state", "state"]);
    let explained = explained.with_code(0).stdout;
    assert!(explained.contains("revoked since") && explained.contains("note: taken back"), "{explained}");
    // Its input is not consumed any more, and Ada has received nothing.
    again(&sandbox, "tuesday").with_code(0);
    assert_eq!(RunDir(sandbox.path("out/tuesday")).recipients(), ["ada"]);
    again(&sandbox, "wednesday").with_code(1).says("was consumed by run `tuesday`");
    assert_eq!(sandbox.generation(), 3);
}

#[test]
fn revoking_twice_is_revoking_once_and_the_id_stays_taken() {
    let sandbox = once();
    sandbox.run("--state state --run-id monday").with_code(0);
    sandbox.call(&REVOKE).with_code(0);
    let before = (contents(&sandbox.path("state")), contents(&sandbox.path("out")));
    let ended = sandbox.call(&["revoke", "out/monday", "--reason", "another"]).with_code(0);
    assert!(ended.stdout.contains("was revoked before"), "{}", ended.stdout);
    assert!((contents(&sandbox.path("state")), contents(&sandbox.path("out"))) == before);
    sandbox.run("--state state --run-id monday").with_code(1).says("its id is taken").says("--run-id");
}

#[test]
fn only_what_the_run_itself_sent_is_taken_back() {
    let sandbox = once();
    sandbox.run("--state state --run-id monday").with_code(0);
    sandbox.run_on(&["next.ndjson"], "--state state --run-id tuesday --as-of 2026-11-24T02:00:00Z").with_code(0);
    sandbox.call(&["revoke", "out/tuesday", "--reason", "too early"]).with_code(0);
    let ended = sandbox.run_on(&["next.ndjson"], "--state state --run-id friday --as-of 2026-11-27T02:00:00Z");
    ended.with_code(0);
    assert_eq!(RunDir(sandbox.path("out/friday")).recipients(), ["bob"]);
}

#[test]
fn a_revocation_survives_merging_export_and_import() {
    let sandbox = once();
    sandbox.run("--state state --run-id monday").with_code(0);
    sandbox.call(&REVOKE).with_code(0);
    sandbox.call(&["state", "compact", "state", "--as-of", "2026-11-30T00:00:00Z"]).with_code(0);
    let shown = sandbox.call(&["state", "show", "state"]).with_code(0);
    assert!(shown.stdout.contains("revoke"), "{}", shown.stdout);
    for (log, copy) in [("log.parquet", "one"), ("log.ndjson", "two")] {
        let format = if log.ends_with("parquet") { "parquet" } else { "ndjson" };
        sandbox.call(&["state", "export", "state", "--out", log, "--format", format]).with_code(0);
        sandbox.call(&["state", "init", copy]).with_code(0);
        sandbox.call(&["state", "import", copy, "--input", log]).with_code(0);
        sandbox.run(&format!("--state {copy} --run-id {copy} --out out-{copy}")).with_code(0);
        assert_eq!(RunDir(sandbox.path(format!("out-{copy}/{copy}"))).recipients(), ["ada"], "{log}");
    }
    again(&sandbox, "tuesday").with_code(0);
    assert_eq!(RunDir(sandbox.path("out/tuesday")).recipients(), ["ada"]);
}

#[test]
fn what_cannot_be_taken_back_is_refused() {
    let sandbox = once();
    sandbox.run("--run-id plain").with_code(0);
    let revoke = |run: &str, more: &[&str]| sandbox.call(&[&["revoke", run, "--reason", "x"], more].concat());
    revoke("out/plain", &[]).with_code(2).says("was made without a state");
    revoke("campaigns", &[]).with_code(2).says("is no run");
    sandbox.call(&["revoke", "out/plain"]).with_code(2).says("--reason");
    sandbox.run(HOLD).with_code(0);
    revoke(HELD, &[]).with_code(75).says("holds the run `monday`");
    end(&sandbox, "commit", &[]).with_code(0);
    sandbox.call(&["state", "init", "other"]).with_code(0);
    revoke("out/monday", &["--state", "other"]).with_code(1).says("belongs to another state");
    assert!(!sandbox.exists("out/monday/revoked.json"));
}
