//! The announcements of the TypeScript SDK, published by this machine from the same answers.
//!
//! Deliberate differences, all of them ours: lists carry the prices of what they list and no others; an empty list of a
//! capability that is not declared is not asked for; a deletion also names the address and the kind.
use contextvm_announce::{AnnouncerInput, CommonSchemas, Deletion, Price, Profile, Unsigned};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;
use serde_json::Value;

use crate::stage::{App, Stage, announcing, of_kind, tags};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/announcements.json")).unwrap()
}

fn events(vectors: &Value) -> Vec<Value> {
    vectors["events"].as_array().unwrap().iter().map(|event| event["event"].clone()).collect()
}

fn event(vectors: &Value, kind: u64) -> Value {
    events(vectors).into_iter().find(|event| event["kind"] == kind).unwrap()
}

fn tags_of(event: &Value) -> Vec<Vec<String>> {
    serde_json::from_value(event["tags"].clone()).unwrap()
}

/// What the MCP server behind the vectors answers: the hash in its list of tools is the SDK's doing.
fn app(vectors: &Value) -> App {
    let content = |kind| event(vectors, kind)["content"].as_str().unwrap().to_owned();
    let hash = r#","_meta":{"io.contextvm/common-schema":{"schemaHash":"fd79c0931239e4c79e679f6819d8bad6b63c45a441b25b30930e29e50ea9b012"}}"#;
    let tools = content(11317);
    assert!(tools.contains(hash));
    App::default()
        .with("initialize", &[&content(11316)])
        .with("tools/list", &[&tools.replace(hash, "")])
        .with("resources/list", &[&content(11318)])
        .with("resources/templates/list", &[&content(11319)])
        .with("prompts/list", &[&content(11320)])
}

fn published(vectors: &Value) -> Vec<Unsigned> {
    let server = tags_of(&event(vectors, 11316));
    let (caps, discovery): (Vec<_>, Vec<_>) = server.into_iter().partition(|tag| tag[0] == "cap");
    let mut config = announcing();
    config.discovery = discovery.into_iter().map(|tag| Tag::parse(tag).unwrap()).collect();
    config.prices = caps.iter().map(|tag| Price::parse(&Tag::parse(tag).unwrap()).unwrap()).collect();
    config.schemas =
        CommonSchemas::default().with_tool("echo").with_category("demo").with_category("echoing");
    config.profile = Some(Profile::parse(event(vectors, 0)["content"].as_str().unwrap()).unwrap());
    let relays = tags_of(&event(vectors, 10002)).into_iter().map(|tag| tag[1].clone());
    config.relay_list = Some(relays.collect());
    Stage::new(config, app(vectors)).tell(AnnouncerInput::Start)
}

#[test]
fn contents_are_the_same_to_the_byte() {
    let vectors = vectors();
    let published = published(&vectors);
    for kind in [11316, 11317, 11318, 11319, 11320, 10002, 0] {
        let expected = event(&vectors, kind.into());
        assert_eq!(of_kind(&published, kind).content, expected["content"].as_str().unwrap(), "{kind}");
    }
    assert_eq!(published.len(), 7);
}

#[test]
fn tags_are_the_same_but_for_the_prices_of_other_things() {
    let vectors = vectors();
    let published = published(&vectors);
    let belongs = |kind: u16, tag: &[String]| match kind {
        _ if tag[0] != "cap" => true,
        11317 => tag[1].starts_with("tool:"),
        11318 | 11319 => tag[1].starts_with("resource:"),
        11320 => tag[1].starts_with("prompt:"),
        _ => true,
    };
    for kind in [11316, 11317, 11318, 11319, 11320, 10002, 0] {
        let mut expected = tags_of(&event(&vectors, kind.into()));
        expected.retain(|tag| belongs(kind, tag));
        assert_eq!(tags(of_kind(&published, kind)), expected, "{kind}");
    }
}

#[test]
fn deletions_name_the_same_events_and_also_the_address_and_the_kind() {
    let vectors = vectors();
    let author = PublicKey::from_hex(vectors["keys"]["server"]["pk"].as_str().unwrap()).unwrap();
    let theirs: Vec<Value> = events(&vectors).into_iter().filter(|event| event["kind"] == 5).collect();
    assert_eq!(theirs.len(), 5);
    for (expected, kind) in theirs.iter().zip(11316..) {
        let ids = tags_of(expected).iter().map(|tag| EventId::from_hex(&tag[1]).unwrap()).collect();
        let reason = expected["content"].as_str().unwrap().to_owned();
        let draft = Deletion { author, kind, ids, reason }.draft(expected["created_at"].as_u64().unwrap());
        let address = ["a".to_owned(), format!("{kind}:{}:", author.to_hex())].to_vec();
        let further = [address, ["k".to_owned(), kind.to_string()].to_vec()];
        assert_eq!(tags(&draft), [&tags_of(expected)[..], &further[..]].concat());
        let same = Unsigned { tags: Tags::parse(tags_of(expected)).unwrap(), ..draft };
        assert_eq!(same.id(&author).to_hex(), expected["id"].as_str().unwrap());
    }
}
