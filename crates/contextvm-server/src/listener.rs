//! The listening server: sessions come out, messages to callers go in.
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::Limits;
use contextvm_engine::gate::Gate;
use contextvm_engine::{ServerConfig, ServerMachine};
use contextvm_relay::RelayState;
use contextvm_runtime::{Counters, Driver, DriverOptions, Stats};
use nostr::key::PublicKey;
use nostr::types::RelayUrl;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::desk::{Command, Desk};
use crate::options::ServerOptions;
use crate::session::Session;

/// Application messages that may wait for the loop.
const COMMANDS: usize = 64;

/// What a server is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerStatus {
    /// The server's public key.
    pub public_key: PublicKey,
    /// Each relay's URL and whether its subscription lives.
    pub relays: Vec<(String, bool)>,
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
    public_key: PublicKey,
    commands: mpsc::Sender<Command>,
    relays: contextvm_relay::Relays,
    counters: Counters,
    done: CancellationToken,
}

impl ServerHandle {
    /// Sends one notification to every initialised session that may hear it.
    ///
    /// # Errors
    /// Fails when the server is shut down.
    pub async fn broadcast(&self, message: String) -> Result<(), Error> {
        self.commands.send(Command::Broadcast(message)).await.map_err(|_closed| Error::Closed)
    }

    /// Returns what the server is doing.
    #[must_use]
    pub fn status(&self) -> ServerStatus {
        let relays = self
            .relays
            .statuses()
            .into_iter()
            .map(|status| (status.url.to_string(), status.state == RelayState::Live));
        ServerStatus { public_key: self.public_key, relays: relays.collect(), stats: self.counters.read() }
    }

    /// Returns the server's public key.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.public_key
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
    let public_key = options.keys.public_key();
    let mut config = options.config;
    let started = contextvm_runtime::clock::unix_now();
    let barrier = if options.known_key { started.saturating_add(1) } else { 0 };
    config.accept_from = config.accept_from.max(barrier);
    let driver = Driver::connect(DriverOptions {
        keys: options.keys,
        relays: urls,
        addresses: contextvm_relay::Addresses::Any,
        gift_wrap: config.gift_wrap,
        limits: config.limits.clone(),
        shutdown_grace: options.shutdown_grace,
    })?;
    let relays = driver.relays();
    let ready = relays.ready(options.ready_timeout);
    let ((), listening) = tokio::join!(pass(barrier), ready);
    if !listening {
        tracing::warn!("no relay listens yet; serving begins when one does");
    }
    Ok(spawn(driver, config, public_key, options.access_callback))
}

/// Hands the driver to a task and makes the application's side.
fn spawn(
    driver: Driver,
    config: ServerConfig,
    public_key: PublicKey,
    callback: Option<Arc<dyn crate::AccessCallback>>,
) -> Listener {
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let (accept, sessions) = mpsc::channel(session_bound(&config.limits));
    let done = CancellationToken::new();
    let counters = driver.counters();
    let relays = driver.relays();
    let limits = config.limits.clone();
    let gate = Gate::for_server(public_key, &config);
    let machine = ServerMachine::new(config, public_key, driver.seed());
    let desk = Desk::new(machine, limits, callback, accept, commands.downgrade(), inbox, counters.clone());
    let ended = done.clone().drop_guard();
    tokio::spawn(async move {
        let _ended = ended;
        driver.run(desk, gate).await;
    });
    Listener { sessions, handle: ServerHandle { public_key, commands, relays, counters, done } }
}

/// Sessions that may wait for [`Listener::accept`]: as many as the machine can hold.
fn session_bound(limits: &Limits) -> usize {
    limits.sessions.saturating_add(limits.stranger_sessions).max(1)
}

/// Waits until the wall clock shows `second`.
async fn pass(second: u64) {
    while contextvm_runtime::clock::unix_now() < second {
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
