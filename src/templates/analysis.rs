//! What a template asks of its data: the values it mentions and what could stop it. Walks the template with its partials
//! in place, as a render that took every branch would.
//!
//! Exact where it can be, else on the safe side: a value that is printed on every way through the template is needed; one
//! that is printed inside `{{#if}}` of itself never stops; anything else that could stop makes the answer "unknown".

use std::collections::BTreeSet;

use crate::error::LineColumn;

use super::catalog;
use super::graph::{Definition, Graph};
use super::places::Places;
use super::scope::ValuePath;
use super::syntax::{Argument, Block, Branch, Call, Named, Node, Partial, Path, Start};
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

/// Where in the template, and with which scope.
#[derive(Clone)]
struct Place {
    unit: usize,
    /// The scopes of the blocks around, innermost last.
    bases: Vec<Way>,
    /// Names that blocks and partials gave, later ones first.
    names: Vec<(String, Way)>,
    /// Only some renders come here.
    conditional: bool,
    /// Values that are certainly there.
    present: Vec<Vec<String>>,
}

/// Analyses the first unit, the template, with the others as its partials.
pub(super) fn analyse(units: &[Unit<'_>], graph: &Graph<'_>, on_missing: OnMissing, limited: bool) -> Analysis {
    let mut walk = Walk {
        units,
        graph,
        places: units.iter().map(|unit| Places::new(&unit.source.text)).collect(),
        on_missing,
        unknown: limited,
        needed: BTreeSet::new(),
        sometimes: BTreeSet::new(),
        seen: BTreeSet::new(),
        references: Vec::new(),
    };
    let top = Place {
        unit: 0,
        bases: vec![Some(Vec::new())],
        names: Vec::new(),
        conditional: false,
        present: vec![Vec::new()],
    };
    walk.nodes(&units[0].nodes, &top);
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
    graph: &'a Graph<'a>,
    places: Vec<Places<'a>>,
    on_missing: OnMissing,
    unknown: bool,
    needed: BTreeSet<ValuePath>,
    sometimes: BTreeSet<ValuePath>,
    seen: BTreeSet<(usize, usize, ValuePath)>,
    references: Vec<Reference>,
}

impl Walk<'_> {
    fn nodes(&mut self, nodes: &[Node], place: &Place) {
        for node in nodes {
            match node {
                Node::Text(_) | Node::Verbatim(_) | Node::Comment | Node::Inline(_) => {}
                Node::Print(_, path, _) => self.print(path, place),
                Node::Call(_, call, _) => self.call(call, place),
                Node::Block(block) => self.block(block, place),
                Node::Partial(partial) => self.partial(partial, place),
            }
        }
    }

    fn print(&mut self, path: &Path, place: &Place) {
        let way = self.mention(path, place);
        if self.on_missing == OnMissing::Blank {
            return;
        }
        match way {
            Some(way) if place.present.contains(&way) => {}
            Some(way) if place.conditional => {
                self.sometimes.insert(ValuePath(way));
            }
            Some(way) => {
                self.needed.insert(ValuePath(way));
            }
            None => self.unknown = true,
        }
    }

    fn call(&mut self, call: &Call, place: &Place) {
        self.unknown |= !catalog::find(&call.name).is_some_and(|spec| spec.never_stops);
        self.arguments(&call.args, &call.hash, place);
    }

    fn arguments(&mut self, args: &[Argument], hash: &[Named], place: &Place) {
        for argument in args.iter().chain(hash.iter().map(|named| &named.value)) {
            match argument {
                Argument::Path(path) => {
                    self.mention(path, place);
                }
                Argument::Call(call) => self.call(call, place),
                Argument::Literal(..) => {}
            }
        }
    }

    fn block(&mut self, block: &Block, place: &Place) {
        let mut inner = place.clone();
        inner.conditional = true;
        for (index, branch) in block.branches.iter().enumerate() {
            if let Some(call) = &branch.call {
                // The test of the first branch is always made, those of the others only sometimes.
                self.arguments(&call.args, &call.hash, if index == 0 { place } else { &inner });
            }
            let previous = index.checked_sub(1).map(|previous| &block.branches[previous]);
            let entered = enter(branch, previous, &inner);
            self.nodes(&branch.body, &entered);
        }
    }

    fn partial(&mut self, partial: &Partial, place: &Place) {
        self.arguments(partial.scope.as_slice(), &partial.hash, place);
        let mut inner = place.clone();
        inner.bases.push(match &partial.scope {
            Some(scope) => way_of_argument(scope, place),
            None => place.bases.last().cloned().flatten(),
        });
        for named in &partial.hash {
            inner.names.push((named.key.clone(), way_of_argument(&named.value, place)));
        }
        let definitions: Vec<Definition<'_>> = self.graph.of(&partial.name).to_vec();
        // Which of several definitions is in force is not followed, nor is where the caller's block comes to stand.
        let plain = matches!(definitions.as_slice(), [Definition { inline: false, .. }]);
        if let Some((body, _)) = &partial.block {
            self.nodes(body, &Place { conditional: !plain || place.conditional, ..inner.clone() });
        }
        for definition in definitions {
            let conditional = !plain || place.conditional;
            self.nodes(definition.nodes, &Place { unit: definition.unit, conditional, ..inner.clone() });
        }
    }

    /// Notes that a value is mentioned, if it is known which.
    fn mention(&mut self, path: &Path, place: &Place) -> Way {
        let way = way_of(path, place)?;
        let key = (place.unit, path.offset, ValuePath(way.clone()));
        if !way.is_empty() && !self.seen.contains(&key) {
            let at: LineColumn = self.places[place.unit].at(path.offset);
            let file = self.units[place.unit].source.file.clone();
            self.references.push(Reference { path: key.2.clone(), name: path.written.clone(), at, file });
            self.seen.insert(key);
        }
        Some(way)
    }
}

