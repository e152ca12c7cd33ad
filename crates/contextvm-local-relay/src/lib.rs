//! An embedded in-memory Nostr relay with fault knobs, for demonstrations, development and tests.
//!
//! It speaks NIP-01 (with NIP-09 deletions), NIP-11 and, on demand, NIP-42. It listens on the loopback interface
//! unless told otherwise, keeps everything in memory within fixed bounds, and never loses an event silently: a reader
//! that is too slow for its bounded queue is disconnected.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), contextvm_local_relay::Error> {
//! use contextvm_local_relay::{Faults, LocalRelay, RelayOptions};
//!
//! let relay = LocalRelay::start(RelayOptions::default()).await?;
//! assert!(relay.url().starts_with("ws://127.0.0.1:"));
//! relay.set_faults(Faults { drop: 0.1, ..Faults::default() });
//! relay.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod auth;
mod connection;
mod faults;
mod filter;
mod http;
mod outbox;
mod room;
mod seen;
mod store;
#[cfg(test)]
mod testing;

pub use faults::{CloseAfter, Faults};

use room::Room;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Says why a relay could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    #[error("listen on {addr}: {kind}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the operating system said.
        kind: std::io::ErrorKind,
    },
}

/// Describes a relay; the default listens on a free loopback port and has no faults.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayOptions {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Name given in the NIP-11 document.
    pub name: String,
    /// Demands authentication (NIP-42) before REQ and EVENT.
    pub auth: bool,
    /// Faults from the start.
    pub faults: Faults,
    /// Seed of every fault that is a matter of chance.
    pub seed: u64,
    /// Largest event taken, bytes of JSON; larger ones get `OK false`.
    pub max_event: usize,
    /// Kinds that are refused, each with the text of its `OK false`.
    pub refused_kinds: BTreeMap<u16, String>,
    /// How far `created_at` may lie in the past; without it any past is taken.
    pub max_age: Option<Duration>,
    /// How far `created_at` may lie in the future; without it any future is taken.
    pub max_ahead: Option<Duration>,
    /// Served in place of the NIP-11 document that the other options make; it need not be true, and not even JSON.
    pub document: Option<String>,
    /// Most events stored; the oldest arrival makes room.
    pub max_stored: usize,
    /// Most bytes stored, counted in event texts and values of tags.
    pub max_stored_bytes: usize,
    /// Ids of ephemeral events remembered against repeats.
    pub max_seen: usize,
    /// Most connections at once; further ones are dropped.
    pub max_connections: usize,
    /// Most subscriptions per connection.
    pub max_subscriptions: usize,
    /// Most filters per subscription; all subscriptions of a connection name at most 8,192 ids, keys, kinds and tag values,
    /// where a tag value counts once more for every 256 bytes.
    pub max_filters: usize,
    /// Most stored events served per filter.
    pub max_limit: usize,
    /// Most live frames waiting for one reader before it is disconnected; of answers to it a quarter as many wait.
    pub max_queued: usize,
    /// Most bytes of live frames waiting for one reader before it is disconnected; of answers to it a quarter as many wait.
    pub max_queued_bytes: usize,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            name: "contextvm-local-relay".to_owned(),
            auth: false,
            faults: Faults::default(),
            seed: 0,
            max_event: 128 * 1024,
            refused_kinds: BTreeMap::new(),
            max_age: None,
            max_ahead: None,
            document: None,
            max_stored: 10_000,
            max_stored_bytes: 64 * 1024 * 1024,
            max_seen: 65_536,
            max_connections: 1_024,
            max_subscriptions: 256,
            max_filters: 64,
            max_limit: 5_000,
            max_queued: 8_192,
            max_queued_bytes: 16 * 1024 * 1024,
        }
    }
}

impl RelayOptions {
    /// Largest websocket message taken; a longer one ends the connection.
    #[must_use]
    pub fn max_message(&self) -> usize {
        // An event over the limit should still be read, so that it can be refused by its id.
        self.max_event.saturating_mul(2).saturating_add(64 * 1024)
    }
}

