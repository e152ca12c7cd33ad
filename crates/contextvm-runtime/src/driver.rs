//! The loop: relays, cryptography, application, timer; handle; drain.
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::{Limits, Now};
use contextvm_crypto::Keys;
use contextvm_engine::GiftWrapMode;
use contextvm_engine::gate::Gate;
use contextvm_relay::{Addresses, AuthSigner, Inbox, Incoming, Relays, RelaysConfig, Timing};
use contextvm_store::Store;
use futures_util::FutureExt as _;
use nostr::types::RelayUrl;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::endpoint::{Effect, Endpoint, Input};
use crate::inbound::Intake;
use crate::outbound::{Done, Outbox, Sealed};
use crate::relay_limit::RelayLimit;
use crate::remember::{Remembering, Settled};
use crate::stats::Counters;
use crate::subscription;

/// Inputs that are handled before the work they made is begun and the loop waits again.
const BATCH: usize = 64;

/// What differs by less is the same to a clock, seconds.
const CLOCK_CHANGE: u64 = 5;

/// How long answers under way may take at shutdown by default.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// What a driver is told at start.
#[derive(Clone, Debug)]
pub struct DriverOptions {
    /// The endpoint's identity.
    pub keys: Arc<Keys>,
    /// The relays to use.
    pub relays: Vec<RelayUrl>,
    /// Which network addresses may be dialled.
    pub addresses: Addresses,
    /// Which gift wraps are subscribed to.
    pub gift_wrap: GiftWrapMode,
    /// Bounds.
    pub limits: Limits,
    /// How long what is under way may take at shutdown.
    pub shutdown_grace: Duration,
    /// Longest delay before a lost connection is tried again, while it was not away for long.
    ///
    /// [`CLIENT_RETRY`], or [`SERVER_RETRY`] for who is waited for.
    pub retry_first: Duration,
}

/// The first delay of a client: all clients of a relay that restarts come back within this time.
pub const CLIENT_RETRY: Duration = Duration::from_millis(500);
/// The first delay of a server: what its callers publish when they are back themselves finds it there.
pub const SERVER_RETRY: Duration = Duration::from_millis(150);

/// Why a driver could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The host gives no randomness.
    #[error("the host gives no randomness")]
    NoEntropy,
    /// The relays cannot be used.
    #[error("the relays cannot be used: {0}")]
    Relays(#[from] contextvm_relay::RelayError),
}

/// A connected driver that waits for its endpoint.
pub struct Driver {
    options: DriverOptions,
    relays: Relays,
    inbox: Inbox,
    counters: Counters,
    clock: Clock,
    store: Option<Arc<Store>>,
    seed: [u8; 32],
}

impl Driver {
    /// Begins to connect and to subscribe; [`Relays::ready`] says when that is done.
    ///
    /// # Errors
    /// Fails when the host gives no randomness or the relays cannot be used.
    pub fn connect(options: DriverOptions) -> Result<Self, StartError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| StartError::NoEntropy)?;
        let me = options.keys.public_key();
        let signer: Arc<dyn AuthSigner> = options.keys.clone();
        let config = RelaysConfig::new(options.relays.clone())
            .with_filter(subscription::filter(&me, options.gift_wrap, options.limits.age_window)?)
            .with_limits(options.limits.clone())
            .with_addresses(options.addresses)
            .with_timing(Timing { retry_first: options.retry_first, ..Timing::default() })
            .with_signer(signer);
        let (relays, inbox) = Relays::connect(config)?;
        let (counters, clock) = (Counters::default(), Clock::start());
        Ok(Self { options, relays, inbox, counters, clock, store: None, seed })
    }

    /// Sets where [`Effect::Remember`] goes. Without a store everything is taken for remembered.
    #[must_use]
    pub fn with_store(mut self, store: Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Reads the clocks by which the endpoint will live.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Returns the connections.
    #[must_use]
    pub fn relays(&self) -> Relays {
        self.relays.clone()
    }

    /// Returns the counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }

    /// Returns the seed for the endpoint's machine.
    #[must_use]
    pub const fn seed(&self) -> [u8; 32] {
        self.seed
    }

    /// Runs an endpoint until it stops, then closes the relays.
    pub async fn run<E: Endpoint>(self, endpoint: E, gate: Gate) {
        let Self { options, relays, inbox, counters, clock, store, seed: _ } = self;
        let limits = Arc::new(options.limits);
        let intake = Intake::new(
            gate,
            Arc::clone(&options.keys),
            Arc::clone(&limits),
            relays.clone(),
            counters.clone(),
            E::DROPS_LATER,
        );
        let outbox = Outbox::new(E::KEEPS, options.keys, relays.clone(), &limits, counters.clone());
        let limit = RelayLimit::new(relays.clone());
        let remembering = Remembering::new(store, counters.clone());
        let grace = options.shutdown_grace;
        let running = Running {
            endpoint,
            relays: relays.clone(),
            clock_ahead: 0,
            inbox,
            intake,
            outbox,
            limit,
            remembering,
            counters,
            clock,
            grace,
            stop_at: None,
        };
        Box::pin(running.run()).await;
        relays.shutdown().await;
    }
}

/// Time that is given to the rest at most; more than a clock can count is meant as "for all of it".
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 86_400);

/// What woke the loop.
enum Step<E> {
    Incoming(Option<Incoming>),
    Input(Option<Input<E>>),
    Made(Option<Box<Sealed>>),
    Late,
    StopNow,
}

