//! The scopes that a render stands in, and how values are looked up in them.
//!
//! A render runs on one thread from beginning to end and the crate has no place to carry scopes of our making, so they are
//! kept per thread; every render begins anew, whatever became of the last one. A scope in the data is a way to its value, so
//! that nothing is copied; only what a helper made is held as it is.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Map, Value};

use crate::triggers::print_json;

use crate::templates::budget::{self, Limit};
use crate::templates::compiled::Halted;
use crate::templates::functions::{Answer, Given, Halt};
use crate::templates::program::{Apply, Expr, Level, Lookup, LoopName, Origin, Round, Same};
use crate::templates::scope::child;
use crate::templates::view::View;
use crate::templates::{Stop, program};

thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// One scope.
pub(super) struct Frame {
    /// Its value.
    pub held: Held,
    /// It is that of the scope around: a section over `true`.
    pub same: bool,
    /// Names that a partial was given, which hide those of the value.
    pub names: Vec<(String, Held)>,
    /// The round of a loop.
    pub turn: Option<Turn>,
}

/// One round of a loop.
pub(super) struct Turn {
    /// The name of a field; an item of a list has its index for one.
    pub key: Option<String>,
    /// From 0.
    pub index: usize,
    /// Whether it is the last.
    pub last: bool,
}

/// A value that outlives the look at it.
#[derive(Debug, Clone)]
pub(super) enum Held {
    /// The way to it from the top of the data.
    Way(Rc<Vec<String>>),
    /// The value of a helper, or a part of one.
    Made(Rc<Value>),
}

impl Held {
    fn nothing() -> Held {
        Held::Made(Rc::new(Value::Null))
    }
}

impl Frame {
    /// A scope that is just a value.
    pub fn new(held: Held) -> Frame {
        Frame { held, same: false, names: Vec::new(), turn: None }
    }
}

/// Begins a render.
pub(super) fn begin() {
    FRAMES.with_borrow_mut(Vec::clear);
}

/// Enters a scope.
pub(super) fn push(frame: Frame) {
    FRAMES.with_borrow_mut(|frames| frames.push(frame));
}

/// Leaves a scope.
pub(super) fn pop() {
    FRAMES.with_borrow_mut(Vec::pop);
}

/// Enters the scope around once more.
pub(super) fn push_same() {
    FRAMES.with_borrow_mut(|frames| {
        let (held, names) = match frames.last() {
            Some(frame) => (frame.held.clone(), frame.names.clone()),
            None => (Held::Way(Rc::default()), Vec::new()),
        };
        frames.push(Frame { held, same: true, names, turn: None });
    });
}

/// Whether a value is the scope that is there already.
pub(super) fn is_current(held: &Held) -> bool {
    FRAMES.with_borrow(|frames| match (held, frames.last()) {
        (Held::Way(way), None) => way.is_empty(),
        (held, Some(Frame { held: current, names, .. })) if names.is_empty() => match (held, current) {
            (Held::Way(a), Held::Way(b)) => a == b,
            (Held::Made(a), Held::Made(b)) => Rc::ptr_eq(a, b),
            _ => false,
        },
        _ => false,
    })
}

/// Goes on to the next round of the innermost scope.
pub(super) fn next_turn(held: Held, turn: Turn) {
    FRAMES.with_borrow_mut(|frames| {
        if let Some(frame) = frames.last_mut() {
            frame.held = held;
            frame.turn = Some(turn);
        }
    });
}

/// Looks values up in data, in the scopes of this thread.
pub(super) struct Eyes<'d, 'e> {
    /// The top.
    pub data: &'d Value,
    /// Whether helpers print nothing for an absent value instead of failing.
    pub blank: bool,
    /// File names by unit.
    pub files: &'e [String],
}

