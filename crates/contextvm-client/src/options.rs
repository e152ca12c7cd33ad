//! How a client is configured.
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::Limits;
use contextvm_core::identity::ServerIdentity;
use contextvm_crypto::Keys;
use contextvm_engine::{ClientConfig, EncryptionMode, GiftWrapMode};
use nostr::event::Tag;

use crate::Error;
use crate::client::{self, Client, Messages};
use crate::memory::Memory;

/// How long [`Client::connect`] waits for a relay by default: 10 s.
pub const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything a client is told at start.
#[derive(Clone)]
pub struct ClientOptions {
    /// The client's identity.
    pub keys: Arc<Keys>,
    /// The server to talk to, with relay hints if it came as `nprofile`.
    pub server: ServerIdentity,
    /// Relays to use; when not empty nothing else is asked.
    pub relays: Vec<String>,
    /// Where to look for the server's relay list; `None` means the six defaults, empty means nowhere.
    pub discovery_relays: Option<Vec<String>>,
    /// Relays to use when no relay list is found in time; those of a list that comes late are added.
    pub fallback_relays: Vec<String>,
    /// Take `ws://` and private addresses from relay lists and hints. Dangerous outside development.
    pub dangerous_local_relays: bool,
    /// Remembers the newest relay list of each server, so that a relay cannot lead back to an older one.
    pub memory: Memory,
    /// Policy of the endpoint; `config.server` is overwritten with `server.key`.
    pub config: ClientConfig,
    /// How long to wait for the first relay.
    pub ready_timeout: Duration,
}

impl ClientOptions {
    /// Makes options with safe defaults: encrypted, stateful, discovery over the default relays.
    #[must_use]
    pub fn new(keys: Keys, server: ServerIdentity) -> Self {
        let config = ClientConfig::new(server.key);
        Self {
            keys: Arc::new(keys),
            server,
            relays: Vec::new(),
            discovery_relays: None,
            fallback_relays: Vec::new(),
            dangerous_local_relays: false,
            memory: Memory::volatile(),
            config,
            ready_timeout: READY_TIMEOUT,
        }
    }

    /// Sets whether the server is told that streams are read (CEP-41); `false` if not said. Tools may then stream what they
    /// would otherwise return at once; [`Client::call_stream`] reads it.
    #[must_use]
    pub const fn with_open_streams(mut self, on: bool) -> Self {
        self.config.open_streams = on;
        self
    }

    /// Sets whether frames of transfers and streams are delivered through [`Messages`] as the progress notifications that they
    /// are; `false` if not said.
    #[must_use]
    pub const fn with_shown_frames(mut self, on: bool) -> Self {
        self.config.show_frames = on;
        self
    }

    /// Sets tags that every request carries, in a transfer its first and its last frame; none if not said.
    #[must_use]
    pub fn with_request_tags(mut self, tags: Vec<Tag>) -> Self {
        self.config.request_tags = tags;
        self
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("server", &self.server)
            .field("relays", &self.relays)
            .field("discovery_relays", &self.discovery_relays)
            .field("fallback_relays", &self.fallback_relays)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Collects [`ClientOptions`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    options: ClientOptions,
}

impl ClientBuilder {
    pub(crate) const fn new(options: ClientOptions) -> Self {
        Self { options }
    }

    /// Adds a relay to use; then nothing is looked up.
    pub fn relay(mut self, url: impl Into<String>) -> Self {
        self.options.relays.push(url.into());
        self
    }

    /// Adds relays to use; then nothing is looked up.
    pub fn relays<I: IntoIterator<Item = S>, S: Into<String>>(mut self, urls: I) -> Self {
        self.options.relays.extend(urls.into_iter().map(Into::into));
        self
    }

    /// Sets where to look for the server's relay list; empty means nowhere.
    pub fn discovery_relays<I: IntoIterator<Item = S>, S: Into<String>>(mut self, urls: I) -> Self {
        self.options.discovery_relays = Some(urls.into_iter().map(Into::into).collect());
        self
    }

    /// Adds relays to use when no relay list is found in time; those of a list that comes late are added.
    pub fn fallback_relays<I: IntoIterator<Item = S>, S: Into<String>>(mut self, urls: I) -> Self {
        self.options.fallback_relays.extend(urls.into_iter().map(Into::into));
        self
    }

    /// Takes `ws://` and private addresses from relay lists and hints. Dangerous outside development.
    pub fn dangerous_local_relays(mut self) -> Self {
        self.options.dangerous_local_relays = true;
        self
    }

    /// Sets what remembers the newest relay list of each server.
    pub fn memory(mut self, memory: Memory) -> Self {
        self.options.memory = memory;
        self
    }

    /// Sets the encryption policy.
    pub fn encryption(mut self, mode: EncryptionMode) -> Self {
        self.options.config.encryption = mode;
        self
    }

    /// Sets the gift wrap policy.
    pub fn gift_wrap(mut self, mode: GiftWrapMode) -> Self {
        self.options.config.gift_wrap = mode;
        self
    }

    /// Answers `initialize` locally and never sends it (CEP-35 stateless).
    pub fn stateless(mut self) -> Self {
        self.options.config.stateless = true;
        self
    }

    /// Offers to answer requests that the server sends (sampling, elicitation, roots).
    pub fn answer_server_requests(mut self) -> Self {
        self.options.config.answer_server_requests = true;
        self
    }

    /// See [`ClientOptions::with_open_streams`].
    pub fn open_streams(mut self, on: bool) -> Self {
        self.options = self.options.with_open_streams(on);
        self
    }

    /// See [`ClientOptions::with_shown_frames`].
    pub fn shown_frames(mut self, on: bool) -> Self {
        self.options = self.options.with_shown_frames(on);
        self
    }

    /// See [`ClientOptions::with_request_tags`].
    pub fn request_tags(mut self, tags: Vec<Tag>) -> Self {
        self.options = self.options.with_request_tags(tags);
        self
    }

    /// Sets the bounds.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.config.limits = limits;
        self
    }

    /// Sets how long a call waits for its answer.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.options.config.limits.request_timeout = timeout;
        self
    }

    /// Sets how long to wait for the first relay.
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.options.ready_timeout = timeout;
        self
    }

    /// Returns the options.
    #[must_use]
    pub fn build(self) -> ClientOptions {
        self.options
    }

    /// Connects, see [`Client::connect`].
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect(self) -> Result<(Client, Messages), Error> {
        client::connect(self.options).await
    }
}
