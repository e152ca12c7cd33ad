//! The client: send, call, read, close.
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use contextvm_core::identity::ServerIdentity;
use contextvm_core::{Limits, PeerTags, envelope};
use contextvm_crypto::Keys;
use contextvm_engine::ClientMachine;
use contextvm_engine::client::{Exchange, Lost};
use contextvm_engine::gate::Gate;
use contextvm_relay::RelayState;
use contextvm_runtime::{Counters, Driver, DriverOptions, Stats};
use nostr::key::PublicKey;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::desk::{Answer, Command, Desk, Signals, Told};
use crate::options::{ClientBuilder, ClientOptions};
use crate::queue::{Queue, Weighed};
use crate::streamed::{Reading, StreamedCall};
use crate::{CallError, Error, ServerView, Transferred, resolve};

/// Application messages that may wait for the loop.
const COMMANDS: usize = 64;

/// Ids of [`Client::request`] begin like this; raw requests should not.
const CALL_ID: &str = "contextvm:call:";
/// The request that its server may end by a cancellation (MCP 2026-07-28).
const SUBSCRIPTION: &str = "subscriptions/listen";

/// What a client is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientStatus {
    /// Each relay's URL and whether its subscription lives.
    pub relays: Vec<(String, bool)>,
    /// Counters since start.
    pub stats: Stats,
}

/// The answer to one call, with the events behind it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answered {
    /// The result, in the server's own text.
    pub result: Box<RawValue>,
    /// The ids of the events that asked and answered, and how the answer travelled; `None` where this client answered
    /// itself, as a stateless one does to `initialize`.
    pub exchange: Option<Exchange>,
}

/// A connected client; cloning gives another handle to the same one.
#[derive(Clone, Debug)]
pub struct Client {
    public_key: PublicKey,
    server: PublicKey,
    commands: mpsc::Sender<Command>,
    signals: Arc<Signals>,
    relays: contextvm_relay::Relays,
    counters: Counters,
    tags: Arc<Mutex<PeerTags>>,
    moved: watch::Receiver<Option<Transferred>>,
    limits: Arc<Limits>,
    next_id: Arc<AtomicU64>,
    done: CancellationToken,
}

/// What the server says that no [`Client::request`] waits for: answers to raw requests, notifications, requests.
///
/// Drop it if nothing in it is of interest. Of notifications and requests that nobody reads, 512 are kept and the rest
/// is counted and dropped; when more than `Limits::pending` answers or `Limits::transfers_bytes` wait, nothing further is sent
/// until some are read. An answer that would make it more than twice these bytes becomes an error of a few.
#[derive(Debug)]
pub struct Messages {
    inbound: mpsc::Receiver<Weighed<String>>,
    signals: Arc<Signals>,
}

impl Messages {
    pub(crate) const fn new(inbound: mpsc::Receiver<Weighed<String>>, signals: Arc<Signals>) -> Self {
        Self { inbound, signals }
    }

    /// Waits for the next JSON-RPC message; `None` once the client is closed. Cancel-safe.
    pub async fn recv(&mut self) -> Option<String> {
        self.inbound.recv().await.map(Weighed::open)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.inbound.close();
        self.signals.read.notify_one();
    }
}

impl Client {
    /// Starts collecting options for a client with these keys.
    pub fn builder(keys: Keys, server: ServerIdentity) -> ClientBuilder {
        ClientBuilder::new(ClientOptions::new(keys, server))
    }

    /// Resolves the server's relays, connects, and returns once a relay listens for us.
    ///
    /// # Errors
    /// Fails when no relay of the server is known or none can be reached in time.
    pub async fn connect(options: ClientOptions) -> Result<(Self, Messages), Error> {
        connect(options).await
    }

    /// Sends one raw JSON-RPC message with ids of the application's choice; the answer comes through [`Messages`].
    ///
    /// Every request is answered exactly once, if need be with an error that says why the server's answer did not come.
    ///
    /// # Errors
    /// Fails when the client is closed.
    pub async fn send(&self, message: String) -> Result<(), Error> {
        self.commands.send(Command::Send(message)).await.map_err(|_closed| Error::Closed)
    }

    /// Calls a method and waits for its result; dropping the future cancels the call.
    ///
    /// # Errors
    /// Fails when the server answers with an error or not at all.
    pub async fn request(
        &self,
        method: &str,
        params: Option<Box<RawValue>>,
    ) -> Result<Box<RawValue>, CallError> {
        self.call(method, params).await.map(|answered| answered.result)
    }

