//! Templates from text to message, and from broken text to report.

use handlebars::Handlebars;
use serde_json::{Value, json};

use super::*;

fn source(file: &str, text: &str) -> TemplateSource {
    TemplateSource { file: file.to_owned(), text: text.to_owned() }
}

/// A template under test: text, partials, settings.
struct Case {
    text: String,
    partials: BTreeMap<String, TemplateSource>,
    escape: Escape,
    on_missing: OnMissing,
}

fn case(text: &str) -> Case {
    Case { text: text.to_owned(), partials: BTreeMap::new(), escape: Escape::None, on_missing: OnMissing::Fail }
}

impl Case {
    fn partial(mut self, name: &str, text: &str) -> Case {
        self.partials.insert(name.to_owned(), source(&format!("{name}.hbs"), text));
        self
    }

    fn escape(self, escape: Escape) -> Case {
        Case { escape, ..self }
    }

    fn blank(self) -> Case {
        Case { on_missing: OnMissing::Blank, ..self }
    }

    fn compile(&self) -> Result<Template, Vec<Fault>> {
        Template::compile(&source("t.hbs", &self.text), &self.partials, self.escape, self.on_missing)
    }

    fn template(&self) -> Template {
        self.compile().unwrap_or_else(|faults| panic!("{}: {}", self.text, report(&faults)))
    }

    fn try_render(&self, data: &Value) -> Result<String, Stop> {
        let mut out = String::from("left over");
        let result = self.template().render(&scope(data), &mut out);
        assert!(result.is_ok() || out.is_empty(), "partial output after an error");
        result.map(|()| out)
    }

    #[track_caller]
    fn gives(&self, expected: &str) {
        assert_eq!(self.try_render(&data()).as_deref(), Ok(expected), "{}", self.text);
    }

    fn report(&self) -> String {
        report(&self.compile().expect_err(&self.text))
    }

    fn stops(&self) -> Stops {
        self.template().stops()
    }
}

fn report(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
}

fn scope(data: &Value) -> Scope {
    Scope::new(data.as_object().expect("an object").clone())
}

/// Numbers are spelled as the readers normalise them.
fn data() -> Value {
    serde_json::from_str(
        r#"{
        "first_name": "Inès", "date": "2026-11-23", "empty": "", "nothing": null, "zero": 0, "html": "<b>\"x\" & 'y'=`z`</b>",
        "api_trigger_properties": {
            "name": "Ada", "item name": "red hat", "a.b": "dotted", "price": 1234.5, "count": 3, "yes": true, "no": false,
            "details": {"size": "M", "tags": ["x", "y"]}, "list": [1, 20.0, "z"], "rows": [{"n": "a", "k": 1}, {"n": "b", "k": 2}],
            "when": "2026-11-23T23:30:00Z", "epoch": 1795422600, "]odd[": "odd"
        },
        "custom_attribute": {"plan": "gold", "favourite colour": "blue"}
    }"#,
    )
    .expect("valid JSON")
}

// --- Placeholders

#[test]
fn placeholders_work_in_every_position() {
    case("Hi {{${first_name}}}!").gives("Hi Inès!");
    case("{{ ${ first_name } }}").gives("Inès");
    case("{{{${first_name}}}}").gives("Inès");
    case("{{&${first_name}}}").gives("Inès");
    case("{{~${first_name}~}} ").gives("Inès");
    case("{{custom_attribute.${favourite colour}}}").gives("blue");
    case("{{api_trigger_properties.${item name}}}").gives("red hat");
    case("{{api_trigger_properties.${ item name }}}").gives("red hat");
    case("{{api_trigger_properties.${a.b}}}").gives("dotted");
    case("{{api_trigger_properties.${]odd[}}}").gives("odd");
    case("{{api_trigger_properties.${details}.size}}").gives("M");
    case("{{api_trigger_properties.${details}.tags.[1]}}").gives("y");
    case("{{api_trigger_properties.${details}.tags.length}}").gives("2");
    case("{{upper api_trigger_properties.${name}}}").gives("ADA");
    case("{{#if api_trigger_properties.${yes}}}y{{/if}}").gives("y");
    case("{{#if (eq api_trigger_properties.${name} 'Ada')}}y{{/if}}").gives("y");
    case("{{number api_trigger_properties.${price} decimals=2}}").gives("1234.50");
    case("{{> p x=${first_name}}}").partial("p", "{{x}}").gives("Inès");
    case("{{> p api_trigger_properties.${details}}}").partial("p", "{{size}}").gives("M");
}

#[test]
fn placeholders_are_nothing_outside_mustaches() {
    case("${first_name} $ {x}").gives("${first_name} $ {x}");
    case("${{zero}}").gives("$0");
    case("{{! ${first_name} }}a{{!-- {{${x}}} --}}b").gives("ab");
    case("{{{{raw}}}}{{${first_name}}} \\{{x}}{{{{/raw}}}}").gives("{{${first_name}}} \\{{x}}");
    case("\\{{${first_name}}} {{zero}}").gives("{{${first_name}}} 0");
    case("{{default nothing \"${first_name} }} {{\"}}").gives("${first_name} }} {{");
}

#[test]
fn placeholders_are_read_from_the_top_inside_blocks() {
    case("{{#each api_trigger_properties.${rows}}}{{n}}{{${first_name}}}{{api_trigger_properties.${count}}} {{/each}}")
        .gives("aInès3 bInès3 ");
    case("{{#with custom_attribute}}{{plan}} {{custom_attribute.${plan}}}{{/with}}").gives("gold gold");
}

// --- Text

#[test]
fn backslashes_and_braces_are_kept_as_in_handlebars() {
    case("a\\{{zero}} {{zero}}").gives("a{{zero}} 0");
    case("a\\\\{{zero}}").gives("a\\0");
    case("a\\\\\\{{zero}}").gives("a\\\\0");
    case("a\\b { } }} {{zero}}}").gives("a\\b { } }} 0}");
    case("end\\").gives("end\\");
    case("${\\{{a}} \\\\{\\{{b}}").gives("${{{a}} \\\\{{{b}}");
    case("\\{{a}}\\{{b}}{{zero}}").gives("{{a}}{{b}}0");
}

