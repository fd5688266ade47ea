//! NDJSON files in splits: ranges of bytes, each of which owns the lines that begin in it.
//!
//! ```text
//! bytes   {"a":1}\n{"b":2}\n{"c":3}
//! splits  |--- 0 ---|--- 1 ---|-- 2 --|
//! lines   a b                 c            a line that begins exactly at a border belongs to the split after it
//! ```
//! Any split size gives the same rows. Reads are positioned, so splits of one file are read by many threads. Memory is
//! bounded by one line of [`MAX_LINE_BYTES`] and a buffer; of a longer line only the beginning is kept, and no split
//! reads past its own end to find where that line ends.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::line::{self, Rules};
use crate::error::{Error, Kind, Result};
use crate::pipeline::{Row, SplitLines};
use crate::triggers::{Reason, Rejection, Trigger};

/// Longest line that is read, without its line feed: 8 MiB.
pub const MAX_LINE_BYTES: u64 = 8 << 20;

/// How much of a longer line is kept for the rejection: 64 KiB.
const KEPT_OF_LONG_LINE: usize = 64 << 10;

/// Bytes of one positioned read: small enough to stay in a core's cache.
const READ_BYTES: u64 = 256 << 10;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A plain NDJSON file, open for reading.
#[derive(Debug)]
pub(super) struct TextFile {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl TextFile {
    /// Opens a file. What is appended to it afterwards is not read.
    pub(super) fn open(path: &Path) -> io::Result<TextFile> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(TextFile { file, path: path.to_owned(), bytes })
    }

    /// Number of splits of `split_bytes` each, the last one shorter; a size of 0 counts as 1.
    pub(super) fn splits(&self, split_bytes: u64) -> u64 {
        self.bytes.div_ceil(split_bytes.max(1))
    }

    /// The byte range of a split.
    pub(super) fn range(&self, split: u64, split_bytes: u64) -> Range<u64> {
        let start = split * split_bytes.max(1);
        start..self.bytes.min(start.saturating_add(split_bytes.max(1)))
    }

    /// Visits the rows of the lines that begin in `range`, in order.
    pub(super) fn read(
        &self,
        range: Range<u64>,
        rules: &Rules,
        visit: &mut dyn FnMut(Row<'_>) -> Result<()>,
    ) -> Result<SplitLines> {
        let failed = |source| Error::io(Kind::Input, "read", &self.path, source);
        let mut lines = Lines::beginning_in(self, range).map_err(failed)?;
        let mut counts = SplitLines::default();
        while let Some(line) = lines.next().map_err(failed)? {
            let number = counts.lines;
            counts.lines += 1;
            let Line { offset, content, too_long } = line;
            let mut emit = |recipient_index: Option<u32>, parsed: Result<Trigger<'_>, Rejection>| {
                visit(Row { line: number, recipient_index, offset: Some(offset), raw: Some(content), parsed })
            };
            if too_long {
                let expected = format!("a line of at most {MAX_LINE_BYTES} bytes");
                emit(None, Err(Rejection::new(Reason::LineTooLong, "", expected, "a longer one")))?;
            } else if !content.trim_ascii().is_empty() {
                counts.unknown_fields += line::read(rules, content, &mut emit)?;
            }
        }
        Ok(counts)
    }
}

/// One line, without its end and without a byte order mark.
#[derive(Debug, Clone, Copy)]
struct Line<'l> {
    offset: u64,
    content: &'l [u8],
    too_long: bool,
}

/// The lines that begin before `end`, from one that begins at `position`.
struct Lines<'f> {
    reader: BufReader<Positioned<'f>>,
    position: u64,
    end: u64,
    line: Vec<u8>,
}

impl<'f> Lines<'f> {
    /// A line begins at 0 and after each line feed: one byte before the range tells whether one begins at its start.
    fn beginning_in(file: &'f TextFile, range: Range<u64>) -> io::Result<Lines<'f>> {
        let from = range.start.saturating_sub(1);
        let source = Positioned { file: &file.file, position: from, end: file.bytes };
        let capacity = (range.end - from + 1).clamp(512, READ_BYTES) as usize;
        let mut reader = BufReader::with_capacity(capacity, source);
        let skipped = match range.start {
            0 => 0,
            _ => reader.by_ref().take(range.end - from).skip_until(b'\n')? as u64,
        };
        Ok(Lines { reader, position: from + skipped, end: range.end, line: Vec::new() })
    }

    fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let offset = self.position;
        self.line.clear();
        self.position += self.reader.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut self.line)? as u64;
        let ended = self.line.pop_if(|last| *last == b'\n').is_some();
        let too_long = !ended && self.line.len() as u64 > MAX_LINE_BYTES;
        if too_long {
            self.line.truncate(KEPT_OF_LONG_LINE);
            let rest = self.end.saturating_sub(self.position);
            self.position += self.reader.by_ref().take(rest).skip_until(b'\n')? as u64;
        } else {
            self.line.pop_if(|last| *last == b'\r');
        }
        let marked = if offset == 0 { self.line.strip_prefix(BYTE_ORDER_MARK) } else { None };
        Ok(Some(Line { offset, content: marked.unwrap_or(&self.line), too_long }))
    }
}

