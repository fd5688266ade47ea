//! One job in many forms: threads, splits, formats, files, days and repetitions change nothing that is said.

use std::collections::BTreeMap;

use arrow_schema::DataType;
use retrigger::delivery::{Compression, DeliveryOptions, Format};
use retrigger::eligibility::Clock;
use retrigger::runs::RunSettings;
use serde_json::json;

use crate::harness::{
    DAY, PropertiesAs, Ran, Record, Row, Run, SECOND, Site, Who, at, attempt, commit, ndjson, parquet, requests, tree,
    with_threads,
};

/// Four campaigns: variants with a window and control; three channels of which some drop; no window; no copy.
pub fn site() -> Site {
    let site = Site::new();
    let email = |copy: &str| {
        json!({"email": {
            "subject": format!("{copy}: {{{{api_trigger_properties.item}}}}"),
            "body": "<b>{{api_trigger_properties.item}}</b> {{api_trigger_properties.price}} for {{recipient}}",
        }})
    };
    site.campaign(&json!({
        "id": "viewed", "reeligibility": "1d", "pick": "last", "control_percent": 10, "variants": [
            {"name": "short", "percent": 45, "messages": email("Still there")},
            {"name": "long", "percent": 45, "messages": email("It is waiting")},
        ],
    }));
    site.campaign(&json!({
        "id": "stock", "reeligibility": "never", "messages": {
            "sms": {"text": "{{api_trigger_properties.item}} is back"},
            "push": {"text": "{{#if (gt api_trigger_properties.count 3)}}{{abort_message \"plenty\"}}{{/if}}Hurry"},
            "email": email("Back")["email"],
        },
    }));
    site.campaign(&json!({"id": "shipped", "reeligibility": "always", "messages": email("Shipped")}));
    site.campaign(&json!({"id": "raw", "reeligibility": "10m"}));
    site
}

/// A reproducible stream of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

const ITEMS: [&str; 4] = ["Desk \"Oslo\"", "Réveil <vintage>", "Стол дубовый", "a, b & c"];

/// Rows of a few days, later ones later by a minute each, with every kind of recipient, repeated ids and missing values.
pub fn rows(count: usize) -> Vec<Row> {
    let mut numbers = Numbers(11);
    (0..count).map(|index| row(index, &mut numbers)).collect()
}

fn row(index: usize, numbers: &mut Numbers) -> Row {
    let person = format!("p-{}", numbers.below(60));
    let who = match numbers.below(8) {
        0 => Who::Braze(person),
        1 => Who::Email(format!("{person}@example.org")),
        2 => Who::Alias { label: "crm".to_owned(), name: person },
        _ => Who::External(person),
    };
    let campaign = ["viewed", "stock", "shipped", "raw"][numbers.below(4) as usize];
    let time = at("2026-11-20T00:00:00Z") + index as i64 * 600 * SECOND + numbers.below(1_000) as i64;
    let mut row = Row { who, at: Some(time), ..Row::new("", campaign, "2026-11-20") };
    if numbers.below(3) == 0 {
        row.id = Some(format!("t-{}", numbers.below(200)));
    }
    if numbers.below(5) == 0 {
        row.send_id = Some("night".to_owned());
    }
    if numbers.below(12) > 0 {
        row = row.with("item", ITEMS[numbers.below(4) as usize]);
    }
    if numbers.below(12) > 0 {
        row = row.with("price", numbers.below(10_000) as f64 / 100.0);
    }
    row.with("count", numbers.below(7))
}

/// The same rows, and some that cannot be used.
pub fn with_bad_lines(rows: &[Row]) -> String {
    let bad = [
        "{\"campaign_id\":",
        "[]",
        "{\"campaign_id\":\"stock\"}",
        "{\"campaign_id\":\"nope\",\"email\":\"a@x\"}",
        "{\"campaign_id\":\"stock\",\"external_user_id\":\"x\",\"triggered_at\":\"2031-01-01\"}",
    ];
    let mut lines: Vec<String> = ndjson(rows).lines().map(str::to_owned).collect();
    bad.iter().enumerate().for_each(|(index, line)| lines.insert(index * 16, (*line).to_owned()));
    lines.join("\n")
}

