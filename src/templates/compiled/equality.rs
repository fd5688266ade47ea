//! Compiled programs and the crate render alike: every byte, every stop, every limit. Templates and data are made up from
//! every construct there is, nested, over values of every kind.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::templates::{Data, Escape, OnMissing, Scope, Stop, Template, TemplateSource, Workspace};
use crate::triggers::{Properties, Values};

fn source(file: &str, text: &str) -> TemplateSource {
    TemplateSource { file: file.to_owned(), text: text.to_owned() }
}

// --- Templates

const PATHS: [&str; 29] = [
    "a",
    "b",
    "list",
    "rows",
    "deep",
    "absent",
    "this.n",
    "n",
    "k",
    "deep.a",
    "deep.rows.0.n",
    "list.1",
    "list.length",
    "a.length",
    "a.0",
    "../a",
    "../n",
    "../../a",
    "../this",
    "api_trigger_properties.a",
    "api_trigger_properties.rows",
    "api_trigger_properties.deep.list",
    "api_trigger_properties.${b}",
    "@root.a",
    "@index",
    "@key",
    "@first",
    "@../index",
    "@last",
];

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => prop::sample::select(&["this", "."][..]).prop_map(str::to_owned),
        12 => prop::sample::select(&PATHS[..]).prop_map(str::to_owned),
        2 => prop::sample::select(&["p", "q", "p.n", "q.length", "x", "y", "x.n", "[odd name]", "empty"][..])
            .prop_map(str::to_owned),
    ]
}

fn literal() -> impl Strategy<Value = String> {
    prop::sample::select(
        &["1", "0", "-2.5", "\"a\"", "'<&\"=`>'", "\"\"", "true", "false", "null", "undefined", "'n'"][..],
    )
    .prop_map(str::to_owned)
}

/// A path, a literal or a sub-expression.
fn argument() -> impl Strategy<Value = String> {
    prop_oneof![5 => path(), 2 => literal()].prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            3 => (prop::sample::select(&["eq", "ne", "lt", "lte", "gt", "gte", "and", "or", "default", "lookup"][..]),
                  inner.clone(), inner.clone())
                .prop_map(|(name, a, b)| format!("({name} {a} {b})")),
            2 => (prop::sample::select(&["not", "upper", "lower"][..]), inner.clone())
                .prop_map(|(name, a)| format!("({name} {a})")),
            1 => prop::sample::select(&["1234.5", "'77'", "@index", "n"][..])
                .prop_map(|a| format!("(number {a} decimals=1 thousands=',')")),
            1 => prop::sample::select(&["0", "'2026-11-23'", "k"][..]).prop_map(|a| format!("(date {a} '%Y')")),
        ]
    })
}

