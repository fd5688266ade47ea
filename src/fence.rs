//! Keeps a panic inside a dependency from ending the process: decoders may panic on foreign or damaged files.
//!
//! The panic hook of the process is chained once: on a thread that is inside a fence nothing is printed, anywhere
//! else the earlier hook runs as before. It does not stop what no unwinding can: a failed allocation or an
//! overflowing stack, which is why readers check sizes before they decode.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static FENCED: Cell<bool> = const { Cell::new(false) };
}

static CHAIN_HOOK: Once = Once::new();

/// Runs `work`; a panic becomes its message. What `work` borrowed mutably must not be used again after a panic.
pub(crate) fn fenced<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    CHAIN_HOOK.call_once(|| {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !FENCED.get() {
                earlier(info);
            }
        }));
    });
    let outer = FENCED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    FENCED.set(outer);
    result.map_err(|payload| format!("the decoder panicked: {}", message(payload.as_ref())))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_the_fence_opens_again() {
        let result: Result<(), String> = fenced(|| panic!("page {} is odd", 7));
        assert_eq!(result, Err("the decoder panicked: page 7 is odd".to_owned()));
        assert!(!FENCED.get());
        assert_eq!(fenced(|| 1), Ok(1));
    }
}
