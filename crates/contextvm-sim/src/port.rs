//! What stands between a machine and its relays, as in `contextvm-runtime`: gate and opening, signing, sealing, publishing.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use contextvm_core::{Draft, Limits, Protection, Refusal};
use contextvm_crypto::{Keys, OpenError};
use contextvm_engine::gate::{Gate, OuterEvent};
use contextvm_engine::{DropReason, Outbound, Outcome, Reach, Ticket};
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;

use crate::check;
use crate::end::{self, Input};
use crate::frame::{Carried, Filter, Heard};
use crate::hash;
use crate::hostile::{Chances, Signer};
use crate::kernel::{Due, Kernel};
use crate::pool::{Audience, News, Pool, Published, Timer};
use crate::rng::Rng;
use crate::time::{HostClock, MS, SEC};
use crate::trace::{Host, PortLoad, What};

/// In one of so many worlds every peer reads every event from its text; elsewhere it is read once for all.
const READS: u64 = 16;
/// The first delays before a connection is tried again, as in `contextvm_runtime`.
const CLIENT_RETRY: u64 = 500 * MS;
const SERVER_RETRY: u64 = 150 * MS;
/// A longer event is a piece of something larger, bytes.
const LARGE: usize = 10_000;
/// How long a relay is up before it is asked what it takes.
const ASKED_AFTER: u64 = 2 * SEC;
/// The largest message of a relay that says nothing, and what is around an event in it, bytes.
const USUAL: usize = 65_536;
const AROUND: usize = 256;
/// Answers to strangers for which another relay may still deliver the request.
const LATE: usize = 64;
/// How long after such an answer it may, microseconds.
const LOOKS_FOR: u64 = SEC;

/// An event that was signed, and the one that carries it.
#[derive(Debug)]
struct Made {
    inner: Rc<Event>,
    outer: Rc<Carried>,
}

/// An event that passed the gate and is to be opened.
#[derive(Debug)]
struct Opening {
    relay: u16,
    event: Rc<Event>,
    kind: Protection,
    /// The relay had kept it.
    stored: bool,
    unix: u64,
}

#[derive(Debug)]
struct Kept {
    recipient: PublicKey,
    protection: Protection,
    made: Option<Made>,
}

/// Where an event goes.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    piece: bool,
    is_frame: bool,
    about: Option<EventId>,
    reach: Reach,
}

/// Something to be signed or sealed.
#[derive(Debug)]
enum Job {
    Make { draft: Draft, recipient: PublicKey, protection: Protection, way: Way },
    Rewrap { inner: Rc<Event>, recipient: PublicKey, protection: Protection },
    Refuse,
}

/// Who a peer is and what it is made of.
#[derive(Debug)]
pub(crate) struct Me {
    pub(crate) peer: u16,
    pub(crate) host: Host,
    pub(crate) keys: Keys,
    pub(crate) limits: Limits,
    pub(crate) kinds: Vec<u16>,
    /// What its signers may do wrong.
    pub(crate) signer: Chances,
    /// What each relay says that it takes, bytes.
    pub(crate) largest: Vec<Option<usize>>,
    /// Who may not call.
    pub(crate) denied: BTreeSet<PublicKey>,
    /// Whether signed events are kept under their ticket.
    pub(crate) keeps: bool,
    pub(crate) seed: u64,
}

/// The driver of one life of one peer.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) me: Rc<Me>,
    pub(crate) life: u32,
    pub(crate) clock: HostClock,
    pub(crate) pool: Pool,
    gate: Gate,
    rng: Rng,
    pub(crate) signer: Signer,
    opening: VecDeque<Opening>,
    /// Events are read from their texts here, too, as they are outside of worlds.
    reads: bool,
    opens_at: u64,
    sealing: VecDeque<(Ticket, Job)>,
    seals_at: u64,
    kept: BTreeMap<Ticket, Kept>,
    publishing: BTreeMap<u64, (Ticket, Option<u64>)>,
    pace: Pace,
    /// The newest answers to strangers, with the relays that they went to and the time.
    late: VecDeque<(EventId, u64, Rc<Carried>, u64)>,
    /// What the relays that were asked take.
    said: BTreeMap<u16, Option<usize>>,
    told: usize,
    pub(crate) inputs: VecDeque<Input>,
}

