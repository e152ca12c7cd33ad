//! Outbound half of the loop: sign and seal beside the loop in order, then publish, then the outcome.
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use contextvm_core::{Draft, Limits, Protection, WrapKind, event};
use contextvm_crypto::{Entropy, Keys};
use contextvm_engine::{Outbound, Outcome, Ticket};
use contextvm_relay::{PublishEvent, PublishOutcome, PublishReport, RelayOutcome, Relays};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;
use tokio::time::Instant;

use crate::clock::unix_now;
use crate::pace::Pace;
use crate::stats::Counters;
use crate::work::Work;

/// Events that are signed and sealed at once.
const SEALING: usize = 64;
/// A longer event is a piece of something larger, or large itself, bytes: the next one waits until every relay has it that
/// keeps pace, or a peer at the slower relay would lose pieces to the faster one.
const LARGE: usize = 10_000;
/// What `["EVENT",...]` adds to an event, bytes, rounded up.
const FRAME: usize = 16;

/// A finished event.
#[derive(Debug)]
struct Made {
    inner: Arc<Event>,
    id: EventId,
    json: Arc<str>,
}

/// What a ticket keeps until it is forgotten.
#[derive(Debug)]
struct Kept {
    recipient: PublicKey,
    protection: Protection,
    /// `None` while it is being made for the first time.
    made: Option<Made>,
}

/// An event that was made, and whether it is a piece of a larger message.
type Sealed = (Ticket, bool, Result<Made, &'static str>);
type Publishing = Pin<Box<dyn Future<Output = Published> + Send>>;

/// A publication that ended: how large it was, when a piece began, and what became of it.
struct Published {
    ticket: Ticket,
    bytes: usize,
    piece: Option<Instant>,
    outcome: Outcome,
}

/// Events on their way from the machine to the relays.
pub(crate) struct Outbox {
    keeps: bool,
    keys: Arc<Keys>,
    relays: Relays,
    counters: Counters,
    most_events: usize,
    most_bytes: usize,
    largest: usize,
    kept: BTreeMap<Ticket, Kept>,
    sealing: Work<Sealed>,
    publishing: FuturesUnordered<Publishing>,
    publishing_bytes: usize,
    pace: Pace<(Ticket, PublishEvent)>,
    /// Outcomes that are known without a publication.
    failed: VecDeque<(Ticket, Outcome)>,
}

impl Outbox {
    pub(crate) fn new(
        keeps: bool,
        keys: Arc<Keys>,
        relays: Relays,
        limits: &Limits,
        counters: Counters,
    ) -> Self {
        Self {
            keeps,
            keys,
            relays,
            counters,
            most_events: limits.outbound_events.max(1),
            most_bytes: limits.outbound_bytes.max(1),
            largest: limits.event,
            kept: BTreeMap::new(),
            sealing: Work::new(SEALING),
            publishing: FuturesUnordered::new(),
            publishing_bytes: 0,
            pace: Pace::default(),
            failed: VecDeque::new(),
        }
    }

    /// Whether new inputs may be taken that can make more of this.
    pub(crate) fn has_room(&self) -> bool {
        let (events, bytes) = self.sealing.waiting();
        events < self.most_events && bytes < self.most_bytes
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.sealing.len() == 0
            && self.publishing.is_empty()
            && self.pace.is_empty()
            && self.failed.is_empty()
    }

    /// Takes a new publication; it is made once [`Self::start`] is called.
    pub(crate) fn publish(&mut self, outbound: Outbound) {
        let Outbound { ticket, draft, recipient, protection, is_frame } = outbound;
        if self.keeps {
            self.kept.insert(ticket, Kept { recipient, protection, made: None });
        }
        // A short one does not hold up anything.
        let (keys, is_piece) = (Arc::clone(&self.keys), is_frame && draft.content.len() > LARGE);
        self.sealing.push(draft.content.len(), move || {
            (ticket, is_piece, make(&draft, &recipient, protection, &keys))
        });
    }

    /// Publishes again what a ticket names.
    pub(crate) fn republish(&mut self, ticket: Ticket, rewrap: bool) {
        let Some(kept) = self.kept.get(&ticket) else {
            self.failed.push_back((ticket, Outcome::Refused("nothing is kept under this ticket".into())));
            return;
        };
        let Some(made) = &kept.made else {
            // Still being made for the first time: that outcome is the one to wait for.
            return;
        };
        match kept.protection {
            Protection::Wrapped(kind) if rewrap => {
                let (inner, recipient) = (Arc::clone(&made.inner), kept.recipient);
                self.sealing
                    .push(inner.content.len(), move || (ticket, false, wrap(inner, &recipient, kind)));
            }
            Protection::Plain | Protection::Wrapped(_) => {
                let event = PublishEvent { id: made.id, json: Arc::clone(&made.json) };
                self.send(ticket, event, None);
            }
        }
    }

    /// Lets go of what a ticket keeps.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.kept.remove(&ticket);
    }

    /// Begins to sign and seal what was taken.
    pub(crate) fn start(&mut self) {
        self.sealing.start();
    }

    /// Waits until something is done, and returns the outcome if one publication ended. Cancel-safe.
    ///
    /// Waits for ever when nothing is under way.
    pub(crate) async fn next(&mut self) -> Option<(Ticket, Outcome)> {
        if let Some(failed) = self.failed.pop_front() {
            return Some(failed);
        }
        // No more than a relay's own queue holds, so that a relay that is behind is waited for and not overrun.
        let fits = self.publishing_bytes.saturating_add(self.largest) <= self.most_bytes;
        let fits = fits && self.publishing.len() < self.most_events && self.pace.has_room();
        let may_send = self.publishing.is_empty() || fits;
        tokio::select! {
            Some(sealed) = self.sealing.next(), if may_send && self.sealing.is_running() => self.sealed(sealed),
            Some(published) = self.publishing.next(), if !self.publishing.is_empty() => {
                Some(self.published(published))
            }
            else => core::future::pending().await,
        }
    }

    fn sealed(&mut self, sealed: Option<Sealed>) -> Option<(Ticket, Outcome)> {
        let Some((ticket, is_piece, made)) = sealed else {
            // A bug of ours in `seal` costs one event and not the loop; its call ends by its deadline.
            tracing::error!("sealing an event ended in a panic");
            return None;
        };
        match made {
            Ok(made) => {
                let event = PublishEvent { id: made.id, json: Arc::clone(&made.json) };
                if let Some(kept) = self.kept.get_mut(&ticket) {
                    kept.made = Some(made);
                }
                if is_piece {
                    self.pace.push((ticket, event));
                    self.send_pieces();
                } else {
                    self.send(ticket, event, None);
                }
                None
            }
            Err(why) => {
                self.kept.remove(&ticket);
                let outcome = Outcome::Refused(why.into());
                self.count(&outcome);
                Some((ticket, outcome))
            }
        }
    }

    fn published(&mut self, published: Published) -> (Ticket, Outcome) {
        let Published { ticket, bytes, piece, outcome } = published;
        self.publishing_bytes = self.publishing_bytes.saturating_sub(bytes);
        if let Some(sent) = piece {
            self.pace.ended(sent, Instant::now());
            self.send_pieces();
        }
        self.count(&outcome);
        (ticket, outcome)
    }

    fn send_pieces(&mut self) {
        while let Some((ticket, event)) = self.pace.next() {
            self.send(ticket, event, Some(Instant::now()));
        }
    }

    fn send(&mut self, ticket: Ticket, event: PublishEvent, piece: Option<Instant>) {
        let bytes = event.json.len().saturating_add(FRAME);
        self.publishing_bytes = self.publishing_bytes.saturating_add(bytes);
        self.publishing.push(if bytes > LARGE {
            let report = self.relays.publish_everywhere(event);
            Box::pin(async move { Published { ticket, bytes, piece, outcome: outcome(&report.await) } })
        } else {
            let report = self.relays.publish(event);
            Box::pin(async move { Published { ticket, bytes, piece, outcome: outcome(&report.await) } })
        });
    }

    fn count(&self, outcome: &Outcome) {
        self.counters.add(|stats| match outcome {
            Outcome::Accepted => &mut stats.accepted,
            Outcome::Unknown => &mut stats.unknown,
            Outcome::Refused(_) => &mut stats.refused,
        });
    }
}

