//! What a run decides by: everything but the triggers and the receipts.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use crate::campaigns::Campaigns;
use crate::eligibility::{Clock, KeyRule, Tombstones};
use crate::ids::{KeyHash, TextHasher};
use crate::triggers::Micros;

/// The channel of campaigns without copy: their messages carry the properties.
pub const PROPERTIES_CHANNEL: &str = "properties";

/// Numbers of campaigns by their id, asked for every row.
pub type Numbers = HashMap<String, u16, BuildHasherDefault<TextHasher>>;

/// The rules of one run.
#[derive(Debug)]
pub struct Rules {
    /// The campaigns; a campaign's position is its number.
    pub campaigns: Campaigns,
    /// When receipts happen.
    pub clock: Clock,
    /// The run's instant.
    pub as_of: Micros,
    /// `--max-age`, for every campaign.
    pub max_age_micros: Option<Micros>,
    /// Triggers before this are out of scope.
    pub since: Option<Micros>,
    /// Triggers at or after this are out of scope.
    pub until: Option<Micros>,
    /// On the event clock, a trigger without a time happens at as-of instead of being rejected.
    pub default_time_is_as_of: bool,
    /// Recipients of the `--exclude` table.
    pub excluded: HashSet<KeyHash>,
    /// Erased recipients who have received a campaign that is sent once ever.
    pub erased: Tombstones,
    /// Per campaign number: the instant before which receipts are no longer kept.
    pub history_floors: Vec<Option<Micros>>,
    /// Names of the carried columns.
    pub carry: Vec<String>,
    /// Record receipts without writing messages.
    pub record_only: bool,
    /// Numbers of the campaigns by id.
    pub numbers: Numbers,
}

impl Rules {
    /// Rules without any of what is optional.
    pub fn new(campaigns: Campaigns, clock: Clock, as_of: Micros) -> Rules {
        Rules {
            numbers: Rules::numbers_of(&campaigns),
            history_floors: vec![None; campaigns.loaded.len()],
            campaigns,
            clock,
            as_of,
            max_age_micros: None,
            since: None,
            until: None,
            default_time_is_as_of: false,
            excluded: HashSet::new(),
            erased: Tombstones::default(),
            carry: Vec::new(),
            record_only: false,
        }
    }

    /// The numbers of campaigns by their id.
    pub fn numbers_of(campaigns: &Campaigns) -> Numbers {
        campaigns.loaded.iter().enumerate().map(|(number, c)| (c.id.clone(), number as u16)).collect()
    }

    /// What decides a key of a campaign.
    pub fn key_rule(&self, campaign: u16) -> KeyRule {
        let campaign = &self.campaigns.loaded[usize::from(campaign)];
        KeyRule { rule: campaign.reeligibility, clock: self.clock, as_of: self.as_of, pick: campaign.pick }
    }
}
