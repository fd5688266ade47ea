//! Looks at a file's two ends before the `parquet` crate parses it: what is not Parquet gets a plain sentence, and a
//! schema nested so deep that the crate's recursion would overflow the stack is refused.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use parquet::file::metadata::ParquetMetaData;

use super::compact::{Compact, LIST, STRUCT};
use super::pages;

/// Deepest schema that is handed on. Properties may nest 64 deep; each list or map level takes two or three groups.
const MAX_SCHEMA_DEPTH: usize = 256;

/// The shortest file: two magic words and the length of an empty footer.
const SHORTEST: u64 = 12;

/// What is wrong and, if something can be done about it, what.
pub(super) type Wrong = (String, Option<String>);

fn wrong(message: &str, hint: &str) -> Wrong {
    (message.to_owned(), Some(hint.to_owned()))
}

/// Checks magic words, footer length and the depth of the schema.
pub(super) fn check_ends(file: &mut File) -> io::Result<Result<(), Wrong>> {
    let length = file.metadata()?.len();
    if length < SHORTEST {
        return Ok(Err(wrong(&format!("not a Parquet file: only {length} bytes long"), COPY_AGAIN)));
    }
    let (mut head, mut tail) = ([0; 4], [0; 8]);
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut head)?;
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut tail)?;
    let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if let Err(wrong) = check_magic(head, &tail[4..], footer, length) {
        return Ok(Err(wrong));
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(length - 8 - footer))?;
    file.take(footer).read_to_end(&mut bytes)?;
    Ok(check_schema(&bytes))
}

const COPY_AGAIN: &str = "the file may still have been written or copied; write or copy it again";

fn check_magic(head: [u8; 4], tail: &[u8], footer: u64, length: u64) -> Result<(), Wrong> {
    match (&head, tail) {
        (b"PARE", _) | (_, b"PARE") => {
            Err(wrong("the Parquet file is encrypted", "decrypt it first; encrypted files are not read"))
        }
        (b"PAR1", b"PAR1") if footer > length - SHORTEST => {
            Err(wrong("its Parquet footer claims to be longer than the file", COPY_AGAIN))
        }
        (b"PAR1", b"PAR1") => Ok(()),
        (b"PAR1", _) => Err(wrong("the Parquet file is truncated: its footer is missing", COPY_AGAIN)),
        _ => Err(wrong(
            "not a Parquet file: it does not begin with `PAR1`",
            "give its format with `--input-format`, or name it by what it holds",
        )),
    }
}

/// Walks the flat list of schema elements and keeps count of how many children are still to come on each level.
fn check_schema(footer: &[u8]) -> Result<(), Wrong> {
    let mut open: Vec<i64> = Vec::new();
    let mut verdict = Ok(());
    let walked = Compact::new(footer).structure(|reader, field, wire| {
        if (field, wire) != (2, LIST) {
            return Some(false);
        }
        let (element, count) = reader.list()?;
        if element != STRUCT {
            return None;
        }
        for _ in 0..count {
            let mut children = 0;
            reader.structure(|reader, field, wire| {
                let found = (field, wire) == (5, 5);
                if found {
                    children = reader.integer()?;
                }
                Some(found)
            })?;
            if children > count as i64 {
                verdict = Err(damaged("a group of its schema claims more members than there are columns"));
                return None;
            }
            enter(&mut open, children);
            if open.len() > MAX_SCHEMA_DEPTH {
                verdict = Err(wrong(
                    "its schema nests deeper than 256 groups",
                    "flatten it, or write the properties as JSON text",
                ));
                return None;
            }
        }
        Some(true)
    });
    verdict?;
    walked.ok_or_else(|| damaged("its Parquet footer cannot be read"))
}

/// Counts an element off its parent, closes the groups that are complete, and opens its own.
fn enter(open: &mut Vec<i64>, children: i64) {
    if let Some(left) = open.last_mut() {
        *left -= 1;
    }
    if children > 0 {
        open.push(children);
    } else {
        while open.last().is_some_and(|left| *left <= 0) {
            open.pop();
        }
    }
}

fn damaged(message: &str) -> Wrong {
    wrong(message, "the file is damaged; write or copy it again")
}

/// The most rows of a row group; writers stay below by a factor of a thousand.
const MAX_GROUP_ROWS: i64 = 1 << 31;

/// Checks that what the footer claims about places and counts fits the file and itself: a row group that claims fewer
/// rows than its columns hold would lose the rest without a word.
pub(super) fn check_claims(metadata: &ParquetMetaData, length: u64) -> Result<(), Wrong> {
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let rows = group.num_rows();
        if !(0..=MAX_GROUP_ROWS).contains(&rows) {
            return Err(damaged(&format!("row group {index} claims {rows} rows; at most {MAX_GROUP_ROWS} are read")));
        }
        for column in group.columns() {
            let (path, values) = (column.column_path().string(), column.num_values());
            let end = pages::range(column).and_then(|(start, size)| start.checked_add(size));
            if end.is_none_or(|end| end > length) {
                return Err(damaged(&format!("column `{path}` of row group {index} lies outside the file")));
            }
            let counts_fit = if column.column_descr().max_rep_level() == 0 { values == rows } else { values >= rows };
            if !counts_fit {
                return Err(damaged(&format!(
                    "row group {index} claims {rows} rows, its column `{path}` {values} values"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer whose schema is `depth` groups inside each other around one column.
    fn nested(depth: usize) -> Vec<u8> {
        let group = [0x55, 2, 0];
        let mut bytes = vec![0x15, 2, 0x19, 0xfc];
        let mut count = depth + 1;
        while count >= 0x80 {
            bytes.push(count as u8 | 0x80);
            count >>= 7;
        }
        bytes.push(count as u8);
        (0..depth).for_each(|_| bytes.extend(group));
        bytes.extend([0, 0]);
        bytes
    }

    #[test]
    fn a_schema_that_would_overflow_the_stack_is_refused() {
        assert_eq!(check_schema(&nested(200)), Ok(()));
        assert!(check_schema(&nested(100_000)).unwrap_err().0.contains("deeper than 256"));
        assert!(check_schema(&nested(100)[..50]).unwrap_err().0.contains("cannot be read"));
    }

    #[test]
    fn siblings_are_no_depth() {
        let mut open = Vec::new();
        enter(&mut open, 1000);
        for _ in 0..500 {
            enter(&mut open, 1);
            enter(&mut open, 0);
        }
        assert_eq!(open, [500]);
    }
}
