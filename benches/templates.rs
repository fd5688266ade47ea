//! What a message costs: compiling a template, and rendering it from Parquet columns and from raw JSON, beside the
//! `handlebars` crate with a context built for every row, and beside minijinja as a yardstick.
//!
//! `cargo bench --profile release --bench templates`. The same texts come out of all of them, which is checked before
//! anything is timed. One message an iteration; what is timed begins with a decoded row (Parquet) or with its JSON text, and
//! ends with the text of the message. `control` escapes a text and must not move between two versions.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::builder::{Float64Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Fields};
use criterion::{Criterion, criterion_group, criterion_main};
use handlebars::{Context, Handlebars};
use parquet::arrow::ArrowWriter;
use retrigger::input::{InputOptions, Inputs};
use retrigger::pipeline::{Need, TriggerSource};
use retrigger::templates::{Data, Escape, OnMissing, Scope, Template, TemplateSource, Workspace};
use retrigger::triggers::{Properties, Values, Wanted};
use serde_json::Value;

const ROWS: usize = 512;
const ITEMS: usize = 10;

/// A template as it is written for us and the crate, and for minijinja.
struct Copy {
    name: &'static str,
    handlebars: String,
    jinja: String,
}

fn copies() -> Vec<Copy> {
    let plain = "Hi {{p.first}} {{p.last}}, your order {{p.order}} of {{p.count}} items over {{p.total}} {{p.currency}} is on its way.";
    let receipt = "<h1>Thank you, {{p.first}}</h1><p>Order {{p.order}}</p><table>{{#each p.items}}<tr><td>{{name}}</td>\
         <td>{{quantity}}</td><td>{{price}}</td></tr>{{/each}}</table><p>Total {{p.total}} {{p.currency}}</p>";
    let nested = "{{#if p.first}}<p>Dear {{p.first}},</p>{{else}}<p>Hello,</p>{{/if}}{{#each p.items}}{{#if discount}}<b>{{name}} \
         now {{price}}</b>{{else}}{{#if quantity}}<i>{{quantity}} x {{name}}</i>{{else}}<s>{{name}}</s>{{/if}}{{/if}}{{#unless @last}}, \
         {{/unless}}{{/each}}{{#if p.absent}}never{{/if}}";
    let paragraph =
        "<p style=\"margin:0;font:14px/20px Arial,sans-serif\">Our editors chose what is worth your weekend.</p>\n";
    let newsletter = format!(
        "<html><body>{}<h1>{{{{p.first}}}}'s week</h1>{}{{{{#each p.items}}}}<h2>{{{{name}}}}</h2>{}<p>{{{{price}}}}</p>{{{{/each}}}}{}\
         <p>{{{{p.order}}}} {{{{p.total}}}}</p></body></html>",
        paragraph.repeat(60),
        paragraph.repeat(40),
        paragraph.repeat(4),
        paragraph.repeat(40)
    );
    let pairs = [("plain", plain), ("receipt", receipt), ("nested", nested), ("newsletter", newsletter.as_str())];
    pairs.map(|(name, text)| Copy { name, handlebars: ours(text), jinja: jinja(text) }).into()
}

fn ours(text: &str) -> String {
    text.replace("p.", "api_trigger_properties.")
}

/// The same in the other language.
fn jinja(text: &str) -> String {
    let words = [
        ("{{#each p.items}}", "{% for i in p.items %}"),
        ("{{/each}}", "{% endfor %}"),
        ("{{#if p.", "{% if p."),
        ("{{#if ", "{% if i."),
        ("{{#unless @last}}", "{% if not loop.last %}"),
        ("{{/unless}}", "{% endif %}"),
        ("{{/if}}", "{% endif %}"),
        ("{{else}}", "{% else %}"),
        ("{{name}}", "{{i.name}}"),
        ("{{quantity}}", "{{i.quantity}}"),
        ("{{price}}", "{{i.price}}"),
    ];
    let text = words.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    // The heads of `if` end as an expression does.
    let mut out = String::new();
    for (index, piece) in text.split("{% if ").enumerate() {
        if index > 0 {
            out.push_str("{% if ");
        }
        match (index, piece.starts_with("not "), piece.split_once("}}")) {
            (1.., false, Some((head, rest))) => out.extend([head, " %}", rest]),
            _ => out.push_str(piece),
        }
    }
    out
}

// --- Data

