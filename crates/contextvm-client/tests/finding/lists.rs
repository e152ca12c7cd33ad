//! What a server's own relay list may do: lead to its relays, and to nothing in our own network.
use std::time::Duration;

use contextvm_client::{Client, ClientOptions, Memory, Role, resolve};
use contextvm_core::Limits;

use crate::support::*;

#[tokio::test]
async fn the_relays_of_the_servers_list_are_asked_in_a_second_round() {
    let (public, own, hinted) = (relay().await, relay().await, relay().await);
    let server = keys(1);
    publish(&public, [relay_list(&server, NOW, &[&own.url(), &public.url()])]).await;
    publish(&own, [announcement(&server, NOW, "at home")]).await;
    publish(&hinted, [signed(&server, 11320, NOW, &[], r#"{"prompts":[{"name":"p"}]}"#)]).await;
    let mut identity = contextvm_core::ServerIdentity::from(server.public_key());
    identity.relays.push(hinted.url());
    let found = discovery(&[&public.url()]).with_local_relays(true).server(&identity).await.unwrap();
    assert_eq!(names(&found), ["at home"]);
    let roles: Vec<_> = found.per_relay.iter().map(|answer| (answer.url.clone(), answer.role)).collect();
    let expected = [(&public, Role::Discovery), (&hinted, Role::Hint), (&own, Role::Listed)];
    assert_eq!(roles, expected.map(|(relay, role)| (url(&relay.url()), role)));
    let entry = found.directory.server(&server.public_key()).unwrap();
    assert_eq!(entry.list(contextvm_announce::DocumentKind::Prompts).unwrap().document.items.len(), 1);
}

/// T60: two thousand addresses in our own network, in every notation; none of them sees a connection.
#[tokio::test]
async fn relay_lists_from_hell() {
    let (public, inside) = (relay().await, relay().await);
    let port = inside.port();
    let hosts = [
        "ws://127.0.0.1",
        "wss://127.0.0.1",
        "wss://localhost",
        "wss://LOCALHOST.",
        "wss://0x7f.1",
        "wss://2130706433",
        "wss://[::1]",
        "wss://[::ffff:127.0.0.1]",
        "wss://0.0.0.0",
        "wss://127.1",
        "wss://user@127.0.0.1",
        "wss://a.localhost",
    ];
    let before = public.stats().accepted_connections;
    for (number, host) in hosts.iter().enumerate() {
        let server = keys(u8::try_from(number).unwrap() + 1);
        let urls: Vec<_> = (0..200).map(|path| format!("{host}:{port}/{path}")).collect();
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        publish(&public, [relay_list(&server, NOW, &urls), announcement(&server, NOW, "inside")]).await;
        let mut identity = contextvm_core::ServerIdentity::from(server.public_key());
        identity.relays = urls.iter().map(ToString::to_string).collect();
        let found = discovery(&[&public.url()]).server(&identity).await.unwrap();
        assert_eq!(names(&found), ["inside"]);
        // A name may look public to the reader of the list; then it is refused when it is dialled.
        assert!(found.per_relay.len() <= 1 + Limits::default().relays_dialled, "{:?}", found.per_relay);
        assert_eq!(found.answered(), 1, "{host}: {:?}", found.per_relay);
        // A client that starts from the list alone stays outside as well.
        let mut options = ClientOptions::new(keys(99), server.public_key().into());
        options.discovery_relays = Some(vec![public.url()]);
        options.ready_timeout = Duration::from_millis(300);
        let _failed = Client::connect(options).await;
    }
    assert_eq!(inside.stats().accepted_connections, 0);
    assert!(public.stats().accepted_connections > before);
}

#[tokio::test]
async fn a_list_that_its_author_deleted_by_id_alone_leads_nowhere() {
    let gone = relay().await;
    let server = keys(1);
    let list = relay_list(&server, NOW - 1, &[&gone.url()]);
    let deletion = signed(&server, 5, NOW, &[&["e", &list.id.to_hex()]], "");
    let careless = liar([list, deletion].iter().map(contextvm_core::event::print).collect()).await;
    let search = discovery(&[&careless]).with_local_relays(true);
    let found = search.server(&server.public_key().into()).await.unwrap();
    assert_eq!(found.per_relay.len(), 1, "{:?}", found.per_relay);
    assert_eq!(gone.stats().accepted_connections, 0);
}

#[tokio::test]
async fn a_client_resolves_by_the_newest_list_it_ever_saw() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("newest");
    let server = keys(1);
    let yesterday = contextvm_core::event::print(&relay_list(&server, NOW - 1, &["wss://old.example"]));
    let (honest, behind) = (relay().await, liar(vec![yesterday]).await);
    publish(&honest, [relay_list(&server, NOW, &["wss://new.example"])]).await;
    let options = |relays: &[String]| {
        let mut options = ClientOptions::new(keys(2), server.public_key().into());
        options.discovery_relays = Some(relays.to_vec());
        options.memory = Memory::open(&path);
        options
    };
    let first = resolve::resolve(&options(&[behind.clone(), honest.url()])).await.unwrap();
    let second = resolve::resolve(&options(std::slice::from_ref(&behind))).await.unwrap();
    for resolved in [first, second] {
        assert_eq!(
            (resolved.source, resolved.relays),
            (resolve::Source::RelayList, vec![url("wss://new.example")])
        );
    }
    let forgetful = ClientOptions { memory: Memory::volatile(), ..options(&[behind]) };
    assert_eq!(resolve::resolve(&forgetful).await.unwrap().relays, [url("wss://old.example")]);
}
