//! Counts log lines instead of writing them: what a flood makes a server say.
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Lines of one level each.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    loud: AtomicU64,
    info: AtomicU64,
    debug: AtomicU64,
}

static LINES: Lines = Lines { loud: AtomicU64::new(0), info: AtomicU64::new(0), debug: AtomicU64::new(0) };

/// Begins to count.
pub(crate) fn count() {
    // Nobody else sets one in this process.
    let _already = tracing::subscriber::set_global_default(Counting);
}

/// Returns the lines so far: errors and warnings, information, debugging.
pub(crate) fn read() -> [u64; 3] {
    [&LINES.loud, &LINES.info, &LINES.debug].map(|lines| lines.load(Ordering::Relaxed))
}

struct Counting;

impl Subscriber for Counting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.is_event() && metadata.target().starts_with("contextvm")
    }

    fn event(&self, event: &Event<'_>) {
        let level = *event.metadata().level();
        let lines = match level {
            Level::ERROR | Level::WARN => &LINES.loud,
            Level::INFO => &LINES.info,
            _ => &LINES.debug,
        };
        lines.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
