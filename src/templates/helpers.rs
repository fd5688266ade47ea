//! Our helpers as the crate wants them: printing, values of paths, inline functions, `if`, `unless`, `each`.
//!
//! The first argument of a printing, value or inline helper is the number of its site; see [`super::emit()`].

use std::collections::VecDeque;
use std::sync::Arc;

use handlebars::{
    BlockContext, BlockParamHolder, Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext,
    RenderError, RenderErrorReason, Renderable, ScopedJson,
};
use serde_json::Value;

use crate::triggers::print_json;

use super::budget;
use super::catalog::{HELPERS, Use};
use super::emit::{Site, Sites};
use super::functions::{Function, Given, Halt, is_truthy};
use super::scope::{Found, find};
use super::{OnMissing, Stop};

/// The names that the crate's own registry comes with and that are not ours.
const FOREIGN: [&str; 16] =
    ["if", "unless", "each", "lookup", "log", "raw", "eq", "ne", "gt", "gte", "lt", "lte", "len", "not", "and", "or"];

/// Makes the registry know our helpers and no others but `with`.
pub(super) fn register(registry: &mut Handlebars<'static>, sites: &Arc<Sites>, on_missing: OnMissing) {
    FOREIGN.iter().for_each(|name| registry.unregister_helper(name));
    registry.register_helper(":t", Box::new(Verbatim(Arc::clone(sites))));
    registry.register_helper(":v", Box::new(PathValue(Arc::clone(sites))));
    registry.register_helper(":p", Box::new(Print { sites: Arc::clone(sites), on_missing }));
    registry.register_helper(":s", Box::new(Show));
    for spec in &HELPERS {
        if let Use::Inline(function) = spec.used {
            let inline = Inline { function, sites: Arc::clone(sites), blank: on_missing == OnMissing::Blank };
            registry.register_helper(spec.name, Box::new(inline));
        }
    }
    registry.register_helper("if", Box::new(If { wanted: true }));
    registry.register_helper("unless", Box::new(If { wanted: false }));
    registry.register_helper("each", Box::new(Each));
}

/// Carries a stop through the crate.
fn stopped(stop: Stop) -> RenderError {
    RenderErrorReason::NestedError(Box::new(stop)).into()
}

fn number(h: &Helper<'_>) -> Result<usize, RenderError> {
    let number = h.param(0).and_then(|param| param.value().as_u64());
    number.map(|number| number as usize).ok_or_else(|| RenderErrorReason::InvalidParamType("site").into())
}

fn site<'s>(sites: &'s Sites, h: &Helper<'_>) -> Result<&'s Site, RenderError> {
    sites.sites.get(number(h)?).ok_or_else(|| RenderErrorReason::InvalidParamType("site").into())
}

/// Looks at the blocks that a render stands in; the crate shows the innermost only.
fn with_blocks<'reg: 'rc, 'rc, R>(
    rc: &mut RenderContext<'reg, 'rc>,
    look: impl FnOnce(&VecDeque<BlockContext<'rc>>) -> R,
) -> R {
    let blocks = rc.replace_blocks(VecDeque::new());
    let result = look(&blocks);
    rc.replace_blocks(blocks);
    result
}

/// `:t`: text as it stands.
struct Verbatim(Arc<Sites>);

impl HelperDef for Verbatim {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let text = self.0.texts.get(number(h)?).cloned().unwrap_or_default();
        Ok(ScopedJson::Derived(Value::String(text)))
    }
}

/// `:v`: the value of a path, for helpers and blocks.
struct PathValue(Arc<Sites>);

impl HelperDef for PathValue {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        ctx: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let site = site(&self.0, h)?;
        let Some(path) = &site.path else { return Ok(ScopedJson::Missing) };
        budget::charge(budget::CALL_COST)?;
        with_blocks(rc, |blocks| {
            Ok(match find(path, blocks, ctx.data()) {
                None => ScopedJson::Missing,
                Some(Found::Data(std::borrow::Cow::Borrowed(value), way)) if site.keeps_way => {
                    ScopedJson::Context(value, way.into_iter().map(str::to_owned).collect())
                }
                Some(Found::Data(std::borrow::Cow::Borrowed(value), _)) => ScopedJson::Constant(value),
                Some(Found::Data(std::borrow::Cow::Owned(value), _)) => ScopedJson::Derived(value),
                Some(Found::Made(value)) => {
                    budget::charge(budget::cost_of(&value))?;
                    ScopedJson::Derived(value.into_owned())
                }
            })
        })
    }
}

/// `:p`: prints the value of a path, or stops.
struct Print {
    sites: Arc<Sites>,
    on_missing: OnMissing,
}

