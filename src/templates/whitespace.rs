//! White space control on the tree: `~`, and tags that stand alone on their lines. The rules are those of the JavaScript
//! implementation step by step, odd ones included, so that a template keeps its line breaks:
//!
//! - a block, comment or partial that stands alone on its line takes the line with it, its indentation included;
//! - a partial that does hands its indentation to every line it prints;
//! - `{{else if}}` counts as a block inside the `{{else}}`, so the closing tag of such a chain keeps its indentation.
//!
//! "Left" and "right" are the places of the text as seen from the tag.

use super::syntax::{Block, Node, Partial, Tag, Text};

/// Applies it to a file.
pub(super) fn control(nodes: &mut [Node]) {
    program(nodes, true);
}

/// What a node asks of its neighbours.
#[derive(Default)]
struct Strip {
    /// Its first tag has a `~` before.
    open: bool,
    /// Its last tag has a `~` after.
    close: bool,
    /// Its first tag may stand alone.
    open_standalone: bool,
    /// Its last tag may stand alone.
    close_standalone: bool,
    /// It may stand alone as a whole.
    inline_standalone: bool,
}

fn program(body: &mut [Node], root: bool) {
    for at in 0..body.len() {
        let Some(strip) = strip_of(&mut body[at]) else { continue };
        let (prev, next) = (ends_a_line(body, at, root), begins_a_line(body, at + 1, root));
        if strip.close {
            omit_right(body, at + 1, true);
        }
        if strip.open {
            omit_left(body, at, true);
        }
        if strip.inline_standalone && prev && next {
            omit_right(body, at + 1, false);
            if omit_left(body, at, false) {
                keep_indent(body, at);
            }
        }
        if strip.open_standalone && prev {
            if let Some(first) = first_body(&mut body[at]) {
                omit_right(first, 0, false);
            }
            omit_left(body, at, false);
        }
        if strip.close_standalone && next {
            omit_right(body, at + 1, false);
            if let Some(last) = last_body(&mut body[at]) {
                let end = last.len();
                omit_left(last, end, false);
            }
        }
    }
}

/// Treats the inside of a node first. Text asks for nothing.
fn strip_of(node: &mut Node) -> Option<Strip> {
    Some(match node {
        Node::Text(_) => return None,
        Node::Print(tag, ..) | Node::Call(tag, ..) => {
            Strip { open: tag.trim_before, close: tag.trim_after, ..Strip::default() }
        }
        Node::Comment(tag) | Node::Partial(Partial { tag, block: None, .. }) => {
            Strip { open: tag.trim_before, close: tag.trim_after, inline_standalone: true, ..Strip::default() }
        }
        Node::Partial(Partial { tag, block: Some((body, close)), .. }) => plain_block(*tag, body, *close),
        Node::Inline(inline) => plain_block(inline.tag, &mut inline.body, inline.close),
        Node::Raw(body) => {
            let none = Tag { offset: 0, trim_before: false, trim_after: false };
            plain_block(none, body, none)
        }
        Node::Block(block) => self::block(block),
    })
}

/// A block without branches.
fn plain_block(open: Tag, body: &mut [Node], close: Tag) -> Strip {
    program(body, false);
    let strip = strip_around(open, body, body, close);
    if open.trim_after {
        omit_right(body, 0, true);
    }
    if close.trim_before {
        omit_left(body, body.len(), true);
    }
    strip
}

fn strip_around(open: Tag, first: &[Node], last: &[Node], close: Tag) -> Strip {
    Strip {
        open: open.trim_before,
        close: close.trim_after,
        open_standalone: begins_a_line(first, 0, false),
        close_standalone: ends_a_line(last, last.len(), false),
        inline_standalone: false,
    }
}

/// A block with its branches. `{{else if}}` opens a block of its own inside the branches after it, so branches are treated
/// from the last to the first, each with the one that follows.
fn block(block: &mut Block) -> Strip {
    block.branches.iter_mut().for_each(|branch| program(&mut branch.body, false));
    let tags: Vec<Tag> = block.branches.iter().map(|branch| branch.tag).collect();
    if block.inverted && block.branches.len() == 2 {
        // The branch for where the value holds counts as the first one.
        let (wanted, otherwise) = block.branches.split_at_mut(1);
        let strip = strip_around(tags[0], &otherwise[0].body, &wanted[0].body, block.close);
        pair(tags[0], &mut otherwise[0].body, tags[1], &mut wanted[0].body, block.close);
        return strip;
    }
    let second = block.branches.get(1).unwrap_or(&block.branches[0]);
    let strip = strip_around(tags[0], &block.branches[0].body, &second.body, block.close);
    for index in (0..tags.len()).rev() {
        // Blocks beyond the first `{{else if}}` are given their own tag for a closing one.
        let close = if index < 2 { block.close } else { tags[index] };
        let (before, after) = block.branches.split_at_mut(index + 1);
        let branch = &mut before[index];
        match after.first_mut() {
            Some(next) => pair(tags[index], &mut branch.body, tags[index + 1], &mut next.body, close),
            None if branch.head.is_some() => alone(tags[index], &mut branch.body, close),
            None => {}
        }
    }
    strip
}