impl<'d> Eyes<'d, '_> {
    /// The value of an expression; an absent one is `None`.
    pub fn value(&self, expr: &Expr) -> Result<Option<Cow<'d, Value>>, Halted> {
        match expr {
            Expr::Lookup(lookup) => self.lookup(lookup),
            Expr::Literal(value) => Ok(Some(Cow::Owned(value.clone()))),
            Expr::Apply(apply) => self.apply(apply).map(|value| Some(Cow::Owned(value))),
        }
    }

    /// The value of a path.
    pub fn lookup(&self, lookup: &Lookup) -> Result<Option<Cow<'d, Value>>, Halted> {
        budget::charge(budget::CALL_COST)?;
        match self.found(lookup, false)? {
            None => Ok(None),
            Some(Found::Data(value, _)) => Ok(Some(Cow::Borrowed(value))),
            Some(Found::Made(value)) => {
                budget::charge(budget::cost_of(&value))?;
                Ok(Some(Cow::Owned(Rc::unwrap_or_clone(value))))
            }
        }
    }

    /// The value of an expression, to be kept as a scope.
    pub fn held(&self, expr: &Expr) -> Result<Held, Halted> {
        budget::charge(budget::CALL_COST)?;
        Ok(match expr {
            Expr::Lookup(lookup) => match self.found(lookup, true)? {
                None => Held::nothing(),
                Some(Found::Data(_, way)) => Held::Way(Rc::new(way)),
                Some(Found::Made(value)) => {
                    budget::charge(budget::cost_of(&value))?;
                    Held::Made(value)
                }
            },
            Expr::Literal(value) => Held::Made(Rc::new(value.clone())),
            Expr::Apply(apply) => Held::Made(Rc::new(self.apply(apply)?)),
        })
    }

    /// What is held.
    pub fn see<'h>(&self, held: &'h Held) -> &'h Value
    where
        'd: 'h,
    {
        match held {
            Held::Way(way) => self.at(way).unwrap_or(&Value::Null),
            Held::Made(value) => value,
        }
    }

    /// The result of a helper.
    pub fn apply(&self, apply: &Apply) -> Result<Value, Halted> {
        let values = apply.args.iter().map(|arg| self.value(arg)).collect::<Result<Vec<_>, _>>()?;
        let mut by_name = Vec::with_capacity(apply.named.len());
        for (key, expr) in &apply.named {
            by_name.push((key.as_str(), self.value(expr)?));
        }
        let args: Vec<View<'_>> = values.iter().map(view).collect();
        let named: Vec<(&str, View<'_>)> = by_name.iter().map(|(key, value)| (*key, view(value))).collect();
        let given = Given { args: &args, named: &named, blank: self.blank };
        let mut text = String::new();
        let result = match apply.spec.function() {
            Some(function) => function(&given, &mut text),
            None => Err(Halt::Failed(format!("`{}` has no value", apply.spec.name))),
        };
        let value = match result {
            Ok(Answer::Value(value)) => value.to_json(),
            Ok(Answer::Written) => Value::String(text),
            Err(Halt::Abort(reason)) => return Err(Halted::Stop(Stop::Aborted { reason })),
            Err(Halt::Failed(message)) => return Err(Halted::Stop(self.failed(message, apply.place))),
        };
        budget::charge(budget::CALL_COST + budget::cost_of(&value))?;
        Ok(value)
    }

    fn failed(&self, message: String, place: program::Place) -> Stop {
        Stop::Failed { message, at: Some(place.at), file: self.files[place.unit].clone() }
    }

    fn at(&self, way: &[String]) -> Option<&'d Value> {
        way.iter().try_fold(self.data, |value, name| match child(value, name)? {
            Cow::Borrowed(value) => Some(value),
            Cow::Owned(_) => None,
        })
    }

    fn found(&self, lookup: &Lookup, keeps_way: bool) -> Result<Option<Found<'d>>, Halted> {
        let rest = Rest { names: &lookup.segments, keeps_way };
        FRAMES.with_borrow(|frames| match &lookup.origin {
            Origin::Top => self.in_data(self.data, &[], rest),
            Origin::Scope(number) => self.in_frame(frame(frames, *number), rest),
            Origin::Climb(levels, up) => match climb(frames, levels, *up) {
                Some(Some(frame)) => self.in_frame(Some(frame), rest),
                Some(None) => self.in_data(self.data, &[], rest),
                None => Ok(None),
            },
            Origin::Item(number) => match frame(frames, *number) {
                Some(frame) => self.in_held(&frame.held, rest),
                None => Ok(None),
            },
            Origin::Key(number) => match frame(frames, *number).and_then(|frame| frame.turn.as_ref()) {
                Some(turn) => in_value(&turn.key(), rest.names),
                None => Ok(None),
            },
            Origin::Loop(name, up, rounds) => match turn(frames, rounds, *up) {
                Some(turn) => in_value(&turn.variable(*name), rest.names),
                None => Ok(None),
            },
            Origin::Nowhere => Ok(None),
        })
    }

    fn in_frame(&self, frame: Option<&Frame>, rest: Rest<'_>) -> Result<Option<Found<'d>>, Halted> {
        let Some(frame) = frame else { return Ok(None) };
        let given = rest.names.first().and_then(|first| frame.names.iter().rfind(|(name, _)| name == first));
        match given {
            Some((_, held)) => self.in_held(held, Rest { names: &rest.names[1..], ..rest }),
            None if rest.names.is_empty() && !frame.names.is_empty() => {
                Ok(Some(Found::Made(Rc::new(self.merged(frame)?))))
            }
            None => self.in_held(&frame.held, rest),
        }
    }

    /// A scope with its names laid over it, as one value.
    fn merged(&self, frame: &Frame) -> Result<Value, Halted> {
        let mut map = match self.see(&frame.held) {
            Value::Object(map) => map.clone(),
            // As JavaScript lays a list or a text under names.
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, item)| (index.to_string(), item.clone())).collect()
            }
            text @ Value::String(_) => {
                let unit =
                    |index: usize| child(text, &index.to_string()).map(|unit| (index.to_string(), unit.into_owned()));
                (0..).map_while(unit).collect()
            }
            _ => Map::new(),
        };
        for (name, held) in &frame.names {
            map.insert(name.clone(), self.see(held).clone());
        }
        let value = Value::Object(map);
        budget::charge(budget::cost_of(&value))?;
        Ok(value)
    }

    fn in_held(&self, held: &Held, rest: Rest<'_>) -> Result<Option<Found<'d>>, Halted> {
        match held {
            Held::Way(way) => match self.at(way) {
                Some(value) => self.in_data(value, way, rest),
                None => Ok(None),
            },
            Held::Made(value) if rest.names.is_empty() => Ok(Some(Found::Made(Rc::clone(value)))),
            Held::Made(value) => in_value(value, rest.names),
        }
    }

    fn in_data(&self, from: &'d Value, way: &[String], rest: Rest<'_>) -> Result<Option<Found<'d>>, Halted> {
        let mut value = from;
        for (index, name) in rest.names.iter().enumerate() {
            charge_text(value)?;
            match child(value, name) {
                None => return Ok(None),
                Some(Cow::Borrowed(next)) => value = next,
                Some(Cow::Owned(made)) => return in_value(&made, &rest.names[index + 1..]),
            }
        }
        let whole = way.iter().chain(rest.names).filter(|_| rest.keeps_way);
        Ok(Some(Found::Data(value, whole.cloned().collect())))
    }
}