/// Rows with the six values of the plain text, and with line items where they are wanted.
fn columns(with_items: bool) -> RecordBatch {
    let item_fields = Fields::from(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("quantity", DataType::Int64, true),
        Field::new("price", DataType::Float64, true),
        Field::new("discount", DataType::Int64, true),
    ]);
    let text =
        |of: fn(usize) -> String| -> ArrayRef { Arc::new((0..ROWS).map(|row| Some(of(row))).collect::<StringArray>()) };
    let mut items = ListBuilder::new(StructBuilder::from_fields(item_fields, ROWS * ITEMS));
    let (mut total, mut count) = (Float64Builder::new(), Int64Builder::new());
    for row in 0..ROWS {
        for item in 0..ITEMS {
            let builder = items.values();
            let number = row * ITEMS + item;
            let name = if number.is_multiple_of(16) {
                format!("Salt & Pepper {number}")
            } else {
                format!("Wool Jacket {number}")
            };
            builder.field_builder::<StringBuilder>(0).expect("a text").append_value(name);
            builder.field_builder::<Int64Builder>(1).expect("an integer").append_value((number % 3) as i64);
            builder.field_builder::<Float64Builder>(2).expect("a float").append_value(number as f64 + 0.25);
            builder.field_builder::<Int64Builder>(3).expect("an integer").append_value((number % 2) as i64);
            builder.append(true);
        }
        items.append(true);
        total.append_value(row as f64 * 7.0 + 0.5);
        count.append_value(ITEMS as i64);
    }
    let mut members: Vec<(&str, ArrayRef)> = vec![
        ("first", text(|row| format!("Ada {row}"))),
        ("last", text(|_| "Lovelace".to_owned())),
        ("order", text(|row| format!("2026-{row:08}"))),
        ("count", Arc::new(count.finish())),
        ("total", Arc::new(total.finish())),
        ("currency", text(|_| "EUR".to_owned())),
    ];
    if with_items {
        members.push(("items", Arc::new(items.finish())));
    }
    let fields: Fields = members.iter().map(|(n, a)| Field::new(*n, a.data_type().clone(), true)).collect();
    let properties = StructArray::new(fields, members.into_iter().map(|(_, array)| array).collect(), None);
    RecordBatch::try_from_iter([
        ("campaign_id", text(|_| "c".to_owned())),
        ("external_user_id", text(|row| format!("user-{row}"))),
        ("trigger_properties", Arc::new(properties) as ArrayRef),
    ])
    .expect("columns of one length")
}

/// The rows as a Parquet file.
fn parquet(with_items: bool) -> (tempfile::TempDir, Inputs) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rows.parquet");
    let batch = columns(with_items);
    let file = std::fs::File::create(&path).expect("a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    let options = InputOptions { spool: folder.path().to_owned(), ..InputOptions::default() };
    let inputs = Inputs::open(&[path.to_string_lossy().into_owned()], options).expect("a valid file");
    (folder, inputs)
}

fn each_row(inputs: &Inputs, mut visit: impl FnMut(&Properties<'_>)) {
    let mut row = |row: retrigger::pipeline::Row<'_>| {
        visit(&row.parsed.expect("a trigger").properties);
        Ok(())
    };
    inputs.read(0, Need::Everything, &mut row).expect("readable");
}

// --- Who renders

fn source(text: &str) -> TemplateSource {
    TemplateSource { file: "copy".to_owned(), text: text.to_owned() }
}

fn compile(text: &str) -> Template {
    Template::compile(&source(text), &BTreeMap::new(), Escape::Html, OnMissing::Blank).expect("valid")
}

/// A compiled template with what it uses again.
struct Compiled {
    template: Template,
    wanted: Wanted,
    slots: Vec<u32>,
    values: Values,
    memory: Workspace,
    out: String,
}

impl Compiled {
    fn new(text: &str) -> Compiled {
        let template = compile(text);
        let names: Vec<(String, u32)> = template.asks().iter().map(|ask| ask.0[1].clone()).zip(0..).collect();
        let slots = (0..names.len() as u32).collect();
        let (values, memory) = (Values::default(), Workspace::default());
        Compiled { template, wanted: Wanted::new(names, None), slots, values, memory, out: String::new() }
    }

    fn render(&mut self, properties: &Properties<'_>) -> &str {
        self.values.begin(self.slots.len());
        properties.fill(&self.wanted, &mut self.values);
        let scope = || Scope::new(properties.to_map());
        let data = Data { values: &self.values, slots: &self.slots, bytes: 0, scope: &scope };
        self.out.clear();
        self.template.append(&data, &mut self.memory, &mut self.out).expect("rendered");
        &self.out
    }
}

/// The crate as it comes, with its own parser, paths and escaping.
fn by_crate(text: &str) -> Handlebars<'static> {
    let mut registry = Handlebars::new();
    registry.register_template_string("copy", text).expect("valid");
    registry
}

