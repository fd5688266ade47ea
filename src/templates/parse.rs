//! Splits a template into text and tags and builds the tree of blocks, with every fault at the author's own place.
//!
//! No recursion over blocks: open ones stand on a stack of at most [`MAX_NESTING`], so that no text can overflow the
//! thread's stack. After a fault the reader goes on behind the broken tag; faults that only follow from it (a closing
//! tag whose opening tag was broken) are not reported.
//!
//! Text is cut into the same pieces as the JavaScript lexer cuts it: its white space rules look at whole pieces.

use crate::error::{Fault, LineColumn};

use super::TemplateSource;
use super::catalog;
use super::expression::{Cursor, Problem};
use super::syntax::{Block, Branch, Call, Head, Inline, MAX_NESTING, Node, Partial, Printing, Tag, Text};

/// Faults of one file beyond this many are not listed: they would hide the first ones.
const MAX_FAULTS: usize = 100;

/// Most tags of one file.
const MAX_TAGS: usize = 10_000;

/// Most tags times bytes of one file: the crate's parser takes about a nanosecond for each, so about two seconds.
const MAX_TAGS_TIMES_BYTES: usize = 2 << 30;

/// Collects the faults of one file.
pub(super) struct Faults<'t> {
    source: &'t TemplateSource,
    found: Vec<Fault>,
}

impl<'t> Faults<'t> {
    /// No faults yet.
    pub fn new(source: &'t TemplateSource) -> Faults<'t> {
        Faults { source, found: Vec::new() }
    }

    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        if !self.is_full() {
            let mut fault = Fault::new(&self.source.file, problem.message).at_offset(&self.source.text, problem.offset);
            fault.hint = problem.hint;
            self.found.push(fault);
        }
    }

    /// Whether further ones would not be listed.
    pub fn is_full(&self) -> bool {
        self.found.len() >= MAX_FAULTS
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them, in the order of the text.
    pub fn into_sorted(mut self) -> Vec<Fault> {
        self.found.sort_by_key(|fault| fault.at);
        self.found
    }
}

/// Parses one file. Faults are added to `faults`; the tree holds whatever could be read.
pub(super) fn parse(text: &str, faults: &mut Faults<'_>) -> Vec<Node> {
    let mut parser = Parser { text, at: 0, root: Vec::new(), stack: Vec::new(), faults, broken_structure: false };
    parser.run();
    parser.finish()
}

/// A block that is not closed yet.
enum Open {
    Block { name: String, inverted: bool, branches: Vec<Branch>, tag: Tag, head: Option<Head>, params: Vec<String> },
    Partial(Partial),
    Inline { tag: Tag, name: String },
}

struct Frame {
    open: Open,
    body: Vec<Node>,
}

impl Frame {
    /// What its closing tag must say.
    fn closing_name(&self) -> &str {
        match &self.open {
            Open::Block { name, .. } => name,
            Open::Partial(partial) => &partial.name,
            Open::Inline { .. } => "inline",
        }
    }

    /// How its opening tag reads, and where it is.
    fn opening(&self) -> (String, usize) {
        match &self.open {
            Open::Block { name, inverted, branches, tag, .. } => {
                let sigil = if *inverted { '^' } else { '#' };
                (format!("{{{{{sigil}{name}}}}}"), branches.first().map_or(tag.offset, |branch| branch.tag.offset))
            }
            Open::Partial(partial) => (format!("{{{{#> {}}}}}", partial.name), partial.tag.offset),
            Open::Inline { tag, .. } => ("{{#*inline}}".to_owned(), tag.offset),
        }
    }

