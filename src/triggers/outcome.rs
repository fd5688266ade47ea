//! What becomes of a trigger: exactly one outcome, with a reason where it is not plain.

/// The six parts of the ledger. They sum to the number of triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// At least one channel's message was written.
    Sent,
    /// In the control group: nothing is sent, ever.
    Control,
    /// A rule said no.
    Suppressed,
    /// Somebody should mend something: a template or the data it needs.
    Failed,
    /// The row could not be understood.
    Rejected,
    /// Outside `--since`/`--until` or `--only`: counted, not considered.
    OutOfScope,
}

impl Outcome {
    /// Every outcome, in the order of the ledger.
    pub const ALL: [Outcome; 6] =
        [Outcome::Sent, Outcome::Control, Outcome::Suppressed, Outcome::Failed, Outcome::Rejected, Outcome::OutOfScope];

    /// The word in files.
    pub fn code(self) -> &'static str {
        match self {
            Outcome::Sent => "sent",
            Outcome::Control => "control",
            Outcome::Suppressed => "suppressed",
            Outcome::Failed => "failed",
            Outcome::Rejected => "rejected",
            Outcome::OutOfScope => "out_of_scope",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $outcome:ident;)*) => {
        /// Why a trigger was not sent. The codes are stable: people filter on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in order of declaration.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The stable code in files.
            pub fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)* }
            }

            /// The outcome it belongs to.
            pub fn outcome(self) -> Outcome {
                match self { $(Reason::$name => Outcome::$outcome,)* }
            }
        }
    };
}

reasons! {
    /// The same recipient twice in one request: the first stands.
    DuplicateRecipient = "duplicate_recipient", Suppressed;
    /// The campaign is paused.
    Paused = "paused", Suppressed;
    /// The recipient is in the `--exclude` table.
    Excluded = "excluded", Suppressed;
    /// Older than `max_age`.
    TooLate = "too_late", Suppressed;
    /// The receipts that would decide it are no longer kept.
    HistoryExpired = "history_expired", Suppressed;
    /// A trigger with this id was received before.
    DuplicateTrigger = "duplicate_trigger", Suppressed;
    /// Re-eligibility `never`, and the recipient has received the campaign.
    AlreadyReceived = "already_received", Suppressed;
    /// A receipt lies closer than the window.
    WithinWindow = "within_window", Suppressed;
    /// The template said so.
    Aborted = "aborted", Suppressed;
    /// A value that is printed is absent or null.
    MissingValue = "missing_value", Failed;
    /// Rendering broke.
    RenderError = "render_error", Failed;
    /// Not JSON, or `NaN`/`Infinity`.
    BadJson = "bad_json", Rejected;
    /// Not a row: no object, invalid UTF-8, a value JSON cannot hold.
    BadRow = "bad_row", Rejected;
    /// A line over 8 MiB.
    LineTooLong = "line_too_long", Rejected;
    /// A required field is absent.
    MissingField = "missing_field", Rejected;
    /// A field of another type.
    WrongType = "wrong_type", Rejected;
    /// `triggered_at` cannot be read.
    BadTimestamp = "bad_timestamp", Rejected;
    /// More than 24 h after as-of.
    InFuture = "in_future", Rejected;
    /// No campaign of this id was loaded.
    UnknownCampaign = "unknown_campaign", Rejected;
    /// No identifier.
    NoRecipient = "no_recipient", Rejected;
    /// More than one identifier.
    SeveralIdentifiers = "several_identifiers", Rejected;
    /// The text form of the properties is over 51,200 bytes.
    PropertiesTooLarge = "properties_too_large", Rejected;
    /// The properties nest deeper than 64.
    TooDeep = "too_deep", Rejected;
    /// A feature that would reach other people than meant if it were ignored.
    Unsupported = "unsupported", Rejected;
    /// The campaign did not load, and `--skip-broken` was given.
    CampaignBroken = "campaign_broken", Rejected;
    /// A request with a fatal fault: `400 Bad Request`.
    BadRequest = "bad_request", Rejected;
    /// A request without recipients: `400 No Recipients`.
    NoRecipients = "no_recipients", Rejected;
    /// A request with more than 50 recipients.
    TooManyRecipients = "too_many_recipients", Rejected;
    /// Before `--since`, or at or after `--until`, or not in `--only`.
    OutOfScope = "out_of_scope", OutOfScope;
}

impl Reason {
    /// The reason of a code, if there is one.
    pub fn from_code(code: &str) -> Option<Reason> {
        Reason::ALL.iter().copied().find(|r| r.code() == code)
    }
}
