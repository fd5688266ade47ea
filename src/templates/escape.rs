//! Escaping of printed values.

/// How printed values are escaped, per field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// For HTML text and quoted attributes: `&`, `<`, `>`, `"`, `'`, `` ` ``, `=` as the JavaScript implementation does.
    Html,
    /// For the inside of a JSON string literal.
    Json,
    /// Not at all.
    None,
}

impl Escape {
    /// Appends the escaped text. Most texts have nothing to escape, which is found out many bytes at a time.
    pub(super) fn push(self, text: &str, out: &mut String) {
        match self {
            Escape::None => out.push_str(text),
            Escape::Html => push(text, &HTML, is_html, html, out),
            Escape::Json => push(text, &JSON, is_json, json, out),
        }
    }
}

/// Bytes that are tested at once.
const LANES: usize = 16;

/// Which bytes are escaped, for those that are tested one by one.
type Table = [bool; 256];

static HTML: Table = table(Escape::Html);
static JSON: Table = table(Escape::Json);

const fn table(escape: Escape) -> Table {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match escape {
            Escape::Json => is_json(byte as u8),
            _ => is_html(byte as u8),
        };
        byte += 1;
    }
    table
}

fn push(text: &str, table: &Table, special: impl Fn(u8) -> bool, write: impl Fn(u8, &mut String), out: &mut String) {
    let bytes = text.as_bytes();
    let (chunks, rest) = bytes.as_chunks::<LANES>();
    let any = |chunk: &[u8; LANES]| chunk.iter().fold(false, |any, byte| any | special(*byte));
    if !chunks.iter().any(any) && !rest.iter().any(|byte| table[usize::from(*byte)]) {
        return out.push_str(text);
    }
    let mut copied = 0;
    for (at, byte) in bytes.iter().enumerate().filter(|(_, byte)| table[usize::from(**byte)]) {
        out.push_str(&text[copied..at]);
        write(*byte, out);
        copied = at + 1;
    }
    out.push_str(&text[copied..]);
}

#[inline(always)]
const fn is_html(b: u8) -> bool {
    (b == b'&') | (b == b'<') | (b == b'>') | (b == b'"') | (b == b'\'') | (b == b'`') | (b == b'=')
}

fn html(byte: u8, out: &mut String) {
    out.push_str(match byte {
        b'&' => "&amp;",
        b'<' => "&lt;",
        b'>' => "&gt;",
        b'"' => "&quot;",
        b'\'' => "&#x27;",
        b'`' => "&#x60;",
        _ => "&#x3D;",
    });
}

#[inline(always)]
const fn is_json(b: u8) -> bool {
    (b < b' ') | (b == b'"') | (b == b'\\')
}

fn json(byte: u8, out: &mut String) {
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        0x08 => out.push_str("\\b"),
        0x0c => out.push_str("\\f"),
        control => out.push_str(&format!("\\u{control:04X}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(escape: Escape, text: &str) -> String {
        let mut out = String::new();
        escape.push(text, &mut out);
        out
    }

    #[test]
    fn html_is_safe_in_text_and_in_quoted_attributes() {
        assert_eq!(
            escaped(Escape::Html, "<a b=\"c\" d='e'>&`é"),
            "&lt;a b&#x3D;&quot;c&quot; d&#x3D;&#x27;e&#x27;&gt;&amp;&#x60;é"
        );
    }

    #[test]
    fn json_reads_back_inside_quotes_whatever_the_text() {
        let text: String =
            (0..0x300u32).filter_map(char::from_u32).chain("\u{2028}\u{2029}\u{1F600}".chars()).collect();
        let quoted = format!("\"{}\"", escaped(Escape::Json, &text));
        assert_eq!(serde_json::from_str::<String>(&quoted).expect("valid JSON"), text);
        assert_eq!(escaped(Escape::Json, "a\u{1}\"\\\n"), "a\\u0001\\\"\\\\\\n");
    }
}
