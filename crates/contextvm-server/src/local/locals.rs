//! The local callers of one server, so that a broadcast reaches them and the shutdown ends them.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use contextvm_core::Limits;
use contextvm_core::envelope::{Envelope, MessageKind};

use super::line::{self, Line};

/// All lines that are in use.
#[derive(Debug, Default)]
pub(crate) struct Locals(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    lines: Vec<Weak<Line>>,
    over: bool,
}

impl Locals {
    /// Adds a line; `false` after the end.
    pub(crate) fn add(&self, line: &Arc<Line>) -> bool {
        let mut open = self.open();
        if !open.over {
            open.lines.retain(|line| line.strong_count() > 0);
            open.lines.push(Arc::downgrade(line));
        }
        !open.over
    }

    /// Copies a notification to every local caller that may hear it. Says whether it belongs to a request of one of them,
    /// so that nobody else may.
    pub(crate) fn broadcast(&self, message: &str) -> bool {
        let lines: Vec<Arc<Line>> = self.open().lines.iter().filter_map(Weak::upgrade).collect();
        if lines.is_empty() {
            return false;
        }
        let limits = line::own_limits(&Limits::default());
        let Ok(parsed) = Envelope::parse(message, &limits) else { return false };
        parsed.kind == MessageKind::Notification && lines.iter().any(|line| line.cast(&parsed))
    }

    /// Ends every line: the server is shut down.
    pub(crate) fn end(&self) {
        let mut open = self.open();
        open.over = true;
        let lines = core::mem::take(&mut open.lines);
        drop(open);
        lines.iter().filter_map(Weak::upgrade).for_each(|line| line.end());
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // What is inside is consistent at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