/// Settings with a state and an output folder of this name.
fn named(site: &Site, input: &str, name: &str) -> RunSettings {
    let settings = site.settings(&[input.to_owned()]);
    RunSettings { out: site.path(&format!("out-{name}")), state: site.state(&format!("state-{name}")), ..settings }
}

/// The receipts of a named state, byte for byte.
fn receipts(site: &Site, name: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = tree(&site.path(&format!("state-{name}")));
    files.retain(|file, _| file.starts_with("receipts-"));
    assert!(!files.is_empty());
    files
}

#[test]
fn one_thread_and_four_give_the_same_bytes() {
    let site = site();
    let rows = rows(900);
    let inputs = [
        site.write("in/a.ndjson", with_bad_lines(&rows)),
        site.write("in/b.parquet", parquet(&rows, &PropertiesAs::Json, 100)),
        site.write("in/c.ndjson", requests(&rows)),
    ];
    for (number, input) in inputs.iter().enumerate() {
        for (clock, format, compression) in
            [(Clock::Run, Format::Parquet, Compression::Zstd), (Clock::Event, Format::Ndjson, Compression::None)]
        {
            let run = |threads: usize| {
                let name = format!("{number}-{threads}-{}", format.code());
                let mut settings = named(&site, input, &name);
                settings.delivery = DeliveryOptions { format, compression, batch_size: 37 };
                settings.clock = clock;
                settings.input.split_bytes = 2_000;
                settings.input.split_rows = 50;
                let ran = with_threads(threads, || commit(&settings));
                assert!(ran.messages.len() > 200, "{}", ran.summary);
                (ran.bytes(), receipts(&site, &name))
            };
            let (one, four) = (run(1), run(4));
            assert_eq!(one.0.keys().collect::<Vec<_>>(), four.0.keys().collect::<Vec<_>>());
            for (file, bytes) in &one.0 {
                assert!(four.0[file] == *bytes, "{file} of {input} differs");
            }
            assert!(one.1 == four.1, "the receipts of {input} differ");
        }
    }
}

#[test]
fn any_split_size_gives_the_same_bytes() {
    let site = site();
    let rows = rows(300);
    let inputs = [
        site.write("in/a.ndjson", with_bad_lines(&rows)),
        site.write("in/b.parquet", parquet(&rows, &PropertiesAs::Json, 64)),
        site.write("in/c.ndjson", requests(&rows)),
    ];
    for (number, input) in inputs.iter().enumerate() {
        let run = |bytes: u64, rows: usize| {
            let name = format!("{number}-{bytes}-{rows}");
            let mut settings = RunSettings { clock: Clock::Event, ..named(&site, input, &name) };
            (settings.input.split_bytes, settings.input.split_rows) = (bytes, rows);
            settings.delivery.batch_size = 50;
            (commit(&settings).bytes(), receipts(&site, &name))
        };
        let whole = run(1 << 30, 1 << 30);
        for (bytes, rows) in [(7, 1), (100, 3), (999, 64), (1 << 14, 65)] {
            assert!(run(bytes, rows) == whole, "splits of {bytes} bytes or {rows} rows of {input}");
        }
    }
}

