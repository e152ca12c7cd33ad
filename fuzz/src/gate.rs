//! The target of the gate: copies, forgeries and repetitions of events in any order, beside a model of what is in work.
use std::collections::BTreeMap;
use std::sync::OnceLock;

use contextvm_core::{Limits, WrapKind, kind};
use contextvm_crypto::{Entropy, seal};
use contextvm_engine::{ClientConfig, DropReason, EncryptionMode, Gate, ServerConfig};
use nostr::event::{Event, EventId};

use crate::bytes::Bytes;
use crate::operations::{each, encryption, gift_wrap, moment};
use crate::people::{START, keys, message, tags};
use crate::seeds::Seed;

/// Gift wraps among the events.
const WRAPS: usize = 20;
/// Opened events are copies for this long at least, and events in work are lost after this long, milliseconds.
const COPY: u64 = 500;
const LOST: u64 = 30_000;

/// What comes in: honest events first, then those that never pass; each with a copy whose signature and one whose content
/// is forged.
fn events() -> &'static [[(Event, String); 3]] {
    static EVENTS: OnceLock<Vec<[(Event, String); 3]>> = OnceLock::new();
    EVENTS.get_or_init(|| {
        let (me, peer, stranger) = (keys(0x11), keys(0x22), keys(0x33));
        let to_me = || tags(&me.public_key(), []);
        let text = |nth: usize| format!(r#"{{"jsonrpc":"2.0","id":{nth},"method":"ping"}}"#);
        let wraps = (0..WRAPS).map(|nth| {
            let wrap = [WrapKind::Ephemeral, WrapKind::Persistent][nth % 2];
            let inner = message(&peer, START, to_me(), text(nth));
            let entropy = Entropy::from_bytes([u8::try_from(nth).expect("few") + 1; Entropy::LEN]);
            seal(&inner, &me.public_key(), wrap, START, &entropy).expect("it is small")
        });
        let others = [
            message(&peer, START, to_me(), text(100)),
            message(&peer, START + 1, to_me(), text(101)),
            message(&stranger, START, to_me(), text(102)),
            message(&peer, START - 601, to_me(), text(103)),
            message(&peer, START, tags(&stranger.public_key(), []), text(104)),
            peer.sign_event(kind::PROFILE, START, to_me(), text(105), [1; 32]),
        ];
        wraps.chain(others).map(variants).collect()
    })
}

fn variants(event: Event) -> [(Event, String); 3] {
    let mut forged = event.clone();
    let mut signature = *event.sig.as_bytes();
    signature[40] ^= 1;
    forged.sig = nostr::event::Signature::from_byte_array(signature);
    let mut altered = event.clone();
    altered.content.push(' ');
    [event, forged, altered].map(|event| {
        let text = event.as_json();
        (event, text)
    })
}

struct Model {
    gate: Gate,
    /// Makes a gate that has seen nothing.
    new: Box<dyn Fn() -> Gate>,
    is_server: bool,
    now: u64,
    most: usize,
    /// When a copy came, and through which relays since.
    in_work: BTreeMap<(EventId, [u8; 64]), (u64, u64)>,
    opened: BTreeMap<EventId, u64>,
    relays: BTreeMap<EventId, Relays>,
}

/// Relays of one inner event: bit n stands for relay n modulo 64.
#[derive(Default)]
struct Relays {
    /// Those that delivered anything under the id of what carried it.
    heard: u64,
    /// Those that delivered what was opened, or a copy of it.
    true_ones: u64,
}