impl Port {
    pub(crate) fn new(me: Rc<Me>, life: u32, gate: Gate, clock: HostClock, now: u64) -> Self {
        let index = u64::from(life) << 16 | u64::from(me.peer);
        let filter =
            Filter { to: Some(me.keys.public_key()), kinds: me.kinds.clone(), since: me.limits.age_window };
        let relays = me.largest.len() as u16;
        let rng = Rng::of(me.seed, "connections", index);
        let retry = if matches!(me.host, Host::Server(_)) { SERVER_RETRY } else { CLIENT_RETRY };
        let key = me.keys.public_key();
        let pool = Pool::new(me.peer, life, key, filter, relays, rng, clock.unix(now), retry);
        Self {
            life,
            clock,
            pool,
            gate,
            rng: Rng::of(me.seed, "entropy", index),
            signer: Signer::new(me.signer.clone(), Rng::of(me.seed, "signer", index).any()),
            opening: VecDeque::new(),
            reads: !cfg!(contextvm_fake_hashes) || me.seed.is_multiple_of(READS),
            opens_at: 0,
            sealing: VecDeque::new(),
            seals_at: 0,
            kept: BTreeMap::new(),
            publishing: BTreeMap::new(),
            pace: Pace::default(),
            late: VecDeque::new(),
            said: BTreeMap::new(),
            told: USUAL - AROUND,
            inputs: VecDeque::new(),
            me,
        }
    }

    /// A frame of a relay has come.
    pub(crate) fn hear(&mut self, relay: u16, heard: Heard, kernel: &mut Kernel) {
        let unix = self.clock.unix(kernel.now());
        self.pool.hear(relay, heard, unix, kernel);
        self.news(kernel);
    }

    pub(crate) fn dialled(&mut self, relay: u16, connection: u32, open: bool, kernel: &mut Kernel) {
        self.pool.dialled(relay, connection, open, kernel);
        self.news(kernel);
    }

    pub(crate) fn cut(&mut self, relay: u16, connection: u32, kernel: &mut Kernel) {
        self.pool.cut(relay, connection, kernel);
        self.news(kernel);
    }

    pub(crate) fn timed(&mut self, timer: Timer, kernel: &mut Kernel) {
        self.pool.timed(timer, kernel);
        self.news(kernel);
    }

    /// Returns what the driver holds at this moment.
    pub(crate) fn load(&self) -> PortLoad {
        PortLoad {
            kept: self.kept.len(),
            publishing: self.publishing.len(),
            opening: self.opening.len(),
            sealing: self.sealing.len(),
        }
    }

    /// Takes in what the connections have to say.
    fn news(&mut self, kernel: &mut Kernel) {
        while let Some(news) = self.pool.news.pop_front() {
            match news {
                News::Up(relay) => {
                    self.inputs.push_back(Input::RelayUp);
                    if !self.said.contains_key(&relay) {
                        let act = Due::Limit { peer: self.me.peer, life: self.life, relay };
                        kernel.queue.after(ASKED_AFTER, act);
                    }
                }
                News::Event { relay, event, stored } => self.take(relay, &event, stored, kernel),
                News::Published(number, published) => self.published(number, published, kernel),
            }
        }
    }

    /// A relay said what it takes.
    pub(crate) fn limit(&mut self, relay: u16) {
        self.said.insert(relay, self.me.largest.get(usize::from(relay)).copied().flatten());
        let relays = 0..self.me.largest.len() as u16;
        let least = relays.map(|relay| self.said.get(&relay).copied().flatten().unwrap_or(USUAL)).min();
        let least = least.unwrap_or(USUAL).saturating_sub(AROUND);
        if least != self.told {
            self.told = least;
            self.inputs.push_back(Input::RelayLimit(least));
        }
    }

    fn take(&mut self, relay: u16, event: &Carried, stored: bool, kernel: &mut Kernel) {
        let now = self.clock.now(kernel.now());
        let admitted = if self.reads {
            let json = event.json();
            let gate = &mut self.gate;
            let outer =
                if stored { gate.admit_stored(json, relay, now) } else { gate.admit(json, relay, now) };
            outer.map(|OuterEvent { event, kind }| (Rc::new(event), kind))
        } else {
            let (event, bytes) = (event.event(), event.bytes);
            self.gate.admit_read(event, bytes, relay, stored, now).map(|kind| (Rc::clone(event), kind))
        };
        let (event, kind) = match admitted {
            Ok(admitted) => admitted,
            Err(reason) => {
                kernel.dropped(self.me.host, reason);
                if matches!(reason, DropReason::Copy | DropReason::Duplicate) {
                    self.send_late(kernel);
                }
                if reason == DropReason::Id {
                    self.pool.report_invalid(relay, kernel);
                }
                return;
            }
        };
        self.opening.push_back(Opening { relay, event, kind, stored, unix: now.unix });
        let wait = self.signer.signs().after;
        if wait >= SEC {
            kernel.emit(self.me.host, What::SignerFailed);
        }
        if wait == 0 && self.opening.len() == 1 {
            self.opened(kernel);
        } else {
            self.opens_at = self.opens_at.max(kernel.now() + wait);
            kernel.queue.at(self.opens_at, Due::Opened { peer: self.me.peer, life: self.life });
        }
    }

