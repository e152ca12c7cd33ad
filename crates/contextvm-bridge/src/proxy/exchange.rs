//! The server side of a proxy: one client on Nostr, made anew when it is lost, and the hosts that share it.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::time::{Duration, Instant};

use contextvm_client::{Client, ClientOptions, Messages};
use contextvm_core::Limits;
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::quote;
use contextvm_core::rewrite;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nostr::nips::nip19::ToBech32 as _;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::conversation::{Counterpart, Heard, Readiness, Said};
use super::facts::{self, Facts};
use super::switchboard::{Act, Switchboard};
use crate::answer::{Failure, TIMED_OUT};
use crate::notice::{Notice, Reporter};
use crate::queue::{self, Waiting, Weigh};

/// Messages of hosts that may wait for the first connection, and their bytes.
const HELD: (usize, usize) = (256, queue::BYTES);
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

type NextSaid = Pin<Box<dyn Future<Output = (u64, queue::Receiver<Said>, Option<Said>)> + Send>>;
type Sending = Pin<Box<dyn Future<Output = bool> + Send>>;
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
    Said(u64, queue::Receiver<Said>, Option<Said>),
    Connected(Result<(Client, Messages), contextvm_client::Error>),
    Heard(Option<String>),
    Sent(bool),
    /// A host has room for what waits for it.
    Room,
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
    hosts: BTreeMap<u64, queue::Sender<Heard>>,
    /// Hosts that say nothing more and may still read.
    ended: BTreeSet<u64>,
    said: FuturesUnordered<NextSaid>,
    /// What hosts said before there was a connection.
    held: VecDeque<(u64, String)>,
    to_server: Waiting<String>,
    /// The message that is on its way to the client.
    sending: Option<Sending>,
    to_hosts: Waiting<(u64, Heard)>,
    next_host: u64,
    all_opened: bool,
}

