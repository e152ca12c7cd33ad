//! A set of relays: what is published goes to all of them, what any of them sends comes out of one inbox.
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use contextvm_core::{Limits, RelayInfo};
use nostr::types::RelayUrl;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::RelaysConfig;
use crate::connect::Connector;
use crate::date;
use crate::dial::{Addresses, Dialer};
use crate::error::{FetchError, RelayError};
use crate::fetch::relay_info;
use crate::link::{Link, Shared, unix};
use crate::pool::PoolConnector;
use crate::publish::{Audience, Publication, PublishEvent, PublishReport, Publishing, lasting};
use crate::status::RelayStatus;

/// Time allowed for each part of an orderly end.
const FAREWELL: Duration = Duration::from_secs(3);

/// Something that came from a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// An event on our subscription, exactly as the relay spelled it and checked by nobody.
    Event {
        /// The relay's number.
        relay: u16,
        /// Its place among all events of this relay, from 1.
        number: u64,
        /// The event as JSON text.
        json: String,
        /// The relay has not said yet that it has sent all that it kept (EOSE): the event may be an old one.
        stored: bool,
    },
    /// A relay was connected; its subscription has been asked for.
    Up {
        /// The relay's number.
        relay: u16,
        /// Its address.
        url: RelayUrl,
    },
    /// A connection was lost; it is being restored.
    Down {
        /// The relay's number.
        relay: u16,
        /// Its address.
        url: RelayUrl,
        /// Why, in printable words.
        reason: String,
    },
}

/// Where everything that relays send comes out.
///
/// Events that nobody takes out stay in bounded queues, then in the sockets, then at the relays: none is dropped here,
/// except while a relay is on hold ([`Relays::hold`]).
/// Dropping the inbox makes arriving events vanish; publishing goes on.
#[derive(Debug)]
pub struct Inbox(mpsc::Receiver<Incoming>);

impl Inbox {
    /// Waits for the next item; `None` once all relays are shut down and everything was taken out.
    pub async fn recv(&mut self) -> Option<Incoming> {
        self.0.recv().await
    }

    /// Takes the next item if one is there.
    pub fn try_recv(&mut self) -> Option<Incoming> {
        self.0.try_recv().ok()
    }
}

/// A handle to a set of relays. Clones share the set; when the last one is dropped, every connection is closed.
#[derive(Clone)]
pub struct Relays(Arc<Set>);

struct Set {
    config: RelaysConfig,
    shared: Arc<Shared>,
    connector: Arc<dyn Connector>,
    runtime: tokio::runtime::Handle,
    live: watch::Receiver<usize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: BTreeMap<u16, (Arc<Link>, Task)>,
    next: u16,
    /// Absent after the end.
    inbox: Option<mpsc::Sender<Incoming>>,
    /// Publications that may still be given to a relay added later, oldest first.
    recent: VecDeque<Weak<Publication>>,
}

/// A task that ends with its handle.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The largest message that does not end the connection, bytes: what a relay keeps of a stranger and sends again after every
/// reconnection, is dropped and not met by another reconnection.
pub(crate) const fn read_at_most(limits: &Limits) -> usize {
    limits.relay_frame.saturating_mul(4)
}

impl Relays {
    /// Starts connecting to all relays at once and returns without waiting for any.
    ///
    /// # Errors
    /// Returns [`RelayError::Runtime`] outside a tokio runtime, and an error for settings that cannot work. A relay that
    /// cannot be reached is no error: it is tried again for ever, and [`Relays::statuses`] tells why.
    pub fn connect(config: RelaysConfig) -> Result<(Self, Inbox), RelayError> {
        let dialer = Dialer::new(read_at_most(&config.limits), config.timing.connect)?;
        Self::start(config, dialer)
    }