    /// Opens the oldest event that waits.
    pub(crate) fn opened(&mut self, kernel: &mut Kernel) {
        let Some(Opening { relay, event, kind, stored, unix }) = self.opening.pop_front() else { return };
        let (id, signature) = (event.id, event.sig);
        let limits = &self.me.limits;
        let result = match kind {
            Protection::Plain => {
                let event = Rc::unwrap_or_clone(event);
                contextvm_crypto::open_plain(event, &self.me.keys.public_key(), unix, limits)
            }
            Protection::Wrapped(_) => contextvm_crypto::open(&event, &self.me.keys, unix, limits),
        };
        match result {
            Ok(opened) => {
                self.gate.opened(opened.outer());
                self.gate.carried(opened.event().id, opened.outer());
                self.inputs.push_back(Input::Opened(Box::new(opened.with_stored(stored))));
            }
            Err(error) => {
                self.gate.refused(id, &signature);
                kernel.unopened(self.me.host, check::why(&error));
                if kind == Protection::Plain && error == OpenError::Refused(Refusal::Signature) {
                    self.pool.report_invalid(relay, kernel);
                }
            }
        }
    }

    /// Signs, seals and publishes.
    pub(crate) fn publish(&mut self, outbound: Outbound, kernel: &mut Kernel) {
        let Outbound { ticket, draft, recipient, protection, is_frame, about, reach } = outbound;
        if self.me.keeps {
            self.kept.insert(ticket, Kept { recipient, protection, made: None });
        }
        let piece = is_frame && draft.content.len() > LARGE;
        let signing = self.signer.signs();
        if signing.refuses || signing.after >= SEC {
            kernel.emit(self.me.host, What::SignerFailed);
        }
        let way = Way { piece, is_frame, about, reach };
        let job = if signing.refuses { Job::Refuse } else { Job::Make { draft, recipient, protection, way } };
        self.push(ticket, job, signing.after, kernel);
    }

    fn push(&mut self, ticket: Ticket, job: Job, wait: u64, kernel: &mut Kernel) {
        self.sealing.push_back((ticket, job));
        if wait == 0 && self.sealing.len() == 1 {
            self.sealed(kernel);
        } else {
            self.seals_at = self.seals_at.max(kernel.now() + wait);
            kernel.queue.at(self.seals_at, Due::Sealed { peer: self.me.peer, life: self.life });
        }
    }

    /// Publishes again what a ticket names.
    pub(crate) fn republish(&mut self, ticket: Ticket, rewrap: bool, kernel: &mut Kernel) {
        let Some(kept) = self.kept.get(&ticket) else {
            let outcome = Outcome::Refused("nothing is kept under this ticket".into());
            self.inputs.push_back(Input::Published(ticket, outcome));
            return;
        };
        let Some(made) = &kept.made else { return };
        match kept.protection {
            Protection::Wrapped(_) if rewrap => {
                let (inner, recipient) = (Rc::clone(&made.inner), kept.recipient);
                let job = Job::Rewrap { inner, recipient, protection: kept.protection };
                self.push(ticket, job, 0, kernel);
            }
            Protection::Plain | Protection::Wrapped(_) => {
                let outer = Rc::clone(&made.outer);
                self.send(ticket, outer, Audience::default(), None, kernel);
            }
        }
    }

