//! A profile file → [`ProfileDraft`]: every field checked, every fault kept, each with its place.

use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::arrival::{Arrival, MAX_BURSTS};
use super::profile::{COUNTS, ProfileDraft, REQUEST_SIZES, SKEWS, Share, WeightedCampaign};
use super::shape::{Property, Shape, Value};
use crate::campaigns::{Checked, Object};
use crate::eligibility::parse_duration_seconds;
use crate::error::{Error, IoContext, Kind, Result};
use crate::triggers::{MAX_DEPTH, MICROS_PER_SECOND, Micros, TimeReader};

/// The fields of a profile.
pub(super) const FIELDS: [&str; 17] = [
    "seed",
    "triggers",
    "recipients",
    "recipient_skew",
    "campaigns",
    "from",
    "until",
    "arrival",
    "recipients_per_request",
    "duplicates",
    "retries",
    "late",
    "late_by",
    "out_of_order",
    "out_of_order_by",
    "bad_rows",
    "properties",
];

/// Most words of a text and elements of an array.
const MAX_ITEMS: u32 = 1_000;

/// Largest number before the point, so that every one is exact.
const MAX_UNITS: f64 = 9e15;

impl ProfileDraft {
    /// Reads a profile file. Kind `Usage`, with every fault of the file.
    pub fn read(path: &Path) -> Result<ProfileDraft> {
        let text = std::fs::read_to_string(path).at(Kind::Usage, "read the profile", path)?;
        let mut reader = Reader(Checked { file: path.display().to_string(), text: &text, faults: Vec::new() });
        let draft = match serde_json::from_str::<&RawValue>(&text) {
            Ok(root) => reader.profile(root),
            Err(error) => {
                reader.0.syntax(&error);
                None
            }
        };
        match draft {
            Some(draft) if reader.0.faults.is_empty() => Ok(draft),
            _ => {
                let error = Error::new(Kind::Usage, format!("the profile `{}` cannot be used", path.display()));
                Err(error.with_faults(reader.0.faults).hint("all fields are described in docs/generate.md"))
            }
        }
    }
}

/// All of them or nothing; each is asked for, so that the faults of each are noted.
fn all<T>(parts: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    parts.collect::<Vec<_>>().into_iter().collect()
}

struct Reader<'a>(Checked<'a>);

impl<'a> Reader<'a> {
    fn profile(&mut self, root: &'a RawValue) -> Option<ProfileDraft> {
        let object = self.0.object(root, "the profile", Some(&FIELDS))?;
        let object = &object;
        let counts = format!("a whole number from {} to {}", COUNTS.start(), COUNTS.end());
        let sizes = format!("a whole number from {} to {}", REQUEST_SIZES.start(), REQUEST_SIZES.end());
        let skews = format!("a number from {} to {}", SKEWS.start(), SKEWS.end());
        Some(ProfileDraft {
            seed: self.number(object, "seed", "a whole number from 0 to 2^64 - 1", |_| true),
            triggers: self.number(object, "triggers", &counts, |count| COUNTS.contains(count)),
            recipients: self.number(object, "recipients", &counts, |count| COUNTS.contains(count)),
            recipient_skew: self.number(object, "recipient_skew", &skews, |skew| SKEWS.contains(skew)),
            campaigns: object.get("campaigns").and_then(|raw| self.campaigns(raw)),
            from: self.time(object, "from"),
            until: self.time(object, "until"),
            arrival: object.get("arrival").and_then(|raw| self.arrival(raw)),
            recipients_per_request: self
                .number(object, "recipients_per_request", &sizes, |size| REQUEST_SIZES.contains(size)),
            duplicates: self.share(object, "duplicates"),
            retries: self.share(object, "retries"),
            late: self.share(object, "late"),
            late_by: self.duration(object, "late_by"),
            out_of_order: self.share(object, "out_of_order"),
            out_of_order_by: self.duration(object, "out_of_order_by"),
            bad_rows: self.share(object, "bad_rows"),
            properties: object.get("properties").and_then(|raw| self.properties(raw, 1)),
        })
    }

