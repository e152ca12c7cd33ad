//! What was published, and what became of it.
use std::collections::BTreeMap;

use contextvm_announce::{AnnounceError, SchemaNote};
use contextvm_relay::{PostReport, RelayOutcome};
use nostr::event::{Event, EventId};
use nostr::types::RelayUrl;

use super::AnnounceTargets;

/// Ids of published events that are remembered for a deletion; the newest.
const REMEMBERED: usize = 256;
/// Failures and notes that are kept; the newest.
const KEPT: usize = 32;

/// What one relay made of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayWord {
    /// The relay.
    pub url: RelayUrl,
    /// Its last word, or how far it came.
    pub outcome: RelayOutcome,
    /// Why it could not be reached or broke off, if it did; printable.
    pub failed: Option<String>,
}

/// One published event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Announced {
    /// The replaceable kind that it is about: its own, or the one that it deletes.
    pub about: u16,
    /// The event.
    pub event: Event,
    /// When it was last sent out and answered, Unix seconds; `None` while that is under way for the first time.
    pub sent_at: Option<u64>,
    /// What each relay said the last time.
    pub per_relay: Vec<RelayWord>,
}

impl Announced {
    /// Whether at least one relay has it.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.per_relay.iter().any(|word| word.outcome.is_success())
    }

    /// Whether some relay has it and another was out of reach; one that refused it has had its say.
    #[must_use]
    pub fn is_missed(&self) -> bool {
        let missed = |word: &RelayWord| {
            !word.outcome.is_success() && !matches!(word.outcome, RelayOutcome::Refused(_))
        };
        self.is_taken() && self.per_relay.iter().any(missed)
    }

    /// Whether it deletes what was published before.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        self.event.kind.as_u16() != self.about
    }
}

/// A failure, and when it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// Unix seconds.
    pub at: u64,
    /// What failed.
    pub error: AnnounceError,
}

/// What a server has published about itself.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AnnounceStatus {
    /// Where events go.
    pub targets: AnnounceTargets,
    /// The last event about each kind, in order of the kinds.
    pub events: Vec<Announced>,
    /// What could not be published, the last 32.
    pub failures: Vec<Failure>,
    /// What should be known about common tools, the last 32.
    pub notes: Vec<SchemaNote>,
    /// Whether there is nothing left to ask or to publish for now; what no relay took is tried again later.
    pub settled: bool,
    /// Ids of everything published, by kind.
    pub(super) ids: Vec<(u16, EventId)>,
}

impl AnnounceStatus {
    /// Returns the last event about a kind.
    #[must_use]
    pub fn event(&self, about: u16) -> Option<&Announced> {
        self.events.iter().find(|announced| announced.about == about)
    }

    /// Notes an event that is about to be sent; a repeated one keeps what relays said of it.
    pub(super) fn sending(&mut self, about: u16, event: &Event) {
        if self.event(about).is_some_and(|announced| announced.event.id == event.id) {
            return;
        }
        if event.kind.as_u16() == about {
            push(&mut self.ids, (about, event.id), REMEMBERED);
        }
        self.events.retain(|announced| announced.about != about);
        let announced = Announced { about, event: event.clone(), sent_at: None, per_relay: Vec::new() };
        let place = self.events.partition_point(|other| other.about < about);
        self.events.insert(place, announced);
    }

    /// Notes what relays said of an event, unless a newer one has taken its place.
    pub(super) fn sent(&mut self, id: EventId, per_relay: Vec<RelayWord>, unix: u64) {
        if let Some(announced) = self.events.iter_mut().find(|announced| announced.event.id == id) {
            (announced.per_relay, announced.sent_at) = (per_relay, Some(unix));
        }
    }

    pub(super) fn failed(&mut self, error: AnnounceError, at: u64) {
        push(&mut self.failures, Failure { at, error }, KEPT);
    }

    pub(super) fn noted(&mut self, note: SchemaNote) {
        push(&mut self.notes, note, KEPT);
    }
}

/// Returns what each relay said of each event of a publication.
pub(super) fn words(report: PostReport) -> Vec<(EventId, Vec<RelayWord>)> {
    let failed: BTreeMap<RelayUrl, String> = report.failed.into_iter().collect();
    let words = report.events.into_iter().map(|posted| {
        let per_relay = posted.per_relay.into_iter().map(|answer| {
            let failed = failed.get(&answer.url).cloned();
            RelayWord { url: answer.url, outcome: answer.outcome, failed }
        });
        (posted.id, per_relay.collect())
    });
    words.collect()
}

/// Adds to a list of bounded length.
fn push<T>(list: &mut Vec<T>, item: T, most: usize) {
    if list.len() >= most {
        list.remove(0);
    }
    list.push(item);
}
