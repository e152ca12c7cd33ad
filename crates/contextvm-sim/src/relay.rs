//! Relays as they are (NIP-01): dedup, ephemeral events, words of refusal, limits, restarts; honest, or with a hostile mind.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use contextvm_core::kind;
use nostr::event::EventId;

use crate::frame::{Carried, Filter, Heard, Said};
use crate::hostile::{self, HostileRelay, Saying};
use crate::rng::Rng;
use crate::time::{SEC, START};

/// Most events that a relay keeps.
const KEPT: usize = 5_000;
/// How long ephemeral events are kept by relays that do so.
const EPHEMERAL: u64 = 300 * SEC;
/// Refusals that say that something is wrong with this event at this relay, one for each prefix.
const REFUSALS: [&str; 8] = [
    "pow: 28 bits",
    "blocked: you",
    "rate-limited: slow down",
    "invalid: no",
    "restricted: no",
    "mute: no one was listening",
    "error: disk",
    "",
];

/// What a relay is like; the faults of an honest one.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Largest message, bytes; `None`: any.
    pub largest: Option<usize>,
    /// It says so when asked (NIP-11).
    pub says_largest: bool,
    /// Events per second and connection; `None`: any.
    pub rate: Option<u64>,
    /// It wants authentication before it gives out or takes anything.
    pub auth: bool,
    /// Ephemeral events are kept for five minutes.
    pub keeps_ephemeral: bool,
    /// Ephemeral events older than 60 s or newer than 900 s are refused.
    pub strict_age: bool,
    /// OKs that never come, come late, say no, or lie; per mille.
    pub ok: [u32; 4],
    /// Notices and challenges that nobody needs, per mille of the events.
    pub notice: u32,
}

/// One connection, as the relay knows it.
#[derive(Debug, Default)]
struct Connection {
    filter: Option<Filter>,
    known: bool,
    challenge: Rc<str>,
    /// Events in the second of this number.
    second: (u64, u64),
}

/// What a relay wants said: to whom, after how long.
pub(crate) type Sayings = Vec<(u64, u16, Heard)>;

/// A relay.
#[derive(Debug)]
pub struct Relay {
    /// What it is like.
    pub manner: Manner,
    rng: Rng,
    connections: BTreeMap<u16, Connection>,
    seen: BTreeSet<EventId>,
    kept: VecDeque<(u64, Rc<Carried>)>,
    /// It is not there before this.
    pub(crate) down_until: u64,
    /// It refuses connections before this.
    pub(crate) refuses_until: u64,
    /// It swallows everything before this.
    pub(crate) hole_until: u64,
    /// What a hostile relay says instead.
    pub(crate) mind: Option<HostileRelay>,
}

impl Relay {
    /// Makes a relay.
    #[must_use]
    pub fn new(seed: u64, index: u16, manner: Manner) -> Self {
        Self {
            manner,
            rng: Rng::of(seed, "relay", u64::from(index)),
            connections: BTreeMap::new(),
            seen: BTreeSet::new(),
            kept: VecDeque::new(),
            down_until: 0,
            refuses_until: 0,
            hole_until: 0,
            mind: None,
        }
    }

    pub(crate) const fn accepts(&self, now: u64) -> bool {
        now >= self.down_until && now >= self.refuses_until
    }

    pub(crate) const fn swallows(&self, now: u64) -> bool {
        now < self.hole_until || now < self.down_until
    }

    /// Peers with a live subscription.
    pub(crate) fn is_subscribed(&self, peer: u16) -> bool {
        self.connections.get(&peer).is_some_and(|connection| connection.filter.is_some())
    }

    pub(crate) fn opened(&mut self, peer: u16, out: &mut Sayings) {
        let challenge: Rc<str> = format!("{:016x}", self.rng.any()).into();
        if self.manner.auth {
            out.push((0, peer, Heard::Auth(Rc::clone(&challenge))));
        }
        self.connections.insert(peer, Connection { challenge, ..Connection::default() });
    }

    /// A hostile peer is connected, known, and listens elsewhere.
    pub(crate) fn guest(&mut self, peer: u16) {
        self.connections.entry(peer).or_default().known = true;
    }

    pub(crate) fn closed(&mut self, peer: u16) {
        self.connections.remove(&peer);
    }

