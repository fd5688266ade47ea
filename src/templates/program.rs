//! A template with its partials in place and every name resolved: what is rendered.
//!
//! While it renders, scopes stand on a stack: `each`, `with`, a section and a partial with a value or names of its own each
//! push one around what they hold. Everything that a name can mean is known before: a scope so many down the stack, a
//! block parameter, a loop variable. Only whether a section changes the scope is not known until it runs.
//!
//! Invariants: nests at most [`MAX_NESTING`](super::syntax::MAX_NESTING) deep; every number of a scope is below the number
//! of scopes around it.

use serde_json::Value;

use crate::error::LineColumn;

use super::MAX_OUTPUT_BYTES;
use super::catalog::Spec;
use super::syntax::Printing;

/// A piece of a program.
#[derive(Debug)]
pub(super) enum Step {
    /// Text as it stands.
    Text(String),
    /// A value is printed, or its absence stops the render.
    Print(Lookup, Printing),
    /// A helper's result is printed.
    Show(Apply, Printing),
    /// The first arm that applies, else what comes after them.
    Block(Vec<Arm>, Vec<Step>),
    /// Pushes a scope: a value, with names laid over it.
    Enter(Expr, Vec<(String, Expr)>, Vec<Step>),
    /// Puts a text before every line of what it holds.
    Indent(String, Vec<Step>),
}

/// One arm of a block.
#[derive(Debug)]
pub(super) struct Arm {
    /// Whether it applies, and with which scopes.
    pub head: Head,
    /// What it holds.
    pub body: Vec<Step>,
}

/// What decides over an arm.
#[derive(Debug)]
pub(super) enum Head {
    /// Applies where the truth of a value is the wanted one.
    Test {
        /// The value.
        value: Expr,
        /// `false` for `unless`.
        wanted: bool,
        /// Whether zero is true.
        include_zero: Option<Expr>,
    },
    /// Runs for every item, each a scope; applies where there is one.
    Each(Expr),
    /// Applies where the value is not empty, which becomes a scope.
    With(Expr),
    /// A list: as `each`. Another value: as `with`, `0` and `""` included. `true`: the scope around. Else it does not apply.
    Section(Expr),
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Expr {
    /// Of the data.
    Lookup(Lookup),
    /// As written.
    Literal(Value),
    /// Of a helper.
    Apply(Apply),
}

/// Where the author wrote something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Index of the file.
    pub unit: usize,
    /// Line and column.
    pub at: LineColumn,
}

/// A value of the data.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    /// Where it is looked for.
    pub origin: Origin,
    /// Names from there on.
    pub segments: Vec<String>,
    /// As the author wrote it.
    pub written: String,
    /// Where.
    pub place: Place,
}

/// Where a value is looked for. Scopes are numbered from the innermost, which is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// At the top of the data.
    Top,
    /// In a scope.
    Scope(usize),
    /// In the scope that so many `../` lead to, from the first of these; some may turn out to be the same as the next.
    Climb(Vec<Level>, usize),
    /// The value of a block parameter: the item or the value that became this scope.
    Item(usize),
    /// The second block parameter: the index or key of this scope's round.
    Key(usize),
    /// A loop variable, so many loops up.
    Loop(LoopName, usize, Vec<Round>),
    /// Beyond the top, or no name at all.
    Nowhere,
}

/// A scope that `../` passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    /// Its number.
    pub scope: usize,
    /// Whether it is the same as the next one.
    pub same: Same,
}

/// Whether a scope is the same as the one around it, so that `../` does not stop there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Same {
    /// No.
    Never,
    /// `{{#with this}}`.
    Always,
    /// A section: where its value is `true`, or the scope itself.
    Perhaps,
}

/// What holds loop variables, innermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// `each`.
    Each(usize),
    /// A section, where its value is a list.
    Section(usize),
    /// A block given to a partial: one level more for `@../`, with the variables of the next.
    Copy,
}

/// The loop variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoopName {
    /// `@index`
    Index,
    /// `@key`
    Key,
    /// `@first`
    First,
    /// `@last`
    Last,
}

/// A helper with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Apply {
    /// The helper.
    pub spec: &'static Spec,
    /// Positional arguments.
    pub args: Vec<Expr>,
    /// `key=value` arguments.
    pub named: Vec<(String, Expr)>,
    /// Where.
    pub place: Place,
}

/// What some steps come to when they run once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measure {
    /// Bytes of text, strings in tags included.
    pub text: u64,
    /// Values that are looked up.
    pub values: u64,
}

/// No byte of a value's JSON text becomes more bytes of a message: `&quot;`, `\u0001`.
const MOST_PER_BYTE: usize = 6;

/// What a value may have in bytes beside its JSON text: a formatted number.
const MOST_PER_VALUE: usize = 1_024;

impl Measure {
    /// Whether steps without a loop stay far within the limits on work and output, if no value has more bytes.
    pub fn is_within_limits(self, bytes: usize) -> bool {
        let of_a_value = bytes.saturating_mul(MOST_PER_BYTE).saturating_add(MOST_PER_VALUE) as u64;
        self.values.saturating_mul(of_a_value).saturating_add(self.text) <= MAX_OUTPUT_BYTES as u64
    }
}

/// Measures steps.
pub(super) fn measure(steps: &[Step]) -> Measure {
    let mut sum = Measure::default();
    add(steps, &mut sum);
    sum
}

fn add(steps: &[Step], sum: &mut Measure) {
    for step in steps {
        match step {
            Step::Text(text) => sum.text += text.len() as u64,
            Step::Print(..) => sum.values += 1,
            Step::Show(apply, _) => add_call(apply, sum),
            Step::Block(arms, otherwise) => {
                for arm in arms {
                    match &arm.head {
                        Head::Test { value, include_zero, .. } => {
                            add_value(value, sum);
                            include_zero.iter().for_each(|flag| add_value(flag, sum));
                        }
                        Head::Each(value) | Head::With(value) | Head::Section(value) => add_value(value, sum),
                    }
                    add(&arm.body, sum);
                }
                add(otherwise, sum);
            }
            Step::Enter(scope, names, body) => {
                add_value(scope, sum);
                names.iter().for_each(|(_, value)| add_value(value, sum));
                add(body, sum);
            }
            // It stands before every line of what it holds.
            Step::Indent(by, body) => {
                let before = *sum;
                add(body, sum);
                let lines = sum.text - before.text + 1;
                sum.text += lines.saturating_mul(by.len() as u64);
                sum.values += sum.values.saturating_sub(before.values).saturating_mul(by.len() as u64);
            }
        }
    }
}

fn add_value(value: &Expr, sum: &mut Measure) {
    match value {
        Expr::Lookup(_) => sum.values += 1,
        Expr::Literal(Value::String(text)) => sum.text += text.len() as u64 * MOST_PER_BYTE as u64,
        Expr::Literal(_) => {}
        Expr::Apply(apply) => add_call(apply, sum),
    }
}

fn add_call(apply: &Apply, sum: &mut Measure) {
    sum.values += 1;
    apply.args.iter().chain(apply.named.iter().map(|(_, value)| value)).for_each(|value| add_value(value, sum));
}
