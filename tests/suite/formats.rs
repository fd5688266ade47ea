//! What earlier versions wrote is read for ever: the states and runs under `fixtures/formats`, one folder for each version
//! of the format.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{read_parquet, tree};
use crate::sandbox::Sandbox;

/// A copy of what the first version wrote: opening a state locks it.
fn first_format() -> Sandbox {
    let sandbox = Sandbox::new();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/formats/1");
    for (name, bytes) in tree(&folder) {
        sandbox.write(&name, bytes);
    }
    sandbox
}

#[test]
fn a_state_of_the_first_format_is_opened_and_shows_what_it_did_then() {
    let sandbox = first_format();
    sandbox.call(&["state", "verify", "state"]).with_code(0);
    let shown = sandbox.call(&["state", "show", "--json", "state"]).with_code(0).json();
    let then: Value = serde_json::from_slice(&fs::read(sandbox.path("shown.json")).unwrap()).unwrap();
    // Later versions may tell more, never less or otherwise.
    for (name, value) in then.as_object().unwrap() {
        assert_eq!(&shown[name], value, "{name}");
    }
}

#[test]
fn runs_of_the_first_format_verify_with_their_amendments() {
    let sandbox = first_format();
    for (run, erased) in [("one", true), ("two", true), ("three", false)] {
        let said = sandbox.call(&["verify", &format!("out/{run}")]).with_code(0).stdout;
        assert_eq!(said.contains("erased since"), erased, "{said}");
    }
}

#[test]
fn a_state_of_the_first_format_decides_the_next_run() {
    let sandbox = first_format();
    sandbox.run_on(&["next.ndjson"], "--state state --run-id next --as-of 2025-03-03T20:00:00Z").with_code(0);
    let decisions = read_parquet(Path::new(&sandbox.path("out/next/decisions.parquet")));
    let fates: Vec<_> = decisions.iter().map(|d| d["reason"].as_deref().or(d["outcome"].as_deref()).unwrap()).collect();
    let erased = "already_received";
    let imported = "already_received";
    assert_eq!(
        fates,
        [
            erased,
            imported,
            "already_received",
            "duplicate_trigger",
            "sent",
            "within_window",
            "sent",
            "history_expired",
            "within_window",
            "sent",
        ]
    );
    sandbox.call(&["state", "verify", "state"]).with_code(0);
    sandbox.call(&["state", "import", "state", "--input", "platform.ndjson"]).with_code(0);
    let shown = sandbox.call(&["state", "show", "--json", "state"]).with_code(0).json();
    assert_eq!(shown["generation"], 6, "what was imported then is not imported again");
}