    /// Stops; it may forget what it knows.
    pub(crate) fn stops(&mut self, forgets: bool) {
        self.connections.clear();
        if forgets {
            self.seen.clear();
            self.kept.clear();
        }
    }

    /// Ends the subscription of a peer.
    pub(crate) fn closes(&mut self, peer: u16, out: &mut Sayings) {
        if let Some(connection) = self.connections.get_mut(&peer)
            && connection.filter.take().is_some()
        {
            out.push((0, peer, Heard::Closed("error: shutting down idle subscription")));
        }
    }

    pub(crate) fn hear(&mut self, peer: u16, said: Said, now: u64, out: &mut Sayings) {
        let Some(connection) = self.connections.get_mut(&peer) else { return };
        match said {
            Said::Ping => out.push((0, peer, Heard::Pong)),
            Said::Auth { id, challenge, .. } => {
                let accepted = challenge == connection.challenge;
                connection.known |= accepted;
                out.push((0, peer, Heard::Ok { id, accepted, text: "" }));
            }
            Said::Req(filter) => self.subscribe(peer, filter, now, out),
            Said::Event(event) => self.publish(peer, event, now, out),
        }
    }

    fn subscribe(&mut self, peer: u16, filter: Filter, now: u64, out: &mut Sayings) {
        let Some(connection) = self.connections.get_mut(&peer) else { return };
        if self.manner.auth && !connection.known {
            out.push((0, peer, Heard::Auth(Rc::clone(&connection.challenge))));
            out.push((0, peer, Heard::Closed("auth-required: who are you")));
            return;
        }
        self.kept.retain(|(until, _)| *until > now);
        let stored = self.kept.iter().filter(|(_, event)| filter.takes(event)).take(500);
        out.extend(stored.map(|(_, event)| (0, peer, heard(event))));
        match &mut self.mind {
            Some(mind) => {
                out.extend(mind.ends_stored().into_iter().map(|saying| translated(saying, peer, None)))
            }
            None => out.push((0, peer, Heard::Eose)),
        }
        connection.filter = Some(filter);
    }

    fn publish(&mut self, peer: u16, event: Rc<Carried>, now: u64, out: &mut Sayings) {
        if self.rng.chance(self.manner.notice) {
            let notice = Heard::Notice("be nice");
            let challenge = Heard::Auth(format!("{:x}", self.rng.any()).into());
            out.push((0, peer, if self.rng.chance(500) { notice } else { challenge }));
        }
        let verdict = self.judge(peer, &event, now);
        if self.mind.is_some() {
            return self.misbehave(peer, &event, verdict, now, out);
        }
        let [none, late, no, lie] = self.manner.ok;
        let draw = self.rng.below(1_000) as u32;
        let id = event.id;
        let ok = |accepted, text| Heard::Ok { id, accepted, text };
        let wait = if draw < none {
            None
        } else {
            Some(if draw < none + late { self.rng.between(SEC, 10 * SEC) } else { 0 })
        };
        match verdict {
            Ok(is_new) => {
                let draw = self.rng.below(1_000) as u32;
                let refuses = draw < no;
                let lies = !refuses && draw < no + lie;
                let says_no = refuses || (lies && self.rng.chance(500));
                let passes = !refuses && (!lies || says_no);
                if passes && is_new {
                    self.pass(&event, now, out);
                }
                let text = if says_no {
                    self.rng.pick(&REFUSALS, "")
                } else if is_new {
                    ""
                } else {
                    "duplicate: have it"
                };
                out.extend(wait.map(|wait| (wait, peer, ok(!says_no, text))));
            }
            Err(text) => out.extend(wait.map(|wait| (wait, peer, ok(false, text)))),
        }
    }

