//! Sessions recorded from the TypeScript SDK, with this machine in the place of the client.
use std::collections::BTreeMap;

use contextvm_core::{Protection, WrapKind};
use contextvm_engine::{ClientConfig, ClientOutput, EncryptionMode, GiftWrapMode, Outcome};
use nostr::event::{EventId, Tag};
use serde_json::Value;

use crate::rig::{Rig, config};

/// Flags of features that this machine does not have.
const OTHER_FLAGS: [&str; 2] = ["support_oversized_transfer", "support_open_stream"];

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
    ClientConfig { encryption, gift_wrap, stateless, ..config() }
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
    let tags: Vec<Vec<String>> = serde_json::from_value(event["tags"].clone()).unwrap();
    tags.into_iter().filter(|tag| !OTHER_FLAGS.contains(&tag[0].as_str())).collect()
}

/// The client's message goes out as the SDK sent it; returns whether even the id is the same.
fn replay_client(
    rig: &mut Rig,
    recorded: &Value,
    outer: &Value,
    ids: &mut BTreeMap<String, EventId>,
) -> bool {
    let content = recorded["content"].as_str().unwrap();
    let outputs = rig.send(content);
    let [ClientOutput::Publish(outbound)] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(outbound.draft.content, content);
    assert_eq!(outbound.protection, protection_of(outer), "{content}");
    let tags: Vec<_> = outbound.draft.tags.iter().map(|tag| tag.as_slice().to_vec()).collect();
    assert_eq!(tags, tags_of(recorded), "{content}");
    let id = recorded["id"].as_str().unwrap().to_owned();
    let same = outbound.draft.id.to_hex() == id;
    let no_other_flags = tags.len() == recorded["tags"].as_array().unwrap().len();
    let on_time = outbound.draft.created_at == recorded["created_at"].as_u64().unwrap();
    assert_eq!(same, no_other_flags && on_time, "{content}");
    ids.insert(id, outbound.draft.id);
    let ticket = outbound.ticket;
    rig.handle(contextvm_engine::ClientInput::Published(ticket, Outcome::Accepted));
    same
}

/// What the server said reaches the application unchanged.
fn replay_server(rig: &mut Rig, recorded: &Value, outer: &Value, ids: &BTreeMap<String, EventId>) {
    let content = recorded["content"].as_str().unwrap();
    let tags = tags_of(recorded).into_iter().skip(1).map(|tag| match tag[0].as_str() {
        "e" => Tag::event(ids[&tag[1]]),
        _ => Tag::parse(tag).unwrap(),
    });
    let outputs = rig.say(protection_of(outer), tags.collect(), content);
    let delivered: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            ClientOutput::Deliver { message: text, .. } => Some(text.as_str()),
            ClientOutput::Drop(reason) => panic!("dropped {content}: {reason:?}"),
            _ => None,
        })
        .collect();
    let message: Value = serde_json::from_str(content).unwrap();
    if message["params"]["cvm"].is_object() {
        // Frames carry the token as a string; the application gets it back as it gave it.
        assert_eq!(delivered.len(), 1);
    } else {
        assert_eq!(delivered, [content]);
    }
}

#[test]
fn sessions_of_the_existing_sdk_run_the_same_way() {
    let traces = traces();
    let mut sessions = 0;
    let mut same_ids = 0;
    for (name, trace) in traces["traces"].as_object().unwrap() {
        // An oversized transfer travels in other events than its message does (CEP-22).
        if name.starts_with("oversized") {
            continue;
        }
        let mut rig = Rig::new(config_of(trace));
        let mut ids = BTreeMap::new();
        for step in trace["trace"].as_array().unwrap() {
            let outer = &step["event"];
            let inner = if step["inner"].is_object() { &step["inner"] } else { outer };
            let from = step["innerFrom"].as_str().or(step["from"].as_str()).unwrap();
            if from == "client" {
                same_ids += usize::from(replay_client(&mut rig, inner, outer, &mut ids));
            } else {
                replay_server(&mut rig, inner, outer, &ids);
            }
        }
        assert_eq!(rig.machine.pending_calls(), 0, "{name}");
        sessions += 1;
    }
    assert!(sessions >= 8 && same_ids >= 40, "{sessions} sessions, {same_ids} equal ids");
}
