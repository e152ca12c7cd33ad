//! Who meets malformed inputs, who makes them, and when.
use contextvm_core::kind;
use contextvm_crypto::Keys;
use nostr::event::{Event, Tag, Tags};

/// The side that meets an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A server; its caller makes the input.
    Server,
    /// A client; its server makes the input.
    Client,
}

/// The keys and the time in which all inputs are made.
#[derive(Clone, Debug)]
pub struct World {
    /// Unix seconds.
    pub now: u64,
    /// The server, secret `11` x 32.
    pub server: Keys,
    /// Its caller, secret `22` x 32.
    pub caller: Keys,
    /// Somebody else, secret `33` x 32.
    pub other: Keys,
    /// Signs gift wraps, secret `44` x 32.
    pub one_time: Keys,
}

impl World {
    /// Makes the world at a time.
    #[must_use]
    pub fn new(now: u64) -> Self {
        let keys = |byte| Keys::from_secret_bytes([byte; 32]).unwrap();
        Self { now, server: keys(0x11), caller: keys(0x22), other: keys(0x33), one_time: keys(0x44) }
    }

    /// Returns who makes what a role meets.
    #[must_use]
    pub const fn author(&self, role: Role) -> &Keys {
        match role {
            Role::Server => &self.caller,
            Role::Client => &self.server,
        }
    }

    /// Returns who meets it.
    #[must_use]
    pub const fn me(&self, role: Role) -> &Keys {
        match role {
            Role::Server => &self.server,
            Role::Client => &self.caller,
        }
    }

    /// Returns the public key of who meets it.
    #[must_use]
    pub fn address(&self, role: Role) -> String {
        self.me(role).public_key().to_hex()
    }

    /// Makes a true event for a role with these tags behind its address.
    #[must_use]
    pub fn message(&self, role: Role, tags: &[Tag], content: &str) -> Event {
        let mut all = vec![Tag::public_key(self.me(role).public_key())];
        all.extend_from_slice(tags);
        self.author(role).sign_event(
            kind::MESSAGE,
            self.now,
            Tags::from_list(all),
            content.to_owned(),
            [9; 32],
        )
    }
}
