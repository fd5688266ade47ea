//! Keys to other people's systems, taken out of text that is written aside.
//!
//! By pattern, so that it also works where the JSON is broken or cut off, and inside bodies that stand as strings in
//! strings. It errs on the side of taking out too much. Linear in the length of the text; recipients' data is not its
//! business.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::bytes::{Captures, Regex};

const REDACTED: &[u8] = b"[redacted]";

/// A key whose value is secret, up to the value; or a bearer token anywhere, up to the token.
///
/// The key may end with a quote behind any number of backslashes, and the value may be the first of an array, as header
/// maps have it.
static SECRET: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r#"(?xi-u)
        (?: (?:api[_-]?key | authorization) (?:\\*["'])? \s* [:=] \s* (?:\[\s*)? (?P<quote>\\*"|')?
          | \bbearer \s+ )"#;
    Regex::new(pattern).expect("a constant pattern")
});

/// The text with the values of `api_key` and `authorization` keys (any case) and bearer tokens replaced by `[redacted]`.
pub fn redact(text: &[u8]) -> Cow<'_, [u8]> {
    let mut redacted: Vec<u8> = Vec::new();
    let (mut copied, mut from) = (0, 0);
    while let Some(captures) = SECRET.captures_at(text, from) {
        let secret = secret_range(text, &captures);
        from = secret.end;
        if !secret.is_empty() {
            redacted.extend_from_slice(&text[copied..secret.start]);
            redacted.extend_from_slice(REDACTED);
            copied = secret.end;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    redacted.extend_from_slice(&text[copied..]);
    Cow::Owned(redacted)
}

/// Where the secret after a match stands.
fn secret_range(text: &[u8], captures: &Captures<'_>) -> std::ops::Range<usize> {
    let start = captures.get(0).map_or(text.len(), |all| all.end());
    let rest = &text[start..];
    let length = match captures.name("quote").map(|quote| quote.as_bytes()) {
        Some(b"'") => rest.iter().position(|b| *b == b'\'').unwrap_or(rest.len()),
        Some(quote) => string_length(rest, quote.len() - 1),
        None => bare_length(rest),
    };
    start..start + length
}

/// Length of a string's content, when its opening quote stood behind `escapes` backslashes: one level of strings in
/// strings turns n of them into 2n + 1. A string that never ends ends with the text.
fn string_length(content: &[u8], escapes: usize) -> usize {
    let levels = (escapes + 1).ilog2();
    let mut backslashes = 0usize;
    for (at, byte) in content.iter().enumerate() {
        match byte {
            b'\\' => backslashes += 1,
            b'"' if closes(backslashes, levels) => return at - backslashes.min(escapes),
            _ => backslashes = 0,
        }
    }
    content.len()
}

/// Whether a quote behind that many backslashes ends the string: undoes the levels from the outside, each of which
/// halves the backslashes. An even number on the way is an unescaped quote of that level.
fn closes(backslashes: usize, levels: u32) -> bool {
    let mut left = backslashes;
    for _ in 0..=levels {
        if left.is_multiple_of(2) {
            return true;
        }
        left /= 2;
    }
    false
}

/// Length of a token without quotes, with the name of its scheme. Literals and nested values are no secrets themselves.
fn bare_length(rest: &[u8]) -> usize {
    let token = |text: &[u8]| text.iter().position(|b| b" \t\r\n,;&\"'\\{}[]".contains(b)).unwrap_or(text.len());
    let first = token(rest);
    match rest[..first].to_ascii_lowercase().as_slice() {
        b"null" | b"true" | b"false" => 0,
        b"basic" | b"bearer" | b"token" | b"digest" if rest.get(first) == Some(&b' ') => {
            first + 1 + token(&rest[first + 1..])
        }
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        String::from_utf8(redact(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn secrets_are_taken_out_and_the_rest_stays() {
        let cases = [
            (r#"{"api_key":"k-1","x":1}"#, r#"{"api_key":"[redacted]","x":1}"#),
            (r#"{"API_KEY" : "k\"1\\","x":1}"#, r#"{"API_KEY" : "[redacted]","x":1}"#),
            (r#"{"Authorization":"Bearer abc.def","x":1}"#, r#"{"Authorization":"[redacted]","x":1}"#),
            (r#"{"h":"Bearer abc.def=","x":1}"#, r#"{"h":"Bearer [redacted]","x":1}"#),
            (r#"{"authorization":["Basic abc"],"x":1}"#, r#"{"authorization":["[redacted]"],"x":1}"#),
            (r#"{"api_key":null,"x":1}"#, r#"{"api_key":null,"x":1}"#),
            ("authorization: Basic abc\nx", "authorization: [redacted]\nx"),
            ("POST /?api_key=abc&x=1", "POST /?api_key=[redacted]&x=1"),
            ("{'api_key': 'abc', 'x': 1}", "{'api_key': '[redacted]', 'x': 1}"),
        ];
        for (text, expected) in cases {
            assert_eq!(redacted(text), expected);
        }
    }

    #[test]
    fn broken_json_keeps_no_secret() {
        for text in [r#"{"api_key":"secret"#, r#"{"api_key":secret,"#, r#"{"api_key" "x","authorization":"secret\"#] {
            assert!(!redacted(text).contains("secret"), "{text}: {}", redacted(text));
        }
    }

    #[test]
    fn bodies_inside_strings_are_covered_at_every_level() {
        let mut text = r#"{"api_key":"se\"cr\\et","x":"stays"}"#.to_owned();
        let mut clean = r#"{"api_key":"[redacted]","x":"stays"}"#.to_owned();
        for _ in 0..3 {
            assert_eq!(redacted(&text), clean);
            text = serde_json::json!({ "body": text }).to_string();
            clean = serde_json::json!({ "body": clean }).to_string();
        }
    }

    #[test]
    fn a_text_without_secrets_is_not_copied() {
        assert!(matches!(redact(b"{\"email\":\"ada\"}"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_long_text_takes_linear_time() {
        let text = r#"{"api_key":"\\\\","#.repeat(100_000);
        assert_eq!(redacted(&text), r#"{"api_key":"[redacted]","#.repeat(100_000));
        let open = r#"{"api_key":"\""#.repeat(100_000);
        assert!(redacted(&open).starts_with(r#"{"api_key":"[redacted]"#));
    }
}
