//! Puts partials in place and resolves names: from the trees of all files to one [`Step`] list.
//!
//! What a name means depends on where it is written (block parameters, `../`) and on the way a render came there (loop
//! variables, inline partials, the caller's block), as in the JavaScript implementation:
//!
//! | | Scope chain for `../`, block parameters | Inline partials in force |
//! |---|---|---|
//! | a file | its own scope only | the caller's |
//! | `{{#*inline}}` | where it is written, outside the block around it | of its file, at that time |
//! | `{{> @partial-block}}` | where the block is written | of its file, at that time |
//!
//! Loop variables and `@partial-block` always come along the way of the render.
//!
//! Bounds: nesting, inclusions, tags and text of the whole are counted as it grows, so that partials cannot multiply without
//! end; the first excess is reported and ends it.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde_json::Value;

use crate::error::LineColumn;

use super::catalog;
use super::expression::Problem;
use super::parse::Faults;
use super::places::Places;
use super::program::{Apply, Arm, Expr, Head, Level, Lookup, LoopName, Origin, Place, Round, Same, Step};
use super::syntax::{self, Argument, Block, Branch, Inline, MAX_NESTING, Named, Node, Partial, Path, Start};
use super::{MAX_TEMPLATE_BYTES, Unit};

/// Most inclusions that one template may come to, partials of partials counted each time.
const MAX_INCLUSIONS: usize = 10_000;

/// Most tags of a template with its partials in place.
const MAX_TAGS_IN_ALL: usize = 50_000;

/// Expands the first unit, the template, with the others as its partials. After a fault the steps are not complete.
pub(super) fn expand<'u>(units: &'u [Unit<'u>], faults: &mut [Faults<'_>]) -> Vec<Step> {
    let files = units.iter().enumerate().filter_map(|(index, unit)| Some((unit.partial_name?, index))).collect();
    let mut expander = Expander {
        units,
        files,
        places: units.iter().map(|unit| Places::new(&unit.source.text)).collect(),
        known_places: HashMap::new(),
        faults,
        full: false,
        inclusions: 0,
        tags: 0,
        text: 0,
    };
    let top = Surroundings {
        file: 0,
        scopes: 0,
        chain: vec![Link { scope: 0, same: Same::Never }],
        outside: Vec::new(),
        params: Vec::new(),
        rounds: Vec::new(),
        inlines: Vec::new(),
        block: None,
        depth: 0,
        included_at: None,
    };
    expander.body(&units[0].nodes, &top)
}

/// A scope by its number from the bottom of the stack; 0 is the top of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    scope: usize,
    same: Same,
}

/// What gave loop variables, by the number of its scope from the bottom.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Each(usize),
    Section(usize),
    Copy,
}

/// A block parameter: its name, its scope from the bottom, and whether it is the second one.
type Param = (String, usize, bool);

/// The inline partials of one file that are in force.
type Inlines<'u> = Rc<BTreeMap<&'u str, Rc<Definition<'u>>>>;

/// An inline partial, or a block given to a partial, with the surroundings of where it is written.
struct Definition<'u> {
    nodes: &'u [Node],
    file: usize,
    chain: Vec<Link>,
    params: Vec<Param>,
    /// The block of the partial around a block.
    block: Option<Rc<Definition<'u>>>,
    /// The tag that included the file it is written in.
    included_at: Option<(usize, &'u Partial)>,
}

