//! Relays as they are (NIP-01): dedup, ephemeral events, words of refusal, limits, restarts; honest, or with a hostile mind.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use contextvm_core::kind;

use crate::frame::{Carried, Filter, Heard, Said};
use crate::hash::short;
use crate::hostile::{self, HostileRelay, Saying};
use crate::rng::Rng;
use crate::time::{SEC, START};

/// Most events that a relay keeps.
const KEPT: usize = 5_000;
/// How long ephemeral events are kept by relays that do so.
const EPHEMERAL: u64 = 300 * SEC;
/// Refusals that say that something is wrong with this event at this relay, one for each prefix but that of what it has.
const REFUSALS: [&str; 9] = [
    "auth-required: who are you",
    "pow: 28 bits",
    "blocked: you",
    "rate-limited: slow down",
    "invalid: no",
    "restricted: no",
    "mute: no one was listening",
    "error: disk",
    "",
];

/// What a relay says about an event that it has.
const HAS: &str = "duplicate: have it";

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

/// The connections of a relay, by peer.
#[derive(Debug, Default)]
struct Connections(Vec<(u16, Connection)>);

impl Connections {
    fn get_mut(&mut self, peer: u16) -> Option<&mut Connection> {
        let place = self.0.binary_search_by_key(&peer, |(other, _)| *other).ok()?;
        self.0.get_mut(place).map(|(_, connection)| connection)
    }

    /// Lets something happen to the connection of a peer, which begins if there is none.
    fn with(&mut self, peer: u16, act: impl FnOnce(&mut Connection)) {
        let place = self.0.partition_point(|(other, _)| *other < peer);
        if self.0.get(place).is_none_or(|(other, _)| *other != peer) {
            self.0.insert(place, (peer, Connection::default()));
        }
        if let Some((_, connection)) = self.0.get_mut(place) {
            act(connection);
        }
    }
}

/// What a relay wants said: to whom, after how long.
pub(crate) type Sayings = Vec<(u64, u16, Heard)>;

/// A relay.
#[derive(Debug)]
pub struct Relay {
    /// What it is like.
    pub manner: Manner,
    rng: Rng,
    connections: Connections,
    /// The first bytes of the ids of what it passed on; no honest event is like another in them.
    seen: BTreeSet<u64>,
    kept: VecDeque<(u64, Rc<Carried>)>,
    /// It is not there before this.
    pub(crate) down_until: u64,
    /// It refuses connections before this.
    pub(crate) refuses_until: u64,
    /// It swallows everything before this.
    pub(crate) hole_until: u64,
    /// What a hostile relay says instead.
    pub(crate) mind: Option<HostileRelay>,
    /// Faults of its own that happened, by the names of their knobs.
    pub(crate) faults: BTreeMap<&'static str, u64>,
}

impl Relay {
    /// Makes a relay.
    #[must_use]
    pub fn new(seed: u64, index: u16, manner: Manner) -> Self {
        Self {
            manner,
            rng: Rng::of(seed, "relay", u64::from(index)),
            connections: Connections::default(),
            seen: BTreeSet::new(),
            kept: VecDeque::new(),
            down_until: 0,
            refuses_until: 0,
            hole_until: 0,
            mind: None,
            faults: BTreeMap::new(),
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
        self.connections.0.iter().any(|(other, connection)| *other == peer && connection.filter.is_some())
    }

    pub(crate) fn opened(&mut self, peer: u16, out: &mut Sayings) {
        let challenge: Rc<str> = format!("{:016x}", self.rng.any()).into();
        if self.manner.auth {
            out.push((0, peer, Heard::Auth(Rc::clone(&challenge))));
        }
        self.connections.with(peer, |it| *it = Connection { challenge, ..Connection::default() });
    }

    /// A hostile peer is connected, known, and listens elsewhere.
    pub(crate) fn guest(&mut self, peer: u16) {
        self.connections.with(peer, |it| it.known = true);
    }

    pub(crate) fn closed(&mut self, peer: u16) {
        self.connections.0.retain(|(other, _)| *other != peer);
    }

    /// Stops; it may forget what it knows.
    pub(crate) fn stops(&mut self, forgets: bool) {
        self.connections.0.clear();
        if forgets {
            self.seen.clear();
            self.kept.clear();
        }
    }

    /// Ends the subscription of a peer.
    pub(crate) fn closes(&mut self, peer: u16, out: &mut Sayings) {
        if let Some(connection) = self.connections.get_mut(peer)
            && connection.filter.take().is_some()
        {
            out.push((0, peer, Heard::Closed("error: shutting down idle subscription")));
        }
    }

    pub(crate) fn hear(&mut self, peer: u16, said: Said, now: u64, out: &mut Sayings) {
        let Some(connection) = self.connections.get_mut(peer) else { return };
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
        let Some(connection) = self.connections.get_mut(peer) else { return };
        if self.manner.auth && !connection.known {
            out.push((0, peer, Heard::Auth(Rc::clone(&connection.challenge))));
            out.push((0, peer, Heard::Closed("auth-required: who are you")));
            return;
        }
        self.kept.retain(|(until, _)| *until > now);
        let stored = self.kept.iter().filter(|(_, event)| filter.takes(event)).take(500);
        out.extend(stored.map(|(_, event)| (0, peer, heard(event))));
        match &mut self.mind {
            Some(mind) => out.extend(mind.ends_stored().into_iter().map(|saying| translated(saying, peer))),
            None => out.push((0, peer, Heard::Eose)),
        }
        connection.filter = Some(filter);
    }

    fn publish(&mut self, peer: u16, event: Rc<Carried>, now: u64, out: &mut Sayings) {
        // What happens to one event is the same with and without the others.
        let mut rng = self.rng.fork(short(event.id.as_bytes()) ^ now ^ u64::from(peer) << 48);
        if rng.chance(self.manner.notice) {
            self.happened("notice");
            let notice = Heard::Notice("be nice");
            let challenge = Heard::Auth(format!("{:x}", rng.any()).into());
            out.push((0, peer, if rng.chance(500) { notice } else { challenge }));
        }
        let verdict = self.judge(peer, &event, now);
        if self.mind.is_some() {
            return self.misbehave(peer, &event, verdict, now, out);
        }
        let [none, late, no, lie] = self.manner.ok;
        let id = event.id;
        let ok = |accepted, text| Heard::Ok { id, accepted, text };
        let wait = match rng.below(1_000) as u32 {
            draw if draw < none => {
                self.happened("ok_none");
                None
            }
            draw if draw < none + late => {
                self.happened("ok_late");
                Some(rng.between(SEC, 10 * SEC))
            }
            _ => Some(0),
        };
        match verdict {
            Ok(is_new) => {
                let draw = rng.below(1_000) as u32;
                let refuses = draw < no;
                let lies = !refuses && draw < no + lie;
                if refuses || lies {
                    self.happened(if lies { "ok_lie" } else { "ok_false" });
                }
                let says_no = refuses || (lies && rng.chance(500));
                let passes = !refuses && (!lies || says_no);
                if passes && is_new {
                    self.pass(&event, now, out);
                }
                // That it has what it does not have may be said both ways.
                let pretends = lies && !says_no && rng.chance(500);
                let text = if says_no {
                    rng.pick(&REFUSALS, "")
                } else if is_new && !pretends {
                    ""
                } else {
                    HAS
                };
                out.extend(wait.map(|wait| (wait, peer, ok(!says_no && !pretends, text))));
            }
            Err(text) => out.extend(wait.map(|wait| (wait, peer, ok(false, text)))),
        }
    }

    /// Returns whether an event is new, or why it is refused.
    fn judge(&mut self, peer: u16, event: &Rc<Carried>, now: u64) -> Result<bool, &'static str> {
        let verdict = self.verdict(peer, event, now);
        if let Err((fault, text)) = verdict {
            self.happened(fault);
            return Err(text);
        }
        Ok(!self.seen.contains(&short(event.id.as_bytes())))
    }

