//! How templates include each other: unknown partials and cycles.
//!
//! A name stands for the file of that name and for every inline partial of that name, wherever it is defined; what is
//! said of a name holds for all of them. So a cycle that only some of them close is refused too.

use std::collections::BTreeMap;

use crate::error::nearest;

use super::Unit;
use super::expression::Problem;
use super::parse::Faults;
use super::syntax::{Node, Partial};

/// One definition of a partial.
struct Definition<'u> {
    /// Index of the file.
    unit: usize,
    /// What it holds.
    nodes: &'u [Node],
}

/// All definitions by name.
pub(super) struct Graph<'u> {
    definitions: BTreeMap<&'u str, Vec<Definition<'u>>>,
}

impl<'u> Graph<'u> {
    /// Gathers the definitions. The first unit is the template, the others are partials.
    pub fn new(units: &'u [Unit<'u>]) -> Graph<'u> {
        let mut graph = Graph { definitions: BTreeMap::new() };
        for (index, unit) in units.iter().enumerate() {
            if let Some(name) = unit.partial_name {
                graph.definitions.entry(name).or_default().push(Definition { unit: index, nodes: &unit.nodes });
            }
            graph.gather_inlines(index, &unit.nodes);
        }
        graph
    }

    fn gather_inlines(&mut self, unit: usize, nodes: &'u [Node]) {
        for node in nodes {
            match node {
                Node::Block(block) => block.branches.iter().for_each(|b| self.gather_inlines(unit, &b.body)),
                Node::Partial(Partial { block: Some((body, _)), .. }) => self.gather_inlines(unit, body),
                Node::Inline(inline) => {
                    let definition = Definition { unit, nodes: &inline.body };
                    self.definitions.entry(&inline.name).or_default().push(definition);
                    self.gather_inlines(unit, &inline.body);
                }
                _ => {}
            }
        }
    }

    /// Finds everything that is wrong between files. `faults` has one collector per unit.
    pub fn judge(&self, units: &'u [Unit<'u>], faults: &mut [Faults<'_>]) {
        for (unit, faults) in units.iter().zip(faults.iter_mut()) {
            self.judge_names(&unit.nodes, faults);
        }
        self.judge_cycles(faults);
    }

    fn judge_names(&self, nodes: &[Node], faults: &mut Faults<'_>) {
        each_partial(nodes, &mut |partial| {
            let known = partial.is_callers_block() || self.definitions.contains_key(partial.name.as_str());
            if !known && partial.block.is_none() {
                let problem = Problem::new(partial.name_offset, format!("unknown partial `{}`", partial.name));
                faults.push(match nearest(&partial.name, self.definitions.keys().copied()) {
                    Some(near) => problem.hint(format!("did you mean `{near}`?")),
                    None => problem.hint("put a file of this name into the folder of partials"),
                });
            }
        });
        each_inline(nodes, &mut |body| self.judge_names(body, faults));
    }

    /// Visits every name after the names it includes, without recursion.
    fn judge_cycles(&self, faults: &mut [Faults<'_>]) {
        let mut state: BTreeMap<&str, Visit> = BTreeMap::new();
        for &start in self.definitions.keys() {
            let mut stack = vec![(start, self.edges(start))];
            if state.insert(start, Visit::Open).is_some() {
                state.insert(start, Visit::Done);
                continue;
            }
            while let Some((name, edges)) = stack.last_mut() {
                let Some(edge) = edges.pop() else {
                    state.insert(name, Visit::Done);
                    stack.pop();
                    continue;
                };
                match state.get(edge.to) {
                    Some(Visit::Done) => {}
                    Some(Visit::Open) => {
                        let way: Vec<&str> = stack.iter().map(|(n, _)| *n).skip_while(|n| *n != edge.to).collect();
                        faults[edge.unit].push(cycle(&way, edge));
                    }
                    None => {
                        state.insert(edge.to, Visit::Open);
                        stack.push((edge.to, self.edges(edge.to)));
                    }
                }
            }
        }
    }

    fn edges(&self, name: &str) -> Vec<Edge<'u>> {
        let mut edges = Vec::new();
        for definition in self.definitions.get(name).map_or(&[][..], Vec::as_slice) {
            each_partial(definition.nodes, &mut |partial: &'u Partial| {
                if let Some((to, _)) = self.definitions.get_key_value(partial.name.as_str()) {
                    edges.push(Edge { to, unit: definition.unit, offset: partial.name_offset });
                }
            });
        }
        edges.reverse();
        edges
    }
}

enum Visit {
    Open,
    Done,
}

#[derive(Clone, Copy)]
struct Edge<'u> {
    to: &'u str,
    unit: usize,
    offset: usize,
}

fn cycle(way: &[&str], edge: Edge<'_>) -> Problem {
    let message = match way {
        [only] => format!("the partial `{only}` includes itself"),
        [first, rest @ ..] => format!("the partial `{first}` includes itself through `{}`", rest.join("`, `")),
        [] => format!("the partial `{}` includes itself", edge.to),
    };
    Problem::new(edge.offset, message).hint("use `{{#each}}` to repeat something")
}

/// Visits the partial tags that rendering these nodes can come to; not those inside inline partials.
fn each_partial<'u>(nodes: &'u [Node], visit: &mut impl FnMut(&'u Partial)) {
    for node in nodes {
        match node {
            Node::Block(block) => block.branches.iter().for_each(|branch| each_partial(&branch.body, visit)),
            Node::Partial(partial) => {
                visit(partial);
                if let Some((body, _)) = &partial.block {
                    each_partial(body, visit);
                }
            }
            _ => {}
        }
    }
}

/// Visits the bodies of the inline partials of these nodes, not those inside them.
fn each_inline<'u>(nodes: &'u [Node], visit: &mut dyn FnMut(&'u [Node])) {
    for node in nodes {
        match node {
            Node::Block(block) => block.branches.iter().for_each(|branch| each_inline(&branch.body, visit)),
            Node::Partial(Partial { block: Some((body, _)), .. }) => each_inline(body, visit),
            Node::Inline(inline) => visit(&inline.body),
            _ => {}
        }
    }
}
