//! A template as a flat program: what runs for every message. Made in `lower.rs`, run in `interpret.rs`.
//!
//! Values of the data are asked for by slot: the reader knows which column or which name fills it.

use std::ops::Range;

use crate::templates::escape::Escape;
use crate::templates::functions::Function;
use crate::templates::program::{Level, LoopName, Place, Round};
use crate::templates::scope::ValuePath;
use crate::templates::syntax::Printing;
use crate::templates::view::Name;

/// A compiled template.
#[derive(Debug)]
pub(in crate::templates) struct Program {
    /// What it does.
    pub(super) ops: Vec<Op>,
    /// The text of all its literals.
    pub text: String,
    /// What it asks of the data, by slot.
    pub asks: Vec<ValuePath>,
    /// The values that it cannot do without, where that is all that can stop it.
    pub(super) needed: Vec<Way>,
    /// Whether a way may lead to a value that no slot holds.
    pub goes_beyond: bool,
    /// File names by unit.
    pub files: Vec<String>,
    /// How printed values are escaped.
    pub escape: Escape,
    /// Whether an absent value prints nothing.
    pub blank: bool,
}

/// One step. Numbers of steps are absolute.
#[derive(Debug)]
pub(super) enum Op {
    /// Writes a piece of the program's text.
    Text(Range<usize>),
    /// Prints a value, or stops where it is missing.
    Print(Read, Printing),
    /// Prints the result of a helper.
    Show(Box<Call>, Printing),
    /// Goes to `otherwise` unless the truth of a value is the wanted one.
    Test {
        /// The value.
        value: Operand,
        /// `false` for `unless`.
        wanted: bool,
        /// Whether zero is true.
        include_zero: Option<Operand>,
        /// Where the arm ends.
        otherwise: usize,
    },
    /// Enters a scope, or goes to `otherwise` where its value is empty.
    With {
        /// The value.
        value: Operand,
        /// Where the arm ends.
        otherwise: usize,
    },
    /// Enters the first round of a loop, or goes to `otherwise` where there is none.
    Each {
        /// What is looped over.
        value: Operand,
        /// What one round costs.
        round_cost: u64,
        /// Where the arm ends.
        otherwise: usize,
    },
    /// Enters what the kind of the value asks for.
    Section {
        /// The value.
        value: Operand,
        /// What one round costs.
        round_cost: u64,
        /// Where the arm ends.
        otherwise: usize,
    },
    /// Enters a scope with names over it.
    Enter {
        /// The value; `None` where nothing ever asks for it.
        value: Option<Operand>,
        /// The names' values.
        names: Vec<Operand>,
    },
    /// Goes to the next round of the innermost scope, which begins at `body`; leaves it after the last.
    Next {
        /// Where its rounds begin.
        body: usize,
    },
    /// Goes on elsewhere.
    Jump(usize),
    /// What is written from here on is indented.
    Indent,
    /// Ends an indentation: puts a piece of the program's text before every line.
    Dedent(Range<usize>),
}

/// A value.
#[derive(Debug)]
pub(super) enum Operand {
    /// Of the data.
    Read(Read),
    /// As written.
    Literal(Literal),
    /// Of a helper.
    Call(Box<Call>),
}

/// A literal.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    /// `null`, `undefined`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An integer.
    Int(i64),
    /// Another number, a piece of the program's text.
    Number(Range<usize>),
    /// A string, a piece of the program's text.
    Text(Range<usize>),
}

/// A value of the data and what its absence is called.
#[derive(Debug)]
pub(super) struct Read {
    /// The way to it.
    pub way: Way,
    /// As the author wrote it.
    pub written: String,
    /// Where.
    pub place: Place,
}

/// A way to a value.
#[derive(Debug, Clone)]
pub(super) struct Way {
    /// Where it begins.
    pub from: From,
    /// Names from there on.
    pub rest: Vec<Name>,
}

/// Where a way begins. Scopes are numbered from the innermost.
#[derive(Debug, Clone)]
pub(super) enum From {
    /// In a slot.
    Slot(u32),
    /// In a scope.
    Scope(usize),
    /// At a name over a scope, by its position.
    Named(usize, usize),
    /// In the scope of a section; where that is the scope around, on another way.
    Section(usize, Box<Way>),
    /// Where so many `../` lead, from the first of these.
    Climb(Vec<(Level, Way)>, usize),
    /// The index or key of a scope's round.
    Key(usize),
    /// A loop variable, so many loops up.
    Loop(LoopName, usize, Vec<Round>),
    /// Nowhere.
    Nowhere,
    /// To a value that no slot holds.
    Beyond,
}

/// A helper with its arguments.
#[derive(Debug)]
pub(super) struct Call {
    /// What it does.
    pub function: Function,
    /// Positional arguments.
    pub args: Vec<Operand>,
    /// `key=value` arguments.
    pub named: Vec<(String, Operand)>,
    /// Where.
    pub place: Place,
}
