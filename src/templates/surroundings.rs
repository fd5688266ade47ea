//! What names mean at a place of the expanded template, and how that changes on the way into blocks and partials.
//!
//! Scopes are numbered from the bottom of the stack here, so that a number stays true further in; 0 is the top of the data.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::program::{Level, LoopName, Origin, Round, Same};
use super::syntax::{Inline, Node, Partial};

/// A scope by its number from the bottom of the stack; 0 is the top of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// Its number.
    pub scope: usize,
    /// Whether it is the same as the next one.
    pub same: Same,
}

/// What gave loop variables, by the number of its scope from the bottom.
#[derive(Debug, Clone, Copy)]
pub(super) enum Turn {
    /// `each`.
    Each(usize),
    /// A section, where its value is a list.
    Section(usize),
    /// A block given to a partial.
    Copy,
}

/// A block parameter: its name, its scope from the bottom, and whether it is the second one.
pub(super) type Param = (String, usize, bool);

/// The inline partials of one file that are in force.
pub(super) type Inlines<'u> = Rc<BTreeMap<&'u str, Rc<Definition<'u>>>>;

/// An inline partial, or a block given to a partial, with the surroundings of where it is written.
pub(super) struct Definition<'u> {
    /// What it holds.
    pub nodes: &'u [Node],
    /// Where it is written.
    pub file: usize,
    /// The scopes there.
    pub chain: Vec<Link>,
    /// The block parameters there.
    pub params: Vec<Param>,
    /// The block of the partial around a block.
    pub block: Option<Rc<Definition<'u>>>,
    /// The tag that included the file it is written in.
    pub included_at: Option<(usize, &'u Partial)>,
}

/// What names mean at some place of the expanded template.
#[derive(Clone)]
pub(super) struct Surroundings<'u> {
    /// The file that is read.
    pub file: usize,
    /// How many scopes stand on the stack, the top of the data not counted.
    pub scopes: usize,
    /// The scopes that `../` leads to, innermost first.
    pub chain: Vec<Link>,
    /// The same for what is defined here: without the scope of the block around.
    pub outside: Vec<Link>,
    /// The block parameters in force, inner ones last.
    pub params: Vec<Param>,
    /// What gave loop variables, innermost last.
    pub rounds: Vec<Turn>,
    /// By file; the last entry of a file is in force.
    pub inlines: Vec<(usize, Inlines<'u>)>,
    /// What `{{> @partial-block}}` prints.
    pub block: Option<Rc<Definition<'u>>>,
    /// Nesting of blocks and partials.
    pub depth: usize,
    /// The tag that included this file.
    pub included_at: Option<(usize, &'u Partial)>,
}

impl<'u> Surroundings<'u> {
    /// The inline partials of a file.
    pub fn inlines_of(&self, file: usize) -> Option<&Inlines<'u>> {
        self.inlines.iter().rev().find(|(of, _)| *of == file).map(|(_, inlines)| inlines)
    }

    /// An inline partial that is in force.
    pub fn inline(&self, name: &str) -> Option<Rc<Definition<'u>>> {
        self.inlines_of(self.file)?.get(name).cloned()
    }

    /// Adds the inline partials that stand among these nodes to those of a file.
    pub fn define(&mut self, file: usize, nodes: &'u [Node], written: &Surroundings<'u>) {
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
    pub fn inside(&self) -> Surroundings<'u> {
        Surroundings { outside: self.chain.clone(), depth: self.depth + 1, ..self.clone() }
    }

    /// Inside a block that pushes one.
    pub fn inside_scope(&self, same: Same) -> Surroundings<'u> {
        let mut inside = self.inside();
        inside.scopes += 1;
        inside.chain.insert(0, Link { scope: inside.scopes, same });
        inside
    }

    /// The number of a scope from the innermost, or the top of the data.
    fn origin(&self, scope: usize) -> Origin {
        if scope == 0 { Origin::Top } else { Origin::Scope(self.scopes - scope) }
    }

    /// The scope here.
    pub fn current(&self) -> Origin {
        self.chain.first().map_or(Origin::Nowhere, |link| self.origin(link.scope))
    }

    /// Where so many `../` lead.
    pub fn above(&self, up: usize) -> Origin {
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

    /// What `@name` means, so many `../` up.
    pub fn data_variable(&self, name: &str, up: usize) -> Origin {
        let name = match name {
            "root" => return Origin::Top,
            "index" => LoopName::Index,
            "key" => LoopName::Key,
            "first" => LoopName::First,
            "last" => LoopName::Last,
            _ => return Origin::Nowhere,
        };
        let rounds = self.rounds.iter().rev().map(|turn| match turn {
            Turn::Each(scope) => Round::Each(self.scopes - scope),
            Turn::Section(scope) => Round::Section(self.scopes - scope),
            Turn::Copy => Round::Copy,
        });
        Origin::Loop(name, up, rounds.collect())
    }

    /// Goes to where a definition is written, with a scope of its own.
    pub fn go_to(&mut self, definition: &Definition<'u>, scope: usize) {
        self.file = definition.file;
        self.params.clone_from(&definition.params);
        self.outside.clone_from(&definition.chain);
        self.chain.clone_from(&definition.chain);
        if self.chain.first().is_none_or(|link| link.scope != scope) {
            self.chain.insert(0, Link { scope, same: Same::Never });
        }
    }
}
