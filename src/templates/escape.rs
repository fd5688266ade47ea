//! Escaping of printed values.

use std::borrow::Cow;

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
    /// The escaped text.
    pub(super) fn apply(self, text: &str) -> Cow<'_, str> {
        match self {
            Escape::Html if text.contains(['&', '<', '>', '"', '\'', '`', '=']) => Cow::Owned(html(text)),
            Escape::Json if text.contains(|c: char| c < ' ' || c == '"' || c == '\\') => Cow::Owned(json(text)),
            _ => Cow::Borrowed(text),
        }
    }
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#x27;"),
            '`' => out.push_str("&#x60;"),
            '=' => out.push_str("&#x3D;"),
            c => out.push(c),
        }
    }
    out
}

fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_safe_in_text_and_in_quoted_attributes() {
        assert_eq!(
            Escape::Html.apply("<a b=\"c\" d='e'>&`é"),
            "&lt;a b&#x3D;&quot;c&quot; d&#x3D;&#x27;e&#x27;&gt;&amp;&#x60;é"
        );
    }

    #[test]
    fn json_reads_back_inside_quotes_whatever_the_text() {
        let text: String =
            (0..0x300u32).filter_map(char::from_u32).chain("\u{2028}\u{2029}\u{1F600}".chars()).collect();
        let escaped = format!("\"{}\"", Escape::Json.apply(&text));
        assert_eq!(serde_json::from_str::<String>(&escaped).expect("valid JSON"), text);
        assert_eq!(Escape::Json.apply("a\u{1}\"\\\n"), "a\\u0001\\\"\\\\\\n");
    }
}