struct Running<E: Endpoint> {
    endpoint: E,
    relays: Relays,
    /// Seconds by which our clock is known to be ahead of the relays'.
    clock_ahead: i64,
    inbox: Inbox,
    intake: Intake,
    outbox: Outbox,
    limit: RelayLimit,
    remembering: Remembering,
    counters: Counters,
    clock: Clock,
    grace: Duration,
    /// Set once the endpoint stops: the time at which everything left is given up.
    stop_at: Option<Instant>,
}

impl<E: Endpoint> Running<E> {
    async fn run(mut self) {
        self.work().await;
        // What was answered and is lost is not executed again, but its caller would only learn of a restart.
        self.remembering.finish(self.grace).await;
    }

    async fn work(&mut self) {
        loop {
            let mut step = Some(self.step().await);
            let mut left = BATCH;
            while let Some(next) = step {
                if self.take(next).is_break() {
                    return;
                }
                left -= 1;
                step = if left > 0 { self.step().now_or_never() } else { None };
            }
            self.intake.start();
            self.outbox.start();
            self.remembering.start(self.intake.is_running());
            if self.stop_at.is_some() && self.outbox.is_idle() && !self.endpoint.owes() {
                return;
            }
        }
    }

    /// Handles what woke the loop, without awaiting anything.
    fn take(&mut self, step: Step<E::Event>) -> ControlFlow<()> {
        let now = self.clock.now();
        match step {
            Step::Incoming(Some(Incoming::Event { relay, number, json, stored })) => {
                self.intake.take((relay, number), &json, stored, now);
                return ControlFlow::Continue(());
            }
            Step::Incoming(Some(Incoming::Up { relay, url })) => {
                tracing::info!(relay, %url, "relay up");
                self.limit.up(relay);
                self.look_at_clock(now);
                self.endpoint.handle(Input::RelayUp, now);
            }
            Step::Incoming(Some(Incoming::Down { relay, url, reason })) => {
                tracing::info!(relay, %url, ?reason, "relay down");
                self.limit.down();
            }
            Step::Incoming(None) => self.stop(),
            Step::Input(Some(input)) => self.endpoint.handle(input, now),
            Step::Input(None) => {}
            Step::Made(sealed) => {
                if let Some((ticket, outcome)) = self.outbox.send_made(sealed, |id| self.intake.via(id)) {
                    self.endpoint.handle(Input::Published(ticket, outcome), now);
                }
            }
            Step::Late => self.outbox.send_late(|id| self.intake.via(id)),
            Step::StopNow => return ControlFlow::Break(()),
        }
        self.drain();
        self.intake.settled();
        ControlFlow::Continue(())
    }

    /// Compares our clock with those of the relays.
    fn look_at_clock(&mut self, now: Now) {
        let ahead = self.relays.clock_ahead().unwrap_or(0);
        let change = ahead.abs_diff(self.clock_ahead);
        if change > CLOCK_CHANGE {
            self.clock_ahead = ahead;
            tracing::warn!(
                seconds = ahead,
                "the clock of this host is ahead of the relays' by that (behind, if negative)"
            );
            self.endpoint.handle(Input::ClockAhead(ahead), now);
        }
    }

    /// Waits for the next thing; every branch is cancel-safe.
    async fn step(&mut self) -> Step<E::Event> {
        let held = self.endpoint.holds_until().filter(|until| *until > self.clock.now().mono);
        let due = self.endpoint.poll_timeout().into_iter().chain(held).min();
        let timer = sleep_until(due.map(|mono| self.clock.instant(mono)));
        let end = sleep_until(self.stop_at);
        let room = self.outbox.has_room();
        let intake_open = self.stop_at.is_none() && held.is_none() && room && self.intake.has_room();
        let opened_due = held.is_none() && self.intake.is_running();
        tokio::select! {
            incoming = self.inbox.recv(), if intake_open => Step::Incoming(incoming),
            opened = self.intake.next(), if opened_due => Step::Input(opened.map(Input::Opened)),
            event = self.endpoint.next(), if room => Step::Input(Some(Input::App(event))),
            done = self.outbox.next() => match done {
                Done::Made(sealed) => Step::Made(sealed),
                Done::Late => Step::Late,
                Done::Ended(ticket, outcome) => Step::Input(Some(Input::Published(ticket, outcome))),
            },
            bytes = self.limit.next(), if self.stop_at.is_none() => Step::Input(Some(Input::RelayLimit(bytes))),
            settled = self.remembering.next() => Step::Input(Some(told(settled))),
            () = timer => Step::Input(Some(Input::Wake)),
            () = end => Step::StopNow,
        }
    }

    /// Does everything that the endpoint wants, without awaiting anything.
    fn drain(&mut self) {
        while let Some(effect) = self.endpoint.poll() {
            match effect {
                Effect::Publish(outbound) => {
                    self.limit.publishing(outbound.draft.content.len());
                    self.outbox.publish(outbound);
                }
                Effect::Republish { ticket, rewrap } => self.outbox.republish(ticket, rewrap),
                Effect::Forget(ticket) => self.outbox.forget(ticket),
                Effect::Remember { number, record } => self.remembering.push(number, record),
                Effect::Drop { event, reason } => {
                    self.counters.drop(reason);
                    self.intake.refused(event, reason);
                }
                Effect::Stop => self.stop(),
            }
        }
    }

    fn stop(&mut self) {
        if self.stop_at.is_none() {
            self.stop_at = Some(Instant::now() + self.grace.min(LONGEST_GRACE));
        }
    }
}

const fn told<E>(Settled { through, is_kept }: Settled) -> Input<E> {
    if is_kept { Input::Remembered(through) } else { Input::Unstored(through) }
}

/// Sleeps until an instant, or for ever.
pub(crate) async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => core::future::pending().await,
    }
}
