//! Any bytes are logged request bodies: every recipient is a trigger or a rejection, and no split size changes which.

use retrigger::input::InputOptions;

use super::{files, rows};

/// The input is the log: bare bodies, or records that hold one at `/request/body`. And each of its lines is the list of
/// recipients of a body that is right otherwise, so that few bytes reach far.
pub fn check(input: &[u8]) {
    let bodies: Vec<u8> = input.split(|byte| *byte == b'\n').flat_map(body).collect();
    let folder = files::folder([("log.ndjson", input), ("bodies.ndjson", &bodies)]);
    let options = rows::options(folder.path());
    let wrapped = InputOptions { body: Some("/request/body".to_owned()), ..options.clone() };
    rows::check_same(&folder.path().join("log.ndjson"), &options);
    rows::check_same(&folder.path().join("log.ndjson"), &wrapped);
    rows::check_same(&folder.path().join("bodies.ndjson"), &options);
}

fn body(recipients: &[u8]) -> Vec<u8> {
    let before = br#"{"campaign_id":"c","trigger_properties":{"a":1,"b":{"c":2}},"recipients":["#;
    [before, recipients, b"]}\n"].concat()
}
