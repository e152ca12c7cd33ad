//! Servers that announce themselves are found, looked at and called by their key alone.
use contextvm::announce::{DocumentKind, Origin};
use contextvm::client::{Client, Discovery, Found, Role, Scope};
use contextvm::server::announce::AnnounceOptions;
use contextvm::server::{Delivery, Identity, Listener, Server, ServerHandle, Session};
use contextvm_local_relay::LocalRelay;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::*;

/// Runs an application with two pages of tools.
fn catalog(mut listener: Listener) -> ServerHandle {
    let handle = listener.handle();
    tokio::spawn(async move {
        while let Some(session) = listener.accept().await {
            tokio::spawn(serve(session));
        }
    });
    handle
}

async fn serve(mut session: Session) {
    while let Some(inbound) = session.recv().await {
        let Delivery::Request { .. } = inbound.delivery else { continue };
        let message: Value = serde_json::from_str(&inbound.message).unwrap();
        let result = result(message["method"].as_str().unwrap(), &message["params"]);
        let answer = match result {
            Some(result) => json!({"jsonrpc": "2.0", "id": message["id"], "result": result}),
            None => {
                json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no"}})
            }
        };
        let _closed = session.sender().send(answer.to_string()).await;
    }
}

fn tool(name: &str) -> Value {
    json!({"name": name, "inputSchema": {"type": "object"}})
}

fn result(method: &str, params: &Value) -> Option<Value> {
    Some(match (method, params["cursor"].as_str()) {
        ("initialize", _) => json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "catalog", "version": "1.2.3"},
        }),
        ("tools/list", None) => json!({"tools": [tool("first")], "nextCursor": "2"}),
        ("tools/list", Some(_)) => json!({"tools": [tool("second")]}),
        ("tools/call", _) => json!({"content": [{"type": "text", "text": "called"}]}),
        _ => return None,
    })
}

fn tools(found: &Found, server: &ServerHandle) -> Vec<String> {
    let entry = found.directory.server(&server.public_key()).unwrap();
    entry.tools().unwrap().items.iter().map(|item| item.name.clone()).collect()
}

/// A server on one relay that publishes to another one, too.
async fn announced(home: &LocalRelay, public: &LocalRelay) -> ServerHandle {
    let identity = Identity { name: Some("Catalog".to_owned()), ..Identity::default() };
    let server = Server::builder(keys()).relay(home.url()).identity(identity).fresh_key();
    let server = server.start().await.unwrap();
    let handle = catalog(server);
    let options = AnnounceOptions { bootstrap: Some(vec![public.url()]), ..AnnounceOptions::default() };
    let mut announcing = handle.announce(options).unwrap();
    let status = soon(announcing.settled()).await.unwrap();
    assert!(status.events.iter().all(|event| event.is_taken()), "{status:?}");
    handle
}

fn discovery(relay: &LocalRelay) -> Discovery {
    Discovery::new(&[relay.url()]).unwrap().with_local_relays(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_announces_itself_is_found_looked_at_and_called_by_its_key_alone() {
    let (home, public) = (relay().await, relay().await);
    let server = announced(&home, &public).await;
    let found = soon(discovery(&public).servers(&Scope::default())).await.unwrap();
    let entries: Vec<_> = found.directory.servers().map(|entry| (*entry.key(), entry.name())).collect();
    assert_eq!(entries, [(server.public_key(), "Catalog".to_owned())]);
    assert_eq!(tools(&found, &server), ["first", "second"]);
    // Its relay list leads to its own relay, which has the same.
    let looked = soon(discovery(&public).server(&server.public_key().into())).await.unwrap();
    let roles: Vec<_> = looked.per_relay.iter().map(|answer| (answer.role, answer.is_complete())).collect();
    assert_eq!(roles, [(Role::Discovery, true), (Role::Listed, true)]);
    let entry = looked.directory.server(&server.public_key()).unwrap();
    assert_eq!(entry.relay_list().unwrap().document.selection(), [home.url()]);
    assert!(entry.tags().encryption);
    // No relay is given to the client: only where to look for the list.
    let builder = Client::builder(keys(), server.public_key().into()).discovery_relays([public.url()]);
    let (client, _messages) = builder.dangerous_local_relays().stateless().connect().await.unwrap();
    assert_eq!(client.status().relays, [(home.url(), true)]);
    let params = RawValue::from_string(r#"{"name":"first","arguments":{}}"#.into()).unwrap();
    let answer = soon(client.request("tools/call", Some(params))).await.unwrap();
    assert!(answer.get().contains("called"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_live_session_heard_stands_beside_what_was_announced() {
    let (home, public) = (relay().await, relay().await);
    let server = announced(&home, &public).await;
    let mut found = soon(discovery(&public).servers(&Scope::default())).await.unwrap();
    let (client, mut messages) = client(&home, server.public_key()).connect().await.unwrap();
    assert!(client.server_view().await.unwrap().add_to(&mut found.directory, 0).is_none());
    client.send(initialize(1)).await.unwrap();
    next(&mut messages).await;
    client.send(INITIALIZED.to_owned()).await.unwrap();
    soon(client.request("tools/list", None)).await.unwrap();
    let view = client.server_view().await.unwrap();
    let now = view.stamp(DocumentKind::Server).unwrap().created_at;
    view.add_to(&mut found.directory, now).unwrap().unwrap();
    let direct = RawValue::from_string(tool("direct").to_string()).unwrap();
    view.add_list_to(&mut found.directory, DocumentKind::Tools, &[direct], now).unwrap().unwrap();
    let entry = found.directory.server(&server.public_key()).unwrap();
    assert_eq!(entry.server().unwrap().origin, Origin::Direct);
    assert_eq!(entry.server().unwrap().document.version.as_deref(), Some("1.2.3"));
    assert_eq!(entry.server_sources().announced.as_ref().unwrap().origin, Origin::Announced);
    assert_eq!(entry.heard_tags().name.as_deref(), Some("Catalog"));
    assert_eq!(tools(&found, &server), ["direct"]);
    assert!(view.add_list_to(&mut found.directory, DocumentKind::Prompts, &[], now).is_none());
}