/// What is printed by one tag.
fn print() -> impl Strategy<Value = String> {
    let tag = |inner: String, form: usize| match form {
        0 => format!("{{{{{inner}}}}}"),
        1 => format!("{{{{{{{inner}}}}}}}"),
        2 => format!("{{{{&{inner}}}}}"),
        _ => format!("{{{{~{inner}~}}}}"),
    };
    let call = argument().prop_map(|argument| match argument.strip_prefix('(') {
        Some(call) => call.strip_suffix(')').expect("a closing parenthesis").to_owned(),
        None => format!("default {argument} 'none'"),
    });
    prop_oneof![
        4 => (path(), 0..4usize).prop_map(move |(path, form)| tag(path, form)),
        2 => (call, 0..4usize).prop_map(move |(call, form)| tag(call, form)),
        1 => prop::sample::select(&["{{abort_message a}}", "{{#if k}}{{abort_message 'k'}}{{/if}}"][..]).prop_map(str::to_owned),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(&["t", " ", "\n", "  \n", "é😀", "<&>", "\\\\", "{", "$", "\u{1}"][..]).prop_map(str::to_owned)
}

/// The paths that can open a section.
fn section() -> impl Strategy<Value = String> {
    prop::sample::select(
        &["a", "b", "list", "rows", "deep", "absent", "this.n", "k", "yes", "no", "../a", "deep.rows"][..],
    )
    .prop_map(str::to_owned)
}

/// Scopes that may or may not be the one around.
const SCENES: [&str; 9] = [
    "{{#rows}}{{#this}}{{n}}|{{../a}}|{{../../a}}{{/this}}{{/rows}}",
    "{{#each list}}{{#.}}{{../a}}|{{@index}}|{{@../index}}{{/.}}{{/each}}",
    "{{#yes}}{{a}}{{#k}}{{../a}}|{{n}}{{/k}}{{#with deep}}{{../a}}{{n}}{{/with}}{{/yes}}",
    "{{#each rows as |p q|}}{{#p}}{{n}}{{../n}}{{q}}{{#../yes}}{{p.n}}{{../n}}{{/../yes}}{{/p}}{{/each}}",
    "{{#> three x=a}}{{#yes}}{{x}}{{a}}{{../a}}{{/yes}}{{#x}}{{.}}{{#this}}{{../x}}{{/this}}{{/x}}{{/three}}",
    "{{#with deep}}{{#each this}}{{@key}}={{this}}{{#if @last}}.{{else}},{{/if}}{{../n}}{{/each}}{{/with}}",
    "{{> two x=rows y=yes}}{{#> three deep x=this.list}}{{x.0}}{{x.length}}{{n}}{{/three}}",
    "{{#each (lookup deep 'list')}}{{.}}{{#this}}{{../n}}{{n}}{{#this}}{{n}}{{/this}}{{/this}}{{/each}}",
    "{{#deep}}{{#list}}{{#if @first}}{{../n}}{{/if}}{{#k}}{{../../a}}{{/k}}{{^}}none{{/list}}{{/deep}}",
];

fn piece() -> impl Strategy<Value = String> {
    let scene = prop::sample::select(&SCENES[..]).prop_map(str::to_owned);
    let leaf = prop_oneof![4 => text(), 8 => print(), 1 => scene];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let body = prop::collection::vec(inner, 0..4).prop_map(|pieces| pieces.concat());
        prop_oneof![
            (argument(), body.clone(), body.clone(), 0..4usize).prop_map(|(test, then, other, form)| match form {
                0 => format!("{{{{#if {test}}}}}{then}{{{{/if}}}}"),
                1 => format!("{{{{#if {test}}}}}{then}{{{{else}}}}{other}{{{{/if}}}}"),
                2 => format!("{{{{#unless {test} includeZero=true}}}}{then}{{{{else if {test}}}}}{other}{{{{/unless}}}}"),
                _ => format!("{{{{#eq {test} 1}}}}{then}{{{{^}}}}{other}{{{{/eq}}}}"),
            }),
            (argument(), body.clone(), body.clone(), 0..3usize).prop_map(|(over, one, other, form)| match form {
                0 => format!("{{{{#each {over}}}}}{one}{{{{/each}}}}"),
                1 => format!("{{{{#each {over} as |p q|}}}}{one}{{{{else}}}}{other}{{{{/each}}}}"),
                _ => format!("{{{{~#each {over}~}}}}\n{one}\n{{{{~/each}}}}"),
            }),
            (argument(), body.clone(), body.clone(), 0..2usize).prop_map(|(over, one, other, form)| match form {
                0 => format!("{{{{#with {over} as |p|}}}}{one}{{{{/with}}}}"),
                _ => format!("{{{{#with {over}}}}}{one}{{{{else}}}}{other}{{{{/with}}}}"),
            }),
            (section(), body.clone(), body.clone(), 0..3usize).prop_map(|(over, one, other, form)| match form {
                0 => format!("{{{{#{over}}}}}{one}{{{{/{over}}}}}"),
                1 => format!("{{{{#{over}}}}}{one}{{{{^}}}}{other}{{{{/{over}}}}}"),
                _ => format!("{{{{^{over}}}}}{one}{{{{/{over}}}}}"),
            }),
            (argument(), argument(), body.clone(), 0..6usize).prop_map(|(scope, value, block, form)| match form {
                0 => "\n  {{> one}}\n".to_owned(),
                1 => format!("{{{{> one {scope}}}}}"),
                2 => format!("\n {{{{> two x={scope} y={value}}}}}\n"),
                3 => format!("{{{{> two this x={value}}}}}"),
                4 => format!("{{{{#> three {scope}}}}}{block}{{{{/three}}}}"),
                _ => format!("{{{{#> three x={scope}}}}}{{{{#*inline 'in'}}}}{block}{{{{/inline}}}}{block}{{{{/three}}}}"),
            }),
        ]
    })
}

