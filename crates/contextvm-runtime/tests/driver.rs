//! The driver with an endpoint that does what the test tells it, over a real relay.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::{Draft, Limits, Mono, Now, Opened, Protection, WrapKind};
use contextvm_crypto::Keys;
use contextvm_engine::gate::Gate;
use contextvm_engine::{GiftWrapMode, Outbound, Outcome, ServerConfig, Ticket};
use contextvm_local_relay::{Faults, LocalRelay, RelayOptions};
use contextvm_relay::{Addresses, PublishEvent, Relays, RelaysConfig};
use contextvm_runtime::{Counters, Driver, DriverOptions, Effect, Endpoint, Input};
use nostr::event::{Tag, Tags};
use nostr::key::PublicKey;
use nostr::types::RelayUrl;
use tokio::sync::mpsc;

/// Does what it is told and reports what it hears.
struct Puppet {
    told: mpsc::Receiver<Effect>,
    effects: VecDeque<Effect>,
    heard: mpsc::Sender<Heard>,
}

#[derive(Debug)]
enum Heard {
    Opened(Box<Opened>),
    Published(Ticket, Outcome),
}

impl Endpoint for Puppet {
    type Event = Effect;
    const KEEPS: bool = true;

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
            Input::RelayUp | Input::Wake => {}
        }
    }

    fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_timeout(&self) -> Option<Mono> {
        None
    }

    fn owes(&self) -> bool {
        false
    }
}

/// A running puppet.
struct Hand {
    keys: Arc<Keys>,
    tell: mpsc::Sender<Effect>,
    heard: mpsc::Receiver<Heard>,
    counters: Counters,
    relays: Relays,
    running: tokio::task::JoinHandle<()>,
}

impl Hand {
    async fn start(relay: &LocalRelay, limits: Limits) -> Self {
        let keys = Arc::new(contextvm_runtime::new_keys().unwrap());
        let driver = Driver::connect(DriverOptions {
            keys: Arc::clone(&keys),
            relays: vec![RelayUrl::parse(&relay.url()).unwrap()],
            addresses: Addresses::Any,
            gift_wrap: GiftWrapMode::Optional,
            limits,
            shutdown_grace: Duration::from_secs(2),
        })
        .unwrap();
        assert!(driver.relays().ready(Duration::from_secs(10)).await);
        let (tell, told) = mpsc::channel(4_096);
        let (hear, heard) = mpsc::channel(4_096);
        let (counters, relays) = (driver.counters(), driver.relays());
        let gate = Gate::for_server(keys.public_key(), &ServerConfig::default());
        let puppet = Puppet { told, effects: VecDeque::new(), heard: hear };
        let running = tokio::spawn(driver.run(puppet, gate));
        Self { keys, tell, heard, counters, relays, running }
    }

    fn key(&self) -> PublicKey {
        self.keys.public_key()
    }

    async fn publish(&self, ticket: u64, to: PublicKey, content: String, protection: Protection) {
        let tags = Tags::from_list(vec![Tag::public_key(to)]);
        let draft = Draft::new(self.key(), contextvm_runtime::clock::unix_now(), tags, content);
        let outbound = Outbound { ticket: Ticket(ticket), draft, recipient: to, protection };
        self.tell.send(Effect::Publish(outbound)).await.unwrap();
    }

    async fn heard(&mut self) -> Heard {
        tokio::time::timeout(Duration::from_secs(20), self.heard.recv())
            .await
            .expect("in time")
            .expect("heard")
    }

    async fn opened(&mut self) -> Opened {
        match self.heard().await {
            Heard::Opened(opened) => *opened,
            other @ Heard::Published(..) => panic!("{other:?}"),
        }
    }

    async fn published(&mut self) -> (Ticket, Outcome) {
        match self.heard().await {
            Heard::Published(ticket, outcome) => (ticket, outcome),
            other @ Heard::Opened(_) => panic!("{other:?}"),
        }
    }
}

