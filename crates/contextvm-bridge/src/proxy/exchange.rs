//! The server side of a proxy: one client on Nostr, made anew when it is lost, and the hosts that share it.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::Pin;
use std::time::{Duration, Instant};

use contextvm_client::{Client, ClientOptions, Messages};
use contextvm_core::Limits;
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::{self, Object, quote};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nostr::nips::nip19::ToBech32 as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::conversation::{Counterpart, Heard, Readiness, Said};
use super::switchboard::{Act, LOCAL, Switchboard};
use crate::answer::{Failure, TIMED_OUT};
use crate::notice::{Notice, Reporter};

/// Messages of hosts that may wait for the first connection, and their bytes.
const HELD: (usize, usize) = (256, 8 * 1024 * 1024);
/// Messages that may wait in either direction before the other side is not listened to any more.
const WAITING: usize = 256;
/// How long the farewell may take.
pub(super) const FAREWELL: Duration = Duration::from_millis(500);
/// First and longest pause between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often it is looked for what takes too long.
const SWEEP: Duration = Duration::from_secs(1);

/// What a server side is told at its start.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) options: ClientOptions,
    pub(super) reporter: Reporter,
    pub(super) hint: String,
    pub(super) ready: Readiness,
}

type NextSaid = Pin<Box<dyn Future<Output = (u64, mpsc::Receiver<Said>, Option<Said>)> + Send>>;
type Connecting = Pin<Box<dyn Future<Output = Result<(Client, Messages), contextvm_client::Error>> + Send>>;

/// How it stands with the server.
enum Link {
    Connecting {
        attempt: Connecting,
        since: Instant,
    },
    Live {
        client: Client,
        messages: Messages,
    },
    /// Until then every request is refused.
    Pausing {
        until: tokio::time::Instant,
        failure: Failure,
    },
}

/// What has just happened.
enum Event {
    Stop,
    Opened(Option<Counterpart>),
    Said(u64, mpsc::Receiver<Said>, Option<Said>),
    Connected(Result<(Client, Messages), contextvm_client::Error>),
    Heard(Option<String>),
    Sent(bool),
    Delivered,
    Resume,
    Sweep,
}

/// The loop's memory.
struct Room {
    setup: Exchange,
    limits: Limits,
    link: Link,
    pause: Duration,
    board: Switchboard,
    hosts: BTreeMap<u64, mpsc::Sender<Heard>>,
    /// Hosts that say nothing more and may still read.
    ended: BTreeSet<u64>,
    said: FuturesUnordered<NextSaid>,
    /// What hosts said before there was a connection.
    held: VecDeque<(u64, String)>,
    to_server: VecDeque<String>,
    to_hosts: VecDeque<(u64, Heard)>,
    next_host: u64,
    all_opened: bool,
}

impl Exchange {
    /// Serves conversations until all are over and no more can come, or until `stop`.
    pub(super) async fn run(self, mut opened: mpsc::Receiver<Counterpart>, stop: CancellationToken) {
        let limits = self.options.config.limits.clone();
        let nonce = RandomState::new().build_hasher().finish();
        let mut room = Room {
            link: connecting(&self.options),
            board: Switchboard::new(limits.clone(), nonce),
            limits,
            setup: self,
            pause: PAUSES.0,
            hosts: BTreeMap::new(),
            ended: BTreeSet::new(),
            said: FuturesUnordered::new(),
            held: VecDeque::new(),
            to_server: VecDeque::new(),
            to_hosts: VecDeque::new(),
            next_host: 0,
            all_opened: false,
        };
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !(room.all_opened && room.hosts.is_empty()) {
            let event = room.next(&mut opened, &mut sweep, &stop).await;
            if matches!(event, Event::Stop) {
                break;
            }
            room.take(event);
            room.setup.ready.set(matches!(room.link, Link::Live { .. }));
            while let Some(act) = room.board.poll() {
                match act {
                    Act::Server(text) => room.to_server.push_back(text),
                    Act::Host(host, heard) => room.to_hosts.push_back((host, heard)),
                }
            }
        }
        room.leave().await;
    }
}

impl Link {
    /// The relays and how it stands with each.
    fn relays(&self) -> impl Iterator<Item = (String, &'static str)> {
        let relays = match self {
            Self::Live { client, .. } => client.status().relays,
            Self::Connecting { .. } | Self::Pausing { .. } => Vec::new(),
        };
        relays.into_iter().map(|(url, up)| (url, if up { "connected" } else { "not connected" }))
    }
}

fn connecting(options: &ClientOptions) -> Link {
    Link::Connecting { attempt: Box::pin(Client::connect(options.clone())), since: Instant::now() }
}

/// Waits for what a host says next and brings its channel back.
fn next_said(host: u64, mut said: mpsc::Receiver<Said>) -> NextSaid {
    Box::pin(async move {
        let next = said.recv().await;
        (host, said, next)
    })
}

