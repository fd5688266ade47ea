//! Writes a checked tree as source for the `handlebars` crate.
//!
//! Tags stay where they were, so that the crate's white space rules see what the author wrote; what stands inside them
//! changes:
//!
//! | Author | For the crate |
//! |---|---|
//! | `{{${first_name}}}` | `{{:p 7}}`: prints the path of site 7, or stops there |
//! | `{{#if (eq a "x")}}` | `{{#if (eq 8 (:v 9) "x")}}`: the value of the path of site 9 |
//! | `{{upper name}}` | `{{:s (upper 8 (:v 9))}}`: prints a result our way |
//! | `\{{x}}`, raw blocks | `{{{:t 0}}}`: text 0 as it stands |
//! | `{{#each items}}` | `{{#each (:v 3) 120}}`: 120 is what one round costs |
//! | `{{> emails/head}}` | `{{> p4}}` |
//!
//! A colon cannot begin a helper that an author may call, so these names are ours alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::error::LineColumn;

use super::Unit;
use super::budget::CALL_COST;
use super::graph::{Graph, Measure};
use super::places::Places;
use super::syntax::{Argument, Block, Branch, Call, Named, Node, Partial, Path, Printing, Tag};

/// What one included partial costs, in the unit of [`super::budget`]: the crate copies its scope.
const INCLUSION_COST: u64 = 1_000;

/// What one round of a loop costs beside what it holds.
const ROUND_COST: u64 = 64;

/// A place in the author's text that a render may have to name.
#[derive(Debug)]
pub(super) struct Site {
    /// The path that stands there; `None` for a helper.
    pub path: Option<Path>,
    /// Whether the way to the value is wanted, because it becomes a block's scope.
    pub keeps_way: bool,
    /// Index of the file.
    pub unit: usize,
    /// Where.
    pub at: LineColumn,
}

/// Everything that emitted source refers to by number.
#[derive(Debug, Default)]
pub(super) struct Sites {
    /// Places.
    pub sites: Vec<Site>,
    /// Texts that are printed as they stand.
    pub texts: Vec<String>,
    /// File names by unit.
    pub files: Vec<String>,
}

/// Source for the crate, and where its tags come from.
pub(super) struct Emitted {
    /// The source.
    pub text: String,
    /// Offsets in `text` of its tags, ascending, with their offsets in the author's text.
    pub map: Vec<(usize, usize)>,
}

impl Emitted {
    /// The author's offset of a line and column of the source: that of the last tag before it.
    pub fn original(&self, line: usize, column: usize) -> usize {
        let line_start: usize = self.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let offset = line_start + column.saturating_sub(1);
        let after = self.map.partition_point(|(emitted, _)| *emitted <= offset);
        after.checked_sub(1).map_or(0, |index| self.map[index].1)
    }
}

/// The name that the crate knows a partial by.
pub(super) fn partial_name(number: usize) -> String {
    format!("p{number}")
}

/// Emits one unit.
pub(super) fn emit(
    unit: usize,
    units: &[Unit<'_>],
    graph: &Graph<'_>,
    names: &BTreeMap<&str, usize>,
    sites: &mut Sites,
) -> Emitted {
    let mut emitter = Emitter {
        out: String::with_capacity(units[unit].source.text.len() * 2),
        map: Vec::new(),
        places: Places::new(&units[unit].source.text),
        unit,
        graph,
        names,
        sites,
    };
    emitter.nodes(&units[unit].nodes);
    Emitted { text: emitter.out, map: emitter.map }
}

struct Emitter<'a> {
    out: String,
    map: Vec<(usize, usize)>,
    places: Places<'a>,
    unit: usize,
    graph: &'a Graph<'a>,
    names: &'a BTreeMap<&'a str, usize>,
    sites: &'a mut Sites,
}

