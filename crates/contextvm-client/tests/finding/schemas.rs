//! Servers found by the schema of a tool: only what their lists really hold counts.
use contextvm_announce::schema;
use contextvm_client::{SchemaName, Scope};
use nostr::event::Event;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::*;

fn tool(name: &str, claim: &str) -> Value {
    let input = json!({"type": "object", "properties": {"text": {"type": "string"}}});
    json!({"name": name, "inputSchema": input, "_meta": {"io.contextvm/common-schema": {"schemaHash": claim}}})
}

fn hash_of(tool: &Value) -> String {
    let raw: Box<RawValue> = serde_json::value::to_raw_value(tool).unwrap();
    schema::hash_tool(&raw).unwrap().to_string()
}

/// A tool list that is tagged with this hash.
fn tools(byte: u8, tool: &Value, tagged: &str) -> Event {
    let content = json!({"tools": [tool]}).to_string();
    let tags: [&[&str]; 3] = [&["i", tagged, "echo"], &["k", "io.contextvm/common-schema"], &["t", "demo"]];
    signed(&keys(byte), 11317, NOW, &tags, &content)
}

#[tokio::test]
async fn providers_are_those_whose_recomputed_hash_is_the_one_that_was_asked_for() {
    let relay = relay().await;
    let hash = hash_of(&tool("echo", ""));
    let honest = tools(1, &tool("echo", &hash), &hash);
    // It claims the hash in tag and tool, and has another schema.
    let pretender = tools(2, &tool("other", &hash), &hash);
    // It claims the hash in its tag alone.
    let tagged = tools(3, &json!({"name": "echo", "inputSchema": {"type": "object"}}), &hash);
    let other_hash = hash_of(&tool("other", ""));
    let other = tools(4, &tool("other", &other_hash), &other_hash);
    publish(&relay, [honest, pretender, tagged, other, announcement(&keys(1), NOW, "honest")]).await;
    let search = discovery(&[&relay.url()]);
    let whole: SchemaName = hash.parse().unwrap();
    let providers = search.providers(&whole).await.unwrap();
    let verified: Vec<_> =
        providers.verified.iter().map(|provider| (provider.server, provider.tool.as_str())).collect();
    assert_eq!(verified, [(keys(1).public_key(), "echo")]);
    let mismatched: Vec<_> = providers.mismatched.iter().map(|provider| provider.server).collect();
    assert_eq!(mismatched, [keys(2).public_key()]);
    assert_eq!(providers.hashes().len(), 1);
    // The second round brought what the server says about itself.
    assert_eq!(providers.found.directory.server(&keys(1).public_key()).unwrap().name(), "honest");
    // By its beginning, among all servers with common schemas.
    let beginning: SchemaName = hash[..8].parse().unwrap();
    let providers = search.providers(&beginning).await.unwrap();
    assert_eq!(providers.verified.len(), 1);
    assert_eq!(providers.found.directory.servers().count(), 4);
    // A category is asked for in the same way.
    let category = Scope { category: Some("demo".into()), ..Scope::default() };
    assert_eq!(search.servers(&category).await.unwrap().directory.servers().count(), 4);
    let nothing = Scope { category: Some("elsewhere".into()), ..Scope::default() };
    assert_eq!(search.servers(&nothing).await.unwrap().directory.servers().count(), 0);
}
