//! `state erase`: the receipts of some recipients go from the state, and with an output folder their rows from its runs.
//!
//! First the state commits, so that the tombstones are durable before anything else goes; then run after run is amended.
//! The same command finishes what a crash interrupted: what is gone already is not there to be found again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;

use super::open_state;
use crate::delivery::Erased;
use crate::error::{Error, Kind, Result};
use crate::ids::KeyHash;
use crate::runs::amendment::{ErasedFromRun, erase_from_run};
use crate::runs::out::OutFolder;
use crate::runs::{commit, exclude};
use crate::state::State;
use crate::storage::Disk;
use crate::triggers::{Recipient, RecipientKind};

/// Whom to erase, and from where.
#[derive(Debug, Clone)]
pub struct EraseSettings {
    /// The state's folder.
    pub state: PathBuf,
    /// How long to wait for a held lock.
    pub wait_lock: Duration,
    /// Recipients.
    pub recipients: Vec<Recipient<'static>>,
    /// A table of more.
    pub table: Option<PathBuf>,
    /// The output folder whose runs are amended too.
    pub out: Option<PathBuf>,
    /// The key of the state's tombstones, where it has none yet: random.
    pub new_key: [u128; 2],
}

/// What an erasure did.
#[derive(Debug, Default)]
pub struct ErasedFrom {
    /// Recipients that were to be erased.
    pub recipients: u64,
    /// Receipts that are gone from the state.
    pub receipts: u64,
    /// Published runs that were looked at.
    pub runs: u64,
    /// What is gone from them.
    pub from_runs: ErasedFromRun,
    /// The state's generation now.
    pub generation: u64,
}

/// Erases recipients.
///
/// # Errors
/// `Busy` for a state or an output folder in use; `Input` for a table that cannot be read; `State` and `Output` for what
/// cannot be read or written. After an error the same command goes on where this one ended.
pub fn erase(disk: &Arc<dyn Disk>, settings: &EraseSettings) -> Result<ErasedFrom> {
    let mut recipients = settings.recipients.clone();
    if let Some(table) = &settings.table {
        recipients.extend(exclude::recipients(table)?);
    }
    let names = Names::of(&recipients);
    if names.keys.is_empty() {
        return Err(Error::new(Kind::Usage, "nobody to erase was named").hint("give `--recipient` or `--recipients`"));
    }
    let out = settings.out.as_ref().map(|out| open_out(disk, out, settings.wait_lock)).transpose()?;
    let mut state = open_state(disk, &settings.state, settings.wait_lock)?;
    state.refuse_held()?;
    match &out {
        Some(out) => {
            commit::check_fence(&state, out)?;
            commit::roll_forward(&state, out)?;
            commit::remember(&state, out)?;
            out.clear_staging(Some(&state.manifest().state_id))?;
        }
        None => refuse_unpublished(&**disk, &state)?,
    }
    let mut erased = ErasedFrom { recipients: names.keys.len() as u64, ..ErasedFrom::default() };
    if let Some(staged) = state.stage_erasure(&names.keys, settings.new_key)? {
        erased.receipts = staged.removed();
        state.commit(staged, None)?;
    }
    erased.generation = state.manifest().generation;
    if let Some(out) = &out {
        commit::remember(&state, out)?;
        for (dir, manifest) in out.runs()? {
            let from_run = erase_from_run(&**disk, &dir, &manifest, &names)?;
            erased.runs += 1;
            erased.from_runs.files += from_run.files;
            erased.from_runs.rows += from_run.rows;
        }
    }
    Ok(erased)
}

/// An output folder that is there: erasing makes none.
fn open_out(disk: &Arc<dyn Disk>, out: &Path, wait: Duration) -> Result<OutFolder> {
    if !disk.exists(out) {
        let error = Error::new(Kind::Output, format!("the output folder `{}` does not exist", out.display()));
        return Err(error.hint("check the spelling of the path"));
    }
    OutFolder::open(Arc::clone(disk), out, wait)
}