    /// A value of a type, accepted or noted as a fault.
    fn number<T: for<'d> Deserialize<'d>>(
        &mut self,
        object: &Object<'a>,
        key: &str,
        expected: &str,
        accepts: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let raw = object.get(key)?;
        match serde_json::from_str::<T>(raw.get()) {
            Ok(value) if accepts(&value) => Some(value),
            _ => self.wrong(raw, key, expected),
        }
    }

    fn wrong<T>(&mut self, raw: &RawValue, key: &str, expected: &str) -> Option<T> {
        let found: String = raw.get().chars().take(40).collect();
        self.0.fault_at(raw.get(), format!("`{key}` must be {expected}, found `{found}`"));
        None
    }

    fn text(&mut self, object: &Object<'a>, key: &str, expected: &str) -> Option<(String, &'a RawValue)> {
        let raw = object.get(key)?;
        Some((self.0.value(raw, key, expected)?, raw))
    }

    fn share(&mut self, object: &Object<'a>, key: &str) -> Option<Share> {
        let share = self.number(object, key, "a share from 0 to 1", |share: &f64| Share::new(*share).is_some())?;
        Share::new(share)
    }

    fn time(&mut self, object: &Object<'a>, key: &str) -> Option<Micros> {
        const EXPECTED: &str = "a time such as `2026-11-01T00:00:00Z`";
        let (text, raw) = self.text(object, key, EXPECTED)?;
        TimeReader::default().text(&text).ok().or_else(|| self.wrong(raw, key, EXPECTED))
    }

    fn duration(&mut self, object: &Object<'a>, key: &str) -> Option<Micros> {
        let (text, raw) = self.text(object, key, "a duration such as `90s` or `2d`")?;
        match parse_duration_seconds(&text) {
            Ok(seconds) if seconds > 0 => Some(seconds as i64 * MICROS_PER_SECOND),
            Ok(_) => self.wrong(raw, key, "longer than nothing"),
            Err(why) => {
                self.0.fault_at(raw.get(), format!("`{key}`: {why}"));
                None
            }
        }
    }

    fn list(&mut self, raw: &'a RawValue, key: &str, expected: &str) -> Option<Vec<&'a RawValue>> {
        match serde_json::from_str::<Vec<&'a RawValue>>(raw.get()) {
            Ok(items) if !items.is_empty() => Some(items),
            _ => self.wrong(raw, key, expected),
        }
    }

    fn campaigns(&mut self, raw: &'a RawValue) -> Option<Vec<WeightedCampaign>> {
        let items = self.list(raw, "campaigns", "a list of campaigns with `id` and `weight`")?;
        all(items.into_iter().map(|item| self.campaign(item)))
    }

    fn campaign(&mut self, raw: &'a RawValue) -> Option<WeightedCampaign> {
        let object = self.0.object(raw, "the campaign", Some(&["id", "weight"]))?;
        let weight = match object.get("weight") {
            None => 1.0,
            Some(_) => self.number(&object, "weight", "a number above 0 and up to 1e9", |w| *w > 0.0 && *w <= 1e9)?,
        };
        match self.text(&object, "id", "a string") {
            Some((id, _)) if !id.is_empty() => Some(WeightedCampaign { id, weight }),
            _ => {
                self.0.fault_at(raw.get(), "the campaign needs an `id`");
                None
            }
        }
    }

