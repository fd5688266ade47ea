//! Our helpers as the crate calls them. Each is given the number of its entry in [`Tables`]; see [`super::emit`].

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext, RenderError, RenderErrorReason,
    Renderable, StringOutput, Template,
};
use serde_json::Value;

use super::emit::{ArmHead, BLOCK, ENTER, INDENT, PRINT, SHOW, Tables, arm_body};
use super::frames::{self, Eyes, Frame, Held, Turn, printed};
use crate::templates::budget;
use crate::templates::compiled::Halted;
use crate::templates::escape::Escape;
use crate::templates::program::Head;
use crate::templates::syntax::Printing;
use crate::templates::view::View;
use crate::templates::{OnMissing, Stop};

/// Makes the registry know our helpers.
pub(super) fn register(registry: &mut Handlebars<'static>, tables: Tables, escape: Escape, on_missing: OnMissing) {
    let shared = Arc::new(Shared { tables, escape, on_missing });
    registry.register_helper(PRINT, Box::new(Print(Arc::clone(&shared))));
    registry.register_helper(SHOW, Box::new(Show(Arc::clone(&shared))));
    registry.register_helper(BLOCK, Box::new(Block(Arc::clone(&shared))));
    registry.register_helper(ENTER, Box::new(Enter(Arc::clone(&shared))));
    registry.register_helper(INDENT, Box::new(Indent(shared)));
}

struct Shared {
    tables: Tables,
    escape: Escape,
    on_missing: OnMissing,
}

impl Shared {
    fn eyes<'d>(&self, ctx: &'d Context) -> Eyes<'d, '_> {
        Eyes { data: ctx.data(), blank: self.on_missing == OnMissing::Blank, files: &self.tables.files }
    }

    fn write(&self, text: &str, printing: Printing, out: &mut dyn Output) -> HelperResult {
        budget::charge(text.len() as u64).map_err(Halted::from)?;
        match printing {
            Printing::Raw => out.write(text)?,
            Printing::Escaped => {
                let mut escaped = String::with_capacity(text.len());
                self.escape.push(text, &mut escaped);
                out.write(&escaped)?;
            }
        }
        Ok(())
    }
}

/// Carries the reason through the crate.
impl From<Halted> for RenderError {
    fn from(halted: Halted) -> RenderError {
        match halted {
            Halted::Limit(limit) => RenderErrorReason::NestedError(Box::new(limit)).into(),
            Halted::Stop(stop) => RenderErrorReason::NestedError(Box::new(stop)).into(),
            Halted::Beyond => RenderErrorReason::Unimplemented.into(),
        }
    }
}

/// The entry that a call names.
fn entry<'t, T>(table: &'t [T], h: &Helper<'_>) -> Result<&'t T, RenderError> {
    let number = h.param(0).and_then(|param| param.value().as_u64());
    let entry = number.and_then(|number| table.get(usize::try_from(number).ok()?));
    entry.ok_or_else(|| RenderErrorReason::InvalidParamType("entry").into())
}

/// Prints the value of a path, or stops.
struct Print(Arc<Shared>);

impl HelperDef for Print {
    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        ctx: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let (lookup, printing) = entry(&self.0.tables.prints, h)?;
        let value = self.0.eyes(ctx).lookup(lookup)?;
        match (value.as_deref().and_then(printed), self.0.on_missing) {
            (Some(text), _) => self.0.write(&text, *printing, out),
            (None, OnMissing::Blank) => Ok(()),
            (None, OnMissing::Fail) => Err(RenderError::from(Halted::Stop(Stop::Missing {
                name: lookup.written.clone(),
                at: lookup.place.at,
                file: self.0.tables.files[lookup.place.unit].clone(),
            }))),
        }
    }
}

/// Prints the result of a helper.
struct Show(Arc<Shared>);

impl HelperDef for Show {
    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        ctx: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let (apply, printing) = entry(&self.0.tables.shows, h)?;
        let value = self.0.eyes(ctx).apply(apply)?;
        printed(&value).map_or(Ok(()), |text| self.0.write(&text, *printing, out))
    }
}

/// The first arm that applies.
struct Block(Arc<Shared>);

impl HelperDef for Block {
    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        r: &'reg Handlebars<'reg>,
        ctx: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let heads = entry(&self.0.tables.blocks, h)?;
        let eyes = self.0.eyes(ctx);
        for (number, head) in heads.iter().enumerate() {
            let body = arm_body(h.template(), h.inverse(), number);
            let mut render = || body.map_or(Ok(()), |body: &'rc Template| body.render(r, ctx, rc, out));
            if arm(head, &eyes, &mut render)? {
                return Ok(());
            }
        }
        match arm_body(h.template(), h.inverse(), heads.len()) {
            Some(otherwise) => otherwise.render(r, ctx, rc, out),
            None => Ok(()),
        }
    }
}