/// Events at the gate: what passes is what its id says; one that a fresh gate would take is held back only by a copy of
/// itself or by a full house, and never because of a forgery that could not be opened.
pub fn gate(data: &[u8]) {
    let mut bytes = Bytes(data);
    let limits = Limits { open_queue: 1, ..Limits::default() };
    let (is_server, encryption, gift_wrap) = (bytes.flag(), encryption(&mut bytes), gift_wrap(&mut bytes));
    let new: Box<dyn Fn() -> Gate> = Box::new(move || {
        let (me, server) = (keys(0x11).public_key(), keys(0x22).public_key());
        if is_server {
            let limits = limits.clone();
            Gate::for_server(me, &ServerConfig { encryption, gift_wrap, limits, ..ServerConfig::default() })
        } else {
            let limits = limits.clone();
            Gate::for_client(me, &ClientConfig { encryption, gift_wrap, limits, ..ClientConfig::new(server) })
        }
    });
    let gate = new();
    let (in_work, opened, relays) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut model = Model { gate, new, is_server, now: 0, most: 16, in_work, opened, relays };
    if encryption == EncryptionMode::Disabled {
        let admitted = model.gate.admit(&events()[0][0].1, 0, moment(0)).is_ok();
        assert!(!(is_server && admitted), "a server without encryption opens no wraps");
        model = Model { gate: (model.new)(), ..model };
    }
    each(&mut bytes, |bytes| model.operation(bytes));
}

impl Model {
    fn operation(&mut self, bytes: &mut Bytes<'_>) {
        let what = bytes.below(8);
        if what == 7 {
            self.now += u64::from(bytes.byte()) * bytes.pick(&[1, 10, 500]);
            return;
        }
        let nth = bytes.below(events().len());
        let (event, text) = &events()[nth][bytes.pick(&[0, 0, 0, 1, 2])];
        let inner = inner(nth);
        match what {
            // Only what is true is opened: the driver has checked it.
            5 => {
                let is_true = event.verify_id() && contextvm_core::event::is_signed(event);
                if is_true && self.in_work.contains_key(&twin(event)) {
                    self.gate.opened(event.id);
                    self.gate.carried(inner, event.id);
                    let time = self.now;
                    let arrived = self.in_work.iter().filter(|((id, _), _)| *id == event.id);
                    // What was lost may be forgotten with its relays before anything finds that out here.
                    let (at, by) = arrived.fold((0, 0), |(at, by), (_, (came, relays))| {
                        (at.max(*came), if time - came < LOST { by | relays } else { by })
                    });
                    self.opened.insert(event.id, at);
                    self.relays.entry(inner).or_default().true_ones |= by;
                    self.in_work.retain(|(id, _), _| *id != event.id);
                }
            }
            6 => {
                self.gate.refused(event.id, &event.sig);
                self.in_work.remove(&twin(event));
            }
            _ => {
                let (relay, is_stored) = (u16::from(bytes.byte() % 70), bytes.byte() % 4 == 3);
                if self.comes(event, text, relay, is_stored) {
                    let bit = 1 << (relay % 64);
                    let relays = self.relays.entry(inner).or_default();
                    relays.heard |= bit;
                    relays.true_ones |= if self.opened.contains_key(&event.id) { bit } else { 0 };
                }
            }
        }
        assert!(self.in_work.len() <= self.most);
        if let Some(Relays { heard, true_ones }) = self.relays.get(&inner).filter(|_| self.is_server) {
            let via = self.gate.via(&inner);
            assert!(true_ones & !via == 0 && via & !heard == 0, "answers go where they were asked for");
        }
    }

