//! Makes a flat program of the steps of a template. What is known before a render is worked out here: which slot a path
//! begins in, which scope a name means, where an arm ends.
//!
//! Three things are left to the crate, since they need a value that no slot holds: the data as a whole, a partial's scope
//! with its names as a whole, and block parameters of a section. A section over `true` may come to such a value where one
//! over a list does not: then the render is begun anew by the crate.

use super::code::{Call, From, Literal, Op, Operand, Program, Read, Way};
use crate::templates::budget::cost_of_round;
use crate::templates::program::{Apply, Arm, Expr, Head, Lookup, Origin, Step, measure};
use crate::templates::scope::{NAMESPACES, ValuePath};
use crate::templates::view::{Name, View};
use crate::templates::{Escape, OnMissing, Stops};

/// Why a template is not compiled.
pub(in crate::templates) type Reason = &'static str;

const WHOLE_DATA: Reason = "it uses all data as one value";
const WHOLE_SCOPE: Reason = "it uses the scope of a partial with names as one value";
const TOO_MANY_WAYS: Reason = "its sections nest too deep for so many names";
const SECTION_PARAMS: Reason = "a section has block parameters";

/// Most ways of a program. A name inside a section has one more for where that is the scope around, and so on: a hundred
/// sections inside each other could take all memory.
const MAX_WAYS: usize = 1 << 18;

/// What is known of a scope before a render.
enum Scope {
    /// A value; the way to it from the top, where that is known.
    Value(Option<Vec<String>>),
    /// A section: its value, or the scope around.
    Section,
    /// A value with names over it, and the ways to them.
    Named(Option<Vec<String>>, Vec<(String, Option<Vec<String>>)>),
}

/// Lowers the steps of a template.
pub(in crate::templates) fn lower(
    steps: &[Step],
    files: Vec<String>,
    escape: Escape,
    on_missing: OnMissing,
    stops: &Stops,
) -> Result<Program, Reason> {
    let program = Program {
        ops: Vec::new(),
        text: String::new(),
        asks: Vec::new(),
        needed: Vec::new(),
        goes_beyond: false,
        files,
        escape,
        blank: on_missing == OnMissing::Blank,
    };
    let mut lowering = Lowering { program, scopes: Vec::new(), ways: 0 };
    lowering.steps(steps)?;
    if let Stops::IfMissing(paths) = stops {
        let needed = paths.iter().map(|path| lowering.in_data(&path.0)).collect::<Result<_, _>>()?;
        lowering.program.needed = needed;
    }
    Ok(lowering.program)
}

struct Lowering {
    program: Program,
    scopes: Vec<Scope>,
    ways: usize,
}

impl Lowering {
    fn steps(&mut self, steps: &[Step]) -> Result<(), Reason> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Result<(), Reason> {
        match step {
            Step::Text(text) => {
                let text = self.keep(text);
                self.push(Op::Text(text));
            }
            Step::Print(lookup, printing) => {
                let read = self.read(lookup)?;
                self.push(Op::Print(read, *printing));
            }
            Step::Show(apply, printing) => {
                let call = self.call(apply)?;
                self.push(Op::Show(Box::new(call), *printing));
            }
            Step::Block(arms, otherwise) => self.block(arms, otherwise)?,
            Step::Enter(scope, names, body) => self.enter(scope, names, body)?,
            Step::Indent(by, body) => {
                self.push(Op::Indent);
                self.steps(body)?;
                let by = self.keep(by);
                self.push(Op::Dedent(by));
            }
        }
        Ok(())
    }

    fn push(&mut self, op: Op) -> usize {
        self.program.ops.push(op);
        self.program.ops.len() - 1
    }

    fn keep(&mut self, text: &str) -> std::ops::Range<usize> {
        let start = self.program.text.len();
        self.program.text.push_str(text);
        start..self.program.text.len()
    }

    // --- Blocks

    fn block(&mut self, arms: &[Arm], otherwise: &[Step]) -> Result<(), Reason> {
        let mut ends = Vec::with_capacity(arms.len());
        for arm in arms {
            let (head, scope) = self.head(arm)?;
            let head = self.push(head);
            match scope {
                Some(scope) => self.scoped(scope, head + 1, &arm.body)?,
                None => self.steps(&arm.body)?,
            }
            ends.push(self.push(Op::Jump(0)));
            let behind = self.program.ops.len();
            if let Op::Test { otherwise, .. }
            | Op::With { otherwise, .. }
            | Op::Each { otherwise, .. }
            | Op::Section { otherwise, .. } = &mut self.program.ops[head]
            {
                *otherwise = behind;
            }
        }
        self.steps(otherwise)?;
        let behind = self.program.ops.len();
        for end in ends {
            self.program.ops[end] = Op::Jump(behind);
        }
        Ok(())
    }

