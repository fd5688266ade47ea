//! What a render keeps: scopes, the values of names, texts that helpers made. Nothing of it outlives a render but its
//! room.

use crate::triggers::{Node, Span, Values};

use super::code::{Literal, Program};
use crate::templates::program::LoopName;
use crate::templates::view::View;

/// Memory that renders use again.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(super) frames: Vec<Frame>,
    /// Values of the names over scopes.
    pub(super) names: Vec<Val>,
    /// Arguments of helpers that are being worked out.
    pub(super) stack: Vec<Val>,
    /// Texts that helpers made.
    pub(super) made: String,
    /// A text on its way.
    pub(super) text: String,
    /// Where indentations began in the output.
    pub(super) indents: Vec<usize>,
}

/// A value by where it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Val {
    /// Nowhere.
    Absent,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// At a place of the trigger's values.
    Data(u32),
    /// The same, given by a helper: charged for like a copy.
    Copied(u32),
    /// A string of the template.
    Literal(Span),
    /// Another number of the template.
    LiteralNumber(Span),
    /// A text made by a helper.
    Made(Span),
    /// A number made by a helper.
    MadeNumber(Span),
}

/// A scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub value: Val,
    /// It is that of the scope around: a section over `true`.
    pub same: bool,
    /// Where its names begin and end.
    pub names: (usize, usize),
    pub turn: Option<Turn>,
}

/// One round of a loop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// From 0.
    pub index: u32,
    /// How many rounds.
    pub len: u32,
    /// The name of a field.
    pub key: Option<u32>,
    /// What one round costs.
    pub round_cost: u64,
}

pub(super) fn cost_of(values: &Values, at: u32) -> u64 {
    let cost = |at| match values.node(at) {
        Node::Null => 0,
        Node::Text(span) => span.range().len() as u64 + 1,
        _ => 1,
    };
    (at..values.after(at)).map(cost).sum()
}

#[inline]
pub(super) fn view<'v>(value: Val, program: &'v Program, values: &'v Values, made: &'v str) -> View<'v> {
    match value {
        Val::Absent | Val::Null => View::Null,
        Val::Bool(truth) => View::Bool(truth),
        Val::Int(value) => View::Int(value),
        Val::Float(value) => View::Float(value),
        Val::Data(at) | Val::Copied(at) => View::at(values, at),
        Val::Literal(span) => View::Text(&program.text[span.range()]),
        Val::LiteralNumber(span) => View::Number(&program.text[span.range()]),
        Val::Made(span) => View::Text(&made[span.range()]),
        Val::MadeNumber(span) => View::Number(&made[span.range()]),
    }
}

pub(super) fn literal_value(literal: &Literal) -> Val {
    match literal {
        Literal::Null => Val::Null,
        Literal::Bool(truth) => Val::Bool(*truth),
        Literal::Int(value) => Val::Int(*value),
        Literal::Number(text) => Val::LiteralNumber(Span::of(text.clone())),
        Literal::Text(text) => Val::Literal(Span::of(text.clone())),
    }
}

pub(super) fn key(turn: Turn) -> Val {
    turn.key.map_or(Val::Int(turn.index.into()), Val::Copied)
}

pub(super) fn variable(turn: Turn, name: LoopName) -> Val {
    match name {
        LoopName::Index => Val::Int(turn.index.into()),
        LoopName::Key => key(turn),
        LoopName::First => Val::Bool(turn.index == 0),
        LoopName::Last => Val::Bool(turn.index + 1 == turn.len),
    }
}
