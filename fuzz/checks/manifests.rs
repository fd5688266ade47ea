//! Any bytes are the manifest of a run: they are refused, or what they say is true of the folder and stays so.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use retrigger::delivery::DeliveryOptions;
use retrigger::error::Kind;
use retrigger::runs::{RunSettings, run, verify};
use retrigger::storage::RealDisk;

use super::files::{self, Files};
use super::rows;

const MANIFEST: &str = "manifest.json";

const CAMPAIGN: &str =
    r#"{"id":"c","reeligibility":"never","messages":{"sms":{"text":"Hi {{api_trigger_properties.name}}"}}}"#;

/// One trigger each that is sent, suppressed, failed and rejected.
const TRIGGERS: &str = r#"{"campaign_id":"c","external_user_id":"u-1","trigger_properties":{"name":"Ada"}}
{"campaign_id":"c","external_user_id":"u-1","trigger_properties":{"name":"Ada"}}
{"campaign_id":"c","external_user_id":"u-2"}
{"campaign_id":"c"}
"#;

/// A run's folder as it was published. What checks begin with is right, so that a fault is the input's.
static RUN: LazyLock<Files> = LazyLock::new(|| {
    let site = files::folder([("campaigns/c/campaign.json", CAMPAIGN.as_bytes()), ("in.ndjson", TRIGGERS.as_bytes())]);
    let finished = run(Arc::new(RealDisk), &settings(site.path()), &()).unwrap_or_else(|error| panic!("{error}"));
    let published = finished.published.expect("not a dry run");
    verify(&published).unwrap_or_else(|error| panic!("{error}"));
    let mut files = files::read(&published);
    // The same bytes whatever the temporary folder is called, so that a place in them stays the same.
    let manifest = String::from_utf8(files[MANIFEST].clone()).unwrap();
    let manifest = manifest.replace(&format!("{}/", site.path().display()), "");
    files.insert(MANIFEST.to_owned(), manifest.into_bytes());
    files
});

/// The input is the manifest, beside the other files of a run. Behind a `~` it is damage to the run's own manifest, so
/// that one can be right but for a few bytes: see [`files::damage`].
pub fn check(input: &[u8]) {
    let mut manifest = Files::from([(MANIFEST.to_owned(), input.to_vec())]);
    if let Some(damage) = input.strip_prefix(b"~") {
        manifest.insert(MANIFEST.to_owned(), RUN[MANIFEST].clone());
        files::damage(&mut manifest, damage);
    }
    let others = RUN.iter().filter(|(name, _)| *name != MANIFEST);
    let files = others.chain(&manifest).map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let folder = files::folder(files);
    match verify(folder.path()) {
        Ok(verified) => {
            assert!(verified.manifest.ledger.balances());
            std::fs::write(folder.path().join(MANIFEST), verified.manifest.to_json().unwrap()).unwrap();
            verify(folder.path())
                .unwrap_or_else(|error| panic!("what was accepted is refused when rewritten: {error}"));
        }
        Err(error) => {
            assert_eq!(error.kind, Kind::Output, "{error}");
            assert!(error.faults.iter().all(|fault| !fault.file.is_empty() && !fault.to_string().is_empty()));
        }
    }
}

fn settings(site: &Path) -> RunSettings {
    RunSettings {
        input: rows::options(site),
        delivery: DeliveryOptions { batch_size: 100, ..DeliveryOptions::default() },
        new_state_id: 7,
        ..RunSettings::new(
            site.join("campaigns"),
            vec![site.join("in.ndjson").display().to_string()],
            site.join("out"),
            0,
        )
    }
}
