//! Profiles and their faults, arrivals, and what a stream that fails leaves.

use std::io::{self, Write};

use super::arrival::Timeline;
use super::*;
use crate::error::Kind;
use crate::triggers::MICROS_PER_SECOND;

const SECOND: i64 = MICROS_PER_SECOND;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

fn draft() -> ProfileDraft {
    let campaign = WeightedCampaign { id: "a".to_owned(), weight: 1.0 };
    ProfileDraft { triggers: Some(1_000), campaigns: Some(vec![campaign]), ..ProfileDraft::default() }
}

fn share(share: f64) -> Option<Share> {
    Share::new(share)
}

/// Evenly spaced shares as instants.
fn instants(arrival: &Arrival, from: i64, until: i64, count: usize) -> Vec<i64> {
    let timeline = Timeline::new(arrival, from, until, 7).unwrap();
    (0..count).map(|n| timeline.at((n as f64 + 0.5) / count as f64)).collect()
}

#[test]
fn arrivals_never_fall_and_stay_in_their_period() {
    let (from, until) = (3 * DAY + 1_234_567, 9 * DAY + 89);
    for arrival in [Arrival::Uniform, Arrival::daily(), Arrival::bursts()] {
        let instants = instants(&arrival, from, until, 20_000);
        assert!(instants.is_sorted(), "{arrival:?}");
        assert!(instants[0] >= from && instants[0] < from + 2 * HOUR, "{arrival:?}");
        assert!(instants[19_999] < until && instants[19_999] > until - 2 * HOUR, "{arrival:?}");
        let timeline = Timeline::new(&arrival, from, until, 7).unwrap();
        assert_eq!((timeline.at(0.0), timeline.at(1.0)), (from, until - 1), "{arrival:?}");
    }
}

#[test]
fn a_uniform_arrival_has_as_many_in_every_hour() {
    let instants = instants(&Arrival::Uniform, 0, DAY, 24_000);
    for hour in 0..24 {
        assert_eq!(instants.iter().filter(|at| **at / HOUR == hour).count(), 1_000, "{hour}");
    }
}

#[test]
fn a_day_has_the_weights_of_its_hours_also_where_it_is_cut() {
    let mut hours = [0.0; 24];
    (hours[3], hours[9], hours[23]) = (1.0, 3.0, 6.0);
    // Half of hour 3 is before the first instant, and half of hour 23 after the last.
    let instants = instants(&Arrival::Daily { hours }, 3 * HOUR + HOUR / 2, DAY - HOUR / 2, 6_500);
    let in_hour = |hour| instants.iter().filter(|at| **at / HOUR == hour).count();
    assert_eq!([3, 9, 23, 4].map(in_hour), [500, 3_000, 3_000, 0]);
}

#[test]
fn bursts_have_their_share_their_number_and_their_length() {
    let arrival = Arrival::Bursts { count: 8, share: Share::new(0.7).unwrap(), length: 600 * SECOND };
    let instants = instants(&arrival, 0, 30 * DAY, 100_000);
    // Outside of bursts one arrives in 86 s, inside of them one in 0.07 s.
    let runs: Vec<&[i64]> = instants.chunk_by(|a, b| b - a < SECOND).filter(|run| run.len() > 1_000).collect();
    assert_eq!(runs.len(), 8);
    for run in &runs {
        let length = run[run.len() - 1] - run[0];
        assert!((599 * SECOND..=600 * SECOND).contains(&length), "{length}");
    }
    let inside: usize = runs.iter().map(|run| run.len()).sum();
    // A burst has its own and what arrives anyhow.
    assert!((70_000..70_100).contains(&inside), "{inside}");
}