    /// Returns whether the event was more than looked at from outside.
    fn comes(&mut self, event: &Event, text: &str, relay: u16, is_stored: bool) -> bool {
        let now = moment(self.now);
        let fresh = (self.new)().admit(text, relay, now).map(drop);
        let verdict = if is_stored {
            self.gate.admit_stored(text, relay, now)
        } else {
            self.gate.admit(text, relay, now)
        };
        // Checks that need no memory come first, but for the hash.
        if let Err(reason) = fresh
            && reason != DropReason::Id
        {
            assert_eq!(verdict.map(drop), Err(reason));
            return false;
        }
        let (opened, time) = (self.opened.get(&event.id).copied(), self.now);
        let is_copy = opened.is_some_and(|at| !self.is_server || is_stored || time - at < COPY);
        // Looking for a copy comes first; whoever gets further finds out what was lost.
        let is_dropped = matches!(verdict, Err(DropReason::Duplicate | DropReason::Copy));
        if !(is_dropped && opened.is_some()) {
            self.in_work.retain(|_, (at, _)| time - *at < LOST);
        }
        let is_held = self.in_work.contains_key(&twin(event));
        match verdict {
            Ok(outer) => {
                assert_eq!(fresh, Ok(()));
                assert!(outer.event.verify_id() && outer.event == *event);
                assert!(!is_copy && !is_held && self.in_work.len() < self.most);
                self.in_work.insert(twin(event), (time, 1 << (relay % 64)));
            }
            Err(DropReason::Duplicate | DropReason::Copy) => {
                assert!(opened.is_some() || is_held, "only copies are copies");
                if let Some((_, relays)) = self.in_work.get_mut(&twin(event)) {
                    *relays |= 1 << (relay % 64);
                }
            }
            Err(DropReason::Busy) => assert!(self.in_work.len() >= self.most, "there is room"),
            Err(reason) => assert_eq!(fresh, Err(reason)),
        }
        true
    }
}

/// What an event carries: two wraps carry the same.
fn inner(nth: usize) -> EventId {
    EventId::from_byte_array([u8::try_from(nth / 2).expect("few"); 32])
}

fn twin(event: &Event) -> (EventId, [u8; 64]) {
    (event.id, *event.sig.as_bytes())
}

/// The inputs of `corpus/gate`.
pub(crate) fn seeds() -> Vec<Seed> {
    // A server that takes everything, and a client.
    let (server, client) = ([1, 0, 0], [0, 0, 0]);
    // Event, which of its copies, relay, whether it was stored.
    let comes = |event: u8, copy: u8, relay: u8| [0, event, copy, relay, 0];
    let opened = |event: u8| [5, event, 0];
    let refused = |event: u8, copy: u8| [6, event, copy];
    let later = |steps: u8, unit: u8| [7, steps, unit];
    let full: Vec<u8> = (0..18).flat_map(|event| comes(event, 0, 1)).collect();
    [
        ("copies", [&server[..], &comes(0, 0, 1), &comes(0, 0, 2), &opened(0), &comes(0, 0, 1)].concat()),
        (
            "forged_first",
            [&server[..], &comes(0, 3, 1), &comes(0, 0, 2), &refused(0, 3), &opened(0)].concat(),
        ),
        ("altered", [&server[..], &comes(0, 4, 1), &comes(0, 0, 1)].concat()),
        (
            "repeated",
            [
                &server[..],
                &comes(0, 0, 1),
                &opened(0),
                &later(60, 1),
                &comes(0, 0, 1),
                &opened(0),
                &later(8, 2),
                &comes(0, 0, 5),
            ]
            .concat(),
        ),
        ("stored", [&server[..], &comes(1, 0, 1), &opened(1), &later(60, 2), &[0, 1, 0, 1, 3]].concat()),
        ("full", [&server[..], &full, &refused(3, 0), &comes(17, 0, 1)].concat()),
        ("lost", [&server[..], &full, &later(61, 2), &comes(17, 0, 1)].concat()),
        ("client", [&client[..], &comes(20, 0, 1), &comes(22, 0, 1), &opened(20), &later(255, 2)].concat()),
        ("never", [&server[..], &comes(23, 0, 1), &comes(24, 0, 1), &comes(25, 0, 1)].concat()),
        ("required", [&[1, 1, 1][..], &comes(20, 0, 1), &comes(0, 0, 1), &comes(1, 0, 1)].concat()),
        ("disabled", [&[1, 2, 0][..], &comes(20, 0, 1), &comes(0, 0, 1)].concat()),
    ]
    .map(|(name, bytes)| ("gate", name, bytes))
    .into()
}
