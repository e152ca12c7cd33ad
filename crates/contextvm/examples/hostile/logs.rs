//! Counts log lines instead of writing them: what a flood makes a server say, and whether anything called itself an error.
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Lines of one level each.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    error: AtomicU64,
    warn: AtomicU64,
    info: AtomicU64,
    debug: AtomicU64,
}

static LINES: Lines = Lines {
    error: AtomicU64::new(0),
    warn: AtomicU64::new(0),
    info: AtomicU64::new(0),
    debug: AtomicU64::new(0),
};

/// Where the first error came from.
static FIRST: OnceLock<String> = OnceLock::new();

/// Begins to count.
pub(crate) fn count() {
    // Nobody else sets one in this process.
    let _already = tracing::subscriber::set_global_default(Counting);
}

/// Returns the lines so far: errors, warnings, information, debugging.
pub(crate) fn read() -> [u64; 4] {
    [&LINES.error, &LINES.warn, &LINES.info, &LINES.debug].map(|lines| lines.load(Ordering::Relaxed))
}

/// Returns where the first error came from.
pub(crate) fn first_error() -> Option<&'static str> {
    FIRST.get().map(String::as_str)
}

struct Counting;

impl Subscriber for Counting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.is_event() && metadata.target().starts_with("contextvm")
    }

    fn event(&self, event: &Event<'_>) {
        let place = event.metadata();
        let lines = match *place.level() {
            Level::ERROR => &LINES.error,
            Level::WARN => &LINES.warn,
            Level::INFO => &LINES.info,
            _ => &LINES.debug,
        };
        lines.fetch_add(1, Ordering::Relaxed);
        if *place.level() == Level::ERROR {
            FIRST.get_or_init(|| format!("{}:{}", place.target(), place.line().unwrap_or_default()));
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
