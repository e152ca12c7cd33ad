//! The task that announces: the machine, the MCP application inside the process, and the relays.
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use contextvm_announce::{
    Announcer, AnnouncerConfig, AnnouncerInput, AnnouncerOutput, Answer, Signed, Unsigned, Withdrawal,
};
use contextvm_core::{Envelope, Limits, kind};
use contextvm_crypto::Keys;
use contextvm_relay::{Post, PostReport, PublishEvent, Query};
use contextvm_runtime::Clock;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nostr::event::EventId;
use nostr::key::PublicKey;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::{AnnounceOptions, AnnounceStatus, AnnounceTargets, Announced, sign, status};
use crate::local::{LocalCaller, LocalError, LocalSender};
use crate::{Price, ServerHandle};

/// Longest wait for what relays hold of an earlier run.
const RECALL: Duration = Duration::from_secs(5);
/// Longest wait for an answer that the machine has long given up on.
const ANSWER: Duration = Duration::from_secs(120);
/// A request of MCP that lasts as long as its session.
const LISTEN: &str = "subscriptions/listen";

/// What the application says to an announcing server.
#[derive(Debug)]
pub(super) enum Order {
    /// Other options, and the targets that follow from them.
    Update(Box<(AnnounceOptions, AnnounceTargets)>),
    /// Ask everything anew.
    Refresh,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What happened.
enum Happening {
    /// In this session, to this question.
    Answered(u64, u64, Answer),
    Heard(Option<String>),
    Posted(Option<PostReport>),
    Prices(Vec<Price>),
    Order(Order),
    Wake,
    CatchUp,
    Renewal,
    Over,
}

/// One announcing server.
pub(super) struct Run {
    server: ServerHandle,
    keys: Arc<Keys>,
    options: AnnounceOptions,
    targets: AnnounceTargets,
    /// Nothing is sent: what would be is only signed.
    on_paper: bool,
    machine: Announcer,
    /// Whether the relays were asked what they hold of an earlier run.
    recalled: bool,
    clock: Clock,
    prices: watch::Receiver<Vec<Price>>,
    orders: mpsc::Receiver<Order>,
    local: Option<LocalCaller>,
    session: u64,
    asked: FuturesUnordered<Boxed<(u64, u64, Answer)>>,
    /// Events that wait for the publication under way.
    waiting: Vec<(u64, PublishEvent)>,
    posting: Option<Boxed<Option<PostReport>>>,
    /// The events of the publication under way.
    posted: Vec<(u64, EventId)>,
    status: watch::Sender<AnnounceStatus>,
    catch_up: Interval,
    renewal: Interval,
}

impl Run {
    pub(super) fn new(
        server: ServerHandle,
        options: AnnounceOptions,
        targets: AnnounceTargets,
        orders: mpsc::Receiver<Order>,
        on_paper: bool,
    ) -> (Self, watch::Receiver<AnnounceStatus>) {
        let (status, seen) =
            watch::channel(AnnounceStatus { targets: targets.clone(), ..AnnounceStatus::default() });
        let mut prices = server.watch_prices();
        let config = options.machine(&server, &targets, prices.borrow_and_update().clone());
        let (catch_up, renewal) = (every(options.catch_up), every(options.renewal));
        let run = Self {
            keys: server.keys(),
            machine: Announcer::new(server.public_key(), config),
            server,
            options,
            targets,
            on_paper,
            recalled: false,
            clock: Clock::start(),
            prices,
            orders,
            local: None,
            session: 0,
            asked: FuturesUnordered::new(),
            waiting: Vec::new(),
            posting: None,
            posted: Vec::new(),
            status,
            catch_up,
            renewal,
        };
        (run, seen)
    }

    /// Announces until the server is shut down; on paper until everything has been said once.
    pub(super) async fn run(mut self) {
        self.recall().await;
        self.tell(AnnouncerInput::Start);
        while !(self.on_paper && self.machine.is_settled()) {
            match self.next().await {
                Happening::Answered(session, ask, answer) if session == self.session => {
                    self.tell(AnnouncerInput::Answered { ask, answer });
                }
                Happening::Answered(..) => {}
                Happening::Heard(Some(method)) => self.tell(AnnouncerInput::Heard(method)),
                Happening::Heard(None) => {
                    self.local = None;
                    self.tell(AnnouncerInput::Ended);
                }
                Happening::Posted(report) => self.on_posted(report),
                Happening::Prices(prices) => self.configure(prices),
                Happening::CatchUp => self.catch_up(),
                Happening::Renewal | Happening::Order(Order::Refresh) => self.tell(AnnouncerInput::Start),
                Happening::Order(Order::Update(update)) => self.update(*update).await,
                Happening::Wake => self.tell(AnnouncerInput::Wake),
                Happening::Over => return,
            }
        }
    }

