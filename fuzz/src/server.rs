//! The server machine under any order of callers, application, access decisions, relays and clock.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::{Limits, Mono, Now, Opened, rewrite};
use contextvm_crypto::Keys;
use contextvm_engine::server::{Access, Delivery};
use contextvm_engine::{
    EncryptionMode, GiftWrapMode, Outbound, Outcome, RequestKey, ServerConfig, ServerInput, ServerMachine,
    ServerOutput, Ticket,
};
use nostr::event::{Event, EventId, Tag};
use nostr::key::PublicKey;
use serde_json::Value;

use crate::bytes::Bytes;
use crate::people::{PROTECTIONS, START, keys, message, opened, tags};

/// Most operations of one run.
const OPERATIONS: usize = 200;
/// Most outputs of one input.
const OUTPUTS: usize = 4_096;
/// What the machine says to a caller that is not let in. It may say so again, and let the caller in later.
const UNAUTHORIZED: &str = "Unauthorized";

/// One run: the machine, everybody around it, and what was counted.
struct Run {
    machine: ServerMachine,
    limits: Limits,
    encryption: EncryptionMode,
    now: Now,
    me: PublicKey,
    callers: [Keys; 3],
    heard: Vec<Opened>,
    /// Every event that was handed in.
    events: BTreeMap<EventId, Event>,
    delivered: BTreeSet<RequestKey>,
    requests: Vec<RequestKey>,
    cancelled: BTreeSet<RequestKey>,
    answers: BTreeMap<RequestKey, String>,
    tickets: Vec<Ticket>,
    questions: Vec<u64>,
    /// Requests of the application: the ids of their events.
    asked: Vec<EventId>,
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
    for _ in 0..OPERATIONS {
        if bytes.is_empty() {
            break;
        }
        run.operation(&mut bytes);
    }
    run.finish()
}

