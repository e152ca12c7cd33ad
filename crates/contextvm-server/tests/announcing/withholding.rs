//! What does not leave a server that is not announced.
use std::time::Duration;

use contextvm_server::{AnnounceOptions, Price, Profile};

use crate::stage::{App, announced, builder, changed, options, relay, soon, stored_kinds};

#[tokio::test]
async fn without_announcing_nothing_public_leaves_the_process() {
    let relay = relay().await;
    let app = App::legacy();
    let server = builder(&[&relay]).prices(vec![Price::new("tool:a", "7", "sats").unwrap()]);
    let listener = server.start().await.unwrap();
    let handle = listener.handle();
    app.serve(listener);
    let local = handle.open_local().unwrap();
    local.request("initialize", None).await.unwrap();
    local.notify("notifications/initialized", None).unwrap();
    local.request("tools/list", None).await.unwrap();
    changed(&handle, "tools").await;
    handle.set_prices(Vec::new());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(relay.stats().received, 0);
    soon(handle.shutdown()).await;
    assert_eq!(relay.stats().received, 0, "and nothing at the end");
    assert!(stored_kinds(&relay).await.is_empty());
}

#[tokio::test]
async fn a_relay_list_and_a_profile_are_published_alone_only_when_they_are_asked_for() {
    let profile = Profile { name: Some("n".to_owned()), ..Profile::default() };
    let table = [
        (None, None, vec![]),
        (Some(true), None, vec![10002]),
        (None, Some(profile.clone()), vec![0]),
        (Some(true), Some(profile), vec![0, 10002]),
    ];
    for (relay_list, profile, kinds) in table {
        let (relay, bootstrap) = (relay().await, relay().await);
        let app = App::legacy();
        let bootstrap_relays = Some(vec![bootstrap.url()]);
        let options = AnnounceOptions {
            announce: false,
            relay_list,
            profile,
            bootstrap: bootstrap_relays,
            ..options()
        };
        let (_handle, _announcing, _) = announced(builder(&[&relay]), &app, options).await;
        assert_eq!(stored_kinds(&relay).await, kinds);
        assert_eq!(stored_kinds(&bootstrap).await, kinds);
        assert!(app.asked().is_empty(), "the application is not disturbed");
    }
}

#[tokio::test]
async fn a_server_with_nothing_to_publish_does_not_even_ask_public_relays_about_itself() {
    let (own, bootstrap) = (relay().await, relay().await);
    let options = AnnounceOptions { announce: false, bootstrap: Some(vec![bootstrap.url()]), ..options() };
    let (_handle, _announcing, status) = announced(builder(&[&own]), &App::legacy(), options).await;
    assert!(status.events.is_empty());
    assert_eq!(bootstrap.stats().accepted_connections, 0);
}

#[tokio::test]
async fn an_announced_server_may_keep_its_relay_list_to_itself() {
    let relay = relay().await;
    let options = AnnounceOptions { relay_list: Some(false), ..options() };
    let (_handle, _announcing, _) = announced(builder(&[&relay]), &App::legacy(), options).await;
    assert_eq!(stored_kinds(&relay).await, [11316, 11317, 11320]);
}