    /// Learns once what the relays hold of an earlier run, before the first event is stamped.
    async fn recall(&mut self) {
        if self.recalled || self.on_paper || !self.options.publishes_anything() {
            return;
        }
        self.recalled = true;
        let inputs = tokio::select! {
            inputs = recall(self.server.public_key(), &self.keys, &self.targets) => inputs,
            () = self.server.closed() => return,
        };
        inputs.into_iter().for_each(|input| self.machine.handle(input, self.clock.now()));
    }

    async fn next(&mut self) -> Happening {
        let due = self.machine.poll_timeout().map(|(at, _why)| self.clock.instant(at));
        let wake = async {
            match due {
                Some(at) => tokio::time::sleep_until(at).await,
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            () = self.server.closed() => Happening::Over,
            Some((session, ask, answer)) = self.asked.next(), if !self.asked.is_empty() => {
                Happening::Answered(session, ask, answer)
            }
            heard = heard(self.local.as_mut()) => Happening::Heard(heard),
            report = posted(self.posting.as_mut()) => Happening::Posted(report),
            Ok(()) = self.prices.changed() => Happening::Prices(self.prices.borrow_and_update().clone()),
            Some(order) = self.orders.recv() => Happening::Order(order),
            () = wake => Happening::Wake,
            _now = self.catch_up.tick() => Happening::CatchUp,
            _now = self.renewal.tick() => Happening::Renewal,
        }
    }

    /// Tells the machine something and does what it wants.
    fn tell(&mut self, input: AnnouncerInput) {
        let now = self.clock.now();
        self.machine.handle(input, now);
        while let Some(output) = self.machine.poll_output() {
            match output {
                AnnouncerOutput::Open => self.open(),
                AnnouncerOutput::Ask { ask, method, params } => self.ask(ask, method, params),
                AnnouncerOutput::Tell(method) => {
                    if let Some(local) = &self.local {
                        // A session that is over says so itself.
                        let _over = local.notify(method, None);
                    }
                }
                AnnouncerOutput::Publish { ticket, event } => self.publish(ticket, event),
                AnnouncerOutput::Failed(error) => {
                    tracing::warn!(%error, "something could not be announced");
                    self.status.send_modify(|status| status.failed(error, now.unix));
                }
                AnnouncerOutput::Noted(note) => self.status.send_modify(|status| status.noted(note)),
                AnnouncerOutput::Settled => {}
            }
        }
        self.post();
        let settled = self.machine.is_settled();
        self.status.send_if_modified(|status| core::mem::replace(&mut status.settled, settled) != settled);
    }

    fn open(&mut self) {
        self.session += 1;
        // The old one must be gone first, or the new one's questions could meet its end.
        self.local = None;
        match self.server.open_local() {
            Ok(local) => self.local = Some(local),
            Err(error) => {
                tracing::debug!(%error, "no session with the application");
                self.machine.handle(AnnouncerInput::Ended, self.clock.now());
            }
        }
    }

    fn ask(&mut self, ask: u64, method: &'static str, params: String) {
        let (session, sender) = (self.session, self.local.as_ref().map(LocalCaller::sender));
        self.asked.push(Box::pin(async move {
            let answer = match sender {
                Some(sender) => answer(&sender, method, params).await,
                None => Answer::Silence,
            };
            (session, ask, answer)
        }));
    }

    fn publish(&mut self, ticket: u64, draft: Unsigned) {
        let about = about(&draft);
        let now = self.clock.now();
        let id = draft.id(&self.keys.public_key());
        // What goes out again is the same event to the last byte.
        let again = self.status.borrow().event(about).map(|announced| announced.event.clone());
        let event = match again.filter(|event| event.id == id) {
            Some(event) => Ok(event),
            None => sign::sign(&self.keys, draft),
        };
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, "an announcement could not be signed");
                return self.machine.handle(AnnouncerInput::Published { ticket, taken: false }, now);
            }
        };
        self.status.send_modify(|status| status.sending(about, &event));
        if self.on_paper {
            return self.machine.handle(AnnouncerInput::Published { ticket, taken: true }, now);
        }
        self.waiting.push((ticket, sign::print(&event)));
    }

    /// Sends what waits, unless a publication is under way.
    fn post(&mut self) {
        if self.posting.is_some() || self.waiting.is_empty() {
            return;
        }
        let (posted, events) =
            self.waiting.drain(..).map(|(ticket, event)| ((ticket, event.id), event)).unzip();
        self.posted = posted;
        let post = Post::new(events).with_signer(self.keys.clone()).with_deadline(self.options.deadline);
        let targets = self.targets.all();
        self.posting = Some(Box::pin(async move {
            let report = post.to(&targets).await;
            report.inspect_err(|error| tracing::warn!(%error, "nothing could be sent to the relays")).ok()
        }));
    }

    fn on_posted(&mut self, report: Option<PostReport>) {
        self.posting = None;
        let unix = self.clock.now().unix;
        let words = report.map(status::words).unwrap_or_default();
        let tickets = core::mem::take(&mut self.posted);
        for (id, per_relay) in &words {
            for word in per_relay.iter().filter(|word| !word.outcome.is_success()) {
                let is_bootstrap = self.targets.bootstrap.contains(&word.url);
                log(word, is_bootstrap);
            }
            self.status.send_modify(|status| status.sent(*id, per_relay.clone(), unix));
        }
        for (ticket, id) in tickets {
            let word = words.iter().find(|(posted, _)| *posted == id);
            let taken = word.is_some_and(|(_, relays)| relays.iter().any(|word| word.outcome.is_success()));
            self.tell(AnnouncerInput::Published { ticket, taken });
        }
    }

    /// Sends everything once more if a relay was out of reach the last time; the others know it already.
    fn catch_up(&mut self) {
        if self.status.borrow().events.iter().any(Announced::is_missed) {
            self.tell(AnnouncerInput::Repeat);
        }
    }

    fn configure(&mut self, prices: Vec<Price>) {
        let config: AnnouncerConfig = self.options.machine(&self.server, &self.targets, prices);
        self.tell(AnnouncerInput::Configure(Box::new(config)));
    }

    async fn update(&mut self, (options, targets): (AnnounceOptions, AnnounceTargets)) {
        let known = self.targets.all();
        let grew = targets.all().iter().any(|url| !known.contains(url));
        (self.catch_up, self.renewal) = (every(options.catch_up), every(options.renewal));
        (self.options, self.targets) = (options, targets);
        self.status.send_modify(|status| status.targets = self.targets.clone());
        self.recall().await;
        let prices = self.prices.borrow_and_update().clone();
        self.configure(prices);
        if grew {
            self.tell(AnnouncerInput::Repeat);
        }
    }
}

