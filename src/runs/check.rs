//! `check`: what can be known before a run. Campaigns are loaded and compiled, input files are found and their schemas
//! checked; no trigger is decided.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::plan::check_attributes;
use crate::campaigns::{self, Campaign, LoadOptions, Status, Variant};
use crate::error::{Error, Kind, Result};
use crate::input::{InputOptions, Inputs};
use crate::templates::Stops;

/// What to check.
#[derive(Debug, Clone)]
pub struct CheckSettings {
    /// Folder of campaign folders.
    pub campaigns: PathBuf,
    /// Which campaigns.
    pub load: LoadOptions,
    /// Trigger files; none checks the campaigns alone.
    pub inputs: Vec<String>,
    /// How they are read.
    pub input: InputOptions,
}

/// One campaign that loads.
#[derive(Debug)]
pub struct CheckedCampaign {
    /// Its id.
    pub id: String,
    /// `active` or `paused`.
    pub status: &'static str,
    /// The window in seconds; none is `never`.
    pub window_seconds: Option<u64>,
    /// Variant names and percentages.
    pub variants: Vec<(Option<String>, u8)>,
    /// Channels in order of first use.
    pub channels: Vec<String>,
    /// Whether a trigger can fail to render.
    pub can_fail: bool,
    /// What deserves a second look.
    pub warnings: Vec<String>,
}

/// One input file that can be read.
#[derive(Debug)]
pub struct CheckedFile {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The result of a check without faults.
#[derive(Debug)]
pub struct Checked {
    /// The campaigns.
    pub campaigns: Vec<CheckedCampaign>,
    /// The input files.
    pub files: Vec<CheckedFile>,
}

/// Checks campaigns and input.
///
/// # Errors
/// All faults of the campaigns (kind `Definition`), or all faults of the input files (kind `Input`).
pub fn check(settings: &CheckSettings) -> Result<Checked> {
    let campaigns = campaigns::load(&settings.campaigns, &settings.load)?;
    let checked = campaigns.loaded.iter().map(check_campaign).collect();
    if settings.inputs.is_empty() {
        return Ok(Checked { campaigns: checked, files: Vec::new() });
    }
    let spool = spool()?;
    let inputs =
        Inputs::open(&settings.inputs, InputOptions { spool: spool.path().to_owned(), ..settings.input.clone() })?;
    check_attributes(&campaigns, &inputs)?;
    let files = inputs.files().iter().map(|f| CheckedFile { name: f.name.clone(), bytes: f.bytes }).collect();
    Ok(Checked { campaigns: checked, files })
}

/// A folder of its own for unpacked input, where there is no OUT to stage in; removed at the end.
pub fn spool() -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("retrigger-spool-").tempdir();
    folder.map_err(|e| Error::io(Kind::Output, "create a folder in", &std::env::temp_dir(), e))
}

fn check_campaign(campaign: &Campaign) -> CheckedCampaign {
    let mut channels: Vec<String> = Vec::new();
    for message in campaign.variants.iter().flat_map(|v| &v.messages) {
        if !channels.contains(&message.channel) {
            channels.push(message.channel.clone());
        }
    }
    let templates = campaign.variants.iter().flat_map(|v| &v.messages).flat_map(|m| &m.fields).map(|f| &f.template);
    CheckedCampaign {
        id: campaign.id.clone(),
        status: if campaign.status == Status::Active { "active" } else { "paused" },
        window_seconds: campaign.reeligibility.window_seconds(),
        variants: campaign.variants.iter().map(|v| (v.name.clone(), v.percent)).collect(),
        can_fail: templates.clone().any(|t| !matches!(t.stops(), Stops::Never)),
        warnings: warnings(campaign, channels.len()),
        channels,
    }
}

fn warnings(campaign: &Campaign, channels: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if campaign.slices.has_control() && channels > 1 {
        warnings.push(
            "a control group over several channels: platforms offer it for single-channel campaigns only".to_owned(),
        );
    }
    warnings.extend(
        campaign
            .variants
            .iter()
            .filter(|v| v.percent == 0)
            .map(|v| format!("variant `{}` has 0 percent: nobody gets it", v.name.as_deref().unwrap_or_default())),
    );
    warnings.extend(campaign.variants.iter().flat_map(not_compiled));
    warnings
}

/// The templates of a variant that are rendered by the slower way, and why.
fn not_compiled(variant: &Variant) -> impl Iterator<Item = String> {
    let name = variant.name.as_deref().map_or(String::new(), |name| format!("variant `{name}`, "));
    let fields = variant.messages.iter().flat_map(|message| message.fields.iter().map(|f| (&message.channel, f)));
    fields.filter_map(move |(channel, field)| {
        let why = field.template.not_compiled()?;
        Some(format!("{name}`{channel}.{}` is not compiled and renders several times slower: {why}", field.name))
    })
}

impl Checked {
    /// For `--json`.
    pub fn to_json(&self) -> Value {
        let campaign = |c: &CheckedCampaign| {
            let variants: Vec<_> =
                c.variants.iter().map(|(name, percent)| json!({"name": name, "percent": percent})).collect();
            json!({
                "id": c.id, "status": c.status, "window_seconds": c.window_seconds, "variants": variants,
                "channels": c.channels, "can_fail": c.can_fail, "warnings": c.warnings,
            })
        };
        let files: Vec<_> = self.files.iter().map(|f| json!({"name": f.name, "bytes": f.bytes})).collect();
        json!({"campaigns": self.campaigns.iter().map(campaign).collect::<Vec<_>>(), "files": files})
    }
}
