//! A server machine with named callers; what it does is read as lines of text.
use std::collections::BTreeMap;
use std::sync::OnceLock;

use contextvm_core::{Draft, Mono, Now, Opened, Protection, WrapKind};
use contextvm_crypto::Keys;
use contextvm_engine::server::{Delivery, Question};
use contextvm_engine::{
    Outcome, Reach, Record, RequestKey, ServerConfig, ServerInput, ServerMachine, ServerOutput, StreamError,
    Ticket,
};
use nostr::event::{Event, EventId, Tag, Tags};
use nostr::key::PublicKey;

pub(crate) const START: u64 = 1_700_000_000;
pub(crate) const PLAIN: Protection = Protection::Plain;
pub(crate) const WRAP: Protection = Protection::Wrapped(WrapKind::Persistent);
pub(crate) const EPHEMERAL: Protection = Protection::Wrapped(WrapKind::Ephemeral);

/// Keys of caller n; 0 is the server.
pub(crate) fn keys(n: u32) -> Keys {
    let mut secret = [0; 32];
    secret[28..].copy_from_slice(&(n + 1).to_be_bytes());
    Keys::from_secret_bytes(secret).unwrap()
}

pub(crate) fn public(n: u32) -> PublicKey {
    keys(n).public_key()
}

fn server() -> &'static PublicKey {
    static SERVER: OnceLock<PublicKey> = OnceLock::new();
    SERVER.get_or_init(|| public(0))
}

/// A signed event from caller n to the server.
pub(crate) fn event(n: u32, created_at: u64, content: &str, tags: &[&[&str]]) -> Event {
    let mut all = vec![Tag::public_key(*server())];
    all.extend(tags.iter().map(|tag| Tag::parse(tag.iter().copied()).unwrap()));
    let keys = keys(n);
    let draft = Draft::new(keys.public_key(), created_at, Tags::from_list(all), content.to_owned());
    keys.sign_draft(&draft, [9; 32])
}

/// The proof that an event may be believed, at a time.
pub(crate) fn opened(event: Event, protection: Protection, unix: u64) -> Opened {
    let outer = EventId::from_byte_array([7; 32]);
    Opened::check(event, protection, outer, server(), unix, 600).unwrap()
}

/// A machine without a world around it, for stories with many events.
pub(crate) fn machine(config: ServerConfig) -> ServerMachine {
    ServerMachine::new(config, *server(), [0; 32])
}

/// Tells a machine something and returns all that it wants done; every publication is accepted by a relay.
pub(crate) fn told(machine: &mut ServerMachine, input: ServerInput, now: Now) -> Vec<ServerOutput> {
    machine.handle(input, now);
    let mut outputs = Vec::new();
    while let Some(output) = machine.poll_output() {
        if let ServerOutput::Publish(outbound) = &output {
            machine.handle(ServerInput::Published(outbound.ticket, Outcome::Accepted), now);
        }
        outputs.push(output);
    }
    outputs
}

/// How often something is tried: as an environment variable says, otherwise as often as is quick.
pub(crate) fn count(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).map_or(otherwise, |count| count.parse().unwrap())
}

pub(crate) struct World {
    pub(crate) machine: ServerMachine,
    pub(crate) now: Now,
    /// Every event that came in, in order: `$0`, `$1`, ... in scripts.
    pub(crate) events: Vec<Event>,
    /// Outcome reported for every publication at once; `None` keeps the tickets.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) tickets: Vec<Ticket>,
    /// Every draft published, in order.
    pub(crate) drafts: Vec<Draft>,
    /// Which relays each of them was for, and the number of the event that it belongs to.
    pub(crate) ways: Vec<(Reach, Option<usize>)>,
    /// Every record that was to be kept, in order.
    pub(crate) records: Vec<Record>,
    /// Those of which the store has said that it has them, and those of which it has said nothing.
    pub(crate) disk: Vec<Record>,
    unsynced: Vec<(u64, Record)>,
    window: u64,
    names: BTreeMap<PublicKey, String>,
    /// Which event has this id in hex.
    numbers: BTreeMap<String, usize>,
}

