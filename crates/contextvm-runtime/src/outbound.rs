//! Outbound half of the loop: sign and seal beside the loop in order, then publish, then the outcome.
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use contextvm_core::{Draft, Limits, Protection, WrapKind, event};
use contextvm_crypto::{Entropy, Keys};
use contextvm_engine::{Outbound, Outcome, Reach, Ticket};
use contextvm_relay::{
    Audience, PublishEvent, PublishOutcome, PublishReport, Publishing, RelayOutcome, Relays,
};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;
use tokio::time::Instant;

use crate::clock::unix_now;
use crate::driver::sleep_until;
use crate::followed::Followed;
use crate::late::Late;
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

/// Where an event goes.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// A piece of a larger message.
    is_piece: bool,
    /// It is followed by its owner, who needs to know that it moves on and not where it arrived.
    is_frame: bool,
    about: Option<EventId>,
    reach: Reach,
}

impl Way {
    /// The way of what answers nothing.
    const OWN: Self = Self { is_piece: false, is_frame: false, about: None, reach: Reach::All };

    /// Says for whom an event is, as far as it is known by now which relays delivered the request.
    fn audience(self, via: impl FnOnce(&EventId) -> u64) -> Audience {
        Audience {
            first: self.about.as_ref().map_or(0, via),
            only: self.reach == Reach::Asked,
            decides: !self.is_frame,
        }
    }
}

/// An event that was made.
pub(crate) struct Sealed {
    ticket: Ticket,
    way: Way,
    made: Result<Made, &'static str>,
}

/// What the outbox is done with.
pub(crate) enum Done {
    /// An event was made and is to be sent: [`Outbox::send_made`]. Nothing came of it if its making ended in a panic.
    Made(Option<Box<Sealed>>),
    /// A publication ended.
    Ended(Ticket, Outcome),
    /// Some answers should be looked at again: [`Outbox::send_late`].
    Late,
}

/// A publication that holds up others until it moves on.
struct Moved {
    ticket: Ticket,
    bytes: usize,
    /// When it began, if it is a piece.
    piece: Option<Instant>,
    audience: Audience,
    publishing: Publishing,
}

