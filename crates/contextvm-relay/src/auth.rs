//! Who answers when a relay asks who we are (NIP-42).
use contextvm_crypto::Keys;
use nostr::event::EventId;

/// Signs answers to relays' challenges.
///
/// It is asked at most once per [`Timing::auth`](crate::Timing::auth) and relay, and only after the relay has refused
/// something for want of an answer. `relay` is the address that was dialled, never one that the relay claims.
pub trait AuthSigner: Send + Sync + 'static {
    /// Signs a kind 22242 event and returns it as JSON text; `None` leaves the relay without an answer.
    fn sign_auth(&self, relay: &str, challenge: &str, unix: u64) -> Option<SignedAuth>;
}

/// A signed answer to a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAuth {
    /// The event id; the relay's OK names it.
    pub id: EventId,
    /// The event as JSON text.
    pub json: String,
}

impl AuthSigner for Keys {
    fn sign_auth(&self, relay: &str, challenge: &str, unix: u64) -> Option<SignedAuth> {
        let mut aux = [0; 32];
        getrandom::fill(&mut aux).ok()?;
        let event = Self::sign_auth(self, relay, challenge, unix, aux);
        Some(SignedAuth { id: event.id, json: event.as_json() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_names_the_dialled_relay_and_verifies() {
        let keys = Keys::from_secret_bytes([7; 32]).unwrap();
        let signer: &dyn AuthSigner = &keys;
        let signed = signer.sign_auth("wss://relay.example/", "abc", 1_000).unwrap();
        let event = nostr::event::Event::from_json(&signed.json).unwrap();
        event.verify().unwrap();
        assert_eq!(event.kind.as_u16(), 22242);
        assert_eq!(event.id, signed.id);
        let tags: Vec<_> = event.tags.iter().map(|tag| (tag.kind(), tag.content().unwrap())).collect();
        assert_eq!(tags, [("relay", "wss://relay.example/"), ("challenge", "abc")]);
    }
}