    fn arrival(&mut self, raw: &'a RawValue) -> Option<Arrival> {
        let object = self.0.object(raw, "`arrival`", Some(&["shape", "hours", "count", "share", "length"]))?;
        let (shape, at) = self.choice(raw, &object, "shape", "`uniform`, `daily` or `bursts`")?;
        match shape.as_str() {
            "uniform" => self.only(raw, "`arrival` of the shape `uniform`", &["shape"], Arrival::Uniform),
            "daily" => {
                let arrival = match object.get("hours") {
                    None => Arrival::daily(),
                    Some(hours) => Arrival::Daily { hours: self.hours(hours)? },
                };
                self.only(raw, "`arrival` of the shape `daily`", &["shape", "hours"], arrival)
            }
            "bursts" => {
                let arrival = self.bursts(&object);
                self.only(raw, "`arrival` of the shape `bursts`", &["shape", "count", "share", "length"], arrival)
            }
            _ => self.wrong(at, "shape", "`uniform`, `daily` or `bursts`"),
        }
    }

    /// A word that has to be there.
    fn choice(
        &mut self,
        raw: &'a RawValue,
        object: &Object<'a>,
        key: &str,
        words: &str,
    ) -> Option<(String, &'a RawValue)> {
        if object.get(key).is_none() {
            self.0.fault_with_hint(raw.get(), format!("`{key}` is missing"), format!("it is one of {words}"));
        }
        self.text(object, key, words)
    }

    /// The value, where the object has no other fields than these.
    fn only<T>(&mut self, raw: &'a RawValue, what: &str, fields: &[&str], value: T) -> Option<T> {
        let before = self.0.faults.len();
        self.0.object(raw, what, Some(fields))?;
        (self.0.faults.len() == before).then_some(value)
    }

    fn hours(&mut self, raw: &'a RawValue) -> Option<[f64; 24]> {
        let hours =
            serde_json::from_str::<Vec<f64>>(raw.get()).ok().and_then(|hours| <[f64; 24]>::try_from(hours).ok());
        match hours {
            Some(hours) if hours.iter().all(|weight| (0.0..=1e9).contains(weight)) => Some(hours),
            _ => self.wrong(raw, "hours", "24 numbers from 0 to 1e9, one for each hour (UTC)"),
        }
    }

    fn bursts(&mut self, object: &Object<'a>) -> Arrival {
        let Arrival::Bursts { count, share, length } = Arrival::bursts() else { return Arrival::bursts() };
        let expected = format!("a whole number from 1 to {MAX_BURSTS}");
        Arrival::Bursts {
            count: self.number(object, "count", &expected, |n| (1..=MAX_BURSTS).contains(n)).unwrap_or(count),
            share: self.share(object, "share").unwrap_or(share),
            length: self.duration(object, "length").unwrap_or(length),
        }
    }

    /// Named shapes, `depth` objects and arrays down.
    fn properties(&mut self, raw: &'a RawValue, depth: usize) -> Option<Vec<Property>> {
        if depth > MAX_DEPTH {
            self.0.fault_at(raw.get(), format!("properties nest at most {MAX_DEPTH} deep"));
            return None;
        }
        let object = self.0.object(raw, "the properties", None)?;
        let named = object.entries.iter().map(|(name, raw)| {
            let shape = self.shape(name, raw, depth)?;
            Some(Property { name: name.to_string(), shape })
        });
        all(named)
    }

    fn shape(&mut self, name: &str, raw: &'a RawValue, depth: usize) -> Option<Shape> {
        const KINDS: &str = "`words`, `number`, `choice`, `boolean`, `object` or `array`";
        let what = format!("the property `{name}`");
        let object = self.0.object(raw, &what, None)?;
        let (kind, at) = self.choice(raw, &object, "kind", KINDS)?;
        let fields: &[&str] = match kind.as_str() {
            "words" => &["kind", "missing", "min", "max"],
            "number" => &["kind", "missing", "min", "max", "decimals"],
            "choice" => &["kind", "missing", "values"],
            "boolean" => &["kind", "missing"],
            "object" => &["kind", "missing", "fields"],
            "array" => &["kind", "missing", "min", "max", "of"],
            _ => return self.wrong(at, "kind", KINDS),
        };
        self.only(raw, &format!("{what}, {kind}"), fields, ())?;
        let missing = self.share(&object, "missing").unwrap_or(Share::NONE);
        let value = match kind.as_str() {
            "words" => {
                let (min, max) = self.items(raw, &object, (1, 3))?;
                Value::Words { min, max }
            }
            "number" => self.range(raw, &object)?,
            "choice" => Value::Choice(self.values(raw, &object)?),
            "boolean" => Value::Boolean,
            "object" => Value::Object(self.members(raw, &object, depth)?),
            _ => self.array(name, raw, &object, depth)?,
        };
        Some(Shape { value, missing })
    }

