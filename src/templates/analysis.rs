//! What a template asks of its data: the values it mentions and what could stop it. Walks the program as a render that took
//! every branch would.
//!
//! Exact where it can be, else on the safe side: a value that is printed on every way through the template is needed; one
//! that is printed inside `{{#if}}` of itself never stops; anything else that could stop makes the answer "unknown".

use std::collections::BTreeSet;

use super::program::{Apply, Arm, Expr, Head, Lookup, Origin, Place, Step};
use super::scope::ValuePath;
use super::{OnMissing, Reference, Stops, Unit};

/// What was found out.
pub(super) struct Analysis {
    /// What could stop a render.
    pub stops: Stops,
    /// Every mention of a value at a known place in the data.
    pub references: Vec<Reference>,
}

/// The way to a value from the top, where it is known.
type Way = Option<Vec<String>>;

/// A scope: the way to its value, and to those of the names over it.
#[derive(Clone, Default)]
struct Base {
    way: Way,
    names: Vec<(String, Way)>,
}

/// Where in the program.
#[derive(Clone)]
struct Here {
    /// The scopes around, innermost last.
    scopes: Vec<Base>,
    /// Only some renders come here.
    conditional: bool,
    /// Values that are certainly there.
    present: Vec<Vec<String>>,
}

/// Analyses a program.
pub(super) fn analyse(steps: &[Step], units: &[Unit<'_>], on_missing: OnMissing) -> Analysis {
    let mut walk = Walk {
        units,
        on_missing,
        unknown: false,
        needed: BTreeSet::new(),
        sometimes: BTreeSet::new(),
        seen: BTreeSet::new(),
        references: Vec::new(),
    };
    walk.steps(steps, &Here { scopes: Vec::new(), conditional: false, present: vec![Vec::new()] });
    let stops = if walk.unknown || !walk.sometimes.is_subset(&walk.needed) {
        Stops::Unknown
    } else if walk.needed.is_empty() {
        Stops::Never
    } else {
        Stops::IfMissing(walk.needed.into_iter().collect())
    };
    Analysis { stops, references: walk.references }
}

struct Walk<'a> {
    units: &'a [Unit<'a>],
    on_missing: OnMissing,
    unknown: bool,
    needed: BTreeSet<ValuePath>,
    sometimes: BTreeSet<ValuePath>,
    seen: BTreeSet<(Place, ValuePath)>,
    references: Vec<Reference>,
}