async fn relay() -> LocalRelay {
    LocalRelay::start(RelayOptions::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_in_order_is_opened_in_order() {
    let relay = relay().await;
    let sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits { open_queue: 8, ..Limits::default() }).await;
    let wraps = [
        Protection::Wrapped(WrapKind::Ephemeral),
        Protection::Wrapped(WrapKind::Persistent),
        Protection::Plain,
    ];
    for n in 0..300_u64 {
        // Sizes differ so that later ones would be ready first.
        let padding = " ".repeat(usize::try_from((299 - n) * 40).unwrap());
        let protection = wraps[usize::try_from(n % 3).unwrap()];
        sender.publish(n, receiver.key(), format!("{n}{padding}"), protection).await;
    }
    for n in 0..300_u64 {
        assert_eq!(receiver.opened().await.event().content.trim(), n.to_string());
    }
    assert_eq!(receiver.counters.read().opened, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_whose_clock_is_minutes_fast_hears_everybody() {
    let relay = relay().await;
    let sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits::default()).await;
    let recipient = receiver.key();
    let tags = Tags::from_list(vec![Tag::public_key(recipient)]);
    // To a clock that is nine minutes fast, what is stamped now was stamped nine minutes ago.
    let stamp = contextvm_runtime::clock::unix_now() - 540;
    let draft = Draft::new(sender.key(), stamp, tags, "x".into());
    let outbound = Outbound { ticket: Ticket(1), draft, recipient, protection: Protection::Plain };
    sender.tell.send(Effect::Publish(outbound)).await.unwrap();
    assert_eq!(receiver.opened().await.event().content, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_republication_repeats_the_outer_event_or_makes_a_new_wrap_around_the_same_inner_one() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits::default()).await;
    let wrap = Protection::Wrapped(WrapKind::Ephemeral);
    sender.publish(1, receiver.key(), "x".into(), wrap).await;
    let first = receiver.opened().await;
    assert_eq!(sender.published().await, (Ticket(1), Outcome::Accepted));

    sender.tell.send(Effect::Republish { ticket: Ticket(1), rewrap: true }).await.unwrap();
    let second = receiver.opened().await;
    assert_eq!(sender.published().await, (Ticket(1), Outcome::Accepted));
    assert_eq!(first.event(), second.event());
    assert_ne!(first.outer(), second.outer());

    sender.tell.send(Effect::Republish { ticket: Ticket(1), rewrap: false }).await.unwrap();
    assert_eq!(sender.published().await, (Ticket(1), Outcome::Accepted), "duplicate: is a success");
    assert_eq!(relay.stats().repeats, 1);

    sender.tell.send(Effect::Forget(Ticket(1))).await.unwrap();
    sender.tell.send(Effect::Republish { ticket: Ticket(1), rewrap: true }).await.unwrap();
    assert!(matches!(sender.published().await, (Ticket(1), Outcome::Refused(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_every_relay_is_reported_in_the_relays_words() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits::default()).await;
    relay.set_faults(Faults { refuse: Some("blocked: not here".into()), ..Faults::default() });
    let to = sender.key();
    sender.publish(9, to, "x".into(), Protection::Plain).await;
    assert_eq!(sender.published().await, (Ticket(9), Outcome::Refused("blocked: not here".into())));
    assert_eq!(sender.counters.read().refused, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_made_can_be_asked_for_again_and_is_refused_again() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits::default()).await;
    let to = sender.key();
    sender.publish(1, to, "x".repeat(70_000), Protection::Wrapped(WrapKind::Ephemeral)).await;
    assert!(matches!(sender.published().await, (Ticket(1), Outcome::Refused(_))));
    sender.tell.send(Effect::Republish { ticket: Ticket(1), rewrap: true }).await.unwrap();
    assert!(matches!(sender.published().await, (Ticket(1), Outcome::Refused(_))));
}

#[tokio::test]
async fn more_than_a_relays_queue_holds_waits_for_room_in_it() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits { outbound_bytes: 50_000, ..Limits::default() }).await;
    let to = contextvm_runtime::new_keys().unwrap().public_key();
    for n in 0..60 {
        sender.publish(n, to, "x".repeat(10_000), Protection::Plain).await;
    }
    for _ in 0..60 {
        assert_eq!(sender.published().await.1, Outcome::Accepted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_in_gift_wraps_of_strangers_is_not_blamed_on_the_relay() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits::default()).await;
    let stranger = contextvm_runtime::new_keys().unwrap();
    let (relays, _inbox) =
        Relays::connect(RelaysConfig::new([RelayUrl::parse(&relay.url()).unwrap()])).unwrap();
    for n in 0..20_u8 {
        let tags = Tags::from_list(vec![Tag::public_key(receiver.key())]);
        let now = contextvm_runtime::clock::unix_now();
        let wrap = stranger.sign_event(21_059, now, tags, format!("rubbish {n}"), [n; 32]);
        let json = contextvm_core::event::print(&wrap).into();
        assert!(relays.publish(PublishEvent { id: wrap.id, json }).await.accepted.is_some());
    }
    sender.publish(1, receiver.key(), "x".into(), Protection::Wrapped(WrapKind::Ephemeral)).await;
    assert_eq!(receiver.opened().await.event().content, "x");
    assert_eq!(sender.published().await, (Ticket(1), Outcome::Accepted));
    assert_eq!(receiver.counters.read().unopened, 20);
    let counts = receiver.relays.statuses().first().unwrap().counts;
    assert_eq!((counts.connections, counts.invalid), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_of_the_relay_is_an_unknown_outcome() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits::default()).await;
    relay.set_faults(Faults { no_ok: true, ..Faults::default() });
    let to = contextvm_runtime::new_keys().unwrap().public_key();
    sender.publish(9, to, "x".into(), Protection::Plain).await;
    assert_eq!(sender.published().await, (Ticket(9), Outcome::Unknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_wrap_is_refused_and_the_next_one_goes_out() {
    let relay = relay().await;
    let mut sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits::default()).await;
    let wrap = Protection::Wrapped(WrapKind::Ephemeral);
    sender.publish(1, receiver.key(), "x".repeat(70_000), wrap).await;
    sender.publish(2, receiver.key(), "small".into(), wrap).await;
    assert!(matches!(sender.published().await, (Ticket(1), Outcome::Refused(_))));
    assert_eq!(receiver.opened().await.event().content, "small");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_published_before_the_end() {
    let relay = relay().await;
    let sender = Hand::start(&relay, Limits::default()).await;
    let mut receiver = Hand::start(&relay, Limits::default()).await;
    for n in 0..50 {
        sender.publish(n, receiver.key(), n.to_string(), Protection::Wrapped(WrapKind::Ephemeral)).await;
    }
    sender.tell.send(Effect::Stop).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), sender.running).await.expect("in time").unwrap();
    for n in 0..50 {
        assert_eq!(receiver.opened().await.event().content, n.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_does_not_wait_for_a_relay_that_never_answers() {
    let relay = relay().await;
    let sender = Hand::start(&relay, Limits::default()).await;
    relay.set_faults(Faults { mute: true, ..Faults::default() });
    let to = sender.key();
    sender.publish(1, to, "x".into(), Protection::Plain).await;
    sender.tell.send(Effect::Stop).await.unwrap();
    let started = std::time::Instant::now();
    tokio::time::timeout(Duration::from_secs(10), sender.running).await.expect("in time").unwrap();
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}