#[test]
fn white_space_control_and_standalone_tags() {
    case("a  {{~zero~}}  b").gives("a0b");
    case("a  {{{~zero~}}}  b {{~{zero}~}} c").gives("a0b0c");
    case("a\n{{#if zero}}\nx\n{{else}}\ny\n{{/if}}\nb\n").gives("a\ny\nb\n");
    case("a\n  {{! note }}\nb").gives("a\nb");
    case("a\n  {{> p}}\nb").partial("p", "1 {{zero}}\n2\n").gives("a\n  1 0\n  2\nb");
    case("a {{~#if date~}} x {{~/if~}} b").gives("axb");
}

// --- Values

#[test]
fn values_print_the_same_everywhere() {
    case("{{api_trigger_properties.price}} {{zero}} {{api_trigger_properties.yes}} {{api_trigger_properties.no}}")
        .gives("1234.5 0 true false");
    case("{{api_trigger_properties.list}}").gives("[1,20.0,\"z\"]");
    case("{{api_trigger_properties.details}}").gives("{\"size\":\"M\",\"tags\":[\"x\",\"y\"]}");
    case("{{default api_trigger_properties.details 1}}").gives("{\"size\":\"M\",\"tags\":[\"x\",\"y\"]}");
    case("{{#each api_trigger_properties.list}}{{this}};{{/each}}").gives("1;20.0;z;");
}

#[test]
fn values_are_escaped_as_the_field_asks() {
    let plain = "<b>\"x\" & 'y'=`z`</b>";
    let html = "&lt;b&gt;&quot;x&quot; &amp; &#x27;y&#x27;&#x3D;&#x60;z&#x60;&lt;/b&gt;";
    case("{{html}}").escape(Escape::None).gives(plain);
    case("{{html}}").escape(Escape::Html).gives(html);
    case("{{default html 1}}").escape(Escape::Html).gives(html);
    case("{{{html}}}{{&html}}").escape(Escape::Html).gives(&format!("{plain}{plain}"));
    case("{{{default html 1}}}").escape(Escape::Html).gives(plain);
    case("<a href=\"x\">{{zero}}</a>").escape(Escape::Html).gives("<a href=\"x\">0</a>");
    case("{\"a\":\"{{html}}\"}").escape(Escape::Json).gives("{\"a\":\"<b>\\\"x\\\" & 'y'=`z`</b>\"}");
    case("{{api_trigger_properties.list}}").escape(Escape::Html).gives("[1,20.0,&quot;z&quot;]");
    case("{{> p}}").partial("p", "{{html}}").escape(Escape::Html).gives(html);
    case("{{#> p}}{{html}}{{/p}}").partial("p", "{{> @partial-block}}").escape(Escape::Html).gives(html);
}

// --- Missing values

#[test]
fn a_missing_printed_value_stops_and_names_its_place() {
    let stop = case("Hi\n  {{${nobody}}}").try_render(&data());
    let at = LineColumn { line: 2, column: 5 };
    assert_eq!(stop, Err(Stop::Missing { name: "${nobody}".into(), at, file: "t.hbs".into() }));
    let stop = case("é{{> p}}").partial("p", "é {{ api_trigger_properties.${x y} }}").try_render(&data());
    let at = LineColumn { line: 1, column: 6 };
    assert_eq!(stop, Err(Stop::Missing { name: "api_trigger_properties.${x y}".into(), at, file: "p.hbs".into() }));
}

#[test]
fn what_counts_as_missing() {
    for text in [
        "{{nobody}}",
        "{{nothing}}",
        "{{{nothing}}}",
        "{{first_name.x}}",
        "{{api_trigger_properties.list.x}}",
        "{{api_trigger_properties.list.[3]}}",
        "{{@index}}",
        "{{../first_name}}",
        "{{#each api_trigger_properties.rows}}{{x}}{{/each}}",
    ] {
        let stop = case(text).try_render(&data());
        assert!(matches!(stop, Err(Stop::Missing { .. })), "{text}: {stop:?}");
        assert_eq!(case(text).blank().try_render(&data()).as_deref(), Ok(""), "{text}");
    }
    case("[{{empty}}]").gives("[]");
    case("{{#if nobody}}x{{/if}}{{#each nobody}}x{{/each}}{{#with nobody}}x{{/with}}").gives("");
    case("{{default nobody 'x'}}{{upper nobody}}{{lookup nobody 'x'}}").gives("x");
}

#[test]
fn one_persons_data_never_reaches_another() {
    let both = case("{{first_name}} {{#each items as |item|}}{{item}}{{/each}} {{#with city}}{{this}}{{/with}}{{> p}}")
        .partial("p", "[{{nick}}]")
        .blank()
        .template();
    let bob = json!({"items": ["x"]});
    let (mut reused, mut fresh) = (String::new(), String::new());
    both.render(&scope(&json!({"first_name": "Ada", "items": [1, 2], "city": "Paris", "nick": "A"})), &mut reused)
        .unwrap();
    assert_eq!(reused, "Ada 12 Paris[A]");
    both.render(&scope(&bob), &mut reused).unwrap();
    both.render(&scope(&bob), &mut fresh).unwrap();
    assert_eq!(reused, fresh);
    assert_eq!(reused, " x []");
}

#[test]
fn a_stopped_render_leaves_nothing_for_the_next() {
    let template = case("{{#each items}}{{this}}{{#with ../city}}{{name}}{{/with}}{{/each}}").template();
    let mut out = String::new();
    assert!(template.render(&scope(&json!({"items": [1, 2], "city": {"x": 1}})), &mut out).is_err());
    assert_eq!(out, "");
    template.render(&scope(&json!({"items": [1, 2], "city": {"name": "-"}})), &mut out).unwrap();
    assert_eq!(out, "1-2-");
}

// --- Blocks