    fn into_node(self, close: Tag) -> Node {
        match self.open {
            Open::Block { inverted, mut branches, tag, head, params, .. } => {
                branches.push(Branch { tag, head, params, body: self.body });
                Node::Block(Block { inverted, branches, close })
            }
            Open::Partial(partial) => Node::Partial(Partial { block: Some((self.body, close)), ..partial }),
            Open::Inline { tag, name } => Node::Inline(Inline { tag, name, body: self.body, close }),
        }
    }
}

/// What reading a tag came to.
enum Step {
    Next,
    /// Nothing more can be read: nesting went too deep.
    Stop,
}

struct Parser<'t, 'f, 's> {
    text: &'t str,
    at: usize,
    root: Vec<Node>,
    stack: Vec<Frame>,
    faults: &'f mut Faults<'s>,
    /// An opening or closing tag could not be read, so the structure is not judged.
    broken_structure: bool,
}

impl<'t> Parser<'t, '_, '_> {
    fn run(&mut self) {
        let most = MAX_TAGS.min(MAX_TAGS_TIMES_BYTES / self.text.len().max(1));
        let mut tags = 0;
        while let Some(open) = self.text[self.at..].find("{{").map(|found| self.at + found) {
            tags += 1;
            if tags > most {
                self.faults.push(
                    Problem::new(open, format!("there are more than {most} tags in a template of this size"))
                        .hint("repeat with `{{#each}}`, or split the template"),
                );
            }
            if tags > most || self.faults.is_full() {
                self.broken_structure = true;
                return self.at = self.text.len();
            }
            let before = &self.text[self.at..open];
            let backslashes = before.len() - before.trim_end_matches('\\').len();
            self.push_text(&before[..before.len() - backslashes.min(1)]);
            if backslashes == 1 {
                self.escaped(open);
                continue;
            }
            match self.tag(open) {
                Ok(Step::Next) => {}
                Ok(Step::Stop) => return self.at = self.text.len(),
                Err(problem) => self.recover(open, problem),
            }
        }
        let rest = &self.text[self.at..];
        self.push_text(rest);
    }

    /// The text of an escaped tag and what follows it, up to the next tag and the backslashes that belong to that.
    fn escaped(&mut self, open: usize) {
        let rest = &self.text[open + 2..];
        let length = rest.find("{{").map_or(rest.len(), |found| {
            let before = &rest[..found];
            found - (before.len() - before.trim_end_matches('\\').len()).min(2)
        });
        self.at = open + 2 + length;
        self.push_text(&self.text[open..self.at]);
    }

    /// Reports the problem of a tag and goes on behind it.
    fn recover(&mut self, open: usize, problem: Problem) {
        let inner = self.text[open + 2..].trim_start_matches('~');
        self.broken_structure |= inner.starts_with(['#', '/', '^']) || inner.trim_start().starts_with("else");
        let from = problem.offset.max(open + 2).min(self.text.len());
        self.at = match self.text[from..].find("}}") {
            Some(found) => {
                let end = from + found + 2;
                end + usize::from(self.text[end..].starts_with('}'))
            }
            None => self.text.len(),
        };
        self.faults.push(problem);
    }

    fn push(&mut self, node: Node) {
        match self.stack.last_mut() {
            Some(frame) => frame.body.push(node),
            None => self.root.push(node),
        }
    }

