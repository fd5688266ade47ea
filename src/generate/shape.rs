//! Properties: their shapes, and values drawn from them.
//!
//! A value is drawn once, as a row of tokens in the order of its shape; each form of output walks shape and tokens together.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::profile::Share;

/// Words that also try what escaping and encoding do: letters of several scripts, quotes, angle brackets, ampersands.
const WORDS: [&str; 64] = [
    "Wool",
    "Jacket",
    "Desk",
    "Lamp",
    "Oslo",
    "Ceramic",
    "Teapot",
    "Linen",
    "Shirt",
    "Oak",
    "Table",
    "Travel",
    "Bag",
    "Silver",
    "Ring",
    "Garden",
    "Chair",
    "Winter",
    "Boots",
    "Leather",
    "Wallet",
    "Paper",
    "Notebook",
    "Blue",
    "Green",
    "Red",
    "Small",
    "Large",
    "Classic",
    "Cotton",
    "Towel",
    "Copper",
    "Pan",
    "Kitchen",
    "Scale",
    "Running",
    "Shoes",
    "Rain",
    "Coat",
    "Glass",
    "Bottle",
    "Steel",
    "Knife",
    "Wooden",
    "Spoon",
    "Réveil",
    "d'été",
    "Größe",
    "Łódź",
    "Стол",
    "дубовый",
    "旅行",
    "バッグ",
    "☕",
    "Salt & Pepper",
    "<vintage>",
    "\"Oslo\"",
    "5%",
    "A/B",
    "No. 7",
    "x10",
    "O'Neill",
    "back\\slash",
    "naïve",
];

/// A named value.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// The key.
    pub name: String,
    /// What stands there.
    pub shape: Shape,
}

/// A value that may be missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// What it is where it is there.
    pub value: Value,
    /// How often it is not: the key is left out, an element is null.
    pub missing: Share,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Words with blanks between them.
    Words {
        /// Fewest words.
        min: u32,
        /// Most words.
        max: u32,
    },
    /// An even number; an integer where there are no decimals.
    Number {
        /// The smallest, in units of the last decimal.
        min: i64,
        /// The largest, in units of the last decimal.
        max: i64,
        /// Digits after the point, at most 9.
        decimals: u8,
    },
    /// One of some texts, each as often.
    Choice(Vec<String>),
    /// True or false.
    Boolean,
    /// Values by name; at least one.
    Object(Vec<Property>),
    /// Values of one shape.
    Array {
        /// The shape of an element.
        of: Box<Shape>,
        /// Fewest elements.
        min: u32,
        /// Most elements.
        max: u32,
    },
}

/// Units of [`weight`] that a trigger can have: properties of more than 51,200 bytes would be rejected anyway.
pub(super) const MAX_WEIGHT: u64 = 10_000;

/// What values of this shape can take in memory, in units of eight bytes: how many rows are made at a time depends on it.
pub(super) fn weight(shape: &Shape) -> u64 {
    match &shape.value {
        Value::Words { max, .. } => 1 + 2 * u64::from(*max),
        Value::Number { .. } | Value::Boolean => 1,
        Value::Choice(texts) => 1 + texts.iter().map(String::len).max().unwrap_or(0) as u64 / 8,
        Value::Object(members) => members.iter().map(|member| weight(&member.shape)).fold(1, u64::saturating_add),
        Value::Array { of, max, .. } => u64::from(*max).saturating_mul(weight(of)).saturating_add(1),
    }
}

/// What a profile without properties has: one of each shape, and none missing.
pub(super) fn default_properties() -> Vec<Property> {
    let property =
        |name: &str, value: Value| Property { name: name.to_owned(), shape: Shape { value, missing: Share::NONE } };
    let tag =
        Shape { value: Value::Choice(["new", "sale", "last one"].map(str::to_owned).to_vec()), missing: Share::NONE };
    vec![
        property("item", Value::Words { min: 1, max: 3 }),
        property("price", Value::Number { min: 100, max: 50_000, decimals: 2 }),
        property("currency", Value::Choice(["EUR", "USD", "GBP"].map(str::to_owned).to_vec())),
        property("gift", Value::Boolean),
        property("tags", Value::Array { of: Box::new(tag), min: 0, max: 3 }),
        property("order", Value::Object(vec![property("number", Value::Number { min: 1, max: 999_999, decimals: 0 })])),
    ]
}

/// One step of a drawn value; elements and members follow their array or object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token {
    Missing,
    /// A range of [`Drawn::text`].
    Text {
        start: usize,
        end: usize,
    },
    Whole(i64),
    Number(f64),
    Flag(bool),
    /// An array of this many elements.
    Items(u32),
    Members,
}

/// The drawn properties of one trigger; used again for the next one.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    tokens: Vec<Token>,
    text: String,
}

impl Drawn {
    /// Draws a value for every property, in place of what was drawn before.
    pub(super) fn redraw(&mut self, properties: &[Property], seed: u64) {
        self.tokens.clear();
        self.text.clear();
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        properties.iter().for_each(|property| self.draw(&property.shape, &mut random));
    }

    /// A walk over the tokens, from the first property.
    pub(super) fn walk(&self) -> Walk<'_> {
        Walk { tokens: self.tokens.iter(), text: &self.text }
    }

    fn draw(&mut self, shape: &Shape, random: &mut Xoshiro256PlusPlus) {
        if shape.missing > Share::NONE && random.random_bool(shape.missing.get()) {
            return self.tokens.push(Token::Missing);
        }
        match &shape.value {
            Value::Words { min, max } => {
                let start = self.text.len();
                for word in 0..random.random_range(*min..=*max) {
                    self.text.push_str(if word > 0 { " " } else { "" });
                    self.text.push_str(WORDS[random.random_range(0..WORDS.len() as u32) as usize]);
                }
                self.tokens.push(Token::Text { start, end: self.text.len() });
            }
            Value::Number { min, max, decimals } => {
                let units = random.random_range(*min..=*max);
                self.tokens.push(match decimals {
                    0 => Token::Whole(units),
                    decimals => Token::Number(units as f64 / 10f64.powi(i32::from(*decimals))),
                });
            }
            Value::Choice(texts) => {
                let start = self.text.len();
                self.text.push_str(&texts[random.random_range(0..texts.len() as u32) as usize]);
                self.tokens.push(Token::Text { start, end: self.text.len() });
            }
            Value::Boolean => self.tokens.push(Token::Flag(random.random())),
            Value::Object(members) => {
                self.tokens.push(Token::Members);
                members.iter().for_each(|member| self.draw(&member.shape, random));
            }
            Value::Array { of, min, max } => {
                let items = random.random_range(*min..=*max);
                self.tokens.push(Token::Items(items));
                (0..items).for_each(|_| self.draw(of, random));
            }
        }
    }
}

/// The tokens that are still to come.
pub(super) struct Walk<'a> {
    tokens: std::slice::Iter<'a, Token>,
    text: &'a str,
}

impl<'a> Walk<'a> {
    /// The next token; a walk along the shapes that were drawn never asks for one more.
    pub(super) fn step(&mut self) -> Token {
        self.tokens.next().copied().unwrap_or(Token::Missing)
    }

    /// The text of a token.
    pub(super) fn text(&self, start: usize, end: usize) -> &'a str {
        &self.text[start..end]
    }
}