/// Ticks for the first time after one period, which is at least a millisecond.
fn every(period: Duration) -> Interval {
    let period = period.max(Duration::from_millis(1));
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Waits for the method of the next notification of the application; `None` when the session is over.
async fn heard(local: Option<&mut LocalCaller>) -> Option<String> {
    let Some(local) = local else { return core::future::pending().await };
    loop {
        let message = local.recv().await?;
        let method = Envelope::parse(&message, &Limits::default()).ok().and_then(|envelope| envelope.method);
        if let Some(method) = method {
            return Some(method.into_owned());
        }
    }
}

async fn posted(posting: Option<&mut Boxed<Option<PostReport>>>) -> Option<PostReport> {
    match posting {
        Some(posting) => posting.await,
        None => core::future::pending().await,
    }
}

async fn answer(sender: &LocalSender, method: &str, params: String) -> Answer {
    let Ok(params) = RawValue::from_string(params) else { return Answer::Silence };
    let deadline = (method != LISTEN).then_some(ANSWER);
    match sender.request_within(method, Some(&params), deadline).await {
        Ok(result) => Answer::Result(result),
        Err(LocalError::Refused { code, .. }) => Answer::Error(code),
        Err(error) => {
            tracing::debug!(%error, method, "the application gave no answer");
            Answer::Silence
        }
    }
}

/// Asks the relays what they hold of an earlier run, so that nothing new is stamped lower.
async fn recall(me: PublicKey, keys: &Arc<Keys>, targets: &AnnounceTargets) -> Vec<AnnouncerInput> {
    let query = Query::new(super::own_filter(&me, &super::ALL_KINDS))
        .with_filter(super::own_filter(&me, &[kind::DELETION]))
        .with_signer(keys.clone())
        .with_deadline(RECALL)
        .with_settle(RECALL);
    let report = match query.ask(&targets.all()).await {
        Ok(report) => report,
        Err(error) => {
            tracing::warn!(%error, "relays could not be asked for earlier announcements");
            return Vec::new();
        }
    };
    let own = report.events().filter_map(|(_, json)| Signed::read(json).ok());
    own.filter(|event| event.event().pubkey == me).flat_map(|event| known(&event)).collect()
}

/// What an own event says about stamps.
fn known(event: &Signed) -> Vec<AnnouncerInput> {
    let known = |kind, created_at, id| AnnouncerInput::Known { kind, created_at, id };
    if let Some(withdrawal) = Withdrawal::read(event) {
        return withdrawal.kinds.iter().map(|kind| known(*kind, withdrawal.created_at, None)).collect();
    }
    let event = event.event();
    vec![known(event.kind.as_u16(), event.created_at.as_secs(), Some(event.id))]
}

/// The replaceable kind that a draft is about.
fn about(draft: &Unsigned) -> u16 {
    let named = draft.tags.iter().find(|tag| draft.kind == kind::DELETION && tag.kind() == "k");
    named.and_then(|tag| tag.content()?.parse().ok()).unwrap_or(draft.kind)
}

fn log(word: &status::RelayWord, is_bootstrap: bool) {
    let (relay, outcome) = (word.url.as_str(), &word.outcome);
    if is_bootstrap {
        tracing::debug!(relay, ?outcome, "a public relay did not take an announcement");
    } else {
        tracing::warn!(relay, ?outcome, "a relay did not take an announcement");
    }
}