    /// The beginning of an arm, whose end is not known yet, and the scope that it enters.
    fn head(&mut self, arm: &Arm) -> Result<(Op, Option<Scope>), Reason> {
        let (otherwise, round_cost) = (0, cost_of_round(measure(&arm.body)));
        Ok(match &arm.head {
            Head::Test { value, wanted, include_zero } => {
                let include_zero = include_zero.as_ref().map(|flag| self.operand(flag)).transpose()?;
                (Op::Test { value: self.operand(value)?, wanted: *wanted, include_zero, otherwise }, None)
            }
            Head::With(value) => {
                let scope = Scope::Value(self.way_of(value));
                (Op::With { value: self.operand(value)?, otherwise }, Some(scope))
            }
            Head::Each(value) => {
                (Op::Each { value: self.operand(value)?, round_cost, otherwise }, Some(Scope::Value(None)))
            }
            Head::Section(value) => {
                (Op::Section { value: self.operand(value)?, round_cost, otherwise }, Some(Scope::Section))
            }
        })
    }

    fn scoped(&mut self, scope: Scope, body: usize, steps: &[Step]) -> Result<(), Reason> {
        self.scopes.push(scope);
        self.steps(steps)?;
        self.scopes.pop();
        self.push(Op::Next { body });
        Ok(())
    }

    fn enter(&mut self, scope: &Expr, names: &[(String, Expr)], body: &[Step]) -> Result<(), Reason> {
        let way = self.way_of(scope);
        // Paths that begin at the top of the data are all known: nothing asks the scope for them.
        let is_top = way.as_ref().is_some_and(Vec::is_empty);
        let value = if is_top { None } else { Some(self.operand(scope)?) };
        let values = names.iter().map(|(_, value)| self.operand(value)).collect::<Result<_, _>>()?;
        let ways = names.iter().map(|(name, value)| (name.clone(), self.way_of(value))).collect();
        let opened = self.push(Op::Enter { value, names: values });
        self.scoped(Scope::Named(way, ways), opened + 1, body)
    }

    // --- Values

    fn operand(&mut self, expr: &Expr) -> Result<Operand, Reason> {
        Ok(match expr {
            Expr::Lookup(lookup) => Operand::Read(self.read(lookup)?),
            Expr::Literal(value) => Operand::Literal(self.literal(value)),
            Expr::Apply(apply) => Operand::Call(Box::new(self.call(apply)?)),
        })
    }

    fn literal(&mut self, value: &serde_json::Value) -> Literal {
        match View::from(value) {
            View::Bool(truth) => Literal::Bool(truth),
            View::Int(value) => Literal::Int(value),
            View::Number(text) => Literal::Number(self.keep(text)),
            View::Text(text) => Literal::Text(self.keep(text)),
            _ => Literal::Null,
        }
    }

    fn call(&mut self, apply: &Apply) -> Result<Call, Reason> {
        let function = apply.spec.function().expect("checked when the template was expanded");
        let args = apply.args.iter().map(|arg| self.operand(arg)).collect::<Result<_, _>>()?;
        let mut named = Vec::with_capacity(apply.named.len());
        for (key, value) in &apply.named {
            named.push((key.clone(), self.operand(value)?));
        }
        Ok(Call { function, args, named, place: apply.place })
    }

    fn read(&mut self, lookup: &Lookup) -> Result<Read, Reason> {
        let way = self.way(&lookup.origin, &lookup.segments)?;
        if self.ways > MAX_WAYS {
            return Err(TOO_MANY_WAYS);
        }
        Ok(Read { way, written: lookup.written.clone(), place: lookup.place })
    }

