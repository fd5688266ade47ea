//! Runs a [`Program`]: one step after the other, on values that stand in slots. Nothing is allocated for a message once
//! the [`Workspace`] has grown; what a render leaves in it is overwritten by the next.
//!
//! Every charge and limit is that of the crate's way to render: see [`crate::templates::budget`].

use std::ops::Range;

use crate::triggers::{Node, Values};

use super::code::{Call, Op, Operand, Program, Read};
use super::memory::{Frame, Turn, Val, Workspace, view};
use crate::templates::budget::{self, Limit};
use crate::templates::escape::Escape;
use crate::templates::syntax::Printing;
use crate::templates::view::View;
use crate::templates::{MAX_OUTPUT_BYTES, Stop};

/// Why a render ends early.
pub(in crate::templates) enum Halted {
    /// A limit.
    Limit(Limit),
    /// The template or its data.
    Stop(Stop),
    /// A value that no slot holds: only the crate can render this.
    Beyond,
}

impl std::convert::From<Limit> for Halted {
    fn from(limit: Limit) -> Halted {
        Halted::Limit(limit)
    }
}

pub(super) type Done<T = ()> = Result<T, Halted>;

/// Appends what a program renders to `out`. `slots` says where its asks stand in `values`.
pub(in crate::templates) fn run(
    program: &Program,
    values: &Values,
    slots: &[u32],
    memory: &mut Workspace,
    out: &mut String,
) -> Done {
    memory.frames.clear();
    memory.names.clear();
    memory.stack.clear();
    memory.made.clear();
    memory.indents.clear();
    let start = out.len();
    let mut run = Run { program, values, slots, memory, out, start, left: budget::MAX_WORK };
    let mut at = 0;
    while let Some(op) = program.ops.get(at) {
        at = match op {
            Op::Text(text) => run.write(text, at + 1)?,
            Op::Print(read, printing) => run.print(read, *printing, at + 1)?,
            Op::Show(call, printing) => run.show(call, *printing, at + 1)?,
            Op::Test { value, wanted, include_zero, otherwise } => {
                if run.truth(value, include_zero.as_ref())? == *wanted { at + 1 } else { *otherwise }
            }
            Op::With { value, otherwise } => {
                if run.with(value)? {
                    at + 1
                } else {
                    *otherwise
                }
            }
            Op::Each { value, round_cost, otherwise } => {
                if run.each(value, *round_cost)? {
                    at + 1
                } else {
                    *otherwise
                }
            }
            Op::Section { value, round_cost, otherwise } => {
                if run.section(value, *round_cost)? {
                    at + 1
                } else {
                    *otherwise
                }
            }
            Op::Enter { value, names } => run.enter(value.as_ref(), names, at + 1)?,
            Op::Next { body } => {
                if run.next_round()? {
                    *body
                } else {
                    at + 1
                }
            }
            Op::Jump(to) => *to,
            Op::Indent => run.indent(at + 1),
            Op::Dedent(by) => run.dedent(by, at + 1)?,
        };
    }
    Ok(())
}

/// A render on its way.
pub(super) struct Run<'r> {
    pub program: &'r Program,
    pub values: &'r Values,
    pub slots: &'r [u32],
    pub memory: &'r mut Workspace,
    out: &'r mut String,
    /// Where the text begins in the output.
    start: usize,
    /// Work that may still be done.
    pub left: u64,
}