    /// Lets go of what a ticket keeps.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        self.kept.remove(&ticket);
    }

    /// Makes the oldest event that waits to be signed or sealed.
    pub(crate) fn sealed(&mut self, kernel: &mut Kernel) {
        let Some((ticket, job)) = self.sealing.pop_front() else { return };
        let at = (self.clock.unix(kernel.now()), kernel.now());
        let (made, way) = match job {
            Job::Refuse => (None, Way::default()),
            Job::Make { draft, recipient, protection, way } => {
                let inner = Rc::new(
                    self.me.keys.sign_draft(&draft, self.rng.fork(draft.content.len() as u64).bytes()),
                );
                let protection = kernel.cheater.protection(self.me.host, protection);
                let recipient = kernel.cheater.recipient(self.me.host, recipient, way.about);
                kernel.emit(self.me.host, signed(&inner, recipient, protection, way.about));
                (self.wrap(inner, &recipient, protection, at), way)
            }
            Job::Rewrap { inner, recipient, protection } => {
                (self.wrap(inner, &recipient, protection, at), Way::default())
            }
        };
        let Some(made) = made else {
            self.kept.remove(&ticket);
            let outcome = Outcome::Refused("the event cannot be made".into());
            self.inputs.push_back(Input::Published(ticket, outcome));
            return;
        };
        let outer = Rc::clone(&made.outer);
        if let Some(kept) = self.kept.get_mut(&ticket) {
            kept.made = Some(made);
        }
        let first = way.about.map_or(0, |about| self.gate.via(&about));
        let audience = Audience { first, only: way.reach == Reach::Asked, decides: !way.is_frame };
        if let Some(about) = way.about.filter(|_| audience.only && first != 0) {
            self.late.push_front((about, first, Rc::clone(&outer), kernel.now()));
            self.late.truncate(LATE);
        }
        if way.piece {
            self.pace.waiting.push_back((ticket, outer, audience));
            self.send_pieces(kernel);
        } else {
            self.send(ticket, outer, audience, None, kernel);
        }
    }

    fn wrap(
        &mut self,
        inner: Rc<Event>,
        to: &PublicKey,
        protection: Protection,
        (unix, now): (u64, u64),
    ) -> Option<Made> {
        let outer = match protection {
            Protection::Plain => Carried::made(Rc::clone(&inner)),
            Protection::Wrapped(kind) => {
                // Of its own event and time, so that the outer ids of others stay as they are where a call is left out.
                let entropy = self.rng.fork(hash::short(inner.id.as_bytes()) ^ now).entropy();
                Carried::made(contextvm_crypto::seal(&inner, to, kind, unix, &entropy).ok()?.into())
            }
        };
        Some(Made { inner, outer })
    }

    fn send_pieces(&mut self, kernel: &mut Kernel) {
        while let Some((ticket, event, audience)) = self.pace.next() {
            let now = kernel.now();
            self.send(ticket, event, audience, Some(now), kernel);
        }
    }

    /// A copy of something has come: answers to strangers go to the relays that delivered their request late, too.
    fn send_late(&mut self, kernel: &mut Kernel) {
        let now = kernel.now();
        for (about, told, event, since) in &mut self.late {
            if now - *since > LOOKS_FOR {
                break;
            }
            let further = self.gate.via(about) & !*told;
            if further != 0 {
                *told |= further;
                let audience = Audience { first: further, only: true, decides: false };
                self.pool.publish(Rc::clone(event), false, audience, kernel);
            }
        }
    }

    fn send(
        &mut self,
        ticket: Ticket,
        event: Rc<Carried>,
        audience: Audience,
        piece: Option<u64>,
        kernel: &mut Kernel,
    ) {
        let everywhere = event.bytes > LARGE;
        let number = self.pool.publish(event, everywhere, audience, kernel);
        self.publishing.insert(number, (ticket, piece));
        self.news(kernel);
    }

    fn published(&mut self, number: u64, published: Published, kernel: &mut Kernel) {
        let Some((ticket, piece)) = self.publishing.remove(&number) else { return };
        if let Some(sent) = piece {
            self.pace.ended(sent, kernel.now());
            self.send_pieces(kernel);
        }
        let outcome = match published {
            Published::Accepted => Outcome::Accepted,
            Published::Unknown => Outcome::Unknown,
            Published::Refused(text) => Outcome::Refused(text.into()),
            Published::NotSent => Outcome::Refused("no relay could be reached".into()),
        };
        self.inputs.push_back(Input::Published(ticket, outcome));
    }
}

/// What the trace says of an event that was signed.
fn signed(inner: &Event, to: PublicKey, protection: Protection, about: Option<EventId>) -> What {
    let message = end::read(&inner.content).filter(|message| message.result.or(message.error).is_some());
    What::Signed {
        id: inner.id,
        to,
        encrypted: protection.is_encrypted(),
        stamp: inner.created_at.as_secs(),
        about,
        answer: message.map(|message| end::answer(&message).0),
    }
}

/// Pieces of large messages on their way: as in `contextvm_runtime`, as many as the relays take in about a second.
#[derive(Debug)]
struct Pace {
    waiting: VecDeque<(Ticket, Rc<Carried>, Audience)>,
    out: usize,
    most: usize,
    since: Option<u64>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), out: 0, most: 16, since: None }
    }
}

impl Pace {
    fn next(&mut self) -> Option<(Ticket, Rc<Carried>, Audience)> {
        if self.out >= self.most {
            return None;
        }
        let piece = self.waiting.pop_front()?;
        self.out += 1;
        Some(piece)
    }

    fn ended(&mut self, sent: u64, now: u64) {
        self.out = self.out.saturating_sub(1);
        let took = now.saturating_sub(sent);
        if took >= SEC {
            if self.since.is_none_or(|since| sent >= since) {
                self.most = (self.most / 2).max(2);
                self.since = Some(now);
            }
        } else if took < 500 * MS {
            self.most = (self.most + 1).min(48);
        }
    }
}
