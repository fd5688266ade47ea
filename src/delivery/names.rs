//! Names of files and folders inside a run folder, safe for any channel name and run id.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What file systems take at most as one name, in bytes.
pub const MAX_SEGMENT_BYTES: usize = 255;

/// Everything but ASCII letters, digits, `-` and `_`. The dot goes too: `..` must not survive.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// A channel name or run id as one path segment: everything but ASCII letters, digits, `-` and `_` is percent-encoded.
/// Different names give different segments. The empty name gives the empty segment, which callers refuse.
pub fn path_segment(name: &str) -> String {
    utf8_percent_encode(name, ESCAPED).to_string()
}

/// The `batch_id` of a message row. It is made of the path segment, so that nobody who takes it for a file name is misled.
pub(super) fn batch_id(segment: &str, batch: u64) -> String {
    format!("{segment}-{batch:05}")
}

/// The path of a batch file inside the run folder.
pub(super) fn batch_path(segment: &str, batch: u64, extension: &str) -> String {
    format!("deliveries/{segment}/batch-{batch:05}.{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_one_segment() {
        for (name, segment) in [
            ("email", "email"),
            ("in-app_2", "in-app_2"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("../../etc", "%2E%2E%2F%2E%2E%2Fetc"),
            ("a\\b\0\n", "a%5Cb%00%0A"),
            ("e%2Fmail", "e%252Fmail"),
            ("ไลน์", "%E0%B9%84%E0%B8%A5%E0%B8%99%E0%B9%8C"),
        ] {
            assert_eq!(path_segment(name), segment);
        }
    }

    #[test]
    fn batch_numbers_past_five_digits_are_written_whole() {
        assert_eq!(batch_path("email", 7, "parquet"), "deliveries/email/batch-00007.parquet");
        assert_eq!(batch_id("email", 123_456), "email-123456");
    }
}