/// What names mean at some place of the expanded template.
#[derive(Clone)]
struct Surroundings<'u> {
    /// The file that is read.
    file: usize,
    /// How many scopes stand on the stack, the top of the data not counted.
    scopes: usize,
    /// The scopes that `../` leads to, innermost first.
    chain: Vec<Link>,
    /// The same for what is defined here: without the scope of the block around.
    outside: Vec<Link>,
    params: Vec<Param>,
    /// Innermost last.
    rounds: Vec<Turn>,
    /// By file, later ones first.
    inlines: Vec<(usize, Inlines<'u>)>,
    /// What `{{> @partial-block}}` prints.
    block: Option<Rc<Definition<'u>>>,
    depth: usize,
    /// The tag that included this file.
    included_at: Option<(usize, &'u Partial)>,
}

impl<'u> Surroundings<'u> {
    fn inlines_of(&self, file: usize) -> Option<&Inlines<'u>> {
        self.inlines.iter().rev().find(|(of, _)| *of == file).map(|(_, inlines)| inlines)
    }

    fn inline(&self, name: &str) -> Option<Rc<Definition<'u>>> {
        self.inlines_of(self.file)?.get(name).cloned()
    }

    /// Adds the inline partials that stand among these nodes to those of a file.
    fn define(&mut self, file: usize, nodes: &'u [Node], written: &Surroundings<'u>) {
        let inlines = nodes.iter().filter_map(|node| match node {
            Node::Inline(inline) => Some(inline),
            _ => None,
        });
        let mut all: Option<BTreeMap<_, _>> = None;
        for Inline { name, body, .. } in inlines {
            let definition = Definition {
                nodes: body,
                file: written.file,
                chain: written.outside.clone(),
                params: written.params.clone(),
                block: None,
                included_at: None,
            };
            let all =
                all.get_or_insert_with(|| self.inlines_of(file).map_or_else(BTreeMap::new, |map| (**map).clone()));
            all.insert(name, Rc::new(definition));
        }
        if let Some(all) = all {
            self.inlines.push((file, Rc::new(all)));
        }
    }

    /// Inside a block that pushes no scope.
    fn inside(&self) -> Surroundings<'u> {
        Surroundings { outside: self.chain.clone(), depth: self.depth + 1, ..self.clone() }
    }

    /// Inside a block that pushes one.
    fn inside_scope(&self, same: Same) -> Surroundings<'u> {
        let mut inside = self.inside();
        inside.scopes += 1;
        inside.chain.insert(0, Link { scope: inside.scopes, same });
        inside
    }

    /// The number of a scope from the innermost, or the top of the data.
    fn origin(&self, scope: usize) -> Origin {
        if scope == 0 { Origin::Top } else { Origin::Scope(self.scopes - scope) }
    }

    fn current(&self) -> Origin {
        self.chain.first().map_or(Origin::Nowhere, |link| self.origin(link.scope))
    }

    /// Where so many `../` lead.
    fn above(&self, up: usize) -> Origin {
        let mut at = 0;
        for _ in 0..up {
            loop {
                match self.chain.get(at).map(|link| link.same) {
                    None => return Origin::Nowhere,
                    Some(Same::Perhaps) => return Origin::Climb(self.levels(), up),
                    Some(Same::Always) => at += 1,
                    Some(Same::Never) => break,
                }
            }
            at += 1;
        }
        self.chain.get(at).map_or(Origin::Nowhere, |link| self.origin(link.scope))
    }

    fn levels(&self) -> Vec<Level> {
        self.chain.iter().map(|link| Level { scope: self.scopes - link.scope, same: link.same }).collect()
    }

    fn loop_variable(&self, name: LoopName, up: usize) -> Origin {
        let rounds = self.rounds.iter().rev().map(|turn| match turn {
            Turn::Each(scope) => Round::Each(self.scopes - scope),
            Turn::Section(scope) => Round::Section(self.scopes - scope),
            Turn::Copy => Round::Copy,
        });
        Origin::Loop(name, up, rounds.collect())
    }
}

struct Expander<'u, 'f, 's> {
    units: &'u [Unit<'u>],
    files: BTreeMap<&'u str, usize>,
    places: Vec<Places<'u>>,
    known_places: HashMap<(usize, usize), LineColumn>,
    faults: &'f mut [Faults<'s>],
    /// A bound was reached.
    full: bool,
    inclusions: usize,
    tags: usize,
    text: usize,
}

