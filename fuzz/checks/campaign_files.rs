//! Any files are campaigns or have faults that name a file, and what loads can be previewed.

use std::borrow::Cow;
use std::path::Path;

use retrigger::campaigns::{Campaigns, LoadOptions, load};
use retrigger::error::Kind;
use retrigger::pipeline::preview;
use retrigger::triggers::{Properties, Recipient, Trigger};

use super::{assert_placed, files, parts};

/// What the parts of the input are.
const NAMES: [&str; 3] = ["campaign.json", "body.hbs", "partials/part.hbs"];

/// The parts of the input are a campaign's definition, a template and a partial.
pub fn check(input: &[u8]) {
    let folder = files::folder(NAMES.into_iter().zip(parts(input)));
    match load(folder.path(), &LoadOptions::default()) {
        Ok(campaigns) => check_previews(&campaigns),
        Err(error) => {
            assert_eq!(error.kind, Kind::Definition, "{error}");
            assert!(!error.faults.is_empty(), "{error}");
            error.faults.iter().for_each(|fault| check_fault(fault, folder.path()));
        }
    }
    let skipping = LoadOptions { skip_broken: true, ..LoadOptions::default() };
    let _ = load(folder.path(), &skipping).map(|campaigns| check_previews(&campaigns));
}

/// A fault names something of the campaign's. Where that is a whole file, a place lies in it; a template that stands in
/// the definition has places of its own.
fn check_fault(fault: &retrigger::error::Fault, folder: &Path) {
    assert!(fault.file.starts_with(&folder.display().to_string()), "{fault}");
    assert!(!fault.message.is_empty() && !fault.to_string().is_empty());
    let text = std::fs::read(&fault.file).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if let (Some(text), Some(_)) = (text, fault.at) {
        assert_placed(fault, &text);
    }
}

fn check_previews(campaigns: &Campaigns) {
    let properties = r#"{"item":"lamp","price":9.5,"list":[1,"a",{"b":null}]}"#;
    for campaign in &campaigns.loaded {
        let trigger = Trigger {
            campaign_id: Cow::Borrowed(&campaign.id),
            recipient: Recipient::external("u-1"),
            triggered_at: Some(0),
            trigger_id: None,
            send_id: None,
            properties: Properties::Text(properties.into()),
            attributes: Properties::Text(r#"{"first_name":"Ada"}"#.into()),
            carried: Vec::new(),
            duplicate_recipient: false,
        };
        let messages: usize = campaign.variants.iter().map(|variant| variant.messages.len()).sum();
        assert_eq!(preview(campaign, &trigger).len(), messages);
    }
}