impl Run<'_> {
    // --- Writing

    #[inline]
    fn write(&mut self, text: &Range<usize>, next: usize) -> Done<usize> {
        self.out.push_str(&self.program.text[text.clone()]);
        self.within_limit()?;
        Ok(next)
    }

    #[inline]
    fn within_limit(&self) -> Done {
        if self.out.len() - self.start > MAX_OUTPUT_BYTES && self.memory.indents.is_empty() {
            return Err(Limit::Output.into());
        }
        Ok(())
    }

    fn print(&mut self, read: &Read, printing: Printing, next: usize) -> Done<usize> {
        let value = self.read(&read.way)?;
        if !self.put(value, printing)? && !self.program.blank {
            return Err(Halted::Stop(Stop::Missing {
                name: read.written.clone(),
                at: read.place.at,
                file: self.program.files[read.place.unit].clone(),
            }));
        }
        Ok(next)
    }

    fn show(&mut self, call: &Call, printing: Printing, next: usize) -> Done<usize> {
        let value = self.call(call)?;
        self.put(value, printing)?;
        Ok(next)
    }

    /// Prints a value, if there is one.
    fn put(&mut self, value: Val, printing: Printing) -> Done<bool> {
        let escape = if printing == Printing::Raw { Escape::None } else { self.program.escape };
        let (start, memory) = (self.out.len(), &mut *self.memory);
        let length = match view(value, self.program, self.values, &memory.made) {
            View::Null => return Ok(false),
            View::Number(text) | View::Text(text) => {
                escape.push(text, self.out);
                text.len()
            }
            tree @ View::Tree(_) => {
                memory.text.clear();
                tree.print(&mut memory.text);
                escape.push(&memory.text, self.out);
                memory.text.len()
            }
            // Nothing in a number or a truth value is ever escaped.
            plain => {
                plain.print(self.out);
                self.out.len() - start
            }
        };
        self.charge(length as u64)?;
        self.within_limit()?;
        Ok(true)
    }

    fn indent(&mut self, next: usize) -> usize {
        self.memory.indents.push(self.out.len());
        next
    }

    /// Puts a text before every line but an empty last one.
    fn dedent(&mut self, by: &Range<usize>, next: usize) -> Done<usize> {
        let start = self.memory.indents.pop().unwrap_or(0);
        let mut text = std::mem::take(&mut self.memory.text);
        text.clear();
        text.push_str(&self.out[start..]);
        self.out.truncate(start);
        let by = &self.program.text[by.clone()];
        for line in text.split_inclusive('\n') {
            self.charge(by.len() as u64)?;
            self.out.push_str(by);
            self.out.push_str(line);
            self.within_limit()?;
        }
        self.memory.text = text;
        Ok(next)
    }

    // --- Blocks

    fn truth(&mut self, value: &Operand, include_zero: Option<&Operand>) -> Done<bool> {
        let value = self.value(value)?;
        let view = self.view(value);
        match include_zero {
            Some(flag) if !view.is_truthy() && view.is_number() => {
                let flag = self.value(flag)?;
                Ok(self.view(flag).is_truthy())
            }
            _ => Ok(view.is_truthy()),
        }
    }

    fn with(&mut self, value: &Operand) -> Done<bool> {
        let value = self.held(value)?;
        let view = self.view(value);
        let applies = view.is_truthy() || view.is_number();
        if applies {
            self.enter_frame(value, false);
        }
        Ok(applies)
    }

    fn each(&mut self, over: &Operand, round_cost: u64) -> Done<bool> {
        let over = self.held(over)?;
        self.rounds(over, round_cost)
    }

    fn section(&mut self, value: &Operand, round_cost: u64) -> Done<bool> {
        let value = self.held(value)?;
        match self.view(value) {
            View::Null | View::Bool(false) => return Ok(false),
            View::Bool(true) => {
                let around = self.memory.frames.last().copied();
                let (value, names) = around.map_or((Val::Absent, (0, 0)), |frame| (frame.value, frame.names));
                self.memory.frames.push(Frame { value, same: true, names, turn: None });
            }
            view if view.is_list() => return self.rounds(value, round_cost),
            _ => {
                let same = self.is_current(value);
                self.enter_frame(value, same);
            }
        }
        Ok(true)
    }

    /// Whether a value is the scope that is there already.
    fn is_current(&self, value: Val) -> bool {
        let is_somewhere = matches!(value, Val::Data(_) | Val::Copied(_) | Val::Made(_) | Val::Literal(_));
        self.memory
            .frames
            .last()
            .is_some_and(|frame| is_somewhere && frame.names.0 == frame.names.1 && frame.value == value)
    }

    fn enter_frame(&mut self, value: Val, same: bool) {
        let names = (self.memory.names.len(), self.memory.names.len());
        self.memory.frames.push(Frame { value, same, names, turn: None });
    }

    fn enter(&mut self, value: Option<&Operand>, names: &[Operand], next: usize) -> Done<usize> {
        let value = match value {
            Some(value) => self.held(value)?,
            None => {
                self.charge(budget::CALL_COST)?;
                Val::Absent
            }
        };
        // Values are worked out before any of them is a name: they may use names of the scope around.
        let start = self.memory.stack.len();
        for name in names {
            let value = self.held(name)?;
            self.memory.stack.push(value);
        }
        let first = self.memory.names.len();
        self.memory.names.extend(self.memory.stack.drain(start..));
        let names = (first, self.memory.names.len());
        self.memory.frames.push(Frame { value, same: false, names, turn: None });
        Ok(next)
    }

    /// Enters the first round of a list or an object. Whether there is one.
    fn rounds(&mut self, over: Val, round_cost: u64) -> Done<bool> {
        let (Val::Data(at) | Val::Copied(at)) = over else { return Ok(false) };
        let (len, key) = match self.values.node(at) {
            Node::List { len, .. } => (len, None),
            Node::Object { len, .. } => (len, Some(at + 1)),
            _ => (0, None),
        };
        if len == 0 {
            return Ok(false);
        }
        self.enter_frame(Val::Absent, false);
        let item = at + 1 + u32::from(key.is_some());
        self.go_to(over, item, Turn { index: 0, len, key, round_cost })?;
        Ok(true)
    }

    /// The next round of the innermost scope; leaves it where there is none.
    fn next_round(&mut self) -> Done<bool> {
        let Some(frame) = self.memory.frames.last().copied() else { return Ok(false) };
        match (frame.turn, frame.value) {
            (Some(turn), Val::Data(at) | Val::Copied(at)) if turn.index + 1 < turn.len => {
                let after = self.values.after(at);
                let key = turn.key.map(|_| after);
                let item = after + u32::from(key.is_some());
                self.go_to(frame.value, item, Turn { index: turn.index + 1, key, ..turn })?;
                Ok(true)
            }
            _ => {
                self.memory.frames.pop();
                if !frame.same {
                    self.memory.names.truncate(frame.names.0);
                }
                Ok(false)
            }
        }
    }

    /// Makes an item the value of the innermost scope. It is of the kind of `like`: a copy or not.
    fn go_to(&mut self, like: Val, item: u32, turn: Turn) -> Done {
        self.charge(turn.round_cost)?;
        let value = match like {
            Val::Copied(_) => {
                self.charge_copy(item)?;
                Val::Copied(item)
            }
            _ => Val::Data(item),
        };
        if let Some(frame) = self.memory.frames.last_mut() {
            frame.value = value;
            frame.turn = Some(turn);
        }
        Ok(())
    }
}