fn render_by_crate(registry: &Handlebars<'_>, properties: &Properties<'_>) -> String {
    let data = serde_json::Map::from_iter([("api_trigger_properties".to_owned(), Value::Object(properties.to_map()))]);
    registry.render_with_context("copy", &Context::from(Value::Object(data))).expect("rendered")
}

fn by_minijinja(text: String) -> minijinja::Environment<'static> {
    let mut environment = minijinja::Environment::new();
    environment.add_template_owned("copy.html", text).expect("valid");
    environment
}

fn render_by_minijinja(environment: &minijinja::Environment<'_>, text: &str) -> String {
    let data = minijinja_value(&serde_json::from_str(text).expect("JSON"));
    let template = environment.get_template("copy.html").expect("there");
    template.render(minijinja::context! { p => data }).expect("rendered")
}

/// By hand, since our build of the JSON library keeps the text of numbers, which minijinja cannot read.
fn minijinja_value(value: &Value) -> minijinja::Value {
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(truth) => minijinja::Value::from(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => minijinja::Value::from(integer),
            None => minijinja::Value::from(number.as_f64()),
        },
        Value::String(text) => minijinja::Value::from(text.as_str()),
        Value::Array(items) => items.iter().map(minijinja_value).collect(),
        Value::Object(map) => map.iter().map(|(name, value)| (name.as_str(), minijinja_value(value))).collect(),
    }
}

// --- Benches

/// Times a render of every row, several times over so that the clock costs nothing.
fn timed(inputs: &Inputs, iterations: u64, mut render: impl FnMut(&Properties<'_>)) -> Duration {
    const TIMES: u64 = 16;
    let (mut rounds, mut spent) = (0, Duration::ZERO);
    while rounds < iterations {
        each_row(inputs, |properties| {
            let start = Instant::now();
            (0..TIMES).for_each(|_| render(properties));
            spent += start.elapsed();
            rounds += TIMES;
        });
    }
    spent.mul_f64(iterations as f64 / rounds as f64)
}

fn render(c: &mut Criterion) {
    for copy in copies() {
        let (_folder, inputs) = parquet(copy.name != "plain");
        let mut texts = Vec::new();
        each_row(&inputs, |properties| texts.push(properties.text()));
        let mut compiled = Compiled::new(&copy.handlebars);
        let (registry, environment) = (by_crate(&copy.handlebars), by_minijinja(copy.jinja.clone()));
        each_row(&inputs, |properties| {
            let expected = render_by_crate(&registry, properties);
            assert_eq!(compiled.render(properties), expected, "{}", copy.name);
            assert_eq!(compiled.render(&Properties::Text(properties.text().into())), expected, "{}", copy.name);
            assert_eq!(render_by_minijinja(&environment, &properties.text()), expected, "{}", copy.name);
        });
        let mut group = c.benchmark_group(format!("render/{}", copy.name));
        group.bench_function("columns/compiled", |b| {
            b.iter_custom(|n| timed(&inputs, n, |properties| _ = black_box(compiled.render(properties))));
        });
        group.bench_function("columns/crate", |b| {
            b.iter_custom(|n| timed(&inputs, n, |properties| _ = black_box(render_by_crate(&registry, properties))));
        });
        let mut next = (0..ROWS).cycle();
        let mut text = || &texts[next.next().expect("endless")];
        group.bench_function("json/compiled", |b| {
            b.iter(|| black_box(compiled.render(&Properties::Text(text().as_str().into()))).len());
        });
        group.bench_function("json/crate", |b| {
            b.iter(|| render_by_crate(&registry, &Properties::Text(text().as_str().into())));
        });
        group.bench_function("json/minijinja", |b| b.iter(|| render_by_minijinja(&environment, text())));
        group.finish();
    }
}

fn compiling(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile");
    for copy in copies() {
        group.bench_function(format!("{}/ours", copy.name), |b| b.iter(|| compile(black_box(&copy.handlebars))));
        group.bench_function(format!("{}/crate", copy.name), |b| b.iter(|| by_crate(black_box(&copy.handlebars))));
        group.bench_function(format!("{}/minijinja", copy.name), |b| b.iter(|| by_minijinja(copy.jinja.clone())));
    }
    group.finish();
}

fn control(c: &mut Criterion) {
    let text = "Salt & Pepper <7>".repeat(8);
    c.bench_function("control/escape", |b| b.iter(|| handlebars::html_escape(black_box(&text))));
}

criterion_group!(benches, render, compiling, control);
criterion_main!(benches);
