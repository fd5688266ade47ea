//! Which helpers there are, what they take, and whether they can stop a render: the one list that checks, hints and
//! registration share.

use super::functions::{self, Function};

/// How a helper is used.
pub(super) enum Use {
    /// `{{name …}}` and `(name …)`: a pure function over values.
    Inline(Function),
    /// One whose result is true or false, so that `{{#name …}}…{{else}}…{{/name}}` works too.
    Condition(Function),
    /// `{{#name …}}…{{/name}}`.
    Block,
}

/// What is known of a helper.
pub(super) struct Spec {
    /// Its name.
    pub name: &'static str,
    /// How it is used.
    pub used: Use,
    /// Fewest positional arguments.
    pub fewest: usize,
    /// Most positional arguments.
    pub most: usize,
    /// Its `key=value` arguments.
    pub keys: &'static [&'static str],
    /// Its result depends on nothing but its arguments, and it always has one.
    pub never_stops: bool,
    /// An example for hints.
    pub example: &'static str,
}

const ANY: usize = 16;

const fn pure(name: &'static str, function: Function, fewest: usize, most: usize, example: &'static str) -> Spec {
    Spec { name, used: Use::Inline(function), fewest, most, keys: &[], never_stops: true, example }
}

const fn condition(name: &'static str, function: Function, fewest: usize, most: usize, example: &'static str) -> Spec {
    Spec { name, used: Use::Condition(function), fewest, most, keys: &[], never_stops: true, example }
}

const fn block(name: &'static str, keys: &'static [&'static str], example: &'static str) -> Spec {
    Spec { name, used: Use::Block, fewest: 1, most: 1, keys, never_stops: true, example }
}

/// Every helper.
pub(super) static HELPERS: [Spec; 20] = [
    Spec {
        name: "abort_message",
        used: Use::Inline(functions::abort_message),
        fewest: 0,
        most: 1,
        keys: &[],
        never_stops: false,
        example: "{{abort_message \"reason\"}}",
    },
    condition("and", functions::and, 2, ANY, "{{#if (and a b)}}"),
    Spec {
        name: "date",
        used: Use::Inline(functions::date),
        fewest: 2,
        most: 2,
        keys: &["tz"],
        never_stops: false,
        example: "{{date value \"%d %B %Y\" tz=\"Europe/Paris\"}}",
    },
    pure("default", functions::default, 2, 2, "{{default value \"fallback\"}}"),
    block("each", &[], "{{#each items as |item|}}…{{/each}}"),
    condition("eq", functions::eq, 2, 2, "{{#if (eq a b)}}"),
    condition("gt", functions::gt, 2, 2, "{{#if (gt a b)}}"),
    condition("gte", functions::gte, 2, 2, "{{#if (gte a b)}}"),
    block("if", &["includeZero"], "{{#if value}}…{{/if}}"),
    pure("lookup", functions::lookup, 2, 2, "{{lookup items 0}}"),
    pure("lower", functions::lower, 1, 1, "{{lower value}}"),
    condition("lt", functions::lt, 2, 2, "{{#if (lt a b)}}"),
    condition("lte", functions::lte, 2, 2, "{{#if (lte a b)}}"),
    condition("ne", functions::ne, 2, 2, "{{#if (ne a b)}}"),
    condition("not", functions::not, 1, 1, "{{#if (not value)}}"),
    Spec {
        name: "number",
        used: Use::Inline(functions::number),
        fewest: 1,
        most: 1,
        keys: &["decimals", "thousands", "decimal"],
        never_stops: false,
        example: "{{number value decimals=2 thousands=\",\" decimal=\".\"}}",
    },
    condition("or", functions::or, 2, ANY, "{{#if (or a b)}}"),
    block("unless", &["includeZero"], "{{#unless value}}…{{/unless}}"),
    pure("upper", functions::upper, 1, 1, "{{upper value}}"),
    block("with", &[], "{{#with value as |name|}}…{{/with}}"),
];

/// The helper of a name.
pub(super) fn find(name: &str) -> Option<&'static Spec> {
    HELPERS.iter().find(|spec| spec.name == name)
}

impl std::fmt::Debug for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Spec {
    /// Its function; a block helper has none.
    pub fn function(&self) -> Option<Function> {
        match self.used {
            Use::Inline(function) | Use::Condition(function) => Some(function),
            Use::Block => None,
        }
    }

    /// Whether `{{#name …}}` works.
    pub fn opens_block(&self) -> bool {
        matches!(self.used, Use::Block | Use::Condition(_))
    }
}

/// Whether a plain name means a helper; `log` is known, so that it is refused and not looked up.
pub(super) fn is_known(name: &str) -> bool {
    name == "log" || find(name).is_some()
}