impl Walk<'_> {
    fn steps(&mut self, steps: &[Step], here: &Here) {
        for step in steps {
            match step {
                Step::Text(_) => {}
                Step::Print(lookup, _) => self.print(lookup, here),
                Step::Show(apply, _) => self.apply(apply, here),
                Step::Block(arms, otherwise) => self.block(arms, otherwise, here),
                Step::Enter(scope, names, body) => {
                    // The scope that is there already is not mentioned by the tag of a partial that stays in it.
                    if !is_whole_scope(scope) {
                        self.expr(scope, here);
                    }
                    names.iter().for_each(|(_, value)| self.expr(value, here));
                    let mut inside = here.clone();
                    let mut base = Base { way: way_of(scope, here), names: Vec::new() };
                    base.names.extend(names.iter().map(|(name, value)| (name.clone(), way_of(value, here))));
                    inside.scopes.push(base);
                    self.steps(body, &inside);
                }
                Step::Indent(_, body) => self.steps(body, here),
            }
        }
    }

    fn print(&mut self, lookup: &Lookup, here: &Here) {
        let way = self.mention(lookup, here);
        if self.on_missing == OnMissing::Blank {
            return;
        }
        match way {
            Some(way) if here.present.contains(&way) => {}
            Some(way) if here.conditional => {
                self.sometimes.insert(ValuePath(way));
            }
            Some(way) => {
                self.needed.insert(ValuePath(way));
            }
            None => self.unknown = true,
        }
    }

    fn apply(&mut self, apply: &Apply, here: &Here) {
        self.unknown |= !apply.spec.never_stops;
        apply.args.iter().for_each(|value| self.expr(value, here));
        apply.named.iter().for_each(|(_, value)| self.expr(value, here));
    }

    fn expr(&mut self, expr: &Expr, here: &Here) {
        match expr {
            Expr::Lookup(lookup) => {
                self.mention(lookup, here);
            }
            Expr::Apply(apply) => self.apply(apply, here),
            Expr::Literal(_) => {}
        }
    }

    fn block(&mut self, arms: &[Arm], otherwise: &[Step], here: &Here) {
        // The test of the first arm is always made, those of the others only where it does not apply.
        let mut at = here.clone();
        for arm in arms {
            let mut inside = Here { conditional: true, ..at.clone() };
            match &arm.head {
                Head::Test { value, wanted, include_zero } => {
                    self.expr(value, &at);
                    include_zero.iter().for_each(|flag| self.expr(flag, &at));
                    let known = if *wanted { &mut inside.present } else { &mut at.present };
                    truths(value, here, known);
                }
                Head::With(scope) => {
                    self.expr(scope, &at);
                    truths(scope, here, &mut inside.present);
                    inside.scopes.push(Base { way: way_of(scope, here), names: Vec::new() });
                }
                Head::Section(value) => {
                    // A loop can go over a limit.
                    self.unknown = true;
                    self.expr(value, &at);
                    truths(value, here, &mut inside.present);
                    inside.scopes.push(Base::default());
                }
                Head::Each(over) => {
                    self.unknown = true;
                    self.expr(over, &at);
                    inside.scopes.push(Base::default());
                }
            }
            self.steps(&arm.body, &inside);
            at.conditional = true;
        }
        self.steps(otherwise, &at);
    }

    /// Notes that a value is mentioned, if it is known which.
    fn mention(&mut self, lookup: &Lookup, here: &Here) -> Way {
        let way = way_of_lookup(lookup, here)?;
        let key = (lookup.place, ValuePath(way.clone()));
        if !way.is_empty() && !self.seen.contains(&key) {
            let file = self.units[lookup.place.unit].source.file.clone();
            let (path, name, at) = (key.1.clone(), lookup.written.clone(), lookup.place.at);
            self.references.push(Reference { path, name, at, file });
            self.seen.insert(key);
        }
        Some(way)
    }
}

/// The values that are certainly there where a value is true.
fn truths(value: &Expr, here: &Here, present: &mut Vec<Vec<String>>) {
    match value {
        Expr::Lookup(lookup) => present.extend(way_of_lookup(lookup, here)),
        Expr::Apply(apply) if apply.spec.name == "and" => {
            apply.args.iter().for_each(|value| truths(value, here, present));
        }
        _ => {}
    }
}

fn is_whole_scope(expr: &Expr) -> bool {
    matches!(expr, Expr::Lookup(lookup) if lookup.segments.is_empty() && matches!(lookup.origin, Origin::Scope(0) | Origin::Top))
}

fn way_of(expr: &Expr, here: &Here) -> Way {
    match expr {
        Expr::Lookup(lookup) => way_of_lookup(lookup, here),
        _ => None,
    }
}

fn way_of_lookup(lookup: &Lookup, here: &Here) -> Way {
    let scope = |number: &usize| here.scopes.len().checked_sub(number + 1).map(|index| &here.scopes[index]);
    let beneath = |way: &Way, rest: &[String]| -> Way { Some(way.as_ref()?.iter().chain(rest).cloned().collect()) };
    match &lookup.origin {
        Origin::Top => Some(lookup.segments.clone()),
        Origin::Scope(number) => {
            let base = scope(number)?;
            let given = lookup.segments.first().and_then(|first| base.names.iter().rfind(|(name, _)| name == first));
            match given {
                Some((_, way)) => beneath(way, &lookup.segments[1..]),
                None => beneath(&base.way, &lookup.segments),
            }
        }
        Origin::Item(number) => beneath(&scope(number)?.way, &lookup.segments),
        Origin::Climb(..) | Origin::Key(_) | Origin::Loop(..) | Origin::Nowhere => None,
    }
}
