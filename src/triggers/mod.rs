//! The trigger: "consider this recipient for this campaign at this instant", and what can become of it.
//!
//! Pure: no files, no clock. Readers in `input` build [`Trigger`]s; everything after them works on these.

mod dispatch;
mod json_text;
mod outcome;
mod properties;
mod recipient;
mod redact;
mod time;
mod values;

pub use dispatch::Dispatch;
pub(crate) use json_text::write_string;
pub use outcome::{Outcome, Reason};
pub use properties::{Columns, MAX_DEPTH, MAX_PROPERTIES_BYTES, Properties, PropertiesFault, number_text, print_json};
pub(crate) use properties::{normalised, push_float, text_depth};
pub use recipient::{Recipient, RecipientKind};
pub use redact::redact;
pub use time::{EpochUnit, MICROS_PER_SECOND, Micros, TimeError, TimeReader, format_micros};
pub use values::{Node, Span, Values, Wanted};

use std::borrow::Cow;

/// One normalised row: one recipient of one campaign at one instant.
#[derive(Debug, Clone)]
pub struct Trigger<'a> {
    /// The campaign as the row names it.
    pub campaign_id: Cow<'a, str>,
    /// Who.
    pub recipient: Recipient<'a>,
    /// When it happened, if the row says so.
    pub triggered_at: Option<Micros>,
    /// Idempotency key within (campaign, recipient).
    pub trigger_id: Option<Cow<'a, str>>,
    /// Reporting label, carried to the messages.
    pub send_id: Option<Cow<'a, str>>,
    /// `trigger_properties`, request and recipient level merged.
    pub properties: Properties<'a>,
    /// Attributes that came with the row.
    pub attributes: Properties<'a>,
    /// Values of the `--carry` columns, in the order of the flag; strings as they are, other values as JSON text.
    pub carried: Vec<Option<Cow<'a, str>>>,
    /// The same recipient stood earlier in the same request.
    pub duplicate_recipient: bool,
}

/// Why a row is not a trigger that can be decided: data, not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Stable code.
    pub reason: Reason,
    /// The field at fault (`trigger_properties.price`, `recipients[3].email`), empty for the row as a whole.
    pub field: String,
    /// What would have been right.
    pub expected: String,
    /// What stood there instead: a type, a length, a label; never a recipient's value.
    pub found: String,
}

impl Rejection {
    /// A rejection with all its places.
    pub fn new(
        reason: Reason,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Rejection {
        Rejection { reason, field: field.into(), expected: expected.into(), found: found.into() }
    }
}
