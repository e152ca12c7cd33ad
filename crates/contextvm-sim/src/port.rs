//! What stands between a machine and its relays, as in `contextvm-runtime`: gate and opening, signing, sealing, publishing.
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use contextvm_core::{Draft, Limits, Protection, Refusal};
use contextvm_crypto::{Keys, OpenError};
use contextvm_engine::gate::{Gate, OuterEvent};
use contextvm_engine::{DropReason, Outbound, Outcome, Ticket};
use nostr::event::Event;
use nostr::key::PublicKey;

use crate::end::Input;
use crate::frame::{Carried, Filter, Heard};
use crate::hostile::{Chances, Signer};
use crate::kernel::{Due, Kernel};
use crate::pool::{News, Pool, Published, Timer};
use crate::rng::Rng;
use crate::time::{HostClock, MS, SEC};
use crate::trace::{Host, What};

/// A longer event is a piece of something larger, bytes.
const LARGE: usize = 10_000;
/// How long a relay is up before it is asked what it takes.
const ASKED_AFTER: u64 = 2 * SEC;
/// The largest message of a relay that says nothing, and what is around an event in it, bytes.
const USUAL: usize = 65_536;
const AROUND: usize = 256;

/// An event that was signed, and the one that carries it.
#[derive(Debug)]
struct Made {
    inner: Rc<Event>,
    outer: Rc<Carried>,
}

#[derive(Debug)]
struct Kept {
    recipient: PublicKey,
    protection: Protection,
    made: Option<Made>,
}

/// Something to be signed or sealed.
#[derive(Debug)]
enum Job {
    Make { draft: Draft, recipient: PublicKey, protection: Protection, piece: bool },
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
    opening: VecDeque<(u16, OuterEvent, u64)>,
    opens_at: u64,
    sealing: VecDeque<(Ticket, Job)>,
    seals_at: u64,
    kept: BTreeMap<Ticket, Kept>,
    publishing: BTreeMap<u64, (Ticket, Option<u64>)>,
    pace: Pace,
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
        let pool = Pool::new(me.peer, life, me.keys.public_key(), filter, relays, rng, clock.unix(now));
        Self {
            life,
            clock,
            pool,
            gate,
            rng: Rng::of(me.seed, "entropy", index),
            signer: Signer::new(me.signer.clone(), Rng::of(me.seed, "signer", index).any()),
            opening: VecDeque::new(),
            opens_at: 0,
            sealing: VecDeque::new(),
            seals_at: 0,
            kept: BTreeMap::new(),
            publishing: BTreeMap::new(),
            pace: Pace::default(),
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
        let admitted = if stored {
            self.gate.admit_stored(&event.json, relay, now)
        } else {
            self.gate.admit(&event.json, relay, now)
        };
        let outer = match admitted {
            Ok(outer) => outer,
            Err(reason) => {
                if reason == DropReason::Id {
                    self.pool.report_invalid(relay, kernel);
                }
                return;
            }
        };
        self.opening.push_back((relay, outer, now.unix));
        let wait = self.signer.signs().after;
        if wait == 0 && self.opening.len() == 1 {
            self.opened(kernel);
        } else {
            self.opens_at = self.opens_at.max(kernel.now() + wait);
            kernel.queue.at(self.opens_at, Due::Opened { peer: self.me.peer, life: self.life });
        }
    }

    /// Opens the oldest event that waits.
    pub(crate) fn opened(&mut self, kernel: &mut Kernel) {
        let Some((relay, OuterEvent { event, kind }, unix)) = self.opening.pop_front() else { return };
        let (id, signature) = (event.id, event.sig);
        let limits = &self.me.limits;
        let result = match kind {
            Protection::Plain => {
                contextvm_crypto::open_plain(event, &self.me.keys.public_key(), unix, limits)
            }
            Protection::Wrapped(_) => contextvm_crypto::open(&event, &self.me.keys, unix, limits),
        };
        match result {
            Ok(opened) => {
                self.gate.opened(opened.outer());
                self.inputs.push_back(Input::Opened(Box::new(opened)));
            }
            Err(error) => {
                self.gate.refused(id, &signature);
                if kind == Protection::Plain && error == OpenError::Refused(Refusal::Signature) {
                    self.pool.report_invalid(relay, kernel);
                }
            }
        }
    }

    /// Signs, seals and publishes.
    pub(crate) fn publish(&mut self, outbound: Outbound, kernel: &mut Kernel) {
        let Outbound { ticket, draft, recipient, protection, is_frame } = outbound;
        if self.me.keeps {
            self.kept.insert(ticket, Kept { recipient, protection, made: None });
        }
        let piece = is_frame && draft.content.len() > LARGE;
        let signing = self.signer.signs();
        let job =
            if signing.refuses { Job::Refuse } else { Job::Make { draft, recipient, protection, piece } };
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
                self.send(ticket, outer, None, kernel);
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
        let unix = self.clock.unix(kernel.now());
        let (made, piece) = match job {
            Job::Refuse => (None, false),
            Job::Make { draft, recipient, protection, piece } => {
                let inner = Rc::new(self.me.keys.sign_draft(&draft, self.rng.bytes()));
                let protection = kernel.cheater.protection(self.me.host, protection);
                let encrypted = protection.is_encrypted();
                kernel.emit(self.me.host, What::Signed { id: inner.id, to: recipient, encrypted });
                (self.wrap(inner, &recipient, protection, unix), piece)
            }
            Job::Rewrap { inner, recipient, protection } => {
                (self.wrap(inner, &recipient, protection, unix), false)
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
        if piece {
            self.pace.waiting.push_back((ticket, outer));
            self.send_pieces(kernel);
        } else {
            self.send(ticket, outer, None, kernel);
        }
    }

    fn wrap(&mut self, inner: Rc<Event>, to: &PublicKey, protection: Protection, unix: u64) -> Option<Made> {
        let outer = match protection {
            Protection::Plain => Carried::made(&inner),
            Protection::Wrapped(kind) => {
                let entropy = self.rng.entropy();
                Carried::made(&contextvm_crypto::seal(&inner, to, kind, unix, &entropy).ok()?)
            }
        };
        Some(Made { inner, outer })
    }

    fn send_pieces(&mut self, kernel: &mut Kernel) {
        while let Some((ticket, event)) = self.pace.next() {
            let now = kernel.now();
            self.send(ticket, event, Some(now), kernel);
        }
    }

    fn send(&mut self, ticket: Ticket, event: Rc<Carried>, piece: Option<u64>, kernel: &mut Kernel) {
        let everywhere = event.json.len() > LARGE;
        let number = self.pool.publish(event, everywhere, kernel);
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

/// Pieces of large messages on their way: as in `contextvm_runtime`, as many as the relays take in about a second.
#[derive(Debug)]
struct Pace {
    waiting: VecDeque<(Ticket, Rc<Carried>)>,
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
    fn next(&mut self) -> Option<(Ticket, Rc<Carried>)> {
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
