//! The values that the templates of one trigger ask for, flat in memory that is used again for the next trigger.
//!
//! ```text
//! slots   0 ─► Text "Ada"      1 ─► List of 2      2: nothing
//! nodes   Text  List  Object  Text "n"  Int 1  Object  Text "n"  Int 2
//! ```
//! A value is a node, and what a list or an object holds stands right behind it: items one after the other, members as
//! a text, their name, and a value. Sizes count nodes, so that a value can be stepped over.
//!
//! Invariants: names are unique inside an object; nothing of one trigger is left after [`Values::begin`].

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Number, Value};

use super::json_text::write_string;
use super::properties::push_float;

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The piece of a text between two of its byte offsets.
    pub fn of(range: Range<usize>) -> Span {
        Span { start: index(range.start), len: index(range.len()) }
    }

    /// The byte offsets.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// A value, or the beginning of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Node {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A finite number that is printed as the shortest text that reads back.
    Float(f64),
    /// A number that is printed as it stands: a decimal, an integer beyond 64 bits.
    Number(Span),
    /// A text.
    Text(Span),
    /// A list.
    List {
        /// How many items.
        len: u32,
        /// How many nodes, this one included.
        size: u32,
    },
    /// An object.
    Object {
        /// How many members.
        len: u32,
        /// How many nodes, this one included.
        size: u32,
    },
}

/// The values of one trigger, by slot.
#[derive(Debug, Default)]
pub struct Values {
    slots: Vec<u32>,
    nodes: Vec<Node>,
    text: String,
    /// Where the members of an object begin, while it is closed.
    members: Vec<u32>,
}

/// A slot that holds nothing.
const NOTHING: u32 = u32::MAX;

/// More members than this are put in order to find a name that occurs twice.
const FEW_MEMBERS: usize = 12;

fn index(length: usize) -> u32 {
    u32::try_from(length).expect("the values of one trigger are far below 4 GiB")
}

// --- Writing

impl Values {
    /// Forgets everything and has so many empty slots.
    pub fn begin(&mut self, slots: usize) {
        self.nodes.clear();
        self.text.clear();
        self.slots.clear();
        self.slots.resize(slots, NOTHING);
    }

    /// What is written next is the value of a slot, whatever it held.
    #[inline]
    pub fn put(&mut self, slot: u32) {
        self.slots[slot as usize] = index(self.nodes.len());
    }

    /// Empties a slot.
    pub fn put_nothing(&mut self, slot: u32) {
        self.slots[slot as usize] = NOTHING;
    }

    /// Writes `null`.
    pub fn null(&mut self) {
        self.nodes.push(Node::Null);
    }

    /// Writes a truth value.
    pub fn bool(&mut self, truth: bool) {
        self.nodes.push(Node::Bool(truth));
    }

    /// Writes an integer.
    #[inline]
    pub fn int(&mut self, value: i64) {
        self.nodes.push(Node::Int(value));
    }

    /// Writes a finite number.
    #[inline]
    pub fn float(&mut self, value: f64) {
        debug_assert!(value.is_finite());
        self.nodes.push(Node::Float(value));
    }

    /// Writes a number that is printed as it stands.
    pub fn number(&mut self, text: &str) {
        let span = self.keep(text);
        self.nodes.push(Node::Number(span));
    }

    /// Writes a text.
    #[inline]
    pub fn text(&mut self, text: &str) {
        let span = self.keep(text);
        self.nodes.push(Node::Text(span));
    }

    /// Writes a text that `write` appends to what it is given.
    pub fn text_by(&mut self, write: impl FnOnce(&mut String)) {
        let start = self.text.len();
        write(&mut self.text);
        self.nodes.push(Node::Text(Span::of(start..self.text.len())));
    }