type Later<T> = FuturesUnordered<Pin<Box<dyn Future<Output = T> + Send>>>;

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
    /// Publications that no relay has taken yet. No more than a relay's own queue holds, so that a relay that is behind is
    /// waited for and not overrun.
    moving: Later<Moved>,
    moving_bytes: usize,
    /// Those among them that are for strangers, who hold up others with half of that at most.
    strange: usize,
    strange_bytes: usize,
    /// Publications that some relay has, but none where it matters.
    followed: Followed,
    pace: Pace<(Ticket, PublishEvent, Audience)>,
    late: Late,
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
            moving: FuturesUnordered::new(),
            moving_bytes: 0,
            strange: 0,
            strange_bytes: 0,
            followed: Followed::new(limits.outbound_events.max(1), limits.outbound_bytes.max(1)),
            pace: Pace::default(),
            late: Late::default(),
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
            && self.moving.is_empty()
            && self.followed.is_empty()
            && self.pace.is_empty()
            && self.failed.is_empty()
    }

    /// Takes a new publication; it is made once [`Self::start`] is called.
    pub(crate) fn publish(&mut self, outbound: Outbound) {
        let Outbound { ticket, draft, recipient, protection, is_frame, about, reach } = outbound;
        if self.keeps {
            self.kept.insert(ticket, Kept { recipient, protection, made: None });
        }
        // A short one does not hold up anything.
        let (keys, is_piece) = (Arc::clone(&self.keys), is_frame && draft.content.len() > LARGE);
        let way = Way { is_piece, is_frame, about, reach };
        self.sealing.push(draft.content.len(), move || Sealed {
            ticket,
            way,
            made: make(&draft, &recipient, protection, &keys),
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
                self.sealing.push(inner.content.len(), move || Sealed {
                    ticket,
                    way: Way::OWN,
                    made: wrap(inner, &recipient, kind),
                });
            }
            Protection::Plain | Protection::Wrapped(_) => {
                let event = PublishEvent { id: made.id, json: Arc::clone(&made.json) };
                self.send(ticket, event, Audience::default(), None);
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

    /// Waits until something is done. Cancel-safe.
    ///
    /// Waits for ever when nothing is under way.
    pub(crate) async fn next(&mut self) -> Done {
        loop {
            if let Some((ticket, outcome)) = self.failed.pop_front() {
                return Done::Ended(ticket, outcome);
            }
            let fits = self.moving_bytes.saturating_add(self.largest) <= self.most_bytes;
            let fits = fits && self.moving.len() < self.most_events && self.pace.has_room();
            let may_send = self.moving.is_empty() || fits;
            tokio::select! {
                Some(sealed) = self.sealing.next(), if may_send && self.sealing.is_running() => {
                    return Done::Made(sealed.map(Box::new));
                }
                Some(moved) = self.moving.next(), if !self.moving.is_empty() => {
                    if let Some((ticket, outcome)) = self.moved(moved) {
                        return Done::Ended(ticket, outcome);
                    }
                }
                Some((ticket, outcome)) = self.followed.next(), if !self.followed.is_empty() => {
                    self.count(&outcome);
                    return Done::Ended(ticket, outcome);
                }
                () = sleep_until(self.late.next()) => return Done::Late,
            }
        }
    }

    /// Sends answers to relays that have delivered their request since; `via` says which did.
    pub(crate) fn send_late(&mut self, via: impl Fn(&EventId) -> u64) {
        let now = Instant::now();
        while let Some((event, further)) = self.late.due(&via, now) {
            let audience = Audience { first: further, only: true, decides: false };
            // What becomes of the first copy is what counts.
            drop(self.relays.publish_for(event, audience));
        }
    }

    /// Sends an event that was made; `via` says which relays delivered a request. Returns the outcome if that is known.
    pub(crate) fn send_made(
        &mut self,
        sealed: Option<Box<Sealed>>,
        via: impl FnOnce(&EventId) -> u64,
    ) -> Option<(Ticket, Outcome)> {
        let Some(sealed) = sealed else {
            // A bug of ours in `seal` costs one event and not the loop; its call ends by its deadline.
            tracing::error!("sealing an event ended in a panic");
            return None;
        };
        let Sealed { ticket, way, made } = *sealed;
        match made {
            Ok(made) => {
                let event = PublishEvent { id: made.id, json: Arc::clone(&made.json) };
                if let Some(kept) = self.kept.get_mut(&ticket) {
                    kept.made = Some(made);
                }
                let audience = way.audience(via);
                if let Some(about) = way.about.filter(|_| audience.only && audience.first != 0)
                    && event.json.len() <= LARGE
                {
                    self.late.push(about, audience.first, event.clone(), Instant::now());
                }
                // What may be given up unsent has no place in the window.
                if way.is_piece && !audience.only {
                    self.pace.push((ticket, event, audience));
                    self.send_pieces();
                } else {
                    self.send(ticket, event, audience, None);
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

    fn moved(&mut self, moved: Moved) -> Option<(Ticket, Outcome)> {
        let Moved { ticket, bytes, piece, audience, publishing } = moved;
        self.moving_bytes = self.moving_bytes.saturating_sub(bytes);
        if audience.only {
            self.strange = self.strange.saturating_sub(1);
            self.strange_bytes = self.strange_bytes.saturating_sub(bytes);
        }
        if let Some(sent) = piece {
            self.pace.ended(sent, Instant::now());
            self.send_pieces();
        }
        let ended = self.follow(ticket, bytes, audience, publishing);
        ended.inspect(|(_, outcome)| self.count(outcome))
    }

    /// Waits beside everything else for what becomes of a publication, unless that is known, or too many are waited for.
    fn follow(
        &mut self,
        ticket: Ticket,
        bytes: usize,
        audience: Audience,
        publishing: Publishing,
    ) -> Option<(Ticket, Outcome)> {
        if let Some(report) = publishing.settled() {
            return Some((ticket, outcome(&report)));
        }
        let part = if audience.only { 2 } else { 1 };
        let deciding = if audience.decides { audience.first } else { 0 };
        let report = async move { outcome(&publishing.report().await) };
        let is_followed = self.followed.push(ticket, deciding, (bytes, part), report);
        (!is_followed).then_some((ticket, Outcome::Unknown))
    }

    fn send_pieces(&mut self) {
        while let Some((ticket, event, audience)) = self.pace.next() {
            self.send(ticket, event, audience, Some(Instant::now()));
        }
    }

    fn send(&mut self, ticket: Ticket, event: PublishEvent, audience: Audience, piece: Option<Instant>) {
        let bytes = event.json.len().saturating_add(FRAME);
        let publishing = self.relays.publish_for(event, audience);
        if audience.only {
            let strange_bytes = self.strange_bytes.saturating_add(bytes);
            if self.strange >= self.most_events / 2 || strange_bytes > self.most_bytes / 2 {
                // A relay that takes nothing is not waited for on a stranger's account.
                let ended = self.follow(ticket, bytes, audience, publishing);
                self.failed.extend(ended.inspect(|(_, outcome)| self.count(outcome)));
                return;
            }
            (self.strange, self.strange_bytes) = (self.strange + 1, strange_bytes);
        }
        self.moving_bytes = self.moving_bytes.saturating_add(bytes);
        self.moving.push(Box::pin(async move {
            if bytes > LARGE {
                publishing.moved_everywhere().await;
            } else {
                publishing.moved().await;
            }
            Moved { ticket, bytes, piece, audience, publishing }
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
