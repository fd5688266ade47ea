//! Writes a program as a template of the `handlebars` crate: its tree, not its source, so that nothing has to be escaped for
//! its parser and none of its own rules for white space, paths or partials apply.
//!
//! The crate walks the tree; what stands in a tag is a call of one of our own helpers with a number, which names an entry
//! of [`Tables`]:
//!
//! | Step | For the crate |
//! |---|---|
//! | text | text |
//! | `{{name}}` | `{{:print 7}}` |
//! | `{{upper name}}` | `{{:show 2}}` |
//! | a block | `{{#:block 4}}first arm{{else}}…{{/:block}}`; the inverse holds one block for every further arm, then the rest |
//! | a scope | `{{#:enter 1}}…{{/:enter}}` |
//! | an indentation | `{{#:indent 0}}…{{/:indent}}` |

use std::collections::HashMap;

use handlebars::Template;
use handlebars::template::{ExpressionSpecBuilder, HelperTemplate, Parameter, TemplateElement};
use serde_json::Value;

use crate::templates::budget::cost_of_round;
use crate::templates::program::{Apply, Arm, Expr, Head, Lookup, Step, measure};
use crate::templates::syntax::Printing;

/// The helpers of the emitted template.
pub(super) const PRINT: &str = ":print";
/// Prints a helper's result.
pub(super) const SHOW: &str = ":show";
/// Chooses an arm.
pub(super) const BLOCK: &str = ":block";
/// Pushes a scope.
pub(super) const ENTER: &str = ":enter";
/// Indents lines.
pub(super) const INDENT: &str = ":indent";

/// Everything that the emitted template refers to by number.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Printed values.
    pub prints: Vec<(Lookup, Printing)>,
    /// Printed results.
    pub shows: Vec<(Apply, Printing)>,
    /// Blocks: the heads of their arms.
    pub blocks: Vec<Vec<ArmHead>>,
    /// Scopes with the names over them.
    pub enters: Vec<(Expr, Vec<(String, Expr)>)>,
    /// Indentations.
    pub indents: Vec<String>,
    /// File names by unit.
    pub files: Vec<String>,
}

/// What decides over an arm.
#[derive(Debug)]
pub(super) struct ArmHead {
    /// As in the program.
    pub head: Head,
    /// What one round of its body costs.
    pub round_cost: u64,
}

/// Emits steps and fills the tables.
pub(super) fn emit(steps: Vec<Step>, tables: &mut Tables) -> Template {
    let mut template = Template::default();
    template.elements = steps.into_iter().map(|step| element(step, tables)).collect();
    template
}

fn element(step: Step, tables: &mut Tables) -> TemplateElement {
    match step {
        Step::Text(text) => TemplateElement::RawString(text),
        Step::Print(lookup, printing) => {
            TemplateElement::Expression(call(PRINT, number(&mut tables.prints, (lookup, printing))))
        }
        Step::Show(apply, printing) => {
            TemplateElement::Expression(call(SHOW, number(&mut tables.shows, (apply, printing))))
        }
        Step::Block(arms, otherwise) => block(arms, otherwise, tables),
        Step::Enter(scope, names, body) => {
            let entry = number(&mut tables.enters, (scope, names));
            with_body(call(ENTER, entry), emit(body, tables))
        }
        Step::Indent(by, body) => {
            let entry = number(&mut tables.indents, by);
            with_body(call(INDENT, entry), emit(body, tables))
        }
    }
}

fn block(arms: Vec<Arm>, otherwise: Vec<Step>, tables: &mut Tables) -> TemplateElement {
    let mut heads = Vec::with_capacity(arms.len());
    let mut bodies = Vec::with_capacity(arms.len() + 1);
    for arm in arms {
        heads.push(ArmHead { head: arm.head, round_cost: cost_of_round(measure(&arm.body)) });
        bodies.push(emit(arm.body, tables));
    }
    let entry = number(&mut tables.blocks, heads);
    bodies.push(emit(otherwise, tables));
    let mut bodies = bodies.into_iter();
    let mut block = call(BLOCK, entry);
    block.template = bodies.next();
    let mut rest = Template::default();
    rest.elements = bodies.map(|body| with_body(call(BLOCK, entry), body)).collect();
    block.inverse = Some(rest);
    TemplateElement::HelperBlock(block)
}

/// The body of an arm in an emitted block, or of what comes after all arms.
pub(super) fn arm_body<'t>(
    first: Option<&'t Template>,
    rest: Option<&'t Template>,
    arm: usize,
) -> Option<&'t Template> {
    match arm.checked_sub(1) {
        None => first,
        Some(index) => match rest?.elements.get(index)? {
            TemplateElement::HelperBlock(block) => block.template.as_ref(),
            _ => None,
        },
    }
}

fn number<T>(table: &mut Vec<T>, entry: T) -> usize {
    table.push(entry);
    table.len() - 1
}

fn call(helper: &str, entry: usize) -> Box<HelperTemplate> {
    let spec = ExpressionSpecBuilder::default()
        .name(Parameter::Name(helper.to_owned()))
        .params(vec![Parameter::Literal(Value::from(entry))])
        .hash(HashMap::new())
        .omit_pre_ws(false)
        .omit_pro_ws(false)
        .build()
        .expect("every field is given");
    Box::new(HelperTemplate::new(spec, false, false))
}

fn with_body(mut block: Box<HelperTemplate>, body: Template) -> TemplateElement {
    block.template = Some(body);
    TemplateElement::HelperBlock(block)
}
