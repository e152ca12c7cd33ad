//! The one place that knows `nostr-relay-pool`: it is used to keep connections alive and sees no frame at all.
//!
//! The pool asks its websocket transport for a connection, and asks again when the stream it got has ended. [`Tap`] is
//! that transport: it opens the socket with our own bounds, hands it to the relay's task, and gives the pool a stream
//! that stays silent until the task lets go. Requests, events and authentication never pass through the pool.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_wsocket::{ConnectionMode, Message, Url};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _, sink, stream};
use nostr::types::RelayUrl;
use nostr_relay_pool::transport::error::TransportError;
use nostr_relay_pool::transport::websocket::{WebSocketSink, WebSocketStream, WebSocketTransport};
use nostr_relay_pool::{RelayOptions, RelayPool};
use tokio::sync::{mpsc, oneshot};

use crate::backoff::{Reconnect, draw};
use crate::connect::{Attempt, Connection, Connector};
use crate::dial::{Addresses, Dialer};

/// The pool's own pause between a lost connection and the next request for one; ours is in [`Reconnect`].
const POOL_PAUSE: Duration = Duration::from_millis(1);

/// Keeps connections through `nostr-relay-pool`.
pub(crate) struct PoolConnector {
    pool: Option<RelayPool>,
    lines: Lines,
    runtime: tokio::runtime::Handle,
}

type Lines = Arc<Mutex<BTreeMap<String, Arc<Line>>>>;

/// Where the connections of one relay go.
struct Line {
    url: RelayUrl,
    addresses: Addresses,
    reconnect: Arc<Mutex<Reconnect>>,
    attempts: mpsc::Sender<Attempt>,
    first: Mutex<bool>,
}

impl PoolConnector {
    pub(crate) fn new(dialer: Dialer, runtime: tokio::runtime::Handle) -> Self {
        let lines = Lines::default();
        let tap = Tap { dialer, lines: Arc::clone(&lines) };
        Self { pool: Some(RelayPool::builder().websocket_transport(tap).build()), lines, runtime }
    }
}

impl Connector for PoolConnector {
    fn attach(
        &self,
        relay: u16,
        url: RelayUrl,
        addresses: Addresses,
        reconnect: Arc<Mutex<Reconnect>>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<Attempt>, String>> {
        Box::pin(async move {
            let pool = self.pool.as_ref().ok_or_else(|| "closed".to_owned())?;
            let (attempts, line) = mpsc::channel(1);
            let key = key(relay, &url);
            locked(&self.lines).insert(
                key.clone(),
                Arc::new(Line { url, addresses, reconnect, attempts, first: Mutex::new(true) }),
            );
            let options = RelayOptions::new()
                .ping(false)
                .reconnect(true)
                .retry_interval(POOL_PAUSE)
                .adjust_retry_interval(false)
                .notification_channel_size(1);
            pool.add_relay(&key, options).await.map_err(|error| error.to_string())?;
            pool.connect_relay(&key).await.map_err(|error| error.to_string())?;
            Ok(line)
        })
    }

    fn detach<'a>(&'a self, relay: u16, url: &'a RelayUrl) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let key = key(relay, url);
            locked(&self.lines).remove(&key);
            if let Some(pool) = &self.pool {
                // It fails only for a relay that the pool does not have, and then there is nothing to do.
                let _ = pool.force_remove_relay(&key).await;
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            locked(&self.lines).clear();
            if let Some(pool) = &self.pool {
                pool.shutdown().await;
            }
        })
    }
}

impl Drop for PoolConnector {
    fn drop(&mut self) {
        // The pool spawns its own end, so it must end on the runtime where it lived.
        let _entered = self.runtime.enter();
        self.pool.take();
    }
}

/// The websocket transport that the pool is given.
struct Tap {
    dialer: Dialer,
    lines: Lines,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl WebSocketTransport for Tap {
    fn support_ping(&self) -> bool {
        false
    }

    fn connect<'a>(
        &'a self,
        url: &'a Url,
        _mode: &'a ConnectionMode,
        _timeout: Duration,
    ) -> BoxFuture<'a, Result<(WebSocketSink, WebSocketStream), TransportError>> {
        let line = locked(&self.lines).get(url.as_str()).cloned();
        Box::pin(async move {
            match line {
                Some(line) => Ok(self.keep_trying(&line).await),
                // The relay was removed; the pool drops this future when it notices.
                None => std::future::pending().await,
            }
        })
    }
}

impl Tap {
    /// Tries until there is a connection: the pool would log each failure as an error and knows no jitter of ours.
    async fn keep_trying(&self, line: &Line) -> (WebSocketSink, WebSocketStream) {
        loop {
            let Ok(permit) = line.attempts.reserve().await else {
                return std::future::pending().await;
            };
            if !std::mem::take(&mut *locked(&line.first)) {
                let delay = locked(&line.reconnect).next(draw());
                tokio::time::sleep(delay).await;
            }
            match self.dialer.measure(&line.url, line.addresses).await {
                Ok((socket, reached)) => {
                    let (hold, released) = oneshot::channel();
                    permit.send(Attempt::Connected(Box::new(Connection { socket, reached, hold })));
                    return (swallow(), silence(released));
                }
                Err(error) => permit.send(Attempt::Failed(error)),
            }
        }
    }
}

/// A sink that takes everything and sends nothing.
fn swallow() -> WebSocketSink {
    Box::new(Box::pin(sink::drain::<Message>().sink_map_err(TransportError::backend)))
}

/// A stream that says nothing and ends when the connection is let go.
fn silence(released: oneshot::Receiver<()>) -> WebSocketStream {
    Box::pin(stream::once(released.map(drop)).filter_map(|()| std::future::ready(None)))
}

/// Spells the address under which the pool knows a relay.
///
/// The pool tells relays apart by address alone; the number in the fragment keeps a relay apart from its predecessor at
/// the same address, which may still be ending. What is dialled is [`Line::url`].
fn key(relay: u16, url: &RelayUrl) -> String {
    let mut key = nostr::types::url::Url::from(url.clone());
    key.set_fragment(Some(&relay.to_string()));
    key.into()
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