    /// Does what [`Client::request`] does, and tells which signed events carried the call and its answer.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn call(&self, method: &str, params: Option<Box<RawValue>>) -> Result<Answered, CallError> {
        let (reply, answer) = oneshot::channel();
        self.begin(method, params, reply, None).await?;
        let mut waiting = Waiting { answer, signals: &self.signals, over: false };
        let result = (&mut waiting.answer).await;
        waiting.over = true;
        result.map_or(Err(CallError::Closed), Weighed::open)
    }

    /// Calls a method and reads what the server streams during the call (CEP-41).
    ///
    /// Needs [`ClientOptions::with_open_streams`]; without it no server streams, and the stream ends with the answer. The call
    /// has its usual timeout, which each frame begins anew.
    ///
    /// # Errors
    /// Fails when the client is closed. Everything else is said by [`StreamedCall::answer`].
    pub async fn call_stream(
        &self,
        method: &str,
        params: Option<Box<RawValue>>,
    ) -> Result<StreamedCall, CallError> {
        let (reply, answer) = oneshot::channel();
        let (reading, call) = Reading::new(&self.limits, answer, Arc::clone(&self.signals));
        self.begin(method, params, reply, Some(Box::new(reading))).await?;
        Ok(call)
    }

    /// Hands a call with an id of its own to the loop.
    async fn begin(
        &self,
        method: &str,
        params: Option<Box<RawValue>>,
        reply: oneshot::Sender<Weighed<Answer>>,
        reading: Option<Box<Reading>>,
    ) -> Result<(), CallError> {
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        let id = RawValue::from_string(format!("\"{CALL_ID}{number}\"")).map_err(|_| CallError::Lost {
            why: Lost::Malformed,
            retryable: false,
            detail: String::new(),
        })?;
        let message = envelope::request(&id, method, params.as_deref());
        let is_subscription = method == SUBSCRIPTION;
        let command = Command::Call { id: id.get().into(), message, reply, is_subscription, reading };
        self.commands.send(command).await.map_err(|_closed| CallError::Closed)
    }

    /// Returns how far transfers have come (CEP-22): what is new of any of them, and `None` before the first.
    ///
    /// Only the newest is kept, so that a slow watcher sees every transfer only now and then. Numbers of one transfer and
    /// direction never fall, unless relays refused its frames as too large and it begins once more.
    #[must_use]
    pub fn transfers(&self) -> watch::Receiver<Option<Transferred>> {
        self.moved.clone()
    }

    /// Sends a notification.
    ///
    /// # Errors
    /// Fails when the client is closed.
    pub async fn notify(&self, method: &str, params: Option<Box<RawValue>>) -> Result<(), Error> {
        self.send(envelope::notification(method, params.as_deref())).await
    }

    /// Returns what the server has said about itself so far.
    #[must_use]
    pub fn server_tags(&self) -> PeerTags {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what the server has shown of itself so far: tags, and the signed events behind its lists.
    ///
    /// # Errors
    /// Fails when the client is closed.
    pub async fn server_view(&self) -> Result<ServerView, Error> {
        let (reply, view) = oneshot::channel();
        self.commands.send(Command::View(reply)).await.map_err(|_closed| Error::Closed)?;
        view.await.map_err(|_closed| Error::Closed)
    }

    /// Returns the server's public key.
    #[must_use]
    pub const fn server(&self) -> PublicKey {
        self.server
    }

    /// Returns the client's public key.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Returns what the client is doing.
    #[must_use]
    pub fn status(&self) -> ClientStatus {
        let relays = self
            .relays
            .statuses()
            .into_iter()
            .map(|status| (status.url.to_string(), status.state == RelayState::Live));
        ClientStatus { relays: relays.collect(), stats: self.counters.read() }
    }

    /// Takes what was sent before, cancels what is open, ends every waiting call, and closes the relays.
    pub async fn close(&self) {
        self.signals.closing.cancel();
        self.done.cancelled().await;
    }
}

/// Cancels a call whose future was dropped before its answer came.
struct Waiting<'a> {
    answer: oneshot::Receiver<Weighed<Answer>>,
    signals: &'a Signals,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.answer.close();
            self.signals.abandoned.notify_one();
        }
    }
}

/// Resolves, connects, waits for the first relay, and starts the loop.
pub(crate) async fn connect(options: ClientOptions) -> Result<(Client, Messages), Error> {
    let (resolved, search) = resolve::find(&options).await?;
    let public_key = options.keys.public_key();
    let mut config = options.config;
    config.server = options.server.key;
    let driver = Driver::connect(DriverOptions {
        keys: options.keys,
        relays: resolved.relays,
        addresses: resolved.addresses,
        gift_wrap: config.gift_wrap,
        limits: config.limits.clone(),
        shutdown_grace: contextvm_runtime::driver::SHUTDOWN_GRACE,
        retry_first: contextvm_runtime::driver::CLIENT_RETRY,
    })?;
    let relays = driver.relays();
    let late = search.map(|search| AbortOnDropHandle::new(tokio::spawn(search.add_to(relays.clone()))));
    if !relays.ready(options.ready_timeout).await {
        relays.shutdown().await;
        return Err(Error::NotReady);
    }
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let signals = Arc::new(Signals::default());
    let limits = Arc::new(config.limits.clone());
    let (unread, messages) = Queue::new(&limits, Arc::clone(&signals));
    let (server, counters, done) = (config.server, driver.counters(), CancellationToken::new());
    let told = Told::default();
    let (tags, moved) = (Arc::clone(&told.tags), told.moved.subscribe());
    let gate = Gate::for_client(public_key, &config);
    let seed = driver.seed();
    let machine = ClientMachine::new(config, public_key, seed);
    let (shared, bounds) = (Arc::clone(&signals), Limits::clone(&limits));
    let desk = Desk::new(machine, bounds, (inbox, unread), shared, told, counters.clone());
    let ended = done.clone().drop_guard();
    tokio::spawn(async move {
        let (_ended, _late) = (ended, late);
        driver.run(desk, gate).await;
    });
    // Ids start anywhere: a client that restarts within a second would otherwise sign the very same first request.
    let next_id = Arc::new(AtomicU64::new(first_id(seed)));
    let client = Client {
        public_key,
        server,
        commands,
        signals,
        relays,
        counters,
        tags,
        moved,
        limits,
        next_id,
        done,
    };
    Ok((client, messages))
}

/// Takes the first JSON-RPC id from the seed, in a range that leaves room to count.
fn first_id(seed: [u8; 32]) -> u64 {
    let [a, b, c, d, ..] = seed;
    u64::from(u32::from_le_bytes([a, b, c, d]))
}