    /// Writes a text, or `null`.
    pub fn text_or_null(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    #[inline]
    fn keep(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        Span::of(start..self.text.len())
    }

    /// Begins a list; what is written until [`Self::close_list`] are its items.
    pub fn open_list(&mut self) -> usize {
        self.nodes.push(Node::List { len: 0, size: 0 });
        self.nodes.len() - 1
    }

    /// Ends the list that began there.
    pub fn close_list(&mut self, opened: usize, len: usize) {
        let size = index(self.nodes.len() - opened);
        self.nodes[opened] = Node::List { len: index(len), size };
    }

    /// Begins an object; its members are a [`Self::text`], the name, and a value each.
    pub fn open_object(&mut self) -> usize {
        self.nodes.push(Node::Object { len: 0, size: 0 });
        self.nodes.len() - 1
    }

    /// Ends the object that began there. Of members with one name the last value stays, in the place of the first.
    pub fn close_object(&mut self, opened: usize) {
        let mut members = std::mem::take(&mut self.members);
        members.clear();
        let mut at = opened + 1;
        while at < self.nodes.len() {
            members.push(index(at));
            at += 1 + self.size(at + 1);
        }
        let len = if self.has_twice(&members) { self.keep_last(opened, &members) } else { members.len() };
        self.close_members(opened, len);
        self.members = members;
    }

    fn close_members(&mut self, opened: usize, len: usize) {
        let size = index(self.nodes.len() - opened);
        self.nodes[opened] = Node::Object { len: index(len), size };
    }

    fn has_twice(&self, members: &[u32]) -> bool {
        if members.len() <= FEW_MEMBERS {
            let mut names = members.iter().enumerate();
            return names.any(|(i, a)| members[..i].iter().any(|b| self.name(*a) == self.name(*b)));
        }
        let mut sorted = members.to_vec();
        sorted.sort_unstable_by(|a, b| self.name(*a).cmp(self.name(*b)));
        sorted.windows(2).any(|pair| self.name(pair[0]) == self.name(pair[1]))
    }

    /// Writes the members of an object anew, as the library that knows what a repeated name means keeps them. How many
    /// there are.
    fn keep_last(&mut self, opened: usize, members: &[u32]) -> usize {
        let mut map = Map::new();
        for at in members {
            map.insert(self.name(*at).to_owned(), self.to_json(*at as usize + 1));
        }
        self.nodes.truncate(opened + 1);
        for (name, value) in &map {
            self.text(name);
            self.value(value);
        }
        map.len()
    }

    /// Writes a value whose numbers are normalised.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(truth) => self.bool(*truth),
            Value::Number(number) => self.number_of(number.as_str()),
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                let opened = self.open_list();
                items.iter().for_each(|item| self.value(item));
                self.close_list(opened, items.len());
            }
            Value::Object(map) => {
                let opened = self.open_object();
                for (name, value) in map {
                    self.text(name);
                    self.value(value);
                }
                self.close_members(opened, map.len());
            }
        }
    }

    /// A number that keeps its text: an integer where that is the same.
    fn number_of(&mut self, text: &str) {
        match text.parse::<i64>() {
            Ok(value) if text != "-0" => self.int(value),
            _ => self.number(text),
        }
    }

    /// Writes a number as JSON spells it, normalised.
    pub(super) fn json_number(&mut self, text: &str) {
        if !text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) {
            return self.number_of(text);
        }
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() => self.float(float),
            // Beyond what a float holds: as the JSON library spells it.
            _ => {
                let spelled: Option<Number> = serde_json::from_str(text).ok();
                self.number(spelled.as_ref().map_or(text, Number::as_str));
            }
        }
    }
}

// --- Reading

impl Values {
    /// Where the value of a slot stands.
    #[inline]
    pub fn slot(&self, slot: u32) -> Option<u32> {
        self.slots.get(slot as usize).copied().filter(|at| *at != NOTHING)
    }

    /// The value at a place.
    #[inline]
    pub fn node(&self, at: u32) -> Node {
        self.nodes[at as usize]
    }

    /// A piece of text.
    #[inline]
    pub fn str(&self, span: Span) -> &str {
        &self.text[span.range()]
    }

    fn name(&self, at: u32) -> &str {
        match self.nodes[at as usize] {
            Node::Text(span) => self.str(span),
            _ => "",
        }
    }

    #[inline]
    fn size(&self, at: usize) -> usize {
        match self.nodes[at] {
            Node::List { size, .. } | Node::Object { size, .. } => size as usize,
            _ => 1,
        }
    }

    /// The place behind a value: of the next item, or of the next name.
    #[inline]
    pub fn after(&self, at: u32) -> u32 {
        at + self.size(at as usize) as u32
    }

    /// The place of an object's member.
    pub fn member(&self, object: u32, name: &str) -> Option<u32> {
        let Node::Object { len, .. } = self.node(object) else { return None };
        let mut at = object + 1;
        for _ in 0..len {
            if self.name(at) == name {
                return Some(at + 1);
            }
            at = self.after(at + 1);
        }
        None
    }

