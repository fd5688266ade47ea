//! What went wrong, where, and what to do next.
//!
//! Expected outcomes (a trigger is suppressed, rejected, failed) are data and never errors. An [`Error`] ends the
//! command; its [`Kind`] decides the exit code. Validation collects *all* [`Fault`]s before it gives up.

use std::fmt;
use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has to act, and with it the exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line is wrong; nothing was read. Exit 2.
    Usage,
    /// A campaign or a template is wrong; no trigger was read. Exit 2.
    Definition,
    /// An input file cannot be used. Exit 1, nothing committed.
    Input,
    /// The state folder cannot be used. Exit 1, nothing committed.
    State,
    /// The output folder cannot be written. Exit 1, nothing committed.
    Output,
    /// Something of this crate's own broke (an invariant, a dependency that panicked). Exit 1, nothing committed.
    Internal,
    /// A guard says no, such as `--max-change`. Exit 1, nothing committed.
    Guard,
    /// A signal asked to stop. Exit 1, nothing committed.
    Interrupted,
    /// More bad triggers than `--max-bad` allows. Exit 1, nothing committed.
    TooManyBad,
    /// Another run holds a lock: try again later. Exit 75.
    Busy,
}

impl Kind {
    /// The process exit code of design section 8.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage | Kind::Definition => 2,
            Kind::Input | Kind::State | Kind::Output | Kind::Internal => 1,
            Kind::TooManyBad | Kind::Guard | Kind::Interrupted => 1,
            Kind::Busy => 75,
        }
    }
}

/// A point in a text file, counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineColumn {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl LineColumn {
    /// The line and column of a byte offset into `text`. An offset past the end is the end.
    pub fn of_offset(text: &str, offset: usize) -> LineColumn {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        LineColumn { line: before.iter().filter(|b| **b == b'\n').count() + 1, column }
    }
}

/// One thing that is wrong in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file (or the name of the thing) that is wrong.
    pub file: String,
    /// Where in it, if known.
    pub at: Option<LineColumn>,
    /// What is wrong, as one sentence without a full stop; literals in backticks.
    pub message: String,
    /// The line of the file, for the report to point into.
    pub excerpt: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault of a whole file.
    pub fn new(file: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault { file: file.into(), at: None, message: message.into(), excerpt: None, hint: None }
    }

    /// Points at a byte offset of `text`, and takes that line as the excerpt.
    #[must_use]
    pub fn at_offset(self, text: &str, offset: usize) -> Fault {
        self.at_place(text, LineColumn::of_offset(text, offset))
    }

    /// Points at a line and column of `text`, and takes that line as the excerpt.
    #[must_use]
    pub fn at_place(mut self, text: &str, at: LineColumn) -> Fault {
        self.excerpt = text.lines().nth(at.line - 1).map(str::to_owned);
        self.at = Some(at);
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }
}

/// Excerpts are cut to this many characters around the column.
const EXCERPT_CHARS: usize = 100;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "  {}, line {}, column {}: {}", self.file, at.line, at.column, self.message)?,
            None => write!(f, "  {}: {}", self.file, self.message)?,
        }
        if let (Some(at), Some(excerpt)) = (self.at, &self.excerpt) {
            let is_long = excerpt.chars().count() > EXCERPT_CHARS;
            let first = if is_long { at.column.saturating_sub(EXCERPT_CHARS / 2 + 1) } else { 0 };
            let shown: String = excerpt.chars().skip(first).take(EXCERPT_CHARS).collect();
            let number = at.line.to_string();
            write!(
                f,
                "\n   {number} | {shown}\n   {:w$} | {:c$}^",
                "",
                "",
                w = number.len(),
                c = at.column - 1 - first
            )?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Why a command ended without doing its work.
#[derive(Debug)]
pub struct Error {
    /// Decides the exit code.
    pub kind: Kind,
    /// One sentence: what could not be done.
    pub summary: String,
    /// Every place that is wrong.
    pub faults: Vec<Fault>,
    /// What to do next.
    pub hint: Option<String>,
    /// What lies beneath.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a summary only.
    pub fn new(kind: Kind, summary: impl Into<String>) -> Error {
        Error { kind, summary: summary.into(), faults: Vec::new(), hint: None, source: None }
    }

    /// A failed operation on a file or folder: "cannot {action} `{path}`".
    pub fn io(kind: Kind, action: &str, path: &Path, source: std::io::Error) -> Error {
        let hint = io_hint(&source);
        let mut error = Error::new(kind, format!("cannot {action} `{}`", path.display())).caused_by(source);
        error.hint = hint.map(str::to_owned);
        error
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the places that are wrong.
    #[must_use]
    pub fn with_faults(mut self, faults: Vec<Fault>) -> Error {
        self.faults = faults;
        self
    }

    /// Adds what lies beneath.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }
}

/// What a person can do about the usual failures of a disk.
fn io_hint(error: &std::io::Error) -> Option<&'static str> {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Some("the disk is full; free some space and run the same command again")
        }
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            Some("check the permissions of the folder and the user that runs the command")
        }
        std::io::ErrorKind::NotFound => Some("check the spelling of the path"),
        _ => None,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.summary)?;
        let mut source = self.source.as_deref().map(|s| s as &dyn std::error::Error);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        for fault in &self.faults {
            write!(f, "\n{fault}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}

/// Turns an I/O result into one that names the file.
pub trait IoContext<T> {
    /// "cannot {action} `{path}`", with the cause beneath.
    fn at(self, kind: Kind, action: &str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, kind: Kind, action: &str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::io(kind, action, &path.into(), source))
    }
}

/// The candidate nearest to `word`, for "did you mean" hints.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(word, c), c))
        .filter(|(distance, c)| *distance <= 1 + word.len().max(c.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_its_line_and_points_at_the_column() {
        let text = "Hello\nHi {{frist_name}},\n";
        let fault = Fault::new("welcome.hbs", "unknown variable `frist_name`")
            .at_offset(text, 11)
            .hint("did you mean `first_name`?");
        let expected = "  welcome.hbs, line 2, column 6: unknown variable `frist_name`\n   2 | Hi {{frist_name}},\n     |      ^\n  hint: did you mean `first_name`?";
        assert_eq!(fault.to_string(), expected);
    }

    #[test]
    fn nearest_finds_a_typo_and_refuses_a_stranger() {
        assert_eq!(nearest("reeligibilty", ["reeligibility", "variants"]), Some("reeligibility"));
        assert_eq!(nearest("zebra", ["reeligibility", "variants"]), None);
    }
}
