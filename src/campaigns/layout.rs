//! What the templates of a variant ask of a trigger: a slot for each value, filled once for all fields.

use super::definition::ChannelMessage;
use super::names::SCOPE;
use crate::templates::ValuePath;
use crate::triggers::Wanted;

/// A value that the trigger itself and its campaign give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// `external_user_id`
    ExternalUserId,
    /// `recipient`
    Recipient,
    /// `campaign`
    Campaign,
    /// `campaign.id`
    CampaignId,
    /// `campaign.name`
    CampaignName,
    /// `variant`
    Variant,
    /// `send_id`
    SendId,
    /// `triggered_at`
    TriggeredAt,
    /// A name that nothing gives.
    Nothing,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    Properties,
    Property(String),
    Attributes,
    Attribute(String),
    Own(Own),
}

/// The slots of a variant's templates.
#[derive(Debug, Default)]
pub struct Layout {
    /// How many slots.
    pub slots: usize,
    /// Which of them come from `trigger_properties`.
    pub properties: Wanted,
    /// Which of them come from the row's attributes.
    pub attributes: Wanted,
    /// Which of them come from the trigger and its campaign.
    pub own: Vec<(Own, u32)>,
}

impl Layout {
    /// Gives every value that the templates ask for a slot, and tells each field its own.
    pub fn of(messages: &mut [ChannelMessage]) -> Layout {
        let mut origins: Vec<Origin> = Vec::new();
        for field in messages.iter_mut().flat_map(|message| &mut message.fields) {
            field.slots = field.template.asks().iter().map(|ask| slot(&mut origins, origin(ask))).collect();
        }
        let slots = origins.len();
        let (mut properties, mut attributes) = (Members::default(), Members::default());
        let mut own = Vec::new();
        for (origin, slot) in origins.into_iter().zip(0..) {
            match origin {
                Origin::Properties => properties.whole = Some(slot),
                Origin::Property(name) => properties.names.push((name, slot)),
                Origin::Attributes => attributes.whole = Some(slot),
                Origin::Attribute(name) => attributes.names.push((name, slot)),
                Origin::Own(which) => own.push((which, slot)),
            }
        }
        Layout { slots, properties: properties.wanted(), attributes: attributes.wanted(), own }
    }
}

#[derive(Default)]
struct Members {
    names: Vec<(String, u32)>,
    whole: Option<u32>,
}

impl Members {
    fn wanted(self) -> Wanted {
        Wanted::new(self.names, self.whole)
    }
}

impl Layout {
    /// Whether nothing but the trigger's keys and properties is asked for.
    pub fn is_of_keys_and_properties(&self) -> bool {
        self.attributes.is_empty() && !self.own.iter().any(|(own, _)| *own == Own::SendId)
    }
}

fn slot(origins: &mut Vec<Origin>, origin: Origin) -> u32 {
    let at = origins.iter().position(|known| *known == origin).unwrap_or_else(|| {
        origins.push(origin);
        origins.len() - 1
    });
    u32::try_from(at).expect("templates are of bounded size")
}

/// Names of ours hide attributes of the same name.
fn origin(ask: &ValuePath) -> Origin {
    let member = ask.0.get(1);
    match (ask.0.first().map_or("", String::as_str), member.map(String::as_str)) {
        ("api_trigger_properties", None) => Origin::Properties,
        ("api_trigger_properties", Some(name)) => Origin::Property(name.to_owned()),
        ("custom_attribute", None) => Origin::Attributes,
        ("custom_attribute", Some(name)) => Origin::Attribute(name.to_owned()),
        ("campaign", None) => Origin::Own(Own::Campaign),
        ("campaign", Some("id")) => Origin::Own(Own::CampaignId),
        ("campaign", Some("name")) => Origin::Own(Own::CampaignName),
        ("external_user_id", _) => Origin::Own(Own::ExternalUserId),
        ("recipient", _) => Origin::Own(Own::Recipient),
        ("variant", _) => Origin::Own(Own::Variant),
        ("send_id", _) => Origin::Own(Own::SendId),
        ("triggered_at", _) => Origin::Own(Own::TriggeredAt),
        (name, _) if SCOPE.contains(&name) => Origin::Own(Own::Nothing),
        (name, _) => Origin::Attribute(name.to_owned()),
    }
}
