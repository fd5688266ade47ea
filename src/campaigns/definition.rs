//! What a loaded campaign is.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::layout::Layout;
use super::variants::Slices;
use crate::eligibility::{Pick, Reeligibility};
use crate::templates::Template;
use crate::triggers::Micros;

/// Most variants of a campaign (reference 6.1).
pub const MAX_VARIANTS: usize = 8;

/// Whether a campaign sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Active,
    /// Its triggers are suppressed.
    Paused,
}

/// One field of a channel's message: a subject, a body.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name, which is its column in the message rows.
    pub name: String,
    /// Its copy.
    pub template: Template,
    /// The slots of what its template asks for, in the variant's layout.
    pub slots: Vec<u32>,
    /// Line breaks become a space: subjects and headers.
    pub single_line: bool,
}

/// What one channel gets.
#[derive(Debug, Clone)]
pub struct ChannelMessage {
    /// `email`, `sms`, …
    pub channel: String,
    /// The fields, in the order of the definition.
    pub fields: Vec<Field>,
}

/// One arm of a multivariate campaign; a campaign without variants has one without a name.
#[derive(Debug, Clone)]
pub struct Variant {
    /// Its name, as stored with receipts.
    pub name: Option<String>,
    /// Its share of 100.
    pub percent: u8,
    /// Its messages by channel, in the order of the definition; empty when the campaign is decide-only.
    pub messages: Vec<ChannelMessage>,
    /// What its templates ask for.
    pub layout: Arc<Layout>,
}

impl Variant {
    /// A variant of messages whose fields have no slots yet.
    pub fn new(name: Option<String>, percent: u8, mut messages: Vec<ChannelMessage>) -> Variant {
        let layout = Arc::new(Layout::of(&mut messages));
        Variant { name, percent, messages, layout }
    }

    /// Whether no render of this variant can stop, as long as all values have at most so many bytes of JSON text. One
    /// channel is enough.
    pub fn always_receivable(&self, bytes: usize) -> bool {
        self.messages.is_empty()
            || self.messages.iter().any(|m| m.fields.iter().all(|f| f.template.always_renders(bytes)))
    }
}

/// One campaign.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// Its id, as triggers name it.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Whether it sends.
    pub status: Status,
    /// When a recipient may receive it again.
    pub reeligibility: Reeligibility,
    /// Triggers older than this many microseconds are too late.
    pub max_age_micros: Option<Micros>,
    /// Which trigger wins on the run clock.
    pub pick: Pick,
    /// Arms, at least one.
    pub variants: Vec<Variant>,
    /// The arms' shares.
    pub slices: Slices,
    /// Definition files as used, by path inside the campaign's folder.
    pub files: BTreeMap<String, String>,
}

impl Campaign {
    /// Whether it has no copy: its batches carry the properties.
    pub fn decide_only(&self) -> bool {
        self.variants.iter().all(|v| v.messages.is_empty())
    }

    /// The number of the variant of this name.
    pub fn variant_of_name(&self, name: Option<&str>) -> Option<u8> {
        self.variants.iter().position(|v| v.name.as_deref() == name).map(|i| i as u8)
    }
}

/// Every campaign of a run, by number; ids that failed to load are known as broken.
#[derive(Debug, Clone, Default)]
pub struct Campaigns {
    /// The campaigns, ordered by id; the position is the campaign's number.
    pub loaded: Vec<Campaign>,
    /// Ids of campaigns that did not load (`--skip-broken`).
    pub broken: Vec<String>,
    /// Ids that are there but not in `--only`.
    pub out_of_scope: Vec<String>,
}
