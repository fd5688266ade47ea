//! JSON text that was checked before, read into [`Values`] in one pass, and JSON strings written.
//!
//! Readers check every text with the JSON library; here it is only gone through. A text that is not JSON after all is
//! told apart from one that is, never guessed at.

use super::values::{Values, Wanted};

/// Deepest nesting that is followed; readers allow less.
const MAX_NESTING: usize = 128;

/// The text is no JSON value of the kind that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

type Read<T> = Result<T, Malformed>;

/// Puts the wanted members of a JSON object into their slots. Of a name that occurs twice the last value counts.
pub(super) fn fill(text: &str, wanted: &Wanted, values: &mut Values) -> Read<()> {
    if !wanted.names.is_empty() {
        Reader::new(text).pick(&wanted.names, values)?;
    }
    if let Some(slot) = wanted.whole {
        values.put(slot);
        Reader::new(text).whole_object(values)?;
    }
    Ok(())
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    /// A name without its escapes.
    buffer: String,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Reader<'t> {
        Reader { text, at: 0, buffer: String::new() }
    }

    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn expect(&mut self, wanted: u8) -> Read<()> {
        if self.peek() != Some(wanted) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Goes through a list or an object, standing behind its opening bracket.
    fn each(&mut self, close: u8, mut one: impl FnMut(&mut Reader<'t>) -> Read<()>) -> Read<usize> {
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(0);
        }
        let mut count = 0;
        loop {
            one(self)?;
            count += 1;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(count);
                }
                _ => return Err(Malformed),
            }
        }
    }

    /// The members of an object that are wanted. Rows of one input mostly have their members in one order, so the name
    /// after the last one found is tried first.
    fn pick(&mut self, names: &[(String, u32)], values: &mut Values) -> Read<()> {
        let mut likely = 0;
        self.expect(b'{')?;
        self.each(b'}', |reader| {
            let name = reader.name()?;
            let (earlier, later) = names.split_at(likely);
            let mut in_turn = later.iter().chain(earlier);
            let found = match name {
                Name::Plain(name) => in_turn.position(|(wanted, _)| wanted == name),
                Name::Unescaped => in_turn.position(|(wanted, _)| *wanted == reader.buffer),
            };
            reader.expect(b':')?;
            match found {
                Some(steps) => {
                    let at = (likely + steps) % names.len();
                    likely = (at + 1) % names.len();
                    values.put(names[at].1);
                    reader.value(values, 1)
                }
                None => reader.skip(),
            }
        })?;
        self.end()
    }

    fn whole_object(&mut self, values: &mut Values) -> Read<()> {
        if self.peek() != Some(b'{') {
            return Err(Malformed);
        }
        self.value(values, 0)?;
        self.end()
    }

    fn end(&mut self) -> Read<()> {
        if self.peek().is_none() { Ok(()) } else { Err(Malformed) }
    }

    fn value(&mut self, values: &mut Values, depth: usize) -> Read<()> {
        if depth > MAX_NESTING {
            return Err(Malformed);
        }
        match self.peek().ok_or(Malformed)? {
            b'"' => self.text_into(values)?,
            b'{' => {
                self.at += 1;
                let opened = values.open_object();
                self.each(b'}', |reader| {
                    reader.peek();
                    reader.text_into(values)?;
                    reader.expect(b':')?;
                    reader.value(values, depth + 1)
                })?;
                values.close_object(opened);
            }
            b'[' => {
                self.at += 1;
                let opened = values.open_list();
                let len = self.each(b']', |reader| reader.value(values, depth + 1))?;
                values.close_list(opened, len);
            }
            b'-' | b'0'..=b'9' => values.json_number(self.number()),
            b't' => self.word("true").map(|()| values.bool(true))?,
            b'f' => self.word("false").map(|()| values.bool(false))?,
            b'n' => self.word("null").map(|()| values.null())?,
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn text_into(&mut self, values: &mut Values) -> Read<()> {
        match self.raw_string()? {
            (text, false) => values.text(text),
            (text, true) => {
                let mut read = Ok(());
                values.text_by(|out| read = unescape(text, out));
                read?;
            }
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Read<()> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> &'t str {
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
        self.at += length;
        &rest[..length]
    }

    /// Steps over a value.
    fn skip(&mut self) -> Read<()> {
        let mut open = 0usize;
        loop {
            match self.peek().ok_or(Malformed)? {
                b'"' => {
                    self.raw_string()?;
                }
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open = open.checked_sub(1).ok_or(Malformed)?;
                    self.at += 1;
                }
                b',' | b':' if open > 0 => self.at += 1,
                b',' | b':' => return Err(Malformed),
                _ => {
                    self.at += self.text.as_bytes()[self.at..].iter().take_while(|b| !is_structure(**b)).count().max(1)
                }
            }
            if open == 0 {
                return Ok(());
            }
        }
    }

    /// The inside of a string as it stands, and whether it has escapes.
    fn raw_string(&mut self) -> Read<(&'t str, bool)> {
        self.expect(b'"')?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        loop {
            self.at += plain(bytes.get(self.at..).ok_or(Malformed)?);
            match bytes.get(self.at).ok_or(Malformed)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => return Err(Malformed),
            }
        }
        let inside = self.text.get(start..self.at).ok_or(Malformed)?;
        self.at += 1;
        Ok((inside, escaped))
    }

    fn name(&mut self) -> Read<Name<'t>> {
        let (inside, escaped) = self.raw_string()?;
        if !escaped {
            return Ok(Name::Plain(inside));
        }
        self.buffer.clear();
        unescape(inside, &mut self.buffer)?;
        Ok(Name::Unescaped)
    }
}

