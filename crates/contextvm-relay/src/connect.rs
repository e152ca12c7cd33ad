//! The narrow seam between our relay protocol and whoever keeps the sockets coming.
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use nostr::types::RelayUrl;
use tokio::sync::{mpsc, oneshot};

use crate::backoff::Reconnect;
use crate::dial::{Addresses, Reached};
use crate::error::DialError;
use crate::socket::Socket;

/// Keeps one relay connected: delivers a socket, and after its loss another one.
///
/// This trait and [`Attempt`] are all that the rest of the crate knows about the connection pool.
pub(crate) trait Connector: Send + Sync {
    /// Starts connecting to a relay at admitted addresses; attempts arrive on the returned line until [`Connector::detach`].
    ///
    /// Each attempt but the first waits for a delay drawn from `reconnect`. `relay` is a number that no other relay has
    /// had before.
    fn attach(
        &self,
        relay: u16,
        url: RelayUrl,
        addresses: Addresses,
        reconnect: Arc<Mutex<Reconnect>>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<Attempt>, String>>;

    /// Stops connecting to a relay.
    fn detach<'a>(&'a self, relay: u16, url: &'a RelayUrl) -> BoxFuture<'a, ()>;

    /// Stops everything.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// One attempt to connect.
pub(crate) enum Attempt {
    /// The relay is connected; the next attempt starts when this is dropped.
    Connected(Box<Connection>),
    /// The relay could not be reached; another attempt follows.
    Failed(DialError),
}

/// An open socket with the thread that ties it to the connector.
pub(crate) struct Connection {
    /// The socket; nobody else reads from it or writes to it.
    pub(crate) socket: Socket,
    /// How it was reached.
    pub(crate) reached: Reached,
    /// Dropping it asks for the next connection; it is closed when the connector has given this one up.
    pub(crate) hold: oneshot::Sender<()>,
}
