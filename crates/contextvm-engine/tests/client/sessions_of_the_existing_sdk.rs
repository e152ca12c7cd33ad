//! Sessions recorded from the TypeScript SDK, with this machine in the place of the client.
use std::collections::BTreeMap;

use contextvm_core::{Draft, Limits, Protection, WrapKind};
use contextvm_engine::{
    ClientConfig, ClientInput, ClientOutput, DropReason, EncryptionMode, GiftWrapMode, Outbound, Outcome,
    StreamEnd, StreamError, StreamNews,
};
use nostr::event::{EventId, Tag, Tags};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::pieces::{answer_ping, published};
use crate::rig::{Rig, config};

/// A flag that only this library knows.
const OUR_FLAG: &str = "support_unordered_streams";

fn traces() -> Value {
    serde_json::from_str(include_str!("../vectors/session_traces.json")).unwrap()
}

fn config_of(trace: &Value) -> ClientConfig {
    let options = &trace["client_options"];
    // Some recordings leave the mode out: the first event tells.
    let plain = trace["trace"][0]["event"]["kind"] == 25910;
    let encryption = match options["encryptionMode"].as_str() {
        _ if plain => EncryptionMode::Disabled,
        Some("required") => EncryptionMode::Required,
        _ => EncryptionMode::Optional,
    };
    let gift_wrap = match options["giftWrapMode"].as_str() {
        Some("persistent") => GiftWrapMode::Persistent,
        Some("ephemeral") => GiftWrapMode::Ephemeral,
        _ => GiftWrapMode::Optional,
    };
    let stateless = options["isStateless"].as_bool().unwrap_or(false);
    let flags = serde_json::to_string(&trace["trace"][0]["event"]["tags"]).unwrap();
    let open_streams = flags.contains("support_open_stream");
    // Some recordings cut messages that others send in one event.
    let mut limits = Limits::default();
    if let Some(threshold) = options["thresholdBytes"].as_u64() {
        limits.event = usize::try_from(threshold).unwrap();
    }
    ClientConfig { encryption, gift_wrap, stateless, open_streams, limits, ..config() }
}

fn protection_of(outer: &Value) -> Protection {
    match outer["kind"].as_u64() {
        Some(25910) => Protection::Plain,
        Some(1059) => Protection::Wrapped(WrapKind::Persistent),
        Some(21059) => Protection::Wrapped(WrapKind::Ephemeral),
        other => panic!("kind {other:?}"),
    }
}

fn tags_of(event: &Value) -> Vec<Vec<String>> {
    serde_json::from_value(event["tags"].clone()).unwrap()
}

/// One recorded session, replayed.
struct Replay {
    rig: Rig,
    /// The recorded ids of the client's events, and ours.
    ids: BTreeMap<String, EventId>,
    same_ids: usize,
    /// What the application got.
    delivered: Vec<String>,
    /// What it read.
    read: Vec<StreamNews>,
    drops: Vec<DropReason>,
    /// Messages that travelled in pieces, either way.
    transfers: usize,
}

impl Replay {
    fn new(trace: &Value) -> Self {
        Self {
            rig: Rig::new(config_of(trace)),
            ids: BTreeMap::new(),
            same_ids: 0,
            delivered: Vec::new(),
            read: Vec::new(),
            drops: Vec::new(),
            transfers: 0,
        }
    }

    fn note(&mut self, outputs: &[ClientOutput]) {
        for output in outputs {
            match output {
                ClientOutput::Deliver { message, .. } => self.delivered.push(message.clone()),
                ClientOutput::Stream { news, .. } => self.read.push(news.clone()),
                ClientOutput::Drop(reason) => self.drops.push(*reason),
                _ => {}
            }
        }
    }

    /// The client's message goes out as the SDK sent it, but for a private token where the application gave none.
    fn client(&mut self, recorded: &Value, outer: &Value) {
        let content = recorded["content"].as_str().unwrap();
        let message: Value = serde_json::from_str(content).unwrap();
        let outputs = match message["params"]["cvm"]["frameType"].as_str() {
            Some("abort") => {
                let reason = message["params"]["cvm"]["reason"].as_str().map(str::to_owned);
                let id = RawValue::from_string("1".to_owned()).unwrap();
                self.rig.handle(ClientInput::StopReading { id, reason })
            }
            _ if message["params"]["name"] == "stream" || message["params"]["name"] == "forever" => {
                self.rig.handle(ClientInput::SendReading(content.to_owned()))
            }
            _ => self.rig.send(content),
        };
        self.note(&outputs);
        let ClientOutput::Publish(outbound) = &outputs[0] else { panic!("{outputs:?}") };
        let token_added = outbound.draft.content != content;
        assert_eq!(without_private_token(&outbound.draft.content), content);
        self.compare(outbound, recorded, outer, !token_added);
        let ticket = outbound.ticket;
        self.rig.handle(ClientInput::Published(ticket, Outcome::Accepted));
    }

