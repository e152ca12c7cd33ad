//! Recorded transfers and streams of the existing TypeScript SDK, replayed against our server.
//!
//! Deliberate differences: frames of streams carry `e` (the recorded ones name nothing), an accept carries no discovery
//! tags and is sent for every start, the echo of an abort repeats no reason, what is returned after an abort becomes an
//! error, and chunks are as long as relays take them.
use contextvm_core::{Limits, Mono, Now, Opened, Protection};
use contextvm_engine::server::{Access, Delivery};
use contextvm_engine::{Outcome, RequestKey, ServerConfig, ServerInput, ServerMachine, ServerOutput};
use nostr::event::Event;
use nostr::key::PublicKey;
use serde_json::Value;

use crate::frames::{assembled, types};

const TRACES: &str = include_str!("../vectors/session_traces.json");

/// One side of a recorded exchange.
struct Recording {
    machine: ServerMachine,
    server: PublicKey,
    events: Vec<Event>,
    /// The request that the application was asked last.
    asked: Option<RequestKey>,
    sent: Vec<contextvm_core::Draft>,
    passed: u64,
}

impl Recording {
    fn new(name: &str, config: ServerConfig) -> Self {
        let file: Value = serde_json::from_str(TRACES).unwrap();
        let server = PublicKey::parse(file["keys"]["server"]["pk"].as_str().unwrap()).unwrap();
        let steps = file["traces"][name]["trace"].as_array().unwrap();
        let read = |step: &Value| Event::from_json(step["event"].to_string()).unwrap();
        let machine = ServerMachine::new(config, server, [0; 32]);
        Self {
            machine,
            server,
            events: steps.iter().map(read).collect(),
            asked: None,
            sent: Vec::new(),
            passed: 0,
        }
    }

    fn now(&self) -> Now {
        Now { unix: self.events[0].created_at.as_secs(), mono: Mono(self.passed) }
    }

    fn drain(&mut self) {
        let now = self.now();
        while let Some(output) = self.machine.poll_output() {
            match output {
                ServerOutput::Publish(outbound) => {
                    self.machine.handle(ServerInput::Published(outbound.ticket, Outcome::Accepted), now);
                    self.sent.push(outbound.draft);
                }
                ServerOutput::Deliver { delivery: Delivery::Request { key, .. }, .. } => {
                    self.asked = Some(key);
                }
                ServerOutput::Deliver { .. }
                | ServerOutput::Ask { .. }
                | ServerOutput::Remember { .. }
                | ServerOutput::Restarted(_)
                | ServerOutput::Ended(_)
                | ServerOutput::StreamRoom(_)
                | ServerOutput::StreamEnded { .. }
                | ServerOutput::Undeliverable { .. }
                | ServerOutput::Unasked { .. }
                | ServerOutput::Refused { .. }
                | ServerOutput::Drop(_) => {}
            }
        }
    }

    /// Lets the recorded client say the event; what we send is kept.
    fn hear(&mut self, event: &Event) {
        let now = self.now();
        let opened = Opened::check(event.clone(), Protection::Plain, event.id, &self.server, now.unix, 600);
        self.machine.handle(ServerInput::Opened(Box::new(opened.unwrap())), now);
        self.drain();
    }

    /// The application answers what it was asked last, with a recorded answer.
    fn answer(&mut self, recorded: &str) {
        let key = self.asked.unwrap();
        let mut message: Value = serde_json::from_str(recorded).unwrap();
        message["id"] = Value::String(key.id.to_hex());
        self.machine.handle(ServerInput::Send { to: key.caller, message: message.to_string() }, self.now());
        self.drain();
        // What names a transferred request waits a little.
        self.passed += 1_000;
        self.machine.handle(ServerInput::Wake, self.now());
        self.drain();
    }

    fn stream(&mut self, act: impl FnOnce(&mut ServerMachine, &RequestKey, Now)) {
        let (key, now) = (self.asked.unwrap(), self.now());
        act(&mut self.machine, &key, now);
        self.drain();
    }

    /// Plays everything up to the recorded call, and returns what follows, theirs and ours apart.
    fn begin(&mut self) -> (Vec<Event>, Vec<Event>) {
        let events = self.events.clone();
        let call = events.iter().position(|event| event.content.contains("tools/call")).unwrap();
        for event in &events[..=call] {
            if event.pubkey == self.server {
                self.answer(&event.content);
            } else {
                self.hear(event);
            }
        }
        self.sent.clear();
        events[call + 1..].iter().cloned().partition(|event| event.pubkey == self.server)
    }

    fn contents(&self) -> Vec<&str> {
        self.sent.iter().map(|draft| draft.content.as_str()).collect()
    }
}

fn same(ours: &str, recorded: &str) {
    let [ours, recorded]: [Value; 2] = [ours, recorded].map(|text| serde_json::from_str(text).unwrap());
    assert_eq!(ours, recorded);
}

