//! Relay lists on real discovery relays.
use std::time::{Duration, Instant};

use contextvm::Keys;
use contextvm::client::{Client, ClientOptions, resolve};
use contextvm::relay::{PublishEvent, Relays, RelaysConfig};
use contextvm::server::Server;
use contextvm_local_relay::{Faults, LocalRelay};
use nostr::event::{Tag, Tags};
use nostr::types::RelayUrl;
use serde_json::json;

use crate::support::*;

async fn publish_list(on: &LocalRelay, author: &Keys, urls: &[String]) {
    let tags = Tags::from_list(urls.iter().map(|url| Tag::custom("r", [url.as_str()])).collect());
    let event = author.sign_event(10002, 1_700_000_000, tags, String::new(), [0; 32]);
    let (relays, _inbox) = Relays::connect(RelaysConfig::new([RelayUrl::parse(&on.url()).unwrap()])).unwrap();
    let json = serde_json::to_string(&event).unwrap().into();
    let report = soon(relays.publish(PublishEvent { id: event.id, json })).await;
    assert!(report.accepted.is_some(), "{report:?}");
    relays.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_the_server_by_its_relay_list() {
    let (discovery, operational) = (relay().await, relay().await);
    let identity = keys();
    publish_list(&discovery, &identity, &[operational.url()]).await;
    let app = app(Server::builder(identity).relay(operational.url()).fresh_key()).await;
    let builder = Client::builder(keys(), app.key().into()).discovery_relays([discovery.url()]).stateless();
    let builder = builder.dangerous_local_relays();
    let (client, _messages) = builder.connect().await.unwrap();
    assert_eq!(call(&client, "echo", json!(1)).await.unwrap()["value"], json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_discovery_relay_costs_the_preference_and_no_more() {
    let discovery = relay().await;
    discovery.set_faults(Faults { mute: true, ..Faults::default() });
    let mut options = ClientOptions::new(keys(), keys().public_key().into());
    options.discovery_relays = Some(vec![discovery.url()]);
    options.fallback_relays = vec!["wss://fallback.example".into()];
    let started = Instant::now();
    let resolved = soon(resolve::resolve(&options)).await.unwrap();
    assert_eq!(resolved.source, resolve::Source::Fallback);
    assert!(started.elapsed() < resolve::PREFERENCE + Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_list_and_a_fallback_the_discovery_relays_serve() {
    let discovery = relay().await;
    let mut options = ClientOptions::new(keys(), keys().public_key().into());
    options.discovery_relays = Some(vec![discovery.url()]);
    let resolved = soon(resolve::resolve(&options)).await.unwrap();
    assert_eq!(resolved.source, resolve::Source::Discovery);
    assert_eq!(resolved.relays, [RelayUrl::parse(&discovery.url()).unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_comes_after_the_fallback_was_taken_still_leads_to_the_server() {
    let (discovery, listed, fallback) = (relay().await, relay().await, relay().await);
    let identity = keys();
    publish_list(&discovery, &identity, &[listed.url()]).await;
    discovery
        .set_faults(Faults { latency: resolve::PREFERENCE + Duration::from_secs(1), ..Faults::default() });
    let app = app(Server::builder(identity).relays([listed.url(), fallback.url()]).fresh_key()).await;
    let builder = Client::builder(keys(), app.key().into()).discovery_relays([discovery.url()]).stateless();
    let builder = builder.fallback_relays([fallback.url()]).dangerous_local_relays();
    let (client, _messages) = builder.connect().await.unwrap();
    assert_eq!(client.status().relays, [(fallback.url(), true)]);
    assert_eq!(call(&client, "echo", json!(1)).await.unwrap()["value"], json!(1));
    until(|| client.status().relays.contains(&(listed.url(), true))).await;
    fallback.shutdown().await;
    assert_eq!(call(&client, "echo", json!(2)).await.unwrap()["value"], json!(2));
}
