//! The values that one trigger's templates see, and how a path is followed in them.
//!
//! Paths are followed here and not by the crate: a list has a `length`, a name asked of a list or of a text is absent
//! instead of an error, and `this.x` never means a block parameter.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use handlebars::{BlockContext, BlockParamHolder, Context};
use serde_json::{Map, Value};

use super::syntax::{Path, Start};

/// A path from the top of a scope: `api_trigger_properties`, `price`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValuePath(pub Vec<String>);

impl fmt::Display for ValuePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// The values one trigger's templates see: built once, used for every field of the trigger.
#[derive(Debug)]
pub struct Scope {
    pub(super) context: Context,
}

impl Scope {
    /// A scope of these top-level names. Numbers should have been normalised ([`crate::triggers::number_text`]).
    pub fn new(values: Map<String, Value>) -> Scope {
        Scope { context: Context::from(Value::Object(values)) }
    }

    /// Whether there is a value at `path`, and it is not `null`.
    pub fn has(&self, path: &ValuePath) -> bool {
        follow(self.context.data(), path.0.iter().map(String::as_str)).is_some_and(|found| !found.is_null())
    }

    /// The values back, for reuse of their memory.
    pub fn into_values(mut self) -> Map<String, Value> {
        match self.context.data_mut().take() {
            Value::Object(values) => values,
            _ => Map::new(),
        }
    }
}

/// The member of a value by name: a field, an item by its index from 0, or the `length` of a list.
pub(super) fn child<'v>(value: &'v Value, name: &str) -> Option<Cow<'v, Value>> {
    match value {
        Value::Object(map) => map.get(name).map(Cow::Borrowed),
        Value::Array(items) if name == "length" => Some(Cow::Owned(Value::from(items.len()))),
        Value::Array(items) => name.parse::<usize>().ok().and_then(|index| items.get(index)).map(Cow::Borrowed),
        _ => None,
    }
}

fn follow<'v, 's>(from: &'v Value, names: impl Iterator<Item = &'s str>) -> Option<Cow<'v, Value>> {
    let mut at = Cow::Borrowed(from);
    for name in names {
        at = match at {
            Cow::Borrowed(value) => child(value, name)?,
            Cow::Owned(value) => Cow::Owned(child(&value, name)?.into_owned()),
        };
    }
    Some(at)
}

/// A value that a path led to.
pub(super) enum Found<'b, 'rc> {
    /// In the trigger's data, with the way to it from the top.
    Data(Cow<'rc, Value>, Vec<&'b str>),
    /// In a value that a block made: the scope of a partial, the result of a helper.
    Made(Cow<'b, Value>),
}

impl Found<'_, '_> {
    /// The value.
    pub fn value(&self) -> &Value {
        match self {
            Found::Data(value, _) => value,
            Found::Made(value) => value,
        }
    }
}

/// Follows a path from the blocks it stands in. `None` where there is no value.
pub(super) fn find<'b, 'rc>(
    path: &'b Path,
    blocks: &'b VecDeque<BlockContext<'rc>>,
    data: &'rc Value,
) -> Option<Found<'b, 'rc>> {
    match &path.start {
        Start::Top => in_data(data, Vec::new(), &path.segments),
        Start::Data(up, name) => in_made(blocks.get(*up)?.get_local_var(name)?, &path.segments),
        Start::Name => match block_param(path, blocks) {
            Some((block, BlockParamHolder::Path(way))) => {
                let base = block.base_path().iter().chain(way).map(String::as_str).collect();
                in_data(data, base, &path.segments[1..])
            }
            Some((_, BlockParamHolder::Value(value))) => in_made(value, &path.segments[1..]),
            None => in_block(blocks.front()?, data, &path.segments),
        },
        Start::This => in_block(blocks.front()?, data, &path.segments),
        Start::Up(up) => in_block(blocks.get(*up)?, data, &path.segments),
    }
}

fn block_param<'b, 'rc>(
    path: &Path,
    blocks: &'b VecDeque<BlockContext<'rc>>,
) -> Option<(&'b BlockContext<'rc>, &'b BlockParamHolder)> {
    let name = path.segments.first()?;
    blocks.iter().find_map(|block| block.get_block_param(name).map(|holder| (block, holder)))
}

fn in_block<'b, 'rc>(block: &'b BlockContext<'rc>, data: &'rc Value, rest: &'b [String]) -> Option<Found<'b, 'rc>> {
    match block.base_value() {
        Some(value) => in_made(value, rest),
        None => in_data(data, block.base_path().iter().map(String::as_str).collect(), rest),
    }
}

fn in_made<'b, 'rc>(value: &'b Value, rest: &'b [String]) -> Option<Found<'b, 'rc>> {
    follow(value, rest.iter().map(String::as_str)).map(Found::Made)
}

fn in_data<'b, 'rc>(data: &'rc Value, mut way: Vec<&'b str>, rest: &'b [String]) -> Option<Found<'b, 'rc>> {
    way.extend(rest.iter().map(String::as_str));
    let value = follow(data, way.iter().copied())?;
    Some(Found::Data(value, way))
}
