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

/// How a template is compiled.
type Compile = fn(
    &TemplateSource,
    &BTreeMap<String, TemplateSource>,
    Escape,
    OnMissing,
) -> Result<Template, Vec<retrigger::error::Fault>>;

fn compiled(
    compile: Compile,
    template: &str,
    partials: &BTreeMap<String, String>,
    escape: &str,
) -> Result<Template, String> {
    let source = |file: &str, text: &str| TemplateSource { file: file.to_owned(), text: text.to_owned() };
    let partials = partials.iter().map(|(name, text)| (name.clone(), source(name, text))).collect();
    let escape = match escape {
        "html" => Escape::Html,
        "json" => Escape::Json,
        _ => Escape::None,
    };
    compile(&source("template", template), &partials, escape, OnMissing::Blank)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

fn text_of(template: &Template, data: &Value) -> Result<String, String> {
    let scope = Scope::new(Properties::Text(data.to_string().into()).to_map());
    let mut out = String::new();
    template.render(&scope, &mut out).map_err(|stop| stop.to_string())?;
    Ok(out)
}

/// What we print, or our report.
fn rendered(template: &str, data: &Value, partials: &BTreeMap<String, String>, escape: &str) -> Result<String, String> {
    text_of(&compiled(Template::compile, template, partials, escape)?, data)
}

#[test]
fn nearly_all_of_the_corpus_is_compiled_and_renders_as_the_crate_does() {
    let mut shares: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for case in corpus() {
        let with = |compile| compiled(compile, &case.template, &case.partials, &case.escape);
        let (ours, reference) = (with(Template::compile), with(Template::compile_reference));
        let (Ok(ours), Ok(reference)) = (&ours, &reference) else {
            assert_eq!(ours.err(), reference.err(), "{}", case.name);
            continue;
        };
        assert_eq!(text_of(ours, &case.data), text_of(reference, &case.data), "{}", case.name);
        let (programs, all) = shares.entry(case.kind).or_default();
        *programs += usize::from(ours.not_compiled().is_none());
        *all += 1;
    }
    for (kind, (programs, all)) in &shares {
        println!("{kind}: {programs} of {all} compiled");
    }
    let realistic = shares.iter().filter(|(kind, _)| *kind != "construct");
    let (programs, all) = realistic.fold((0, 0), |sum, (_, share)| (sum.0 + share.0, sum.1 + share.1));
    assert!(programs * 100 >= all * WANTED_PERCENT, "{programs} of {all} realistic templates are compiled");
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

// --- docs/templates.md

/// A table of the page: its header, and its rows with the number of their line. Cells are without back quotes.
struct Table {
    header: Vec<String>,
    rows: Vec<(usize, Vec<String>)>,
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/templates.md")).unwrap()
}

fn tables(page: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut inside = false;
    for (index, line) in page.lines().enumerate() {
        if !line.starts_with('|') {
            inside = false;
        } else if !inside {
            tables.push(Table { header: cells(line), rows: Vec::new() });
            inside = true;
        } else if !line.starts_with("|---") {
            tables.last_mut().unwrap().rows.push((index + 1, cells(line)));
        }
    }
    tables
}

fn cells(line: &str) -> Vec<String> {
    let line = line.replace("\\|", "\0");
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    let plain = |cell: &str| {
        let cell = cell.trim();
        let code = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).filter(|code| !code.contains('`'));
        code.unwrap_or(cell).replace('\0', "|")
    };
    inner.split('|').map(plain).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn printed(template: &str, data: &str, partials: &str) -> String {
    let partials = serde_json::from_str(partials).unwrap();
    rendered(template, &json(data), &partials, "none").unwrap_or_else(|report| report)
}

/// What a row of the page says that is not so.
fn untrue(header: &[&str], row: &[String]) -> Option<String> {
    let cell = |name: &str| header.iter().position(|column| *column == name).map(|index| row[index].as_str());
    let differ = |ours: String, said: &str| (ours != said).then(|| format!("prints {ours:?}, not {said:?}"));
    match header {
        ["Template", "Data", .., "Prints"] | ["Template", "Data", "Prints", ..] => {
            differ(printed(&row[0], &row[1], cell("Partials").unwrap_or("{}")), cell("Prints")?)
        }
        ["Template", "Data", "Here", "Official", ..] => {
            let official = corpus().into_iter().find(|case| case.template == row[0] && case.data == json(&row[1]));
            let Some(official) = official else { return Some("is not in the corpus".to_owned()) };
            differ(printed(&row[0], &row[1], "{}"), &row[2]).or_else(|| differ(official.expected, &row[3]))
        }
        ["Template", "Data", "Fail", "Blank"] => {
            differ(failing(&row[0], &row[1]), &row[2]).or_else(|| differ(printed(&row[0], &row[1], "{}"), &row[3]))
        }
        ["Template", "Fault", ..] => {
            let report = printed(&row[0], "{}", "{}");
            (!report.contains(&format!(": {}\n", row[1]))).then_some(report)
        }
        ["Value", "HTML", "JSON", "None"] => {
            ["html", "json", "none"].iter().zip(&row[1..]).find_map(|(escape, said)| {
                let ours = rendered("{{x}}", &serde_json::json!({"x": row[0]}), &BTreeMap::new(), escape);
                differ(ours.unwrap(), said)
            })
        }
        ["Name", "Holds"] => None,
        _ => Some("stands in a table of an unknown kind".to_owned()),
    }
}

fn failing(template: &str, data: &str) -> String {
    let source = TemplateSource { file: "template".to_owned(), text: template.to_owned() };
    let template = Template::compile(&source, &BTreeMap::new(), Escape::None, OnMissing::Fail).unwrap();
    let mut out = String::new();
    match template.render(&Scope::new(Properties::Text(data.into()).to_map()), &mut out) {
        Ok(()) => out,
        Err(stop) => stop.to_string().rsplit(": ").next().unwrap().to_owned(),
    }
}

#[test]
fn every_table_of_the_page_for_authors_is_true() {
    let page = page();
    let mut checked = 0;
    let mut wrong = Vec::new();
    for table in tables(&page) {
        let header: Vec<&str> = table.header.iter().map(String::as_str).collect();
        for (line, row) in &table.rows {
            assert_eq!(row.len(), header.len(), "docs/templates.md:{line}: cells");
            checked += usize::from(header[0] != "Name");
            wrong.extend(untrue(&header, row).map(|what| format!("docs/templates.md:{line}: `{}` {what}", row[0])));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 80, "only {checked} examples were found");
}

#[test]
fn every_listed_difference_stands_on_the_page_for_authors() {
    let page = page();
    let listed: BTreeSet<String> =
        tables(&page).into_iter().flat_map(|table| table.rows).map(|(_, row)| row[0].clone()).collect();
    for case in corpus().iter().filter(|case| case.differs.is_some() && case.kind == "construct") {
        assert!(listed.contains(&case.template), "{}: {}", case.name, case.template);
    }
}

#[test]
fn the_example_of_white_space_is_true() {
    let page = page();
    let block = |language: &str| {
        let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let (_, after) = page.split_once("```handlebars\n").unwrap();
    let data = after.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(printed(&block("handlebars"), data, &block("partials")), block("text"));
}
