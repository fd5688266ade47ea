//! A JSON object whose values know where they stand, so that a fault can point at them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Fault, LineColumn, nearest};

/// A file being checked: its name and text, and the faults found so far.
pub struct Checked<'a> {
    /// What faults name.
    pub file: String,
    /// Its whole text.
    pub text: &'a str,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
}

impl<'a> Checked<'a> {
    /// Notes a fault at a piece of the text.
    pub fn fault_at(&mut self, piece: &str, message: impl Into<String>) {
        let fault = Fault::new(self.file.clone(), message).at_offset(self.text, self.offset(piece));
        self.faults.push(fault);
    }

    /// Notes a fault at a piece of the text, with a hint.
    pub fn fault_with_hint(&mut self, piece: &str, message: impl Into<String>, hint: impl Into<String>) {
        let fault = Fault::new(self.file.clone(), message).at_offset(self.text, self.offset(piece)).hint(hint);
        self.faults.push(fault);
    }

    /// The key as it stands before its value; the value where it is spelled with escapes.
    fn key_before(&self, key: &str, value: &'a str) -> &'a str {
        let before = &self.text[..self.offset(value)];
        before.rfind(&format!("\"{key}\"")).map_or(value, |at| &self.text[at..])
    }

    /// Where a piece borrowed from the text begins; the text's beginning for anything else.
    fn offset(&self, piece: &str) -> usize {
        let offset = (piece.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        if offset <= self.text.len() { offset } else { 0 }
    }

    /// Reads a value as an object, or notes what it is instead. Keys not in `known` are faults with the nearest name.
    pub fn object(&mut self, raw: &'a RawValue, what: &str, known: Option<&[&str]>) -> Option<Object<'a>> {
        let text = raw.get();
        let entries = match serde_json::from_str::<Entries<'a>>(text) {
            Ok(entries) => entries.0,
            Err(_) => {
                self.fault_at(text, format!("{what} must be an object, found {}", kind_of(text)));
                return None;
            }
        };
        for (i, (key, value)) in entries.iter().enumerate() {
            if entries[..i].iter().any(|(earlier, _)| earlier == key) {
                self.fault_at(value.get(), format!("`{key}` is given twice in {what}"));
            }
            let Some(known) = known.filter(|known| !known.contains(&key.as_ref())) else { continue };
            let hint = match nearest(key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known fields: {}", known.join(", ")),
            };
            self.fault_with_hint(self.key_before(key, value.get()), format!("unknown field `{key}` in {what}"), hint);
        }
        Some(Object { entries })
    }

    /// Reads a value as another type, or notes what was expected.
    pub fn value<'r, T: serde::Deserialize<'r>>(&mut self, raw: &'r RawValue, name: &str, expected: &str) -> Option<T> {
        serde_json::from_str(raw.get())
            .map_err(|_| self.fault_at(raw.get(), format!("`{name}` must be {expected}, found {}", kind_of(raw.get()))))
            .ok()
    }

    /// The fault of a syntax error.
    pub fn syntax(&mut self, error: &serde_json::Error) {
        let text = error.to_string();
        let message = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
        // The crate counts bytes.
        let line_start: usize =
            self.text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = LineColumn::of_offset(self.text, line_start + error.column().saturating_sub(1));
        self.faults.push(Fault::new(self.file.clone(), format!("not valid JSON: {message}")).at_place(self.text, at));
    }
}

/// What a JSON text holds, for messages.
fn kind_of(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// An object's entries in their order.
pub struct Object<'a> {
    /// Key and value, as written.
    pub entries: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// The value of a key that is there and not null.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.entries.iter().rev().find(|(k, v)| k == key && v.get() != "null").map(|(_, v)| *v)
    }
}

struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Each<'a> {
            type Value = Entries<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'a>, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    entries.push((Cow::Owned(key), map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Each(std::marker::PhantomData))
    }
}