impl Emitter<'_> {
    fn nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Verbatim(text) => self.verbatim(text),
                Node::Comment => {
                    self.shield_backslash();
                    self.out.push_str("{{!}}");
                }
                Node::Print(tag, path, printing) => {
                    let site = self.path_site(path, false);
                    self.printed(*tag, *printing, |out| out.push_str(&format!(":p {site}")));
                }
                Node::Call(tag, call, printing) => {
                    let text = self.aside(|emitter| emitter.call(call));
                    self.printed(*tag, *printing, |out| out.push_str(&format!(":s {text}")));
                }
                Node::Block(block) => self.block(block),
                Node::Partial(partial) => self.partial(partial),
                Node::Inline(inline) => {
                    let name = self.number(&inline.name);
                    self.tag(inline.tag, |out| out.push_str(&format!("#*inline \"{name}\"")));
                    self.nodes(&inline.body);
                    self.tag(inline.close, |out| out.push_str("/inline"));
                }
            }
        }
    }

    /// The crate takes a backslash off where two or more stand before a tag, and one would escape the tag.
    fn shield_backslash(&mut self) {
        if self.out.ends_with('\\') {
            self.out.push('\\');
        }
    }

    fn tag(&mut self, tag: Tag, inner: impl FnOnce(&mut String)) {
        self.shield_backslash();
        self.map.push((self.out.len(), tag.offset));
        self.out.push_str(if tag.trim_before { "{{~" } else { "{{" });
        inner(&mut self.out);
        self.out.push_str(if tag.trim_after { "~}}" } else { "}}" });
    }

    fn printed(&mut self, tag: Tag, printing: Printing, inner: impl FnOnce(&mut String)) {
        self.tag(tag, |out| match printing {
            Printing::Escaped => inner(out),
            Printing::Raw => {
                out.push('{');
                inner(out);
                out.push('}');
            }
        });
    }

    /// Braces just before it go with it: the crate would read four in a row as a raw block.
    fn verbatim(&mut self, text: &str) {
        let braces = self.out.len() - self.out.trim_end_matches('{').len();
        self.out.truncate(self.out.len() - braces);
        self.shield_backslash();
        let _ = write!(self.out, "{{{{{{:t {}}}}}}}", self.sites.texts.len());
        self.sites.texts.push("{".repeat(braces) + text);
    }

    fn block(&mut self, block: &Block) {
        for (index, branch) in block.branches.iter().enumerate() {
            let inner = branch.call.as_ref().map(|call| self.aside(|emitter| emitter.block_call(call, branch)));
            self.tag(branch.tag, |out| match (index, &inner) {
                (0, inner) => out.push_str(&format!("#{}", inner.as_deref().unwrap_or_default())),
                (_, Some(inner)) => out.push_str(&format!("else {inner}")),
                (_, None) => out.push_str("else"),
            });
            self.nodes(&branch.body);
        }
        self.tag(block.close, |out| out.push_str(&format!("/{}", block.name)));
    }

    fn block_call(&mut self, call: &Call, branch: &Branch) {
        self.out.push_str(&call.name);
        self.arguments(&call.args, &call.hash, true);
        if call.name == "each" {
            let cost = cost_of_round(self.graph.measure(&branch.body));
            let _ = write!(self.out, " {cost}");
        }
        if !branch.params.is_empty() {
            let _ = write!(self.out, " as |{}|", branch.params.join(" "));
        }
    }

    /// What `write` emits, by itself.
    fn aside(&mut self, write: impl FnOnce(&mut Self)) -> String {
        let before = std::mem::take(&mut self.out);
        write(self);
        std::mem::replace(&mut self.out, before)
    }

    fn partial(&mut self, partial: &Partial) {
        let name = self.number(&partial.name);
        let sigil = if partial.block.is_some() { "#>" } else { ">" };
        let arguments = self.aside(|emitter| emitter.arguments(partial.scope.as_slice(), &partial.hash, true));
        self.tag(partial.tag, |out| out.push_str(&format!("{sigil} {name}{arguments}")));
        if let Some((body, close)) = &partial.block {
            self.nodes(body);
            self.tag(*close, |out| out.push_str(&format!("/{name}")));
        }
    }

    /// A name without a definition has a block that stands in for it.
    fn number(&self, name: &str) -> String {
        match self.names.get(name) {
            _ if name == Partial::CALLERS_BLOCK => name.to_owned(),
            Some(number) => partial_name(*number),
            None => "undefined".to_owned(),
        }
    }

    fn arguments(&mut self, args: &[Argument], hash: &[Named], keeps_way: bool) {
        for argument in args {
            self.out.push(' ');
            self.argument(argument, keeps_way);
        }
        for named in hash {
            let _ = write!(self.out, " {}=", named.key);
            self.argument(&named.value, false);
        }
    }

    fn argument(&mut self, argument: &Argument, keeps_way: bool) {
        match argument {
            Argument::Path(path) => {
                let site = self.path_site(path, keeps_way);
                let _ = write!(self.out, "(:v {site})");
            }
            Argument::Literal(value, _) => {
                let _ = write!(self.out, "{value}");
            }
            Argument::Call(call) => self.call(call),
        }
    }

    fn call(&mut self, call: &Call) {
        let site = self.site(None, call.offset, false);
        let _ = write!(self.out, "({} {site}", call.name);
        self.arguments(&call.args, &call.hash, false);
        self.out.push(')');
    }

    fn path_site(&mut self, path: &Path, keeps_way: bool) -> usize {
        self.site(Some(path.clone()), path.offset, keeps_way)
    }

    fn site(&mut self, path: Option<Path>, offset: usize, keeps_way: bool) -> usize {
        let at = self.places.at(offset);
        self.sites.sites.push(Site { path, keeps_way, unit: self.unit, at });
        self.sites.sites.len() - 1
    }
}

fn cost_of_round(body: Measure) -> u64 {
    let values = body.prints.saturating_mul(CALL_COST);
    let partials = body.inclusions.saturating_mul(INCLUSION_COST);
    body.text.saturating_add(values).saturating_add(partials).saturating_add(ROUND_COST)
}
