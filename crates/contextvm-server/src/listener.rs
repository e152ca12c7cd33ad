//! The listening server: sessions come out, messages to callers go in.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contextvm_announce::{CommonSchemas, Price};
use contextvm_core::Limits;
use contextvm_crypto::Keys;
use contextvm_engine::gate::Gate;
use contextvm_engine::{Record, ServerConfig, ServerMachine};
use contextvm_relay::RelayState;
use contextvm_runtime::{Counters, Driver, DriverOptions, Stats};
use contextvm_store::Discarded;
use nostr::event::Tag;
use nostr::key::PublicKey;
use nostr::types::RelayUrl;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::desk::{Command, Desk, Ways, seat_bound};
use crate::listing::{Listing, Prices};
use crate::local::{Line, LocalCaller, Locals};
use crate::options::ServerOptions;
use crate::session::Session;
use crate::{Error, offline, opening};

/// Application messages that may wait for the loop.
const COMMANDS: usize = 64;
/// How long a process that is about to end may still hold the store, beyond its shutdown grace.
const OPENING: Duration = Duration::from_secs(1);
/// How often a clock that is behind is named while the start waits for it.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What a server is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerStatus {
    /// The server's public key.
    pub public_key: PublicKey,
    /// Each relay's URL and whether its subscription lives.
    pub relays: Vec<(String, bool)>,
    /// The file that remembers across restarts; `None`: nothing does.
    pub store: Option<PathBuf>,
    /// Events that relays sent faster than they were opened, and that newer ones pushed out.
    pub dropped: u64,
    /// Counters since start.
    pub stats: Stats,
}

/// Yields one [`Session`] per caller. Dropping it shuts the server down.
#[derive(Debug)]
pub struct Listener {
    sessions: mpsc::Receiver<Session>,
    handle: ServerHandle,
}

impl Listener {
    /// Waits for the next caller, or the next `initialize` of a known one; `None` after shutdown.
    ///
    /// Cancel-safe.
    pub async fn accept(&mut self) -> Option<Session> {
        self.sessions.recv().await
    }

    /// Returns a handle on the whole server.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }
}

/// A handle on a running server; cloning gives another handle to the same server.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    facts: Arc<Facts>,
    commands: mpsc::Sender<Command>,
    /// Weak, so that the end of the loop is the end of the sessions.
    accept: mpsc::WeakSender<Session>,
    locals: Arc<Locals>,
    prices: Prices,
    /// Absent on a server without relays.
    relays: Option<contextvm_relay::Relays>,
    counters: Counters,
    done: CancellationToken,
}

/// What does not change while a server runs.
#[derive(Debug)]
struct Facts {
    keys: Arc<Keys>,
    relay_urls: Vec<RelayUrl>,
    config: ServerConfig,
    schemas: Arc<CommonSchemas>,
    store: Option<PathBuf>,
}

