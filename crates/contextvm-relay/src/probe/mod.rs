//! What one relay is good for, measured: reached, what it declares, what it takes, passes on and keeps.
mod run;

use std::time::Duration;

use contextvm_core::{Limits, RelayInfo, kind};
use nostr::types::RelayUrl;

use crate::dial::{Addresses, Reached};
use crate::error::{DialError, FetchError, RelayError};
use crate::publish::RelayOutcome;

/// Measurements of one relay.
///
/// They are made with a key that exists for this purpose only. At most 18 small events and one of each size are published,
/// addressed to that key; what the relay may keep of them is asked to be deleted at the end (NIP-09).
#[derive(Clone, Debug)]
pub struct Probe {
    /// The relay.
    pub url: RelayUrl,
    /// Which network addresses may be dialled; default [`Addresses::Any`].
    pub addresses: Addresses,
    /// Longest wait for each single answer; 5 s.
    pub step: Duration,
    /// Publishes nothing and signs nothing: only the connection, the document and one request are measured.
    pub passive: bool,
    /// Bounds; `relay_frame` is used here.
    pub limits: Limits,
}

impl Probe {
    /// The kinds that are tried, in this order.
    pub const KINDS: [u16; 5] =
        [kind::MESSAGE, kind::EPHEMERAL_GIFT_WRAP, kind::GIFT_WRAP, kind::SERVER_ANNOUNCEMENT, kind::COMMENT];
    /// The sizes within our own limits that are tried until one is not taken, bytes of event JSON.
    pub const SIZES: [usize; 3] = [64 * 1024, 128 * 1024, 256 * 1024];
    /// How far from now the stamps lie that are tried, seconds: two days back is where gift wraps may be dated.
    pub const OFFSETS: [i64; 6] = [-172_800, -900, -60, 60, 900, 3_600];

    /// Prepares all measurements.
    #[must_use]
    pub fn new(url: RelayUrl) -> Self {
        Self {
            url,
            addresses: Addresses::Any,
            step: Duration::from_secs(5),
            passive: false,
            limits: Limits::default(),
        }
    }

    /// Restricts which network addresses may be dialled.
    #[must_use]
    pub const fn with_addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// Sets the longest wait for each single answer.
    #[must_use]
    pub const fn with_step(mut self, step: Duration) -> Self {
        self.step = step;
        self
    }

    /// Leaves out everything that publishes or signs.
    #[must_use]
    pub const fn passive(mut self) -> Self {
        self.passive = true;
        self
    }

    /// Measures; a relay that answers nothing at all takes about 10 steps, and one that takes everything as late as it may and
    /// hangs up each time about 50.
    ///
    /// # Errors
    /// Returns why nothing could be begun on this side. What the relay does wrong is in the report.
    pub async fn run(&self) -> Result<ProbeReport, RelayError> {
        Box::pin(run::run(self)).await
    }
}

/// What was found out about a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeReport {
    /// The relay.
    pub url: RelayUrl,
    /// How it was reached, or why not; then everything after [`ProbeReport::info`] is empty.
    pub reached: Result<Reached, DialError>,
    /// What it declares (NIP-11).
    pub info: Result<RelayInfo, FetchError>,
    /// Time from a request to the end of what is stored, or the (printable) reason why that did not come.
    pub request: Result<Duration, String>,
    /// It demanded authentication (NIP-42) and took that of an unknown key.
    pub authenticated: bool,
    /// What it does with each of [`Probe::KINDS`].
    pub kinds: Vec<KindFinding>,
    /// What it does with each of [`Probe::SIZES`], up to the first that it does not take.
    pub sizes: Vec<SizeFinding>,
    /// What it does with each of [`Probe::OFFSETS`].
    pub clock: Vec<ClockFinding>,
    /// What it said to the deletion of what it may keep.
    pub cleanup: Option<RelayOutcome>,
}

/// What a relay does with events of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KindFinding {
    /// The kind.
    pub kind: u16,
    /// Its answer to such an event.
    pub outcome: RelayOutcome,
    /// Time to that answer.
    pub took: Duration,
    /// Time from sending the event to its arrival at a live subscription on another connection.
    pub echo: Option<Duration>,
    /// Whether a later request finds the event; none when that could not be asked.
    pub stored: Option<bool>,
    /// Whether a newer event takes its place; none for kinds where that must not be, or when it could not be asked.
    pub replaced: Option<bool>,
}

/// What a relay does with events of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SizeFinding {
    /// The size, bytes of event JSON.
    pub bytes: usize,
    /// Its answer; [`RelayOutcome::NoAnswer`] also when it hung up.
    pub outcome: RelayOutcome,
}

/// What a relay does with a stamp that is off by some time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockFinding {
    /// `created_at` less now, seconds.
    pub offset: i64,
    /// Its answer.
    pub outcome: RelayOutcome,
}

impl ProbeReport {
    /// Returns what was found about one kind.
    #[must_use]
    pub fn kind(&self, kind: u16) -> Option<&KindFinding> {
        self.kinds.iter().find(|finding| finding.kind == kind)
    }

    /// Returns the largest event that was taken, bytes of JSON.
    #[must_use]
    pub fn largest(&self) -> Option<usize> {
        self.sizes.iter().filter(|finding| finding.outcome.is_success()).map(|finding| finding.bytes).max()
    }

    /// Returns how far around now stamps are taken without a gap, seconds; zero is not tried beyond the kinds.
    #[must_use]
    pub fn clock_window(&self) -> (i64, i64) {
        let reach = |past: bool| {
            let mut side: Vec<&ClockFinding> =
                self.clock.iter().filter(|finding| (finding.offset < 0) == past).collect();
            side.sort_by_key(|finding| finding.offset.abs());
            let taken = side.into_iter().take_while(|finding| finding.outcome.is_success());
            taken.last().map_or(0, |finding| finding.offset)
        };
        (reach(true), reach(false))
    }

    /// Whether calls can cross this relay: plain messages and gift wraps of at least one kind reach a live subscription.
    #[must_use]
    pub fn good_for_messages(&self) -> bool {
        let echoes = |kind| self.kind(kind).is_some_and(|finding| finding.echo.is_some());
        echoes(kind::MESSAGE) && (echoes(kind::EPHEMERAL_GIFT_WRAP) || echoes(kind::GIFT_WRAP))
    }

    /// Whether announcements can be found on this relay: they are kept, and a newer one takes the place of the older.
    #[must_use]
    pub fn good_for_announcements(&self) -> bool {
        self.kind(kind::SERVER_ANNOUNCEMENT)
            .is_some_and(|finding| finding.stored == Some(true) && finding.replaced == Some(true))
    }

    /// Whether reviews can be found on this relay.
    #[must_use]
    pub fn good_for_reviews(&self) -> bool {
        self.kind(kind::COMMENT).is_some_and(|finding| finding.stored == Some(true))
    }
}