impl Room {
    /// Waits for whatever happens first. Every branch is cancel-safe, and none waits for another.
    async fn next(
        &mut self,
        opened: &mut mpsc::Receiver<Counterpart>,
        sweep: &mut tokio::time::Interval,
        stop: &CancellationToken,
    ) -> Event {
        let listening = self.to_hosts.len() < WAITING;
        let hearing = self.to_server.len() < WAITING && self.to_hosts.len() < WAITING * 2;
        let client = match &self.link {
            Link::Live { client, .. } => Some(client.clone()),
            Link::Connecting { .. } | Link::Pausing { .. } => None,
        };
        let first = self.to_server.front().cloned().zip(client);
        let receiver = self.to_hosts.front().map(|(host, _)| self.hosts.get(host).cloned());
        tokio::select! {
            () = stop.cancelled() => Event::Stop,
            counterpart = opened.recv(), if !self.all_opened => Event::Opened(counterpart),
            Some((host, said, next)) = self.said.next(), if hearing => Event::Said(host, said, next),
            event = of_link(&mut self.link, listening) => event,
            sent = async {
                match first {
                    Some((text, client)) => client.send(text).await.is_ok(),
                    None => core::future::pending().await,
                }
            } => Event::Sent(sent),
            () = async {
                match receiver {
                    // A host that is gone makes room, too.
                    Some(Some(receiver)) => drop(receiver.reserve().await),
                    Some(None) => {}
                    None => core::future::pending().await,
                }
            } => Event::Delivered,
            _now = sweep.tick() => Event::Sweep,
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Stop => {}
            Event::Opened(None) => self.all_opened = true,
            Event::Opened(Some(counterpart)) => {
                self.next_host += 1;
                self.hosts.insert(self.next_host, counterpart.heard);
                self.said.push(next_said(self.next_host, counterpart.said));
                self.board.opened(self.next_host);
            }
            Event::Said(host, _, None) => self.host_ended(host),
            Event::Said(host, said, Some(next)) => {
                match next {
                    Said::Message(text) => self.host_said(host, text),
                    Said::Abandon(id) => self.board.abandon(host, &id),
                }
                self.said.push(next_said(host, said));
            }
            Event::Connected(outcome) => self.connected(outcome),
            Event::Heard(Some(text)) => {
                let text = self.with_facts(text);
                self.board.hear_server(&text, Instant::now());
            }
            Event::Heard(None) | Event::Sent(false) => {
                let failure = Failure::new(TIMED_OUT, "closed", "the connection to the server was lost")
                    .with_text("server", &self.server())
                    .with_text("hint", &self.setup.hint);
                self.to_server.clear();
                self.board.lost(&failure);
                self.link = connecting(&self.setup.options);
            }
            Event::Sent(true) => drop(self.to_server.pop_front()),
            Event::Delivered => self.deliver(),
            Event::Resume => self.link = connecting(&self.setup.options),
            Event::Sweep => self.sweep(),
        }
    }

    /// A host has said its last word; what still waited for the connection is answered, because it may still read.
    fn host_ended(&mut self, host: u64) {
        let failure = Failure::new(TIMED_OUT, "closed", "the host ended before the server was reached");
        let (own, others) = core::mem::take(&mut self.held).into_iter().partition(|(from, _)| *from == host);
        self.held = others;
        let own: VecDeque<(u64, String)> = own;
        for (host, text) in own {
            self.refuse(host, &text, &failure);
        }
        self.board.closed(host);
        self.ended.insert(host);
        self.forget_if_done(host);
    }

    /// Forgets a host that has ended once it has been told everything.
    fn forget_if_done(&mut self, host: u64) {
        if self.ended.contains(&host) && !self.to_hosts.iter().any(|(to, _)| *to == host) {
            self.ended.remove(&host);
            self.hosts.remove(&host);
        }
    }

    fn sweep(&mut self) {
        let (server, hint) = (self.server(), &self.setup.hint);
        let relays = relays_json(self.link.relays());
        let silence = |waited: Duration| {
            Failure::new(TIMED_OUT, "no_reply", "the server does not answer")
                .with_text("server", &server)
                .with_time("waitedMs", waited)
                .with_json("relays", relays.clone())
                .with_text("hint", hint)
        };
        self.board.sweep(Instant::now(), &silence);
    }

    /// Hands the first waiting message to its host, whose channel has room for it.
    fn deliver(&mut self) {
        let Some((host, heard)) = self.to_hosts.pop_front() else { return };
        if let Some(sender) = self.hosts.get(&host)
            && let Err(mpsc::error::TrySendError::Full(heard)) = sender.try_send(heard)
        {
            self.to_hosts.push_front((host, heard));
        }
        self.forget_if_done(host);
    }

    fn host_said(&mut self, host: u64, text: String) {
        match &self.link {
            Link::Live { .. } => self.board.hear_host(host, &text, Instant::now()),
            Link::Connecting { .. } => {
                let bytes: usize = self.held.iter().map(|(_, text)| text.len()).sum();
                if self.held.len() >= HELD.0 || bytes.saturating_add(text.len()) > HELD.1 {
                    let busy = Failure::new(TIMED_OUT, "busy", "too many messages wait for the connection");
                    self.refuse(host, &text, &busy);
                } else {
                    self.held.push_back((host, text));
                }
            }
            Link::Pausing { failure, .. } => {
                let failure = failure.clone();
                self.refuse(host, &text, &failure);
            }
        }
    }