    /// Returns the fault and the words of a refusal.
    fn verdict(&mut self, peer: u16, event: &Carried, now: u64) -> Result<(), (&'static str, &'static str)> {
        let Some(connection) = self.connections.get_mut(peer) else { return Err(("gone", "error: gone")) };
        if self.manner.auth && !connection.known {
            return Err(("auth", "auth-required: who are you"));
        }
        if self.manner.largest.is_some_and(|largest| event.bytes + 16 > largest) {
            return Err(("size_limit", "invalid: event too large"));
        }
        if let Some(rate) = self.manner.rate {
            let second = now / SEC;
            let (last, count) = connection.second;
            connection.second = (second, if last == second { count + 1 } else { 1 });
            if connection.second.1 > rate {
                return Err(("rate_limit", "rate-limited: slow down"));
            }
        }
        if !event.is_true {
            return Err(("untrue", "invalid: bad event id or signature"));
        }
        let unix = START + now / SEC;
        let too_old = event.created_at + 60 < unix || event.created_at > unix + 900;
        if self.manner.strict_age && is_ephemeral(event.kind) && too_old {
            return Err(("strict_age", "invalid: ephemeral event expired"));
        }
        Ok(())
    }

    /// Counts a fault of its own.
    fn happened(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
    }

    fn pass(&mut self, event: &Rc<Carried>, now: u64, out: &mut Sayings) {
        self.seen.insert(short(event.id.as_bytes()));
        let ephemeral = is_ephemeral(event.kind);
        if !ephemeral || self.manner.keeps_ephemeral {
            if self.kept.len() >= KEPT {
                self.kept.pop_front();
            }
            if ephemeral {
                self.happened("keeps_ephemeral");
            }
            let until = if ephemeral { now + EPHEMERAL } else { u64::MAX };
            self.kept.push_back((until, Rc::clone(event)));
        }
        for (peer, connection) in &self.connections.0 {
            if connection.filter.as_ref().is_none_or(|filter| !filter.takes(event)) {
                continue;
            }
            match &mut self.mind {
                Some(mind) => {
                    let sayings = mind.passes(*peer, event);
                    out.extend(sayings.into_iter().map(|saying| translated(saying, *peer)));
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
            Ok(false) => (true, HAS),
            Err(text) => (false, text),
        };
        let Some(mind) = &mut self.mind else { return };
        let taken = mind.takes(event, accepted, text);
        out.extend(taken.sayings.into_iter().map(|saying| translated(saying, peer)));
        if taken.passes_on && verdict == Ok(true) {
            self.pass(event, now, out);
        }
    }

    /// Lets a hostile mind do what it does by itself.
    pub(crate) fn idle(&mut self, now: u64, out: &mut Sayings) {
        let Some(mind) = &mut self.mind else { return };
        for (peer, connection) in &self.connections.0 {
            let Some(key) = connection.filter.as_ref().and_then(|filter| filter.to) else { continue };
            let sayings = mind.idles(&key, START + now / SEC);
            out.extend(sayings.into_iter().map(|saying| translated(saying, *peer)));
        }
    }
}

/// Says in our words what a hostile relay says.
fn translated(saying: Saying, peer: u16) -> (u64, u16, Heard) {
    let heard = match saying.said {
        hostile::Said::Event(event) => Heard::Event { event, is_ours: true },
        hostile::Said::Astray(event) => Heard::Event { event, is_ours: false },
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
