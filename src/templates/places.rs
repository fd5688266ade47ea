//! Lines and columns of many offsets of one text, in time linear in the text as long as the offsets ascend.

use crate::error::LineColumn;

/// Remembers where the last offset was.
pub(super) struct Places<'t> {
    text: &'t str,
    offset: usize,
    at: LineColumn,
}

impl<'t> Places<'t> {
    /// At the beginning of a text.
    pub fn new(text: &'t str) -> Places<'t> {
        Places { text, offset: 0, at: LineColumn { line: 1, column: 1 } }
    }

    /// The line and column of a byte offset on a character boundary.
    pub fn at(&mut self, offset: usize) -> LineColumn {
        if offset < self.offset {
            *self = Places::new(self.text);
        }
        for c in self.text[self.offset..offset].chars() {
            match c {
                '\n' => self.at = LineColumn { line: self.at.line + 1, column: 1 },
                _ => self.at.column += 1,
            }
        }
        self.offset = offset;
        self.at
    }
}