#[test]
fn blocks_scopes_and_locals() {
    let rows = "api_trigger_properties.rows";
    case(&format!("{{{{#each {rows}}}}}{{{{@index}}}}{{{{@first}}}}{{{{@last}}}}{{{{n}}}} {{{{/each}}}}"))
        .gives("0truefalsea 1falsetrueb ");
    case(&format!(
        "{{{{#each {rows} as |row i|}}}}{{{{i}}}}{{{{row.n}}}}{{{{../first_name}}}}{{{{@root.zero}}}} {{{{/each}}}}"
    ))
    .gives("0aInès0 1bInès0 ");
    case("{{#each api_trigger_properties.details}}{{@key}}={{this}};{{/each}}").gives("size=M;tags=[\"x\",\"y\"];");
    case("{{#each api_trigger_properties.rows}}{{#each this}}{{@../index}}{{@key}} {{/each}}{{/each}}")
        .gives("0n 0k 1n 1k ");
    case("{{#each nobody}}x{{else}}none{{/each}}").gives("none");
    case("{{#if zero}}a{{else if empty}}b{{else if date}}c{{else}}d{{/if}}").gives("c");
    case("{{#if zero includeZero=true}}a{{/if}}{{#unless zero}}b{{/unless}}{{#if zero}}c{{^}}d{{/if}}").gives("abd");
    case("{{#with api_trigger_properties.details as |d|}}{{d.size}}{{size}}{{else}}x{{/with}}").gives("MM");
    case("{{#each (lookup api_trigger_properties 'rows') as |row|}}{{row.n}}{{n}}{{/each}}").gives("aabb");
}

#[test]
fn a_name_of_a_helper_can_still_be_a_name_of_data() {
    case("{{this.date}} {{./date}} {{[date]}} {{${date}}} {{#if date}}y{{/if}}")
        .gives("2026-11-23 2026-11-23 2026-11-23 2026-11-23 y");
    case("{{#each api_trigger_properties.list as |date|}}{{date}} {{/each}}").gives("1 20.0 z ");
}

#[test]
fn partials_and_inline_partials() {
    case("{{> a/b}}{{> 'c d'}}").partial("a/b", "1").partial("c d", "2").gives("12");
    case("{{#*inline \"x\"}}<{{first_name}}>{{/inline}}{{> x}}{{> x first_name='B'}}").gives("<Inès><B>");
    case("{{#> layout}}body{{#*inline \"nav\"}}NAV{{/inline}}{{/layout}}")
        .partial("layout", "{{#> nav}}default{{/nav}}[{{> @partial-block}}]")
        .gives("NAV[body]");
    case("{{#> layout}}body{{/layout}}").partial("layout", "{{#> nav}}default{{/nav}}").gives("default");
    case("{{#each api_trigger_properties.rows}}{{> row}}{{/each}}")
        .partial("row", "{{@index}}{{n}}{{../zero}} ")
        .blank()
        .gives("0a 1b ");
}

// --- Helpers

#[test]
fn abort_stops_wherever_it_stands() {
    let reason = |reason: &str| Err(Stop::Aborted { reason: reason.to_owned() });
    assert_eq!(case("x{{abort_message \"no price\"}}").try_render(&data()), reason("no price"));
    assert_eq!(case("x{{abort_message}}").try_render(&data()), reason("{{abort_message}} called"));
    assert_eq!(
        case("{{#each api_trigger_properties.rows}}{{> p}}{{/each}}")
            .partial("p", "{{#if n}}{{abort_message 'é'}}{{/if}}")
            .try_render(&data()),
        reason("é")
    );
    case("{{#if nobody}}{{abort_message 'x'}}{{/if}}ok").gives("ok");
}

#[test]
fn comparisons_work_inline_and_as_sub_expressions() {
    case("{{eq zero 0}} {{ne zero 0}} {{gt api_trigger_properties.count 2}} {{lt 1 'a'}}")
        .gives("true false true false");
    case("{{#if (and (eq date '2026-11-23') (not nobody) (or nobody zero true))}}y{{/if}}").gives("y");
    case("{{#if (gt api_trigger_properties.list.length 2)}}many{{/if}}").gives("many");
    case("{{gte 2 2}}{{lte 3 2}}").gives("truefalse");
    case("{{default nobody 1.50}} {{default nobody 007}} {{default nobody -0.0}} {{eq 20 020.00}}")
        .gives("1.5 7 -0.0 true");
}

#[test]
fn default_upper_lower_lookup() {
    case("{{default empty 'x'}} {{default zero 'x'}} {{default nothing empty}}|").gives("x 0 |");
    case("{{upper first_name}} {{lower 'ÀB'}}").gives("INÈS àb");
    case("{{lookup api_trigger_properties.list 2}}{{lookup api_trigger_properties 'count'}}").gives("z3");
}

#[test]
fn numbers_and_dates_are_formatted() {
    case("{{number api_trigger_properties.price decimals=2 thousands=',' decimal='.'}}").gives("1,234.50");
    case("{{number '1234567.891' decimals=1 thousands='.' decimal=','}}").gives("1.234.567,9");
    case("{{date api_trigger_properties.when '%d %B %Y %H:%M' tz='Europe/Paris'}}").gives("24 November 2026 00:30");
    case("{{date date '%-d.%-m.%Y' tz='America/New_York'}}").gives("23.11.2026");
    case("{{date api_trigger_properties.epoch '%FT%TZ'}}").gives("2026-11-23T08:30:00Z");
}

#[test]
fn a_value_that_a_helper_cannot_use_fails_at_its_place_without_being_quoted() {
    let Err(Stop::Failed { message, at, file }) =
        case("é {{#if date}}{{number first_name}}{{/if}}").try_render(&data())
    else {
        panic!("it must fail");
    };
    assert_eq!(message, "`number` cannot use this value: it is not a number");
    assert_eq!((at, file.as_str()), (Some(LineColumn { line: 1, column: 17 }), "t.hbs"));
    for text in [
        "{{date first_name '%Y'}}",
        "{{date api_trigger_properties.yes '%Y'}}",
        "{{number api_trigger_properties.list}}",
        "{{number nobody}}",
        "{{date empty '%Y'}}",
    ] {
        assert!(matches!(case(text).try_render(&data()), Err(Stop::Failed { .. })), "{text}");
    }
    case("{{number nobody}}{{date nothing '%Y'}}|").blank().gives("|");
}

// --- Faults

/// The report of a template, as a person reads it.
#[track_caller]
fn reports(case: &Case, expected: &[&str]) {
    assert_eq!(case.report(), expected.join("\n"), "{}", case.text);
}