impl Exchange {
    /// Serves conversations until all are over and no more can come, or until `stop`.
    pub(super) async fn run(self, mut opened: mpsc::Receiver<Counterpart>, stop: CancellationToken) {
        let limits = self.options.config.limits.clone();
        let mut room = Room {
            link: connecting(&self.options),
            board: Switchboard::new(limits.clone()),
            limits,
            setup: self,
            pause: PAUSES.0,
            hosts: BTreeMap::new(),
            ended: BTreeSet::new(),
            said: FuturesUnordered::new(),
            held: VecDeque::new(),
            to_server: Waiting::default(),
            sending: None,
            to_hosts: Waiting::default(),
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
            room.act();
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
fn next_said(host: u64, mut said: queue::Receiver<Said>) -> NextSaid {
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
        let listening = self.to_hosts.has_room(WAITING);
        let hearing = self.to_server.has_room(WAITING) && self.to_hosts.has_room(WAITING * 2);
        if self.sending.is_none()
            && let Link::Live { client, .. } = &self.link
            && let Some(text) = self.to_server.pop_front()
        {
            let client = client.clone();
            self.sending = Some(Box::pin(async move { client.send(text).await.is_ok() }));
        }
        let first = self.to_hosts.front();
        let receiver = first.and_then(|first| Some((self.hosts.get(&first.0)?.clone(), first.weigh())));
        tokio::select! {
            () = stop.cancelled() => Event::Stop,
            counterpart = opened.recv(), if !self.all_opened => Event::Opened(counterpart),
            Some((host, said, next)) = self.said.next(), if hearing => Event::Said(host, said, next),
            event = of_link(&mut self.link, listening) => event,
            sent = async {
                match &mut self.sending {
                    Some(sending) => sending.await,
                    None => core::future::pending().await,
                }
            } => Event::Sent(sent),
            () = async {
                match receiver {
                    // A host that is gone makes room, too.
                    Some((receiver, bytes)) => _ = receiver.room_for(bytes).await,
                    None => core::future::pending().await,
                }
            } => Event::Room,
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
                    Said::Abandon(id) => {
                        self.withdraw(host, &id);
                        self.board.abandon(host, &id);
                    }
                }
                self.said.push(next_said(host, said));
            }
            Event::Connected(outcome) => self.connected(outcome),
            Event::Heard(Some(text)) => {
                let now = Instant::now();
                let text = match facts::may_be_failure(&text) {
                    true => self.facts().added_to(text, &self.limits, |id| self.board.waited(id, now)),
                    false => text,
                };
                self.board.hear_server(&text, now);
            }
            Event::Heard(None) | Event::Sent(false) => {
                let failure = Failure::new(TIMED_OUT, "closed", "the connection to the server was lost")
                    .with_text("server", &self.server())
                    .with_text("hint", &self.setup.hint);
                self.to_server.take_all();
                self.sending = None;
                self.board.lost(&failure);
                self.link = connecting(&self.setup.options);
            }
            Event::Sent(true) => self.sending = None,
            Event::Room => {}
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

    /// Does what the switchboard decided, as far as the hosts have room.
    fn act(&mut self) {
        while let Some(act) = self.board.poll() {
            match act {
                Act::Server(text) => self.to_server.push_back(text),
                Act::Host(host, heard) => self.to_hosts.push_back((host, heard)),
            }
        }
        let mut full = BTreeSet::new();
        for (host, heard) in self.to_hosts.take_all() {
            let Some(sender) = self.hosts.get(&host) else { continue };
            if full.contains(&host) {
                self.to_hosts.push_back((host, heard));
            } else if let Err(heard) = sender.try_send(heard) {
                full.insert(host);
                self.to_hosts.push_back((host, heard));
            }
        }
        // A host that has ended is forgotten once it has been told everything.
        let over = self.ended.extract_if(.., |host| !full.contains(host));
        for host in over {
            self.hosts.remove(&host);
        }
    }

    /// Nobody waits for a request any more that waits for the connection.
    fn withdraw(&mut self, host: u64, id: &RawValue) {
        let limits = &self.limits;
        self.held.retain(|(from, text)| {
            let message = Envelope::parse(text, limits).ok();
            let message = message.filter(|message| message.kind == MessageKind::Request);
            *from != host || message.and_then(|message| message.id).is_none_or(|own| own.get() != id.get())
        });
    }

    fn host_said(&mut self, host: u64, text: String) {
        match &self.link {
            Link::Live { .. } => self.board.hear_host(host, &text, Instant::now()),
            Link::Connecting { .. } => {
                let message = Envelope::parse(&text, &self.limits).ok();
                let cancelled =
                    message.filter(|message| message.method.as_deref() == Some("notifications/cancelled"));
                if let Some(message) = cancelled {
                    if let Some(id) = rewrite::cancelled_request_id(message.params).map(ToOwned::to_owned) {
                        self.withdraw(host, &id);
                    }
                    return;
                }
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

    /// What a person needs to know about the other side when a call fails.
    fn facts(&self) -> Facts {
        Facts {
            server: self.server(),
            client: self.setup.options.keys.public_key().to_bech32().unwrap_or_default(),
            relays: relays_json(self.link.relays()),
            hint: self.setup.hint.clone(),
        }
    }

    /// Says goodbye: whoever waits is answered, as far as it reads; what is open is cancelled.
    async fn leave(mut self) {
        let failure = Failure::new(TIMED_OUT, "closed", "the proxy ended before the answer came");
        for (host, text) in core::mem::take(&mut self.held) {
            self.refuse(host, &text, &failure);
        }
        self.board.lost(&failure);
        self.act();
        self.hosts.clear();
        if let Link::Live { client, .. } = &self.link {
            let farewell = async {
                if let Some(sending) = self.sending.take() {
                    sending.await;
                }
                for text in self.to_server.take_all() {
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

#[cfg(test)]
mod tests {
    use contextvm_crypto::Keys;

    use super::super::conversation::Conversations;
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_nobody_waits_for_any_more_is_not_sent_once_there_is_a_connection() {
        let key = |number: u8| Keys::from_secret_bytes([number; 32]).unwrap();
        let mut options = ClientOptions::new(key(1), key(2).public_key().into());
        options.relays = vec!["ws://127.0.0.1:9".to_owned()];
        options.ready_timeout = Duration::from_millis(300);
        let (conversations, opened) = Conversations::new();
        let exchange = Exchange {
            options,
            reporter: Reporter::new(|_notice| {}),
            hint: String::new(),
            ready: Readiness::default(),
        };
        let running = tokio::spawn(exchange.run(opened, CancellationToken::new()));
        let (speaker, mut hearer) = conversations.open().await.unwrap().split();
        for id in 1..=3 {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            speaker.say(Said::Message(text)).await.unwrap();
        }
        speaker.say(Said::Abandon(RawValue::from_string("1".to_owned()).unwrap())).await.unwrap();
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#;
        speaker.say(Said::Message(cancel.to_owned())).await.unwrap();
        assert_eq!(hearer.hear().await.unwrap().about.unwrap().get(), "3");
        drop((speaker, conversations));
        assert!(hearer.hear().await.is_none());
        running.await.unwrap();
    }
}