/// The first branch of a block, the tag between, and the branch that follows.
fn pair(open: Tag, first: &mut [Node], between: Tag, second: &mut [Node], close: Tag) {
    if open.trim_after {
        omit_right(first, 0, true);
    }
    if between.trim_before {
        omit_left(first, first.len(), true);
    }
    if between.trim_after {
        omit_right(second, 0, true);
    }
    if close.trim_before {
        omit_left(second, second.len(), true);
    }
    if ends_a_line(first, first.len(), false) && begins_a_line(second, 0, false) {
        omit_left(first, first.len(), false);
        omit_right(second, 0, false);
    }
}

/// The only branch of a block.
fn alone(open: Tag, body: &mut [Node], close: Tag) {
    if open.trim_after {
        omit_right(body, 0, true);
    }
    if close.trim_before {
        omit_left(body, body.len(), true);
    }
}

/// What a standalone opening tag is followed by.
fn first_body(node: &mut Node) -> Option<&mut [Node]> {
    match node {
        Node::Block(block) => {
            let first = if block.inverted { block.branches.len() - 1 } else { 0 };
            Some(&mut block.branches[first].body)
        }
        Node::Partial(Partial { block: Some((body, _)), .. }) | Node::Raw(body) => Some(body),
        Node::Inline(inline) => Some(&mut inline.body),
        _ => None,
    }
}

/// What a standalone closing tag follows. After `{{else if}}` that is a block, which keeps what it has.
fn last_body(node: &mut Node) -> Option<&mut [Node]> {
    match node {
        Node::Block(block) => match block.branches.as_mut_slice() {
            [first] => Some(&mut first.body),
            [first, _] if block.inverted => Some(&mut first.body),
            [_, second, ..] if second.head.is_none() => Some(&mut second.body),
            _ => None,
        },
        node => first_body(node),
    }
}

/// Whether what stands before `at` ends with a line break and white space.
fn ends_a_line(body: &[Node], at: usize, root: bool) -> bool {
    let Some(before) = at.checked_sub(1) else { return root };
    let Node::Text(text) = &body[before] else { return false };
    let space = &text.original[text.original.trim_end_matches(is_space).len()..];
    space.contains('\n') || (root && before == 0 && space.len() == text.original.len())
}

/// Whether what stands at `at` begins with white space and a line break.
fn begins_a_line(body: &[Node], at: usize, root: bool) -> bool {
    let Some(next) = body.get(at) else { return root };
    let Node::Text(text) = next else { return false };
    let space = &text.original[..text.original.len() - text.original.trim_start_matches(is_space).len()];
    space.contains('\n') || (root && at + 1 == body.len() && space.len() == text.original.len())
}

/// Takes white space from the beginning of the text at `at`: all of it, or the rest of the line.
fn omit_right(body: &mut [Node], at: usize, all: bool) {
    let Some(Node::Text(text)) = body.get_mut(at) else { return };
    if !all && text.right_stripped {
        return;
    }
    let value = text.value();
    let rest = if all {
        value.trim_start_matches(is_space)
    } else {
        let rest = value.trim_start_matches([' ', '\t']);
        let rest = rest.strip_prefix('\r').unwrap_or(rest);
        rest.strip_prefix('\n').unwrap_or(rest)
    };
    let taken = value.len() - rest.len();
    text.kept.start += taken;
    text.right_stripped = taken > 0;
}

/// Takes white space from the end of the text before `at`: all of it, or the indentation. Whether there was any.
fn omit_left(body: &mut [Node], at: usize, all: bool) -> bool {
    let Some(Node::Text(text)) = at.checked_sub(1).and_then(|before| body.get_mut(before)) else { return false };
    if !all && text.left_stripped {
        return false;
    }
    let value = text.value();
    let rest = if all { value.trim_end_matches(is_space) } else { value.trim_end_matches([' ', '\t']) };
    let taken = value.len() - rest.len();
    text.kept.end -= taken;
    text.left_stripped = taken > 0;
    taken > 0
}

fn keep_indent(body: &mut [Node], at: usize) {
    let Some((before, [node, ..])) = body.split_at_mut_checked(at) else { return };
    if let (Some(Node::Text(Text { original, .. })), Node::Partial(partial)) = (before.last(), node) {
        partial.indent = Some(original[original.trim_end_matches([' ', '\t']).len()..].to_owned());
    }
}

/// White space as JavaScript's `\s` has it.
fn is_space(c: char) -> bool {
    (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}'
}
