//! The server machine under any order of callers, application, access decisions, relays and clock.
mod checks;
mod durable;
mod inputs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contextvm_core::{Limits, Now, Opened};
use contextvm_crypto::Keys;
use contextvm_engine::server::Access;
use contextvm_engine::{
    EncryptionMode, RequestKey, ServerConfig, ServerInput, ServerMachine, ServerOutput, Ticket,
};
use contextvm_transfer::Receiver;
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;

use self::durable::Store;
use crate::bytes::Bytes;
use crate::operations::{self, OUTPUTS, SMALLEST_RELAY, WAKES, moment};
use crate::people::{START, keys};

/// One run: the machine, everybody around it, and what was counted.
struct Run {
    machine: ServerMachine,
    config: ServerConfig,
    store: Store,
    limits: Limits,
    encryption: EncryptionMode,
    now: Now,
    me: PublicKey,
    callers: [Keys; 3],
    heard: Vec<Opened>,
    /// Every event that was handed in.
    events: BTreeMap<EventId, Event>,
    delivered: BTreeSet<RequestKey>,
    /// Those among them that need no record.
    harmless: BTreeSet<RequestKey>,
    requests: Vec<RequestKey>,
    cancelled: BTreeSet<RequestKey>,
    answers: BTreeMap<RequestKey, String>,
    tickets: Vec<Ticket>,
    questions: Vec<u64>,
    /// Requests of the application: the ids of their events.
    asked: Vec<EventId>,
    /// Which message an end frame stands for.
    whole: BTreeMap<EventId, &'static str>,
    /// Answers that are put together from frames.
    parts: BTreeMap<RequestKey, Receiver>,
    /// Whatever relays refuse they find too large.
    refuses_size: bool,
    /// Requests whose answer is transferred, once it is its turn.
    large: BTreeSet<RequestKey>,
    /// Somebody said that it wants no more of an answer that was under way, perhaps.
    stops: bool,
    /// Requests for which a stream may be written, and those whose stream is over.
    offered: BTreeSet<RequestKey>,
    ended: BTreeSet<RequestKey>,
}

/// Decodes a list of operations and carries it out; every delivered request must be answered once, to its caller alone.
pub fn server_engine(data: &[u8]) {
    let _ = counted(data);
}

/// What happened in one run, so that a seed can be shown to do what its name says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Messages delivered, and how many of them were requests.
    pub(crate) delivered: [usize; 2],
    /// Requests answered before their sessions were closed, and requests taken back.
    pub(crate) answered: usize,
    pub(crate) taken_back: usize,
    /// Publications before the sessions were closed.
    pub(crate) published: usize,
    /// Access questions.
    pub(crate) asked: usize,
}

fn counted(data: &[u8]) -> Counts {
    let mut bytes = Bytes(data);
    let mut run = Run::new(&mut bytes);
    operations::each(&mut bytes, |bytes| run.operation(bytes));
    run.finish()
}

fn access(bytes: &mut Bytes<'_>, first: PublicKey) -> Access {
    let (kind, announced) = (bytes.below(6), bytes.flag());
    let excluded = vec![("tools/list".to_owned(), None), ("tools/call".to_owned(), Some("add".to_owned()))];
    Access {
        allowed: match kind {
            0 | 3 | 4 => None,
            1 => Some(BTreeSet::new()),
            _ => Some(BTreeSet::from([first])),
        },
        ask_key: kind >= 3,
        excluded: if kind == 2 { excluded } else { Vec::new() },
        ask_capability: kind >= 4,
        announced,
    }
}

/// A machine whose relays take no more than the smallest that is listened to: what is large need not be long then.
fn machine(config: &ServerConfig, me: PublicKey) -> ServerMachine {
    let mut machine = ServerMachine::new(config.clone(), me, [3; 32]);
    machine.handle(ServerInput::RelayLimit(SMALLEST_RELAY), moment(0));
    machine
}

