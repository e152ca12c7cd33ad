//! Reviews: published with every relay's word, and found again.
use std::sync::Arc;
use std::time::Duration;

use contextvm_announce::{Standing, Threads, Words};
use contextvm_client::review::{self, PublishError};
use contextvm_local_relay::{Faults, LocalRelay, RelayOptions};
use contextvm_relay::RelayOutcome;

use crate::support::*;

const DEADLINE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_review_and_its_reply_are_published_and_read_back() {
    let relay = relay().await;
    let (server, person) = (keys(1), Arc::new(keys(2)));
    let announced = announcement(&server, NOW, "a");
    let id = announced.id;
    publish(&relay, [announced]).await;
    let words = Words { content: "Quick and honest.", relay: None };
    let draft = words.review(&server.public_key(), Some(id), NOW).unwrap();
    let event = review::sign(draft, &person).unwrap();
    let urls = [url(&relay.url())];
    let published = review::publish(&event, Arc::clone(&person), &urls, DEADLINE).await.unwrap();
    assert_eq!(published.accepted().collect::<Vec<_>>(), [&urls[0]]);
    // The one who answers has only the id.
    let search = discovery(&[&relay.url()]);
    let found = search.review(event.id).await.unwrap().unwrap();
    assert_eq!(search.review(id).await.unwrap(), None);
    let reply = found.reply(&Words { content: "Thank you.", relay: None }, NOW + 1).unwrap();
    let reply = review::sign(reply, &server).unwrap();
    review::publish(&reply, Arc::new(server.clone()), &urls, DEADLINE).await.unwrap();
    let all = search.server(&server.public_key().into()).await.unwrap();
    let reviews = all.directory.server(&server.public_key()).unwrap().reviews().to_vec();
    let threads = Threads::build(&server.public_key(), reviews, NOW);
    let placed: Vec<_> =
        threads.placed.iter().map(|placed| (placed.review.content.as_str(), placed.standing)).collect();
    assert_eq!(placed, [("Quick and honest.", Standing::Review), ("Thank you.", Standing::Reply)]);
}

#[tokio::test]
async fn relays_that_take_no_reviews_are_named() {
    let (willing, picky, dead) = (relay().await, relay().await, dead().await);
    let private = LocalRelay::start(RelayOptions { auth: true, ..RelayOptions::default() }).await.unwrap();
    picky.set_faults(Faults { refuse: Some("blocked: unhandled event kind".into()), ..Faults::default() });
    let person = Arc::new(keys(2));
    let draft = Words { content: "Fine.", relay: None }.review(&keys(1).public_key(), None, NOW).unwrap();
    let event = review::sign(draft, &person).unwrap();
    let nobody = review::publish(&event, Arc::clone(&person), &[], DEADLINE).await;
    assert_eq!(nobody, Err(PublishError::NoRelays));
    let urls = [url(&willing.url()), url(&picky.url()), url(&dead), url(&private.url())];
    let published = review::publish(&event, person, &urls, DEADLINE).await.unwrap();
    // One of the two that took it wanted to know first who we are.
    assert_eq!(published.accepted().collect::<Vec<_>>(), [&urls[0], &urls[3]]);
    assert_eq!(published.refusing_kind().collect::<Vec<_>>(), [&urls[1]]);
    let words: Vec<_> = published.refused().map(|(_, words)| words.to_owned()).collect();
    assert_eq!(words, ["blocked: unhandled event kind"]);
    assert_eq!(published.report.events[0].per_relay[2].outcome, RelayOutcome::NotSent);
    assert_eq!(published.report.failed[0].0, urls[2]);
}
