//! The plan of a run: campaigns, rules, inputs with fingerprints, and the digest that gives the run its identity.

use std::collections::BTreeMap;

use serde_json::json;

use super::exclude;
use super::manifest::InputRecord;
use super::settings::RunSettings;
use crate::campaigns::{self, Campaigns};
use crate::delivery::{MAX_SEGMENT_BYTES, path_segment};
use crate::error::{Error, Fault, Kind, Result};
use crate::ids::Digest;
use crate::input::{InputOptions, Inputs};
use crate::pipeline::{Rules, Schemas};
use crate::triggers::Micros;

/// Everything a run will do, before it is done. Immutable.
pub struct Plan {
    /// What decides.
    pub rules: Rules,
    /// What is written.
    pub schemas: Schemas,
    /// Where triggers come from.
    pub inputs: Inputs,
    /// The inputs as they are now.
    pub records: Vec<InputRecord>,
    /// The semantic flags.
    pub flags: serde_json::Value,
    /// Digest of input contents, campaigns and semantic flags.
    pub config_digest: Digest,
    /// Digest of each campaign's definition and templates, by id.
    pub campaign_digests: BTreeMap<String, Digest>,
    /// The wall clock.
    pub now: Micros,
    /// The run's id: given, or the beginning of the digest.
    pub run_id: String,
}

/// What can be wrong with a command before any trigger file is opened.
pub struct Definitions {
    campaigns: Campaigns,
    excluded: std::collections::HashSet<crate::ids::KeyHash>,
    exclude_digest: Option<Digest>,
}

impl Definitions {
    /// Loads campaigns and the exclude table.
    pub fn load(settings: &RunSettings) -> Result<Definitions> {
        let campaigns = campaigns::load(&settings.campaigns, &settings.load)?;
        check_names(&campaigns)?;
        let (excluded, exclude_digest) = match &settings.exclude {
            Some(path) => exclude::read(path).map(|(keys, digest)| (keys, Some(digest)))?,
            None => Default::default(),
        };
        Ok(Definitions { campaigns, excluded, exclude_digest })
    }

    /// The ids of the loaded campaigns and their rules, for the state.
    pub fn campaigns(&self) -> &Campaigns {
        &self.campaigns
    }
}

impl Plan {
    /// Opens and fingerprints the inputs. `options` say where to spool.
    pub fn new(settings: &RunSettings, definitions: Definitions, options: InputOptions) -> Result<Plan> {
        let Definitions { campaigns, excluded, exclude_digest } = definitions;
        let rules = Rules {
            max_age_micros: settings.max_age_micros,
            since: settings.since,
            until: settings.until,
            default_time_is_as_of: settings.default_time_is_as_of,
            excluded,
            carry: settings.input.carry.clone(),
            record_only: settings.record_only,
            ..Rules::new(campaigns, settings.clock, settings.as_of)
        };
        let schemas = Schemas::new(&rules)?;
        let inputs = Inputs::open(&settings.inputs, options)?;
        settings.guards.check_marker(&settings.inputs, inputs.files())?;
        check_attributes(&rules.campaigns, &inputs)?;
        let records = records(&inputs)?;
        let flags = settings.semantic_flags();
        let config_digest = digest(&rules.campaigns, exclude_digest, &records, &flags);
        let campaign_digests = campaign_digests(&rules.campaigns);
        let run_id = settings.run_id.clone().unwrap_or_else(|| config_digest.to_string()[..16].to_owned());
        Ok(Plan { rules, schemas, inputs, records, flags, config_digest, campaign_digests, now: settings.now, run_id })
    }
}

/// Attribute names have values only where rows bring attributes.
///
/// # Errors
/// Every template that mentions one although no input can have any (kind `Definition`).
pub fn check_attributes(campaigns: &Campaigns, inputs: &Inputs) -> Result<()> {
    let faults = if inputs.may_have_attributes() { Vec::new() } else { campaigns::attribute_faults(&campaigns.loaded) };
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Definition, "the campaigns print attributes, and the input has none").with_faults(faults))
}

/// A run keeps each campaign's definition in a folder of its id.
fn check_names(campaigns: &Campaigns) -> Result<()> {
    let too_long = |id: &&str| path_segment(id).len() > MAX_SEGMENT_BYTES;
    let faults: Vec<Fault> = campaigns
        .loaded
        .iter()
        .map(|campaign| campaign.id.as_str())
        .filter(too_long)
        .map(|id| Fault::new(id, format!("as the name of a folder this id has more than {MAX_SEGMENT_BYTES} bytes")))
        .collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Error::new(Kind::Definition, "a campaign's id is too long").with_faults(faults)),
    }
}

fn records(inputs: &Inputs) -> Result<Vec<InputRecord>> {
    let files = inputs.files().iter().zip(inputs.digests()?);
    let records: Vec<InputRecord> =
        files.map(|(f, digest)| InputRecord { name: f.name.clone(), bytes: f.bytes, digest }).collect();
    for (i, record) in records.iter().enumerate() {
        let same =
            |other: &&InputRecord| other.digest == record.digest && other.bytes == record.bytes && record.bytes > 0;
        if let Some(twin) = records[..i].iter().find(same) {
            let summary = format!("`{}` and `{}` hold the same bytes", twin.name, record.name);
            return Err(Error::new(Kind::Input, summary).hint("leave one of them out: its triggers would count twice"));
        }
    }
    Ok(records)
}

fn campaign_digests(campaigns: &Campaigns) -> BTreeMap<String, Digest> {
    let digest = |campaign: &crate::campaigns::Campaign| Digest::of(json!(campaign.files).to_string().as_bytes());
    campaigns.loaded.iter().map(|campaign| (campaign.id.clone(), digest(campaign))).collect()
}

/// Names of inputs are left out: a file that was renamed or fetched again is the same input.
fn digest(
    campaigns: &Campaigns,
    exclude: Option<Digest>,
    records: &[InputRecord],
    flags: &serde_json::Value,
) -> Digest {
    let files: BTreeMap<_, _> = campaigns.loaded.iter().map(|c| (&c.id, &c.files)).collect();
    let config = json!({
        "inputs": records.iter().map(|r| r.digest.to_string()).collect::<Vec<_>>(),
        "campaigns": files,
        "broken": campaigns.broken,
        "exclude": exclude.map(|d| d.to_string()),
        "flags": flags,
    });
    Digest::of(config.to_string().as_bytes())
}