#[test]
fn an_unknown_helper_is_reported_at_its_original_column() {
    reports(
        &case("line\n{{${first_name}}} {{custom_attribute.${x}}} {{uper ${y}}}"),
        &[
            "  t.hbs, line 2, column 47: unknown helper `uper`",
            "   2 | {{${first_name}}} {{custom_attribute.${x}}} {{uper ${y}}}",
            "     |                                               ^",
            "  hint: did you mean `upper`?",
        ],
    );
}

#[test]
fn all_faults_of_all_files_are_reported_at_once() {
    reports(
        &case("{{date}} {{#if (eqq a b)}}{{> foter}}{{/if}}")
            .partial("footer", "{{${}}}")
            .partial("unused", "{{#if x}}"),
        &[
            "  t.hbs, line 1, column 3: the helper `date` needs a value",
            "   1 | {{date}} {{#if (eqq a b)}}{{> foter}}{{/if}}",
            "     |   ^",
            "  hint: write `{{date value \"%d %B %Y\" tz=\"Europe/Paris\"}}`; a value of this name is printed with `{{this.date}}`",
            "  t.hbs, line 1, column 17: unknown helper `eqq`",
            "   1 | {{date}} {{#if (eqq a b)}}{{> foter}}{{/if}}",
            "     |                 ^",
            "  hint: did you mean `eq`?",
            "  t.hbs, line 1, column 31: unknown partial `foter`",
            "   1 | {{date}} {{#if (eqq a b)}}{{> foter}}{{/if}}",
            "     |                               ^",
            "  hint: did you mean `footer`?",
            "  footer.hbs, line 1, column 3: the placeholder has no name",
            "   1 | {{${}}}",
            "     |   ^",
            "  hint: write for example `${first_name}`",
            "  unused.hbs, line 1, column 1: `{{#if}}` is never closed",
            "   1 | {{#if x}}",
            "     | ^",
            "  hint: add `{{/if}}`",
        ],
    );
}

#[test]
fn a_wrong_closing_tag_names_the_open_block() {
    reports(
        &case("{{#if a}}\n{{/each}}{{/if}}"),
        &[
            "  t.hbs, line 2, column 1: `{{/each}}` closes nothing",
            "   2 | {{/each}}{{/if}}",
            "     | ^",
            "  hint: the open block is `{{#if}}` of line 1: close it with `{{/if}}`",
        ],
    );
}

/// Broken templates, each with the beginning of its first fault.
#[test]
fn broken_templates_are_refused_with_their_place() {
    for (text, expected) in [
        ("é {{a", "line 1, column 3: this tag is never closed"),
        ("{{", "line 1, column 3: a name is expected here"),
        ("{{}}", "line 1, column 3: a name is expected here"),
        ("{{a b", "line 1, column 1: this tag is never closed"),
        ("{{{a}}", "line 1, column 1: this tag opens with three braces"),
        ("{{a}", "line 1, column 4: `}` is not expected here"),
        ("{{${a}}", "line 1, column 7: `}` is not expected here"),
        ("{{${a", "line 1, column 3: the placeholder `${` is never closed"),
        ("{{a.${b}c}}", "line 1, column 9: `c` is not expected here"),
        ("{{a${b}}}", "line 1, column 4: `$` is not expected here"),
        ("{{a..b}}", "line 1, column 5: `.` is not expected here"),
        ("{{a.}}", "line 1, column 5: a name is expected here"),
        ("{{a.[b}}", "line 1, column 5: this bracket is never closed"),
        ("{{a/../b}}", "line 1, column 5: `..` can only stand at the beginning"),
        ("{{a.this}}", "line 1, column 5: `this` can only stand at the beginning"),
        ("{{@}}", "line 1, column 4: a name is expected here"),
        ("{{'a'}}", "line 1, column 3: a string is not a value to print"),
        ("{{(upper a)}}", "line 1, column 3: a sub-expression cannot stand for a name"),
        ("{{upper 'a}}", "line 1, column 9: this string is never closed"),
        ("{{upper (lower a}}", "line 1, column 9: this parenthesis is never closed"),
        ("{{upper a)}}", "line 1, column 10: `)` is not expected here"),
        ("{{upper “a”}}", "line 1, column 9: `“` is a typographic quote"),
        ("{{upper}}", "line 1, column 3: the helper `upper` needs a value"),
        ("{{upper a b}}", "line 1, column 3: `upper` takes one value and was given 2"),
        ("{{upper a b=1}}", "line 1, column 11: `upper` has no option `b`"),
        ("{{number a decimls=2}}", "line 1, column 12: `number` has no option `decimls`"),
        ("{{number a decimals=21}}", "line 1, column 21: `decimals` must be a whole number from 0 to 20"),
        ("{{number a decimals='2'}}", "line 1, column 21: `decimals` must be"),
        ("{{number a decimals=1 decimals=2}}", "line 1, column 23: the option `decimals` is given twice"),
        ("{{date a}}", "line 1, column 3: `date` takes 2 values and was given 1"),
        ("{{date a b}}", "line 1, column 10: the format of `date` must be a string"),
        ("{{date a '%'}}", "line 1, column 10: the date format cannot be used"),
        ("{{date a '%Y' tz='Mars/Base'}}", "line 1, column 18: `tz` must be the name of a time zone"),
        ("{{abort_message a}}", "line 1, column 17: the reason of `abort_message` must be a string"),
        ("{{a.b c}}", "line 1, column 3: `a.b` is not the name of a helper"),
        ("{{log a}}", "line 1, column 3: unknown helper `log`"),
        ("{{log}}", "line 1, column 3: unknown helper `log`"),
        ("{{if a}}", "line 1, column 3: `if` is a block helper"),
        ("{{#upper b}}{{/upper}}", "line 1, column 4: `upper` is not a block helper"),
        ("{{#eq b}}{{/eq}}", "line 1, column 4: `eq` takes 2 values and was given 1"),
        ("{{#eq a b as |c|}}{{/eq}}", "line 1, column 4: `eq` does not give that many block parameters"),
        ("{{#items x}}{{/items}}", "line 1, column 4: unknown block helper `items`"),
        ("{{#a.b c}}{{/a.b}}", "line 1, column 4: `a.b` is not a block helper"),
        ("{{#a.b}}{{/a.c}}", "line 1, column 1: `{{#a.b}}` is never closed"),
        ("{{#a}}{{^a.${b c}}}{{/a}}", "line 1, column 7: `{{^a.${b c}}}` is never closed"),
        ("{{#if a}}{{else iff b}}{{/if}}", "line 1, column 17: unknown block helper `iff`"),
        ("{{#if}}{{/if}}", "line 1, column 4: `if` takes one value and was given 0"),
        ("{{#if a as |b|}}{{/if}}", "line 1, column 4: `if` does not give that many block parameters"),
        ("{{#each a as |b c d|}}{{/each}}", "line 1, column 11: a block has one or two parameters"),
        ("{{#each a |b|}}{{/each}}", "line 1, column 11: `|` is not expected here"),
        ("{{^if}}{{/if}}", "line 1, column 4: `if` takes one value and was given 0"),
        ("{{^a}}{{else if b}}{{/a}}", "line 1, column 7: a block that begins with `{{^` has a plain `{{else}}` only"),
        ("{{else}}", "line 1, column 1: this `{{else}}` stands outside a block"),
        ("{{#if a}}{{else}}{{else}}{{/if}}", "line 1, column 18: there is an `{{else}}` before this one"),
        ("{{/if}}", "line 1, column 1: `{{/if}}` closes nothing"),
        ("{{#each a}}{{#if b}}{{/each}}", "line 1, column 12: `{{#if}}` is never closed"),
        ("{{* x}}", "line 1, column 1: decorators are not supported"),
        ("{{#*set x}}{{/set}}", "line 1, column 5: the decorator `set` is not supported"),
        ("{{#*inline x}}{{/inline}}", "line 1, column 12: an inline partial needs a name in quotes"),
        ("{{> (lookup . 'x')}}", "line 1, column 5: the name of a partial cannot be computed"),
        ("{{> }}", "line 1, column 5: a partial needs a name"),
        ("{{> x}}", "line 1, column 5: unknown partial `x`"),
        ("{{> @partial-block}}", "line 1, column 5: `@partial-block` stands outside a partial"),
        ("{{! a", "line 1, column 1: this comment is never closed"),
        ("{{!-- a }}", "line 1, column 1: this comment is never closed"),
        (
            "{{#if a}}{{#*inline 'x'}}{{/inline}}{{/if}}{{> x}}",
            "line 1, column 48: the partial `x` is not defined here",
        ),
        ("{{{{raw}}}} a", "line 1, column 1: this raw block is never closed"),
        ("{{{{other}}}}a{{{{/other}}}}", "line 1, column 1: only `{{{{raw}}}}` opens a raw block"),
    ] {
        let found = case(text).report();
        assert!(found.starts_with(&format!("  t.hbs, {expected}")), "{text}:\n{found}");
    }
}