impl<'u> Expander<'u, '_, '_> {
    fn body(&mut self, nodes: &'u [Node], around: &Surroundings<'u>) -> Vec<Step> {
        let mut here = around.clone();
        here.define(here.file, nodes, around);
        let mut steps = Vec::new();
        for node in nodes {
            if self.full {
                break;
            }
            match node {
                Node::Text(text) => push_text(&mut steps, text.value()),
                Node::Raw(inner) => inner.iter().for_each(|node| {
                    if let Node::Text(text) = node {
                        push_text(&mut steps, text.value());
                    }
                }),
                Node::Comment(_) | Node::Inline(_) => {}
                Node::Print(_, path, printing) => match self.path(path, &here) {
                    Expr::Lookup(lookup) => steps.push(Step::Print(lookup, *printing)),
                    _ => continue,
                },
                Node::Call(_, call, printing) => {
                    if let Some(apply) = self.apply(call, &here) {
                        steps.push(Step::Show(apply, *printing));
                    }
                }
                Node::Block(block) => self.block(block, &here, &mut steps),
                Node::Partial(partial) => self.partial(partial, &here, &mut steps),
            }
        }
        steps
    }

    // --- Blocks

    fn block(&mut self, block: &'u Block, here: &Surroundings<'u>, steps: &mut Vec<Step>) {
        let mut arms = Vec::new();
        let mut otherwise = Vec::new();
        if block.inverted {
            let Some(Branch { head: Some(head), params, body, .. }) = block.branches.first() else { return };
            let wanted = block.branches.get(1).map_or(&[][..], |branch| &branch.body);
            otherwise = match self.arm(head, params, wanted, here, &mut arms) {
                Some(always) => always,
                None => self.body(body, &here.inside()),
            };
        } else {
            for branch in &block.branches {
                let Some(head) = &branch.head else {
                    otherwise = self.body(&branch.body, &here.inside());
                    break;
                };
                if let Some(always) = self.arm(head, &branch.params, &branch.body, here, &mut arms) {
                    otherwise = always;
                    break;
                }
            }
        }
        match arms.as_slice() {
            [] => steps.append(&mut otherwise),
            _ => steps.push(Step::Block(arms, otherwise)),
        }
    }

    /// Adds an arm, unless it is known not to apply. One that is known to apply is returned instead.
    fn arm(
        &mut self,
        head: &'u syntax::Head,
        params: &[String],
        body: &'u [Node],
        here: &Surroundings<'u>,
        arms: &mut Vec<Arm>,
    ) -> Option<Vec<Step>> {
        let (head, mut inside) = match head {
            syntax::Head::Section(path) => {
                let mut inside = here.inside_scope(Same::Perhaps);
                inside.rounds.push(Turn::Section(inside.scopes));
                (Head::Section(self.path(path, here)), inside)
            }
            syntax::Head::Call(call) => match (call.name.as_str(), call.args.first()) {
                ("each", Some(over)) => {
                    let mut inside = here.inside_scope(Same::Never);
                    inside.rounds.push(Turn::Each(inside.scopes));
                    (Head::Each(self.argument(over, here)), inside)
                }
                ("with", Some(scope)) => {
                    let same = if is_this(scope) { Same::Always } else { Same::Never };
                    (Head::With(self.argument(scope, here)), here.inside_scope(same))
                }
                (name @ ("if" | "unless"), Some(test)) => {
                    let include_zero = call.hash.first().map(|named| self.argument(&named.value, here));
                    let value = self.argument(test, here);
                    (Head::Test { value, wanted: name == "if", include_zero }, here.inside())
                }
                _ => match self.apply(call, here) {
                    Some(apply) => {
                        let head = Head::Test { value: Expr::Apply(apply), wanted: true, include_zero: None };
                        (head, here.inside())
                    }
                    None => return None,
                },
            },
        };
        for (index, name) in params.iter().enumerate() {
            inside.params.push((name.clone(), inside.scopes, index == 1));
        }
        // `{{#if @partial-block}}`: known here, so that what cannot be reached need not be there.
        if let Head::Test { value: Expr::Literal(Value::Bool(truth)), wanted, .. } = &head {
            return (truth == wanted).then(|| self.body(body, &inside));
        }
        let body = self.body(body, &inside);
        arms.push(Arm { head, body });
        None
    }