/// Renders an arm, as often as it asks for. Whether it applies.
fn arm(arm: &ArmHead, eyes: &Eyes<'_, '_>, render: &mut dyn FnMut() -> HelperResult) -> Result<bool, RenderError> {
    match &arm.head {
        Head::Test { value, wanted, include_zero } => {
            let value = eyes.value(value)?;
            let value = value.as_deref().unwrap_or(&Value::Null);
            let mut truth = View::from(value).is_truthy();
            if let (false, Value::Number(_), Some(flag)) = (truth, value, include_zero) {
                truth = eyes.value(flag)?.is_some_and(|flag| View::from(&*flag).is_truthy());
            }
            if truth == *wanted {
                render()?;
            }
            Ok(truth == *wanted)
        }
        Head::With(scope) => {
            let held = eyes.held(scope)?;
            let value = eyes.see(&held);
            let empty = !View::from(value).is_truthy() && !value.is_number();
            if !empty {
                within(Frame::new(held), render)?;
            }
            Ok(!empty)
        }
        Head::Each(over) => each(&eyes.held(over)?, eyes, arm.round_cost, render),
        Head::Section(value) => {
            let held = eyes.held(value)?;
            match eyes.see(&held) {
                Value::Null | Value::Bool(false) => return Ok(false),
                Value::Array(_) => return each(&held, eyes, arm.round_cost, render),
                Value::Bool(true) => {
                    frames::push_same();
                    render()?;
                    frames::pop();
                }
                _ => {
                    let same = frames::is_current(&held);
                    within(Frame { same, ..Frame::new(held.clone()) }, render)?;
                }
            }
            Ok(true)
        }
    }
}

fn within(frame: Frame, render: &mut dyn FnMut() -> HelperResult) -> HelperResult {
    frames::push(frame);
    render()?;
    frames::pop();
    Ok(())
}

/// Goes through a list or an object, every round paid for. Whether there was anything.
fn each(
    over: &Held,
    eyes: &Eyes<'_, '_>,
    round_cost: u64,
    render: &mut dyn FnMut() -> HelperResult,
) -> Result<bool, RenderError> {
    let value = eyes.see(over);
    let items: Vec<(Option<&String>, &Value)> = match value {
        Value::Array(items) => items.iter().map(|item| (None, item)).collect(),
        Value::Object(map) => map.iter().map(|(key, item)| (Some(key), item)).collect(),
        _ => Vec::new(),
    };
    if items.is_empty() {
        return Ok(false);
    }
    frames::push(Frame::new(over.clone()));
    let last = items.len() - 1;
    for (index, (key, item)) in items.into_iter().enumerate() {
        budget::charge(round_cost).map_err(Halted::from)?;
        let held = match over {
            Held::Way(way) => {
                let mut way = Vec::clone(way);
                way.push(key.map_or_else(|| Cow::Owned(index.to_string()), Cow::Borrowed).into_owned());
                Held::Way(Rc::new(way))
            }
            Held::Made(_) => {
                budget::charge(budget::cost_of(item)).map_err(Halted::from)?;
                Held::Made(Rc::new(item.clone()))
            }
        };
        frames::next_turn(held, Turn { key: key.cloned(), index, last: index == last });
        render()?;
    }
    frames::pop();
    Ok(true)
}

/// A scope with names over it.
struct Enter(Arc<Shared>);

impl HelperDef for Enter {
    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        r: &'reg Handlebars<'reg>,
        ctx: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let (scope, names) = entry(&self.0.tables.enters, h)?;
        let Some(body) = h.template() else { return Ok(()) };
        let eyes = self.0.eyes(ctx);
        let mut frame = Frame::new(eyes.held(scope)?);
        for (name, value) in names {
            frame.names.push((name.clone(), eyes.held(value)?));
        }
        within(frame, &mut || body.render(r, ctx, rc, out))
    }
}

/// Puts a text before every line but an empty last one.
struct Indent(Arc<Shared>);

impl HelperDef for Indent {
    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        r: &'reg Handlebars<'reg>,
        ctx: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let by = entry(&self.0.tables.indents, h)?;
        let Some(body) = h.template() else { return Ok(()) };
        let mut inner = StringOutput::new();
        body.render(r, ctx, rc, &mut inner)?;
        let text = inner.into_string().unwrap_or_default();
        for line in text.split_inclusive('\n') {
            budget::charge(by.len() as u64).map_err(Halted::from)?;
            out.write(by)?;
            out.write(line)?;
        }
        Ok(())
    }
}
