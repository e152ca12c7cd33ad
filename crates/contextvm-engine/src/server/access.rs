//! Access: who may call what, and the events that wait for the application's word on it.
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use contextvm_core::capability::Capability;
use contextvm_core::{Limits, Mono, Protection};
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;

/// Who may call what.
///
/// A key passes when the list (if there is one) holds it *and* the application (if it is asked) agrees. A request or
/// notification also passes when its capability is open to all. Once a capability may be open to all, so are
/// `initialize` and `notifications/initialized`. The default lets everybody in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `None`: the list does not restrict. `Some(empty)`: nobody.
    pub allowed: Option<BTreeSet<PublicKey>>,
    /// Ask the application about each key (error or no answer in time means no).
    pub ask_key: bool,
    /// Capabilities open to all: `(method, name)`; no name means the whole method.
    pub excluded: Vec<(String, Option<String>)>,
    /// Ask the application whether a capability is open to all.
    pub ask_capability: bool,
    /// The server is announced, so refused requests are answered with -32000.
    pub announced: bool,
}

/// A question for the application. No answer within the access timeout means no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// May this key call at all?
    Key(PublicKey),
    /// Is this capability open to all?
    Capability {
        /// JSON-RPC method.
        method: String,
        /// What the method names, if it names something.
        name: Option<String>,
    },
}

/// How far the decision about one message has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may go on; `member` when the key itself was let in.
    Pass { member: bool },
    /// It may not.
    Deny,
    /// First ask whether the capability is open to all.
    AskCapability(Capability),
    /// Ask about the key.
    AskKey,
}

impl Access {
    /// Whether everybody may call everything.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.allowed.is_none() && !self.ask_key
    }

    /// Decides about a message; a client's answer has no capability and only its key counts.
    pub(super) fn decide(&self, caller: &PublicKey, capability: Option<Capability>) -> Verdict {
        if let Verdict::Pass { member } = self.decide_key(caller) {
            return Verdict::Pass { member };
        }
        let has_rules = !self.excluded.is_empty() || self.ask_capability;
        let Some(capability) = capability.filter(|_| has_rules) else {
            return self.decide_key(caller);
        };
        let begins = matches!(capability.method.as_str(), "initialize" | "notifications/initialized");
        if begins || self.is_excluded(&capability) {
            return Verdict::Pass { member: false };
        }
        if self.ask_capability { Verdict::AskCapability(capability) } else { self.decide_key(caller) }
    }

    /// Decides about the key alone.
    pub(super) fn decide_key(&self, caller: &PublicKey) -> Verdict {
        if self.allowed.as_ref().is_some_and(|allowed| !allowed.contains(caller)) {
            Verdict::Deny
        } else if self.ask_key {
            Verdict::AskKey
        } else {
            Verdict::Pass { member: true }
        }
    }

    fn is_excluded(&self, capability: &Capability) -> bool {
        self.excluded.iter().any(|(method, name)| {
            *method == capability.method && (name.is_none() || *name == capability.name)
        })
    }
}

/// An event about which the application was not heard yet, or which stands behind such an event of its caller.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) event: Event,
    pub(super) protection: Protection,
    pub(super) verdict: Verdict,
}

/// The line of one caller, with the question asked about its head.
#[derive(Debug, Default)]
struct Line {
    held: VecDeque<Held>,
    asked: Option<(u64, Mono)>,
}

/// Events waiting for access, in order per caller, bounded in count and bytes.
///
/// Callers that are not established may only use half of it.
#[derive(Debug)]
pub(super) struct Waiting {
    lines: BTreeMap<PublicKey, Line>,
    askers: BTreeMap<u64, PublicKey>,
    deadlines: BTreeSet<(Mono, u64)>,
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
        self.lines.get(caller).is_some_and(|line| line.held.iter().any(|held| held.event.id == id))
    }

    /// Puts an event at the end of its caller's line and says whether there was room.
    pub(super) fn push(&mut self, held: Held, established: bool) -> bool {
        let part = if established { 1 } else { 2 };
        let bytes = self.bytes.saturating_add(held.event.content.len());
        let caller = held.event.pubkey;
        let in_line = self.lines.get(&caller).map_or(0, |line| line.held.len());
        let is_full = self.count >= self.most.div_ceil(part) || bytes > self.most_bytes.div_ceil(part);
        if is_full || in_line >= self.most_of_one {
            return false;
        }
        self.count += 1;
        self.bytes = bytes;
        self.lines.entry(caller).or_default().held.push_back(held);
        true
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
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(held.event.content.len());
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
}