/// A run that is staged would be published later, with the rows of whom was erased.
fn refuse_unpublished(disk: &dyn Disk, state: &State) -> Result<()> {
    let Some(publication) = &state.manifest().publication else { return Ok(()) };
    if !disk.exists(Path::new(&publication.staged)) {
        return Ok(());
    }
    let summary = format!("run `{}` of this state is committed and not yet published", publication.run_id);
    Err(Error::new(Kind::State, summary).hint("give its output folder with `--out`: it is published, and erased from"))
}

/// Recipients as files name them.
struct Names {
    keys: HashSet<KeyHash>,
    texts: HashSet<(RecipientKind, String)>,
    /// Ids, names of aliases and addresses alone, for rows that could not be understood.
    ids: HashSet<String>,
}

impl Names {
    fn of(recipients: &[Recipient<'_>]) -> Names {
        Names {
            keys: recipients.iter().map(Recipient::key_hash).collect(),
            texts: recipients.iter().map(|r| (r.kind, r.profile_key().into_owned())).collect(),
            ids: recipients.iter().map(|r| r.id.to_string()).collect(),
        }
    }

    /// Whether any text or number inside is one of the ids.
    fn mentioned_in(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.ids.contains(text) || self.ids.contains(&text.trim().to_ascii_lowercase()),
            Value::Number(number) => self.ids.contains(&number.to_string()),
            Value::Array(items) => items.iter().any(|item| self.mentioned_in(item)),
            Value::Object(map) => map.values().any(|item| self.mentioned_in(item)),
            Value::Null | Value::Bool(_) => false,
        }
    }

    /// Whether a line that is no JSON has one of the ids as a word of its own.
    fn is_word_of(&self, raw: &str) -> bool {
        let ends = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
        let raw = [raw.to_owned(), raw.to_ascii_lowercase()];
        self.ids.iter().any(|id| {
            raw.iter().any(|raw| {
                let whole = |(at, found): (usize, &str)| {
                    ends(raw[..at].chars().next_back()) && ends(raw[at + found.len()..].chars().next())
                };
                raw.match_indices(id.as_str()).any(whole)
            })
        })
    }
}

impl Erased for Names {
    fn recipient(&self, kind: &str, recipient: &str) -> bool {
        RecipientKind::from_code(kind).is_some_and(|kind| self.texts.contains(&(kind, recipient.to_owned())))
    }

    /// A rejected row names nobody for certain: it goes where one of the ids stands in it.
    fn rejected(&self, line: &Value) -> bool {
        let packed = line["raw_base64"].as_str();
        let unpacked = packed.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
        let unpacked = unpacked.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let Some(raw) = line["raw"].as_str().or(unpacked.as_deref()) else { return self.mentioned_in(line) };
        match serde_json::from_str::<Value>(raw) {
            Ok(row) => self.mentioned_in(&row),
            Err(_) => self.is_word_of(raw),
        }
    }

    fn remainder(&self, line: &Value) -> bool {
        let text = |field: &str| line[field].as_str().map(str::to_owned);
        let alias = &line["user_alias"];
        let alias = alias["alias_name"].as_str().zip(alias["alias_label"].as_str());
        let named = [
            text("external_user_id").map(Recipient::external),
            text("braze_id").map(Recipient::braze),
            text("email").map(Recipient::email),
            alias.map(|(name, label)| Recipient::alias(name.to_owned(), label.to_owned())),
        ];
        named.into_iter().flatten().any(|recipient| self.keys.contains(&recipient.key_hash()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_rows_go_where_an_id_stands_as_a_value_or_a_word() {
        let names = Names::of(&[Recipient::external("u1"), Recipient::email("ada@x.org")]);
        let rejected = |raw: &str| names.rejected(&serde_json::json!({ "raw": raw }));
        assert!(rejected(r#"{"external_user_id":"u1"}"#) && rejected(r#"{"a":[{"b":" ADA@x.org"}]}"#));
        assert!(rejected("not json u1,") && rejected("Ada@X.org broken"));
        let packed = base64::engine::general_purpose::STANDARD.encode(b"u1 \xff");
        assert!(names.rejected(&serde_json::json!({ "raw_base64": packed })));
        for other in [r#"{"external_user_id":"u10"}"#, r#"{"text":"u1 is here"}"#, "u10 not json", "xada@x.orgy"] {
            assert!(!rejected(other), "{other}");
        }
    }
}