/// Counts what a relay has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Connections open now.
    pub connections: usize,
    /// Connections ever accepted.
    pub accepted_connections: u64,
    /// Subscriptions open now.
    pub subscriptions: usize,
    /// Events stored now.
    pub stored: usize,
    /// Bytes stored now.
    pub stored_bytes: usize,
    /// EVENT frames received.
    pub received: u64,
    /// Events accepted for the first time.
    pub accepted: u64,
    /// Events answered with `duplicate:`.
    pub repeats: u64,
    /// Events answered with `OK false`.
    pub refused: u64,
    /// EVENT frames queued for readers, duplicates included.
    pub delivered: u64,
    /// EVENT frames withheld by a fault.
    pub dropped: u64,
    /// EVENT frames sent a second time by a fault.
    pub duplicated: u64,
    /// EVENT frames held back by the reorder fault.
    pub reordered: u64,
    /// Readers disconnected because their queue was full.
    pub slow_readers_cut: u64,
}

/// A relay that runs until it is shut down or dropped.
#[derive(Debug)]
pub struct LocalRelay {
    room: Arc<Room>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl LocalRelay {
    /// Starts a relay on the current tokio runtime.
    ///
    /// # Errors
    /// Returns [`Error::Listen`] when the address cannot be listened on.
    #[expect(
        clippy::unused_async,
        reason = "starting needs a runtime, which an async function makes visible"
    )]
    pub async fn start(options: RelayOptions) -> Result<Self, Error> {
        let (listener, addr) =
            listen(options.addr).map_err(|error| Error::Listen { addr: options.addr, kind: error.kind() })?;
        let room = Arc::new(Room::new(options, addr));
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept_loop(listener, Arc::clone(&room), stopped));
        tracing::debug!(%addr, "relay started");
        Ok(Self { room, stop, accepting })
    }

    /// Returns the URL to connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}", self.room.addr)
    }

    /// Returns the port that is listened on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.room.addr.port()
    }

    /// Returns the options the relay was started with; the faults may have been changed since.
    #[must_use]
    pub fn options(&self) -> &RelayOptions {
        &self.room.options
    }

    /// Puts other faults in force for all connections, at once.
    pub fn set_faults(&self, faults: Faults) {
        self.room.set_faults(faults);
    }

    /// Returns the faults in force.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.room.faults().as_ref().clone()
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        self.room.stats()
    }

    /// Cuts every open connection without a closing frame, and says how many there were.
    pub fn drop_connections(&self) -> usize {
        self.room.cut_all()
    }

    /// Stops listening, cuts every connection and waits until the port is free.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        // The task ends by itself; a panic in it has been reported already.
        let _ = (&mut self.accepting).await;
    }

    /// Shuts down and starts again on the same port with the faults in force; everything stored is lost.
    ///
    /// # Errors
    /// Returns [`Error::Listen`] when the port was taken meanwhile.
    pub async fn restart(self) -> Result<Self, Error> {
        let options =
            RelayOptions { addr: self.room.addr, faults: self.faults(), ..self.room.options.clone() };
        self.shutdown().await;
        Self::start(options).await
    }
}

impl Drop for LocalRelay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn listen(addr: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A port whose old connections linger in TIME_WAIT can be taken again at once.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    let listener = socket.listen(1_024)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

async fn accept_loop(listener: TcpListener, room: Arc<Room>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = raised(&mut stopped) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                // Sockets that have not upgraded yet are bounded like those that have.
                Ok((stream, _)) if connections.len() < room.options.max_connections * 2 => {
                    connections.spawn(connection::serve(stream, Arc::clone(&room)));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(kind = ?error.kind(), "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// Waits until the flag is up or nobody can raise it any more.
async fn raised(flag: &mut watch::Receiver<bool>) {
    // Both outcomes mean the end.
    let _ = flag.wait_for(|up| *up).await;
}
