//! Message templates: Handlebars with the platform's `${…}` placeholders, compiled once and rendered per trigger.
//!
//! ```text
//! text ──parse──► tree ──whitespace──► tree ──check, graph──► faults, all of them, at the author's own line and column
//!                                       └──expand──► program: partials in place, every name resolved
//!                                                      └──analysis──► what it mentions, what could stop it
//!                                                      └──lower──► a flat program over slots ──► interpret(values)
//!                                                      └──emit──► a template of the `handlebars` crate ──► render(scope)
//! ```
//!
//! Nearly every template is compiled to a flat program; what cannot be is rendered by the crate, which is also what the
//! programs are tested against.
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
mod by_crate;
mod catalog;
mod check;
mod compiled;
mod escape;
mod expand;
mod expression;
mod format;
mod functions;
mod graph;
mod parse;
mod places;
mod program;
mod scope;
mod surroundings;
mod syntax;
#[cfg(test)]
mod tests;
mod view;
mod whitespace;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Fault, LineColumn};
use crate::triggers::Values;

pub use compiled::Workspace;
pub use escape::Escape;
pub use scope::{Scope, ValuePath};

use by_crate::ByCrate;
use compiled::{Halted, Program};
use graph::Graph;
use parse::Faults;
use program::{Measure, measure};
use syntax::Node;

/// Largest template or partial, in bytes, and largest text of a template with its partials in place.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 20;

/// Largest text of one field of a message, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 1 << 20;

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

/// What could stop a render, the largest output apart.
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
    engine: Engine,
    file: String,
    measure: Measure,
    stops: Stops,
    references: Vec<Reference>,
}

/// What renders a template.
enum Engine {
    /// A program of ours, and the crate where the program can come to something that it cannot do.
    Program(Box<Program>, Option<Box<ByCrate>>),
    /// The crate.
    Crate(Box<ByCrate>, &'static str),
}

/// The data of a render.
#[derive(Clone, Copy)]
pub struct Data<'d> {
    /// Values by slot.
    pub values: &'d Values,
    /// The slots of the template's asks, in their order.
    pub slots: &'d [u32],
    /// At least as many bytes as all the values' texts have, as JSON.
    pub bytes: usize,
    /// Makes all names; only what is not compiled needs them.
    pub scope: &'d dyn Fn() -> Scope,
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
        Template::build(source, partials, escape, on_missing, true)
    }

    /// The same template, rendered by the crate whatever it holds: what compiled programs are held against.
    ///
    /// # Errors
    ///
    /// As [`Self::compile`].
    pub fn compile_reference(
        source: &TemplateSource,
        partials: &BTreeMap<String, TemplateSource>,
        escape: Escape,
        on_missing: OnMissing,
    ) -> Result<Template, Vec<Fault>> {
        Template::build(source, partials, escape, on_missing, false)
    }

    fn build(
        source: &TemplateSource,
        partials: &BTreeMap<String, TemplateSource>,
        escape: Escape,
        on_missing: OnMissing,
        lowered: bool,
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
        let analysis = analysis::analyse(&steps, &units, on_missing);
        let (stops, references) = (analysis.stops, analysis.references);
        let files = units.iter().map(|unit| unit.source.file.clone()).collect();
        let program = match lowered {
            true => compiled::lower(&steps, files, escape, on_missing, &stops),
            false => Err("the crate was asked for"),
        };
        let by_crate = || Box::new(ByCrate::new(steps, &units, escape, on_missing));
        let engine = match program {
            Ok(program) if program.goes_beyond => Engine::Program(Box::new(program), Some(by_crate())),
            Ok(program) => Engine::Program(Box::new(program), None),
            Err(reason) => Engine::Crate(by_crate(), reason),
        };
        Ok(Template(Arc::new(Compiled { engine, file: source.file.clone(), measure, stops, references })))
    }

    /// Renders into `out`, which is cleared first and is empty after an error.
    ///
    /// # Errors
    ///
    /// Why there is no message: data of the trigger's outcome, not a failure of the run.
    pub fn render(&self, scope: &Scope, out: &mut String) -> Result<(), Stop> {
        let mut values = Values::default();
        scope.fill(self.asks(), &mut values);
        let slots: Vec<u32> = (0..).take(self.asks().len()).collect();
        let data = Data { values: &values, slots: &slots, bytes: usize::MAX, scope: &|| scope.clone() };
        out.clear();
        self.append(&data, &mut Workspace::default(), out)
    }

    /// Appends the text to `out`, from values that stand in slots and with memory that is used again: nothing is allocated
    /// but the room for the text. After an error `out` is as before.
    ///
    /// # Errors
    ///
    /// As [`Self::render`].
    pub fn append(&self, data: &Data<'_>, memory: &mut Workspace, out: &mut String) -> Result<(), Stop> {
        let (start, file) = (out.len(), &self.0.file);
        let result = match &self.0.engine {
            Engine::Crate(by_crate, _) => by_crate.append(&(data.scope)(), file, out),
            Engine::Program(program, by_crate) => {
                match (compiled::run(program, data.values, data.slots, memory, out), by_crate) {
                    (Err(Halted::Beyond), Some(by_crate)) => {
                        out.truncate(start);
                        by_crate.append(&(data.scope)(), file, out)
                    }
                    (result, _) => result.map_err(|halted| stop_of_halt(halted, file)),
                }
            }
        };
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// Whether a render would produce a text, found out with as little work as possible; `buffer` is overwritten.
    pub fn would_render(&self, data: &Data<'_>, memory: &mut Workspace, buffer: &mut String) -> bool {
        let small = self.0.measure.is_within_limits(data.bytes);
        match (&self.0.stops, &self.0.engine) {
            (Stops::Never, _) if small => true,
            (Stops::IfMissing(_), Engine::Program(program, _)) if small => {
                compiled::has_needed(program, data.values, data.slots)
            }
            _ => {
                buffer.clear();
                self.append(data, memory, buffer).is_ok()
            }
        }
    }

    /// The values that a compiled template asks for, by slot: each a path of one name, or of two where the first is
    /// `api_trigger_properties`, `custom_attribute` or `campaign`.
    pub fn asks(&self) -> &[ValuePath] {
        match &self.0.engine {
            Engine::Program(program, _) => &program.asks,
            Engine::Crate(..) => &[],
        }
    }

    /// Why the template is rendered by the crate, several times slower; `None` where it is compiled.
    pub fn not_compiled(&self) -> Option<&'static str> {
        match &self.0.engine {
            Engine::Program(..) => None,
            Engine::Crate(_, reason) => Some(reason),
        }
    }

    /// Whether a render produces a text whatever the values are, as long as their JSON texts have at most so many bytes.
    pub fn always_renders(&self, bytes: usize) -> bool {
        self.0.stops == Stops::Never && self.0.measure.is_within_limits(bytes)
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

fn stop_of_halt(halted: Halted, file: &str) -> Stop {
    match halted {
        Halted::Stop(stop) => stop,
        Halted::Limit(limit) => Stop::Failed { message: limit.to_string(), at: None, file: file.to_owned() },
        Halted::Beyond => {
            let message = "the template asks for a value that it was not given".to_owned();
            Stop::Failed { message, at: None, file: file.to_owned() }
        }
    }
}
