//! P1: whatever happens in whatever order, every call ends exactly once.
use std::collections::BTreeMap;

use contextvm_core::{Limits, Protection, WrapKind};
use contextvm_engine::{
    ClientConfig, ClientInput, ClientOutput, EncryptionMode, Outcome, StreamNews, Ticket,
};
use contextvm_stream::StreamBody;
use nostr::event::{EventId, Tag};
use proptest::prelude::*;
use serde_json::value::RawValue;

use crate::pieces::{answer, chunk, cut, stream_frame};
use crate::rig::{Rig, config};

#[derive(Clone, Debug)]
enum Op {
    Ask {
        id: u8,
        method: u8,
        token: bool,
        size: usize,
        read: bool,
    },
    Cancel {
        id: u8,
    },
    Answer {
        call: u8,
        error: bool,
        wrapped: bool,
    },
    Note {
        call: u8,
        progress: bool,
    },
    ServerAsks {
        id: u8,
    },
    AnswerServer {
        id: u8,
    },
    Outcome {
        call: u8,
        outcome: u8,
    },
    /// Relays take everything that is out.
    Taken,
    /// A frame of an answer in pieces, or of a stream.
    Piece {
        call: u8,
        at: u8,
        of: usize,
        named: bool,
    },
    Whole {
        call: u8,
    },
    Streamed {
        call: u8,
        frame: u8,
    },
    Stop {
        id: u8,
    },
    TakenChunks {
        id: u8,
        chunks: usize,
    },
    Limit {
        bytes: usize,
    },
    Up,
    Wait {
        millis: u32,
    },
    Text(String),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..20_u8, 0..5_u8, any::<bool>(), prop_oneof![3 => 0..100_usize, 1 => 30_000..200_000_usize], any::<bool>())
            .prop_map(|(id, method, token, size, read)| Op::Ask { id, method, token, size, read }),
        3 => Just(Op::Taken),
        8 => (any::<u8>(), 0..5_u8, 1..3_usize, any::<bool>())
            .prop_map(|(call, at, of, named)| Op::Piece { call, at, of, named }),
        2 => any::<u8>().prop_map(|call| Op::Whole { call }),
        8 => (any::<u8>(), 0..12_u8).prop_map(|(call, frame)| Op::Streamed { call, frame }),
        1 => (0..20_u8).prop_map(|id| Op::Stop { id }),
        1 => (0..20_u8, 0..4_usize).prop_map(|(id, chunks)| Op::TakenChunks { id, chunks }),
        1 => (10_000..200_000_usize).prop_map(|bytes| Op::Limit { bytes }),
        2 => (0..20_u8).prop_map(|id| Op::Cancel { id }),
        4 => (any::<u8>(), any::<bool>(), any::<bool>())
            .prop_map(|(call, error, wrapped)| Op::Answer { call, error, wrapped }),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(call, progress)| Op::Note { call, progress }),
        1 => (0..4_u8).prop_map(|id| Op::ServerAsks { id }),
        1 => (0..4_u8).prop_map(|id| Op::AnswerServer { id }),
        4 => (any::<u8>(), 0..3_u8).prop_map(|(call, outcome)| Op::Outcome { call, outcome }),
        1 => Just(Op::Up),
        3 => (0..40_000_u32).prop_map(|millis| Op::Wait { millis }),
        1 => "[\\[\\]{}\":,a-z0-9 ]{0,40}".prop_map(Op::Text),
    ]
}

const METHODS: [&str; 5] = ["ping", "initialize", "tools/call", "tools/list", "subscriptions/listen"];

/// Runs operations and keeps the balance of calls.
struct Balance {
    rig: Rig,
    asked: BTreeMap<String, usize>,
    ended: BTreeMap<String, usize>,
    lost: usize,
    errors: usize,
    live: Vec<Ticket>,
    /// Streams that the application reads, begun and ended.
    read: BTreeMap<String, usize>,
    read_ended: BTreeMap<String, usize>,
}

impl Balance {
    fn new(encryption: EncryptionMode) -> Self {
        let limits = Limits {
            pending: 8,
            in_flight_per_caller: 2,
            outbound_events: 4,
            transfers: 3,
            streams: 3,
            in_flight_bytes: 500_000,
            ..Limits::default()
        };
        let (answer_server_requests, open_streams) = (true, true);
        let rig =
            Rig::new(ClientConfig { limits, encryption, answer_server_requests, open_streams, ..config() });
        Self {
            rig,
            asked: BTreeMap::new(),
            ended: BTreeMap::new(),
            lost: 0,
            errors: 0,
            live: Vec::new(),
            read: BTreeMap::new(),
            read_ended: BTreeMap::new(),
        }
    }

