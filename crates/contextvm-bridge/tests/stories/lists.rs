//! A list that a caller asks for says on its event what the operator says about it.
use std::time::Duration;

use contextvm_bridge::{CancellationToken, Gateway};
use contextvm_client::{Client, EncryptionMode};
use contextvm_local_relay::{LocalRelay, RelayOptions};
use contextvm_relay::{Filter, Inbox, Incoming, Relays, RelaysConfig};
use contextvm_server::{CommonSchemas, Identity, Price, Server, ServerHandle};
use nostr::types::RelayUrl;
use serde_json::{Value, json};

use crate::stage::{call, child, keys, request};

/// What stands on the first word to a caller.
const FIRST: [&str; 4] = ["name=n", "support_oversized_transfer", "support_open_stream", "support_repeats"];

fn prices() -> Vec<Price> {
    let prices = [("tool:echo", "100"), ("prompt:greet", "5"), ("resource:a:b", "1-9")];
    prices.into_iter().map(|(what, amount)| Price::new(what, amount, "sats").unwrap()).collect()
}

/// Everything that the server says, as it is on the relay.
fn listen(relay: &LocalRelay) -> (Relays, Inbox) {
    let filter = json!({"kinds": [25910], "authors": [keys(100).public_key().to_hex()]});
    let filter = Filter::new(&filter.to_string(), Duration::ZERO).unwrap();
    let url = RelayUrl::parse(&relay.url()).unwrap();
    Relays::connect(RelaysConfig::new([url]).with_filter(filter)).unwrap()
}

/// Returns the tags behind `p` and `e`, and the result, of the server's next word.
async fn next(inbox: &mut Inbox) -> (Vec<String>, Value) {
    let event = async {
        loop {
            if let Some(Incoming::Event { json, .. }) = inbox.recv().await {
                return serde_json::from_str::<Value>(&json).unwrap();
            }
        }
    };
    let event = tokio::time::timeout(Duration::from_secs(10), event).await.expect("no event came");
    let content: Value = serde_json::from_str(event["content"].as_str().unwrap()).unwrap();
    let tags = event["tags"].as_array().unwrap().iter().map(|tag| {
        let parts: Vec<&str> = tag.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        parts.join("=")
    });
    let tags: Vec<String> = tags.collect();
    assert!(tags[0].starts_with("p=") && tags[1].starts_with("e="), "{tags:?}");
    (tags[2..].to_vec(), content["result"].clone())
}

struct Scene {
    server: ServerHandle,
    client: Client,
    inbox: Inbox,
    _relays: Relays,
    _relay: LocalRelay,
    stop: CancellationToken,
}

async fn scene(schemas: CommonSchemas, prices: Vec<Price>) -> Scene {
    let relay = LocalRelay::start(RelayOptions::default()).await.unwrap();
    let gateway = Gateway::builder(child(&[])).start().await.unwrap();
    let identity = Identity { name: Some("n".to_owned()), ..Identity::default() };
    let server = Server::builder(keys(100)).relay(relay.url()).fresh_key().identity(identity);
    let server = server.encryption(contextvm_server::EncryptionMode::Disabled);
    let listener = server.common_schemas(schemas).prices(prices).start().await.unwrap();
    let (server, stop) = (listener.handle(), CancellationToken::new());
    tokio::spawn(gateway.run(listener, stop.clone()));
    let (relays, inbox) = listen(&relay);
    relays.ready(Duration::from_secs(5)).await;
    let client = Client::builder(keys(1), keys(100).public_key().into()).relay(relay.url());
    let client = client.encryption(EncryptionMode::Disabled).connect().await.unwrap().0;
    Scene { server, client, inbox, _relays: relays, _relay: relay, stop }
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_and_schemas_stand_on_the_list_that_they_are_about() {
    let schemas = CommonSchemas::default().with_tool("echo").with_category("demo");
    let mut scene = scene(schemas, prices()).await;
    let listed = request(&scene.client, "tools/list", "{}").await.unwrap();
    let (tags, result) = next(&mut scene.inbox).await;
    let hash = result["tools"][0]["_meta"]["io.contextvm/common-schema"]["schemaHash"].as_str().unwrap();
    assert_eq!(listed, result, "and the caller gets it so");
    assert_eq!(hash.len(), 64);
    let common = ["cap=tool:echo=100=sats".to_owned(), format!("i={hash}=echo")];
    let expected: Vec<&str> = FIRST.into_iter().chain(common.iter().map(String::as_str)).collect();
    assert_eq!(tags[..6], expected);
    assert_eq!(tags[6..], ["k=io.contextvm/common-schema", "t=demo"]);

    call(&scene.client, "echo", "{}").await.unwrap();
    assert!(next(&mut scene.inbox).await.0.is_empty(), "no list, no tags");

    scene.server.set_prices(vec![Price::new("tool:echo", "7", "sats").unwrap()]);
    assert_eq!(scene.server.prices().len(), 1);
    assert_eq!(request(&scene.client, "tools/list", "{}").await.unwrap(), listed);
    assert_eq!(next(&mut scene.inbox).await.0[0], "cap=tool:echo=7=sats");
    scene.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anything_to_say_a_list_goes_out_as_the_server_wrote_it() {
    let mut scene = scene(CommonSchemas::default(), Vec::new()).await;
    request(&scene.client, "tools/list", "{}").await.unwrap();
    let (tags, result) = next(&mut scene.inbox).await;
    assert_eq!(tags, FIRST);
    assert_eq!(result, json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}));
    scene.stop.cancel();
}
