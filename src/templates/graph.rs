//! How templates include each other: unknown partials, cycles, and how large, deep and repetitive the whole can get.
//!
//! A name stands for the file of that name and for every inline partial of that name, wherever it is defined; what is
//! said of a name holds for all of them. So a cycle that only some of them close is refused too.

use std::collections::BTreeMap;

use crate::error::nearest;

use super::expression::Problem;
use super::parse::Faults;
use super::syntax::{MAX_NESTING, Node, Partial};
use super::{MAX_TEMPLATE_BYTES, Unit};

/// Most inclusions that one template may come to, partials of partials counted each time.
const MAX_INCLUSIONS: u64 = 10_000;

/// What including a template once comes to, everything it includes counted in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measure {
    /// Bytes of text.
    pub text: u64,
    /// Values that are printed.
    pub prints: u64,
    /// Partials that are included.
    pub inclusions: u64,
    /// Whether it repeats something.
    pub loops: bool,
    /// Nesting of blocks and partials.
    depth: usize,
}

impl Measure {
    fn add(&mut self, other: Measure) {
        self.text = self.text.saturating_add(other.text);
        self.prints = self.prints.saturating_add(other.prints);
        self.inclusions = self.inclusions.saturating_add(other.inclusions);
        self.loops |= other.loops;
        self.depth = self.depth.max(other.depth);
    }

    fn deeper(self) -> Measure {
        Measure { depth: self.depth + 1, ..self }
    }

    fn excess(&self) -> Option<String> {
        if self.depth > MAX_NESTING {
            return Some(format!("blocks and partials nest deeper than {MAX_NESTING} in all"));
        }
        if self.inclusions > MAX_INCLUSIONS {
            return Some(format!("partials are included more than {MAX_INCLUSIONS} times in all"));
        }
        (self.text > MAX_TEMPLATE_BYTES as u64)
            .then(|| format!("the text with its partials is over {MAX_TEMPLATE_BYTES} bytes"))
    }
}

/// One definition of a partial, or the template itself.
#[derive(Clone, Copy)]
pub(super) struct Definition<'u> {
    /// Index of the file.
    pub unit: usize,
    /// What it holds.
    pub nodes: &'u [Node],
    /// It may be in force or not, depending on where a render has been.
    pub inline: bool,
}

/// All definitions by name, and what each name comes to.
pub(super) struct Graph<'u> {
    definitions: BTreeMap<&'u str, Vec<Definition<'u>>>,
    measures: BTreeMap<&'u str, Measure>,
}