    /// Compares an event with the recorded one in everything but its content.
    fn compare(&mut self, outbound: &Outbound, recorded: &Value, outer: &Value, same_text: bool) {
        assert_eq!(outbound.protection, protection_of(outer));
        let tags: Vec<_> = outbound.draft.tags.iter().map(|tag| tag.as_slice().to_vec()).collect();
        let known: Vec<_> = tags.iter().filter(|tag| tag[0] != OUR_FLAG).cloned().collect();
        assert_eq!(known, tags_of(recorded));
        let id = recorded["id"].as_str().unwrap().to_owned();
        let Draft { author, created_at, content, .. } = &outbound.draft;
        let known = Tags::from_list(known.into_iter().map(|tag| Tag::parse(tag).unwrap()).collect());
        let same = Draft::new(*author, *created_at, known, content.clone()).id.to_hex() == id;
        let on_time = *created_at == recorded["created_at"].as_u64().unwrap();
        assert_eq!(same, same_text && on_time, "{recorded}");
        self.same_ids += usize::from(same);
        self.ids.insert(id, outbound.draft.id);
    }

    /// A request that travelled in pieces: ours are larger, but they declare and carry the same.
    fn upload(&mut self, recorded: &[&Value], outer: &Value, accept: Option<&Value>) {
        let frames: Vec<Value> = recorded
            .iter()
            .map(|event| serde_json::from_str(event["content"].as_str().unwrap()).unwrap())
            .collect();
        let piece = |frame: &Value| frame["params"]["cvm"]["data"].as_str().unwrap_or_default().to_owned();
        let message: String = frames.iter().map(piece).collect();
        let mut outputs = self.rig.send(&message);
        if accept.is_some() {
            // Theirs knows nothing of the server; ours asks first.
            outputs = answer_ping(&mut self.rig, &published(&outputs)[0], vec![]);
        }
        let mut outputs = self.rig.take_all(outputs);
        if let Some(accept) = accept {
            assert_eq!(published(&outputs).len(), 1, "it waits for the accept");
            let more = self.said(accept, protection_of(outer));
            outputs.extend(self.rig.take_all(more));
        }
        let ours = published(&outputs);
        let texts: Vec<Value> =
            ours.iter().map(|outbound| serde_json::from_str(&outbound.draft.content).unwrap()).collect();
        assert_eq!(texts.iter().map(piece).collect::<String>(), message);
        let (first, theirs) = (&texts[0]["params"], &frames[0]["params"]);
        for name in ["digest", "totalBytes", "completionMode"] {
            assert_eq!(first["cvm"][name], theirs["cvm"][name]);
        }
        for (at, number) in [(0, "progress"), (1, "progress"), (0, "message"), (0, "progressToken")] {
            assert_eq!(texts[at]["params"][number], frames[at]["params"][number]);
        }
        self.compare(&ours[0], recorded[0], outer, false);
        self.compare(&ours[1], recorded[1], outer, false);
        self.compare(ours.last().unwrap(), recorded.last().unwrap(), outer, false);
        self.transfers += 1;
    }

    fn said(&mut self, recorded: &Value, protection: Protection) -> Vec<ClientOutput> {
        let content = recorded["content"].as_str().unwrap();
        let tags = tags_of(recorded).into_iter().skip(1).map(|tag| match tag[0].as_str() {
            "e" => Tag::event(self.ids[&tag[1]]),
            _ => Tag::parse(tag).unwrap(),
        });
        let tags = tags.collect();
        self.rig.say(protection, tags, content)
    }

    /// What the server said reaches the application unchanged; frames do not reach it.
    fn server(&mut self, recorded: &Value, outer: &Value) {
        let outputs = self.said(recorded, protection_of(outer));
        let before = self.delivered.len();
        self.note(&outputs);
        let content = recorded["content"].as_str().unwrap();
        let message: Value = serde_json::from_str(content).unwrap();
        let delivered = &self.delivered[before..];
        match message["params"]["cvm"]["frameType"].as_str() {
            Some("end") => {
                assert_eq!(delivered.len(), 1, "the assembled answer");
                self.transfers += 1;
            }
            Some(_) => assert!(delivered.is_empty(), "{delivered:?}"),
            None => assert_eq!(delivered, [content]),
        }
    }
}

