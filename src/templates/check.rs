//! Judges helper calls: names, numbers of arguments, and literals that could never work.

use serde_json::Value;

use crate::error::nearest;

use super::catalog::{self, HELPERS, Spec};
use super::expression::Problem;
use super::format;
use super::parse::Faults;
use super::syntax::{Argument, Block, Branch, Call, Head, Named, Node};

/// Most decimals of `number`.
const MAX_DECIMALS: u64 = 20;

/// Checks every call of a file.
pub(super) fn check(nodes: &[Node], faults: &mut Faults<'_>) {
    for node in nodes {
        match node {
            Node::Text(_) | Node::Raw(_) | Node::Comment(_) | Node::Print(..) => {}
            Node::Call(_, call, _) => inline_call(call, faults),
            Node::Block(block) => self::block(block, faults),
            Node::Partial(partial) => {
                arguments(partial.scope.as_slice(), &partial.hash, faults);
                check(partial.block.as_ref().map_or(&[], |(body, _)| body), faults);
            }
            Node::Inline(inline) => check(&inline.body, faults),
        }
    }
}

fn block(block: &Block, faults: &mut Faults<'_>) {
    for branch in &block.branches {
        if let Some(head) = &branch.head {
            self::head(head, branch, faults);
        }
        check(&branch.body, faults);
    }
}

fn head(head: &Head, branch: &Branch, faults: &mut Faults<'_>) {
    let most = match head {
        Head::Section(_) => 2,
        Head::Call(call) => {
            match catalog::find(&call.name) {
                Some(spec) if spec.opens_block() => against(spec, call, faults),
                Some(_) => faults.push(
                    Problem::new(call.offset, format!("`{}` is not a block helper", call.name))
                        .hint(format!("use it as a sub-expression: `{{{{#if ({} …)}}}}`", call.name)),
                ),
                None => faults.push(unknown_block(call)),
            }
            arguments(&call.args, &call.hash, faults);
            match call.name.as_str() {
                "each" => 2,
                "with" => 1,
                _ => 0,
            }
        }
    };
    if branch.params.len() > most {
        let name = match head {
            Head::Call(call) => &call.name,
            Head::Section(path) => &path.written,
        };
        faults.push(
            Problem::new(head.offset(), format!("`{name}` does not give that many block parameters"))
                .hint("`each` gives two, `with` gives one"),
        );
    }
}

fn unknown_block(call: &Call) -> Problem {
    let blocks = HELPERS.iter().filter(|spec| spec.opens_block()).map(|spec| spec.name);
    let hint = match nearest(&call.name, blocks) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("to repeat or enter a value write `{{{{#each {0}}}}}` or `{{{{#with {0}}}}}`", call.name),
    };
    Problem::new(call.offset, format!("unknown block helper `{}`", call.name)).hint(hint)
}

fn inline_call(call: &Call, faults: &mut Faults<'_>) {
    match catalog::find(&call.name) {
        Some(spec) if spec.function().is_none() => faults.push(
            Problem::new(call.offset, format!("`{}` is a block helper", call.name))
                .hint(format!("write `{}`", spec.example)),
        ),
        Some(spec) if call.args.is_empty() && call.hash.is_empty() => {
            if spec.fewest > 0 {
                faults.push(without_arguments(call, spec));
            }
        }
        Some(spec) => {
            against(spec, call, faults);
            literals(call, faults);
        }
        None => faults.push(unknown(call)),
    }
    arguments(&call.args, &call.hash, faults);
}

fn without_arguments(call: &Call, spec: &Spec) -> Problem {
    Problem::new(call.offset, format!("the helper `{}` needs a value", call.name))
        .hint(format!("write `{}`; a value of this name is printed with `{{{{this.{}}}}}`", spec.example, call.name))
}

fn unknown(call: &Call) -> Problem {
    let problem = Problem::new(call.offset, format!("unknown helper `{}`", call.name));
    if call.name == "log" {
        return problem.hint("logging from a template is not supported: it would put people's data into logs");
    }
    match nearest(&call.name, HELPERS.iter().map(|spec| spec.name)) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint(format!(
            "the helpers are {}",
            HELPERS.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", ")
        )),
    }
}