#[test]
fn a_stream_is_written_as_recorded() {
    let mut trace = Recording::new("open_stream_server_to_client", ServerConfig::default());
    let (recorded, _) = trace.begin();
    trace.stream(|machine, key, now| {
        assert_eq!(machine.write_stream(key, "Hello", now), Ok(5));
        assert_eq!(machine.write_stream(key, " world", now), Ok(6));
        machine.close_stream(key, now).unwrap();
    });
    trace.answer(&recorded[4].content);
    let frames: Vec<_> = recorded[..4].iter().map(|event| event.content.as_str()).collect();
    assert_eq!(trace.contents()[..4], frames, "byte for byte");
    same(&trace.sent[4].content, &recorded[4].content);
    assert_eq!(trace.sent.len(), 5);
    let request = trace.asked.unwrap().id.to_hex();
    assert!(trace.sent.iter().all(|draft| draft.tags[1].as_slice()[1] == request));
}

#[test]
fn a_recorded_client_aborts() {
    let mut trace = Recording::new("open_stream_client_abort", ServerConfig::default());
    let (recorded, theirs) = trace.begin();
    trace.stream(|machine, key, now| {
        machine.write_stream(key, "a", now).unwrap();
    });
    assert_eq!(trace.contents(), [recorded[0].content.as_str(), &recorded[1].content]);
    trace.hear(&theirs[0]);
    assert_eq!(trace.contents()[2], recorded[2].content.replace(r#","reason":"enough""#, ""));
    trace.answer(&recorded[3].content);
    assert!(trace.contents()[3].ends_with(r#""error":{"code":-32000,"message":"Stream aborted"}}"#));
    assert_eq!(trace.sent[3].tags[1].as_slice()[1], recorded[3].tags[1].as_slice()[1]);
}

#[test]
fn an_answer_in_pieces_declares_what_was_recorded() {
    // So small that the recorded answer does not fit; the chunks are ours.
    let limits = Limits { event: 1_300, ..Limits::default() };
    let mut trace =
        Recording::new("oversized_response_plaintext", ServerConfig { limits, ..ServerConfig::default() });
    let (recorded, _) = trace.begin();
    let sdk: Vec<_> = recorded
        .iter()
        .map(|event| contextvm_core::Draft::new(event.pubkey, 0, event.tags.clone(), event.content.clone()))
        .collect();
    let key = trace.asked.unwrap();
    // Byte for byte the text that was recorded, but for the id, which is restored.
    let message = assembled(&sdk).unwrap();
    let message = message.replacen(r#""id":1}"#, &format!(r#""id":"{}"}}"#, key.id.to_hex()), 1);
    let now = trace.now();
    trace.machine.handle(ServerInput::Send { to: key.caller, message }, now);
    trace.drain();
    assert_eq!(assembled(&trace.sent), assembled(&sdk));
    let without = |text: &str, member: &str| {
        let mut value: Value = serde_json::from_str(text).unwrap();
        let params = value["params"].as_object_mut().unwrap();
        params.remove(member);
        params["cvm"].as_object_mut().unwrap().remove(member);
        value
    };
    let [ours, theirs] = [&trace.sent, &sdk].map(|drafts| without(&drafts[0].content, "totalChunks"));
    assert_eq!(ours, theirs, "the start frame");
    let [ours, theirs] =
        [&trace.sent, &sdk].map(|drafts| without(&drafts.last().unwrap().content, "progress"));
    assert_eq!(ours, theirs, "the end frame");
    for (ours, recorded) in trace.sent.iter().zip(&recorded) {
        let values =
            |tags: &nostr::event::Tags| tags.iter().map(|tag| tag.as_slice().to_vec()).collect::<Vec<_>>();
        assert_eq!(values(&ours.tags), values(&recorded.tags));
    }
}

#[test]
fn recorded_requests_in_pieces_are_taken_with_and_without_a_session() {
    for (name, accept) in
        [("oversized_request_known_support", None), ("oversized_request_stateless_unknown_support", Some(8))]
    {
        // Without a session only a key on the list may begin with a transfer.
        let client =
            PublicKey::parse("466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27").unwrap();
        let allowed = accept.map(|_| [client].into());
        let access = Access { allowed, ..Access::default() };
        let mut trace = Recording::new(name, ServerConfig { access, ..ServerConfig::default() });
        let events = trace.events.clone();
        let last = events.last().unwrap();
        for event in &events {
            if event.pubkey != trace.server {
                trace.hear(event);
            } else if event.content.contains("\"result\"") {
                trace.answer(&event.content);
            }
        }
        assert_eq!(
            trace.asked.unwrap().id.to_hex(),
            last.tags[1].as_slice()[1],
            "the end frame is the request"
        );
        same(&trace.sent.last().unwrap().content, &last.content);
        let names = types(&trace.sent);
        let at = names.iter().position(|name| name == "accept").unwrap();
        assert_eq!(trace.sent[at].tags.len(), 1);
        if let Some(accept) = accept {
            assert_eq!(trace.sent[at].content, events[accept].content, "byte for byte");
        }
    }
}