    fn push_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.push(Node::Text(Text::new(text)));
        }
    }

    fn tag(&mut self, open: usize) -> Result<Step, Problem> {
        if self.text[open..].starts_with("{{{{") {
            return self.raw_block(open);
        }
        let mut cursor = Cursor::new(self.text, open + 2);
        let tag = Tag { offset: open, trim_before: cursor.eat("~"), trim_after: false };
        match cursor.peek() {
            Some('!') => self.comment(tag, cursor),
            Some('#') => self.opening(tag, cursor),
            Some('/') => self.closing(tag, cursor),
            Some('^') => self.caret(tag, cursor),
            Some('>') => self.partial_tag(tag, cursor),
            Some('*') => Err(Problem::new(open, "decorators are not supported")
                .hint("only `{{#*inline \"name\"}}…{{/inline}}` is; set values before the run instead")),
            Some('{') => {
                cursor.at += 1;
                let trim_before = cursor.eat("~") || tag.trim_before;
                self.printed(Tag { trim_before, ..tag }, cursor, "}")
            }
            Some('&') => {
                cursor.at += 1;
                self.printed(tag, cursor, "&")
            }
            _ => {
                cursor.skip_space();
                if cursor.at_word("else") { self.otherwise(tag, cursor, 4) } else { self.printed(tag, cursor, "") }
            }
        }
    }

    /// The end of a tag: `}}`, after an optional `~`, and for `{{{` a third brace.
    fn end(&mut self, mut tag: Tag, mut cursor: Cursor<'t>, triple: bool) -> Result<Tag, Problem> {
        cursor.skip_space();
        let mut trim_after = false;
        if triple {
            trim_after = cursor.eat("~");
            if cursor.rest().starts_with("}}") && !cursor.rest().starts_with("}}}") {
                return Err(Problem::new(tag.offset, "this tag opens with three braces and closes with two")
                    .hint("close it with `}}}`"));
            }
            if !cursor.eat("}") {
                return Err(not_closed(&cursor, tag, "}}}"));
            }
        }
        trim_after |= cursor.eat("~");
        if !cursor.eat("}}") {
            let expected = if triple { "}}}" } else { "}}" };
            return Err(not_closed(&cursor, tag, expected));
        }
        tag.trim_after = trim_after;
        self.at = cursor.at;
        Ok(tag)
    }

    /// `{{x}}`, `{{{x}}}`, `{{&x}}`, `{{helper x}}`.
    fn printed(&mut self, tag: Tag, mut cursor: Cursor<'t>, kind: &str) -> Result<Step, Problem> {
        let printing = if kind.is_empty() { Printing::Escaped } else { Printing::Raw };
        cursor.skip_space();
        let at = cursor.at;
        match cursor.peek() {
            Some('(') => {
                return Err(Problem::new(at, "a sub-expression cannot stand for a name")
                    .hint("write the helper without parentheses: `{{helper value}}`"));
            }
            Some('"' | '\'') => {
                return Err(Problem::new(at, "a string is not a value to print").hint("write it as plain text"));
            }
            _ => {}
        }
        let path = cursor.path()?;
        cursor.expect_delimiter()?;
        let (args, hash) = cursor.arguments(0)?;
        let tag = self.end(tag, cursor, kind == "}")?;
        let bare = args.is_empty() && hash.is_empty();
        let node = match path.plain_name() {
            Some(name) if !bare || (catalog::is_known(name) && !self.is_block_param(name)) => {
                Node::Call(tag, Call { name: name.to_owned(), offset: path.offset, args, hash }, printing)
            }
            None if !bare => {
                return Err(Problem::new(path.offset, format!("`{}` is not the name of a helper", path.written))
                    .hint("only a helper takes arguments"));
            }
            _ => Node::Print(tag, path, printing),
        };
        self.push(node);
        Ok(Step::Next)
    }

    /// `name args as |a b|` of a block or an `else`, and how its closing tag names it.
    fn head(&self, mut cursor: Cursor<'t>) -> Result<(String, Head, Vec<String>, Cursor<'t>), Problem> {
        cursor.skip_space();
        let path = cursor.path()?;
        cursor.expect_delimiter()?;
        let (args, hash) = cursor.arguments(0)?;
        let params = cursor.block_params()?;
        let bare = args.is_empty() && hash.is_empty();
        let written = path.written.clone();
        let head = match path.plain_name() {
            Some(name) if !bare || (catalog::is_known(name) && !self.is_block_param(name)) => {
                Head::Call(Call { name: name.to_owned(), offset: path.offset, args, hash })
            }
            _ if bare => Head::Section(path),
            _ => {
                return Err(Problem::new(path.offset, format!("`{written}` is not a block helper")).hint(format!(
                    "write `{{{{#each {written}}}}}`, `{{{{#with {written}}}}}` or `{{{{#if {written}}}}}`"
                )));
            }
        };
        Ok((written, head, params, cursor))
    }

    fn is_block_param(&self, name: &str) -> bool {
        self.stack.iter().any(|frame| match &frame.open {
            Open::Block { params, .. } => params.iter().any(|param| param == name),
            _ => false,
        })
    }

    /// `{{! … }}` or `{{!-- … --}}`.
    fn comment(&mut self, tag: Tag, cursor: Cursor<'t>) -> Result<Step, Problem> {
        let inner = &cursor.rest()[1..];
        let dashes = inner.starts_with("--");
        let closing = |end: &&str| inner.find(*end).map(|found| (found, end.len()));
        let ends: &[&str] = if dashes { &["--}}", "--~}}"] } else { &["}}"] };
        let Some((found, length)) = ends.iter().filter_map(closing).min() else {
            let close = if dashes { "--}}" } else { "}}" };
            return Err(Problem::new(tag.offset, "this comment is never closed").hint(format!("add `{close}`")));
        };
        self.at = cursor.at + 1 + found + length;
        let trim_after = self.text[..self.at - 2].ends_with('~');
        self.push(Node::Comment(Tag { trim_after, ..tag }));
        Ok(Step::Next)
    }

    /// `{{{{raw}}}} … {{{{/raw}}}}`: its content is printed as it stands.
    fn raw_block(&mut self, open: usize) -> Result<Step, Problem> {
        let inner = open + 4;
        let name_end = self.text[inner..].find("}}}}").map(|found| inner + found);
        let name = name_end.map(|end| self.text[inner..end].trim());
        let (Some(name_end), Some("raw")) = (name_end, name) else {
            return Err(Problem::new(open, "only `{{{{raw}}}}` opens a raw block")
                .hint("write `{{{{raw}}}}…{{{{/raw}}}}` for text that is printed as it stands"));
        };
        let (content, close) = (name_end + 4, "{{{{/raw}}}}");
        let Some(found) = self.text[content..].find(close) else {
            return Err(Problem::new(open, "this raw block is never closed").hint(format!("add `{close}`")));
        };
        let inner = &self.text[content..content + found];
        let inner = if inner.is_empty() { Vec::new() } else { vec![Node::Text(Text::new(inner))] };
        self.push(Node::Raw(inner));
        self.at = content + found + close.len();
        Ok(Step::Next)
    }

    /// `{{#if x}}`, `{{#x}}`, `{{#*inline "x"}}`, `{{#> x}}`.
    fn opening(&mut self, tag: Tag, mut cursor: Cursor<'t>) -> Result<Step, Problem> {
        cursor.at += 1;
        let frame = if cursor.eat("*") {
            self.inline(tag, cursor)?
        } else if cursor.eat(">") {
            let (partial, cursor) = partial(tag, cursor)?;
            let tag = self.end(tag, cursor, false)?;
            Frame { open: Open::Partial(Partial { tag, ..partial }), body: Vec::new() }
        } else {
            self.block(tag, cursor, false)?
        };
        self.open(tag, frame)
    }

    /// `{{#if x}}`, `{{#x}}`, `{{^x}}`, after the sigil.
    fn block(&mut self, tag: Tag, cursor: Cursor<'t>, inverted: bool) -> Result<Frame, Problem> {
        let (name, head, params, cursor) = self.head(cursor)?;
        let tag = self.end(tag, cursor, false)?;
        let open = Open::Block { name, inverted, branches: Vec::new(), tag, head: Some(head), params };
        Ok(Frame { open, body: Vec::new() })
    }

    fn open(&mut self, tag: Tag, frame: Frame) -> Result<Step, Problem> {
        if self.stack.len() == MAX_NESTING {
            self.faults.push(
                Problem::new(tag.offset, format!("blocks nest deeper than {MAX_NESTING}"))
                    .hint("close blocks before opening new ones; `{{else if}}` does not nest"),
            );
            self.broken_structure = true;
            return Ok(Step::Stop);
        }
        self.stack.push(frame);
        Ok(Step::Next)
    }

    fn inline(&mut self, tag: Tag, mut cursor: Cursor<'t>) -> Result<Frame, Problem> {
        cursor.skip_space();
        let at = cursor.at;
        let hint = "only `{{#*inline \"name\"}}…{{/inline}}` is";
        let name = cursor.helper_name()?;
        if name.written != "inline" {
            return Err(Problem::new(at, format!("the decorator `{}` is not supported", name.written)).hint(hint));
        }
        cursor.skip_space();
        let Some(quote @ ('"' | '\'')) = cursor.peek() else {
            return Err(Problem::new(cursor.at, "an inline partial needs a name in quotes")
                .hint("write `{{#*inline \"name\"}}`"));
        };
        let name = cursor.string(quote)?;
        let tag = self.end(tag, cursor, false)?;
        Ok(Frame { open: Open::Inline { tag, name }, body: Vec::new() })
    }

    /// `{{else}}`, `{{else if x}}`.
    fn otherwise(&mut self, tag: Tag, mut cursor: Cursor<'t>, keyword: usize) -> Result<Step, Problem> {
        cursor.at += keyword;
        cursor.skip_space();
        let (head, params, cursor) = match cursor.peek() {
            Some('}' | '~') => (None, Vec::new(), cursor),
            _ => {
                let (_, head, params, cursor) = self.head(cursor)?;
                (Some(head), params, cursor)
            }
        };
        let tag = self.end(tag, cursor, false)?;
        match self.stack.last_mut() {
            Some(Frame {
                open: Open::Block { inverted, branches, tag: open, head: current, params: names, .. },
                body,
            }) => {
                if current.is_none() {
                    return Err(Problem::new(tag.offset, "there is an `{{else}}` before this one")
                        .hint("`{{else if …}}` goes before the `{{else}}`"));
                }
                if *inverted && head.is_some() {
                    return Err(Problem::new(tag.offset, "a block that begins with `{{^` has a plain `{{else}}` only")
                        .hint("begin with `{{#unless …}}`, or put a block inside the `{{else}}`"));
                }
                branches.push(Branch {
                    tag: std::mem::replace(open, tag),
                    head: std::mem::replace(current, head),
                    params: std::mem::replace(names, params),
                    body: std::mem::take(body),
                });
                Ok(Step::Next)
            }
            _ if self.broken_structure => Ok(Step::Next),
            _ => Err(Problem::new(tag.offset, "this `{{else}}` stands outside a block")),
        }
    }

    /// `{{^}}`, which is `{{else}}`, or `{{^x}}`.
    fn caret(&mut self, tag: Tag, mut cursor: Cursor<'t>) -> Result<Step, Problem> {
        if cursor.rest()[1..].trim_start().starts_with(['}', '~']) {
            return self.otherwise(tag, cursor, 1);
        }
        cursor.at += 1;
        let frame = self.block(tag, cursor, true)?;
        self.open(tag, frame)
    }

    /// `{{/if}}`
    fn closing(&mut self, tag: Tag, mut cursor: Cursor<'t>) -> Result<Step, Problem> {
        cursor.at += 1;
        cursor.skip_space();
        let written = closing_name(cursor.rest());
        cursor.at += written.len();
        let name = written.trim().trim_matches(['"', '\'']);
        let tag = self.end(tag, cursor, false)?;
        let Some(depth) = self.stack.iter().rposition(|frame| frame.closing_name() == name) else {
            if !self.broken_structure {
                self.faults.push(self.nothing_to_close(tag, name));
            }
            return Ok(Step::Next);
        };
        while self.stack.len() > depth + 1 {
            self.close_unclosed(tag);
        }
        let frame = self.stack.pop().expect("`depth` is the position of a frame");
        self.push(frame.into_node(tag));
        Ok(Step::Next)
    }

    fn nothing_to_close(&self, tag: Tag, name: &str) -> Problem {
        let problem = Problem::new(tag.offset, format!("`{{{{/{name}}}}}` closes nothing"));
        match self.stack.last() {
            Some(frame) => {
                let (opening, offset) = frame.opening();
                let line = LineColumn::of_offset(self.text, offset).line;
                problem.hint(format!(
                    "the open block is `{opening}` of line {line}: close it with `{{{{/{}}}}}`",
                    frame.closing_name()
                ))
            }
            None => problem.hint("no block is open here"),
        }
    }

    /// Closes the innermost block where its own closing tag is missing.
    fn close_unclosed(&mut self, close: Tag) {
        let Some(frame) = self.stack.pop() else { return };
        let (opening, offset) = frame.opening();
        if !self.broken_structure {
            self.faults.push(
                Problem::new(offset, format!("`{opening}` is never closed"))
                    .hint(format!("add `{{{{/{}}}}}`", frame.closing_name())),
            );
        }
        self.push(frame.into_node(close));
    }

    fn partial_tag(&mut self, tag: Tag, mut cursor: Cursor<'t>) -> Result<Step, Problem> {
        cursor.at += 1;
        let (partial, cursor) = partial(tag, cursor)?;
        let tag = self.end(tag, cursor, false)?;
        self.push(Node::Partial(Partial { tag, ..partial }));
        Ok(Step::Next)
    }

    fn finish(mut self) -> Vec<Node> {
        let end = Tag { offset: self.text.len(), trim_before: false, trim_after: false };
        while !self.stack.is_empty() {
            self.close_unclosed(end);
        }
        self.root
    }
}