    /// The place of a list's item.
    pub fn item(&self, list: u32, index: usize) -> Option<u32> {
        let Node::List { len, .. } = self.node(list) else { return None };
        (index < len as usize).then(|| (0..index).fold(list + 1, |at, _| self.after(at)))
    }

    /// Appends a value as compact JSON.
    pub fn write_json(&self, at: u32, out: &mut String) {
        match self.node(at) {
            Node::Null => out.push_str("null"),
            Node::Bool(truth) => out.push_str(if truth { "true" } else { "false" }),
            Node::Int(value) => out.push_str(itoa::Buffer::new().format(value)),
            Node::Float(value) => push_float(value, out),
            Node::Number(span) => out.push_str(self.str(span)),
            Node::Text(span) => write_string(self.str(span), out),
            Node::List { len, .. } => {
                self.write_all('[', len, at, out, |values, at, out| {
                    values.write_json(at, out);
                    values.after(at)
                });
                out.push(']');
            }
            Node::Object { len, .. } => {
                self.write_all('{', len, at, out, |values, at, out| {
                    write_string(values.name(at), out);
                    out.push(':');
                    values.write_json(at + 1, out);
                    values.after(at + 1)
                });
                out.push('}');
            }
        }
    }

    fn write_all(
        &self,
        open: char,
        len: u32,
        container: u32,
        out: &mut String,
        one: fn(&Values, u32, &mut String) -> u32,
    ) {
        let mut at = container + 1;
        for index in 0..len {
            out.push(if index == 0 { open } else { ',' });
            at = one(self, at, out);
        }
        if len == 0 {
            out.push(open);
        }
    }

    /// A value as the JSON library holds it.
    pub fn to_json(&self, at: usize) -> Value {
        match self.nodes[at] {
            Node::Null => Value::Null,
            Node::Bool(truth) => Value::Bool(truth),
            Node::Int(value) => Value::from(value),
            Node::Float(value) => exact(ryu::Buffer::new().format_finite(value)),
            Node::Number(span) => exact(self.str(span)),
            Node::Text(span) => Value::from(self.str(span)),
            Node::List { len, .. } => {
                let mut next = at + 1;
                let item = |_| {
                    let item = self.to_json(next);
                    next += self.size(next);
                    item
                };
                Value::Array((0..len).map(item).collect())
            }
            Node::Object { .. } => Value::Object(self.to_map(at)),
        }
    }

    /// The members of the object at a place; none for another value.
    pub fn to_map(&self, at: usize) -> Map<String, Value> {
        let Node::Object { len, .. } = self.nodes[at] else { return Map::new() };
        let mut next = at + 1;
        let member = |_| {
            let member = (self.name(next as u32).to_owned(), self.to_json(next + 1));
            next += 1 + self.size(next + 1);
            member
        };
        (0..len).map(member).collect()
    }
}

fn exact(text: &str) -> Value {
    Value::Number(Number::from_string_unchecked(text.to_owned()))
}

/// Which members of an object somebody wants, and in which slots.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Members by name.
    pub names: Vec<(String, u32)>,
    /// The object as a whole.
    pub whole: Option<u32>,
    /// No other has it, so that readers can remember where the names stand; 0 for all that have no names.
    pub number: u64,
}

/// The number of the next [`Wanted`].
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

impl Wanted {
    /// Members by name, each in a slot, and perhaps the object as a whole.
    pub fn new(names: Vec<(String, u32)>, whole: Option<u32>) -> Wanted {
        let number = if names.is_empty() { 0 } else { NEXT_NUMBER.fetch_add(1, Ordering::Relaxed) };
        Wanted { names, whole, number }
    }

    /// The object as a whole, in the only slot.
    pub fn all() -> Wanted {
        Wanted::new(Vec::new(), Some(0))
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.whole.is_none()
    }

    /// Fills the slots from an object whose numbers are normalised.
    pub fn fill_from(&self, map: &Map<String, Value>, values: &mut Values) {
        for (name, slot) in &self.names {
            if let Some(value) = map.get(name) {
                values.put(*slot);
                values.value(value);
            }
        }
        if let Some(slot) = self.whole {
            values.put(slot);
            let opened = values.open_object();
            for (name, value) in map {
                values.text(name);
                values.value(value);
            }
            values.close_members(opened, map.len());
        }
    }
}