#[test]
fn what_only_shows_in_the_whole_is_refused_with_a_hint() {
    let cases: [(ProfileDraft, &str); 12] = [
        (ProfileDraft { campaigns: None, ..draft() }, "no campaign is named"),
        (ProfileDraft { duplicates: share(0.6), late: share(0.4), ..draft() }, "come to 1 of all rows"),
        (ProfileDraft { from: Some(DAY), until: Some(DAY), ..draft() }, "no arrivals fit"),
        (ProfileDraft { from: Some(0), until: Some(i64::MAX), ..draft() }, "no arrivals fit"),
        (ProfileDraft { late_by: Some(SECOND), ..draft() }, "`late_by` must be longer"),
        (ProfileDraft { out_of_order_by: Some(0), ..draft() }, "`late_by` must be longer"),
        (ProfileDraft { triggers: Some(0), ..draft() }, "`triggers` cannot be 0"),
        (ProfileDraft { recipients: Some(0), ..draft() }, "`recipients` cannot be 0"),
        (ProfileDraft { recipients_per_request: Some(51), ..draft() }, "`recipients_per_request` cannot be 51"),
        (ProfileDraft { recipient_skew: Some(f64::NAN), ..draft() }, "`recipient_skew` cannot be NaN"),
        (
            ProfileDraft { arrival: Some(Arrival::bursts()), from: Some(0), until: Some(SECOND), ..draft() },
            "a burst must be shorter",
        ),
        (ProfileDraft { arrival: Some(Arrival::Daily { hours: [0.0; 24] }), ..draft() }, "no hour between"),
    ];
    for (draft, says) in cases {
        let error = draft.finish().unwrap_err();
        assert!(error.summary.contains(says), "{error}");
        assert!(error.kind == Kind::Usage && error.hint.is_some(), "{error}");
    }
    let words = Shape { value: Value::Words { min: 1, max: 70 }, missing: Share::NONE };
    let many = |max| Shape { value: Value::Array { of: Box::new(words.clone()), min: 0, max }, missing: Share::NONE };
    let wide = |max| vec![Property { name: "p".to_owned(), shape: many(max) }];
    assert!(ProfileDraft { properties: Some(wide(70)), ..draft() }.finish().is_ok());
    let error = ProfileDraft { properties: Some(wide(71)), ..draft() }.finish().unwrap_err();
    assert_eq!(error.summary, "the properties of a trigger can become too large");
    let twice = |weights: [f64; 2]| {
        let campaigns = weights.map(|weight| WeightedCampaign { id: "a".to_owned(), weight });
        ProfileDraft { campaigns: Some(campaigns.to_vec()), ..draft() }.finish().unwrap_err().summary
    };
    assert_eq!(twice([1.0, 1.0]), "the campaign `a` is named twice");
    assert_eq!(twice([0.0, 1.0]), "the campaign `a` has the weight 0");
}

fn read(text: &str) -> Result<ProfileDraft, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    ProfileDraft::read(file.path()).map_err(|error| {
        assert_eq!(error.kind, Kind::Usage);
        error.to_string().replace(&file.path().display().to_string(), "p.json")
    })
}

