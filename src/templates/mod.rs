//! Message templates: Handlebars with the platform's `${…}` placeholders, compiled once and rendered per trigger.
//!
//! ```text
//! text ──parse──► tree ──whitespace──► tree ──check, graph──► faults, all of them, at the author's own line and column
//!                                       └──expand──► program: partials in place, every name resolved
//!                                                      └──analysis──► what it mentions, what could stop it
//!                                                      └──emit──► a template of the `handlebars` crate ──► render(scope)
//! ```
//!
//! Templates mean what they mean to the official JavaScript implementation; `docs/templates.md` lists where they do not,
//! and `tests/golden/templates` holds its output. Everything is judged before the crate sees it: syntax, helper names,
//! partials, cycles, and the bounds that keep a recursive renderer within the stack. The crate walks the tree that it is
//! given; white space, scopes, paths and helpers are ours. This is the only module that knows the crate.
//!
//! Placeholders are read from the top of the data whatever block they stand in: `${name}`,
//! `api_trigger_properties.${name}`, `custom_attribute.${name}`.
//!
//! Invariants: a failed render leaves nothing in the buffer; nothing of one render reaches another; the text of an error
//! never quotes a value.

mod analysis;
mod budget;
mod catalog;
mod check;
mod emit;
mod escape;
mod expand;
mod expression;
mod format;
mod frames;
mod functions;
mod graph;
mod helpers;
mod parse;
mod places;
mod program;
mod scope;
mod syntax;
#[cfg(test)]
mod tests;
mod whitespace;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use handlebars::{Handlebars, Output, RenderContext, RenderError, RenderErrorReason, Renderable};

use crate::error::{Fault, LineColumn};

pub use escape::Escape;
pub use scope::{Scope, ValuePath};

use budget::Limit;
use emit::Tables;
use graph::Graph;
use parse::Faults;
use program::{Step, measure};
use syntax::Node;

/// Largest template or partial, in bytes, and largest text of a template with its partials in place.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 20;

/// Largest text of one field of a template that could multiply its data, in bytes: one that has a loop or prints more than
/// [`MAX_UNLIMITED_PRINTS`] values. Other templates need no limit: their text is theirs plus a few values.
pub const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// Most printed values of a template without a limit on its output.
pub const MAX_UNLIMITED_PRINTS: u64 = 64;

/// The crate's name for the template itself.
const TEMPLATE: &str = "template";

/// What happens where a printed value is absent or `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// The render stops: nobody gets "Hi ,".
    Fail,
    /// Nothing is printed.
    Blank,
}

/// The text of a template or a partial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSource {
    /// The name that faults give it: a file, or a field of a file.
    pub file: String,
    /// The author's text.
    pub text: String,
}

/// Why a render produced no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The template called `abort_message`.
    Aborted {
        /// The author's reason.
        reason: String,
    },
    /// A printed value is absent or `null`.
    Missing {
        /// The value as the author wrote it.
        name: String,
        /// Where it is printed.
        at: LineColumn,
        /// In which file.
        file: String,
    },
    /// A helper cannot use its value, or the render went over a limit. The message never quotes a value.
    Failed {
        /// What is wrong.
        message: String,
        /// Where, if known.
        at: Option<LineColumn>,
        /// In which file.
        file: String,
    },
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Aborted { reason } => write!(f, "aborted: {reason}"),
            Stop::Missing { name, at, file } => {
                write!(f, "{file}, line {}, column {}: `{name}` is missing", at.line, at.column)
            }
            Stop::Failed { message, at: Some(at), file } => {
                write!(f, "{file}, line {}, column {}: {message}", at.line, at.column)
            }
            Stop::Failed { message, at: None, file } => write!(f, "{file}: {message}"),
        }
    }
}

impl std::error::Error for Stop {}

/// What could stop a render.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stops {
    /// Nothing.
    Never,
    /// Exactly that one of these is absent or `null`.
    IfMissing(Vec<ValuePath>),
    /// It depends on the data: only a render tells.
    Unknown,
}

/// A mention of a value at a place in the data that is known without rendering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The way to the value; its first part is the top-level name.
    pub path: ValuePath,
    /// As the author wrote it.
    pub name: String,
    /// Where.
    pub at: LineColumn,
    /// In which file.
    pub file: String,
}

/// A compiled template: cheap to clone, shared between threads.
#[derive(Clone)]
pub struct Template(Arc<Compiled>);

struct Compiled {
    registry: Handlebars<'static>,
    file: String,
    /// Whether work and output are limited.
    limited: bool,
    stops: Stops,
    references: Vec<Reference>,
}

/// A parsed file. The first unit of a template is the template itself, the others are its partials.
struct Unit<'a> {
    source: &'a TemplateSource,
    partial_name: Option<&'a str>,
    nodes: Vec<Node>,
}

