//! Announcing: what a server publishes about itself, and how it is taken back (CEP-6, 15, 17, 23).
//!
//! Nothing public leaves the process unless [`ServerHandle::announce`] or [`delete`] is called.
//!
//! ```no_run
//! # async fn example(listener: contextvm_server::Listener) -> Result<(), Box<dyn std::error::Error>> {
//! use contextvm_server::AnnounceOptions;
//!
//! let mut announcing = listener.handle().announce(AnnounceOptions::default())?;
//! // ... the sessions of `listener` are accepted elsewhere ...
//! for announced in announcing.settled().await?.events {
//!     println!("{} {} {}", announced.about, announced.event.id, announced.is_taken());
//! }
//! # Ok(())
//! # }
//! ```
use std::collections::BTreeSet;
use std::time::Duration;

use contextvm_announce::{AnnouncerConfig, Profile};
use contextvm_core::kind;
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::{Error, Price, ServerHandle};

mod delete;
mod error;
mod run;
mod sign;
mod status;
mod targets;

pub use delete::{DeleteOptions, DeleteReport, Deleted, delete};
pub use error::AnnouncingError;
pub use status::{AnnounceStatus, Announced, Failure, RelayWord};
pub use targets::AnnounceTargets;

use run::{Order, Run};

/// Longest wait for the relays, of one publication, by default.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// As [`DeleteOptions::deadline`] when a server withdraws: whoever ends it waits, and one relay that hangs costs all of it
/// twice.
const FAREWELL: Duration = Duration::from_secs(4);

/// Every kind that a server publishes about itself.
const ALL_KINDS: [u16; 7] = [
    kind::SERVER_ANNOUNCEMENT,
    kind::TOOLS_LIST,
    kind::RESOURCES_LIST,
    kind::RESOURCE_TEMPLATES_LIST,
    kind::PROMPTS_LIST,
    kind::RELAY_LIST,
    kind::PROFILE,
];

/// What a server publishes about itself, and where.
///
/// Prices and common schemas are those of the server, see [`ServerOptions`](crate::ServerOptions): callers and readers of
/// announcements are told the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceOptions {
    /// Whether the server and its lists are published (11316-11320); `true`.
    pub announce: bool,
    /// Whether the relay list is published (10002); `None`: if the server is announced.
    pub relay_list: Option<bool>,
    /// Relays that callers are told about; `None`: those that the server serves on. Local ones are left out if there are
    /// others.
    pub relays: Option<Vec<String>>,
    /// Further relays to publish to; `None`: the default six
    /// ([`BOOTSTRAP_RELAYS`](contextvm_announce::BOOTSTRAP_RELAYS)), unless all advertised ones are local. Empty: none.
    pub bootstrap: Option<Vec<String>>,
    /// The profile (0); `None` publishes none.
    pub profile: Option<Profile>,
    /// Longest wait for all relays, of one publication; 10 s.
    pub deadline: Duration,
    /// How often relays that were out of reach are given what they missed; 10 minutes.
    pub catch_up: Duration,
    /// How often everything is asked anew, since not every change is told; 6 hours.
    pub renewal: Duration,
}

impl Default for AnnounceOptions {
    fn default() -> Self {
        let (relay_list, relays, bootstrap, profile) = (None, None, None, None);
        let (catch_up, renewal) = (Duration::from_secs(600), Duration::from_secs(6 * 60 * 60));
        let deadline = DEADLINE;
        Self { announce: true, relay_list, relays, bootstrap, profile, deadline, catch_up, renewal }
    }
}

impl AnnounceOptions {
    /// Returns where a server with these options publishes.
    ///
    /// # Errors
    /// Fails when a URL does not parse, and when there is no relay.
    pub fn targets(&self, server: &ServerHandle) -> Result<AnnounceTargets, AnnouncingError> {
        let bootstrap = self.bootstrap.as_deref();
        match &self.relays {
            Some(relays) => AnnounceTargets::new(relays, bootstrap),
            None => {
                let urls = server.relay_urls();
                AnnounceTargets::of(urls.to_vec(), urls.len(), bootstrap)
            }
        }
    }

    fn publishes_relay_list(&self) -> bool {
        self.relay_list.unwrap_or(self.announce)
    }

    fn publishes_anything(&self) -> bool {
        self.announce || self.publishes_relay_list() || self.profile.is_some()
    }

    /// Returns what the machine is told.
    fn machine(
        &self,
        server: &ServerHandle,
        targets: &AnnounceTargets,
        prices: Vec<Price>,
    ) -> AnnouncerConfig {
        let urls = targets.advertised.iter().map(ToString::to_string);
        AnnouncerConfig {
            announce: self.announce,
            discovery: server.discovery_tags(),
            prices,
            schemas: server.common_schemas().clone(),
            relay_list: self.publishes_relay_list().then(|| urls.collect()),
            profile: self.profile.clone(),
            ..AnnouncerConfig::default()
        }
    }
}

