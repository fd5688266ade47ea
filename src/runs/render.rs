//! `render`: one template over one JSON object, or the messages of a campaign for the first triggers of an input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::check::spool;
use crate::campaigns::{self, Campaign, LoadOptions};
use crate::error::{Error, Fault, IoContext, Kind, Result};
use crate::input::{InputOptions, Inputs};
use crate::pipeline::{Need, TriggerSource, preview};
use crate::templates::{Escape, OnMissing, Scope, Stop, Template, TemplateSource};

/// What to render.
#[derive(Debug, Clone)]
pub enum RenderWhat {
    /// One template.
    Template {
        /// The template's file; partials stand in `partials/` beside it.
        template: PathBuf,
        /// A file with a JSON object: the root of the names.
        data: PathBuf,
        /// How printed values are escaped.
        escape: Escape,
        /// What a missing value does.
        on_missing: OnMissing,
    },
    /// The messages of a campaign.
    Campaign {
        /// The campaign's folder.
        campaign: PathBuf,
        /// Trigger files.
        inputs: Vec<String>,
        /// How they are read.
        input: Box<InputOptions>,
        /// Triggers to render, at most.
        limit: u64,
    },
}

/// The settings of `render`.
#[derive(Debug, Clone)]
pub struct RenderSettings {
    /// What to render.
    pub what: RenderWhat,
}

/// What was rendered.
#[derive(Debug)]
pub struct Rendered {
    /// For standard output.
    pub text: String,
    /// Whether something stopped: a missing value, an abort, an error.
    pub stopped: bool,
}

/// Renders.
///
/// # Errors
/// A faulty template or campaign (kind `Definition`), data or input that cannot be read.
pub fn render(settings: &RenderSettings) -> Result<Rendered> {
    match &settings.what {
        RenderWhat::Template { template, data, escape, on_missing } => one(template, data, *escape, *on_missing),
        RenderWhat::Campaign { campaign, inputs, input, limit } => messages(campaign, inputs, input, *limit),
    }
}

fn one(path: &Path, data: &Path, escape: Escape, on_missing: OnMissing) -> Result<Rendered> {
    let source = source(path)?;
    let partials = partials(path)?;
    let template = Template::compile(&source, &partials, escape, on_missing).map_err(|faults| {
        Error::new(Kind::Definition, format!("cannot use the template `{}`", path.display())).with_faults(faults)
    })?;
    let values = object(data)?;
    let mut text = String::new();
    match template.render(&Scope::new(values), &mut text) {
        Ok(()) => Ok(Rendered { text, stopped: false }),
        Err(stop) => Err(stopped(stop, &source, &partials)),
    }
}

fn source(path: &Path) -> Result<TemplateSource> {
    let text = std::fs::read_to_string(path).at(Kind::Definition, "read the template", path)?;
    Ok(TemplateSource { file: path.display().to_string(), text })
}

fn partials(template: &Path) -> Result<BTreeMap<String, TemplateSource>> {
    let folder = template.with_file_name("partials");
    let mut partials = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(partials);
    }
    for entry in std::fs::read_dir(&folder).at(Kind::Definition, "read", &folder)? {
        let path = entry.at(Kind::Definition, "read", &folder)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).filter(|n| n.ends_with(".hbs"));
        if let Some(name) = name.and_then(|n| n.split('.').next()) {
            partials.insert(name.to_owned(), source(&path)?);
        }
    }
    Ok(partials)
}

fn object(path: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(path).at(Kind::Input, "read the data", path)?;
    serde_json::from_str(&text)
        .map_err(|e| Error::new(Kind::Input, format!("`{}` must hold a JSON object", path.display())).caused_by(e))
}

/// A stop of a single render is the answer to the question asked: shown with its place.
fn stopped(stop: Stop, source: &TemplateSource, partials: &BTreeMap<String, TemplateSource>) -> Error {
    let (message, file, at, hint) = match stop {
        Stop::Aborted { reason } => return Error::new(Kind::Input, format!("the template aborted: {reason}")),
        Stop::Missing { name, at, file } => {
            (format!("`{name}` has no value"), file, Some(at), Some("give it a value, or `--on-missing blank`"))
        }
        Stop::Failed { message, at, file } => (message, file, at, None),
    };
    let text = partials.values().chain([source]).find(|s| s.file == file).map_or("", |s| s.text.as_str());
    let fault = Fault::new(file, message);
    let fault = at.into_iter().fold(fault, |fault, at| fault.at_place(text, at));
    let fault = hint.into_iter().fold(fault, |fault, hint| fault.hint(hint));
    Error::new(Kind::Input, "the template does not render").with_faults(vec![fault])
}

fn messages(folder: &Path, arguments: &[String], input: &InputOptions, limit: u64) -> Result<Rendered> {
    let campaigns = campaigns::load(folder, &LoadOptions::default())?;
    let [campaign] = campaigns.loaded.as_slice() else {
        let summary = format!("`{}` holds several campaigns", folder.display());
        return Err(Error::new(Kind::Usage, summary).hint("give the folder of one campaign"));
    };
    let spool = spool()?;
    let inputs = Inputs::open(arguments, InputOptions { spool: spool.path().to_owned(), ..input.clone() })?;
    let mut rendered = Rendered { text: String::new(), stopped: false };
    let mut left = limit;
    for split in 0..inputs.splits() {
        if left == 0 {
            break;
        }
        inputs.read(split, Need::Everything, &mut |row| {
            let ours = row.parsed.as_ref().ok().filter(|t| t.campaign_id == campaign.id);
            if let Some(trigger) = ours.filter(|_| left > 0) {
                left -= 1;
                rendered.stopped |= push_preview(&mut rendered.text, campaign, trigger);
            }
            Ok(())
        })?;
    }
    Ok(rendered)
}

/// Every variant's messages of a trigger; whether one of them stopped.
fn push_preview(out: &mut String, campaign: &Campaign, trigger: &crate::triggers::Trigger<'_>) -> bool {
    let recipient = trigger.recipient.profile_key();
    let mut stopped = false;
    for (variant, channel, result) in preview(campaign, trigger) {
        let variant = variant.map(|v| format!(", variant {v}")).unwrap_or_default();
        out.push_str(&format!("--- {} {recipient}, {channel}{variant}\n", trigger.recipient.kind.code()));
        match result {
            Ok(fields) => fields.iter().for_each(|(name, text)| out.push_str(&format!("{name}: {text}\n"))),
            Err(why) => {
                stopped = true;
                out.push_str(&format!("not rendered: {why}\n"));
            }
        }
    }
    stopped
}
