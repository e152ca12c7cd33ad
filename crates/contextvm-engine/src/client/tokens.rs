//! Progress tokens: one for every request, unlike that of any other open call.
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use contextvm_core::envelope::MAX_SAFE_INTEGER;
use contextvm_core::object;
use nostr::event::EventId;
use serde_json::value::RawValue;

use super::chance::Chance;

/// Longest token of the application that goes out: the nonces of pings contain it and end at 64 bytes.
const LONGEST: usize = 50;
/// Most tokens of calls that are over that no other call gets.
const MOST_RECENT: usize = 256;

/// The token of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wire {
    /// Its text form, by which it comes back; empty if the request has none.
    pub(super) text: String,
    /// It was made here and has to be put into the request.
    pub(super) is_private: bool,
}

/// Which call each token on the wire belongs to.
///
/// A private token holds 64 random bits of this client, because some servers have one table for all clients.
#[derive(Debug)]
pub(super) struct Tokens {
    prefix: String,
    issued: u64,
    held: BTreeMap<String, EventId>,
    /// The application's tokens of calls that are over, oldest first: frames of those may still come.
    recent: VecDeque<String>,
}

impl Tokens {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        let prefix = format!("c{:016x}-", Chance::new(seed.map(|byte| !byte)).next());
        Self { prefix, issued: 0, held: BTreeMap::new(), recent: VecDeque::new() }
    }

    /// Chooses the token for a request: the application's own if it is usable and free, else a private one.
    pub(super) fn choose(&mut self, own: Option<&RawValue>) -> Wire {
        let is_taken = |text: &String| self.held.contains_key(text) || self.recent.contains(text);
        let is_free = |text: &String| !is_taken(text) && !self.is_private(text);
        if let Some(text) = own.and_then(usable).filter(is_free) {
            return Wire { text, is_private: false };
        }
        self.issued += 1;
        Wire { text: format!("{}{}", self.prefix, self.issued), is_private: true }
    }

    /// Notes whose token it is; also when the id of its event becomes another.
    pub(super) fn hold(&mut self, text: &str, call: EventId) {
        if !text.is_empty() {
            self.held.insert(text.to_owned(), call);
        }
    }

    /// Returns the call with this token.
    pub(super) fn holder(&self, text: &str) -> Option<EventId> {
        self.held.get(text).copied()
    }

    /// Takes the token from a call that is over; another gets it only after a while.
    pub(super) fn free(&mut self, text: &str) {
        let Some((text, _)) = self.held.remove_entry(text) else { return };
        if !self.is_private(&text) {
            if self.recent.len() >= MOST_RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(text);
        }
    }

    /// Whether a token was made here, perhaps for a call that is over.
    pub(super) fn is_private(&self, text: &str) -> bool {
        text.starts_with(&self.prefix)
    }
}

/// Returns the text form of a token that every peer takes for one.
fn usable(token: &RawValue) -> Option<String> {
    match object::string(token) {
        Some(text) => (1..=LONGEST).contains(&text.len()).then(|| text.into_owned()),
        None => {
            let number: u64 = token.get().parse().ok()?;
            (1..=MAX_SAFE_INTEGER).contains(&number).then(|| token.get().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::json;
    use alloc::collections::BTreeSet;

    fn call(number: u8) -> EventId {
        EventId::from_byte_array([number; 32])
    }

    fn choose(tokens: &mut Tokens, own: &str) -> Wire {
        tokens.choose(json::raw(own.to_owned()).as_deref())
    }

    #[test]
    fn a_token_of_the_application_goes_out_if_every_peer_takes_it() {
        let mut tokens = Tokens::new([7; 32]);
        for (own, text) in [("5", "5"), ("\"5\"", "5"), ("\"\\u0061\"", "a"), ("1", "1")] {
            assert_eq!(choose(&mut tokens, own), Wire { text: text.to_owned(), is_private: false });
        }
        let long = object::quote(&"x".repeat(LONGEST + 1));
        for own in ["0", "\"\"", "-1", "1.5", "1e3", "9007199254740993", "null", &*long] {
            assert!(choose(&mut tokens, own).is_private, "{own}");
        }
    }

    #[test]
    fn no_two_open_calls_have_one_token() {
        let mut tokens = Tokens::new([7; 32]);
        let mut seen = BTreeSet::new();
        for number in 0..64 {
            let wire = choose(&mut tokens, if number % 2 == 0 { "5" } else { "\"5\"" });
            tokens.hold(&wire.text, call(number));
            assert_eq!(tokens.holder(&wire.text), Some(call(number)));
            assert!(wire.text.len() <= LONGEST);
            assert!(seen.insert(wire.text));
        }
        tokens.free("5");
        assert!(choose(&mut tokens, "5").is_private, "frames of the old call may still come");
        for number in 0..MOST_RECENT {
            tokens.hold(&format!("other {number}"), call(0));
            tokens.free(&format!("other {number}"));
        }
        assert!(!choose(&mut tokens, "5").is_private);
        assert_eq!(tokens.recent.len(), MOST_RECENT);
    }

    #[test]
    fn nobody_else_makes_the_same_private_tokens() {
        let (mut one, mut two) = (Tokens::new([7; 32]), Tokens::new([8; 32]));
        let text = one.choose(None).text;
        assert!(one.is_private(&text) && !two.is_private(&text));
        assert_ne!(text, two.choose(None).text);
        // An application that got hold of one cannot give it to a call.
        assert!(choose(&mut one, &object::quote(&text)).is_private);
    }
}
