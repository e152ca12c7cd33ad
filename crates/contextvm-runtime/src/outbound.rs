//! Outbound half of the loop: sign and seal on tasks in order, then publish, then the outcome.
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use contextvm_core::{Draft, Limits, Protection, WrapKind};
use contextvm_crypto::{Entropy, Keys};
use contextvm_engine::{Outbound, Outcome, Ticket};
use contextvm_relay::{PublishEvent, PublishOutcome, PublishReport, RelayOutcome, Relays};
use futures_util::StreamExt as _;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;
use tokio::task::JoinHandle;

use crate::clock::unix_now;
use crate::stats::Counters;

/// Events that are signed and sealed at once.
const SEALING: usize = 64;

/// What has to be made before it can be published.
#[derive(Debug)]
enum Work {
    New { draft: Box<Draft>, recipient: PublicKey, protection: Protection },
    Wrap { inner: Arc<Event>, recipient: PublicKey, wrap: WrapKind },
}

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

type Sealing = JoinHandle<(Ticket, Result<Made, &'static str>)>;
type Publishing = Pin<Box<dyn Future<Output = (Ticket, Outcome)> + Send>>;

/// Events on their way from the machine to the relays.
pub(crate) struct Outbox {
    keeps: bool,
    keys: Arc<Keys>,
    relays: Relays,
    counters: Counters,
    bound: usize,
    kept: BTreeMap<Ticket, Kept>,
    queue: VecDeque<(Ticket, Work)>,
    sealing: FuturesOrdered<Sealing>,
    publishing: FuturesUnordered<Publishing>,
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
            bound: limits.outbound_events.max(1),
            kept: BTreeMap::new(),
            queue: VecDeque::new(),
            sealing: FuturesOrdered::new(),
            publishing: FuturesUnordered::new(),
            failed: VecDeque::new(),
        }
    }

    /// Whether new inputs may be taken that can make more of this.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.len() < self.bound
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.sealing.is_empty()
            && self.publishing.is_empty()
            && self.failed.is_empty()
    }

    /// Takes a new publication.
    pub(crate) fn publish(&mut self, outbound: Outbound) {
        let Outbound { ticket, draft, recipient, protection } = outbound;
        if self.keeps {
            self.kept.insert(ticket, Kept { recipient, protection, made: None });
        }
        self.queue.push_back((ticket, Work::New { draft: Box::new(draft), recipient, protection }));
        self.pump();
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
            Protection::Wrapped(wrap) if rewrap => {
                let work = Work::Wrap { inner: Arc::clone(&made.inner), recipient: kept.recipient, wrap };
                self.queue.push_back((ticket, work));
                self.pump();
            }
            Protection::Plain | Protection::Wrapped(_) => {
                let event = PublishEvent { id: made.id, json: Arc::clone(&made.json) };
                self.start(ticket, event);
            }
        }
    }

    /// Lets go of what a ticket keeps.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.kept.remove(&ticket);
    }

    /// Waits until something is done, and returns the outcome if one publication ended. Cancel-safe.
    ///
    /// Waits for ever when nothing is under way.
    pub(crate) async fn next(&mut self) -> Option<(Ticket, Outcome)> {
        if let Some(failed) = self.failed.pop_front() {
            return Some(failed);
        }
        let may_start = self.publishing.len() < self.bound;
        tokio::select! {
            Some(sealed) = self.sealing.next(), if may_start && !self.sealing.is_empty() => {
                let outcome = self.sealed(sealed);
                self.pump();
                outcome
            }
            Some((ticket, outcome)) = self.publishing.next(), if !self.publishing.is_empty() => {
                self.count(&outcome);
                Some((ticket, outcome))
            }
            else => core::future::pending().await,
        }
    }

    /// Starts as much work as may run at once.
    fn pump(&mut self) {
        while self.sealing.len() < SEALING {
            let Some((ticket, work)) = self.queue.pop_front() else {
                return;
            };
            let keys = Arc::clone(&self.keys);
            self.sealing.push_back(tokio::spawn(async move { (ticket, make(work, &keys)) }));
        }
    }

    fn sealed(
        &mut self,
        sealed: Result<(Ticket, Result<Made, &'static str>), tokio::task::JoinError>,
    ) -> Option<(Ticket, Outcome)> {
        let Ok((ticket, made)) = sealed else {
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
                self.start(ticket, event);
                None
            }
            Err(why) => {
                let outcome = Outcome::Refused(why.into());
                self.count(&outcome);
                Some((ticket, outcome))
            }
        }
    }

    fn start(&mut self, ticket: Ticket, event: PublishEvent) {
        let relays = self.relays.clone();
        self.publishing.push(Box::pin(async move {
            let report = relays.publish(event).await;
            (ticket, outcome(&report))
        }));
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
fn make(work: Work, keys: &Keys) -> Result<Made, &'static str> {
    match work {
        Work::New { draft, recipient, protection } => {
            let mut aux = [0; 32];
            getrandom::fill(&mut aux).map_err(|_| "the host gives no randomness")?;
            let inner = Arc::new(keys.sign_draft(&draft, aux));
            match protection {
                Protection::Plain => finish(&inner, &inner),
                Protection::Wrapped(kind) => wrap(inner, &recipient, kind),
            }
        }
        Work::Wrap { inner, recipient, wrap: kind } => wrap(inner, &recipient, kind),
    }
}

fn wrap(inner: Arc<Event>, recipient: &PublicKey, kind: WrapKind) -> Result<Made, &'static str> {
    let entropy = Entropy::gather(getrandom::fill).map_err(|_| "the host gives no randomness")?;
    let outer = contextvm_crypto::seal(&inner, recipient, kind, unix_now(), &entropy)
        .map_err(|_| "the event cannot be gift wrapped")?;
    finish(&inner, &outer)
}

fn finish(inner: &Arc<Event>, outer: &Event) -> Result<Made, &'static str> {
    let json = serde_json::to_string(outer).map_err(|_| "the event cannot be printed")?;
    Ok(Made { inner: Arc::clone(inner), id: outer.id, json: json.into() })
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