/// Positioned reads as a stream, up to the length that the file had when it was opened.
struct Positioned<'f> {
    file: &'f File,
    position: u64,
    end: u64,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = (self.end - self.position).min(buffer.len() as u64) as usize;
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(&mut buffer[..wanted], self.position)?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
        }
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::super::testing::{SeenRow, options};
    use super::*;

    /// All rows of a text read in splits of some size, with line numbers through the file.
    fn rows(text: &[u8], split_bytes: u64) -> (Vec<SeenRow>, SplitLines) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.ndjson");
        fs::write(&path, text).unwrap();
        let file = TextFile::open(&path).unwrap();
        let rules = Arc::new(Rules::new(options()));
        let (mut rows, mut total) = (Vec::new(), SplitLines::default());
        for split in 0..file.splits(split_bytes) {
            let before = total.lines;
            let mut visit = |row: Row<'_>| {
                rows.push(SeenRow { line: row.line + before, ..SeenRow::of(row) });
                Ok(())
            };
            let counts = file.read(file.range(split, split_bytes), &rules, &mut visit).unwrap();
            total.lines += counts.lines;
            total.unknown_fields += counts.unknown_fields;
        }
        (rows, total)
    }

    const MIXED: &str = "\u{feff}{\"campaign_id\":\"c\",\"email\":\"ada\"}\r\n\n   \r\n{\"broken\n{\"campaign_id\":\"c\",\"x\":1,\"recipients\":[{\"external_user_id\":1},{}]}\n\n\n\"é\"\n{\"campaign_id\":\"c\",\"email\":\"bob\"}";

    #[test]
    fn any_split_size_gives_the_same_rows() {
        for text in [MIXED.to_owned(), format!("{MIXED}\n"), format!("{MIXED}\n\n"), "\n".to_owned(), String::new()] {
            let whole = rows(text.as_bytes(), 1 << 30);
            for split_bytes in 1..=(text.len() as u64 + 2) {
                assert_eq!(rows(text.as_bytes(), split_bytes), whole, "{split_bytes} bytes a split");
            }
        }
    }

    #[test]
    fn lines_have_numbers_offsets_and_their_text() {
        let (rows, total) = rows(MIXED.as_bytes(), 7);
        assert_eq!(total, SplitLines { lines: 9, unknown_fields: 1 });
        let places: Vec<_> = rows.iter().map(|row| (row.line, row.index)).collect();
        assert_eq!(places, [(0, None), (3, None), (4, Some(0)), (4, Some(1)), (7, None), (8, None)]);
        assert_eq!(rows[0].raw, br#"{"campaign_id":"c","email":"ada"}"#, "no mark, no line end");
        for row in &rows[1..] {
            let offset = row.offset.unwrap() as usize;
            assert_eq!(&MIXED.as_bytes()[offset..offset + row.raw.len()], row.raw);
        }
        assert!(rows[5].parsed.is_ok(), "a last line without a line feed");
    }

    #[test]
    fn a_line_over_the_limit_is_rejected_by_its_beginning_whatever_the_splits() {
        let long = "x".repeat(MAX_LINE_BYTES as usize + 1);
        let fits = format!("\"{}\"", "y".repeat(MAX_LINE_BYTES as usize - 2));
        let text = format!("{{\"campaign_id\":\"c\",\"email\":\"a\"}}\n{long}\n{fits}\n{long}{long}\n{{}}\n{long}");
        let whole = rows(text.as_bytes(), 1 << 40);
        let reasons: Vec<_> = whole.0.iter().map(|row| row.parsed.as_ref().map(|_| ()).map_err(|r| r.reason)).collect();
        let too_long = Err(Reason::LineTooLong);
        let expected = [Ok(()), too_long, Err(Reason::BadRow), too_long, Err(Reason::MissingField), too_long];
        assert_eq!(reasons, expected);
        assert_eq!(whole.0[1].raw, &long.as_bytes()[..KEPT_OF_LONG_LINE]);
        for split_bytes in [1 << 20, MAX_LINE_BYTES, MAX_LINE_BYTES + 1, 3 << 20] {
            assert!(rows(text.as_bytes(), split_bytes) == whole, "{split_bytes} bytes a split");
        }
    }

    #[test]
    fn an_error_of_the_visitor_ends_the_reading() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.ndjson");
        fs::write(&path, "{}\n{}\n").unwrap();
        let file = TextFile::open(&path).unwrap();
        let mut seen = 0;
        let result = file.read(0..6, &Rules::new(options()), &mut |_| {
            seen += 1;
            Err(Error::new(Kind::Internal, "enough"))
        });
        assert_eq!((result.unwrap_err().summary.as_str(), seen), ("enough", 1));
    }

    #[test]
    fn a_file_that_is_cut_off_while_it_is_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.ndjson");
        fs::write(&path, "{}\n{}\n").unwrap();
        let file = TextFile::open(&path).unwrap();
        fs::write(&path, "{}\n").unwrap();
        let error = file.read(0..6, &Rules::new(options()), &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("in.ndjson`: it became shorter"), "{error}");
    }
}
