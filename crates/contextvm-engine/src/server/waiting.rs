//! Waiting: events about which the application was not heard yet, and events whose second has not come.
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;

use contextvm_core::{Limits, Mono, Protection, event};
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;

use super::access::Verdict;
use super::session::share_of;

/// An event and the message that it stands for.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) event: Event,
    pub(super) protection: Protection,
    /// The message, where the event is only the end of its transfer.
    pub(super) text: Option<String>,
}

impl Letter {
    pub(super) fn message(&self) -> &str {
        self.text.as_deref().unwrap_or(&self.event.content)
    }

    /// What it takes in memory, bytes.
    fn weight(&self) -> usize {
        event::weight(&self.event) + self.text.as_ref().map_or(0, String::len)
    }
}

/// A letter about which the application was not heard yet, or which stands behind such a letter of its caller.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) letter: Letter,
    pub(super) verdict: Verdict,
}

impl Held {
    const fn event(&self) -> &Event {
        &self.letter.event
    }
}

/// The line of one caller, with the question asked about its head.
#[derive(Debug, Default)]
struct Line {
    held: VecDeque<Held>,
    asked: Option<(u64, Mono)>,
}

/// Events that wait: for access, in order per caller, or for their second. Bounded in count and bytes.
///
/// Callers that are not established may only use half of it, and the last quarter of the places is for those that have few.
#[derive(Debug)]
pub(super) struct Waiting {
    lines: BTreeMap<PublicKey, Line>,
    askers: BTreeMap<u64, PublicKey>,
    deadlines: BTreeSet<(Mono, u64)>,
    /// Events that were let in and are stamped ahead of our clock, by the time of the next look at them.
    early: BTreeMap<(Mono, u64), Held>,
    next: u64,
    count: usize,
    bytes: usize,
    most: usize,
    most_of_one: usize,
    most_bytes: usize,
}

impl Waiting {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            lines: BTreeMap::new(),
            askers: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            early: BTreeMap::new(),
            next: 0,
            count: 0,
            bytes: 0,
            most: limits.in_flight,
            most_of_one: limits.in_flight_per_caller,
            most_bytes: limits.in_flight_bytes,
        }
    }

    pub(super) fn has_line(&self, caller: &PublicKey) -> bool {
        self.lines.contains_key(caller)
    }

    pub(super) fn holds(&self, caller: &PublicKey, id: EventId) -> bool {
        let in_line =
            self.lines.get(caller).is_some_and(|line| line.held.iter().any(|held| held.event().id == id));
        in_line || self.early.values().any(|held| held.event().id == id)
    }

    /// Puts an event at the end of its caller's line; gives it back when there is no room.
    pub(super) fn push(&mut self, held: Held, established: bool) -> Option<Held> {
        let caller = held.event().pubkey;
        let in_line = self.lines.get(&caller).map_or(0, |line| line.held.len());
        if in_line >= self.most_of_one || !self.take_room(&held, established, in_line) {
            return Some(held);
        }
        self.lines.entry(caller).or_default().held.push_back(held);
        None
    }

    /// Keeps an event until the next look at it; gives it back when there is no room.
    pub(super) fn hold(&mut self, held: Held, until: Mono, established: bool) -> Option<Held> {
        let of_one = self.early.values().filter(|other| other.event().pubkey == held.event().pubkey).count();
        if of_one >= self.most_of_one || !self.take_room(&held, established, of_one) {
            return Some(held);
        }
        self.next = self.next.wrapping_add(1);
        self.early.insert((until, self.next), held);
        None
    }

    /// Takes an event that is to be looked at, the earliest first.
    pub(super) fn due(&mut self, now: Mono) -> Option<Held> {
        let first = self.early.first_entry().filter(|first| first.key().0 <= now)?;
        let held = first.remove();
        self.give_room(&held);
        Some(held)
    }

    pub(super) fn next_due(&self) -> Option<Mono> {
        self.early.keys().next().map(|(until, _)| *until)
    }

    /// Returns the head of a line unless a question about it is open.
    pub(super) fn head(&mut self, caller: &PublicKey) -> Option<&mut Held> {
        self.lines.get_mut(caller).filter(|line| line.asked.is_none())?.held.front_mut()
    }

    /// Takes the head out of a line.
    pub(super) fn pop(&mut self, caller: &PublicKey) -> Option<Held> {
        let line = self.lines.get_mut(caller)?;
        let held = line.held.pop_front()?;
        if line.held.is_empty() {
            self.lines.remove(caller);
        }
        self.give_room(&held);
        Some(held)
    }

    /// Notes that a question about the head of a line was asked, and names it.
    pub(super) fn ask(&mut self, caller: PublicKey, deadline: Mono) -> u64 {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        if let Some(line) = self.lines.get_mut(&caller) {
            line.asked = Some((id, deadline));
            self.askers.insert(id, caller);
            self.deadlines.insert((deadline, id));
        }
        id
    }

    /// Notes that a question was answered and returns whose line it was about.
    pub(super) fn answered(&mut self, id: u64) -> Option<PublicKey> {
        let caller = self.askers.remove(&id)?;
        let (_, deadline) = self.lines.get_mut(&caller)?.asked.take()?;
        self.deadlines.remove(&(deadline, id));
        Some(caller)
    }

    /// Returns a question whose answer is overdue.
    pub(super) fn overdue(&self, now: Mono) -> Option<u64> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id)
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(super) const fn size(&self) -> (usize, usize) {
        (self.count, self.bytes)
    }

    fn take_room(&mut self, held: &Held, established: bool, own: usize) -> bool {
        let part = if established { 1 } else { 2 };
        let bytes = self.bytes.saturating_add(held.letter.weight());
        if self.count >= share_of(self.most, established, own) || bytes > self.most_bytes.div_ceil(part) {
            return false;
        }
        self.count += 1;
        self.bytes = bytes;
        true
    }

    fn give_room(&mut self, held: &Held) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(held.letter.weight());
    }
}
