//! Reads what stands inside one mustache: paths, placeholders, literals, helper calls.
//!
//! The lexing trap of the platform's placeholders is met here: in `{{${first_name}}}` the first brace closes the
//! placeholder and the other two the mustache. A name inside `${…}` may hold anything but a closing brace and is trimmed.
//!
//! Strings are read as the JavaScript implementation reads them: only the quote itself can be escaped.

use serde_json::{Number, Value};

use super::syntax::{Argument, Call, MAX_NESTING, Named, Path, Start};

/// Namespaces whose placeholders are read from the top of the data, whatever block they stand in.
const NAMESPACES: [&str; 2] = ["api_trigger_properties", "custom_attribute"];

/// A fault of syntax and where it is.
#[derive(Debug)]
pub(super) struct Problem {
    /// Byte offset into the author's text.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem at an offset.
    pub fn new(offset: usize, message: impl Into<String>) -> Problem {
        Problem { offset, message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
}

/// Positional and named arguments.
pub(super) type Arguments = (Vec<Argument>, Vec<Named>);

/// A place in the text, inside a mustache.
pub(super) struct Cursor<'t> {
    text: &'t str,
    /// Byte offset of what is read next.
    pub at: usize,
}

impl<'t> Cursor<'t> {
    /// A cursor at a byte offset.
    pub fn new(text: &'t str, at: usize) -> Cursor<'t> {
        Cursor { text, at }
    }

    /// What is still to be read.
    pub fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The next character.
    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Skips `token` if it comes next.
    pub fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    /// Skips white space.
    pub fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Whether nothing more belongs to the call that is being read.
    fn at_end(&self) -> bool {
        matches!(self.peek(), None | Some('}' | ')' | '~'))
    }

    /// Whether `word` comes next and ends there.
    pub fn at_word(&self, word: &str) -> bool {
        self.rest().strip_prefix(word).is_some_and(|rest| rest.chars().next().is_none_or(is_delimiter))
    }

    /// Arguments up to the end of the call or to `as |…|`.
    pub fn arguments(&mut self, depth: usize) -> Result<Arguments, Problem> {
        let (mut args, mut hash) = (Vec::new(), Vec::new());
        loop {
            self.skip_space();
            if self.at_end() || self.at_block_params() {
                return Ok((args, hash));
            }
            match self.hash_key() {
                Some((key, offset)) => hash.push(Named { key, offset, value: self.argument(depth)? }),
                None => args.push(self.argument(depth)?),
            }
        }
    }

    /// `key=`, with the white space after it.
    fn hash_key(&mut self) -> Option<(String, usize)> {
        let (offset, name) = (self.at, self.id_text());
        let after = self.rest()[name.len()..].trim_start();
        if name.is_empty() || !after.starts_with('=') {
            return None;
        }
        self.at = self.text.len() - after.len() + 1;
        self.skip_space();
        Some((name.to_owned(), offset))
    }

    /// One argument, which must end in a delimiter.
    pub fn argument(&mut self, depth: usize) -> Result<Argument, Problem> {
        let offset = self.at;
        let argument = match self.peek() {
            Some('(') => Argument::Call(self.sub_expression(depth + 1)?),
            Some(quote @ ('"' | '\'')) => Argument::Literal(Value::String(self.string(quote)?), offset),
            _ => match self.literal() {
                Some(value) => Argument::Literal(value, offset),
                None => Argument::Path(self.path()?),
            },
        };
        self.expect_delimiter()?;
        Ok(argument)
    }

    fn sub_expression(&mut self, depth: usize) -> Result<Call, Problem> {
        let open = self.at;
        if depth > MAX_NESTING {
            return Err(Problem::new(open, format!("sub-expressions nest deeper than {MAX_NESTING}"))
                .hint("compute the value before the run, or split the condition over several blocks"));
        }
        self.at += 1;
        self.skip_space();
        let name = self.helper_name()?;
        let (args, hash) = self.arguments(depth)?;
        if !self.eat(")") {
            return Err(Problem::new(open, "this parenthesis is never closed").hint("add `)`"));
        }
        Ok(Call { name: name.written, offset: name.offset, args, hash })
    }

    /// A path that is nothing but a name, as a helper has it.
    pub fn helper_name(&mut self) -> Result<Path, Problem> {
        if matches!(self.peek(), Some('(' | '"' | '\'')) {
            return Err(Problem::new(self.at, "the name of a helper is expected"));
        }
        let path = self.path()?;
        self.expect_delimiter()?;
        match path.plain_name() {
            Some(_) => Ok(path),
            None => Err(Problem::new(path.offset, format!("`{}` is not the name of a helper", path.written))),
        }
    }

    /// `true`, `null`, `12`, `-3.50`: anything else is a path.
    fn literal(&mut self) -> Option<Value> {
        let text = self.rest();
        let end = text.find(is_delimiter).unwrap_or(text.len());
        let value = match &text[..end] {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" | "undefined" => Value::Null,
            number if is_number(number) => Value::Number(number.parse::<Number>().ok()?),
            _ => return None,
        };
        self.at += end;
        Some(value)
    }

    /// A quoted string; its quote can be escaped with a backslash, nothing else can.
    pub fn string(&mut self, quote: char) -> Result<String, Problem> {
        let open = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((offset, c)) = chars.next() {
            if c == '\\' && chars.next_if(|(_, next)| *next == quote).is_some() {
                text.push(quote);
            } else if c == quote {
                self.at = open + offset + 1;
                return Ok(text);
            } else {
                text.push(c);
            }
        }
        Err(Problem::new(open, "this string is never closed").hint(format!("add `{quote}`")))
    }

    /// A path, with its placeholders.
    pub fn path(&mut self) -> Result<Path, Problem> {
        let offset = self.at;
        let data = self.eat("@");
        let (mut up, mut this) = (0, false);
        let mut segments: Vec<String> = Vec::new();
        let mut placeholder = None;
        loop {
            let fresh = segments.is_empty();
            let here = self.at;
            if self.eat("..") {
                if !fresh {
                    return Err(Problem::new(here, "`..` can only stand at the beginning of a path"));
                }
                up += 1;
            } else if fresh && self.rest().starts_with('.') {
                self.at += 1;
                this = true;
                if !self.eat("/") {
                    break;
                }
                continue;
            } else if self.rest().starts_with("${") {
                placeholder = placeholder.or(Some(segments.len()));
                segments.push(self.placeholder()?);
            } else if self.rest().starts_with('[') {
                segments.push(self.bracketed()?);
            } else {
                match self.id()? {
                    "this" if fresh => this = true,
                    "this" => return Err(Problem::new(here, "`this` can only stand at the beginning of a path")),
                    name => segments.push(name.to_owned()),
                }
            }
            if !(self.eat(".") || self.eat("/")) {
                break;
            }
        }
        let written = self.text[offset..self.at].to_owned();
        let start = start(data, up, this, placeholder, &mut segments)
            .ok_or_else(|| Problem::new(offset, format!("`{written}` names no value")))?;
        Ok(Path { start, segments, written, offset })
    }

    fn placeholder(&mut self) -> Result<String, Problem> {
        let inner = &self.rest()[2..];
        let Some(end) = inner.find('}') else {
            return Err(Problem::new(self.at, "the placeholder `${` is never closed").hint("add `}` after its name"));
        };
        let name = inner[..end].trim();
        if name.is_empty() {
            return Err(Problem::new(self.at, "the placeholder has no name").hint("write for example `${first_name}`"));
        }
        self.at += 2 + end + 1;
        Ok(name.to_owned())
    }

    fn bracketed(&mut self) -> Result<String, Problem> {
        let inner = &self.rest()[1..];
        let Some(end) = inner.find(']') else {
            return Err(Problem::new(self.at, "this bracket is never closed").hint("add `]`"));
        };
        self.at += end + 2;
        Ok(inner[..end].to_owned())
    }

    /// The characters of a plain name, up to where it ends or a placeholder begins.
    fn id_text(&self) -> &'t str {
        let rest = self.rest();
        let end = rest
            .char_indices()
            .find(|(at, c)| !is_id_char(*c) || rest[*at..].starts_with("${"))
            .map_or(rest.len(), |(at, _)| at);
        &rest[..end]
    }

