//! A request to stop, which a signal makes and which is looked at between pieces of work. What was staged is then removed on
//! the ordinary way of an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Kind, Result};

/// Whether to stop. Clones share the request.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// The flag to set.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// An error of kind [`Kind::Interrupted`] after a request.
    pub fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Error::new(Kind::Interrupted, "interrupted; nothing was committed")
                .hint("run the same command again when you like: it begins anew")),
            false => Ok(()),
        }
    }
}