fn template() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 1..6).prop_map(|pieces| pieces.concat())
}

fn partials() -> BTreeMap<String, TemplateSource> {
    [
        ("one", "[{{a}}|{{n}}|{{../a}}]\n{{#if k}}{{k}}{{/if}}\n"),
        ("two", "<{{x}}{{#y}}{{.}}{{x}}{{/y}}{{#each x}}{{@index}}{{../y}}{{/each}}{{a}}>"),
        ("three", "({{> @partial-block}}{{#each rows}}{{> @partial-block}}{{/each}}{{x}}{{#in}}{{/in}})"),
    ]
    .map(|(name, text)| (name.to_owned(), source(name, text)))
    .into()
}

// --- Data

fn scalar() -> impl Strategy<Value = String> {
    prop::sample::select(
        &[
            "null",
            "true",
            "false",
            "0",
            "-0",
            "7",
            "-12",
            "0.0",
            "2.50",
            "1e400",
            "123456789012345678901",
            "\"\"",
            "\"a\"",
            "\"Zoé 😀\"",
            "\"<b>&\\\"'`=\"",
            "\"\\u0001\\n\\\\\"",
            "\"2026-11-23T10:00:00Z\"",
            "[]",
            "{}",
        ][..],
    )
    .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(3, 16, 4, |inner| {
        let member = (prop::sample::select(&["n", "k", "a", "list", "odd name", "0", "length"][..]), inner.clone());
        let members = prop::collection::vec(member.prop_map(|(name, value)| format!("\"{name}\":{value}")), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            members.prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

fn data() -> impl Strategy<Value = Map<String, Value>> {
    let names = ["a", "b", "list", "rows", "deep", "k", "yes", "odd name", "n"];
    let list = prop::collection::vec(value(), 0..4).prop_map(|items| format!("[{}]", items.join(","))).boxed();
    let of = |name: &str| match name {
        "list" | "rows" => prop_oneof![1 => value(), 2 => list.clone()].boxed(),
        "yes" => prop_oneof![1 => value(), 2 => Just("true".to_owned())].boxed(),
        _ => value().boxed(),
    };
    let top = names.map(|name| prop::option::weighted(0.9, of(name))).to_vec().prop_map(move |values| {
        let members = names.iter().zip(values).filter_map(|(name, value)| Some(format!("\"{name}\":{}", value?)));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    });
    let top = top.boxed();
    (top.clone(), top).prop_map(|(top, properties)| {
        let mut map = Properties::Text(top.into()).to_map();
        map.insert("api_trigger_properties".to_owned(), Properties::Text(properties.into()).to_map().into());
        map
    })
}

// --- Equality

/// A template both ways, where it has no fault.
fn both(text: &str, escape: Escape, on_missing: OnMissing) -> Option<(Template, Template)> {
    let (source, partials) = (source("t.hbs", text), partials());
    let compiled = Template::compile(&source, &partials, escape, on_missing).ok()?;
    let reference = Template::compile_reference(&source, &partials, escape, on_missing);
    Some((compiled, reference.expect("no fault either")))
}

fn rendered(template: &Template, scope: &Scope, memory: &mut Workspace) -> Result<String, Stop> {
    let mut values = Values::default();
    scope.fill(template.asks(), &mut values);
    let slots: Vec<u32> = (0..).take(template.asks().len()).collect();
    // As JSON, names included: more than all values have.
    let bytes = scope.context.data().to_string().len();
    let data = Data { values: &values, slots: &slots, bytes, scope: &|| scope.clone() };
    let mut out = String::from("before");
    let result = template.append(&data, memory, &mut out);
    assert!(out.starts_with("before"));
    out.drain(.."before".len());
    assert!(result.is_ok() || out.is_empty(), "partial output after an error");
    assert_eq!(template.would_render(&data, memory, &mut String::new()), result.is_ok(), "would_render");
    result.map(|()| out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, max_global_rejects: 40_000, ..ProptestConfig::default() })]

    #[test]
    fn compiled_programs_render_as_the_crate(
        text in template(),
        data in prop::collection::vec(data(), 3),
        escape in prop::sample::select(&[Escape::Html, Escape::Json, Escape::None][..]),
        blank in any::<bool>(),
    ) {
        let on_missing = if blank { OnMissing::Blank } else { OnMissing::Fail };
        let Some((compiled, reference)) = both(&text, escape, on_missing) else { return Err(TestCaseError::reject("a fault")) };
        let mut memory = Workspace::default();
        for data in data {
            let scope = Scope::new(data);
            let expected = rendered(&reference, &scope, &mut memory);
            prop_assert_eq!(rendered(&compiled, &scope, &mut memory), expected, "{:?}", text);
        }
    }
}

/// A list of so many rows, each with a text.
fn rows(count: usize, text: usize) -> Value {
    Value::from((0..count).map(|n| serde_json::json!({"n": n, "t": "x".repeat(text)})).collect::<Vec<_>>())
}

#[test]
fn limits_end_both_at_the_same_data() {
    let templates = [
        "{{#each rows}}{{#each ../rows}}{{t}}{{/each}}{{/each}}",
        "{{#rows}}{{t}}{{#rows}}{{n}}{{/rows}}{{/rows}}",
        "{{#each (lookup this.deep 'rows')}}{{#each (lookup ../deep 'rows')}}{{t}}{{n}}{{/each}}{{/each}}",
        "{{#each rows}}{{#each ../rows}}{{#each ../../rows}}{{/each}}{{/each}}{{/each}}",
        "{{#with deep}}{{#each rows}}{{../rows}}{{/each}}{{/with}}",
        "\n  {{> two x=rows y=deep}}\n",
        "{{#each rows}}{{#each ../rows}}{{upper t}}{{default t 'x'}}{{/each}}{{/each}}",
    ];
    let mut stopped = 0;
    for text in templates {
        let (compiled, reference) = both(text, Escape::Html, OnMissing::Blank).expect(text);
        let mut memory = Workspace::default();
        for (count, length) in [(3, 4), (60, 300), (100, 60), (250, 1), (400, 400), (1_200, 3)] {
            let rows = rows(count, length);
            let data = serde_json::json!({"rows": rows, "deep": {"rows": rows}});
            let scope = Scope::new(data.as_object().expect("an object").clone());
            let expected = rendered(&reference, &scope, &mut memory);
            stopped += usize::from(expected.is_err());
            assert_eq!(rendered(&compiled, &scope, &mut memory), expected, "{text} over {count} rows");
        }
    }
    assert!((10..30).contains(&stopped), "{stopped} of 42 end at a limit");
}

#[test]
fn the_exact_point_of_a_limit_is_the_same() {
    // Work and output that grow by one byte at a time over the limit.
    let (compiled, reference) =
        both("{{#each rows}}{{{@root.a}}}{{/each}}", Escape::None, OnMissing::Blank).expect("valid");
    let mut memory = Workspace::default();
    for (rows, from) in [(16usize, (1usize << 20) / 16 - 3), (4_000, 100)] {
        for length in from..from + 6 {
            let data = serde_json::json!({"rows": vec![0; rows], "a": "y".repeat(length)});
            let scope = Scope::new(data.as_object().expect("an object").clone());
            let expected = rendered(&reference, &scope, &mut memory);
            assert_eq!(rendered(&compiled, &scope, &mut memory), expected, "{rows} times {length}");
        }
    }
}