fn arguments(args: &[Argument], hash: &[Named], faults: &mut Faults<'_>) {
    for argument in args.iter().chain(hash.iter().map(|named| &named.value)) {
        if let Argument::Call(call) = argument {
            inline_call(call, faults);
        }
    }
}

/// The number of arguments and the names of the named ones.
fn against(spec: &Spec, call: &Call, faults: &mut Faults<'_>) {
    let given = call.args.len();
    if given < spec.fewest || given > spec.most {
        let wanted = match (spec.fewest, spec.most) {
            (1, 1) => "one value".to_owned(),
            (fewest, most) if fewest == most => format!("{fewest} values"),
            (fewest, most) => format!("{fewest} to {most} values"),
        };
        faults.push(
            Problem::new(call.offset, format!("`{}` takes {wanted} and was given {given}", call.name))
                .hint(format!("write for example `{}`", spec.example)),
        );
    }
    for (index, named) in call.hash.iter().enumerate() {
        if !spec.keys.contains(&named.key.as_str()) {
            let problem = Problem::new(named.offset, format!("`{}` has no option `{}`", call.name, named.key));
            faults.push(match (nearest(&named.key, spec.keys.iter().copied()), spec.keys) {
                (Some(near), _) => problem.hint(format!("did you mean `{near}`?")),
                (None, []) => problem.hint(format!("`{}` has no options", call.name)),
                (None, keys) => problem.hint(format!("its options are `{}`", keys.join("`, `"))),
            });
        } else if call.hash[..index].iter().any(|earlier| earlier.key == named.key) {
            faults.push(Problem::new(named.offset, format!("the option `{}` is given twice", named.key)));
        }
    }
}

/// Literals that could never work.
fn literals(call: &Call, faults: &mut Faults<'_>) {
    match call.name.as_str() {
        "abort_message" => {
            if let Some(argument) = call.args.first()
                && !matches!(argument, Argument::Literal(Value::String(_), _))
            {
                faults.push(
                    Problem::new(argument.offset(), "the reason of `abort_message` must be a string")
                        .hint("write `{{abort_message \"reason\"}}`; people's data does not belong into reasons"),
                );
            }
        }
        "date" => date_literals(call, faults),
        "number" => number_literals(call, faults),
        _ => {}
    }
}

fn date_literals(call: &Call, faults: &mut Faults<'_>) {
    match call.args.get(1) {
        Some(Argument::Literal(Value::String(pattern), offset)) => {
            if let Err(reason) = format::check_pattern(pattern) {
                faults.push(
                    Problem::new(*offset, format!("the date format cannot be used: {reason}"))
                        .hint("write for example `\"%d %B %Y\"`"),
                );
            }
        }
        Some(other) => faults.push(
            Problem::new(other.offset(), "the format of `date` must be a string")
                .hint("write for example `\"%d %B %Y\"`"),
        ),
        None => {}
    }
    if let Some(named) = call.hash.iter().find(|named| named.key == "tz") {
        let known = matches!(&named.value, Argument::Literal(Value::String(zone), _) if format::zone(zone).is_some());
        if !known {
            faults.push(
                Problem::new(named.value.offset(), "`tz` must be the name of a time zone")
                    .hint("write for example `tz=\"Europe/Paris\"`"),
            );
        }
    }
}

fn number_literals(call: &Call, faults: &mut Faults<'_>) {
    for named in &call.hash {
        let (fine, wanted) = match (named.key.as_str(), &named.value) {
            ("decimals", Argument::Literal(value, _)) => (
                value.as_u64().is_some_and(|decimals| decimals <= MAX_DECIMALS),
                format!("a whole number from 0 to {MAX_DECIMALS}"),
            ),
            ("decimals", _) => (false, format!("a whole number from 0 to {MAX_DECIMALS}")),
            (_, value) => (matches!(value, Argument::Literal(Value::String(_), _)), "a string".to_owned()),
        };
        if !fine && ["decimals", "thousands", "decimal"].contains(&named.key.as_str()) {
            faults.push(Problem::new(named.value.offset(), format!("`{}` must be {wanted}", named.key)));
        }
    }
}