    // --- Partials

    fn partial(&mut self, partial: &'u Partial, here: &Surroundings<'u>, steps: &mut Vec<Step>) {
        self.inclusions += 1;
        let mut inside = here.clone();
        inside.depth += 1;
        let enters = !partial.hash.is_empty() || partial.scope.as_ref().is_some_and(|scope| !is_this(scope));
        let entered = enters.then(|| {
            inside.scopes += 1;
            (self.scope_of(partial, here), self.named(&partial.hash, here))
        });
        let scope = if enters { inside.scopes } else { here.chain.first().map_or(0, |link| link.scope) };
        let Some(body) = self.included(partial, here, inside, scope) else { return };
        let body = match entered {
            Some((scope, names)) => vec![Step::Enter(scope, names, body)],
            None => body,
        };
        match &partial.indent {
            Some(indent) if !body.is_empty() => steps.push(Step::Indent(indent.clone(), body)),
            _ => body.into_iter().for_each(|step| match step {
                Step::Text(text) => push_text(steps, &text),
                step => steps.push(step),
            }),
        }
    }

    /// The scope of a partial: the given value, else the scope it stands in.
    fn scope_of(&mut self, partial: &Partial, here: &Surroundings<'u>) -> Expr {
        match &partial.scope {
            Some(scope) => self.argument(scope, here),
            None => Expr::Lookup(Lookup {
                origin: here.current(),
                segments: Vec::new(),
                written: partial.name.clone(),
                place: self.place(here.file, partial.name_offset),
            }),
        }
    }

    /// What stands behind the name of a partial. `inside` has its scope, if it has one of its own.
    fn included(
        &mut self,
        partial: &'u Partial,
        here: &Surroundings<'u>,
        mut inside: Surroundings<'u>,
        scope: usize,
    ) -> Option<Vec<Step>> {
        let given = partial.block.as_ref().map(|(body, _)| {
            Rc::new(Definition {
                nodes: body,
                file: here.file,
                chain: here.chain.clone(),
                params: here.params.clone(),
                block: here.block.clone(),
                included_at: here.included_at,
            })
        });
        if partial.is_callers_block()
            && let Some(block) = here.block.clone()
        {
            return Some(self.defined(&block, partial, here, inside, scope));
        }
        if let Some(block) = &given {
            inside.rounds.push(Turn::Copy);
            inside.block = Some(Rc::clone(block));
        }
        if let Some(inline) = here.inline(&partial.name) {
            inside.included_at = Some((here.file, partial));
            written_there(&inline, &mut inside, scope);
            return Some(self.bounded_body(inline.nodes, &inside, partial, here.file));
        }
        let Some(&unit) = self.files.get(partial.name.as_str()) else {
            return match given {
                Some(block) => Some(self.defined(&block, partial, here, inside, scope)),
                None => {
                    self.not_in_force(partial, here);
                    None
                }
            };
        };
        inside.included_at = Some((here.file, partial));
        // A file sees the inline partials of the place that includes it, and those of the block given to it.
        let callers = here.inlines_of(here.file).cloned().unwrap_or_default();
        inside.inlines.push((unit, callers));
        if let Some(block) = &given {
            let written = Surroundings { outside: here.chain.clone(), ..here.clone() };
            inside.define(unit, block.nodes, &written);
        }
        inside.file = unit;
        inside.chain = vec![Link { scope, same: Same::Never }];
        inside.outside = Vec::new();
        inside.params = Vec::new();
        Some(self.bounded_body(&self.units[unit].nodes, &inside, partial, here.file))
    }