#[test]
fn a_broken_tag_does_not_make_its_closing_tag_a_fault() {
    for text in ["{{#if ${}}}x{{/if}}", "{{#if a}}x{{else if (}}y{{/if}}", "{{#each a as |}}{{/each}}"] {
        let faults = case(text).compile().expect_err(text);
        assert_eq!(faults.len(), 1, "{text}: {}", report(&faults));
    }
}

// --- Bounds

#[test]
fn deep_nesting_is_a_fault_and_not_a_crash() {
    for (open, expected) in [
        ("{{#if a}}", "blocks nest deeper than 100"),
        ("{{#> p}}", "blocks nest deeper than 100"),
        ("{{#*inline 'x'}}", "blocks nest deeper than 100"),
    ] {
        let found = case(&open.repeat(20_000)).partial("p", "").report();
        assert_eq!(found.matches("hint:").count(), 1, "{}", &found[..200]);
        assert!(found.contains(expected), "{found}");
    }
    for text in [format!("{{{{upper {}", "(".repeat(20_000)), format!("{{{{upper {}", "(upper ".repeat(20_000))] {
        let faults = case(&text).compile().expect_err("too deep");
        assert_eq!(faults.len(), 1);
    }
    let found = case(&format!("{{{{upper {}a{}}}}}", "(upper ".repeat(101), ")".repeat(101))).report();
    assert!(found.contains("sub-expressions nest deeper than 100"), "{found}");
}

