//! Our rendering beside the official Handlebars, case by case over `tests/golden/templates/`, and the examples of
//! `docs/templates.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use retrigger::templates::{Escape, OnMissing, Scope, Template, TemplateSource};
use retrigger::triggers::Properties;
use serde::Deserialize;
use serde_json::Value;

/// The share of what a marketer would write that must come out the same, in percent.
const WANTED_PERCENT: usize = 95;

/// One line of the corpus; `tests/golden/templates/make.mjs` tells what it means.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    kind: String,
    escape: String,
    template: String,
    data: Value,
    #[serde(default)]
    partials: BTreeMap<String, String>,
    differs: Option<String>,
    expected: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn corpus() -> Vec<Case> {
    let folder = root().join("tests/golden/templates");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "ndjson"));
    files.sort();
    files.iter().flat_map(|file| cases(file)).collect()
}

fn cases(file: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(file).unwrap();
    let read = |(index, line)| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{}:{}: {error}", file.display(), index + 1))
    };
    text.lines().enumerate().map(read).collect()
}

/// What we print, or our report.
fn rendered(template: &str, data: &Value, partials: &BTreeMap<String, String>, escape: &str) -> Result<String, String> {
    let source = |file: &str, text: &str| TemplateSource { file: file.to_owned(), text: text.to_owned() };
    let partials = partials.iter().map(|(name, text)| (name.clone(), source(name, text))).collect();
    let escape = match escape {
        "html" => Escape::Html,
        "json" => Escape::Json,
        _ => Escape::None,
    };
    let template = Template::compile(&source("template", template), &partials, escape, OnMissing::Blank)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let scope = Scope::new(Properties::Text(data.to_string().into()).to_map());
    let mut out = String::new();
    template.render(&scope, &mut out).map_err(|stop| stop.to_string())?;
    Ok(out)
}

#[test]
fn templates_render_as_in_the_official_implementation() {
    let corpus = corpus();
    let mut equal: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &corpus {
        let ours = rendered(&case.template, &case.data, &case.partials, &case.escape);
        let same = ours.as_deref() == Ok(case.expected.as_str());
        let (same_so_far, all) = equal.entry(&case.kind).or_default();
        *same_so_far += usize::from(same);
        *all += 1;
        if same == case.differs.is_some() {
            wrong.push(format!(
                "{}: {:?}\n  data: {}\n  expected: {:?}\n  ours:     {ours:?}",
                case.name, case.template, case.data, case.expected
            ));
        }
    }
    for (kind, (same, all)) in &equal {
        println!("{kind}: {same} of {all} equal");
    }
    assert!(wrong.is_empty(), "{} cases are not as their line says:\n{}", wrong.len(), wrong.join("\n"));
    let of = |kinds: &[&str]| kinds.iter().fold((0, 0), |sum, kind| (sum.0 + equal[kind].0, sum.1 + equal[kind].1));
    let (same, all) = of(&["email", "push", "sms"]);
    assert!(same * 100 >= all * WANTED_PERCENT, "{same} of {all} realistic templates are equal");
}

#[test]
fn the_corpus_is_large_and_every_case_has_its_own_name() {
    let corpus = corpus();
    let names: BTreeSet<&str> = corpus.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), corpus.len());
    assert!(corpus.len() >= 300);
    let realistic = corpus.iter().filter(|case| case.kind != "construct").count();
    assert!(realistic >= 150, "{realistic}");
}