/// The place inside a branch.
fn enter(branch: &Branch, previous: Option<&Branch>, around: &Place) -> Place {
    let mut place = around.clone();
    let Some(call) = &branch.call else {
        // The `{{else}}` of an `{{#unless value}}`: the value is there.
        if let Some(Branch { call: Some(test), .. }) = previous
            && test.name == "unless"
        {
            test.args.iter().for_each(|argument| truths(argument, around, &mut place.present));
        }
        return place;
    };
    match (call.name.as_str(), call.args.first()) {
        ("if", Some(test)) => truths(test, around, &mut place.present),
        ("with", Some(scope)) => {
            truths(scope, around, &mut place.present);
            let way = way_of_argument(scope, around);
            place.names.extend(branch.params.iter().map(|name| (name.clone(), way.clone())));
            place.bases.push(way);
        }
        ("each", _) => {
            place.names.extend(branch.params.iter().map(|name| (name.clone(), None)));
            place.bases.push(None);
        }
        _ => {}
    }
    place
}

/// The values that are certainly there where a test holds.
fn truths(test: &Argument, place: &Place, present: &mut Vec<Vec<String>>) {
    match test {
        Argument::Path(path) => present.extend(way_of(path, place)),
        Argument::Call(call) if call.name == "and" => {
            call.args.iter().for_each(|argument| truths(argument, place, present));
        }
        _ => {}
    }
}

fn way_of_argument(argument: &Argument, place: &Place) -> Way {
    match argument {
        Argument::Path(path) => way_of(path, place),
        _ => None,
    }
}

fn way_of(path: &Path, place: &Place) -> Way {
    let beneath = |base: &Way, rest: &[String]| {
        base.as_ref().map(|base| base.iter().chain(rest).cloned().collect::<Vec<String>>())
    };
    match &path.start {
        Start::Top => Some(path.segments.clone()),
        Start::Data(..) => None,
        Start::Name => {
            let name = path.segments.first()?;
            match place.names.iter().rev().find(|(given, _)| given == name) {
                Some((_, way)) => beneath(way, &path.segments[1..]),
                None => beneath(place.bases.last()?, &path.segments),
            }
        }
        Start::This => beneath(place.bases.last()?, &path.segments),
        Start::Up(up) => {
            let index = place.bases.len().checked_sub(up + 1)?;
            beneath(&place.bases[index], &path.segments)
        }
    }
}