#[test]
fn the_deepest_allowed_nesting_compiles_and_renders_on_a_small_stack() {
    let text = format!(
        "{}{{{{upper {}first_name{}}}}}{}",
        "{{#if date}}".repeat(100),
        "(lower ".repeat(100),
        ")".repeat(100),
        "{{/if}}".repeat(100)
    );
    let chain = (0..49).fold(case("{{> p0}}").partial("p49", "end"), |case, i| {
        case.partial(&format!("p{i}"), &format!("{{{{#if date}}}}{{{{> p{}}}}}{{{{/if}}}}", i + 1))
    });
    let work = move || {
        case(&text).gives("INÈS");
        chain.gives("end");
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().expect("no overflow");
}

#[test]
fn long_chains_of_else_if_render_on_a_small_stack() {
    let chain = case(&format!("{{{{#if nobody}}}}{}{{{{else}}}}end{{{{/if}}}}", "{{else if nothing}}x".repeat(9_000)));
    let work = move || chain.gives("end");
    std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap().join().expect("no overflow");
}

#[test]
fn blocks_inside_partials_and_partials_inside_blocks_count_together() {
    let deep = format!("{}x{}", "{{#if date}}".repeat(60), "{{/if}}".repeat(60));
    let nested = format!("{}{{{{> p}}}}{}", "{{#zero}}".repeat(60), "{{/zero}}".repeat(60));
    let found = case(&nested).partial("p", &deep).report();
    assert!(
        found.starts_with("  t.hbs, line 1, column 545: blocks and partials nest deeper than 100 in all"),
        "{found}"
    );
    let found = case(&format!("{{{{#> q}}}}{deep}{{{{/q}}}}"))
        .partial("q", &format!("{}{{{{> @partial-block}}}}{}", "{{#if date}}".repeat(60), "{{/if}}".repeat(60)))
        .report();
    assert!(found.starts_with("  q.hbs, line 1, column 725: blocks and partials nest deeper"), "{found}");
}

#[test]
fn tags_of_partials_count_each_time() {
    let found = case(&"{{> p}}".repeat(9)).partial("p", &"{{zero}}".repeat(6_000)).report();
    assert!(found.contains("column 61: there are more than 50000 tags with the partials in place"), "{found}");
}

#[test]
fn cycles_of_partials_are_faults() {
    let found = case("{{> a}}").partial("a", "{{> a}}").report();
    assert!(found.starts_with("  a.hbs, line 1, column 5: the partial `a` includes itself\n"), "{found}");
    let found = case("x").partial("a", "{{> b}}").partial("b", "{{#if x}}{{> a}}{{/if}}").report();
    assert!(found.contains("b.hbs, line 1, column 14: the partial `a` includes itself through `b`"), "{found}");
    let found = case("{{#*inline 'x'}}{{> x}}{{/inline}}{{> x}}").report();
    assert!(found.contains("t.hbs, line 1, column 21: the partial `x` includes itself"), "{found}");
    let found = case("{{#> a}}{{> b}}{{/a}}")
        .partial("a", "{{> @partial-block}}")
        .partial("b", "{{#> a}}{{> b}}{{/a}}")
        .report();
    assert!(found.contains("the partial `b` includes itself"), "{found}");
}

#[test]
fn partials_that_multiply_are_faults() {
    let doubling = (0..40).fold(case("{{> p0}}").partial("p40", "x"), |case, i| {
        case.partial(&format!("p{i}"), &format!("{{{{> p{0}}}}}{{{{> p{0}}}}}", i + 1))
    });
    let faults = doubling.compile().expect_err("too many");
    assert!(faults[0].message.contains("more than 10000 times"), "{}", report(&faults));
    assert_eq!(faults.len(), 1, "{}", report(&faults));
    let long_chain = (0..5_000).fold(case("{{> p0}}").partial("p5000", "x"), |case, i| {
        case.partial(&format!("p{i}"), &format!("{{{{> p{}}}}}", i + 1))
    });
    let faults = long_chain.compile().expect_err("too deep");
    assert!(faults[0].message.contains("nest deeper than 100"), "{}", report(&faults));
    let blocks = (0..14).fold(case(&format!("{}x{}", "{{#> p}}".repeat(14), "{{/p}}".repeat(14))), |case, _| {
        case.partial("p", "{{> @partial-block}}{{> @partial-block}}")
    });
    assert!(blocks.report().contains("more than 10000 times"), "{}", blocks.report());
    let plain = case("{{> p}}").partial("p", "{{> @partial-block}}").report();
    assert!(plain.contains("the partial `p` needs a block"), "{plain}");
}

#[test]
fn templates_have_a_largest_size() {
    case(&"x".repeat(MAX_TEMPLATE_BYTES)).template();
    let found = case(&"x".repeat(MAX_TEMPLATE_BYTES + 1)).report();
    assert!(found.contains("the template is over 1048576 bytes"), "{}", &found[..100]);
}

#[test]
fn hostile_texts_take_no_longer_than_large_ones() {
    for piece in ["{{{{raw}}}}", "{{!-- }}", "{{/x}}", "{{a '", "{{${", "{{a", "{{{", "{{#if a}}{{/each}}", "{{> x}}"] {
        let faults = case(&piece.repeat(MAX_TEMPLATE_BYTES / piece.len())).compile().expect_err(piece);
        assert!(faults.len() <= 100, "{piece}: {}", faults.len());
    }
    let found = case(&"{{a}}".repeat(10_001)).report();
    assert!(found.contains("there are more than 10000 tags"), "{found}");
    case(&format!("{}{}", "x".repeat(1_000_000), "{{a}}".repeat(9_000))).template();
}

#[test]
fn loops_end_and_output_is_bounded() {
    let many = json!({"a": (0..17_000).collect::<Vec<_>>(), "long": "x".repeat(50_000)});
    let failed = |case: Case, part: &str| match case.try_render(&many) {
        Err(Stop::Failed { message, .. }) => assert!(message.contains(part), "{message}"),
        other => panic!("{:?}", other.map(|text| text.len())),
    };
    failed(case("{{#each a}}{{#each @root.a}}{{#each @root.a}}{{/each}}{{/each}}{{/each}}"), "repeats too much");
    failed(case("{{#each a}}{{@root.long}}{{/each}}"), "over 1048576 bytes");
    failed(
        case("{{#> p}}{{#each a}}{{@root.long}}{{/each}}{{/p}}").partial("p", "{{> @partial-block}}"),
        "over 1048576 bytes",
    );
    failed(case("x\n  {{> p}}\n").partial("p", "{{#each a}}{{@root.long}}{{/each}}"), "repeats too much");
    failed(case("{{#a}}{{#@root.a}}{{#@root.a}}{{/@root.a}}{{/@root.a}}{{/a}}"), "repeats too much");
    failed(case("{{#each a}}{{@root.long.length}}{{/each}}"), "repeats too much");
    failed(case("{{#each a}}{{#each @root.a}}{{> p}}{{/each}}{{/each}}").partial("p", ""), "repeats too much");
    assert_eq!(case(&"{{long}}".repeat(20)).try_render(&many).map(|text| text.len()), Ok(1_000_000));
    failed(case(&"{{long}}".repeat(21)), "over 1048576 bytes");
}

// --- What a template asks of its data

fn paths(paths: &[&str]) -> Stops {
    Stops::IfMissing(paths.iter().map(|path| ValuePath(path.split('.').map(str::to_owned).collect())).collect())
}

#[test]
fn stops_says_exactly_what_can_stop_a_render() {
    assert_eq!(case("plain").stops(), Stops::Never);
    assert_eq!(case("{{a}} {{b}}").blank().stops(), Stops::Never);
    assert_eq!(case("{{default a b}}{{upper c}}{{#if d}}x{{/if}}").stops(), Stops::Never);
    assert_eq!(case("{{b}}{{a.${x}}}{{b}}").stops(), paths(&["a.x", "b"]));
    assert_eq!(case("{{#if a}}{{a}}{{/if}}{{#unless b}}x{{else}}{{b}}{{/unless}}").stops(), Stops::Never);
    assert_eq!(case("{{#if (and a b)}}{{a}}{{b}}{{/if}}{{#with c}}{{this}}{{/with}}").stops(), Stops::Never);
    assert_eq!(case("{{#if a}}{{b}}{{/if}}").stops(), Stops::Unknown);
    assert_eq!(case("{{#if a}}x{{else}}{{a}}{{/if}}").stops(), Stops::Unknown);
    assert_eq!(case("{{b}}{{#if a}}{{b}}{{/if}}").stops(), paths(&["b"]));
    assert_eq!(case("{{#if a}}{{abort_message}}{{/if}}").stops(), Stops::Unknown);
    assert_eq!(case("{{#if (number a)}}{{/if}}").blank().stops(), Stops::Unknown);
    assert_eq!(case("{{date a '%Y'}}").blank().stops(), Stops::Unknown);
    assert_eq!(case("{{#each a}}x{{/each}}").blank().stops(), Stops::Unknown, "a loop can go over a limit");
    assert_eq!(case("{{@index}}").stops(), Stops::Unknown);
    assert_eq!(case("{{this}}").stops(), Stops::Never);
}

#[test]
fn stops_follows_partials() {
    assert_eq!(case("{{> p}}").partial("p", "{{a}}").stops(), paths(&["a"]));
    assert_eq!(case("{{> p x}}").partial("p", "{{a}}").stops(), paths(&["x.a"]));
    assert_eq!(case("{{> p a=b}}").partial("p", "{{a}}").stops(), paths(&["b"]));
    assert_eq!(case("{{> p a='x'}}").partial("p", "{{a}}").stops(), Stops::Unknown);
    assert_eq!(case("{{> p}}").partial("p", "{{> q}}").partial("q", "{{abort_message}}").stops(), Stops::Unknown);
    assert_eq!(case("x").partial("p", "{{a}}").stops(), Stops::Never);
    assert_eq!(case("{{#*inline 'p'}}{{a}}{{/inline}}{{> p}}").stops(), paths(&["a"]));
    assert_eq!(case("{{#> p}}{{a}}{{/p}}").partial("p", "{{> @partial-block}}").stops(), paths(&["a"]));
}

/// Every subset of present values: a render stops exactly when `stops` says so, or `stops` does not know.
#[test]
fn stops_agrees_with_renders_over_all_subsets_of_the_data() {
    let templates = [
        "{{a}}{{b.c}}",
        "{{#if a}}{{a}}{{/if}}{{d}}",
        "{{#with b}}{{c}}{{/with}}",
        "{{#with b as |x|}}{{x.c}}{{a}}{{/with}}{{a}}",
        "{{#unless a}}{{d}}{{else}}{{a}}{{/unless}}",
        "{{> p}}",
        "{{> p b}}",
        "{{> p c=a}}",
        "{{> p c=1}}",
        "{{> q}}{{a}}",
        "{{default a d}}{{upper b.c}}",
        "{{#> r}}{{a}}{{/r}}",
        "{{#if (or a d)}}{{a}}{{/if}}",
        "{{${a}}}{{@root.d}}",
        "{{b}}{{a.length}}",
        "{{#if a}}{{d}}{{else if d}}{{d}}{{else}}{{b.c}}{{/if}}",
        "{{#unless a}}x{{else if d}}{{a}}{{else}}{{a}}{{/unless}}",
        "{{#eq d ''}}{{a}}{{else}}{{b}}{{/eq}}",
        "{{#a}}{{this}}{{/a}}{{^b}}{{d}}{{/b}}",
        "{{#*inline 'i'}}{{a}}{{c}}{{/inline}}{{> i}}{{> i b}}",
        "{{> p b c=d}}{{> p this c=b}}",
        "{{#with b}}{{#with this}}{{../d}}{{c}}{{/with}}{{/with}}",
        "{{#> r b}}{{c}}{{../d}}{{/r}}",
        "{{#> s}}{{a}}{{/s}}{{> s}}",
    ];
    let values = [
        json!({}),
        json!({"a": "1"}),
        json!({"a": [1]}),
        json!({"a": null}),
        json!({"b": {}}),
        json!({"b": {"c": "2"}}),
        json!({"b": [7]}),
        json!({"d": ""}),
        json!({"c": 0}),
    ];
    for text in templates {
        for case in [case(text), case(text).blank()] {
            let case = case
                .partial("p", "{{c}}")
                .partial("q", "{{#if d}}{{d}}{{/if}}")
                .partial("r", "{{> @partial-block}}{{d}}")
                .partial("s", "{{#if @partial-block}}{{> @partial-block}}{{else}}{{d}}{{/if}}");
            let stops = case.stops();
            for set in 0..1usize << values.len() {
                let mut map = serde_json::Map::new();
                for (index, value) in values.iter().enumerate().filter(|(index, _)| set >> index & 1 == 1) {
                    let _ = index;
                    map.extend(value.as_object().expect("an object").clone());
                }
                let data = Value::Object(map);
                let rendered = case.try_render(&data);
                match &stops {
                    Stops::Never => assert!(rendered.is_ok(), "{text} {data}: {rendered:?}"),
                    Stops::IfMissing(paths) => {
                        let complete = paths.iter().all(|path| scope(&data).has(path));
                        assert_eq!(rendered.is_ok(), complete, "{text} {data}: {rendered:?} {stops:?}");
                    }
                    Stops::Unknown => {}
                }
            }
        }
    }
}

#[test]
fn references_name_every_value_at_a_known_place() {
    let template = case("{{${x}}} {{#if (eq a.b 1)}}{{c}}{{/if}}\n{{#each items}}{{n}}{{@root.t}}{{../u}}{{/each}}{{#with w}}{{v}}{{/with}}{{> p}}")
        .partial("p", "{{q}} {{this}}")
        .template();
    let found: Vec<String> = template
        .references()
        .iter()
        .map(|r| format!("{}:{}:{} {} {}", r.file, r.at.line, r.at.column, r.name, r.path))
        .collect();
    assert_eq!(
        found,
        [
            "t.hbs:1:3 ${x} x",
            "t.hbs:1:20 a.b a.b",
            "t.hbs:1:30 c c",
            "t.hbs:2:9 items items",
            "t.hbs:2:23 @root.t t",
            "t.hbs:2:34 ../u u",
            "t.hbs:2:57 w w",
            "t.hbs:2:62 v w.v",
            "p.hbs:1:3 q q",
        ]
    );
}

#[test]
fn templates_are_shared_between_threads() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Template>();
}