impl Template {
    /// Compiles a template with the partials that it may include. Partials that it does not include are checked too.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the template and all partials, file by file.
    pub fn compile(
        source: &TemplateSource,
        partials: &BTreeMap<String, TemplateSource>,
        escape: Escape,
        on_missing: OnMissing,
    ) -> Result<Template, Vec<Fault>> {
        let named = partials.iter().map(|(name, source)| (Some(name.as_str()), source));
        let sources: Vec<_> = std::iter::once((None, source)).chain(named).collect();
        let mut faults: Vec<Faults<'_>> = sources.iter().map(|(_, source)| Faults::new(source)).collect();
        let units: Vec<Unit<'_>> = sources
            .iter()
            .zip(&mut faults)
            .map(|((partial_name, source), faults)| Unit {
                source,
                partial_name: *partial_name,
                nodes: read(source, faults),
            })
            .collect();
        Graph::new(&units).judge(&units, &mut faults);
        let mut steps = Vec::new();
        if faults.iter().all(Faults::is_empty) {
            steps = expand::expand(&units, &mut faults);
        }
        let faults: Vec<Fault> = faults.into_iter().flat_map(Faults::into_sorted).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        let measure = measure(&steps);
        let limited = measure.loops || measure.prints > MAX_UNLIMITED_PRINTS;
        let analysis = analysis::analyse(&steps, &units, on_missing, limited);
        let registry = registry(steps, &units, escape, on_missing);
        let (stops, references) = (analysis.stops, analysis.references);
        Ok(Template(Arc::new(Compiled { registry, file: source.file.clone(), limited, stops, references })))
    }

    /// Renders into `out`, which is cleared first and is empty after an error.
    ///
    /// # Errors
    ///
    /// Why there is no message: data of the trigger's outcome, not a failure of the run.
    pub fn render(&self, scope: &Scope, out: &mut String) -> Result<(), Stop> {
        out.clear();
        let compiled = &*self.0;
        budget::begin(compiled.limited);
        frames::begin();
        let limit = if compiled.limited { MAX_OUTPUT_BYTES } else { usize::MAX };
        let template =
            compiled.registry.get_template(TEMPLATE).expect("the template was registered when it was compiled");
        let mut context = RenderContext::new(None);
        let mut bounded = Bounded { out, limit };
        let result = template.render(&compiled.registry, &scope.context, &mut context, &mut bounded);
        result.map_err(|error| {
            out.clear();
            stop_of(&error, &compiled.file)
        })
    }

    /// What could stop a render, so that a caller can do without a trial.
    pub fn stops(&self) -> Stops {
        self.0.stops.clone()
    }

    /// Every mention of a value at a known place, in the order of the template with its partials in place; the caller knows
    /// which top-level names there are.
    pub fn references(&self) -> Vec<Reference> {
        self.0.references.clone()
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("file", &self.0.file).field("stops", &self.0.stops).finish_non_exhaustive()
    }
}

/// Parses and checks one file.
fn read(source: &TemplateSource, faults: &mut Faults<'_>) -> Vec<Node> {
    if source.text.len() > MAX_TEMPLATE_BYTES {
        faults.push(
            expression::Problem::new(0, format!("the template is over {MAX_TEMPLATE_BYTES} bytes"))
                .hint("move images and data out of the template"),
        );
        return Vec::new();
    }
    let mut nodes = parse::parse(&source.text, faults);
    whitespace::control(&mut nodes);
    check::check(&nodes, faults);
    nodes
}

/// The crate's registry of a template.
fn registry(steps: Vec<Step>, units: &[Unit<'_>], escape: Escape, on_missing: OnMissing) -> Handlebars<'static> {
    let files = units.iter().map(|unit| unit.source.file.clone()).collect();
    let mut tables = Tables { files, ..Tables::default() };
    let template = emit::emit(steps, &mut tables);
    let mut registry = Handlebars::new();
    registry.register_template(TEMPLATE, template);
    helpers::register(&mut registry, tables, escape, on_missing);
    registry
}

/// Collects the output of a render up to a limit.
struct Bounded<'o> {
    out: &'o mut String,
    limit: usize,
}

impl Output for Bounded<'_> {
    fn write(&mut self, text: &str) -> io::Result<()> {
        if text.len() > self.limit.saturating_sub(self.out.len()) {
            return Err(io::Error::other(Limit::Output));
        }
        self.out.push_str(text);
        Ok(())
    }
}

/// Why the crate gave up: our own stop where there is one.
fn stop_of(error: &RenderError, file: &str) -> Stop {
    let cause: Option<&(dyn std::error::Error + Send + Sync + 'static)> = match error.reason() {
        RenderErrorReason::NestedError(cause) => Some(&**cause),
        RenderErrorReason::IOError(error) => error.get_ref(),
        _ => None,
    };
    if let Some(stop) = cause.and_then(|cause| cause.downcast_ref::<Stop>()) {
        return stop.clone();
    }
    let message = match cause.and_then(|cause| cause.downcast_ref::<Limit>()) {
        Some(limit) => limit.to_string(),
        None => error.reason().to_string(),
    };
    Stop::Failed { message, at: None, file: file.to_owned() }
}
