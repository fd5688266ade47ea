//! The syntax tree of one template file: what the author wrote, with byte offsets into the author's own text.
//!
//! Invariants: blocks nest at most [`MAX_NESTING`] deep and so do sub-expressions, so that code may recurse over a tree.

use std::ops::Range;

use serde_json::Value;

/// Deepest nesting of blocks, of sub-expressions, and of blocks through partials. Recursion stays far from the 2 MiB
/// stack of a worker thread.
pub(super) const MAX_NESTING: usize = 100;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Node {
    /// Text as it stands, after escaped mustaches were taken out; white space control may trim it.
    Text(Text),
    /// `{{{{raw}}}}…{{{{/raw}}}}`: its content is text.
    Raw(Vec<Node>),
    /// A comment; it can stand alone on its line.
    Comment(Tag),
    /// A bare path: its value is printed.
    Print(Tag, Path, Printing),
    /// A helper's result is printed.
    Call(Tag, Call, Printing),
    /// `{{#if}}` and its relatives, sections `{{#x}}` and `{{^x}}`.
    Block(Block),
    /// `{{> name}}` or `{{#> name}}…{{/name}}`.
    Partial(Partial),
    /// `{{#*inline "name"}}…{{/inline}}`.
    Inline(Inline),
}

/// A piece of text and what white space control left of it.
#[derive(Debug)]
pub(super) struct Text {
    /// As the author wrote it.
    pub original: String,
    /// The part that is printed.
    pub kept: Range<usize>,
    /// A standalone tag after it took its indentation.
    pub left_stripped: bool,
    /// A standalone tag before it took the rest of its line.
    pub right_stripped: bool,
}

impl Text {
    /// Text of which everything is kept.
    pub fn new(original: &str) -> Text {
        Text { original: original.to_owned(), kept: 0..original.len(), left_stripped: false, right_stripped: false }
    }

    /// What is printed.
    pub fn value(&self) -> &str {
        &self.original[self.kept.clone()]
    }
}

/// Where a tag stands and which white space it takes with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    /// Byte offset of its first brace.
    pub offset: usize,
    /// `{{~`.
    pub trim_before: bool,
    /// `~}}`.
    pub trim_after: bool,
}

/// Whether a printed value is escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Printing {
    /// `{{x}}`
    Escaped,
    /// `{{{x}}}` or `{{&x}}`
    Raw,
}

/// A block with its `else` branches, in order.
#[derive(Debug)]
pub(super) struct Block {
    /// `{{^x}}`: the first branch is for where `x` does not hold, an `{{else}}` for where it does.
    pub inverted: bool,
    /// The first has a head; later ones have one for `{{else if x}}`.
    pub branches: Vec<Branch>,
    /// The closing tag.
    pub close: Tag,
}

/// One branch of a block.
#[derive(Debug)]
pub(super) struct Branch {
    /// `{{#if x}}`, `{{else if x}}` or `{{else}}`.
    pub tag: Tag,
    /// `None` for a plain `{{else}}`.
    pub head: Option<Head>,
    /// `as |a b|`.
    pub params: Vec<String>,
    /// What it holds.
    pub body: Vec<Node>,
}

/// What decides over a branch.
#[derive(Debug)]
pub(super) enum Head {
    /// A helper: `if x`, `each x`, `eq a b`.
    Call(Call),
    /// A section: the kind of the value decides.
    Section(Path),
}

impl Head {
    /// Byte offset of its first character.
    pub fn offset(&self) -> usize {
        match self {
            Head::Call(call) => call.offset,
            Head::Section(path) => path.offset,
        }
    }
}

/// The inclusion of another template.
#[derive(Debug)]
pub(super) struct Partial {
    /// The tag, the opening one where there is a block.
    pub tag: Tag,
    /// The name as written; `@partial-block` is the caller's block.
    pub name: String,
    /// Byte offset of the name.
    pub name_offset: usize,
    /// The value that becomes its scope.
    pub scope: Option<Argument>,
    /// Names added to its scope.
    pub hash: Vec<Named>,
    /// The block given with it, and its closing tag.
    pub block: Option<(Vec<Node>, Tag)>,
    /// What every line of it begins with, where it stands alone on an indented line.
    pub indent: Option<String>,
}

impl Partial {
    /// The name of the block that the caller gave.
    pub const CALLERS_BLOCK: &'static str = "@partial-block";

    /// Whether this prints the block that the caller gave.
    pub fn is_callers_block(&self) -> bool {
        self.name == Partial::CALLERS_BLOCK
    }
}

/// A partial that is defined inside a template.
#[derive(Debug)]
pub(super) struct Inline {
    /// The opening tag.
    pub tag: Tag,
    /// Its name.
    pub name: String,
    /// What it holds.
    pub body: Vec<Node>,
    /// The closing tag.
    pub close: Tag,
}

/// A helper call: the tag's own, or a sub-expression.
#[derive(Debug)]
pub(super) struct Call {
    /// The helper's name.
    pub name: String,
    /// Byte offset of the name.
    pub offset: usize,
    /// Positional arguments.
    pub args: Vec<Argument>,
    /// `key=value` arguments.
    pub hash: Vec<Named>,
}

/// A `key=value` argument.
#[derive(Debug)]
pub(super) struct Named {
    /// The key.
    pub key: String,
    /// Byte offset of the key.
    pub offset: usize,
    /// The value.
    pub value: Argument,
}

/// What a helper is given.
#[derive(Debug)]
pub(super) enum Argument {
    /// A value of the scope.
    Path(Path),
    /// A literal and its byte offset.
    Literal(Value, usize),
    /// A sub-expression.
    Call(Call),
}

impl Argument {
    /// Byte offset of its first character.
    pub fn offset(&self) -> usize {
        match self {
            Argument::Path(path) => path.offset,
            Argument::Literal(_, offset) => *offset,
            Argument::Call(call) => call.offset,
        }
    }
}

/// A path to a value.
#[derive(Debug, Clone)]
pub(super) struct Path {
    /// Where it starts.
    pub start: Start,
    /// Names from there on.
    pub segments: Vec<String>,
    /// As the author wrote it.
    pub written: String,
    /// Byte offset of its first character.
    pub offset: usize,
}

/// Where a path starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// A plain name: a block parameter, or a name of the scope it stands in.
    Name,
    /// `this`, `./`
    This,
    /// As many `../`.
    Up(usize),
    /// The top of the data: `@root`, `${name}`, `api_trigger_properties.${name}`, `custom_attribute.${name}`.
    Top,
    /// `@index` and its relatives, this many blocks up.
    Data(usize, String),
}

impl Path {
    /// The name, if the path is nothing but one plain name: only such a path can mean a helper.
    pub fn plain_name(&self) -> Option<&str> {
        match (&self.start, self.segments.as_slice()) {
            (Start::Name, [name]) if *name == self.written => Some(name),
            _ => None,
        }
    }
}