/// Signs and seals one event.
fn make(
    draft: &Draft,
    recipient: &PublicKey,
    protection: Protection,
    keys: &Keys,
) -> Result<Made, &'static str> {
    let mut aux = [0; 32];
    getrandom::fill(&mut aux).map_err(|_| "the host gives no randomness")?;
    let inner = Arc::new(keys.sign_draft(draft, aux));
    match protection {
        Protection::Plain => Ok(finish(&inner, &inner)),
        Protection::Wrapped(kind) => wrap(inner, recipient, kind),
    }
}

fn wrap(inner: Arc<Event>, recipient: &PublicKey, kind: WrapKind) -> Result<Made, &'static str> {
    let entropy = Entropy::gather(getrandom::fill).map_err(|_| "the host gives no randomness")?;
    let outer = contextvm_crypto::seal(&inner, recipient, kind, unix_now(), &entropy)
        .map_err(|_| "the event cannot be gift wrapped")?;
    Ok(finish(&inner, &outer))
}

fn finish(inner: &Arc<Event>, outer: &Event) -> Made {
    Made { inner: Arc::clone(inner), id: outer.id, json: event::print(outer).into() }
}

/// Sums a report up in the machine's words.
fn outcome(report: &PublishReport) -> Outcome {
    match report.outcome() {
        PublishOutcome::Accepted => Outcome::Accepted,
        PublishOutcome::Refused => Outcome::Refused(first_refusal(report)),
        PublishOutcome::NotSent => Outcome::Refused("no relay could be reached".into()),
        // Whatever else may be said one day: it may have arrived.
        PublishOutcome::Unknown | _ => Outcome::Unknown,
    }
}

fn first_refusal(report: &PublishReport) -> String {
    let words = report.per_relay.iter().find_map(|(_, outcome)| {
        if let RelayOutcome::Refused(words) = outcome { Some(words.clone()) } else { None }
    });
    words.unwrap_or_else(|| "every relay refused".into())
}
