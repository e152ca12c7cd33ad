//! What a search says about itself, and what it says about us.
use std::sync::Arc;
use std::time::Duration;

use contextvm_client::{Discovery, Role, Scope};
use contextvm_local_relay::{LocalRelay, RelayOptions};
use contextvm_relay::QueryOutcome;
use nostr::event::Event;

use crate::support::*;

async fn private() -> LocalRelay {
    LocalRelay::start(RelayOptions { auth: true, ..RelayOptions::default() }).await.unwrap()
}

#[tokio::test]
async fn only_relays_that_the_application_named_learn_who_asks() {
    let (named, hinted, listed) = (private().await, private().await, private().await);
    let server = keys(1);
    let signer = Arc::new(keys(9));
    let list = relay_list(&server, NOW, &[&listed.url()]);
    publish_as(&named, Arc::clone(&signer), [list, announcement(&server, NOW, "a")]).await;
    let mut identity = contextvm_core::ServerIdentity::from(server.public_key());
    identity.relays.push(hinted.url());
    let search = discovery(&[&named.url()]).with_local_relays(true).with_signer(signer);
    let found = search.server(&identity).await.unwrap();
    assert_eq!(names(&found), ["a"]);
    for (relay, role) in [(&hinted, Role::Hint), (&listed, Role::Listed)] {
        let answer = answer(&found.per_relay, &relay.url());
        assert_eq!(answer.role, role);
        assert!(
            matches!(&answer.outcome, QueryOutcome::Failed(why) if why.starts_with("auth-required")),
            "{answer:?}"
        );
    }
}

/// Publishes as somebody whom the relay knows.
async fn publish_as(
    on: &LocalRelay,
    who: Arc<contextvm_crypto::Keys>,
    events: impl IntoIterator<Item = Event>,
) {
    let report = post(events).with_signer(who).to(&[url(&on.url())]).await.unwrap();
    assert!(report.events.iter().all(|posted| posted.accepted().count() == 1), "{report:?}");
}

#[tokio::test]
async fn a_relay_that_answers_one_question_and_refuses_another_has_answered() {
    let picky = inventor(|filter| {
        let reviews = filter["kinds"].as_array().unwrap().contains(&1111.into());
        (!reviews).then(Vec::new)
    });
    let search = discovery(&[&picky.await]);
    let found = search.servers(&Scope { reviews: true, ..Scope::default() }).await.unwrap();
    let answer = &found.per_relay[0];
    assert_eq!(answer.outcome, QueryOutcome::Failed("error: not that".to_owned()));
    assert_eq!((found.answered(), found.is_partial()), (1, true));
}

#[tokio::test]
async fn what_had_no_room_makes_an_answer_partial() {
    let tools = |byte: u8| {
        let content = format!(r#"{{"tools":[{{"name":"{}","inputSchema":{{}}}}]}}"#, "x".repeat(100_000));
        signed(&keys(byte), 11317, NOW - u64::from(byte), &[], &content)
    };
    let (one, other) = (relay().await, relay().await);
    publish(&one, (1..=75).map(tools)).await;
    publish(&other, (76..=150).map(tools)).await;
    let relays = [one.url(), other.url()];
    let search = Discovery::new(&relays).unwrap().with_deadline(Duration::from_secs(30)).at(NOW);
    let found = search.servers(&Scope::default()).await.unwrap();
    assert!(found.per_relay.iter().all(|answer| answer.is_complete()), "{:?}", found.per_relay);
    assert!(found.directory.refused().full > 0);
    assert!(found.is_partial());
}

#[tokio::test]
async fn servers_beyond_those_that_are_asked_for_make_an_answer_partial() {
    let relay = relay().await;
    let authors = |count: u16| (1..=count).map(|number| many(number).public_key()).collect();
    for (count, partial) in [(250, false), (251, true)] {
        let scope = Scope { authors: authors(count), ..Scope::default() };
        let found = discovery(&[&relay.url()]).servers(&scope).await.unwrap();
        assert_eq!(found.is_partial(), partial, "{count}");
    }
}

#[tokio::test]
async fn servers_beyond_those_whose_profiles_are_asked_for_make_an_answer_partial() {
    let relay = relay().await;
    publish(&relay, (1..=1_001).map(|number| announcement(&many(number), NOW - u64::from(number), "s")))
        .await;
    let search = discovery(&[&relay.url()]).with_deadline(Duration::from_secs(30));
    for (profiles, partial) in [(false, false), (true, true)] {
        let found = search.servers(&Scope { profiles, ..Scope::default() }).await.unwrap();
        assert_eq!((found.directory.servers().count(), found.is_partial()), (1_001, partial));
    }
}