impl ServerHandle {
    /// Opens a session inside the process, with the same application as callers have; [`Listener::accept`] yields it.
    ///
    /// It needs no relay and no access, and is counted nowhere as a caller. Each session is a new caller with a key that
    /// belongs to nobody. One `initialize` belongs to one session. The application may end it when what it said of itself
    /// may be over, as a gateway does whose child was started again.
    ///
    /// # Errors
    /// Fails when the server is shut down, when the application does not accept sessions, or without randomness.
    pub fn open_local(&self) -> Result<LocalCaller, Error> {
        let accept = self.accept.upgrade().ok_or(Error::Closed)?;
        let config = &self.facts.config;
        let (inbound, messages) = mpsc::channel(seat_bound(config.limits.in_flight_per_caller));
        let line = Line::new(config, inbound, self.counters.clone())?;
        let caller = LocalCaller::new(Arc::clone(&line));
        if !self.locals.add(&line) {
            return Err(Error::Closed);
        }
        accept.try_send(Session::local(line, messages)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })?;
        Ok(caller)
    }

    /// Returns the prices that list answers and announcements say.
    #[must_use]
    pub fn prices(&self) -> Vec<Price> {
        self.prices.borrow().clone()
    }

    /// Replaces the prices that list answers and announcements say, from the next one on.
    pub fn set_prices(&self, prices: Vec<Price>) {
        self.prices.send_replace(prices);
    }

    /// Returns the prices as they change.
    pub(crate) fn watch_prices(&self) -> watch::Receiver<Vec<Price>> {
        self.prices.subscribe()
    }

    pub(crate) fn common_schemas(&self) -> &CommonSchemas {
        &self.facts.schemas
    }

    pub(crate) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.facts.keys)
    }

    /// Returns the relays that the server serves on; none when it is offline.
    pub(crate) fn relay_urls(&self) -> &[RelayUrl] {
        &self.facts.relay_urls
    }

    /// Returns the discovery tags that callers are sent, in wire order.
    #[must_use]
    pub fn discovery_tags(&self) -> Vec<Tag> {
        self.facts.config.discovery_tags()
    }

    /// Sends one notification to every initialised session that may hear it, and to local callers.
    ///
    /// # Errors
    /// Fails when the server is shut down.
    pub async fn broadcast(&self, message: String) -> Result<(), Error> {
        if self.locals.broadcast(&message) {
            return Ok(());
        }
        self.commands.send(Command::Broadcast(message)).await.map_err(|_closed| Error::Closed)
    }

    /// Returns what the server is doing.
    #[must_use]
    pub fn status(&self) -> ServerStatus {
        let relays: Vec<_> = self.relays.iter().flat_map(contextvm_relay::Relays::statuses).collect();
        let dropped = relays.iter().map(|status| status.counts.dropped).sum();
        let relays =
            relays.iter().map(|status| (status.url.to_string(), status.state == RelayState::Live)).collect();
        ServerStatus {
            public_key: self.public_key(),
            relays,
            store: self.facts.store.clone(),
            dropped,
            stats: self.counters.read(),
        }
    }

    /// Returns the server's public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.facts.keys.public_key()
    }

    /// Stops taking requests, gives answers under way the shutdown grace, and closes the relays.
    pub async fn shutdown(&self) {
        // A closed channel means that the loop has ended or is ending.
        let _closing = self.commands.send(Command::Shutdown).await;
        self.done.cancelled().await;
    }

    /// Waits until the server has shut down.
    pub async fn closed(&self) {
        self.done.cancelled().await;
    }
}

/// Connects, waits for the replay barrier, and starts the loop.
pub(crate) async fn start(options: ServerOptions) -> Result<Listener, Error> {
    let urls = relay_urls(&options.relays)?;
    let keys = options.keys;
    let mut config = options.config;
    let (mut kept, mut discarded) = (None, None);
    let patience = options.shutdown_grace.saturating_add(OPENING);
    if let Some(path) = &options.store {
        kept = Some(opening::open(path, keys.public_key(), &config.limits, patience).await?);
    } else if let Some(path) = &options.discarded_store {
        discarded = opening::discard(path, keys.public_key(), patience).await?;
    }
    let barrier = match &kept {
        Some((_, restored)) => restored.since,
        // Read behind the lock: until then another process may have executed something.
        None if options.known_key => contextvm_runtime::clock::unix_now().saturating_add(1),
        None => 0,
    };
    config.durable = kept.is_some();
    config.accept_from = config.accept_from.max(barrier);
    let driver = Driver::connect(DriverOptions {
        keys: Arc::clone(&keys),
        relays: urls.clone(),
        addresses: contextvm_relay::Addresses::Any,
        gift_wrap: config.gift_wrap,
        limits: config.limits.clone(),
        shutdown_grace: options.shutdown_grace,
        retry_first: contextvm_runtime::driver::SERVER_RETRY,
    })?;
    let relays = driver.relays();
    let ready = relays.ready(options.ready_timeout);
    let ((), listening) = tokio::join!(pass(barrier), ready);
    if !listening {
        tracing::warn!("no relay listens yet; serving begins when one does");
    }
    let (driver, records) = match kept {
        Some((store, restored)) => (driver.with_store(store), restored.records),
        None => (driver, Vec::new()),
    };
    let schemas = Arc::new(options.common_schemas);
    let facts = Facts { keys, relay_urls: urls, config, schemas, store: options.store };
    Ok(spawn(driver, (records, discarded), facts, options.prices, options.access_callback))
}