    pub(crate) fn start(config: RelaysConfig, dialer: Dialer) -> Result<(Self, Inbox), RelayError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| RelayError::Runtime)?;
        let connector = Arc::new(PoolConnector::new(dialer, runtime.clone()));
        let (inbox, events) = mpsc::channel(config.inbox.max(1));
        let (live, watching) = watch::channel(0);
        let shared = Shared {
            filters: config.filters.clone(),
            signer: config.signer.clone(),
            timing: config.timing.clone(),
            live,
            subscription: subscription()?,
            start: unix(),
            largest: config.limits.relay_frame,
        };
        let (urls, addresses) = (config.urls.clone(), config.addresses);
        let relays = Self(Arc::new(Set {
            config,
            shared: Arc::new(shared),
            connector,
            runtime,
            live: watching,
            state: Mutex::new(State { inbox: Some(inbox), ..State::default() }),
        }));
        for url in urls {
            relays.add(url, addresses)?;
        }
        Ok((relays, Inbox(events)))
    }

    /// Adds a relay and returns its number; a relay that is already there keeps its number and its rule.
    ///
    /// `addresses` holds for this relay alone: one that a stranger named is added with [`Addresses::Public`], whatever
    /// holds for the user's own.
    ///
    /// # Errors
    /// Returns [`RelayError::TooMany`] after 65,535 additions.
    pub fn add(&self, url: RelayUrl, addresses: Addresses) -> Result<u16, RelayError> {
        let mut state = self.0.state();
        if let Some((relay, _)) = state.links.iter().find(|(_, (link, _))| link.url == url) {
            return Ok(*relay);
        }
        let relay = state.next;
        state.next = relay.checked_add(1).ok_or(RelayError::TooMany)?;
        let Some(inbox) = state.inbox.clone() else {
            return Ok(relay);
        };
        let link =
            Arc::new(Link::new(relay, url, addresses, Arc::clone(&self.0.shared), inbox, &self.0.config));
        let task = self.0.runtime.spawn(Arc::clone(&link).run(Arc::clone(&self.0.connector)));
        for publication in state.recent.iter().filter_map(Weak::upgrade) {
            link.publish(&publication);
        }
        state.links.insert(relay, (link, Task(task)));
        Ok(relay)
    }

    /// Removes a relay, if it is there, and waits for its connection to close.
    pub async fn remove(&self, url: &RelayUrl) {
        let removed = {
            let mut state = self.0.state();
            let relay = state.links.iter().find(|(_, (link, _))| link.url == *url).map(|(relay, _)| *relay);
            relay.and_then(|relay| state.links.remove(&relay))
        };
        if let Some((link, task)) = removed {
            // A caller who stops waiting does not stop the end.
            let _ = self.0.runtime.spawn(end(link, task)).await;
        }
    }

    /// Publishes an event on all relays.
    ///
    /// The event is queued before this returns; the future need not be polled for it to be sent. It resolves at the
    /// first success, when every relay has refused, or after [`Timing::publish`](crate::Timing::publish).
    pub fn publish(
        &self,
        event: PublishEvent,
    ) -> impl Future<Output = PublishReport> + Send + 'static + use<> {
        self.queue(&event, Audience::default()).report()
    }

    /// Publishes an event for some relays more than for others.
    ///
    /// As with [`Self::publish`], it is queued before this returns.
    pub fn publish_for(&self, event: PublishEvent, audience: Audience) -> Publishing {
        Publishing::new(self.queue(&event, audience))
    }

    fn queue(&self, event: &PublishEvent, audience: Audience) -> Arc<Publication> {
        let publication = Arc::new(Publication::new(event, audience, lasting(self.0.config.timing.publish)));
        let mut state = self.0.state();
        let now = Instant::now();
        while state
            .recent
            .front()
            .is_some_and(|recent| recent.upgrade().is_none_or(|recent| recent.expired(now)))
        {
            state.recent.pop_front();
        }
        let is_met =
            |(relay, (link, _)): (&u16, &(Arc<Link>, Task))| audience.is_first(*relay) && link.is_connected();
        let alone = audience.only && state.links.iter().any(is_met);
        for (relay, (link, _)) in &state.links {
            if !alone || audience.is_first(*relay) {
                link.publish(&publication);
            }
        }
        if !alone {
            state.recent.push_back(Arc::downgrade(&publication));
        }
        drop(state);
        publication
    }

    /// Waits until new events arrive from at least one relay; returns whether that happened in time.
    pub async fn ready(&self, timeout: Duration) -> bool {
        let mut live = self.0.live.clone();
        tokio::time::timeout(timeout, live.wait_for(|live| *live > 0)).await.is_ok_and(|live| live.is_ok())
    }

    /// Tells a relay's fault: an event it delivered has a false id or no valid signature of its own.
    ///
    /// A relay is expected to check these, and nothing more: report no event for what is inside it, or any stranger can
    /// have an honest relay cut. More than 5 of 100 events that follow each other end the connection, and the next
    /// one is long in coming. `number` is the event's own; reports may come late and in any order.
    pub fn report_invalid(&self, relay: u16, number: u64) {
        if let Some((link, _)) = self.0.state().links.get(&relay) {
            link.report_invalid(number);
        }
    }

    /// Puts a relay on hold: nothing more that it sends comes out of the inbox before an instant.
    ///
    /// Other relays are not affected. What the relay sends meanwhile waits in its queue, where newer events push out the
    /// oldest, and are counted as [`RelayCounts::dropped`](crate::RelayCounts::dropped); after four queues full of them
    /// its socket is not read until the hold ends. An earlier, longer hold stays.
    pub fn hold(&self, relay: u16, until: Instant) {
        if let Some((link, _)) = self.0.state().links.get(&relay) {
            link.hold(until);
        }
    }

    /// Asks a relay of the set what it is (NIP-11), where the set may dial it; `None` when it is not in the set.
    ///
    /// The answer is as [`relay_info`](crate::relay_info).
    #[must_use]
    pub fn info(
        &self,
        relay: u16,
        deadline: Duration,
    ) -> Option<impl Future<Output = Result<RelayInfo, FetchError>> + Send + 'static + use<>> {
        let (url, addresses) = self.0.state().links.get(&relay).map(|(link, _)| link.place())?;
        Some(async move { relay_info(&url, addresses, deadline).await })
    }

    /// Describes every relay.
    #[must_use]
    pub fn statuses(&self) -> Vec<RelayStatus> {
        self.0.state().links.values().map(|(link, _)| link.status()).collect()
    }

    /// Returns how many seconds our clock is ahead of those of most relays (behind, if negative).
    ///
    /// Relays or their proxies say what time it is when they are connected; `None` if none of them did. Nothing proves it:
    /// good for advice, and to be shown when calls are lost.
    #[must_use]
    pub fn clock_ahead(&self) -> Option<i64> {
        date::agreed(self.statuses().iter().filter_map(|status| status.clock_ahead).collect())
    }

    /// Closes every connection and ends every task. Publications under way are reported as they stand.
    pub async fn shutdown(&self) {
        let links = {
            let mut state = self.0.state();
            state.inbox = None;
            std::mem::take(&mut state.links)
        };
        let ends = links.into_values().map(|(link, task)| end(link, task));
        futures_util::future::join_all(ends).await;
        self.0.connector.close().await;
    }
}

impl std::fmt::Debug for Relays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.statuses()).finish()
    }
}

impl Set {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a link end by itself, and ends it if it does not.
async fn end(link: Arc<Link>, mut task: Task) {
    link.stop();
    // The task is aborted when it is dropped, in time or not.
    let _ = tokio::time::timeout(FAREWELL, &mut task.0).await;
}

/// Draws a subscription id, so that it tells nothing about the software.
fn subscription() -> Result<String, RelayError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| RelayError::Entropy)?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}