#[test]
fn parquet_ndjson_and_requests_give_the_same_messages() {
    let site = site();
    let rows = rows(700);
    let fields = [("item", DataType::Utf8), ("price", DataType::Float64), ("count", DataType::Int64)];
    let inputs = [
        site.write("in/flat.ndjson", ndjson(&rows)),
        site.write("in/text.parquet", parquet(&rows, &PropertiesAs::Json, 128)),
        site.write("in/struct.parquet", parquet(&rows, &PropertiesAs::Struct(&fields), 1_000)),
        site.write("in/requests.ndjson", requests(&rows)),
    ];
    for clock in [Clock::Run, Clock::Event] {
        let run = |number: usize| {
            let name = format!("{number}-{clock:?}");
            commit(&RunSettings { clock, ..named(&site, &inputs[number], &name) })
        };
        let flat = run(0);
        assert!(!flat.messages.is_empty() && !flat.dropped.is_empty() && flat.exit_code == 3);
        for (other, input) in inputs.iter().enumerate().skip(1) {
            let other = run(other);
            assert_rows(&other.messages_anywhere(), &flat.messages_anywhere(), input);
            assert_rows(&other.decisions_anywhere(), &flat.decisions_anywhere(), input);
            assert_eq!(other.remainder, flat.remainder, "{input}");
        }
    }
}

/// Row by row, so that a difference can be read.
#[track_caller]
fn assert_rows(found: &[Record], expected: &[Record], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    found.iter().zip(expected).for_each(|(found, expected)| assert_eq!(found, expected, "{what}"));
}

#[test]
fn ten_files_in_three_forms_give_the_messages_of_one() {
    let site = site();
    let rows = rows(500);
    let one = site.write("in/all.ndjson", ndjson(&rows));
    let parts: Vec<String> =
        rows.chunks(50)
            .enumerate()
            .map(|(number, rows)| match number % 3 {
                0 => site.write(&format!("in/{number}.ndjson"), ndjson(rows)),
                1 => site.write(&format!("in/{number}.parquet"), parquet(rows, &PropertiesAs::Json, 9)),
                _ => site
                    .write(&format!("in/{number}.ndjson.zst"), zstd::encode_all(requests(rows).as_bytes(), 1).unwrap()),
            })
            .collect();
    assert_eq!(parts.len(), 10);
    for clock in [Clock::Run, Clock::Event] {
        let whole = commit(&RunSettings { clock, ..named(&site, &one, &format!("one-{clock:?}")) });
        let settings = RunSettings { clock, ..named(&site, "", &format!("ten-{clock:?}")) };
        let apart = commit(&RunSettings { inputs: parts.clone(), ..settings });
        assert_rows(&apart.messages_anywhere(), &whole.messages_anywhere(), "ten files");
        assert_rows(&apart.decisions_anywhere(), &whole.decisions_anywhere(), "ten files");
    }
}

#[test]
fn day_one_then_day_two_is_both_days_on_the_event_clock() {
    let site = site();
    let rows = rows(600);
    let (first, second) = rows.split_at(250);
    let both = site.write("in/both.ndjson", ndjson(&rows));
    let first = site.write("in/first.parquet", parquet(first, &PropertiesAs::Json, 100));
    let second = site.write("in/second.ndjson", ndjson(second));
    let event = |input: &str, name: &str| commit(&RunSettings { clock: Clock::Event, ..named(&site, input, name) });
    let whole = event(&both, "both");
    let days = [event(&first, "days"), event(&second, "days")];
    let all = |rows: fn(&Ran) -> Vec<Record>| days.iter().flat_map(rows).collect::<Vec<_>>();
    assert_rows(&all(Ran::decisions_anywhere), &whole.decisions_anywhere(), "two days");
    let by_id = |mut messages: Vec<Record>| {
        messages.sort_by(|a, b| a["dispatch_id"].cmp(&b["dispatch_id"]));
        messages
    };
    assert_rows(&by_id(all(Ran::messages_anywhere)), &by_id(whole.messages_anywhere()), "two days");
    let refused = days[1].summary["suppressed"]["within_window"].as_u64();
    assert!(refused > Some(0), "the second day knows nothing of the first: {}", days[1].summary);
}