impl ServerHandle {
    /// Publishes what the server is and offers, and keeps that up to date until the handle is dropped or the server is shut
    /// down. What was published stays.
    ///
    /// The application is asked in a session of its own ([`ServerHandle::open_local`]), so it must be accepting sessions. The
    /// relays are first asked what an earlier run left there, so that everything new is stamped higher. Must be called in a
    /// tokio runtime.
    ///
    /// # Errors
    /// Fails when the relays cannot work. What goes wrong later is in the status, and no relay that fails is fatal.
    pub fn announce(&self, options: AnnounceOptions) -> Result<Announcing, AnnouncingError> {
        let targets = options.targets(self)?;
        let (orders, inbox) = mpsc::channel(8);
        let (run, status) = Run::new(self.clone(), options, targets, inbox, false);
        let task = AbortOnDropHandle::new(tokio::spawn(run.run()));
        Ok(Announcing { server: self.clone(), orders, status, _task: task })
    }

    /// Asks the application and signs what [`ServerHandle::announce`] would publish, and sends nothing to anybody.
    ///
    /// An [offline](crate::Server::offline) server will do.
    ///
    /// # Errors
    /// Fails when the relays cannot work, and when the server is shut down before it is done.
    pub async fn preview(&self, options: AnnounceOptions) -> Result<Preview, AnnouncingError> {
        let targets = options.targets(self)?;
        let (_orders, inbox) = mpsc::channel(1);
        let (run, mut status) = Run::new(self.clone(), options, targets.clone(), inbox, true);
        let _task = AbortOnDropHandle::new(tokio::spawn(run.run()));
        let status = status.wait_for(|status| status.settled).await.map_err(|_over| Error::Closed)?.clone();
        let events = status.events.into_iter().map(|announced| announced.event).collect();
        let (failures, notes) = (status.failures, status.notes);
        Ok(Preview { events, targets, failures, notes })
    }
}

/// What would be published.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Preview {
    /// The signed events, in order of their kinds.
    pub events: Vec<Event>,
    /// Where they would go.
    pub targets: AnnounceTargets,
    /// What could not be published.
    pub failures: Vec<Failure>,
    /// What should be known about common tools.
    pub notes: Vec<contextvm_announce::SchemaNote>,
}

/// A server that announces itself. Dropping it ends that and takes nothing back.
#[derive(Debug)]
pub struct Announcing {
    server: ServerHandle,
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<AnnounceStatus>,
    _task: AbortOnDropHandle<()>,
}

impl Announcing {
    /// Returns what was published and what became of it.
    #[must_use]
    pub fn status(&self) -> AnnounceStatus {
        self.status.borrow().clone()
    }

    /// Waits for a change of the status.
    ///
    /// # Errors
    /// Fails when the server is shut down.
    pub async fn changed(&mut self) -> Result<AnnounceStatus, Error> {
        self.status.changed().await.map_err(|_over| Error::Closed)?;
        Ok(self.status.borrow_and_update().clone())
    }

    /// Waits until there is nothing left to ask or to publish, and returns the status.
    ///
    /// # Errors
    /// Fails when the server is shut down.
    pub async fn settled(&mut self) -> Result<AnnounceStatus, Error> {
        let settled = self.status.wait_for(|status| status.settled).await.map_err(|_over| Error::Closed)?;
        Ok(settled.clone())
    }

    /// Asks the application everything anew, in a new session; what says the same as before is not published again.
    ///
    /// # Errors
    /// Fails when the server is shut down.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.orders.send(Order::Refresh).await.map_err(|_over| Error::Closed)
    }

    /// Replaces the options. What follows from them is published within seconds; relays that are new get everything.
    ///
    /// # Errors
    /// Fails when the relays cannot work, and when the server is shut down.
    pub async fn update(&self, options: AnnounceOptions) -> Result<(), AnnouncingError> {
        let targets = options.targets(&self.server)?;
        let order = Order::Update(Box::new((options, targets)));
        self.orders.send(order).await.map_err(|_over| Error::Closed.into())
    }

    /// Ends announcing, and deletes what was published: the server and its lists, and what else was published by this run.
    /// Takes 8 s at most, also when relays hang.
    ///
    /// # Errors
    /// As [`delete`].
    pub async fn withdraw(self, reason: &str) -> Result<DeleteReport, AnnouncingError> {
        let status = self.status();
        let abouts: BTreeSet<u16> = status.ids.iter().map(|(kind, _)| *kind).collect();
        let options = DeleteOptions {
            reason: reason.to_owned(),
            relay_list: abouts.contains(&kind::RELAY_LIST),
            profile: abouts.contains(&kind::PROFILE),
            known: status.ids.clone(),
            deadline: FAREWELL,
            ..DeleteOptions::default()
        };
        let keys = self.server.keys();
        drop(self);
        delete(&keys, &status.targets, options).await
    }

    /// Lists the ids of everything that was published, by kind; the last 256.
    #[must_use]
    pub fn ids(&self) -> Vec<(u16, EventId)> {
        self.status.borrow().ids.clone()
    }
}

/// Prints the filter for own events of some kinds.
fn own_filter(me: &PublicKey, kinds: &[u16]) -> String {
    let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    format!(r#"{{"kinds":[{}],"authors":["{}"],"limit":100}}"#, kinds.join(","), me.to_hex())
}