/// Makes a listener whose sessions come from the process itself.
pub(crate) fn start_offline(options: ServerOptions) -> Listener {
    let facts = Facts {
        keys: options.keys,
        relay_urls: Vec::new(),
        config: options.config,
        schemas: Arc::new(options.common_schemas),
        store: None,
    };
    let seams = Seams::new(facts, options.prices, None, Counters::default());
    let Seams { listener, accept, inbox, ending } = seams;
    tokio::spawn(async move {
        let _ending = ending;
        offline::run(accept, inbox).await;
    });
    listener
}

/// What hangs together at the start: the application's side, and what its loop needs.
struct Seams {
    listener: Listener,
    accept: mpsc::Sender<Session>,
    inbox: mpsc::Receiver<Command>,
    ending: Ending,
}

/// Tells everybody that the loop has ended, however it did.
struct Ending {
    locals: Arc<Locals>,
    _done: DropGuard,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.locals.end();
    }
}

impl Seams {
    fn new(
        facts: Facts,
        prices: Vec<Price>,
        relays: Option<contextvm_relay::Relays>,
        counters: Counters,
    ) -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (accept, sessions) = mpsc::channel(session_bound(&facts.config.limits));
        let done = CancellationToken::new();
        let locals = Arc::new(Locals::default());
        let ending = Ending { locals: Arc::clone(&locals), _done: done.clone().drop_guard() };
        let handle = ServerHandle {
            facts: Arc::new(facts),
            commands,
            accept: accept.downgrade(),
            locals,
            prices: watch::Sender::new(prices),
            relays,
            counters,
            done,
        };
        Self { listener: Listener { sessions, handle }, accept, inbox, ending }
    }
}

/// Hands the driver to a task and makes the application's side.
fn spawn(
    driver: Driver,
    (records, discarded): (Vec<Record>, Option<Discarded>),
    facts: Facts,
    prices: Vec<Price>,
    callback: Option<Arc<dyn crate::AccessCallback>>,
) -> Listener {
    let (config, public_key) = (facts.config.clone(), facts.keys.public_key());
    let seams = Seams::new(facts, prices, Some(driver.relays()), driver.counters());
    let Seams { listener, accept, inbox, ending } = seams;
    let handle = &listener.handle;
    let listing = Listing::new(Arc::clone(&handle.facts.schemas), handle.prices.subscribe());
    let limits = config.limits.clone();
    let gate = Gate::for_server(public_key, &config);
    let mut machine = ServerMachine::new(config, public_key, driver.seed());
    machine.restore(records, driver.now());
    let ways = Ways { accept, commands: handle.commands.downgrade(), inbox };
    let desk = Desk::new(machine, limits, callback, ways, handle.counters.clone(), listing)
        .with_barrier(handle.facts.config.accept_from);
    tokio::spawn(async move {
        let (_ending, _discarded) = (ending, discarded);
        driver.run(desk, gate).await;
    });
    listener
}

/// Sessions that may wait for [`Listener::accept`]: as many as the machine can hold.
fn session_bound(limits: &Limits) -> usize {
    limits.sessions.saturating_add(limits.stranger_sessions).max(1)
}

/// Waits until the wall clock shows `second`; says so if that takes longer than the second after the start.
async fn pass(second: u64) {
    let mut said: Option<Instant> = None;
    loop {
        let ahead = second.saturating_sub(contextvm_runtime::clock::unix_now());
        if ahead == 0 {
            return;
        }
        if ahead > 1 && said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            said = Some(Instant::now());
            tracing::error!(
                seconds = ahead,
                "the clock is behind what was taken before; until then nothing is"
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn relay_urls(relays: &[String]) -> Result<Vec<RelayUrl>, Error> {
    if relays.is_empty() {
        return Err(Error::NoRelays);
    }
    let parse =
        |(place, url): (usize, &String)| RelayUrl::parse(url.trim()).map_err(|_| Error::RelayUrl(place));
    relays.iter().enumerate().map(parse).collect()
}