    /// The block that was given to a partial.
    fn defined(
        &mut self,
        block: &Rc<Definition<'u>>,
        partial: &'u Partial,
        here: &Surroundings<'u>,
        mut inside: Surroundings<'u>,
        scope: usize,
    ) -> Vec<Step> {
        inside.rounds.push(Turn::Copy);
        inside.block.clone_from(&block.block);
        inside.included_at = block.included_at;
        written_there(block, &mut inside, scope);
        self.bounded_body(block.nodes, &inside, partial, here.file)
    }

    fn not_in_force(&mut self, partial: &Partial, here: &Surroundings<'u>) {
        let fault = |name: &str, offset: usize| match here.included_at {
            Some(_) if name == Partial::CALLERS_BLOCK => None,
            _ if name == Partial::CALLERS_BLOCK => Some(
                Problem::new(offset, "`@partial-block` stands outside a partial")
                    .hint("it is the block given to a partial"),
            ),
            _ => Some(
                Problem::new(offset, format!("the partial `{name}` is not defined here"))
                    .hint("an inline partial can be used in the block it stands in, and in partials included there"),
            ),
        };
        match (fault(&partial.name, partial.name_offset), here.included_at) {
            (Some(problem), _) => self.faults[here.file].push(problem),
            (None, Some((unit, includer))) => self.faults[unit].push(
                Problem::new(includer.name_offset, format!("the partial `{}` needs a block", includer.name))
                    .hint(format!("write `{{{{#> {0}}}}}…{{{{/{0}}}}}`", includer.name)),
            ),
            (None, None) => {}
        }
    }

    // --- Bounds

    /// The body of something included, unless the whole becomes too much.
    fn bounded_body(
        &mut self,
        nodes: &'u [Node],
        inside: &Surroundings<'u>,
        partial: &Partial,
        unit: usize,
    ) -> Vec<Step> {
        let (tags, text, depth) = size(nodes);
        self.tags += tags;
        self.text += text;
        let excess = if inside.depth + depth > MAX_NESTING {
            format!("blocks and partials nest deeper than {MAX_NESTING} in all")
        } else if self.inclusions > MAX_INCLUSIONS {
            format!("partials are included more than {MAX_INCLUSIONS} times in all")
        } else if self.tags > MAX_TAGS_IN_ALL {
            format!("there are more than {MAX_TAGS_IN_ALL} tags with the partials in place")
        } else if self.text > MAX_TEMPLATE_BYTES {
            format!("the text with its partials is over {MAX_TEMPLATE_BYTES} bytes")
        } else {
            return self.body(nodes, inside);
        };
        if !self.full {
            self.full = true;
            self.faults[unit]
                .push(Problem::new(partial.name_offset, excess).hint("include partials directly, and fewer of them"));
        }
        Vec::new()
    }

    // --- Values

    fn argument(&mut self, argument: &Argument, here: &Surroundings<'u>) -> Expr {
        match argument {
            Argument::Path(path) => self.path(path, here),
            Argument::Literal(value, _) => Expr::Literal(value.clone()),
            Argument::Call(call) => self.apply(call, here).map_or(Expr::Literal(Value::Null), Expr::Apply),
        }
    }

    fn named(&mut self, hash: &[Named], here: &Surroundings<'u>) -> Vec<(String, Expr)> {
        hash.iter().map(|named| (named.key.clone(), self.argument(&named.value, here))).collect()
    }

    /// `None` for a helper without a function, which the checks refuse.
    fn apply(&mut self, call: &syntax::Call, here: &Surroundings<'u>) -> Option<Apply> {
        let spec = catalog::find(&call.name).filter(|spec| spec.function().is_some())?;
        let place = self.place(here.file, call.offset);
        let args = call.args.iter().map(|argument| self.argument(argument, here)).collect();
        Some(Apply { spec, args, named: self.named(&call.hash, here), place })
    }