fn access(bytes: &mut Bytes<'_>, first: PublicKey) -> Access {
    let (kind, announced) = (bytes.below(6), bytes.flag());
    let excluded = vec![
        ("tools/list".to_owned(), None),
        ("tools/call".to_owned(), Some("add".to_owned())),
    ];
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

impl Run {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let (me, callers) = (keys(0x11).public_key(), [keys(0x22), keys(0x33), keys(0x44)]);
        let limits = Limits {
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
            ..Limits::default()
        };
        let encryption = bytes.pick(&[
            EncryptionMode::Optional,
            EncryptionMode::Required,
            EncryptionMode::Disabled,
        ]);
        let config = ServerConfig {
            encryption,
            gift_wrap: bytes.pick(&[
                GiftWrapMode::Optional,
                GiftWrapMode::Ephemeral,
                GiftWrapMode::Persistent,
            ]),
            access: access(bytes, callers[0].public_key()),
            inject_client_pubkey: bytes.flag(),
            inject_request_event_id: true,
            accept_from: START - 300,
            limits: limits.clone(),
            ..ServerConfig::default()
        };
        Self {
            machine: ServerMachine::new(config, me, [3; 32]),
            limits,
            encryption,
            now: Now {
                mono: Mono(0),
                unix: START,
            },
            me,
            callers,
            heard: Vec::new(),
            events: BTreeMap::new(),
            delivered: BTreeSet::new(),
            requests: Vec::new(),
            cancelled: BTreeSet::new(),
            answers: BTreeMap::new(),
            tickets: Vec::new(),
            questions: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn operation(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.below(16) {
            0..=2 => self.caller_asks(bytes),
            3 => self.caller_notifies(bytes),
            4 => self.caller_answers(bytes),
            5 => {
                let content = bytes.text();
                self.hear(bytes, content, None);
            }
            6 => self.repeat(bytes),
            7 | 8 => self.application_answers(bytes),
            9 => self.application_notifies(bytes),
            10 => self.application_asks(bytes),
            11 => self.application_decides(bytes),
            12 => self.publication_ends(bytes),
            13 => self.time_passes(bytes),
            14 => {
                let caller = self.caller(bytes);
                self.input(ServerInput::SessionClosed(caller));
            }
            _ => {
                let (to, message) = (self.caller(bytes), bytes.text());
                self.input(ServerInput::Send { to, message });
            }
        }
    }

    fn caller(&self, bytes: &mut Bytes<'_>) -> PublicKey {
        self.callers[bytes.below(3)].public_key()
    }

    fn caller_asks(&mut self, bytes: &mut Bytes<'_>) {
        let id = request_id(bytes);
        let method = bytes.pick(&[
            "tools/call",
            "initialize",
            "tools/list",
            "resources/subscribe",
            "resources/unsubscribe",
            "x",
        ]);
        let params = match bytes.below(5) {
            0 => String::new(),
            1 => r#","params":{"name":"add","uri":"a:b"}"#.to_owned(),
            2 => format!(
                r#","params":{{"_meta":{{"progressToken":{},"clientPubkey":"me"}}}}"#,
                request_id(bytes)
            ),
            3 => format!(r#","params":{{"uri":"{}"}}"#, bytes.byte()),
            _ => format!(
                r#","params":{{"name":"{}"}}"#,
                "x".repeat(usize::from(bytes.short()) / 4)
            ),
        };
        self.hear(
            bytes,
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"{params}}}"#),
            None,
        );
    }

    fn caller_notifies(&mut self, bytes: &mut Bytes<'_>) {
        let id = request_id(bytes);
        let content = match bytes.below(4) {
            0 => r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned(),
            1 => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
            ),
            2 => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":1}}}}"#
            ),
            _ => r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#.to_owned(),
        };
        self.hear(bytes, content, None);
    }

    fn caller_answers(&mut self, bytes: &mut Bytes<'_>) {
        let question = picked(&self.asked, bytes);
        let id = request_id(bytes);
        let content = if bytes.flag() {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
        } else {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"no"}}}}"#)
        };
        self.hear(bytes, content, question);
    }

    fn hear(&mut self, bytes: &mut Bytes<'_>, content: String, answered: Option<EventId>) {
        let author = &self.callers[bytes.below(3)];
        let flag = match bytes.below(5) {
            0 => Some(Tag::custom("support_server_requests", [""; 0])),
            1 => Some(Tag::custom("support_encryption_ephemeral", [""; 0])),
            2 => Some(Tag::custom("name", [content.clone()])),
            _ => None,
        };
        let more = answered.map(Tag::event).into_iter().chain(flag);
        let age = u64::from(bytes.byte() % 16) * 40;
        let event = message(author, self.now.unix - age, tags(&self.me, more), content);
        let protection = bytes.pick(&PROTECTIONS);
        if let Some(opened) = opened(event, protection, &self.me, self.now.unix) {
            self.heard.push(opened.clone());
            self.take(opened);
        }
    }

    /// The same inner event once more, perhaps in another wrap or in none.
    fn repeat(&mut self, bytes: &mut Bytes<'_>) {
        if self.heard.is_empty() {
            return;
        }
        let event = self.heard[bytes.below(self.heard.len())].event().clone();
        if let Some(again) = opened(event, bytes.pick(&PROTECTIONS), &self.me, self.now.unix) {
            self.take(again);
        }
    }

    fn take(&mut self, opened: Opened) {
        self.events.insert(opened.event().id, opened.event().clone());
        self.input(ServerInput::Opened(Box::new(opened)));
    }

    fn application_answers(&mut self, bytes: &mut Bytes<'_>) {
        let Some(key) = picked(&self.requests, bytes) else {
            return;
        };
        let id = key.id.to_hex();
        let message = match bytes.below(6) {
            0 | 1 => format!(
                r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"n":{}}}}}"#,
                bytes.byte()
            ),
            2 => format!(r#"{{"jsonrpc":"2.0","id":"{id}","error":{{"code":-1,"message":"no"}}}}"#),
            3 => format!(
                r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"x":"{}"}}}}"#,
                "x".repeat(140_000)
            ),
            4 => format!(r#"{{"id":"{id}","result":[1]}}"#),
            _ => format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{}}}}"#, "ab".repeat(32)),
        };
        // Now and then to the wrong caller.
        let to = if bytes.below(5) == 4 {
            self.caller(bytes)
        } else {
            key.caller
        };
        self.input(ServerInput::Send { to, message });
    }

    fn application_notifies(&mut self, bytes: &mut Bytes<'_>) {
        let key = picked(&self.requests, bytes);
        let id = key.map_or_else(|| "ab".repeat(32), |key| key.id.to_hex());
        let message = match bytes.below(5) {
            0 => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"{id}","progress":1}}}}"#
            ),
            1 => format!(
                r#"{{"jsonrpc":"2.0","method":"x","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":"{id}"}}}}}}"#
            ),
            2 => r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:b"}}"#
                .to_owned(),
            _ => r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.to_owned(),
        };
        if bytes.flag() {
            self.input(ServerInput::Broadcast(message));
        } else {
            let to = if bytes.flag() {
                key.map(|key| key.caller)
            } else {
                None
            };
            let to = to.unwrap_or_else(|| self.caller(bytes));
            self.input(ServerInput::Send { to, message });
        }
    }

    fn application_asks(&mut self, bytes: &mut Bytes<'_>) {
        let (to, id) = (self.caller(bytes), request_id(bytes));
        let message = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"ping","params":{{"_meta":{{"progressToken":{id}}}}}}}"#
        );
        self.input(ServerInput::Send { to, message });
    }

    fn application_decides(&mut self, bytes: &mut Bytes<'_>) {
        let question = picked(&self.questions, bytes).unwrap_or_else(|| u64::from(bytes.byte()));
        self.input(ServerInput::Verdict {
            question,
            allow: bytes.flag(),
        });
    }

    fn publication_ends(&mut self, bytes: &mut Bytes<'_>) {
        let ticket = picked(&self.tickets, bytes).unwrap_or_else(|| Ticket(u64::from(bytes.byte())));
        let outcome = match bytes.below(3) {
            0 => Outcome::Accepted,
            1 => Outcome::Unknown,
            _ => Outcome::Refused("blocked: \u{202e}no\n".to_owned()),
        };
        self.input(ServerInput::Published(ticket, outcome));
    }

    fn time_passes(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.below(4) {
            0 => self.wake(),
            unit => {
                let ms = u64::from(bytes.byte()) * [1, 100, 2_000][unit - 1];
                self.pass(self.now.mono.0 + ms);
            }
        }
    }

    fn pass(&mut self, to: u64) {
        let mono = to.max(self.now.mono.0);
        self.now = Now {
            mono: Mono(mono),
            unix: START + mono / 1_000,
        };
    }

    fn wake(&mut self) {
        if let Some((at, _)) = self.machine.poll_timeout() {
            self.pass(at.0);
            self.input(ServerInput::Wake);
            let next = self.machine.poll_timeout();
            assert!(
                next.is_none_or(|(at, _)| at > self.now.mono),
                "a wake leaves nothing due: {next:?}"
            );
        }
    }

    fn input(&mut self, input: ServerInput) {
        self.machine.handle(input, self.now);
        for count in 0.. {
            assert!(count < OUTPUTS, "outputs come to an end");
            let Some(output) = self.machine.poll_output() else {
                break;
            };
            match output {
                ServerOutput::Publish(outbound) => self.publish(&outbound),
                ServerOutput::Deliver {
                    caller,
                    delivery,
                    message,
                    event,
                    tags: _,
                } => {
                    self.deliver(caller, &delivery, &message, &event);
                }
                ServerOutput::Ask { id, question: _ } => self.questions.push(id),
                ServerOutput::Restarted(_)
                | ServerOutput::Ended(_)
                | ServerOutput::Undeliverable { .. }
                | ServerOutput::Drop(_) => {}
            }
        }
        self.check_load();
    }

    fn check_load(&self) {
        let (load, limits) = (self.machine.load(), &self.limits);
        assert!(load.in_flight <= limits.in_flight, "{load:?}");
        assert!(load.in_flight_bytes <= limits.in_flight_bytes, "{load:?}");
        assert!(load.sessions <= limits.sessions, "{load:?}");
        assert!(load.stranger_sessions <= limits.stranger_sessions, "{load:?}");
        assert!(load.seen_ids <= limits.seen_ids, "{load:?}");
        assert!(load.ledger_bytes <= limits.ledger_bytes, "{load:?}");
        assert!(load.asked <= limits.in_flight, "{load:?}");
    }

    fn deliver(&mut self, caller: PublicKey, delivery: &Delivery, message: &str, event: &Event) {
        assert_eq!(event.pubkey, caller, "a message is its author's");
        assert_eq!(
            self.events.get(&event.id),
            Some(event),
            "only what came in is delivered"
        );
        let key = RequestKey { caller, id: event.id };
        assert!(self.delivered.insert(key), "one event is delivered once");
        let parsed = Envelope::parse(message, &self.limits).expect("what is delivered is JSON-RPC");
        let hex = format!("\"{}\"", event.id.to_hex());
        match delivery {
            Delivery::Request { key: named, method } => {
                assert_eq!((*named, parsed.kind), (key, MessageKind::Request));
                assert_eq!(parsed.method.as_deref(), Some(method.as_str()));
                assert_eq!(parsed.id.map(|id| id.get()), Some(hex.as_str()));
                let said = rewrite::meta_member(parsed.params, "clientPubkey").map(|said| said.get());
                assert!(
                    said.is_none_or(|said| said.contains(&caller.to_hex())),
                    "nobody names himself"
                );
                self.requests.push(key);
            }
            Delivery::Notification { method } => {
                assert_eq!(parsed.kind, MessageKind::Notification);
                if method == "notifications/cancelled" {
                    let named = rewrite::cancelled_request_id(parsed.params).expect("it names a request");
                    let id = serde_json::from_str::<EventId>(named.get()).expect("by its inner event id");
                    let key = RequestKey { caller, id };
                    assert!(
                        self.requests.contains(&key),
                        "a caller takes back what is its own"
                    );
                    assert!(self.cancelled.insert(key), "and does so once");
                }
            }
            Delivery::Response => {
                assert!(matches!(parsed.kind, MessageKind::Response | MessageKind::Error));
            }
        }
    }

    fn publish(&mut self, outbound: &Outbound) {
        let draft = &outbound.draft;
        assert_eq!(draft.author, self.me);
        let recipient = draft
            .tags
            .iter()
            .next()
            .and_then(|tag| tag.content().map(str::to_owned));
        assert_eq!(
            recipient,
            Some(outbound.recipient.to_hex()),
            "the first tag names the recipient"
        );
        assert!(
            self.encryption != EncryptionMode::Required || outbound.protection.is_encrypted(),
            "nothing goes out in clear where encryption is required"
        );
        assert!(!self.tickets.contains(&outbound.ticket), "a ticket is used once");
        self.tickets.push(outbound.ticket);
        let limits = Limits {
            json_nodes: usize::MAX,
            ..self.limits.clone()
        };
        let parsed = Envelope::parse(&draft.content, &limits).expect("what is published is JSON-RPC");
        let e = draft
            .tags
            .iter()
            .find(|tag| tag.kind() == "e")
            .and_then(|tag| tag.content());
        let Some(id) = e.map(|hex| EventId::from_hex(hex).expect("an e tag names an event")) else {
            assert!(
                !matches!(parsed.kind, MessageKind::Response | MessageKind::Error),
                "an answer names its request"
            );
            if parsed.kind == MessageKind::Request {
                self.asked.push(draft.id);
            }
            return;
        };
        let request = self.events.get(&id).expect("only what came in is answered");
        assert_eq!(
            request.pubkey, outbound.recipient,
            "nobody hears what another asked"
        );
        if !matches!(parsed.kind, MessageKind::Response | MessageKind::Error) {
            return;
        }
        let theirs =
            Envelope::parse(&request.content, &self.limits).expect("an answered request was JSON-RPC");
        assert_eq!(
            json(parsed.id),
            json(theirs.id),
            "the answer carries the caller's own id"
        );
        if draft.content.contains(UNAUTHORIZED) {
            return;
        }
        let key = RequestKey {
            caller: outbound.recipient,
            id,
        };
        let first = !self.answers.contains_key(&key);
        assert!(
            !(first && self.cancelled.contains(&key)),
            "what was taken back is not answered"
        );
        let answer = self.answers.entry(key).or_insert_with(|| draft.content.clone());
        assert_eq!(*answer, draft.content, "one request has one answer");
    }

    /// Ends every session and lets all time pass: whoever still waits is told, and nothing is left.
    fn finish(mut self) -> Counts {
        let counts = Counts {
            delivered: [self.delivered.len(), self.requests.len()],
            answered: self.answers.len(),
            taken_back: self.cancelled.len(),
            published: self.tickets.len(),
            asked: self.questions.len(),
        };
        for caller in self.callers.each_ref().map(Keys::public_key) {
            self.input(ServerInput::SessionClosed(caller));
        }
        assert_eq!(self.machine.load().in_flight, 0);
        for count in 0.. {
            if self.machine.poll_timeout().is_none() {
                break;
            }
            assert!(count < 10_000, "the timers run down");
            self.wake();
            for caller in self.callers.each_ref().map(Keys::public_key) {
                self.input(ServerInput::SessionClosed(caller));
            }
        }
        for key in &self.requests {
            assert!(
                self.answers.contains_key(key) || self.cancelled.contains(key),
                "a delivered request is answered or taken back"
            );
        }
        let load = self.machine.load();
        assert_eq!(
            (
                load.in_flight,
                load.in_flight_bytes,
                load.waiting,
                load.waiting_bytes
            ),
            (0, 0, 0, 0)
        );
        assert_eq!(
            (
                load.sessions,
                load.stranger_sessions,
                load.asked,
                load.ledger_bytes
            ),
            (0, 0, 0, 0)
        );
        counts
    }
}