impl World {
    pub(crate) fn new(config: ServerConfig) -> Self {
        Self {
            window: config.limits.age_window,
            machine: machine(config),
            now: Now { mono: Mono(0), unix: START },
            events: Vec::new(),
            outcome: Some(Outcome::Accepted),
            tickets: Vec::new(),
            drafts: Vec::new(),
            ways: Vec::new(),
            records: Vec::new(),
            disk: Vec::new(),
            unsynced: Vec::new(),
            names: BTreeMap::new(),
            numbers: BTreeMap::new(),
        }
    }

    /// Lets an event of caller n arrive.
    pub(crate) fn from(&mut self, n: u32, protection: Protection, content: &str) -> Vec<String> {
        let event = event(n, self.now.unix, content, &[]);
        self.arrives(n, protection, event)
    }

    pub(crate) fn tagged(
        &mut self,
        n: u32,
        protection: Protection,
        content: &str,
        tags: &[&[&str]],
    ) -> Vec<String> {
        let event = event(n, self.now.unix, content, tags);
        self.arrives(n, protection, event)
    }

    pub(crate) fn arrives(&mut self, n: u32, protection: Protection, event: Event) -> Vec<String> {
        self.brought(n, protection, event, false)
    }

    /// A relay passes an event on, or hands over what it had kept.
    fn brought(&mut self, n: u32, protection: Protection, event: Event, stored: bool) -> Vec<String> {
        self.names.entry(event.pubkey).or_insert_with(|| format!("c{n}"));
        let number = self.events.len();
        if *self.numbers.entry(event.id.to_hex()).or_insert(number) == number {
            self.events.push(event.clone());
        }
        let outer = EventId::from_byte_array([7; 32]);
        match Opened::check(event, protection, outer, server(), self.now.unix, self.window) {
            Ok(opened) => self.handle(ServerInput::Opened(Box::new(opened.with_stored(stored)))),
            Err(refusal) => vec![format!("refused {refusal:?}")],
        }
    }

    /// The `nth` event comes once more.
    pub(crate) fn again(&mut self, nth: usize, protection: Protection) -> Vec<String> {
        let event = self.events[nth].clone();
        self.arrives(0, protection, event)
    }

    /// A relay hands over an event of caller n that it had kept.
    pub(crate) fn kept_by_relay(&mut self, n: u32, protection: Protection, event: Event) -> Vec<String> {
        self.brought(n, protection, event, true)
    }

    /// The application writes to caller n; `$0` stands for the id of the first event.
    pub(crate) fn app(&mut self, n: u32, message: &str) -> Vec<String> {
        let message = self.with_ids(message);
        self.handle(ServerInput::Send { to: public(n), message })
    }

