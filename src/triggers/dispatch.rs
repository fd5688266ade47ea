//! The stable name of a message: what a sender deduplicates by, across retries, runs and file formats.

use super::{Micros, Recipient, Trigger};
use crate::ids::{DispatchId, PartsHasher};

/// What the dispatch ids of one trigger share; each channel's id is derived from it.
#[derive(Clone)]
pub struct Dispatch(PartsHasher);

impl Dispatch {
    /// From campaign, recipient and the trigger id; without an id from the instant, the properties and the ordinal among
    /// equal triggers. Never from the run, the file or the batch.
    pub fn of(trigger: &Trigger<'_>, at: Micros, ordinal: u16) -> Dispatch {
        let Recipient { kind, id, label } = &trigger.recipient;
        let hasher = PartsHasher::new().part(trigger.campaign_id.as_bytes());
        let hasher = hasher.tag(*kind as u8).part(id.as_bytes()).part(label.as_bytes());
        Dispatch(match &trigger.trigger_id {
            Some(trigger_id) => hasher.tag(0).part(trigger_id.as_bytes()),
            None => {
                let content = trigger.properties.content_hash().to_le_bytes();
                hasher.tag(1).part(&at.to_le_bytes()).part(&content).part(&ordinal.to_le_bytes())
            }
        })
    }

    /// The id of the message in a channel.
    pub fn id(&self, channel: &str) -> DispatchId {
        DispatchId(self.0.clone().part(channel.as_bytes()).finish())
    }
}