/// Takes a private token out again, with what was made to hold it.
fn without_private_token(text: &str) -> String {
    let message: Value = serde_json::from_str(text).unwrap();
    let token = message["params"]["_meta"]["progressToken"].to_string();
    if !(token.starts_with("\"c") && token.contains('-')) {
        return text.to_owned();
    }
    let holders = [
        format!(r#","params":{{"_meta":{{"progressToken":{token}}}}}"#),
        format!(r#","_meta":{{"progressToken":{token}}}"#),
        format!(r#""_meta":{{"progressToken":{token}}}"#),
        format!(r#","progressToken":{token}"#),
        format!(r#""progressToken":{token}"#),
    ];
    let holder = holders.iter().find(|holder| text.contains(*holder)).unwrap();
    text.replace(holder, "")
}

fn inner(step: &Value) -> &Value {
    if step["inner"].is_object() { &step["inner"] } else { &step["event"] }
}

fn is_from_client(step: &Value) -> bool {
    step["innerFrom"].as_str().or(step["from"].as_str()) == Some("client")
}

fn is_frame(step: &Value) -> bool {
    inner(step)["content"].as_str().unwrap().contains("\"oversized-transfer\"")
}

fn replay(trace: &Value) -> Replay {
    let mut replay = Replay::new(trace);
    let steps = trace["trace"].as_array().unwrap();
    let upload: Vec<&Value> =
        steps.iter().filter(|step| is_from_client(step) && is_frame(step)).map(inner).collect();
    let accept = steps.iter().find(|step| inner(step)["content"].as_str().unwrap().contains(r#""accept""#));
    let mut is_uploaded = false;
    for step in steps {
        let outer = &step["event"];
        if is_from_client(step) && is_frame(step) {
            if !is_uploaded {
                replay.upload(&upload, outer, accept.map(inner));
                is_uploaded = true;
            }
        } else if is_from_client(step) {
            replay.client(inner(step), outer);
        } else if accept.is_none_or(|accept| accept != step) {
            replay.server(inner(step), outer);
        }
    }
    assert_eq!(replay.rig.machine.pending_calls(), 0);
    replay
}

#[test]
fn sessions_of_the_existing_sdk_run_the_same_way() {
    let traces = traces();
    let (mut sessions, mut same_ids, mut transfers) = (0, 0, 0);
    for (name, trace) in traces["traces"].as_object().unwrap() {
        let replay = replay(trace);
        assert!(name.starts_with("open_stream") || replay.drops.is_empty(), "{name}: {:?}", replay.drops);
        sessions += 1;
        same_ids += replay.same_ids;
        transfers += replay.transfers;
    }
    assert!(sessions >= 11 && same_ids >= 30, "{sessions} sessions, {same_ids} equal ids");
    assert_eq!(transfers, 3);
}

#[test]
fn a_stream_of_the_existing_sdk_is_read_to_its_end() {
    let replay = replay(&traces()["traces"]["open_stream_server_to_client"]);
    let chunk = |index, data: &str| StreamNews::Chunk { index, data: data.into() };
    let end = StreamNews::Ended(StreamEnd::Closed { chunks: 2 });
    assert_eq!(replay.read, [chunk(0, "Hello"), chunk(1, " world"), end]);
    assert!(replay.drops.is_empty());
}

#[test]
fn a_stream_of_the_existing_sdk_is_aborted_in_the_same_words() {
    let replay = replay(&traces()["traces"]["open_stream_client_abort"]);
    let cancelled = StreamEnd::Failed { error: StreamError::Cancelled, reason: None };
    assert!(
        matches!(replay.read.as_slice(), [StreamNews::Chunk { .. }, StreamNews::Ended(end)] if *end == cancelled)
    );
    // The server says it back to a stream that is gone.
    assert_eq!(replay.drops, [DropReason::Uncorrelated]);
    assert!(replay.delivered.last().unwrap().contains("stopped"));
}

#[test]
fn an_answer_of_the_existing_sdk_is_put_together() {
    let trace = &traces()["traces"]["oversized_response_plaintext"];
    let replay = replay(trace);
    let answer: Value = serde_json::from_str(replay.delivered.last().unwrap()).unwrap();
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert_eq!(Some(text.len() as u64), trace["reassembledTextLength"].as_u64());
}
