//! An endpoint that does what the test tells it.
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contextvm_core::{Draft, Limits, Mono, Now, Opened, Protection};
use contextvm_crypto::Keys;
use contextvm_engine::gate::Gate;
use contextvm_engine::{GiftWrapMode, Outbound, Outcome, Reach, ServerConfig, Ticket};
use contextvm_local_relay::{LocalRelay, RelayOptions};
use contextvm_relay::{Addresses, Relays};
use contextvm_runtime::{Counters, Driver, DriverOptions, Effect, Endpoint, Input};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;
use nostr::types::RelayUrl;
use tokio::sync::mpsc;

/// Does what it is told and reports what it hears.
pub(crate) struct Puppet {
    told: mpsc::Receiver<Effect>,
    effects: VecDeque<Effect>,
    heard: mpsc::Sender<Heard>,
    limits: mpsc::UnboundedSender<usize>,
    held: Arc<AtomicU64>,
}

#[derive(Debug)]
pub(crate) enum Heard {
    Opened(Box<Opened>),
    Published(Ticket, Outcome),
}

impl Endpoint for Puppet {
    type Event = Effect;
    const KEEPS: bool = true;
    const DROPS_LATER: bool = false;

    async fn next(&mut self) -> Effect {
        match self.told.recv().await {
            Some(effect) => effect,
            None => core::future::pending().await,
        }
    }

    fn handle(&mut self, input: Input<Effect>, _now: Now) {
        match input {
            Input::Opened(opened) => self.heard.try_send(Heard::Opened(opened)).unwrap(),
            Input::Published(ticket, outcome) => {
                self.heard.try_send(Heard::Published(ticket, outcome)).unwrap()
            }
            Input::App(effect) => self.effects.push_back(effect),
            Input::RelayLimit(bytes) => self.limits.send(bytes).unwrap_or_default(),
            Input::RelayUp
            | Input::ClockAhead(_)
            | Input::Remembered(_)
            | Input::Unstored(_)
            | Input::Wake => {}
        }
    }

    fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Mono> {
        None
    }

    fn holds_until(&mut self) -> Option<Mono> {
        Some(Mono(self.held.load(Ordering::SeqCst)))
    }

    fn owes(&self) -> bool {
        false
    }
}

/// A running puppet.
pub(crate) struct Hand {
    pub(crate) keys: Arc<Keys>,
    pub(crate) tell: mpsc::Sender<Effect>,
    pub(crate) heard: mpsc::Receiver<Heard>,
    /// Every limit that was told.
    pub(crate) limits: mpsc::UnboundedReceiver<usize>,
    /// Until when it hears of nothing that was opened, milliseconds of its clock.
    pub(crate) held: Arc<AtomicU64>,
    pub(crate) counters: Counters,
    pub(crate) relays: Relays,
    pub(crate) running: tokio::task::JoinHandle<()>,
}

impl Hand {
    pub(crate) async fn start(relay: &LocalRelay, limits: Limits) -> Self {
        Self::start_at([relay.url()], limits).await
    }

    /// Starts at several relays; the first one that is up is enough.
    pub(crate) async fn start_at(relays: impl IntoIterator<Item = String>, limits: Limits) -> Self {
        let keys = Arc::new(contextvm_runtime::new_keys().unwrap());
        let driver = Driver::connect(DriverOptions {
            keys: Arc::clone(&keys),
            relays: relays.into_iter().map(|url| RelayUrl::parse(&url).unwrap()).collect(),
            addresses: Addresses::Any,
            gift_wrap: GiftWrapMode::Optional,
            limits,
            shutdown_grace: Duration::from_secs(2),
            retry_first: contextvm_runtime::driver::CLIENT_RETRY,
        })
        .unwrap();
        assert!(driver.relays().ready(Duration::from_secs(10)).await);
        let (tell, told) = mpsc::channel(4_096);
        let (hear, heard) = mpsc::channel(4_096);
        let (say, limits) = mpsc::unbounded_channel();
        let (counters, relays) = (driver.counters(), driver.relays());
        let gate = Gate::for_server(keys.public_key(), &ServerConfig::default());
        let held = Arc::<AtomicU64>::default();
        let puppet =
            Puppet { told, effects: VecDeque::new(), heard: hear, limits: say, held: Arc::clone(&held) };
        let running = tokio::spawn(driver.run(puppet, gate));
        Self { keys, tell, heard, limits, held, counters, relays, running }
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.keys.public_key()
    }

    pub(crate) async fn publish(&self, ticket: u64, to: PublicKey, content: String, protection: Protection) {
        self.answer(ticket, (to, content, protection), None, Reach::All).await;
    }

    /// Publishes what is about an event that was opened.
    pub(crate) async fn answer(
        &self,
        ticket: u64,
        (to, content, protection): (PublicKey, String, Protection),
        about: Option<EventId>,
        reach: Reach,
    ) {
        let is_frame = content.contains("notifications/progress");
        let tags = Tags::from_list(vec![Tag::public_key(to)]);
        let draft = Draft::new(self.key(), contextvm_runtime::clock::unix_now(), tags, content);
        let outbound =
            Outbound { ticket: Ticket(ticket), draft, recipient: to, protection, is_frame, about, reach };
        self.tell.send(Effect::Publish(outbound)).await.unwrap();
    }

    pub(crate) async fn heard(&mut self) -> Heard {
        tokio::time::timeout(Duration::from_secs(20), self.heard.recv())
            .await
            .expect("in time")
            .expect("heard")
    }

    pub(crate) async fn opened(&mut self) -> Opened {
        match self.heard().await {
            Heard::Opened(opened) => *opened,
            other @ Heard::Published(..) => panic!("{other:?}"),
        }
    }

    pub(crate) async fn published(&mut self) -> (Ticket, Outcome) {
        match self.heard().await {
            Heard::Published(ticket, outcome) => (ticket, outcome),
            other @ Heard::Opened(_) => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn relay() -> LocalRelay {
    LocalRelay::start(RelayOptions::default()).await.unwrap()
}
