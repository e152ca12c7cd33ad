//! How a server is configured and started.
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contextvm_announce::{CommonSchemas, Price};
use contextvm_core::Limits;
use contextvm_crypto::Keys;
use contextvm_engine::server::Access;
use contextvm_engine::{EncryptionMode, GiftWrapMode, Identity, ServerConfig};
use nostr::key::PublicKey;

use crate::Error;
use crate::access::AccessCallback;
use crate::listener::{self, Listener};

/// How long [`Server::start`] waits for a relay by default.
pub const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything a server is told at start.
#[derive(Clone)]
pub struct ServerOptions {
    /// The server's identity.
    pub keys: Arc<Keys>,
    /// Websocket URLs of the relays to serve on.
    pub relays: Vec<String>,
    /// Policy of the endpoint. Everybody may call unless it says otherwise.
    pub config: ServerConfig,
    /// Asked where `config.access` says so.
    pub access_callback: Option<Arc<dyn AccessCallback>>,
    /// How long to wait for the first relay before serving anyway; [`READY_TIMEOUT`].
    pub ready_timeout: Duration,
    /// Whether callers may know this key from an earlier run; `true`. Then the start takes up to a second, and nothing
    /// stamped before it is taken, so that no request of the earlier run can be executed again.
    pub known_key: bool,
    /// The file that remembers across restarts what was accepted and answered; none by default. Then `known_key` does not
    /// matter: what was sent while the server was away is taken, and nothing is executed twice. It is opened at start,
    /// held under a lock, and must be on a disk that does what it is told when told to sync.
    ///
    /// Runs under one key with a store and without one must not take turns: what is executed without it is in no store. A run
    /// without it says so in `discarded_store`.
    pub store: Option<PathBuf>,
    /// The file that other runs under this key remember with, while this one does not; none by default. It is removed, for
    /// good, before the server listens, and its place is held under its lock until the server has ended: a later run
    /// begins with a new one. Without meaning where `store` is set.
    pub discarded_store: Option<PathBuf>,
    /// How long answers under way may take at shutdown; [`SHUTDOWN_GRACE`](contextvm_runtime::driver::SHUTDOWN_GRACE).
    pub shutdown_grace: Duration,
    /// Which tools follow a common schema (CEP-15): answers to `tools/list` and announcements say so. None by default.
    pub common_schemas: CommonSchemas,
    /// What tools, prompts and resources cost: answers to list requests and announcements say so. Nothing by default.
    pub prices: Vec<Price>,
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("relays", &self.relays)
            .field("config", &self.config)
            .field("known_key", &self.known_key)
            .field("store", &self.store)
            .field("discarded_store", &self.discarded_store)
            .finish_non_exhaustive()
    }
}

impl ServerOptions {
    /// Sets the file that remembers across restarts.
    #[must_use]
    pub fn with_store(mut self, path: impl Into<PathBuf>) -> Self {
        self.store = Some(path.into());
        self
    }
}

/// The server face; see [`Server::builder`].
#[derive(Clone, Copy, Debug)]
pub struct Server;

impl Server {
    /// Starts collecting options for a server with these keys. Everybody may call it unless told otherwise.
    pub fn builder(keys: Keys) -> ServerBuilder {
        ServerBuilder {
            options: ServerOptions {
                keys: Arc::new(keys),
                relays: Vec::new(),
                config: ServerConfig::default(),
                access_callback: None,
                ready_timeout: READY_TIMEOUT,
                known_key: true,
                store: None,
                discarded_store: None,
                shutdown_grace: contextvm_runtime::driver::SHUTDOWN_GRACE,
                common_schemas: CommonSchemas::default(),
                prices: Vec::new(),
            },
        }
    }

    /// Connects to the relays and begins to serve. Returns once a relay listens for us, or after the ready timeout.
    ///
    /// # Errors
    /// Fails when the options cannot work.
    pub async fn start(options: ServerOptions) -> Result<Listener, Error> {
        listener::start(options).await
    }

    /// Makes a server that is on no relay and reaches nobody: its sessions come from
    /// [`ServerHandle::open_local`](crate::ServerHandle::open_local) alone. For what must not leave the process, such as a
    /// preview of announcements. Relays among the options are not used. Must be called in a tokio runtime.
    #[must_use]
    pub fn offline(options: ServerOptions) -> Listener {
        listener::start_offline(options)
    }
}

/// Collects [`ServerOptions`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ServerBuilder {
    options: ServerOptions,
}

impl ServerBuilder {
    /// Adds a relay.
    pub fn relay(mut self, url: impl Into<String>) -> Self {
        self.options.relays.push(url.into());
        self
    }

    /// Adds relays.
    pub fn relays<I: IntoIterator<Item = S>, S: Into<String>>(mut self, urls: I) -> Self {
        self.options.relays.extend(urls.into_iter().map(Into::into));
        self
    }

    /// Sets what the server says about itself.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.options.config.identity = identity;
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

    /// Lets in these keys only; an empty list lets in nobody.
    pub fn allow(mut self, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        self.options.config.access.allowed = Some(keys.into_iter().collect::<BTreeSet<_>>());
        self
    }

    /// Sets the whole access policy.
    pub fn access(mut self, access: Access) -> Self {
        self.options.config.access = access;
        self
    }

    /// Sets who decides where the access policy asks the application.
    pub fn access_callback(mut self, callback: Arc<dyn AccessCallback>) -> Self {
        self.options.access_callback = Some(callback);
        self
    }

    /// Puts the caller's key into `params._meta.clientPubkey` (CEP-16).
    pub fn inject_client_pubkey(mut self, on: bool) -> Self {
        self.options.config.inject_client_pubkey = on;
        self
    }

    /// Puts the request's inner event id into `params._meta.requestEventId` (CEP-16).
    pub fn inject_request_event_id(mut self, on: bool) -> Self {
        self.options.config.inject_request_event_id = on;
        self
    }

    /// Sets whether tools may write streams to callers that read them (CEP-41); `true` if not said.
    pub fn open_streams(mut self, on: bool) -> Self {
        self.options.config.open_streams = on;
        self
    }

    /// Sets the bounds.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.config.limits = limits;
        self
    }

    /// Sets which tools follow a common schema (CEP-15).
    pub fn common_schemas(mut self, schemas: CommonSchemas) -> Self {
        self.options.common_schemas = schemas;
        self
    }

    /// Sets what tools, prompts and resources cost; see [`ServerHandle::set_prices`](crate::ServerHandle::set_prices).
    pub fn prices(mut self, prices: Vec<Price>) -> Self {
        self.options.prices = prices;
        self
    }

    /// Says that the key was made for this run, so that no older event can be meant for it.
    pub fn fresh_key(mut self) -> Self {
        self.options.known_key = false;
        self
    }

    /// Sets the file that remembers across restarts; without one, whatever was stamped before the start is refused.
    pub fn store(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.store = Some(path.into());
        self
    }

    /// Removes the file that other runs under this key remember with, and holds its place: this run remembers in memory. See
    /// [`ServerOptions::discarded_store`].
    pub fn discard_store(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.discarded_store = Some(path.into());
        self
    }

    /// Sets how long to wait for the first relay before serving anyway; [`READY_TIMEOUT`] if not said.
    pub fn ready_timeout(mut self, timeout: Duration) -> Self {
        self.options.ready_timeout = timeout;
        self
    }

    /// Returns the options.
    #[must_use]
    pub fn build(self) -> ServerOptions {
        self.options
    }

    /// Starts the server, see [`Server::start`].
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start(self) -> Result<Listener, Error> {
        Server::start(self.options).await
    }
}