/// Names still to be followed, and whether the whole way is wanted.
#[derive(Clone, Copy)]
struct Rest<'r> {
    names: &'r [String],
    keeps_way: bool,
}

/// A value that a path led to.
enum Found<'d> {
    /// In the data, with the way to it from the top.
    Data(&'d Value, Vec<String>),
    /// Made by a helper, a loop or a list's `length`.
    Made(Rc<Value>),
}

fn in_value<'d>(from: &Value, rest: &[String]) -> Result<Option<Found<'d>>, Halted> {
    let mut value = Cow::Borrowed(from);
    for name in rest {
        charge_text(&value)?;
        value = match value {
            Cow::Borrowed(inner) => match child(inner, name) {
                Some(next) => next,
                None => return Ok(None),
            },
            Cow::Owned(inner) => match child(&inner, name) {
                Some(next) => Cow::Owned(next.into_owned()),
                None => return Ok(None),
            },
        };
    }
    Ok(Some(Found::Made(Rc::new(value.into_owned()))))
}

/// The length of a text has to be counted.
fn charge_text(value: &Value) -> Result<(), Limit> {
    match value {
        Value::String(text) => budget::charge(text.len() as u64 / 8),
        _ => Ok(()),
    }
}

/// The scope of a number from the innermost.
fn frame(frames: &[Frame], number: usize) -> Option<&Frame> {
    frames.len().checked_sub(number + 1).map(|index| &frames[index])
}

/// Where so many `../` lead: a scope, or the top of the data, which is `Some(None)`.
fn climb<'f>(frames: &'f [Frame], levels: &[Level], up: usize) -> Option<Option<&'f Frame>> {
    let mut at = 0;
    for _ in 0..up {
        while is_same(frames, levels.get(at)?) {
            at += 1;
        }
        at += 1;
    }
    Some(frame(frames, levels.get(at)?.scope))
}

fn is_same(frames: &[Frame], level: &Level) -> bool {
    match level.same {
        Same::Never => false,
        Same::Always => true,
        Same::Perhaps => frame(frames, level.scope).is_some_and(|frame| frame.same),
    }
}

/// The loop so many `@../` up.
fn turn<'f>(frames: &'f [Frame], rounds: &[Round], up: usize) -> Option<&'f Turn> {
    let turn_of = |number: usize| frame(frames, number).and_then(|frame| frame.turn.as_ref());
    let real = rounds.iter().filter(|round| match round {
        Round::Section(number) => turn_of(*number).is_some(),
        Round::Each(_) | Round::Copy => true,
    });
    real.skip(up).find_map(|round| match round {
        Round::Each(number) | Round::Section(number) => turn_of(*number),
        Round::Copy => None,
    })
}

impl Turn {
    fn key(&self) -> Value {
        match &self.key {
            Some(key) => Value::String(key.clone()),
            None => Value::from(self.index),
        }
    }

    fn variable(&self, name: LoopName) -> Value {
        match name {
            LoopName::Index => Value::from(self.index),
            LoopName::Key => self.key(),
            LoopName::First => Value::Bool(self.index == 0),
            LoopName::Last => Value::Bool(self.last),
        }
    }
}

fn view<'v>(value: &'v Option<Cow<'_, Value>>) -> View<'v> {
    value.as_deref().map_or(View::Null, View::from)
}

/// How a value prints; `null` does not.
pub(super) fn printed(value: &Value) -> Option<Cow<'_, str>> {
    (!value.is_null()).then(|| print_json(value))
}