/// The name of a member.
enum Name<'t> {
    /// As it stands in the text.
    Plain(&'t str),
    /// In the buffer.
    Unescaped,
}

fn is_structure(byte: u8) -> bool {
    matches!(byte, b',' | b':' | b'{' | b'}' | b'[' | b']' | b'"' | b' ' | b'\t' | b'\n' | b'\r')
}

fn unescape(text: &str, out: &mut String) -> Read<()> {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = *rest.as_bytes().get(at + 1).ok_or(Malformed)?;
        rest = rest.get(at + 2..).ok_or(Malformed)?;
        out.push(match code {
            b'"' | b'\\' | b'/' => char::from(code),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => code_point(&mut rest)?,
            _ => return Err(Malformed),
        });
    }
    out.push_str(rest);
    Ok(())
}

/// The character of `\u`, behind the `u`: one unit of UTF-16, or two.
fn code_point(rest: &mut &str) -> Read<char> {
    let unit = |rest: &mut &str| {
        let digits = rest.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())).ok_or(Malformed)?;
        *rest = &rest[4..];
        u16::from_str_radix(digits, 16).map_err(|_| Malformed)
    };
    let first = unit(rest)?;
    let mut second = None;
    if (0xD800..0xDC00).contains(&first) {
        *rest = rest.strip_prefix("\\u").ok_or(Malformed)?;
        second = Some(unit(rest)?);
    }
    char::decode_utf16([first].into_iter().chain(second)).next().and_then(Result::ok).ok_or(Malformed)
}

/// How many bytes at the beginning stand in a JSON string as they are, found many at a time.
fn plain(bytes: &[u8]) -> usize {
    const LANES: usize = 16;
    let special = |b: u8| (b < b' ') | (b == b'"') | (b == b'\\');
    let any = |chunk: &&[u8; LANES]| chunk.iter().fold(false, |any, byte| any | special(*byte));
    let whole = bytes.as_chunks::<LANES>().0.iter().take_while(|chunk| !any(chunk)).count() * LANES;
    whole + bytes[whole..].iter().take_while(|byte| !special(**byte)).count()
}

