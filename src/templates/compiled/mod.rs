//! Templates as flat programs: lowered once, run for every message.

mod code;
#[cfg(test)]
mod equality;
mod interpret;
mod lower;
mod memory;
mod reads;

use crate::triggers::Values;

use super::view::{Child, View};

pub use memory::Workspace;

pub(super) use code::Program;
pub(super) use interpret::{Halted, run};
pub(super) use lower::lower;

/// Whether every value that the program cannot do without is there.
pub(super) fn has_needed(program: &Program, values: &Values, slots: &[u32]) -> bool {
    program.needed.iter().all(|way| {
        let code::From::Slot(slot) = way.from else { return false };
        let mut found = values.slot(slots[slot as usize]).map(|at| View::at(values, at));
        for name in &way.rest {
            let mut text = String::new();
            found = found.and_then(|value| match value.child(&name.text, &mut text) {
                Child::Absent => None,
                Child::View(value) => Some(value),
                Child::Written => Some(View::Bool(true)),
            });
        }
        !matches!(found, None | Some(View::Null))
    })
}