impl<'u> Graph<'u> {
    /// Gathers the definitions. The first unit is the template, the others are partials.
    pub fn new(units: &'u [Unit<'u>]) -> Graph<'u> {
        let mut graph = Graph { definitions: BTreeMap::new(), measures: BTreeMap::new() };
        for (index, unit) in units.iter().enumerate() {
            let whole = Definition { unit: index, nodes: &unit.nodes, inline: false };
            if let Some(name) = unit.partial_name {
                graph.definitions.entry(name).or_default().push(whole);
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
                    let definition = Definition { unit, nodes: &inline.body, inline: true };
                    self.definitions.entry(&inline.name).or_default().push(definition);
                    self.gather_inlines(unit, &inline.body);
                }
                _ => {}
            }
        }
    }

    /// Every name, in the order of their numbers in the compiled template.
    pub fn names(&self) -> impl Iterator<Item = &'u str> {
        self.definitions.keys().copied()
    }

    /// The definitions of a name.
    pub fn of(&self, name: &str) -> &[Definition<'u>] {
        self.definitions.get(name).map_or(&[], Vec::as_slice)
    }

    /// What some nodes come to.
    pub fn measure(&self, nodes: &[Node]) -> Measure {
        let mut sum = Measure::default();
        for node in nodes {
            match node {
                Node::Text(text) | Node::Verbatim(text) => sum.text = sum.text.saturating_add(text.len() as u64),
                Node::Print(..) | Node::Call(..) => sum.prints += 1,
                Node::Block(block) => {
                    for branch in &block.branches {
                        sum.loops |= branch.call.as_ref().is_some_and(|call| call.name == "each");
                        sum.add(self.measure(&branch.body).deeper());
                    }
                }
                Node::Partial(partial) => {
                    sum.inclusions = sum.inclusions.saturating_add(1);
                    sum.add(self.measures.get(partial.name.as_str()).copied().unwrap_or_default().deeper());
                    let body = partial.block.as_ref().map_or(&[][..], |(body, _)| body);
                    sum.add(self.measure(body).deeper());
                }
                Node::Comment | Node::Inline(_) => {}
            }
        }
        sum
    }

    /// Finds everything that is wrong between files. `faults` has one collector per unit. Measures are known afterwards
    /// if nothing was wrong.
    pub fn judge(&mut self, units: &'u [Unit<'u>], faults: &mut [Faults<'_>]) {
        for (index, unit) in units.iter().enumerate() {
            self.judge_names(&unit.nodes, &mut faults[index]);
            self.judge_callers_blocks(&unit.nodes, unit.partial_name.is_none(), &mut faults[index]);
        }
        let order = self.depth_first(faults);
        for name in order {
            let mut sum = Measure::default();
            for definition in self.of(name).to_vec() {
                let measure = self.measure(definition.nodes);
                self.judge_measure(&measure, definition, faults);
                sum.add(measure);
            }
            self.measures.insert(name, sum);
        }
        let template = Definition { unit: 0, nodes: &units[0].nodes, inline: false };
        let measure = self.measure(template.nodes);
        self.judge_measure(&measure, template, faults);
    }

    fn judge_names(&self, nodes: &[Node], faults: &mut Faults<'_>) {
        each_partial(nodes, &mut |partial| {
            let known = partial.is_callers_block() || !self.of(&partial.name).is_empty();
            if !known && partial.block.is_none() {
                let problem = Problem::new(partial.name_offset, format!("unknown partial `{}`", partial.name));
                faults.push(match nearest(&partial.name, self.names()) {
                    Some(near) => problem.hint(format!("did you mean `{near}`?")),
                    None => problem.hint("put a file of this name into the folder of partials"),
                });
            }
            if partial.block.is_none() && self.of(&partial.name).iter().any(|d| needs_block(d.nodes)) {
                faults.push(
                    Problem::new(partial.name_offset, format!("the partial `{}` needs a block", partial.name))
                        .hint(format!("write `{{{{#> {0}}}}}…{{{{/{0}}}}}`", partial.name)),
                );
            }
        });
        each_inline(nodes, &mut |body| self.judge_names(body, faults));
    }

    /// The caller's block can stand in a partial, once, and not in a loop: more would multiply what it holds.
    fn judge_callers_blocks(&self, nodes: &[Node], template: bool, faults: &mut Faults<'_>) {
        let mut seen = false;
        callers_blocks(nodes, false, &mut |partial, repeated| {
            let problem = |message: &str| Problem::new(partial.name_offset, message);
            if template && partial.block.is_none() {
                faults.push(
                    problem("`@partial-block` stands outside a partial").hint("it is the block given to a partial"),
                );
            } else if seen || repeated {
                faults.push(problem("`@partial-block` can be used once, and not in `{{#each}}`"));
            }
            seen = true;
        });
        each_inline(nodes, &mut |body| self.judge_callers_blocks(body, false, faults));
    }

    fn judge_measure(&self, measure: &Measure, definition: Definition<'_>, faults: &mut [Faults<'_>]) {
        let Some(excess) = measure.excess() else { return };
        let (mut place, mut beneath) = (None, false);
        each_partial(definition.nodes, &mut |partial| {
            place = place.or(Some(partial.name_offset));
            beneath |= self.measures.get(partial.name.as_str()).is_some_and(|measure| measure.excess().is_some());
        });
        // Where a partial is over the limit itself, it is reported there.
        if let (Some(offset), false) = (place, beneath) {
            faults[definition.unit]
                .push(Problem::new(offset, excess).hint("include partials directly, and fewer of them"));
        }
    }

    /// Visits every name after the names it includes, without recursion; reports cycles.
    fn depth_first(&self, faults: &mut [Faults<'_>]) -> Vec<&'u str> {
        let mut state: BTreeMap<&str, Visit> = BTreeMap::new();
        let mut order = Vec::new();
        for start in self.names() {
            let mut stack = vec![(start, self.edges(start))];
            if state.insert(start, Visit::Open).is_some() {
                state.insert(start, Visit::Done);
                continue;
            }
            while let Some((name, edges)) = stack.last_mut() {
                let Some(edge) = edges.pop() else {
                    state.insert(name, Visit::Done);
                    order.push(*name);
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
        order
    }

    fn edges(&self, name: &str) -> Vec<Edge<'u>> {
        let mut edges = Vec::new();
        for definition in self.of(name) {
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

fn callers_blocks<'u>(nodes: &'u [Node], repeated: bool, visit: &mut dyn FnMut(&'u Partial, bool)) {
    for node in nodes {
        match node {
            Node::Block(block) => {
                for branch in &block.branches {
                    let each = branch.call.as_ref().is_some_and(|call| call.name == "each");
                    callers_blocks(&branch.body, repeated || each, visit);
                }
            }
            Node::Partial(partial) => {
                if partial.is_callers_block() {
                    visit(partial, repeated);
                }
                if let Some((body, _)) = &partial.block {
                    callers_blocks(body, repeated, visit);
                }
            }
            _ => {}
        }
    }
}

/// Whether these nodes print the caller's block and have nothing in its stead.
fn needs_block(nodes: &[Node]) -> bool {
    let mut needs = false;
    callers_blocks(nodes, false, &mut |partial, _| needs |= partial.block.is_none());
    needs
}