    fn required(&mut self, raw: &'a RawValue, object: &Object<'a>, key: &str, what: &str) -> Option<&'a RawValue> {
        let found = object.get(key);
        if found.is_none() {
            self.0.fault_with_hint(raw.get(), format!("`{key}` is missing"), what.to_owned());
        }
        found
    }

    fn items(&mut self, raw: &'a RawValue, object: &Object<'a>, default: (u32, u32)) -> Option<(u32, u32)> {
        let before = self.0.faults.len();
        let expected = format!("a whole number up to {MAX_ITEMS}");
        let min = self.number(object, "min", &expected, |n: &u32| *n <= MAX_ITEMS).unwrap_or(default.0);
        let max = self.number(object, "max", &expected, |n: &u32| *n <= MAX_ITEMS).unwrap_or(default.1.max(min));
        if self.0.faults.len() == before && min > max {
            self.0.fault_at(raw.get(), format!("`min` is {min}, above `max`, which is {max}"));
        }
        (self.0.faults.len() == before).then_some((min, max))
    }

    fn range(&mut self, raw: &'a RawValue, object: &Object<'a>) -> Option<Value> {
        let before = self.0.faults.len();
        let decimals = self.number(object, "decimals", "a whole number from 0 to 9", |n: &u8| *n <= 9).unwrap_or(0);
        let scale = 10f64.powi(i32::from(decimals));
        let expected = "a number that is exact with these `decimals`";
        let fits = |n: &f64| (n * scale).abs() <= MAX_UNITS;
        let min = self.number(object, "min", expected, fits).unwrap_or(0.0);
        let max = self.number(object, "max", expected, fits).unwrap_or(min.max(1_000.0));
        if self.0.faults.len() == before && min > max {
            self.0.fault_at(raw.get(), format!("`min` is {min}, above `max`, which is {max}"));
        }
        let units = |n: f64| (n * scale).round() as i64;
        (self.0.faults.len() == before).then_some(Value::Number { min: units(min), max: units(max), decimals })
    }

    fn values(&mut self, raw: &'a RawValue, object: &Object<'a>) -> Option<Vec<String>> {
        let values = self.required(raw, object, "values", "list the texts to choose from")?;
        match serde_json::from_str::<Vec<String>>(values.get()) {
            Ok(texts) if !texts.is_empty() => Some(texts),
            _ => self.wrong(values, "values", "a list of strings"),
        }
    }

    fn members(&mut self, raw: &'a RawValue, object: &Object<'a>, depth: usize) -> Option<Vec<Property>> {
        let fields = self.required(raw, object, "fields", "name the object's properties, as at the top")?;
        let members = self.properties(fields, depth + 1)?;
        if members.is_empty() {
            return self.wrong(fields, "fields", "an object with at least one property");
        }
        Some(members)
    }

    fn array(&mut self, name: &str, raw: &'a RawValue, object: &Object<'a>, depth: usize) -> Option<Value> {
        if depth >= MAX_DEPTH {
            self.0.fault_at(raw.get(), format!("properties nest at most {MAX_DEPTH} deep"));
            return None;
        }
        let of = self.required(raw, object, "of", "describe an element, as a property at the top")?;
        let of = Box::new(self.shape(&format!("{name}[]"), of, depth + 1)?);
        let (min, max) = self.items(raw, object, (0, 3))?;
        Some(Value::Array { of, min, max })
    }
}
