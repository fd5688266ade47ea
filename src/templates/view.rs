//! A value as helpers and printing see it, whoever holds it: the trigger's [`Values`], or the data of the crate.

use std::borrow::Cow;

use serde_json::Value;

use crate::triggers::{Node, Values, push_float};

use super::scope::{Unit, child, index, unit_of_text};

/// A value.
#[derive(Clone, Copy)]
pub(super) enum View<'v> {
    /// Absent, or `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A finite number.
    Float(f64),
    /// A number that is printed as it stands.
    Number(&'v str),
    /// A text.
    Text(&'v str),
    /// A list or an object.
    Tree(Tree<'v>),
}

/// A list or an object.
#[derive(Clone, Copy)]
pub(super) enum Tree<'v> {
    /// Of the crate's data.
    Json(&'v Value),
    /// Of a trigger's values.
    Node(&'v Values, u32),
}

impl<'v> From<&'v Value> for View<'v> {
    fn from(value: &'v Value) -> View<'v> {
        match value {
            Value::Null => View::Null,
            Value::Bool(truth) => View::Bool(*truth),
            Value::Number(number) => match number.as_str().parse::<i64>() {
                Ok(value) if number.as_str() != "-0" => View::Int(value),
                _ => View::Number(number.as_str()),
            },
            Value::String(text) => View::Text(text),
            Value::Array(_) | Value::Object(_) => View::Tree(Tree::Json(value)),
        }
    }
}

impl<'v> View<'v> {
    /// The value at a place.
    #[inline]
    pub fn at(values: &'v Values, at: u32) -> View<'v> {
        match values.node(at) {
            Node::Null => View::Null,
            Node::Bool(truth) => View::Bool(truth),
            Node::Int(value) => View::Int(value),
            Node::Float(value) => View::Float(value),
            Node::Number(span) => View::Number(values.str(span)),
            Node::Text(span) => View::Text(values.str(span)),
            Node::List { .. } | Node::Object { .. } => View::Tree(Tree::Node(values, at)),
        }
    }

    /// Handlebars' notion of truth: `false`, `null`, `""`, `0` and `[]` are false.
    #[inline]
    pub fn is_truthy(self) -> bool {
        match self {
            View::Null => false,
            View::Bool(truth) => truth,
            View::Int(value) => value != 0,
            View::Float(value) => value != 0.0,
            View::Number(text) => !is_zero(text),
            View::Text(text) => !text.is_empty(),
            View::Tree(tree) => !tree.is_empty_list(),
        }
    }

    /// Whether it is a number.
    pub fn is_number(self) -> bool {
        matches!(self, View::Int(_) | View::Float(_) | View::Number(_))
    }

    /// Whether it is a list.
    pub fn is_list(self) -> bool {
        match self {
            View::Tree(Tree::Json(value)) => value.is_array(),
            View::Tree(Tree::Node(values, at)) => matches!(values.node(at), Node::List { .. }),
            _ => false,
        }
    }

    /// Appends what is printed: strings as they are, `null` as nothing, lists and objects as compact JSON.
    pub fn print(self, out: &mut String) {
        match self {
            View::Null => {}
            View::Bool(truth) => out.push_str(if truth { "true" } else { "false" }),
            View::Int(value) => out.push_str(itoa::Buffer::new().format(value)),
            View::Float(value) => push_float(value, out),
            View::Number(text) | View::Text(text) => out.push_str(text),
            View::Tree(Tree::Json(value)) => out.push_str(&value.to_string()),
            View::Tree(Tree::Node(values, at)) => values.write_json(at, out),
        }
    }

    /// What is printed, as a text.
    pub fn printed(self) -> Cow<'v, str> {
        match self {
            View::Number(text) | View::Text(text) => Cow::Borrowed(text),
            other => {
                let mut text = String::new();
                other.print(&mut text);
                Cow::Owned(text)
            }
        }
    }

    /// A text.
    pub fn as_text(self) -> Option<&'v str> {
        match self {
            View::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The member of a value by name: a field, an item by its index from 0, a `length`.
    pub fn child(self, name: &str, found: &mut String) -> Child<'v> {
        match self {
            View::Text(text) => match unit_of_text(text, name) {
                Some(Unit::Character(character)) => {
                    found.push(character);
                    Child::Written
                }
                Some(Unit::Length(length)) => Child::View(View::Int(length)),
                None => Child::Absent,
            },
            View::Tree(Tree::Json(value)) => match child(value, name) {
                Some(Cow::Borrowed(value)) => Child::View(View::from(value)),
                Some(Cow::Owned(value)) => {
                    value.as_i64().map_or(Child::Absent, |length| Child::View(View::Int(length)))
                }
                None => Child::Absent,
            },
            View::Tree(Tree::Node(values, at)) => Child::of(child_of_node(values, at, name, index(name)), values),
            _ => Child::Absent,
        }
    }

    /// The value as the JSON library holds it.
    pub fn to_json(self) -> Value {
        match self {
            View::Null => Value::Null,
            View::Bool(truth) => Value::Bool(truth),
            View::Int(value) => Value::from(value),
            View::Float(_) | View::Number(_) => {
                Value::Number(serde_json::Number::from_string_unchecked(self.printed().into_owned()))
            }
            View::Text(text) => Value::from(text),
            View::Tree(Tree::Json(value)) => value.clone(),
            View::Tree(Tree::Node(values, at)) => values.to_json(at as usize),
        }
    }
}

/// What a name led to.
pub(super) enum Child<'v> {
    /// Nothing.
    Absent,
    /// A value.
    View(View<'v>),
    /// A text, in the buffer.
    Written,
}

impl<'v> Child<'v> {
    fn of(step: Option<Step>, values: &'v Values) -> Child<'v> {
        match step {
            None => Child::Absent,
            Some(Step::At(at)) => Child::View(View::at(values, at)),
            Some(Step::Length(length)) => Child::View(View::Int(length.into())),
        }
    }
}

impl Tree<'_> {
    fn is_empty_list(self) -> bool {
        match self {
            Tree::Json(value) => value.as_array().is_some_and(Vec::is_empty),
            Tree::Node(values, at) => matches!(values.node(at), Node::List { len: 0, .. }),
        }
    }
}

/// Whether a number is zero, however it is spelled.
fn is_zero(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or("");
    mantissa.bytes().all(|b| matches!(b, b'0' | b'.' | b'-'))
}

/// A name to follow, with what it means to a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// As it is written.
    pub text: String,
    /// As an index.
    pub index: Option<usize>,
}

impl Name {
    /// A name as it is written.
    pub fn new(text: &str) -> Name {
        Name { text: text.to_owned(), index: index(text) }
    }
}

/// Where a name of a list or an object leads.
pub(super) enum Step {
    /// To a place.
    At(u32),
    /// To the length of a list.
    Length(u32),
}

/// The member of a list or an object by name.
pub(super) fn child_of_node(values: &Values, at: u32, name: &str, index: Option<usize>) -> Option<Step> {
    match values.node(at) {
        Node::Object { .. } => values.member(at, name).map(Step::At),
        Node::List { len, .. } if name == "length" => Some(Step::Length(len)),
        Node::List { .. } => values.item(at, index?).map(Step::At),
        _ => None,
    }
}
