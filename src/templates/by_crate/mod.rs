//! Templates as the `handlebars` crate renders them: what the programs are tested against, and what renders the few
//! templates that have no program. The crate walks a tree that it is given; paths, scopes and helpers are ours.

mod emit;
mod frames;
mod helpers;

use std::io;

use handlebars::{Handlebars, Output, RenderContext, RenderError, RenderErrorReason, Renderable};

use super::budget::{self, Limit};
use super::program::Step;
use super::{Escape, MAX_OUTPUT_BYTES, OnMissing, Scope, Stop, Unit};
use emit::Tables;

/// The crate's name for the template itself.
const TEMPLATE: &str = "template";

/// A template as the crate renders it.
pub(super) struct ByCrate {
    registry: Handlebars<'static>,
}

impl ByCrate {
    /// Has the crate walk steps.
    pub fn new(steps: Vec<Step>, units: &[Unit<'_>], escape: Escape, on_missing: OnMissing) -> ByCrate {
        ByCrate { registry: registry(steps, units, escape, on_missing) }
    }

    /// Appends the text to `out`.
    pub fn append(&self, scope: &Scope, file: &str, out: &mut String) -> Result<(), Stop> {
        budget::begin();
        frames::begin();
        let template = self.registry.get_template(TEMPLATE).expect("registered when it was compiled");
        let mut context = RenderContext::new(None);
        let result = template.render(
            &self.registry,
            &scope.context,
            &mut context,
            &mut Bounded { limit: out.len() + MAX_OUTPUT_BYTES, out },
        );
        result.map_err(|error| stop_of(&error, file))
    }
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