fn picked<T: Copy>(among: &[T], bytes: &mut Bytes<'_>) -> Option<T> {
    let at = usize::from(bytes.byte());
    among.get(at.checked_rem(among.len())?).copied()
}

/// A JSON-RPC id, from so few that they collide.
fn request_id(bytes: &mut Bytes<'_>) -> String {
    bytes
        .pick(&[
            "0",
            "1",
            "2",
            "\"a\"",
            "\"1\"",
            "\"\"",
            "-7",
            "9007199254740991",
            "\"\\u0061\"",
        ])
        .to_owned()
}

fn json(part: Option<&serde_json::value::RawValue>) -> Option<Value> {
    part.map(|part| serde_json::from_str(part.get()).expect("a part is json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds;

    fn counts(name: &str) -> Counts {
        let seeds = seeds::all();
        let seed = seeds
            .iter()
            .find(|(target, other, _)| *target == "server_engine" && *other == name);
        counted(&seed.expect("the seed is there").2)
    }

    /// Requests delivered, requests answered, publications.
    fn requests(name: &str) -> [usize; 3] {
        let counts = counts(name);
        [counts.delivered[1], counts.answered, counts.published]
    }

    #[test]
    fn the_seeds_do_what_their_names_say() {
        assert_eq!(requests("answered"), [1, 1, 1]);
        assert_eq!(requests("answered_twice"), [1, 1, 1]);
        assert_eq!(requests("repeated"), [1, 1, 3], "once answered, repeated twice");
        assert_eq!(requests("repeated_in_clear"), [1, 1, 3]);
        assert_eq!(requests("two_callers"), [2, 2, 2]);
        assert_eq!(requests("wrong_caller"), [2, 1, 1]);
        assert_eq!(
            (requests("cancelled"), counts("cancelled").taken_back),
            ([1, 0, 0], 1)
        );
        assert_eq!(requests("progress"), [1, 1, 4]);
        assert!(
            requests("refused_by_relays")[2] >= 3,
            "what no relay took is published again"
        );
        assert_eq!(requests("too_large"), [1, 1, 1]);
        assert_eq!(requests("nonsense"), [1, 1, 1]);
        assert_eq!(requests("initialised"), [1, 1, 2]);
        assert_eq!(requests("restarted"), [2, 2, 2]);
        assert_eq!(requests("subscribed"), [2, 1, 2]);
        assert_eq!(counts("server_request").delivered, [2, 1]);
        assert_eq!(requests("session_closed"), [1, 1, 1]);
        assert_eq!(requests("busy")[0], 1);
        assert_eq!(requests("stale")[0], 1);
        assert_eq!(requests("downgraded")[0], 1);
        assert_eq!(requests("required"), [1, 1, 1]);
        assert_eq!(requests("disabled"), [1, 1, 1]);
        assert_eq!(requests("nobody"), [0, 0, 2]);
        assert_eq!(requests("listed"), [2, 1, 1]);
        assert_eq!((requests("asked_key"), counts("asked_key").asked), ([1, 1, 1], 1));
        assert_eq!(
            (requests("refused_key"), counts("refused_key").asked),
            ([1, 1, 2], 2)
        );
        assert_eq!(
            (requests("asked_capability"), counts("asked_capability").asked),
            ([1, 1, 1], 2)
        );
        assert_eq!(
            (requests("no_decision"), counts("no_decision").asked),
            ([0, 0, 1], 2)
        );
    }
}
