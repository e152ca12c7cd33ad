//! What is published at the start.
use contextvm_local_relay::{Faults, LocalRelay, RelayOptions};
use contextvm_relay::RelayOutcome;
use contextvm_server::announce::{AnnounceTargets, AnnouncingError};
use contextvm_server::{AnnounceOptions, CommonSchemas, Identity, Price, Profile, Server};

use crate::stage::{
    App, announced, builder, keys, leave, of_kind, options, relay, soon, stored, stored_kinds, tags,
};

fn tag(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_server_publishes_what_it_is_and_offers_all_pages_as_one_list() {
    let relay = relay().await;
    let app = App::legacy();
    app.tools(&["a", "b", "c"]);
    let profile = Profile { name: Some("n".to_owned()), ..Profile::default() };
    let prices =
        vec![Price::new("tool:a", "7", "sats").unwrap(), Price::new("prompt:p", "1", "sats").unwrap()];
    let server = builder(&[&relay])
        .identity(Identity { name: Some("Table".to_owned()), ..Identity::default() })
        .prices(prices)
        .common_schemas(CommonSchemas::default().with_tool("b"));
    let options = AnnounceOptions { profile: Some(profile), ..options() };
    let (_handle, _announcing, status) = announced(server, &app, options).await;
    let events = stored(&relay).await;
    let kinds: Vec<u16> = events.iter().map(|event| event.kind.as_u16()).collect();
    assert_eq!(kinds, [0, 10002, 11316, 11317, 11320]);
    assert!(events.iter().all(|event| event.pubkey == keys().public_key()));
    let caps = [tag(&["cap", "tool:a", "7", "sats"]), tag(&["cap", "prompt:p", "1", "sats"])];
    let own = [
        tag(&["name", "Table"]),
        tag(&["support_encryption"]),
        tag(&["support_encryption_ephemeral"]),
        tag(&["support_oversized_transfer"]),
        tag(&["support_open_stream"]),
        tag(&["support_repeats"]),
    ];
    assert_eq!(tags(of_kind(&events, 11316)), [&own[..], &caps[..]].concat());
    assert_eq!(
        of_kind(&events, 11316).content,
        r#"{"capabilities":{"prompts":{},"tools":{"listChanged":true}},"protocolVersion":"2025-11-25","serverInfo":{"name":"table","version":"1"}}"#
    );
    let tools = of_kind(&events, 11317);
    let list: serde_json::Value = serde_json::from_str(&tools.content).unwrap();
    let names: Vec<&str> =
        list["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!((names, list.get("nextCursor")), (vec!["a", "b", "c"], None));
    let hash = list["tools"][1]["_meta"]["io.contextvm/common-schema"]["schemaHash"].as_str().unwrap();
    let common = [tag(&["i", hash, "b"]), tag(&["k", "io.contextvm/common-schema"])];
    assert_eq!(tags(tools), [&caps[..1], &common[..]].concat());
    assert_eq!(tags(of_kind(&events, 10002)), [["r", &relay.url()]]);
    assert_eq!(of_kind(&events, 0).content, r#"{"name":"n"}"#);
    assert_eq!((status.events.len(), status.failures.len()), (5, 0));
    assert!(status.events.iter().all(|event| event.is_taken() && event.sent_at.is_some()));
    assert!(status.targets.bootstrap.is_empty(), "a local relay is nobody else's business");
}

#[tokio::test]
async fn a_server_of_the_newer_era_is_announced_from_what_it_is_discovered_to_be() {
    let relay = relay().await;
    let app = App::modern();
    let (_handle, _announcing, _) = announced(builder(&[&relay]), &app, options()).await;
    let events = stored(&relay).await;
    assert!(of_kind(&events, 11316).content.contains("supportedVersions"));
    assert!(of_kind(&events, 11317).content.contains("\"a\""));
    assert_eq!(app.asked()[..2], ["initialize", "server/discover"]);
}

#[tokio::test]
async fn bootstrap_relays_carry_announcements_and_may_fail() {
    let (own, further) = (relay().await, relay().await);
    let refusing = LocalRelay::start(RelayOptions {
        faults: Faults { refuse: Some("blocked: no".to_owned()), ..Faults::default() },
        ..RelayOptions::default()
    })
    .await
    .unwrap();
    let dead = "ws://127.0.0.1:1".to_owned();
    let bootstrap = vec![further.url(), refusing.url(), dead, own.url()];
    let options = AnnounceOptions { bootstrap: Some(bootstrap), ..options() };
    let (_handle, _announcing, status) = announced(builder(&[&own]), &App::legacy(), options).await;
    assert_eq!(stored_kinds(&further).await, stored_kinds(&own).await);
    assert_eq!(tags(of_kind(&stored(&further).await, 10002)), [["r", &own.url()]]);
    for event in &status.events {
        let outcomes: Vec<_> = event.per_relay.iter().map(|word| &word.outcome).collect();
        let refused = RelayOutcome::Refused("blocked: no".to_owned());
        let (taken, unreached) = (RelayOutcome::Accepted, RelayOutcome::NotSent);
        assert_eq!(outcomes, [&taken, &taken, &refused, &unreached], "each relay once");
        assert!(event.per_relay[3].failed.is_some());
    }
}

#[tokio::test]
async fn what_no_relay_takes_is_said_and_goes_out_again() {
    let relay = relay().await;
    relay.set_faults(Faults { refuse: Some("error: full".to_owned()), ..Faults::default() });
    let (_handle, mut announcing, status) = announced(builder(&[&relay]), &App::legacy(), options()).await;
    assert!(!status.events.is_empty() && status.events.iter().all(|event| !event.is_taken()));
    let ids = announcing.ids();
    relay.set_faults(Faults::default());
    while !announcing.status().events.iter().all(contextvm_server::announce::Announced::is_taken) {
        soon(announcing.changed()).await.unwrap();
    }
    assert_eq!(announcing.ids(), ids, "the same events");
    assert_eq!(stored_kinds(&relay).await, [10002, 11316, 11317, 11320]);
}

#[tokio::test]
async fn a_new_run_stamps_higher_than_the_run_before_whatever_the_clock_says() {
    let relay = relay().await;
    let ahead = contextvm_runtime::clock::unix_now() + 300;
    leave(&relay, 11317, ahead).await;
    leave(&relay, 11319, ahead).await;
    assert_eq!(stored_kinds(&relay).await, [11317, 11319]);
    let (_handle, _announcing, _) = announced(builder(&[&relay]), &App::legacy(), options()).await;
    let events = stored(&relay).await;
    assert_eq!(of_kind(&events, 11317).created_at.as_secs(), ahead + 1);
    assert!(of_kind(&events, 11316).created_at.as_secs() < ahead);
    assert!(!events.iter().any(|event| event.kind.as_u16() == 11319), "there are no templates any more");
    assert_eq!(tags(of_kind(&events, 5)).last().unwrap()[1], "11319");
}

#[tokio::test]
async fn a_preview_is_what_would_be_published_and_nothing_leaves() {
    let relay = relay().await;
    let app = App::legacy();
    let prices = vec![Price::new("tool:a", "7", "sats").unwrap()];
    let listener = Server::offline(builder(&[]).prices(prices.clone()).build());
    let handle = listener.handle();
    app.serve(listener);
    let named = AnnounceOptions { relays: Some(vec![relay.url()]), ..options() };
    let preview = soon(handle.preview(named)).await.unwrap();
    assert_eq!(preview.targets, AnnounceTargets::new(&[relay.url()], None).unwrap());
    assert!(preview.failures.is_empty() && preview.events.iter().all(|event| event.verify().is_ok()));
    let stats = relay.stats();
    assert_eq!((stats.received, stats.accepted_connections), (0, 0));

    let (_handle, _announcing, _) = announced(builder(&[&relay]).prices(prices), &app, options()).await;
    let words = |events: &[nostr::event::Event]| {
        let words = events.iter().map(|event| (event.kind, event.tags.clone(), event.content.clone()));
        words.collect::<Vec<_>>()
    };
    assert_eq!(words(&preview.events), words(&stored(&relay).await));
}

#[tokio::test]
async fn a_preview_of_an_application_that_says_nothing_ends_and_says_why() {
    let app = App::default();
    let listener = Server::offline(builder(&[]).build());
    let handle = listener.handle();
    app.serve(listener);
    let named = |relay_list| AnnounceOptions {
        relays: Some(vec!["ws://127.0.0.1:1".to_owned()]),
        relay_list,
        ..options()
    };
    let preview = soon(handle.preview(named(Some(false)))).await.unwrap();
    assert_eq!((preview.events.len(), preview.failures.len()), (0, 1));
    assert_eq!(handle.preview(options()).await.unwrap_err(), AnnouncingError::NoRelays);
    assert_eq!(handle.announce(options()).unwrap_err(), AnnouncingError::NoRelays);
}

#[tokio::test]
async fn a_session_that_ends_is_followed_by_another() {
    let relay = relay().await;
    let app = App::legacy();
    let (_handle, mut announcing, _) = announced(builder(&[&relay]), &app, options()).await;
    app.asked();
    app.tools(&["b"]);
    app.drop_sessions();
    while !announcing.status().event(11317).unwrap().event.content.contains("\"b\"") {
        soon(announcing.changed()).await.unwrap();
    }
    assert_eq!(app.asked()[0], "initialize");
}

#[tokio::test]
async fn the_shutdown_ends_announcing_although_a_relay_hangs() {
    let own = relay().await;
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bootstrap = Some(vec![format!("ws://{}", hanging.local_addr().unwrap())]);
    let options = AnnounceOptions { bootstrap, deadline: std::time::Duration::from_secs(60), ..options() };
    let listener = builder(&[&own]).start().await.unwrap();
    let handle = listener.handle();
    App::legacy().serve(listener);
    let mut announcing = handle.announce(options).unwrap();
    soon(async {
        while stored_kinds(&own).await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    soon(handle.shutdown()).await;
    assert!(soon(announcing.settled()).await.is_err(), "one relay has not answered yet");
}
