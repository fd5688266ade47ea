//! Values of a render: found in slots and scopes, or worked out by helpers, and charged for.

use crate::triggers::{Node, Span};

use super::code::{Call, From, Operand, Way};
use super::interpret::{Done, Halted, Run};
use super::memory::{Frame, Turn, Val, cost_of, key, literal_value, variable, view};
use crate::templates::Stop;
use crate::templates::budget::{self, Limit};
use crate::templates::functions::{Answer, Given, Halt};
use crate::templates::program::{Level, Round, Same};
use crate::templates::scope::{Unit, unit_of_text};
use crate::templates::view::{Name, Step, Tree, View, child_of_node};

/// Most arguments of a helper.
const MAX_ARGUMENTS: usize = 16;
/// Most named arguments of a helper.
const MAX_NAMED: usize = 4;

impl Run<'_> {
    #[inline]
    pub(super) fn view(&self, value: Val) -> View<'_> {
        view(value, self.program, self.values, &self.memory.made)
    }

    /// The value of an expression.
    pub(super) fn value(&mut self, operand: &Operand) -> Done<Val> {
        match operand {
            Operand::Read(read) => self.read(&read.way),
            Operand::Literal(literal) => Ok(literal_value(literal)),
            Operand::Call(call) => self.call(call),
        }
    }

    /// The value of an expression, to be kept as a scope.
    pub(super) fn held(&mut self, operand: &Operand) -> Done<Val> {
        if !matches!(operand, Operand::Read(_)) {
            self.charge(budget::CALL_COST)?;
        }
        self.value(operand)
    }

    pub(super) fn read(&mut self, way: &Way) -> Done<Val> {
        self.charge(budget::CALL_COST)?;
        let value = self.follow(way)?;
        self.charge_value(value)?;
        Ok(value)
    }

    fn follow(&mut self, way: &Way) -> Done<Val> {
        let start = match &way.from {
            From::Slot(slot) => self.values.slot(self.slots[*slot as usize]).map_or(Val::Absent, Val::Data),
            From::Scope(number) => self.frame(*number).map_or(Val::Absent, |frame| frame.value),
            From::Named(number, name) => {
                self.frame(*number).map_or(Val::Absent, |frame| self.memory.names[frame.names.0 + name])
            }
            From::Section(number, around) => match self.frame(*number) {
                Some(frame) if frame.same => return self.follow(around),
                frame => frame.map_or(Val::Absent, |frame| frame.value),
            },
            From::Climb(levels, up) => match self.climb(levels, *up) {
                Some(way) => return self.follow(way),
                None => Val::Absent,
            },
            From::Key(number) => self.frame(*number).and_then(|frame| frame.turn).map_or(Val::Absent, key),
            From::Loop(name, up, rounds) => self.turn(rounds, *up).map_or(Val::Absent, |turn| variable(turn, *name)),
            From::Nowhere => Val::Absent,
            From::Beyond => return Err(Halted::Beyond),
        };
        way.rest.iter().try_fold(start, |value, name| self.child(value, name))
    }

    fn child(&mut self, value: Val, name: &Name) -> Done<Val> {
        let (Val::Data(at) | Val::Copied(at)) = value else { return self.child_of_text(value, name) };
        if let Node::Text(_) = self.values.node(at) {
            return self.child_of_text(value, name);
        }
        Ok(match (child_of_node(self.values, at, &name.text, name.index), value) {
            (None, _) => Val::Absent,
            (Some(Step::At(at)), Val::Copied(_)) => Val::Copied(at),
            (Some(Step::At(at)), _) => Val::Data(at),
            (Some(Step::Length(length)), _) => Val::Int(length.into()),
        })
    }

    fn child_of_text(&mut self, value: Val, name: &Name) -> Done<Val> {
        let View::Text(text) = self.view(value) else { return Ok(Val::Absent) };
        let cost = text.len() as u64 / 8;
        let found = unit_of_text(text, &name.text);
        self.charge(cost)?;
        Ok(match found {
            Some(Unit::Character(character)) => self.keep(character.encode_utf8(&mut [0; 4])),
            Some(Unit::Length(length)) => Val::Int(length),
            None => Val::Absent,
        })
    }

    fn keep(&mut self, text: &str) -> Val {
        let start = self.memory.made.len();
        self.memory.made.push_str(text);
        Val::Made(Span::of(start..self.memory.made.len()))
    }

    #[inline]
    pub(super) fn frame(&self, number: usize) -> Option<&Frame> {
        let frames = &self.memory.frames;
        frames.len().checked_sub(number + 1).map(|index| &frames[index])
    }

    /// Where so many `../` lead.
    fn climb<'w>(&self, levels: &'w [(Level, Way)], up: usize) -> Option<&'w Way> {
        let mut at = 0;
        for _ in 0..up {
            while self.is_same(&levels.get(at)?.0) {
                at += 1;
            }
            at += 1;
        }
        levels.get(at).map(|(_, way)| way)
    }

    fn is_same(&self, level: &Level) -> bool {
        match level.same {
            Same::Never => false,
            Same::Always => true,
            Same::Perhaps => self.frame(level.scope).is_some_and(|frame| frame.same),
        }
    }

    /// The loop so many `@../` up.
    fn turn(&self, rounds: &[Round], up: usize) -> Option<Turn> {
        let turn_of = |number: usize| self.frame(number).and_then(|frame| frame.turn);
        let real = rounds.iter().filter(|round| match round {
            Round::Section(number) => turn_of(*number).is_some(),
            Round::Each(_) | Round::Copy => true,
        });
        real.skip(up).find_map(|round| match round {
            Round::Each(number) | Round::Section(number) => turn_of(*number),
            Round::Copy => None,
        })
    }

    // --- Helpers

    pub(super) fn call(&mut self, call: &Call) -> Done<Val> {
        let base = self.memory.stack.len();
        let operands = call.args.iter().chain(call.named.iter().map(|(_, operand)| operand));
        for operand in operands {
            let value = self.value(operand)?;
            self.memory.stack.push(value);
        }
        let mut text = std::mem::take(&mut self.memory.text);
        text.clear();
        let result = self.answer(call, base, &mut text);
        self.memory.stack.truncate(base);
        let value = match result {
            Ok(Val::Made(_)) => Ok(self.keep(&text)),
            Ok(Val::MadeNumber(_)) => {
                let Val::Made(span) = self.keep(&text) else { return Ok(Val::Absent) };
                Ok(Val::MadeNumber(span))
            }
            other => other,
        };
        self.memory.text = text;
        let value = value.map_err(|halt| self.halted(halt, call))?;
        self.charge(budget::CALL_COST)?;
        self.charge_value(value)?;
        Ok(value)
    }

    /// What a helper says to the arguments on the stack from `base` on. A text or a number is in `text`.
    fn answer(&self, call: &Call, base: usize, text: &mut String) -> Result<Val, Halt> {
        let stack = &self.memory.stack[base..];
        let mut args = [View::Null; MAX_ARGUMENTS];
        let mut named = [("", View::Null); MAX_NAMED];
        let (positional, by_name) = stack.split_at(call.args.len());
        args.iter_mut().zip(positional).for_each(|(view, value)| *view = self.view(*value));
        for ((slot, value), (key, _)) in named.iter_mut().zip(by_name).zip(&call.named) {
            *slot = (key.as_str(), self.view(*value));
        }
        let given = Given {
            args: &args[..positional.len().min(MAX_ARGUMENTS)],
            named: &named[..by_name.len().min(MAX_NAMED)],
            blank: self.program.blank,
        };
        Ok(match (call.function)(&given, text)? {
            Answer::Written => Val::Made(Span::of(0..0)),
            Answer::Value(View::Null) => Val::Null,
            Answer::Value(View::Bool(truth)) => Val::Bool(truth),
            Answer::Value(View::Int(value)) => Val::Int(value),
            Answer::Value(View::Float(value)) => Val::Float(value),
            Answer::Value(View::Tree(Tree::Node(_, at))) => Val::Copied(at),
            Answer::Value(View::Tree(Tree::Json(_))) => Val::Absent,
            Answer::Value(View::Text(value)) => {
                text.push_str(value);
                Val::Made(Span::of(0..0))
            }
            Answer::Value(View::Number(value)) => {
                text.push_str(value);
                Val::MadeNumber(Span::of(0..0))
            }
        })
    }

    fn halted(&self, halt: Halt, call: &Call) -> Halted {
        Halted::Stop(match halt {
            Halt::Abort(reason) => Stop::Aborted { reason },
            Halt::Failed(message) => {
                let file = self.program.files[call.place.unit].clone();
                Stop::Failed { message, at: Some(call.place.at), file }
            }
        })
    }

    // --- Work

    #[inline]
    pub(super) fn charge(&mut self, cost: u64) -> Done {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Limit::Work.into()),
        }
    }

    #[inline]
    fn charge_value(&mut self, value: Val) -> Done {
        match value {
            Val::Absent | Val::Null | Val::Data(_) => Ok(()),
            Val::Literal(span) | Val::Made(span) => self.charge(span.range().len() as u64 + 1),
            Val::Copied(at) => self.charge_copy(at),
            _ => self.charge(1),
        }
    }

    /// What copying a value costs.
    pub(super) fn charge_copy(&mut self, at: u32) -> Done {
        self.charge(cost_of(self.values, at))
    }
}
