//! Any text compiles or has faults with places, a render keeps what compiling promised, and a compiled program renders as
//! the crate does.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use retrigger::error::Fault;
use retrigger::templates::{Escape, OnMissing, Scope, Stop, Stops, Template, TemplateSource};

use super::{assert_placed, parts};

/// Something of every kind, under the names that the corpus uses.
static DATA: LazyLock<Scope> = LazyLock::new(|| {
    let text = include_str!("../data/template.json");
    Scope::new(serde_json::from_str(text).expect("data/template.json is a JSON object"))
});

const PARTIALS: [&str; 3] = ["a", "b", "c"];

/// The first byte chooses escaping and what a missing value does; then the template and up to three partials, `a`, `b`
/// and `c`.
pub fn check(input: &[u8]) {
    let Some((choice, text)) = input.split_first() else { return };
    let texts: Option<Vec<&str>> = parts(text).map(|part| std::str::from_utf8(part).ok()).collect();
    let Some(texts) = texts else { return };
    let source = |file: &str, text: &str| TemplateSource { file: file.to_owned(), text: text.to_owned() };
    let template = source("template", texts[0]);
    let partials = PARTIALS.iter().zip(&texts[1..]);
    let partials = partials.map(|(name, text)| ((*name).to_owned(), source(name, text))).collect();
    let escape = [Escape::Html, Escape::Json, Escape::None][usize::from(choice % 3)];
    let on_missing = if choice % 2 == 0 { OnMissing::Fail } else { OnMissing::Blank };

    let compiled = Template::compile(&template, &partials, escape, on_missing);
    match (compiled, Template::compile_reference(&template, &partials, escape, on_missing)) {
        (Ok(compiled), Ok(reference)) => check_renders(&compiled, &reference, &template.text),
        (Err(first), Err(second)) => {
            assert_eq!(first, second);
            check_faults(&first, &template, &partials);
        }
        (compiled, reference) => panic!("{compiled:?}, {reference:?}"),
    }
}

fn check_faults(faults: &[Fault], template: &TemplateSource, partials: &BTreeMap<String, TemplateSource>) {
    assert!(!faults.is_empty());
    for fault in faults {
        let sources = || std::iter::once(template).chain(partials.values());
        let source = sources().find(|source| source.file == fault.file);
        assert_placed(fault, &source.expect("a file of the author's").text);
    }
}

fn check_renders(template: &Template, reference: &Template, text: &str) {
    assert_eq!(template.references(), reference.references());
    let (rendered, stops) = (render(template), template.stops());
    assert_eq!((&rendered, &stops), (&render(reference), &reference.stops()));
    match &stops {
        Stops::Never => assert!(rendered.is_ok(), "nothing could stop it: {rendered:?}"),
        Stops::IfMissing(paths) if paths.iter().all(|path| DATA.has(path)) => assert!(rendered.is_ok(), "{rendered:?}"),
        Stops::IfMissing(_) => assert!(matches!(rendered, Err(Stop::Missing { .. })), "{rendered:?}"),
        Stops::Unknown => {}
    }
    if !text.contains("{{") && !text.contains('\\') {
        assert_eq!(rendered.as_deref(), Ok(text));
    }
}

/// What is printed; nothing of a failed render may be left behind.
fn render(template: &Template) -> Result<String, Stop> {
    let mut out = "left by another render".to_owned();
    let result = template.render(&DATA, &mut out);
    assert!(result.is_ok() || out.is_empty(), "{out}");
    result.map(|()| out)
}