// --- What is known without a render

/// The hardest a template can make of its data: what is said to render does.
#[test]
fn a_template_that_always_renders_stays_within_the_limits() {
    let hostile = ["\"", "\u{1}", "1e15", "'", "ΐ", "[[", "\\"].map(|piece| piece.repeat(40));
    let numbers: Value = serde_json::from_str(&format!("[{}1]", "1e15,".repeat(90))).expect("valid JSON");
    let data = json!({"t": hostile, "n": crate::triggers::Properties::Text(json!({"n": numbers}).to_string().into()).to_map()});
    let bytes = data.to_string().len();
    let (mut said, mut failed) = (0, 0);
    for escape in [Escape::Html, Escape::Json, Escape::None] {
        for piece in ["{{t}}", "{{n}}", "{{upper t}}", "{{lower (upper t)}}{{t.4}}", "{{default q t}}", "\n  {{> p}}\n"]
        {
            for repeats in [1, 4, 20, 300, 3_000] {
                let case = case(&piece.repeat(repeats)).escape(escape).blank().partial("p", "{{{t}}}\n{{t.0}}\n");
                let renders = case.try_render(&data).is_ok();
                let always = case.template().always_renders(bytes);
                assert!(renders || !always, "{piece} {repeats} times with {escape:?}");
                said += usize::from(always);
                failed += usize::from(!renders);
            }
        }
    }
    assert!(said > 30 && failed > 10, "{said} always render, {failed} did not");
}