    /// The application answers event `nth` with an empty result.
    pub(crate) fn done(&mut self, nth: usize) -> Vec<String> {
        let (to, id) = (self.events[nth].pubkey, self.events[nth].id.to_hex());
        let message = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{}}}}"#);
        self.handle(ServerInput::Send { to, message })
    }

    pub(crate) fn broadcast(&mut self, message: &str) -> Vec<String> {
        let message = self.with_ids(message);
        self.handle(ServerInput::Broadcast(message))
    }

    pub(crate) fn verdict(&mut self, question: u64, allow: bool) -> Vec<String> {
        self.handle(ServerInput::Verdict { question, allow })
    }

    pub(crate) fn outcome_of(&mut self, ticket: Ticket, outcome: Outcome) -> Vec<String> {
        self.handle(ServerInput::Published(ticket, outcome))
    }

    /// Lets time pass; the machine is woken whenever it asked to be.
    pub(crate) fn pass(&mut self, seconds: u64) -> Vec<String> {
        let (end, unix) = (Mono(self.now.mono.0 + seconds * 1_000), self.now.unix + seconds);
        let mut lines = Vec::new();
        while let Some((at, _)) = self.machine.poll_timeout().filter(|(at, _)| *at <= end) {
            assert!(at > self.now.mono || lines.is_empty(), "a wake in the past");
            let at = at.max(self.now.mono);
            self.now = Now { mono: at, unix: unix - (end.0 - at.0).div_ceil(1_000) };
            lines.extend(self.handle(ServerInput::Wake));
            assert!(self.machine.poll_timeout().is_none_or(|(next, _)| next > at), "woken for nothing");
        }
        self.now = Now { mono: end, unix };
        lines
    }

    pub(crate) fn handle(&mut self, input: ServerInput) -> Vec<String> {
        if let ServerInput::Remembered { through } | ServerInput::Unstored { through } = input {
            let spoken = self.unsynced.iter().take_while(|(number, _)| *number <= through).count();
            let spoken = self.unsynced.drain(..spoken).map(|(_, record)| record);
            if matches!(input, ServerInput::Remembered { .. }) {
                self.disk.extend(spoken);
            }
        }
        self.machine.handle(input, self.now);
        self.drained()
    }

    /// The store has everything up to this record.
    pub(crate) fn remembered(&mut self, through: u64) -> Vec<String> {
        self.handle(ServerInput::Remembered { through })
    }

    /// The server starts again and is given these records.
    pub(crate) fn restart(&mut self, config: ServerConfig, records: Vec<Record>) {
        self.machine = machine(config);
        self.now.mono = Mono(0);
        self.machine.restore(records.clone(), self.now);
        self.drafts.clear();
        self.records.clear();
        self.unsynced.clear();
        self.disk = records;
    }

    /// Does something to the stream of event `nth` and returns what came of it, and what happened.
    pub(crate) fn stream<T>(
        &mut self,
        nth: usize,
        act: impl FnOnce(&mut ServerMachine, &RequestKey, Now) -> Result<T, StreamError>,
    ) -> (Result<T, StreamError>, Vec<String>) {
        let key = self.key(nth);
        let done = act(&mut self.machine, &key, self.now);
        (done, self.drained())
    }

    /// Writes to the stream of event `nth`.
    pub(crate) fn write(&mut self, nth: usize, text: &str) -> (Result<usize, StreamError>, Vec<String>) {
        self.stream(nth, |machine, key, now| machine.write_stream(key, text, now))
    }

    pub(crate) fn key(&self, nth: usize) -> RequestKey {
        RequestKey { caller: self.events[nth].pubkey, id: self.events[nth].id }
    }

    fn drained(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            lines.push(self.line(&output));
            if let ServerOutput::Remember { number, record } = &output {
                self.records.push(record.clone());
                self.unsynced.push((*number, record.clone()));
            }
            if let ServerOutput::Publish(outbound) = output {
                let about = outbound.about.map(|id| self.numbers[&id.to_hex()]);
                self.ways.push((outbound.reach, about));
                self.drafts.push(outbound.draft);
                match self.outcome.clone() {
                    Some(outcome) => {
                        self.machine.handle(ServerInput::Published(outbound.ticket, outcome), self.now)
                    }
                    None => self.tickets.push(outbound.ticket),
                }
            }
        }
        lines
    }

    fn line(&self, output: &ServerOutput) -> String {
        let name = |key: &PublicKey| self.names.get(key).cloned().unwrap_or_else(|| "nobody".to_owned());
        let line = match output {
            ServerOutput::Publish(outbound) => {
                let how = match outbound.protection {
                    Protection::Plain => 25910,
                    Protection::Wrapped(wrap) => wrap.kind(),
                };
                let tags: Vec<String> =
                    outbound.draft.tags.iter().skip(1).map(|tag| tag.as_slice().join("=")).collect();
                let p = outbound.draft.tags[0].as_slice();
                assert_eq!(p, ["p".to_owned(), outbound.recipient.to_hex()]);
                assert_eq!(outbound.draft.author, *server());
                let (to, tags) = (name(&outbound.recipient), tags.join(","));
                format!("publish {how} to {to} [{tags}] {}", outbound.draft.content)
            }
            ServerOutput::Deliver { caller, delivery, message, event, .. } => {
                assert_eq!(*caller, event.pubkey);
                if let Delivery::Request { key, .. } = delivery {
                    assert_eq!((key.caller, key.id), (*caller, event.id));
                }
                format!("deliver {} {message}", name(caller))
            }
            ServerOutput::Ask { id, question } => match question {
                Question::Key(key) => format!("ask {id} key {}", name(key)),
                Question::Capability { method, name } => {
                    format!("ask {id} capability {method} {}", name.as_deref().unwrap_or("-"))
                }
            },
            ServerOutput::Remember { number, record } => match record {
                Record::Accepted { key, .. } => format!("remember {number} {}", key.id.to_hex()),
                Record::Answered { key, .. } => format!("remember {number} answer to {}", key.id.to_hex()),
            },
            ServerOutput::Restarted(caller) => format!("restarted {}", name(caller)),
            ServerOutput::Ended(caller) => format!("ended {}", name(caller)),
            ServerOutput::StreamRoom(key) => format!("room {}", key.id.to_hex()),
            ServerOutput::StreamEnded { key, failure } => match failure {
                None => format!("closed {}", key.id.to_hex()),
                Some(error) => format!("failed {} {error:?}", key.id.to_hex()),
            },
            ServerOutput::Undeliverable { to, reason } => format!("undeliverable {} {reason:?}", name(to)),
            ServerOutput::Unasked { of, id, reason, .. } => format!("unasked {} {id} {reason:?}", name(of)),
            ServerOutput::Refused { reason, .. } | ServerOutput::Drop(reason) => format!("drop {reason:?}"),
        };
        self.without_ids(&line)
    }

    fn without_ids(&self, line: &str) -> String {
        let mut short = String::new();
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let number = rest.get(..64).and_then(|hex| self.numbers.get(hex));
            let (text, taken) =
                number.map_or((c.to_string(), c.len_utf8()), |number| (format!("${number}"), 64));
            short.push_str(&text);
            rest = &rest[taken..];
        }
        short
    }

    fn with_ids(&self, message: &str) -> String {
        let ids = self.events.iter().enumerate().rev();
        ids.fold(message.to_owned(), |text, (nth, event)| {
            text.replace(&format!("${nth}"), &event.id.to_hex())
        })
    }
}

/// One step of a table test.
pub(crate) enum Step {
    From(u32, Protection, &'static str),
    Again(usize, Protection),
    App(u32, &'static str),
    Broadcast(&'static str),
    Verdict(u64, bool),
    Closed(u32),
    Pass(u64),
}

/// Runs a script; every step must yield exactly these lines.
#[track_caller]
pub(crate) fn check(config: ServerConfig, script: &[(Step, &[&str])]) {
    let mut world = World::new(config);
    for (nth, (step, expected)) in script.iter().enumerate() {
        let lines = match step {
            Step::From(n, protection, content) => world.from(*n, *protection, content),
            Step::Again(event, protection) => world.again(*event, *protection),
            Step::App(n, message) => world.app(*n, message),
            Step::Broadcast(message) => world.broadcast(message),
            Step::Verdict(question, allow) => world.verdict(*question, *allow),
            Step::Closed(n) => world.handle(ServerInput::SessionClosed(public(*n))),
            Step::Pass(seconds) => world.pass(*seconds),
        };
        assert_eq!(lines, *expected, "step {nth}");
    }
}

/// A request without params.
pub(crate) fn call(id: u32, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#)
}