#[test]
fn every_fault_of_a_profile_has_its_place_and_a_hint() {
    let text = r#"{"trigers": 5,
 "duplicates": 1.5, "from": "soon", "late_by": "2 days", "out_of_order_by": "0", "recipient_skew": -1,
 "recipients_per_request": 0, "triggers": 2.5,
 "campaigns": [{"weight": 2}, {"id": "a", "weight": 0}, {"id": "b", "wieght": 1}],
 "arrival": {"shape": "daily", "hours": [1, 2], "count": 3},
 "properties": {"a": {"kind": "word"}, "b": {}, "c": {"kind": "words", "min": 5, "max": 2},
  "d": {"kind": "choice", "values": []}, "e": {"kind": "number", "min": 1, "values": ["x"]},
  "f": {"kind": "object", "fields": {"g": {"kind": "array"}}}, "h": {"kind": "object", "fields": {}}}}"#;
    let error = read(text).unwrap_err();
    for says in [
        "p.json, line 1, column 2: unknown field `trigers` in the profile",
        "hint: did you mean `triggers`?",
        "p.json, line 2, column 16: `duplicates` must be a share from 0 to 1, found `1.5`",
        "`from` must be a time such as `2026-11-01T00:00:00Z`, found `\"soon\"`",
        "`late_by`: `2 days` is not a duration",
        "`out_of_order_by` must be longer than nothing",
        "`recipient_skew` must be a number from 0 to 10, found `-1`",
        "`recipients_per_request` must be a whole number from 1 to 50, found `0`",
        "line 3, column 43: `triggers` must be a whole number from 1 to 1000000000000, found `2.5`",
        "the campaign needs an `id`",
        "`weight` must be a number above 0 and up to 1e9, found `0`",
        "unknown field `wieght` in the campaign",
        "`hours` must be 24 numbers from 0 to 1e9",
        "`kind` must be `words`, `number`, `choice`, `boolean`, `object` or `array`, found `\"word\"`",
        "line 6, column 45: `kind` is missing",
        "`min` is 5, above `max`, which is 2",
        "`values` must be a list of strings, found `[]`",
        "unknown field `values` in the property `e`, number",
        "`of` is missing",
        "`fields` must be an object with at least one property",
        "hint: all fields are described in docs/generate.md",
    ] {
        assert!(error.contains(says), "no `{says}` in\n{error}");
    }
    let bursts = read(r#"{"arrival": {"shape": "bursts", "hours": []}}"#).unwrap_err();
    assert!(bursts.contains("unknown field `hours` in `arrival` of the shape `bursts`"), "{bursts}");
    assert!(read("{\"seed\": 1").unwrap_err().contains("not valid JSON"));
    assert!(read("[]").unwrap_err().contains("the profile must be an object, found a list"));
    let deep = format!("{}{{\"kind\":\"boolean\"}}{}", r#"{"kind":"array","of":"#.repeat(70), "}".repeat(70));
    assert!(read(&format!("{{\"properties\":{{\"a\":{deep}}}}}")).unwrap_err().contains("deep"));
}

#[test]
fn a_profile_says_all_that_a_draft_holds() {
    let text = r#"{"seed": 18446744073709551615, "triggers": 10, "recipients": 3, "recipient_skew": 1.5,
 "campaigns": [{"id": "a"}, {"id": "b", "weight": 2.5}], "from": "1970-01-02T00:00:00Z", "until": "1970-01-03T00:00:00Z",
 "arrival": {"shape": "bursts", "count": 2, "share": 0.25, "length": "1m"}, "recipients_per_request": 4,
 "duplicates": 0.1, "retries": 0.2, "late": 0.3, "late_by": "1d", "out_of_order": 0.05, "out_of_order_by": "2s", "bad_rows": 0,
 "properties": {"p": {"kind": "number", "min": 0.5, "max": 2, "decimals": 1, "missing": 0.5},
  "q": {"kind": "array", "of": {"kind": "words"}, "max": 2}}}"#;
    let draft = read(text).unwrap();
    assert_eq!((draft.seed, draft.triggers, draft.recipients), (Some(u64::MAX), Some(10), Some(3)));
    assert_eq!((draft.from, draft.until, draft.recipient_skew), (Some(DAY), Some(2 * DAY), Some(1.5)));
    let weights: Vec<_> = draft.campaigns.iter().flatten().map(|c| (c.id.as_str(), c.weight)).collect();
    assert_eq!(weights, [("a", 1.0), ("b", 2.5)]);
    let length = 60 * SECOND;
    assert_eq!(draft.arrival, Some(Arrival::Bursts { count: 2, share: Share::new(0.25).unwrap(), length }));
    assert_eq!((draft.recipients_per_request, draft.bad_rows), (Some(4), share(0.0)));
    assert_eq!((draft.duplicates, draft.retries, draft.late), (share(0.1), share(0.2), share(0.3)));
    assert_eq!((draft.late_by, draft.out_of_order, draft.out_of_order_by), (Some(DAY), share(0.05), Some(2 * SECOND)));
    let words = Shape { value: Value::Words { min: 1, max: 3 }, missing: Share::NONE };
    let properties = [
        (Value::Number { min: 5, max: 20, decimals: 1 }, share(0.5)),
        (Value::Array { of: Box::new(words), min: 0, max: 2 }, share(0.0)),
    ];
    for (property, (value, missing)) in draft.properties.unwrap().into_iter().zip(properties) {
        assert_eq!((property.shape.value, Some(property.shape.missing)), (value, missing));
    }
}

#[test]
fn the_page_names_every_field_and_its_profile_is_one() {
    let page = include_str!("../../docs/generate.md");
    for field in parse::FIELDS {
        assert!(page.contains(&format!("`{field}`")), "{field}");
    }
    let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(read(example).unwrap().finish().unwrap().triggers(), 1_000_000);
}

/// Takes some bytes and then fails.
struct Full(usize, io::ErrorKind);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(self.1.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_and_a_reader_that_left_is_none() {
    let profile = ProfileDraft { triggers: Some(50_000), ..draft() }.finish().unwrap();
    for form in [Form::Parquet, Form::Ndjson, Form::Requests] {
        for bytes in [0, 100_000] {
            let error = to_writer(&profile, form, &mut Full(bytes, io::ErrorKind::StorageFull)).unwrap_err();
            assert!(error.kind == Kind::Output && error.to_string().contains("the disk is full"), "{form:?}: {error}");
            let gone = to_writer(&profile, form, &mut Full(bytes, io::ErrorKind::BrokenPipe)).unwrap();
            assert_eq!(gone, None, "{form:?}");
        }
    }
}
