//! What an endpoint is told at birth.
use alloc::{string::String, vec::Vec};
use contextvm_core::{Limits, tags};
use nostr::event::Tag;
use nostr::key::PublicKey;

use crate::server::Access;

/// Whether messages are encrypted (CEP-4). A client in `Optional` always encrypts and never falls back by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EncryptionMode {
    /// Both accepted; a client sends encrypted, a server mirrors each request.
    #[default]
    Optional,
    /// Only encrypted sent and accepted.
    Required,
    /// Plaintext sent. A server drops wraps; a client still opens them.
    Disabled,
}

/// Which gift wraps are sent and admitted (CEP-19).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GiftWrapMode {
    /// Both admitted; ephemeral sent to peers that understand it.
    #[default]
    Optional,
    /// Only kind 21059.
    Ephemeral,
    /// Only kind 1059.
    Persistent,
}

/// What a server says about itself in its discovery tags (CEP-6, CEP-35).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `name` tag.
    pub name: Option<String>,
    /// `about` tag.
    pub about: Option<String>,
    /// `website` tag.
    pub website: Option<String>,
    /// `picture` tag.
    pub picture: Option<String>,
    /// Further discovery tags, sent after the known ones.
    pub extra: Vec<Tag>,
}

/// Configuration of a [`ServerMachine`](crate::ServerMachine).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Discovery tags.
    pub identity: Identity,
    /// Encryption policy.
    pub encryption: EncryptionMode,
    /// Gift wrap policy.
    pub gift_wrap: GiftWrapMode,
    /// Who may call what.
    pub access: Access,
    /// Put `clientPubkey` into `params._meta` (CEP-16).
    pub inject_client_pubkey: bool,
    /// Put `requestEventId` into `params._meta`.
    pub inject_request_event_id: bool,
    /// Events stamped before this Unix second are refused: the replay barrier after a restart. Zero: no barrier.
    ///
    /// With a barrier, an event stamped ahead of our clock waits for its second (at most the request timeout, otherwise
    /// it is dropped): whatever was done before a restart is then stamped before it. A server that has used its key
    /// before sets this to the second after the one in which it starts.
    pub accept_from: u64,
    /// Tools may write streams (CEP-41) to callers that understand them.
    pub open_streams: bool,
    /// Nothing is executed before a store has said that its id is on disk: [`ServerOutput::Remember`] asks for that, and
    /// what the application is to hear waits for [`ServerInput::Remembered`].
    ///
    /// [`ServerOutput::Remember`]: crate::ServerOutput::Remember
    /// [`ServerInput::Remembered`]: crate::ServerInput::Remembered
    pub durable: bool,
    /// Bounds.
    pub limits: Limits,
}

impl Default for ServerConfig {
    /// Everybody may call, encrypted or not; nothing is injected; no replay barrier and no store.
    fn default() -> Self {
        Self {
            identity: Identity::default(),
            encryption: EncryptionMode::default(),
            gift_wrap: GiftWrapMode::default(),
            access: Access::default(),
            inject_client_pubkey: false,
            inject_request_event_id: false,
            accept_from: 0,
            open_streams: true,
            durable: false,
            limits: Limits::default(),
        }
    }
}

impl ServerConfig {
    /// Returns the discovery tags of such a server, in the order in which it sends them; announcements carry the same.
    #[must_use]
    pub fn discovery_tags(&self) -> Vec<Tag> {
        let identity = &self.identity;
        let named = [
            (tags::NAME, &identity.name),
            (tags::ABOUT, &identity.about),
            (tags::WEBSITE, &identity.website),
            (tags::PICTURE, &identity.picture),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some(tags::valued(name, value.as_deref()?)));
        let encrypts = self.encryption != EncryptionMode::Disabled;
        let ephemeral = encrypts && self.gift_wrap != GiftWrapMode::Persistent;
        named
            .chain(encrypts.then(|| tags::flag(tags::SUPPORT_ENCRYPTION)))
            .chain(ephemeral.then(|| tags::flag(tags::SUPPORT_ENCRYPTION_EPHEMERAL)))
            .chain([tags::flag(tags::SUPPORT_OVERSIZED_TRANSFER)])
            .chain(self.open_streams.then(|| tags::flag(tags::SUPPORT_OPEN_STREAM)))
            .chain(identity.extra.iter().cloned())
            .chain([tags::flag(tags::SUPPORT_REPEATS)])
            .collect()
    }
}

/// Configuration of a [`ClientMachine`](crate::ClientMachine).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The server this client talks to.
    pub server: PublicKey,
    /// Encryption policy.
    pub encryption: EncryptionMode,
    /// Gift wrap policy.
    pub gift_wrap: GiftWrapMode,
    /// Answer `initialize` locally and never send it (CEP-35 stateless).
    pub stateless: bool,
    /// Offer to answer requests that the server sends (docs/EXTENSIONS.md).
    pub answer_server_requests: bool,
    /// Offer to read streams (CEP-41): tools then stream what they would otherwise return at once.
    pub open_streams: bool,
    /// Deliver the frames of transfers and streams as the progress notifications that they are.
    pub show_frames: bool,
    /// Tags that every request carries, on the first and the last frame of a transfer: `pmi`, `payment_interaction` (CEP-8).
    pub request_tags: Vec<Tag>,
    /// Bounds.
    pub limits: Limits,
}

impl ClientConfig {
    /// Makes the configuration of an encrypted, stateful client of one server.
    #[must_use]
    pub fn new(server: PublicKey) -> Self {
        Self {
            server,
            encryption: EncryptionMode::default(),
            gift_wrap: GiftWrapMode::default(),
            stateless: false,
            answer_server_requests: false,
            open_streams: false,
            show_frames: false,
            request_tags: Vec::new(),
            limits: Limits::default(),
        }
    }
}