    fn path(&mut self, path: &Path, here: &Surroundings<'u>) -> Expr {
        let (origin, segments) = match &path.start {
            Start::Top => (Origin::Top, &path.segments[..]),
            Start::This => (here.current(), &path.segments[..]),
            Start::Up(up) => (here.above(*up), &path.segments[..]),
            Start::Data(0, name) if name == "partial-block" && path.segments.is_empty() => {
                return Expr::Literal(Value::Bool(here.block.is_some()));
            }
            Start::Data(up, name) => (data_variable(name, *up, here), &path.segments[..]),
            Start::Name => match path.segments.split_first() {
                Some((name, rest)) => match here.params.iter().rev().find(|(param, ..)| param == name) {
                    Some((_, scope, false)) => (Origin::Item(here.scopes - scope), rest),
                    Some((_, scope, true)) => (Origin::Key(here.scopes - scope), rest),
                    None => (here.current(), &path.segments[..]),
                },
                None => (here.current(), &path.segments[..]),
            },
        };
        let place = self.place(here.file, path.offset);
        Expr::Lookup(Lookup { origin, segments: segments.to_vec(), written: path.written.clone(), place })
    }

    fn place(&mut self, unit: usize, offset: usize) -> Place {
        let places = &mut self.places;
        let at = *self.known_places.entry((unit, offset)).or_insert_with(|| places[unit].at(offset));
        Place { unit, at }
    }
}

/// Goes to where a definition is written, with a scope of its own.
fn written_there<'u>(definition: &Definition<'u>, inside: &mut Surroundings<'u>, scope: usize) {
    inside.file = definition.file;
    inside.params.clone_from(&definition.params);
    inside.outside.clone_from(&definition.chain);
    inside.chain.clone_from(&definition.chain);
    if inside.chain.first().is_none_or(|link| link.scope != scope) {
        inside.chain.insert(0, Link { scope, same: Same::Never });
    }
}

fn data_variable(name: &str, up: usize, here: &Surroundings<'_>) -> Origin {
    let name = match name {
        "root" => return Origin::Top,
        "index" => LoopName::Index,
        "key" => LoopName::Key,
        "first" => LoopName::First,
        "last" => LoopName::Last,
        _ => return Origin::Nowhere,
    };
    here.loop_variable(name, up)
}

/// `this` or `.`: the scope that is there already.
fn is_this(argument: &Argument) -> bool {
    matches!(argument, Argument::Path(path) if path.start == Start::This && path.segments.is_empty())
}

/// Texts that come to stand side by side become one.
fn push_text(steps: &mut Vec<Step>, text: &str) {
    match steps.last_mut() {
        Some(Step::Text(before)) => before.push_str(text),
        _ if text.is_empty() => {}
        _ => steps.push(Step::Text(text.to_owned())),
    }
}

/// Tags, bytes of text and nesting of what an inclusion adds, without what it includes in turn.
fn size(nodes: &[Node]) -> (usize, usize, usize) {
    let (mut tags, mut text, mut deepest) = (0, 0, 0);
    let mut open = vec![(nodes, 0)];
    while let Some((nodes, depth)) = open.pop() {
        deepest = deepest.max(depth);
        for node in nodes {
            match node {
                Node::Text(piece) => text += piece.value().len(),
                Node::Raw(inner) => open.push((inner, depth)),
                Node::Comment(_) | Node::Inline(_) => {}
                // What a block given to a partial holds is counted where it comes to stand.
                Node::Print(..) | Node::Call(..) | Node::Partial(_) => tags += 1,
                Node::Block(block) => {
                    tags += block.branches.len() + 1;
                    open.extend(block.branches.iter().map(|branch| (&branch.body[..], depth + 1)));
                }
            }
        }
    }
    (tags, text, deepest)
}
