//! P1: whatever happens in whatever order, every call ends exactly once.
use std::collections::BTreeMap;

use contextvm_core::{Limits, Protection, WrapKind};
use contextvm_engine::{ClientConfig, ClientInput, ClientOutput, EncryptionMode, Outcome, Ticket};
use nostr::event::Tag;
use proptest::prelude::*;

use crate::rig::{Rig, config};

#[derive(Clone, Debug)]
enum Op {
    Ask { id: u8, method: u8, token: bool },
    Cancel { id: u8 },
    Answer { call: u8, error: bool, wrapped: bool },
    Note { call: u8, progress: bool },
    ServerAsks { id: u8 },
    AnswerServer { id: u8 },
    Outcome { call: u8, outcome: u8 },
    Up,
    Wait { millis: u32 },
    Text(String),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..20_u8, 0..5_u8, any::<bool>()).prop_map(|(id, method, token)| Op::Ask { id, method, token }),
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
}

impl Balance {
    fn new(encryption: EncryptionMode) -> Self {
        let limits = Limits { pending: 8, in_flight_per_caller: 2, outbound_events: 4, ..Limits::default() };
        let rig = Rig::new(ClientConfig { limits, encryption, answer_server_requests: true, ..config() });
        Self { rig, asked: BTreeMap::new(), ended: BTreeMap::new(), lost: 0, errors: 0, live: Vec::new() }
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

    fn wrap(wrapped: bool) -> Protection {
        if wrapped { Protection::Wrapped(WrapKind::Ephemeral) } else { Protection::Plain }
    }

    fn run(&mut self, op: &Op) {
        let outputs = match op {
            Op::Ask { id, method, token } => {
                *self.asked.entry(id.to_string()).or_default() += 1;
                let method = METHODS[usize::from(*method)];
                let meta = if *token {
                    format!(r#","params":{{"_meta":{{"progressToken":{id}}}}}"#)
                } else {
                    String::new()
                };
                self.rig.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"{meta}}}"#))
            }
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
        assert!(self.live.len() <= 8 + 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_call_ends_once(ops in prop::collection::vec(op(), 1..80), plain in any::<bool>()) {
        let encryption = if plain { EncryptionMode::Disabled } else { EncryptionMode::Optional };
        let mut balance = Balance::new(encryption);
        for op in &ops {
            balance.run(op);
            for (id, ended) in &balance.ended {
                let asked = balance.asked.get(id).copied().unwrap_or(0);
                prop_assert!(*ended <= asked, "call {id} ended twice");
            }
        }
        let outputs = balance.rig.handle(ClientInput::Close);
        balance.note(outputs);
        balance.ended.retain(|_, ended| *ended > 0);
        prop_assert_eq!(&balance.asked, &balance.ended);
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