/// Refusals that may still be published in this minute, and the requests refused lately: copies of a refused
/// request that other relays deliver are not answered again.
#[derive(Debug)]
pub(super) struct Refusals {
    per_minute: u32,
    left: u32,
    renew: Mono,
    lately: VecDeque<EventId>,
}

/// Refused ids remembered.
const LATELY: usize = 256;
const MINUTE: core::time::Duration = core::time::Duration::from_secs(60);

impl Refusals {
    pub(super) fn new(limits: &Limits) -> Self {
        let per_minute = limits.refusals_per_minute;
        Self { per_minute, left: per_minute, renew: Mono::default().after(MINUTE), lately: VecDeque::new() }
    }

    /// Whether this request may be answered with a refusal; if so, it is counted.
    pub(super) fn take(&mut self, id: EventId, now: Mono) -> bool {
        if now >= self.renew {
            self.left = self.per_minute;
            self.renew = now.after(MINUTE);
        }
        if self.left == 0 || self.lately.contains(&id) {
            return false;
        }
        self.left -= 1;
        if self.lately.len() >= LATELY {
            self.lately.pop_front();
        }
        self.lately.push_back(id);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn key(n: u8) -> PublicKey {
        PublicKey::from_byte_array([n; 32])
    }

    fn capability(method: &str, name: Option<&str>) -> Option<Capability> {
        Some(Capability { method: method.to_string(), name: name.map(ToString::to_string) })
    }

    const MEMBER: Verdict = Verdict::Pass { member: true };
    const GUEST: Verdict = Verdict::Pass { member: false };

    #[test]
    fn an_empty_list_is_nobody_and_no_list_is_everybody() {
        let nobody = Access { allowed: Some(BTreeSet::new()), ..Access::default() };
        assert_eq!(nobody.decide(&key(1), capability("ping", None)), Verdict::Deny);
        assert_eq!(nobody.decide(&key(1), None), Verdict::Deny);
        assert_eq!(Access::default().decide(&key(1), capability("ping", None)), MEMBER);
    }

    #[test]
    fn list_and_application_must_both_agree() {
        let access = Access { allowed: Some([key(1)].into()), ask_key: true, ..Access::default() };
        assert_eq!(access.decide(&key(1), capability("ping", None)), Verdict::AskKey);
        assert_eq!(access.decide(&key(2), capability("ping", None)), Verdict::Deny);
    }

    #[test]
    fn initialize_is_open_to_all_only_when_a_rule_opens_something() {
        let closed = Access { allowed: Some(BTreeSet::new()), ..Access::default() };
        let open = Access { excluded: alloc::vec![("ping".to_string(), None)], ..closed.clone() };
        for method in ["initialize", "notifications/initialized"] {
            assert_eq!(closed.decide(&key(1), capability(method, None)), Verdict::Deny);
            assert_eq!(open.decide(&key(1), capability(method, None)), GUEST);
        }
        assert_eq!(open.decide(&key(1), None), Verdict::Deny, "a client's answer is judged by its key");
    }

    #[test]
    fn a_rule_with_a_name_opens_that_name_exactly() {
        let access = Access {
            allowed: Some(BTreeSet::new()),
            excluded: alloc::vec![("tools/call".to_string(), Some("add".to_string()))],
            ..Access::default()
        };
        assert_eq!(access.decide(&key(1), capability("tools/call", Some("add"))), GUEST);
        for name in [Some("Add"), Some("add "), Some("sub"), None] {
            assert_eq!(access.decide(&key(1), capability("tools/call", name)), Verdict::Deny, "{name:?}");
        }
    }

    #[test]
    fn the_refusal_budget_is_renewed_every_minute() {
        let mut refusals = Refusals::new(&Limits { refusals_per_minute: 2, ..Limits::default() });
        let id = |n: u8| EventId::from_byte_array([n; 32]);
        assert!(refusals.take(id(1), Mono(0)));
        assert!(!refusals.take(id(1), Mono(1)), "copies are not refused twice");
        assert!(refusals.take(id(2), Mono(2)));
        assert!(!refusals.take(id(3), Mono(3)));
        assert!(refusals.take(id(3), Mono(60_000)));
    }
}