/// Appends a JSON string. Text without anything to escape, nearly all of it, is copied in one piece.
pub(crate) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    loop {
        let length = plain(rest.as_bytes());
        out.push_str(&rest[..length]);
        let Some(byte) = rest.as_bytes().get(length) else { break };
        write_escape(*byte, out);
        rest = &rest[length + 1..];
    }
    out.push('"');
}

fn write_escape(byte: u8, out: &mut String) {
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        0x08 => out.push_str("\\b"),
        0x0c => out.push_str("\\f"),
        control => {
            out.push_str("\\u00");
            out.extend([control >> 4, control & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;
    use crate::triggers::Properties;

    #[test]
    fn strings_are_escaped_as_serde_json_escapes_them() {
        let text: String = (0u8..128).map(char::from).chain("ÿ€😀".chars()).collect();
        for start in (0..text.len()).filter(|start| text.is_char_boundary(*start)) {
            let mut out = String::new();
            write_string(&text[start..], &mut out);
            assert_eq!(out, serde_json::to_string(&text[start..]).expect("a string"));
        }
    }

    /// The object as [`Values`] hold it.
    fn read(text: &str) -> Read<Map<String, Value>> {
        let mut values = Values::default();
        values.begin(1);
        fill(text, &Wanted::all(), &mut values)?;
        Ok(values.to_map(values.slot(0).ok_or(Malformed)? as usize))
    }

    /// One member as [`Values`] hold it, beside others that are wanted.
    fn pick(text: &str, name: &str) -> Read<Option<Value>> {
        let mut values = Values::default();
        values.begin(2);
        let names = vec![("other".to_owned(), 1), (name.to_owned(), 0)];
        fill(text, &Wanted::new(names, None), &mut values)?;
        Ok(values.slot(0).map(|at| values.to_json(at as usize)))
    }

    fn json_value() -> impl Strategy<Value = String> {
        let text = prop_oneof![
            "[a-c \\\\\"/\u{1}-\u{1f}é€😀]{0,6}".prop_map(|text| serde_json::to_string(&text).expect("a string")),
            Just(r#""\u00e9\ud83d\ude00\/\b\f""#.to_owned()),
        ];
        let number = prop_oneof![
            Just("-0".to_owned()),
            Just("1e400".to_owned()),
            Just("1E-400".to_owned()),
            Just("2.50".to_owned()),
            Just("9223372036854775808".to_owned()),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(|f| format!("{f:e}")),
        ];
        let word = prop_oneof![Just("null".to_owned()), Just("true".to_owned()), Just("false".to_owned())];
        prop_oneof![text.clone(), number, word].prop_recursive(4, 24, 4, move |inner| {
            let member = (text.clone(), inner.clone()).prop_map(|(name, value)| format!("{name} :{value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{} ]", items.join(", "))),
                prop::collection::vec(member, 0..4).prop_map(|members| format!("{{ {}}}", members.join(" ,"))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn valid_text_is_read_as_the_json_library_reads_it(a in json_value(), b in json_value(), again in json_value()) {
            let text = format!("{{\"a\":{a},\"other\":1,\"b\" : {b},\"a\":{again}}}");
            let expected = Properties::Text(text.as_str().into()).to_map();
            prop_assert_eq!(pick(&text, "b").expect("valid"), expected.get("b").cloned());
            prop_assert_eq!(pick(&text, "a").expect("valid"), expected.get("a").cloned());
            prop_assert_eq!(pick(&text, "absent").expect("valid"), None);
            let (ours, theirs) = (read(&text).expect("valid"), expected);
            prop_assert_eq!(Value::from(ours.clone()).to_string(), Value::from(theirs).to_string(), "order included");
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}:,\"\\\\ a0-9.eE+-]{0,24}") {
            let ours = read(&text);
            if let Ok(Value::Object(expected)) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(ours.expect("valid").len(), expected.len());
            }
            let _ = pick(&text, "a");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in
            ["", " ", "[]", "1", "null", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1}x", "{\"a\":\"\\ud800\"}", "{\"a\":\"\\"]
        {
            assert!(read(text).is_err(), "{text}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(read(&deep), Err(Malformed));
    }
}