#[test]
fn the_order_of_rows_does_not_matter_where_no_two_are_of_one_instant() {
    let site = site();
    let mut rows = rows(400);
    let ordered = site.write("in/ordered.ndjson", ndjson(&rows));
    let mut numbers = Numbers(5);
    for end in (1..rows.len()).rev() {
        rows.swap(end, numbers.below(end as u64 + 1) as usize);
    }
    let shuffled = site.write("in/shuffled.ndjson", ndjson(&rows));
    for clock in [Clock::Run, Clock::Event] {
        let sorted = |input: &str, name: &str| {
            let ran = commit(&RunSettings { clock, ..named(&site, input, &format!("{name}-{clock:?}")) });
            let (mut messages, mut decisions) = (ran.messages_anywhere(), ran.decisions_anywhere());
            messages.sort();
            decisions.sort();
            (messages, decisions)
        };
        let (in_order, mixed) = (sorted(&ordered, "ordered"), sorted(&shuffled, "shuffled"));
        assert_rows(&mixed.0, &in_order.0, "messages");
        assert_rows(&mixed.1, &in_order.1, "decisions");
    }
}

#[test]
fn the_same_command_again_changes_nothing_and_gives_the_first_exit_code() {
    let rows = rows(80);
    let clean: Vec<Row> = rows.iter().filter(|row| row.campaign == "raw").cloned().collect();
    for (content, code) in [(ndjson(&clean), 0), (with_bad_lines(&rows), 3)] {
        let site = site();
        let input = site.write("in/a.ndjson", content);
        for settings in [named(&site, &input, "kept"), site.settings(std::slice::from_ref(&input))] {
            let first = commit(&settings);
            assert_eq!((first.exit_code, first.again), (code, false));
            let before = tree(&site.path(""));
            let second = commit(&settings);
            assert_eq!((second.exit_code, second.again), (code, true));
            assert_eq!(second.folder.canonicalize().unwrap(), first.folder.canonicalize().unwrap());
            assert!(tree(&site.path("")) == before, "a repeated command wrote something");
            let moved = site.write("in/renamed.ndjson", std::fs::read(&input).unwrap());
            let renamed = commit(&RunSettings { inputs: vec![moved.clone()], ..settings.clone() });
            assert!(renamed.again, "a name says nothing of a file's content");
            std::fs::remove_file(moved).unwrap();
        }
    }
}

#[test]
fn a_replay_into_a_new_state_names_its_messages_alike() {
    let site = site();
    let input = site.write("in/a.ndjson", ndjson(&rows(300)));
    let ids = |name: &str, as_of: &str| {
        let settings = RunSettings { as_of: at(as_of), clock: Clock::Event, ..named(&site, &input, name) };
        commit(&settings).messages.iter().map(|m| m["dispatch_id"].clone().unwrap()).collect::<Vec<_>>()
    };
    let first = ids("first", "2026-12-01");
    assert_eq!(ids("second", "2026-12-02T12:00:00Z"), first);
    assert!(first.len() > 100);
}

/// A caller that writes its keys in another order, or `null` for what is absent, names the same messages.
#[test]
fn the_order_of_keys_and_nulls_are_no_part_of_a_name() {
    let site = site();
    let rows: Vec<Row> = rows(300).into_iter().filter(|row| row.campaign == "shipped").collect();
    let turned = rows.iter().cloned().map(|row| {
        let properties = row.properties.clone().into_iter().rev().chain([("none".to_owned(), json!(null))]).collect();
        Row { properties, ..row }
    });
    let turned: Vec<Row> = turned.collect();
    let plain = commit(&site.settings(&[site.write("in/plain.ndjson", ndjson(&rows))]));
    let turned = commit(&site.settings(&[site.write("in/turned.ndjson", ndjson(&turned))]));
    assert_rows(&turned.messages_anywhere(), &plain.messages_anywhere(), "turned");
    assert!(plain.messages.len() > 30);
}