#[test]
fn sections_inside_each_other_take_no_more_memory_than_a_template_may() {
    let (open, close) = ("{{#a}}".repeat(90), "{{/a}}".repeat(90));
    let text = format!("{open}{}{close}", "{{../../x}}{{y}}".repeat(4_000));
    assert_eq!(case(&text).template().not_compiled(), Some("its sections nest too deep for so many names"));
    assert_eq!(case(&format!("{open}{{{{../x}}}}{close}")).template().not_compiled(), None);
}

#[test]
fn what_has_no_program_says_why() {
    let reason = |text: &str| case(text).partial("p", "{{this}}").partial("q", "{{x}}").template().not_compiled();
    for text in ["{{this}}", "{{#each this}}{{/each}}", "{{> q x=@root}}"] {
        assert_eq!(reason(text), Some("it uses all data as one value"), "{text}");
    }
    assert_eq!(reason("{{> p x=1}}"), Some("it uses the scope of a partial with names as one value"));
    assert_eq!(reason("{{#a as |b|}}{{b}}{{/a}}"), Some("a section has block parameters"));
    for text in ["{{#each a}}{{this}}{{/each}}", "{{> q x=a}}", "{{#with a}}{{> q}}{{/with}}", "{{#a}}{{.}}{{/a}}"] {
        assert_eq!(reason(text), None, "{text}");
    }
}

// --- Against the crate as it comes

/// Pieces that mean the same to the crate as it comes and to us.
const COMMON: [&str; 23] = [
    "a",
    " ",
    "\n",
    "  \n",
    "\\",
    "{",
    "}",
    "é",
    "{{x}}",
    "{{{h}}}",
    "{{h}}",
    "{{~x}}",
    "{{x~}}",
    "{{#if x}}",
    "{{#if no}}",
    "{{~#if x~}}",
    "{{else}}",
    "{{/if}}",
    "{{#each l}}",
    "{{@index}}",
    "{{/each}}",
    "{{! c }}",
    "{{#each l as |i|}}{{i}}",
];

/// Pieces that need not fit together at all.
const BROKEN: [&str; 38] = [
    "{{",
    "}}",
    "{{{",
    "}}}",
    "{{{{",
    "{{{{raw}}}}",
    "{{{{/raw}}}}",
    "${",
    "${x}",
    "}",
    "(",
    ")",
    "upper ",
    "\"",
    "'",
    "|",
    "as |i|",
    "=",
    "~",
    "#if ",
    "/if",
    "else",
    "!",
    "!--",
    "--",
    "> p",
    "@index",
    "..",
    "[",
    "\\",
    "{{#x}}",
    "{{/x}}",
    "{{^x}}",
    "{{#> p}}",
    "{{/p}}",
    "{{> @partial-block}}",
    "{{#*inline 'p'}}",
    "{{/inline}}",
];

fn pieces(choice: &'static [&'static str]) -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::strategy::Strategy as _;
    proptest::collection::vec(0..choice.len(), 0..14)
        .prop_map(|picks| picks.into_iter().map(|pick| choice[pick]).collect())
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 3_000, failure_persistence: None, ..Default::default() })]

    /// Where the crate renders as the JavaScript implementation does, so do we. It does not at both ends of a file, for
    /// partials, for four braces after an escaped mustache, and for a comment after a tag that trims.
    #[test]
    fn what_the_crate_renders_we_render_alike(text in pieces(&COMMON)) {
        let text = format!("a{text}b");
        let data = json!({"x": "1", "h": "<&>", "l": ["p", "q"], "no": false});
        let mut plain = Handlebars::new();
        let quirk = text.contains("\\{{{{") || (text.contains("~}}") && text.contains("{{! c }}"));
        if !quirk && plain.register_template_string("t", &text).is_ok() {
            let expected = plain.render("t", &data).expect("nothing can fail");
            let ours = case(&text).escape(Escape::Html).blank().try_render(&data);
            proptest::prop_assert_eq!(ours, Ok(expected));
        }
    }

    /// Whatever the text: a fault or a template, and never a panic.
    #[test]
    fn every_text_is_a_template_or_has_a_fault(left in pieces(&BROKEN), middle in pieces(&COMMON), right in pieces(&BROKEN)) {
        let text = format!("{left}{middle}{right}");
        match case(&text).partial("p", "{{x}}").compile() {
            Ok(template) => drop(template.render(&scope(&data()), &mut String::new())),
            Err(faults) => proptest::prop_assert!(!faults.is_empty()),
        }
    }
}