    /// Returns whether an event is new, or why it is refused.
    fn judge(&mut self, peer: u16, event: &Rc<Carried>, now: u64) -> Result<bool, &'static str> {
        let Some(connection) = self.connections.get_mut(&peer) else { return Err("error: gone") };
        if self.manner.auth && !connection.known {
            return Err("auth-required: who are you");
        }
        if self.manner.largest.is_some_and(|largest| event.json.len() + 16 > largest) {
            return Err("invalid: event too large");
        }
        if let Some(rate) = self.manner.rate {
            let second = now / SEC;
            let (last, count) = connection.second;
            connection.second = (second, if last == second { count + 1 } else { 1 });
            if connection.second.1 > rate {
                return Err("rate-limited: slow down");
            }
        }
        if !event.is_true {
            return Err("invalid: bad event id or signature");
        }
        let unix = START + now / SEC;
        let too_old = event.created_at + 60 < unix || event.created_at > unix + 900;
        if self.manner.strict_age && is_ephemeral(event.kind) && too_old {
            return Err("invalid: ephemeral event expired");
        }
        Ok(!self.seen.contains(&event.id))
    }

    fn pass(&mut self, event: &Rc<Carried>, now: u64, out: &mut Sayings) {
        self.seen.insert(event.id);
        let ephemeral = is_ephemeral(event.kind);
        if !ephemeral || self.manner.keeps_ephemeral {
            if self.kept.len() >= KEPT {
                self.kept.pop_front();
            }
            let until = if ephemeral { now + EPHEMERAL } else { u64::MAX };
            self.kept.push_back((until, Rc::clone(event)));
        }
        for (peer, connection) in &self.connections {
            if connection.filter.as_ref().is_none_or(|filter| !filter.takes(event)) {
                continue;
            }
            match &mut self.mind {
                Some(mind) => {
                    let sayings = mind.passes(*peer, event.kind, &event.json);
                    out.extend(sayings.into_iter().map(|saying| translated(saying, *peer, Some(event))));
                }
                None => out.push((0, *peer, heard(event))),
            }
        }
    }

    /// Lets a hostile mind decide what becomes of a publication.
    fn misbehave(
        &mut self,
        peer: u16,
        event: &Rc<Carried>,
        verdict: Result<bool, &'static str>,
        now: u64,
        out: &mut Sayings,
    ) {
        let (accepted, text) = match verdict {
            Ok(true) => (true, ""),
            Ok(false) => (true, "duplicate: have it"),
            Err(text) => (false, text),
        };
        let Some(mind) = &mut self.mind else { return };
        let taken = mind.takes(event.id, &event.json, accepted, text);
        out.extend(taken.sayings.into_iter().map(|saying| translated(saying, peer, None)));
        if taken.passes_on && verdict == Ok(true) {
            self.pass(event, now, out);
        }
    }

    /// Lets a hostile mind do what it does by itself.
    pub(crate) fn idle(&mut self, now: u64, out: &mut Sayings) {
        let Some(mind) = &mut self.mind else { return };
        for (peer, connection) in &self.connections {
            let Some(key) = connection.filter.as_ref().and_then(|filter| filter.to) else { continue };
            let sayings = mind.idles(&key, START + now / SEC);
            out.extend(sayings.into_iter().map(|saying| translated(saying, *peer, None)));
        }
    }
}

/// Says in our words what a hostile relay says, perhaps about the event at hand.
fn translated(saying: Saying, peer: u16, at_hand: Option<&Rc<Carried>>) -> (u64, u16, Heard) {
    let carried = |json: Rc<str>| match at_hand {
        Some(event) if Rc::ptr_eq(&event.json, &json) => Rc::clone(event),
        _ => Carried::unread(json),
    };
    let heard = match saying.said {
        hostile::Said::Event(json) => Heard::Event { event: carried(json), is_ours: true },
        hostile::Said::Astray(json) => Heard::Event { event: carried(json), is_ours: false },
        hostile::Said::Ok { id, accepted, message } => Heard::Ok { id, accepted, text: message },
        hostile::Said::EndOfStored => Heard::Eose,
        hostile::Said::Closed(text) => Heard::Closed(text),
        hostile::Said::Notice(text) => Heard::Notice(text),
        hostile::Said::Challenge(text) => Heard::Auth(text.into()),
        hostile::Said::Rubbish(_) => Heard::Rubbish,
    };
    (saying.after, peer, heard)
}

fn heard(event: &Rc<Carried>) -> Heard {
    Heard::Event { event: Rc::clone(event), is_ours: true }
}

const fn is_ephemeral(kind: u16) -> bool {
    kind == kind::MESSAGE || kind == kind::EPHEMERAL_GIFT_WRAP
}
