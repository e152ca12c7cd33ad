//! Access: who may call what, and how many refusals are said aloud.
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use contextvm_core::capability::Capability;
use contextvm_core::{Limits, Mono};
use nostr::key::PublicKey;

use super::RequestKey;

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

/// Refusals published in the last minute, whenever that began, and the requests refused lately: copies of a refused
/// request that other relays deliver are not answered again, and one key cannot use up what is there for all.
#[derive(Debug)]
pub(super) struct Refusals {
    per_minute: u32,
    /// When those of the last minute were given.
    given: VecDeque<Mono>,
    lately: VecDeque<(Mono, RequestKey)>,
}

/// Refused requests remembered.
const LATELY: usize = 256;
const MINUTE: core::time::Duration = core::time::Duration::from_secs(60);

impl Refusals {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { per_minute: limits.refusals_per_minute, given: VecDeque::new(), lately: VecDeque::new() }
    }

    /// Whether this request may be answered with a refusal; if so, it is counted. One key gets a tenth at most.
    pub(super) fn take(&mut self, key: RequestKey, now: Mono) -> bool {
        while self.given.front().is_some_and(|at| at.after(MINUTE) <= now) {
            self.given.pop_front();
        }
        let most = usize::try_from(self.per_minute).unwrap_or(usize::MAX);
        if self.given.len() >= most || self.lately.iter().any(|(_, other)| *other == key) {
            return false;
        }
        let of_one = |(at, other): &&(Mono, RequestKey)| other.caller == key.caller && at.after(MINUTE) > now;
        let most_of_one = usize::try_from(self.per_minute.div_ceil(10)).unwrap_or(usize::MAX);
        if self.lately.iter().filter(of_one).count() >= most_of_one {
            return false;
        }
        self.given.push_back(now);
        if self.lately.len() >= LATELY {
            self.lately.pop_front();
        }
        self.lately.push_back((now, key));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use nostr::event::EventId;

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
        let request = |n: u8| RequestKey { caller: key(n), id: EventId::from_byte_array([n; 32]) };
        assert!(refusals.take(request(1), Mono(0)));
        assert!(!refusals.take(request(1), Mono(1)), "copies are not refused twice");
        assert!(refusals.take(request(2), Mono(2)));
        assert!(!refusals.take(request(3), Mono(3)));
        assert!(refusals.take(request(3), Mono(60_000)));
    }

    #[test]
    fn no_sixty_seconds_see_more_refusals_than_a_minute_may() {
        let mut refusals = Refusals::new(&Limits { refusals_per_minute: 60, ..Limits::default() });
        let mut given = alloc::vec::Vec::new();
        for n in 0..20_000_u16 {
            let at = Mono(u64::from(n) * 10);
            let [high, low] = n.to_be_bytes();
            let mut id = [0; 32];
            (id[0], id[1]) = (high, low);
            if refusals.take(RequestKey { caller: key(low), id: EventId::from_byte_array(id) }, at) {
                given.push(at.0);
            }
        }
        assert!(given.len() >= 180, "{}", given.len());
        assert!(given.iter().zip(given.iter().skip(60)).all(|(first, later)| later - first >= 60_000));
    }

    #[test]
    fn one_key_gets_a_tenth_of_the_refusals_of_a_minute() {
        let mut refusals = Refusals::new(&Limits { refusals_per_minute: 20, ..Limits::default() });
        let request =
            |caller: u8, n: u8| RequestKey { caller: key(caller), id: EventId::from_byte_array([n; 32]) };
        let answered = (0..100).filter(|n| refusals.take(request(1, *n), Mono(0))).count();
        assert_eq!(answered, 2);
        assert!(refusals.take(request(2, 0), Mono(1)));
        assert!(!refusals.take(request(1, 100), Mono(59_999)));
        assert!(refusals.take(request(1, 101), Mono(60_000)));
    }
}