    fn connected(&mut self, outcome: Result<(Client, Messages), contextvm_client::Error>) {
        match outcome {
            Ok((client, messages)) => {
                self.pause = PAUSES.0;
                self.setup.reporter.tell(&Notice::Connected);
                self.link = Link::Live { client, messages };
                self.board.reconnected();
                for (host, text) in core::mem::take(&mut self.held) {
                    self.board.hear_host(host, &text, Instant::now());
                }
            }
            Err(error) => {
                let waited = match &self.link {
                    Link::Connecting { since, .. } => since.elapsed(),
                    Link::Live { .. } | Link::Pausing { .. } => Duration::ZERO,
                };
                let why = error.to_string();
                self.setup.reporter.tell(&Notice::NotConnected { why: why.clone(), again: self.pause });
                let failure = self.unreachable(&why, waited);
                for (host, text) in core::mem::take(&mut self.held) {
                    self.refuse(host, &text, &failure);
                }
                let until = tokio::time::Instant::now() + self.pause;
                self.link = Link::Pausing { until, failure };
                self.pause = (self.pause * 2).min(PAUSES.1);
            }
        }
    }

    /// Answers a message of a host with a failure if it is a request.
    fn refuse(&mut self, host: u64, text: &str, failure: &Failure) {
        let Ok(message) = Envelope::parse(text, &self.limits) else { return };
        if let (MessageKind::Request, Some(id)) = (message.kind, message.id) {
            let heard = Heard { text: failure.answer(id), about: Some(id.to_owned()) };
            self.to_hosts.push_back((host, heard));
        }
    }

    /// What a host reads when no connection came about.
    fn unreachable(&self, why: &str, waited: Duration) -> Failure {
        let relays = self.setup.options.relays.iter().map(|url| (url.clone(), "unreachable"));
        Failure::new(TIMED_OUT, "relay_unreachable", format!("the server cannot be reached: {why}"))
            .with_text("server", &self.server())
            .with_time("waitedMs", waited)
            .with_json("relays", relays_json(relays))
            .with_text("hint", &self.setup.hint)
    }

    fn server(&self) -> String {
        self.setup.options.server.key.to_bech32().unwrap_or_default()
    }

    /// Adds to an error of our own client what a person needs: which server, which relays, what to do.
    fn with_facts(&self, text: String) -> String {
        if !text.contains(r#""reason""#) {
            return text;
        }
        let edited = Envelope::parse(&text, &self.limits).ok().and_then(|message| {
            let error = message.error?;
            let data = object::member(error, "data")?;
            let reason = object::member(data, "reason").and_then(object::string)?;
            if !LOCAL.contains(&reason.as_ref()) {
                return None;
            }
            let mut data = Object::parse(data.get()).ok()?.into_edit();
            data.set_string("server", &self.server());
            data.set("relays", relays_json(self.link.relays()));
            data.set_string("hint", &self.setup.hint);
            let mut error = Object::parse(error.get()).ok()?.into_edit();
            error.set("data", data.to_text());
            let mut whole = Object::parse(message.text()).ok()?.into_edit();
            whole.set("error", error.to_text());
            Some(whole.to_text())
        });
        edited.unwrap_or(text)
    }

    /// Says goodbye: what waits for a connection is answered, what is open is cancelled.
    async fn leave(mut self) {
        let failure = Failure::new(TIMED_OUT, "closed", "the proxy ended before the server was reached");
        for (host, text) in core::mem::take(&mut self.held) {
            self.refuse(host, &text, &failure);
        }
        for (host, heard) in core::mem::take(&mut self.to_hosts) {
            if let Some(sender) = self.hosts.get(&host) {
                // A host that does not read its last messages loses them.
                let _full = sender.try_send(heard);
            }
        }
        if let Link::Live { client, .. } = &self.link {
            let farewell = async {
                for text in self.to_server.drain(..) {
                    // A client that is closed already has cancelled everything.
                    let _closed = client.send(text).await;
                }
                client.close().await;
            };
            let _late = timeout(FAREWELL, farewell).await;
        }
    }
}

/// Waits for what the link brings next.
async fn of_link(link: &mut Link, listening: bool) -> Event {
    match link {
        Link::Connecting { attempt, .. } => Event::Connected(attempt.await),
        Link::Live { messages, .. } if listening => Event::Heard(messages.recv().await),
        Link::Live { .. } => core::future::pending().await,
        Link::Pausing { until, .. } => {
            tokio::time::sleep_until(*until).await;
            Event::Resume
        }
    }
}

fn relays_json(relays: impl Iterator<Item = (String, &'static str)>) -> String {
    let relays: Vec<String> =
        relays.map(|(url, state)| format!(r#"{{"url":{},"state":"{state}"}}"#, quote(&url))).collect();
    format!("[{}]", relays.join(","))
}