    /// The server is one that may hang over a token.
    fn server_has_streams(&mut self) {
        let flags = ["support_oversized_transfer", "support_open_stream"];
        let tags = flags.map(|flag| Tag::parse([flag]).unwrap()).to_vec();
        self.rig.say(Self::wrap(true), tags, r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    }

    fn note(&mut self, outputs: Vec<ClientOutput>) {
        for output in outputs {
            match output {
                ClientOutput::Publish(outbound) => self.live.push(outbound.ticket),
                ClientOutput::Republish { ticket, .. } => {
                    assert!(self.live.contains(&ticket), "sends again what it forgot");
                }
                ClientOutput::Forget(ticket) => {
                    let at = self.live.iter().position(|live| *live == ticket);
                    self.live.remove(at.expect("forgets twice"));
                }
                ClientOutput::Deliver { message: text, .. } => self.delivered(&text),
                ClientOutput::Lost(_) => self.lost += 1,
                ClientOutput::Stream { id, news: StreamNews::Ended(_) } => {
                    *self.read_ended.entry(id.get().to_owned()).or_default() += 1;
                }
                ClientOutput::Stream { .. } => {}
                ClientOutput::Moved(moved) => assert!(moved.bytes <= moved.total || moved.total == 0),
                ClientOutput::Learned | ClientOutput::Drop(_) => {}
            }
        }
    }

    fn delivered(&mut self, text: &str) {
        let message: serde_json::Value = serde_json::from_str(text).unwrap();
        if message.get("method").is_none() {
            *self.ended.entry(message["id"].to_string()).or_default() += 1;
            self.errors += usize::from(message["error"]["data"]["reason"].is_string());
        }
    }

    fn ticket(&self, call: u8) -> Option<Ticket> {
        let newest_first = self.rig.published.iter().rev().map(|outbound| outbound.ticket);
        newest_first.cycle().nth(usize::from(call % 16)).filter(|_| !self.rig.published.is_empty())
    }

    /// The event of something published, and the token in it.
    fn token(&self, call: u8) -> Option<(EventId, String)> {
        let ticket = self.ticket(call)?;
        let published = self.rig.published.iter().find(|outbound| outbound.ticket == ticket)?;
        let message: serde_json::Value = serde_json::from_str(&published.draft.content).unwrap();
        let params = &message["params"];
        let token = [&params["progressToken"], &params["_meta"]["progressToken"]]
            .into_iter()
            .find(|token| !token.is_null())?;
        let text = token.as_str().map_or_else(|| token.to_string(), str::to_owned);
        (!text.is_empty()).then_some((published.draft.id, text))
    }

    /// The tickets that the machine has out.
    fn take_all(&mut self) -> Vec<ClientOutput> {
        let mut outputs = Vec::new();
        for ticket in self.live.clone() {
            outputs.extend(self.rig.handle(ClientInput::Published(ticket, Outcome::Accepted)));
        }
        outputs
    }

    fn piece(&mut self, call: u8, at: u8, of: usize, named: bool) -> Vec<ClientOutput> {
        let Some((event, token)) = self.token(call) else { return Vec::new() };
        let mut frames = cut(&token, &answer(of * 10_000), 9_000);
        frames.push(frames[0].replace("\"start\"", "\"abort\""));
        let tags = if named { vec![Tag::event(event)] } else { vec![] };
        let frame = &frames[usize::from(at) % frames.len()];
        self.rig.say(Self::wrap(true), tags, frame)
    }

    fn streamed(&mut self, call: u8, frame: u8) -> Vec<ClientOutput> {
        let Some((_, token)) = self.token(call) else { return Vec::new() };
        let text = match frame {
            0..3 => stream_frame(&token, 1, StreamBody::Start(None)),
            3 => stream_frame(&token, 9, StreamBody::Close(Some(3))),
            4 => stream_frame(&token, 9, StreamBody::Abort(None)),
            5 => stream_frame(&token, 9, StreamBody::Ping("x".into())),
            6 => stream_frame(&token, 9, StreamBody::Accept),
            index => chunk(&token, u64::from(index - 7), "text"),
        };
        self.rig.say(Self::wrap(true), vec![], &text)
    }

    fn wrap(wrapped: bool) -> Protection {
        if wrapped { Protection::Wrapped(WrapKind::Ephemeral) } else { Protection::Plain }
    }

    fn ask(&mut self, id: u8, method: u8, token: bool, size: usize, read: bool) -> Vec<ClientOutput> {
        *self.asked.entry(id.to_string()).or_default() += 1;
        let method = METHODS[usize::from(method)];
        let meta = if token { format!(r#","_meta":{{"progressToken":{id}}}"#) } else { String::new() };
        let text = "x".repeat(size);
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"x":"{text}"{meta}}}}}"#);
        if !read {
            return self.rig.send(&text);
        }
        *self.read.entry(id.to_string()).or_default() += 1;
        self.rig.handle(ClientInput::SendReading(text))
    }

    fn run(&mut self, op: &Op) {
        let outputs = match op {
            Op::Ask { id, method, token, size, read } => self.ask(*id, *method, *token, *size, *read),
            Op::Taken => self.take_all(),
            Op::Piece { call, at, of, named } => self.piece(*call, *at, *of, *named),
            Op::Whole { call } => (0..4).flat_map(|at| self.piece(*call, at, 1, true)).collect(),
            Op::Streamed { call, frame } => self.streamed(*call, *frame),
            Op::Stop { id } => {
                let id = RawValue::from_string(id.to_string()).unwrap();
                self.rig.handle(ClientInput::StopReading { id, reason: None })
            }
            Op::TakenChunks { id, chunks } => {
                let (id, chunks) = (RawValue::from_string(id.to_string()).unwrap(), *chunks);
                self.rig.handle(ClientInput::Taken { id, chunks })
            }
            Op::Limit { bytes } => self.rig.handle(ClientInput::RelayLimit(*bytes)),
            Op::Cancel { id } => {
                let before = self.rig.machine.pending_calls();
                let text = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
                );
                let outputs = self.rig.send(&text);
                *self.ended.entry(id.to_string()).or_default() += before - self.rig.machine.pending_calls();
                outputs
            }
            Op::Answer { call, error, wrapped } => {
                let Some(ticket) = self.ticket(*call) else { return };
                let body = if *error { r#""error":{"code":1,"message":"no"}"# } else { r#""result":{}"# };
                let tags = vec![Tag::event(self.rig.id_of(ticket.0))];
                self.rig.say(Self::wrap(*wrapped), tags, &format!(r#"{{"jsonrpc":"2.0","id":5,{body}}}"#))
            }
            Op::Note { call, progress } => {
                let Some(ticket) = self.ticket(*call) else { return };
                let tags = vec![Tag::event(self.rig.id_of(ticket.0))];
                let method = if *progress { "progress" } else { "message" };
                let text = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{"progressToken":"{call}"}}}}"#
                );
                self.rig.say(Self::wrap(true), tags, &text)
            }
            Op::ServerAsks { id } => {
                let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"roots/list"}}"#);
                self.rig.say(Self::wrap(true), vec![], &text)
            }
            Op::AnswerServer { id } => {
                self.rig.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#))
            }
            Op::Outcome { call, outcome } => {
                let Some(ticket) = self.ticket(*call) else { return };
                let outcome = match outcome {
                    0 => Outcome::Accepted,
                    1 => Outcome::Unknown,
                    _ => Outcome::Refused("blocked: no".to_owned()),
                };
                self.rig.handle(ClientInput::Published(ticket, outcome))
            }
            Op::Up => self.rig.handle(ClientInput::RelayUp),
            Op::Wait { millis } => self.rig.wait(u64::from(*millis)),
            Op::Text(text) => {
                let before = self.lost;
                let outputs = self.rig.send(text);
                self.note(outputs);
                self.lost = before;
                return;
            }
        };
        self.note(outputs);
        assert!(self.rig.machine.pending_calls() <= 8);
        assert!(self.live.len() <= 8 + 4 + 48 + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_call_ends_once(ops in prop::collection::vec(op(), 1..80), plain in any::<bool>(), probed in any::<bool>()) {
        let encryption = if plain { EncryptionMode::Disabled } else { EncryptionMode::Optional };
        let mut balance = Balance::new(encryption);
        if probed {
            balance.server_has_streams();
        }
        for op in &ops {
            balance.run(op);
            for (id, ended) in &balance.ended {
                let asked = balance.asked.get(id).copied().unwrap_or(0);
                prop_assert!(*ended <= asked, "call {id} ended twice");
            }
            for (id, ended) in &balance.read_ended {
                prop_assert!(*ended <= balance.read[id], "stream {id} ended twice");
            }
        }
        let outputs = balance.rig.handle(ClientInput::Close);
        balance.note(outputs);
        balance.ended.retain(|_, ended| *ended > 0);
        prop_assert_eq!(&balance.asked, &balance.ended);
        prop_assert_eq!(&balance.read, &balance.read_ended);
        prop_assert_eq!(balance.lost, balance.errors);
        prop_assert_eq!(balance.rig.machine.poll_timeout(), None);
        prop_assert_eq!(balance.rig.machine.pending_calls(), 0);
    }

    #[test]
    fn the_same_seed_and_inputs_give_the_same_outputs(ops in prop::collection::vec(op(), 1..40)) {
        let run = || {
            let mut balance = Balance::new(EncryptionMode::Optional);
            ops.iter().for_each(|op| balance.run(op));
            format!("{:?} {:?}", balance.rig.published, balance.rig.machine)
        };
        prop_assert_eq!(run(), run());
    }
}