impl HelperDef for Print {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        ctx: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let site = site(&self.sites, h)?;
        let Some(path) = &site.path else { return Ok(ScopedJson::Missing) };
        let text = with_blocks(rc, |blocks| {
            let found = find(path, blocks, ctx.data());
            let value = found.as_ref().map(Found::value).filter(|value| !value.is_null());
            value.map(|value| print_json(value).into_owned())
        });
        match (text, self.on_missing) {
            (Some(text), _) => {
                budget::charge(text.len() as u64)?;
                Ok(ScopedJson::Derived(Value::String(text)))
            }
            (None, OnMissing::Blank) => Ok(ScopedJson::Missing),
            (None, OnMissing::Fail) => Err(stopped(Stop::Missing {
                name: path.written.clone(),
                at: site.at,
                file: self.sites.files[site.unit].clone(),
            })),
        }
    }
}

/// `:s`: prints the result of a helper.
struct Show;

impl HelperDef for Show {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let text = h.param(0).map(|param| print_json(param.value()).into_owned()).unwrap_or_default();
        budget::charge(text.len() as u64)?;
        Ok(ScopedJson::Derived(Value::String(text)))
    }
}

/// A pure function over values.
struct Inline {
    function: Function,
    sites: Arc<Sites>,
    blank: bool,
}

impl HelperDef for Inline {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let args = h.params().iter().skip(1).map(|param| param.value()).collect();
        let named = |key: &str| h.hash_get(key).map(|value| value.value());
        let result = (self.function)(&Given { args, named: &named, blank: self.blank });
        match result {
            Ok(value) => {
                budget::charge(budget::CALL_COST + budget::cost_of(&value))?;
                Ok(ScopedJson::Derived(value))
            }
            Err(Halt::Abort(reason)) => Err(stopped(Stop::Aborted { reason })),
            Err(Halt::Failed(message)) => {
                let site = site(&self.sites, h)?;
                let file = self.sites.files[site.unit].clone();
                Err(stopped(Stop::Failed { message, at: Some(site.at), file }))
            }
        }
    }
}

/// `if` and `unless`, with the truth of [`is_truthy`].
struct If {
    wanted: bool,
}

impl HelperDef for If {
    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        r: &'reg Handlebars<'reg>,
        ctx: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let value = h.param(0).map_or(&Value::Null, |param| param.value());
        let include_zero = h.hash_get("includeZero").is_some_and(|flag| is_truthy(flag.value()));
        let truth = is_truthy(value) || (include_zero && value.is_number());
        let branch = if truth == self.wanted { h.template() } else { h.inverse() };
        branch.map_or(Ok(()), |branch| branch.render(r, ctx, rc, out))
    }
}

/// `each`: over a list or an object, every round paid for.
struct Each;

impl HelperDef for Each {
    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        r: &'reg Handlebars<'reg>,
        ctx: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let over = h.param(0).ok_or(RenderErrorReason::ParamNotFoundForIndex("each", 0))?;
        let items = items(over.value());
        if items.is_empty() {
            return h.inverse().map_or(Ok(()), |inverse| inverse.render(r, ctx, rc, out));
        }
        let Some(body) = h.template() else { return Ok(()) };
        let cost = h.param(1).and_then(|cost| cost.value().as_u64()).unwrap_or(1);
        let last = items.len() - 1;
        for (index, (key, item)) in items.into_iter().enumerate() {
            budget::charge(cost)?;
            let mut block = round(h, over.context_path(), &key, item)?;
            block.set_local_var("index", Value::from(index));
            block.set_local_var("first", Value::Bool(index == 0));
            block.set_local_var("last", Value::Bool(index == last));
            block.set_local_var("key", key);
            rc.push_block(block);
            body.render(r, ctx, rc, out)?;
            rc.pop_block();
        }
        Ok(())
    }
}

/// What `each` goes through: index or name, and value.
fn items(value: &Value) -> Vec<(Value, &Value)> {
    match value {
        Value::Array(items) => items.iter().enumerate().map(|(index, item)| (Value::from(index), item)).collect(),
        Value::Object(map) => map.iter().map(|(key, item)| (Value::String(key.clone()), item)).collect(),
        _ => Vec::new(),
    }
}

/// The scope of one round: a way into the data where there is one, a copy of the item otherwise.
fn round<'rc>(
    h: &Helper<'rc>,
    way: Option<&Vec<String>>,
    key: &Value,
    item: &Value,
) -> Result<BlockContext<'rc>, RenderError> {
    let mut block = BlockContext::new();
    let holder = match way {
        Some(way) => {
            let base = block.base_path_mut();
            base.clone_from(way);
            base.push(print_json(key).into_owned());
            BlockParamHolder::path(Vec::new())
        }
        None => {
            budget::charge(budget::cost_of(item))?;
            block.set_base_value(item.clone());
            BlockParamHolder::value(item.clone())
        }
    };
    if let Some(name) = h.block_param() {
        block.set_block_param(name, holder);
    } else if let Some((name, key_name)) = h.block_param_pair() {
        block.set_block_param(name, holder);
        block.set_block_param(key_name, BlockParamHolder::value(key.clone()));
    }
    Ok(block)
}