    fn id(&mut self) -> Result<&'t str, Problem> {
        let name = self.id_text();
        if let Some((at, c)) = name.char_indices().find(|(_, c)| matches!(c, '“' | '”' | '‘' | '’' | '„')) {
            return Err(Problem::new(self.at + at, format!("`{c}` is a typographic quote"))
                .hint("strings stand in straight quotes: `\"…\"`"));
        }
        if name.is_empty() {
            return Err(match self.peek() {
                Some(c) if !matches!(c, '}' | '~') => Problem::new(self.at, format!("`{c}` is not expected here")),
                _ => Problem::new(self.at, "a name is expected here"),
            });
        }
        self.at += name.len();
        Ok(name)
    }

    /// Two values must not run into each other.
    pub fn expect_delimiter(&self) -> Result<(), Problem> {
        match self.peek() {
            Some(c) if !is_delimiter(c) => {
                let problem = Problem::new(self.at, format!("`{c}` is not expected here"));
                Err(match c {
                    '$' => problem.hint("a placeholder follows a dot: `api_trigger_properties.${name}`"),
                    _ => problem.hint("separate values with a space"),
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether `as |` comes next.
    pub fn at_block_params(&self) -> bool {
        self.rest()
            .strip_prefix("as")
            .is_some_and(|rest| rest.starts_with(char::is_whitespace) && rest.trim_start().starts_with('|'))
    }

    /// `as |a b|`, if it comes next.
    pub fn block_params(&mut self) -> Result<Vec<String>, Problem> {
        if !self.at_block_params() {
            return Ok(Vec::new());
        }
        let offset = self.at;
        self.eat("as");
        self.skip_space();
        self.eat("|");
        let mut names = Vec::new();
        loop {
            self.skip_space();
            if self.eat("|") {
                break;
            }
            names.push(self.id()?.to_owned());
        }
        match names.len() {
            1 | 2 => Ok(names),
            _ => Err(Problem::new(offset, "a block has one or two parameters").hint("write `as |item|`")),
        }
    }
}

/// What a path starts from, once its parts are known. `None` where it names nothing.
fn start(data: bool, up: usize, this: bool, placeholder: Option<usize>, segments: &mut Vec<String>) -> Option<Start> {
    if data {
        let name = (!segments.is_empty() && !this).then(|| segments.remove(0))?;
        return Some(if name == "root" && up == 0 { Start::Top } else { Start::Data(up, name) });
    }
    let from_top = match placeholder {
        Some(0) => true,
        Some(1) => NAMESPACES.contains(&segments[0].as_str()),
        _ => false,
    };
    Some(match (up, this) {
        (0, false) if from_top => Start::Top,
        (0, false) => Start::Name,
        (0, true) => Start::This,
        (up, _) => Start::Up(up),
    })
}

fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || matches!(c, '}' | ')' | '=' | '|' | '~')
}

fn is_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$' | ':' | '?') || (!c.is_ascii() && !c.is_whitespace())
}

/// `-?[0-9]+(\.[0-9]+)?`, and JSON's rule against leading zeros is not asked for.
fn is_number(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    match unsigned.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(unsigned),
    }
}