#[test]
fn a_replay_into_the_same_state_sends_only_what_has_no_window_and_under_the_same_names() {
    let site = site();
    let input = site.write("in/a.ndjson", ndjson(&rows(300)));
    let again = site.write("in/b.ndjson", format!("{}\n", ndjson(&rows(300))));
    let run = |input: &str, as_of: &str| {
        let settings = RunSettings { as_of: at(as_of), clock: Clock::Event, ..named(&site, input, "kept") };
        commit(&RunSettings { allow_consumed: true, ..settings })
    };
    let first = run(&input, "2026-12-01");
    let second = run(&again, "2026-12-02");
    let sent = second.decisions.iter().filter(|d| d["outcome"].as_deref() == Some("sent"));
    let sent: Vec<&Record> = sent.collect();
    assert!(!sent.is_empty());
    for decision in sent {
        assert_eq!((decision["campaign_id"].as_deref(), &decision["trigger_id"]), (Some("shipped"), &None));
        assert!(first.messages.iter().any(|message| message["dispatch_id"] == decision["dispatch_ids"]));
    }
}

#[test]
fn an_input_that_was_consumed_is_refused_unless_it_is_allowed() {
    let site = site();
    let input = site.write("in/a.ndjson", ndjson(&rows(30)));
    let settings = named(&site, &input, "kept");
    commit(&settings);
    let later = RunSettings { as_of: settings.as_of + DAY, ..settings };
    let Err(error) = attempt(&later) else { panic!("it was taken again") };
    assert_eq!(error.kind.exit_code(), 1);
    assert!(error.to_string().contains("--allow-consumed"), "{error}");
    commit(&RunSettings { allow_consumed: true, ..later });
}

#[test]
fn a_night_without_triggers_follows_a_night_without_triggers() {
    let site = site();
    let input = site.write("in/a.ndjson", "");
    let settings = named(&site, &input, "kept");
    commit(&settings);
    let next = commit(&RunSettings { as_of: settings.as_of + DAY, ..settings });
    assert_eq!((next.exit_code, next.again, next.decisions.len()), (0, false, 0));
}

/// One text buffer serves all recipients of a split: nothing of one may stand in the message of the next.
#[test]
fn nothing_of_ada_stands_in_the_message_to_bob() {
    let messages = json!({
        "email": {
            "subject": "{{api_trigger_properties.item}}",
            "body": "{{#each api_trigger_properties.list}}{{this}};{{/each}}{{custom_attribute.city}}|{{send_id}}|{{recipient}}",
        },
        "sms": {"text": "{{api_trigger_properties.item}} {{#if api_trigger_properties.list}}many{{/if}}"},
    });
    let ada = Row { send_id: Some("night".to_owned()), ..Row::new("ada", "c", "2026-11-20") };
    let ada = ada.with("item", "Ada's <desk>").with("list", json!([1, 2, 3])).id("t-ada");
    let bob = Row::new("bob", "c", "2026-11-21");
    let texts = |rows: &[Row]| {
        let run = Run::new().define("on_missing", "blank").define("messages", messages.clone());
        let ran = rows.iter().fold(run, |run, row| run.row(row.clone())).run();
        let bobs = ran.messages_anywhere().into_iter().filter(|m| m["recipient"].as_deref() == Some("bob"));
        bobs.collect::<Vec<_>>()
    };
    let alone = texts(std::slice::from_ref(&bob));
    assert_eq!(alone.len(), 2);
    assert_eq!(alone[0]["body"].as_deref(), Some("||bob"));
    assert_rows(&texts(&[ada.clone(), bob.clone(), ada]), &alone, "after Ada");
}

