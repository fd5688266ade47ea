//! The corpora of the fuzz targets, without a fuzzer: every file passes the check of its target.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "../../fuzz/checks/mod.rs"]
mod checks;

use checks::{campaign_files, manifests, ndjson_rows, request_bodies, state_files, template};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// What is in a folder; that there is something.
fn entries(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths: BTreeSet<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths
}

/// Checks every file of a target's corpus, and names all that fail.
fn every_file(target: &str, check: fn(&[u8])) {
    let files = entries(&corpus().join(target)).into_iter();
    let failed: Vec<PathBuf> = files.filter(|file| catch_unwind(|| check(&fs::read(file).unwrap())).is_err()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn template() {
    every_file("template", template::check);
}

#[test]
fn ndjson_rows() {
    every_file("ndjson_rows", ndjson_rows::check);
}

#[test]
fn request_bodies() {
    every_file("request_bodies", request_bodies::check);
}

#[test]
fn campaign_files() {
    every_file("campaign_files", campaign_files::check);
}

#[test]
fn manifests() {
    every_file("manifests", manifests::check);
}

#[test]
fn state_files() {
    every_file("state_files", state_files::check);
}

#[test]
fn every_corpus_has_its_target_and_its_test() {
    let names = |folder: &str| -> BTreeSet<String> {
        let paths = entries(&corpus().with_file_name(folder));
        paths.iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    let tested = ["campaign_files", "manifests", "ndjson_rows", "request_bodies", "state_files", "template"];
    assert_eq!(names("corpus"), tested.map(str::to_owned).into());
    assert_eq!(names("targets"), tested.map(str::to_owned).into());
}