impl Run {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let (me, callers) = (keys(0x11).public_key(), [keys(0x22), keys(0x33), keys(0x44)]);
        let mut limits = Limits {
            sessions: 2,
            stranger_sessions: 2,
            in_flight_per_caller: 1 + bytes.below(4),
            in_flight: 6,
            in_flight_bytes: 16 * 1024,
            seen_ids: 24,
            ledger_bytes: 4 * 1024,
            ledger_answer: 2 * 1024,
            refusals_per_minute: 4,
            request_timeout: Duration::from_secs(60),
            transfers: 2,
            transfers_bytes: 100 * 1024,
            streams: 2,
            streams_bytes: 3_000,
            stream_buffer: 2_000,
            stream_chunk: 500,
            ..Limits::default()
        };
        let encryption = operations::encryption(bytes);
        let (gift_wrap, access) = (operations::gift_wrap(bytes), access(bytes, callers[0].public_key()));
        let features = bytes.byte();
        let refuses_size = features & 4 != 0;
        if refuses_size {
            (limits.ledger_bytes, limits.ledger_answer) = (80 * 1024, 40 * 1024);
        }
        let config = ServerConfig {
            encryption,
            gift_wrap,
            access,
            inject_client_pubkey: features & 1 != 0,
            durable: features & 2 != 0,
            inject_request_event_id: true,
            accept_from: START - 300,
            limits: limits.clone(),
            ..ServerConfig::default()
        };
        Self {
            machine: machine(&config, me),
            config,
            store: Store::default(),
            limits,
            encryption,
            now: moment(0),
            me,
            callers,
            heard: Vec::new(),
            events: BTreeMap::new(),
            delivered: BTreeSet::new(),
            harmless: BTreeSet::new(),
            requests: Vec::new(),
            cancelled: BTreeSet::new(),
            answers: BTreeMap::new(),
            tickets: Vec::new(),
            questions: Vec::new(),
            asked: Vec::new(),
            whole: BTreeMap::new(),
            parts: BTreeMap::new(),
            refuses_size,
            large: BTreeSet::new(),
            stops: false,
            offered: BTreeSet::new(),
            ended: BTreeSet::new(),
        }
    }

    fn pass(&mut self, to: u64) {
        self.now = moment(to.max(self.now.mono.0));
    }

    fn wake(&mut self) {
        if let Some((at, _)) = self.machine.poll_timeout() {
            self.pass(at.0);
            self.input(ServerInput::Wake);
            let next = self.machine.poll_timeout();
            assert!(next.is_none_or(|(at, _)| at > self.now.mono), "a wake leaves nothing due: {next:?}");
        }
    }

    fn input(&mut self, input: ServerInput) {
        self.machine.handle(input, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        self.drain_once();
        self.settle();
    }

    fn drain_once(&mut self) {
        for count in 0.. {
            assert!(count < OUTPUTS, "outputs come to an end");
            let Some(output) = self.machine.poll_output() else {
                break;
            };
            match output {
                ServerOutput::Publish(outbound) => self.publish(&outbound),
                ServerOutput::Deliver { caller, delivery, message, event, tags: _ } => {
                    self.deliver(caller, &delivery, &message, &event);
                }
                ServerOutput::Ask { id, question: _ } => self.questions.push(id),
                ServerOutput::Remember { number, record } => {
                    assert!(self.config.durable, "nothing is remembered unless that was wanted");
                    self.store.remember(number, record);
                }
                ServerOutput::StreamRoom(key) => {
                    assert!(!self.ended.contains(&key), "there is no room behind an end")
                }
                ServerOutput::StreamEnded { key, failure: _ } => {
                    assert!(self.offered.contains(&key), "what ends was offered");
                    assert!(self.ended.insert(key), "a stream ends once");
                }
                ServerOutput::Restarted(_)
                | ServerOutput::Ended(_)
                | ServerOutput::Undeliverable { .. }
                | ServerOutput::Unasked { .. }
                | ServerOutput::Refused { .. }
                | ServerOutput::Drop(_) => {}
            }
        }
        self.check_load();
    }

    /// Ends every session and lets all time pass: whoever still waits is told, and nothing is left.
    fn finish(mut self) -> Counts {
        self.store.is_quick = true;
        self.settle();
        let counts = Counts {
            delivered: [self.delivered.len(), self.requests.len()],
            answered: self.answers.len(),
            taken_back: self.cancelled.len(),
            published: self.tickets.len(),
            asked: self.questions.len(),
        };
        self.machine.store_all(self.now);
        self.drain();
        // What is due by now comes before that: a request may have waited for its own second.
        self.input(ServerInput::Wake);
        for caller in self.callers.each_ref().map(Keys::public_key) {
            self.input(ServerInput::SessionClosed(caller));
        }
        assert_eq!(self.machine.load().in_flight, 0);
        for count in 0.. {
            if self.machine.poll_timeout().is_none() {
                break;
            }
            assert!(count < WAKES, "the timers run down");
            self.wake();
            for caller in self.callers.each_ref().map(Keys::public_key) {
                self.input(ServerInput::SessionClosed(caller));
            }
        }
        for key in &self.requests {
            let is_stopped = self.stops && (self.parts.contains_key(key) || self.large.contains(key));
            assert!(
                self.answers.contains_key(key) || self.cancelled.contains(key) || is_stopped,
                "a delivered request is answered or taken back"
            );
        }
        assert_eq!(self.ended, self.offered, "every stream that was offered ends");
        let load = self.machine.load();
        assert_eq!((load.transfers_in, load.transfers_out, load.streams), (0, 0, 0));
        assert_eq!((load.transfers_in_bytes, load.transfers_out_bytes, load.streams_bytes), (0, 0, 0));
        assert_eq!((load.in_flight, load.in_flight_bytes, load.waiting, load.waiting_bytes), (0, 0, 0, 0));
        assert_eq!((load.sessions, load.stranger_sessions, load.asked, load.ledger_bytes), (0, 0, 0, 0));
        counts
    }
}