/// The vectors of the reference, section 15: slices 0-39, 40-79 and control 80-99.
#[test]
fn the_published_variant_vectors_hold_in_a_run() {
    const CAMPAIGN: &str = "3f6c1a52-0d4e-4b8a-9a77-5e2d10c4b901";
    let arm = |name: &str| json!({"name": name, "percent": 40, "messages": {"push": {"text": "hi"}}});
    let site = Site::new();
    let define = |v1: u8, v2: u8| {
        let (mut first, mut second) = (arm("V1"), arm("V2"));
        (first["percent"], second["percent"]) = (json!(v1), json!(v2));
        site.campaign(&json!({
            "id": CAMPAIGN, "reeligibility": "never", "control_percent": 100 - v1 - v2, "variants": [first, second],
        }));
    };
    let slices =
        [("u-1001", 93), ("u-1002", 41), ("u-1003", 21), ("u-1004", 60), ("u-1005", 59), ("42", 46), ("zoë", 62)];
    let people: Vec<Row> = slices.iter().map(|(id, _)| Row::new(id, CAMPAIGN, "2026-11-23")).collect();
    let input = site.write("in/a.ndjson", ndjson(&people).replace("\"42\"", "42"));
    let variants = |v1: u8, v2: u8| -> Vec<Option<String>> {
        define(v1, v2);
        commit(&site.settings(std::slice::from_ref(&input)))
            .decisions
            .into_iter()
            .map(|d| d["variant"].clone())
            .collect()
    };
    let expected = [None, Some("V2"), Some("V1"), Some("V2"), Some("V2"), Some("V2"), Some("V2")];
    assert_eq!(variants(40, 40), expected.map(|v| v.map(str::to_owned)));
    // The exact slice of each: it is in the variant that ends behind it, and not in the one that ends before it.
    for (index, (id, slice)) in slices.iter().enumerate() {
        assert_eq!(variants(slice + 1, 0)[index].as_deref(), Some("V1"), "{id}");
        assert_eq!(variants(*slice, 1)[index].as_deref(), Some("V2"), "{id}");
    }
}

#[test]
fn an_alias_draws_by_label_and_name_and_an_address_by_its_plain_form() {
    let arm = |name: &str, percent: u8| json!({"name": name, "percent": percent, "messages": {"push": {"text": "hi"}}});
    let arms: Vec<_> = (0..8).map(|n| arm(&format!("v{n}"), if n == 0 { 16 } else { 12 })).collect();
    for n in 0..25 {
        let name = format!("user{n}");
        let row = |who: Who| Row { who, ..Row::new("", "c", "2026-11-23") };
        let run = Run::new().define("variants", json!(arms));
        let ran = [
            Who::Alias { label: "crm".to_owned(), name: name.clone() },
            Who::External(format!("crm:{name}")),
            Who::Email(format!(" {}@X.org", name.to_uppercase())),
            Who::External(format!("{name}@x.org")),
        ]
        .into_iter()
        .fold(run, |run, who| run.row(row(who)));
        let ran = ran.without("messages").run();
        let variants: Vec<_> = ran.decisions.iter().map(|d| d["variant"].clone().unwrap()).collect();
        assert_eq!((&variants[0], &variants[2]), (&variants[1], &variants[3]), "{name}");
    }
}

#[test]
fn one_name_of_four_kinds_is_four_recipients_and_two_spellings_of_an_address_are_one() {
    let row = |who: Who| Row { who, ..Row::new("", "c", "2026-11-23") };
    let alias = |label: &str, name: &str| Who::Alias { label: label.to_owned(), name: name.to_owned() };
    let who = [
        Who::External("x@y".to_owned()),
        Who::Braze("x@y".to_owned()),
        Who::Email("x@y".to_owned()),
        Who::Email(" X@Y ".to_owned()),
        alias("a", "b:c"),
        alias("a:b", "c"),
        Who::External("a:b:c".to_owned()),
    ];
    let ran = who.into_iter().fold(Run::new(), |run, who| run.row(row(who))).run();
    let [sent, again] = ["sent", "already_received"];
    assert_eq!(ran.fates(), [sent, sent, sent, again, sent, sent, sent]);
}
