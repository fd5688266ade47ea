//! Who a trigger is for. The kinds are different recipients: an external id `x` and a `braze_id` `x` share nothing.

use std::borrow::Cow;

use crate::ids::{KeyHash, PartsHasher};

/// How a recipient is named. The order is part of the key's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecipientKind {
    /// `external_user_id`: the customer's own id.
    ExternalUserId = 0,
    /// `user_alias`: a name under a label.
    UserAlias = 1,
    /// `braze_id`: the platform's id.
    BrazeId = 2,
    /// `email`: trimmed, ASCII-lowered.
    Email = 3,
}

impl RecipientKind {
    /// Every kind, in the order of its number.
    pub const ALL: [RecipientKind; 4] =
        [RecipientKind::ExternalUserId, RecipientKind::UserAlias, RecipientKind::BrazeId, RecipientKind::Email];

    /// The word in files and on the command line: the name of the input field.
    pub fn code(self) -> &'static str {
        match self {
            RecipientKind::ExternalUserId => "external_user_id",
            RecipientKind::UserAlias => "user_alias",
            RecipientKind::BrazeId => "braze_id",
            RecipientKind::Email => "email",
        }
    }

    /// The kind of a field name.
    pub fn from_code(code: &str) -> Option<RecipientKind> {
        RecipientKind::ALL.into_iter().find(|k| k.code() == code)
    }
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recipient<'a> {
    /// How it is named.
    pub kind: RecipientKind,
    /// The id, the alias name, or the normalised address.
    pub id: Cow<'a, str>,
    /// The alias label; empty for the other kinds.
    pub label: Cow<'a, str>,
}

impl<'a> Recipient<'a> {
    /// A recipient by `external_user_id`.
    pub fn external(id: impl Into<Cow<'a, str>>) -> Recipient<'a> {
        Recipient { kind: RecipientKind::ExternalUserId, id: id.into(), label: Cow::Borrowed("") }
    }

    /// A recipient by alias.
    pub fn alias(name: impl Into<Cow<'a, str>>, label: impl Into<Cow<'a, str>>) -> Recipient<'a> {
        Recipient { kind: RecipientKind::UserAlias, id: name.into(), label: label.into() }
    }

    /// A recipient by `braze_id`.
    pub fn braze(id: impl Into<Cow<'a, str>>) -> Recipient<'a> {
        Recipient { kind: RecipientKind::BrazeId, id: id.into(), label: Cow::Borrowed("") }
    }

    /// A recipient by address: trimmed and ASCII-lowered (reference R6).
    pub fn email(address: impl Into<Cow<'a, str>>) -> Recipient<'a> {
        let address: Cow<'a, str> = address.into();
        let trimmed = address.trim();
        let unchanged = trimmed.len() == address.len() && !trimmed.bytes().any(|b| b.is_ascii_uppercase());
        let id = if unchanged { address } else { Cow::Owned(trimmed.to_ascii_lowercase()) };
        Recipient { kind: RecipientKind::Email, id, label: Cow::Borrowed("") }
    }

    /// The parts that identify it, added to a hasher: kind, id and, for an alias, its label.
    fn hashed_into(&self, hasher: PartsHasher) -> PartsHasher {
        let hasher = hasher.tag(self.kind as u8).part(self.id.as_bytes());
        if self.kind == RecipientKind::UserAlias { hasher.part(self.label.as_bytes()) } else { hasher }
    }

    /// The key hash.
    pub fn key_hash(&self) -> KeyHash {
        KeyHash(self.hashed_into(PartsHasher::new()).finish())
    }

    /// What variants are drawn from: the id, or `label:name` for an alias (reference R23).
    pub fn profile_key(&self) -> Cow<'_, str> {
        match self.kind {
            RecipientKind::UserAlias => Cow::Owned(format!("{}:{}", self.label, self.id)),
            _ => Cow::Borrowed(self.id.as_ref()),
        }
    }

    /// Detaches it from the row it was read from.
    pub fn into_owned(self) -> Recipient<'static> {
        Recipient { kind: self.kind, id: Cow::Owned(self.id.into_owned()), label: Cow::Owned(self.label.into_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_different_recipients() {
        let hashes: std::collections::HashSet<_> =
            [Recipient::external("x"), Recipient::braze("x"), Recipient::email("x"), Recipient::alias("x", "")]
                .iter()
                .map(Recipient::key_hash)
                .collect();
        assert_eq!(hashes.len(), 4);
    }

    #[test]
    fn addresses_are_trimmed_and_lowered_in_ascii_only() {
        assert_eq!(Recipient::email(" Inès@Example.ORG ").id, "inès@example.org");
        assert_eq!(Recipient::email("ÉA@x").id, "Éa@x");
    }

    /// The key is part of the format: these numbers never change.
    #[test]
    fn key_hashes_are_pinned() {
        assert_eq!(format!("{:032x}", Recipient::external("u-1001").key_hash().0), "240426bf42d946168acd8af6a9d546b0");
        assert_eq!(
            format!("{:032x}", Recipient::alias("crm-88123", "crm").key_hash().0),
            "3ec9d12c539c4784c0be37bdef48af87"
        );
    }
}