/// What a closing tag says, up to its braces; those of a placeholder are not.
fn closing_name(rest: &str) -> &str {
    let mut at = 0;
    while let Some(c) = rest[at..].chars().next() {
        let inner = match c {
            '}' | '~' => break,
            '$' if rest[at..].starts_with("${") => rest[at..].find('}'),
            '[' => rest[at..].find(']'),
            _ => None,
        };
        at += inner.unwrap_or(0) + if inner.is_some() { 1 } else { c.len_utf8() };
    }
    &rest[..at]
}

/// `name scope key=value` of a partial. Its block, if any, is read later.
fn partial(tag: Tag, mut cursor: Cursor<'_>) -> Result<(Partial, Cursor<'_>), Problem> {
    cursor.skip_space();
    let name_offset = cursor.at;
    let name = match cursor.peek() {
        Some('(') => {
            return Err(Problem::new(name_offset, "the name of a partial cannot be computed")
                .hint("write the name itself; choose between partials with `{{#if}}`"));
        }
        Some(quote @ ('"' | '\'')) => cursor.string(quote)?,
        Some('[') => {
            let path = cursor.path()?;
            path.segments.into_iter().next().unwrap_or_default()
        }
        _ => {
            let rest = cursor.rest();
            let end =
                rest.find(|c: char| c.is_whitespace() || matches!(c, '}' | '~' | '(' | '=')).unwrap_or(rest.len());
            cursor.at += end;
            rest[..end].to_owned()
        }
    };
    if name.is_empty() {
        return Err(Problem::new(name_offset, "a partial needs a name").hint("write `{{> name}}`"));
    }
    cursor.expect_delimiter()?;
    let (mut args, hash) = cursor.arguments(0)?;
    if let Some(extra) = args.get(1) {
        return Err(Problem::new(extra.offset(), "a partial takes one value").hint("name the others: `key=value`"));
    }
    Ok((Partial { tag, name, name_offset, scope: args.pop(), hash, block: None, indent: None }, cursor))
}

fn not_closed(cursor: &Cursor<'_>, tag: Tag, expected: &str) -> Problem {
    match cursor.peek() {
        None => Problem::new(tag.offset, "this tag is never closed").hint(format!("add `{expected}`")),
        Some('|') => Problem::new(cursor.at, "`|` is not expected here").hint("block parameters read `as |item|`"),
        Some(c) => Problem::new(cursor.at, format!("`{c}` is not expected here"))
            .hint(format!("the tag ends with `{expected}`")),
    }
}
