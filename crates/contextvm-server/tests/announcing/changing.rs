//! What is published again.
use std::time::Duration;

use contextvm_local_relay::{LocalRelay, RelayOptions};
use contextvm_relay::RelayOutcome;
use contextvm_server::announce::Announced;
use contextvm_server::{AnnounceOptions, Announcing, Price};
use nostr::event::Event;

use crate::stage::{
    App, announced, builder, changed, leave, of_kind, options, relay, soon, stored, stored_kinds, tags,
};

/// Waits until an event about this kind was taken that is not `old`.
async fn next(announcing: &mut Announcing, about: u16, old: &Event) -> Event {
    loop {
        let status = soon(announcing.changed()).await.unwrap();
        if let Some(announced) = status.event(about)
            && announced.event.id != old.id
            && announced.is_taken()
        {
            return announced.event.clone();
        }
    }
}

#[tokio::test]
async fn a_burst_of_changes_is_published_once() {
    let relay = relay().await;
    let app = App::legacy();
    let (handle, mut announcing, status) = announced(builder(&[&relay]), &app, options()).await;
    let old = status.event(11317).unwrap().event.clone();
    let received = relay.stats().received;
    app.asked();
    app.tools(&["b"]);
    for _ in 0..10 {
        changed(&handle, "tools").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let new = next(&mut announcing, 11317, &old).await;
    assert!(new.content.contains("\"b\"") && new.created_at > old.created_at);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(relay.stats().received, received + 1);
    assert_eq!(app.asked(), ["tools/list"]);
    assert_eq!(of_kind(&stored(&relay).await, 11317).id, new.id);
}

#[tokio::test]
async fn a_list_that_is_gone_is_deleted_and_comes_back() {
    let relay = relay().await;
    let app = App::legacy();
    let (handle, mut announcing, status) = announced(builder(&[&relay]), &app, options()).await;
    let old = status.event(11320).unwrap().event.clone();
    app.unset("prompts/list");
    changed(&handle, "prompts").await;
    let deletion = next(&mut announcing, 11320, &old).await;
    assert_eq!(stored_kinds(&relay).await, [5, 10002, 11316, 11317]);
    app.set("prompts/list", &[serde_json::json!({ "prompts": [] })]);
    changed(&handle, "prompts").await;
    let again = next(&mut announcing, 11320, &deletion).await;
    assert_eq!(of_kind(&stored(&relay).await, 11320).id, again.id, "it is stamped after the deletion");
}

#[tokio::test]
async fn a_subscription_of_the_newer_era_tells_of_changes() {
    let relay = relay().await;
    let app = App::modern();
    let (_handle, mut announcing, status) = announced(builder(&[&relay]), &app, options()).await;
    let old = status.event(11317).unwrap().event.clone();
    app.tools(&["b"]);
    app.tell_subscribers().await;
    let new = next(&mut announcing, 11317, &old).await;
    assert!(new.content.contains("\"b\""));
}

#[tokio::test]
async fn prices_that_change_are_published() {
    let relay = relay().await;
    let (handle, mut announcing, status) = announced(builder(&[&relay]), &App::legacy(), options()).await;
    let old = status.event(11317).unwrap().event.clone();
    handle.set_prices(vec![Price::new("tool:a", "9", "sats").unwrap()]);
    let new = next(&mut announcing, 11317, &old).await;
    assert_eq!(tags(&new), [["cap", "tool:a", "9", "sats"]]);
    assert_eq!(new.content, old.content);
}

#[tokio::test]
async fn a_new_relay_gets_everything_and_stands_in_the_list() {
    let (first, second) = (relay().await, relay().await);
    let (_handle, mut announcing, status) = announced(builder(&[&first]), &App::legacy(), options()).await;
    let old = status.event(10002).unwrap().event.clone();
    let both = AnnounceOptions { relays: Some(vec![first.url(), second.url()]), ..options() };
    announcing.update(both).await.unwrap();
    let list = next(&mut announcing, 10002, &old).await;
    assert_eq!(tags(&list), [["r", &first.url()], ["r", &second.url()]]);
    soon(announcing.settled()).await.unwrap();
    assert_eq!(stored(&second).await, stored(&first).await);
    let again = announcing.status();
    let words = &again.event(11316).unwrap().per_relay;
    assert_eq!((&words[0].outcome, &words[1].outcome), (&RelayOutcome::Duplicate, &RelayOutcome::Accepted));
}

#[tokio::test]
async fn a_refresh_asks_again_and_says_nothing_twice() {
    let relay = relay().await;
    let app = App::legacy();
    let (_handle, mut announcing, _) = announced(builder(&[&relay]), &app, options()).await;
    let received = relay.stats().received;
    app.asked();
    announcing.refresh().await.unwrap();
    while !app.asked().contains(&"prompts/list".to_owned()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    soon(announcing.settled()).await.unwrap();
    assert_eq!(relay.stats().received, received);
}

#[tokio::test]
async fn dropping_it_ends_it_and_takes_nothing_back() {
    let relay = relay().await;
    let app = App::legacy();
    let (handle, announcing, _) = announced(builder(&[&relay]), &app, options()).await;
    let received = relay.stats().received;
    drop(announcing);
    app.tools(&["b"]);
    changed(&handle, "tools").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(relay.stats().received, received);
    assert_eq!(stored_kinds(&relay).await, [10002, 11316, 11317, 11320]);
}

#[tokio::test]
async fn what_begins_later_is_stamped_above_an_earlier_run_too() {
    let relay = relay().await;
    let ahead = contextvm_runtime::clock::unix_now() + 300;
    leave(&relay, 11317, ahead).await;
    let silent = AnnounceOptions { announce: false, ..options() };
    let (_handle, mut announcing, _) = announced(builder(&[&relay]), &App::legacy(), silent).await;
    announcing.update(options()).await.unwrap();
    while !announcing.status().event(11317).is_some_and(Announced::is_taken) {
        soon(announcing.changed()).await.unwrap();
    }
    assert_eq!(of_kind(&stored(&relay).await, 11317).created_at.as_secs(), ahead + 1);
}

#[tokio::test]
async fn a_relay_that_was_out_of_reach_is_given_what_it_missed() {
    let (near, far) = (relay().await, relay().await);
    let (url, port) = (far.url(), far.port());
    far.shutdown().await;
    let options = AnnounceOptions { catch_up: Duration::from_millis(100), ..options() };
    let (_handle, announcing, status) =
        announced(builder(&[&near]).relay(url), &App::legacy(), options).await;
    assert!(status.events.iter().all(|event| event.is_taken() && event.is_missed()));
    let addr = (std::net::Ipv4Addr::LOCALHOST, port).into();
    let far = LocalRelay::start(RelayOptions { addr, ..RelayOptions::default() }).await.unwrap();
    soon(async {
        while announcing.status().events.iter().any(|event| event.is_missed()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(stored(&far).await, stored(&near).await, "the very same events");
}

#[tokio::test]
async fn a_change_that_nobody_told_is_found_at_the_next_renewal() {
    let relay = relay().await;
    let app = App::legacy();
    let options = AnnounceOptions { renewal: Duration::from_millis(200), ..options() };
    let (_handle, _announcing, _status) = announced(builder(&[&relay]), &app, options).await;
    app.tools(&["other"]);
    soon(async {
        while !of_kind(&stored(&relay).await, 11317).content.contains("other") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}
