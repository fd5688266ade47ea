//! Any bytes are NDJSON: every line is a trigger or a rejection, and no split size changes which.

use retrigger::input::{InputOptions, Mapping, PropertiesFrom};

use super::{files, rows};

/// The input is the file.
pub fn check(input: &[u8]) {
    let folder = files::folder([("rows.ndjson", input)]);
    let file = folder.path().join("rows.ndjson");
    let plain = rows::options(folder.path());
    rows::check_same(&file, &plain);
    let mapping = Mapping {
        columns: [("external_user_id".to_owned(), "customer".to_owned())].into(),
        campaign_id: Some("default".to_owned()),
        properties: PropertiesFrom::All,
    };
    let (carry, trigger_id_from) = (vec!["shop".to_owned()], vec!["order_id".to_owned()]);
    rows::check_same(&file, &InputOptions { mapping, carry, trigger_id_from, ..plain });
}