    fn way(&mut self, origin: &Origin, segments: &[String]) -> Result<Way, Reason> {
        let from = match origin {
            Origin::Top => return self.in_data(segments),
            Origin::Scope(number) => return self.in_scope(*number, segments),
            Origin::Climb(levels, up) => {
                let levels = levels.iter().map(|level| (*level, self.perhaps(level.scope, segments))).collect();
                return Ok(Way { from: From::Climb(levels, *up), rest: Vec::new() });
            }
            Origin::Item(number) => match self.scope(*number) {
                Some(Scope::Section) => return Err(SECTION_PARAMS),
                _ => return self.in_scope(*number, segments),
            },
            Origin::Key(number) => match self.scope(*number) {
                Some(Scope::Section) => return Err(SECTION_PARAMS),
                _ => From::Key(*number),
            },
            Origin::Loop(name, up, rounds) => From::Loop(*name, *up, rounds.clone()),
            Origin::Nowhere => From::Nowhere,
        };
        Ok(Way { from, rest: names(segments) })
    }

    fn scope(&self, number: usize) -> Option<&Scope> {
        self.scopes.len().checked_sub(number + 1).map(|index| &self.scopes[index])
    }

    fn in_level(&mut self, number: usize, segments: &[String]) -> Result<Way, Reason> {
        if number == self.scopes.len() { self.in_data(segments) } else { self.in_scope(number, segments) }
    }

    /// As [`Self::in_level`], for a way that may never be gone.
    fn perhaps(&mut self, number: usize, segments: &[String]) -> Way {
        self.ways += 1;
        self.in_level(number, segments).unwrap_or_else(|_| {
            self.program.goes_beyond = true;
            Way { from: From::Beyond, rest: Vec::new() }
        })
    }

    fn in_scope(&mut self, number: usize, segments: &[String]) -> Result<Way, Reason> {
        let way = match self.scope(number) {
            None => return Ok(Way { from: From::Nowhere, rest: Vec::new() }),
            Some(Scope::Section) => {
                let around = self.perhaps(number + 1, segments);
                return Ok(Way { from: From::Section(number, Box::new(around)), rest: names(segments) });
            }
            Some(Scope::Value(way)) => way,
            Some(Scope::Named(way, given)) => {
                let name = segments.first().and_then(|first| given.iter().rposition(|(name, _)| name == first));
                match name.map(|at| (at, given[at].1.clone())) {
                    Some((_, Some(way))) => return self.in_data(&[&way[..], &segments[1..]].concat()),
                    Some((at, None)) => {
                        return Ok(Way { from: From::Named(number, at), rest: names(&segments[1..]) });
                    }
                    None if segments.is_empty() && !given.is_empty() => return Err(WHOLE_SCOPE),
                    None => way,
                }
            }
        };
        match way.clone() {
            Some(way) => self.in_data(&[&way[..], segments].concat()),
            None => Ok(Way { from: From::Scope(number), rest: names(segments) }),
        }
    }

    fn in_data(&mut self, path: &[String]) -> Result<Way, Reason> {
        let first = path.first().ok_or(WHOLE_DATA)?;
        let length = if NAMESPACES.contains(&first.as_str()) { path.len().min(2) } else { 1 };
        let ask = ValuePath(path[..length].to_vec());
        let known = self.program.asks.iter().position(|asked| *asked == ask);
        let slot = known.unwrap_or_else(|| {
            self.program.asks.push(ask);
            self.program.asks.len() - 1
        });
        let slot = u32::try_from(slot).expect("a template is of bounded size");
        Ok(Way { from: From::Slot(slot), rest: names(&path[length..]) })
    }

    /// The way to a value from the top, where it is known.
    fn way_of(&self, expr: &Expr) -> Option<Vec<String>> {
        let Expr::Lookup(Lookup { origin, segments, .. }) = expr else { return None };
        let beneath = |way: &Option<Vec<String>>, rest: &[String]| Some([way.as_deref()?, rest].concat());
        match origin {
            Origin::Top => Some(segments.clone()),
            Origin::Scope(number) | Origin::Item(number) => match self.scope(*number)? {
                Scope::Section => None,
                Scope::Value(way) => beneath(way, segments),
                Scope::Named(way, given) => {
                    match segments.first().and_then(|first| given.iter().rfind(|(name, _)| name == first)) {
                        Some((_, way)) => beneath(way, &segments[1..]),
                        None if segments.is_empty() && !given.is_empty() => None,
                        None => beneath(way, segments),
                    }
                }
            },
            _ => None,
        }
    }
}

fn names(segments: &[String]) -> Vec<Name> {
    segments.iter().map(|segment| Name::new(segment)).collect()
}
