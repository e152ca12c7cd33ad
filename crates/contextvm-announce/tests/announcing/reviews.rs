//! Reviews: written, read, and put into threads.
use contextvm_announce::{
    Parent, Review, ReviewError, Signed, Standing, Threads, Unsigned, Words, review_filter,
};
use contextvm_crypto::Keys;
use nostr::event::{EventId, Tags};
use nostr::key::PublicKey;

use crate::stage::{BEGIN, me, tags};

fn keys(n: u8) -> Keys {
    Keys::from_secret_bytes([n; 32]).unwrap()
}

fn sign(keys: &Keys, draft: Unsigned) -> Signed {
    let Unsigned { kind, created_at, tags, content } = draft;
    Signed::verify(keys.sign_event(kind, created_at, tags, content, [3; 32])).unwrap()
}

fn words(content: &str) -> Words<'_> {
    Words { content, relay: None }
}

fn review(author: u8, content: &str, created_at: u64) -> Review {
    Review::read(&sign(&keys(author), words(content).review(&me(), None, created_at).unwrap())).unwrap()
}

fn reply(author: u8, parent: &Review, content: &str, created_at: u64) -> Review {
    Review::read(&sign(&keys(author), parent.reply(&words(content), created_at).unwrap())).unwrap()
}

/// A comment with these tags, read.
fn read(list: &[&[&str]]) -> Result<Review, ReviewError> {
    let tags = Tags::parse(list.iter().map(|tag| tag.iter().map(ToString::to_string))).unwrap();
    Review::read(&sign(&keys(1), Unsigned { kind: 1111, created_at: BEGIN, tags, content: "c".to_owned() }))
}

#[test]
fn a_review_and_a_reply_carry_the_tags_of_the_proposal() {
    let (server, address) = (me().to_hex(), format!("11316:{}:", me().to_hex()));
    let id = EventId::from_byte_array([9; 32]);
    let hinted = Words { content: "good", relay: Some("wss://r.example") };
    let draft = hinted.review(&me(), Some(id), BEGIN).unwrap();
    let relay = "wss://r.example";
    let expected: [&[&str]; 7] = [
        &["A", &address, relay],
        &["K", "11316"],
        &["P", &server, relay],
        &["a", &address, relay],
        &["e", &id.to_hex(), relay, &server],
        &["k", "11316"],
        &["p", &server, relay],
    ];
    assert_eq!(tags(&draft), expected);
    assert_eq!((draft.kind, draft.content.as_str()), (1111, "good"));

    let parent = Review::read(&sign(&keys(1), draft)).unwrap();
    assert_eq!(
        (parent.server, parent.parent, parent.relay.as_deref()),
        (me(), Parent::Announcement, Some(relay))
    );
    let answer = parent.reply(&words("thanks"), BEGIN).unwrap();
    let author = keys(1).public_key().to_hex();
    let expected: [&[&str]; 6] = [
        &["A", &address],
        &["K", "11316"],
        &["P", &server],
        &["e", &parent.id.to_hex(), "", &author],
        &["k", "1111"],
        &["p", &author],
    ];
    assert_eq!(tags(&answer), expected);
    let answer = Review::read(&sign(&keys(2), answer)).unwrap();
    assert_eq!((answer.server, answer.parent), (me(), Parent::Comment(parent.id)));
}

#[test]
fn only_comments_whose_root_is_an_announcement_are_reviews() {
    let server = me().to_hex();
    let address = format!("11316:{server}:");
    let k: &[&str] = &["K", "11316"];
    let refused: [&[&[&str]]; 9] = [
        &[],
        &[k],
        &[&["A", &address]],
        &[&["A", &address], &["K", "1"]],
        &[&["A"], k],
        &[&["A", &format!("11317:{server}:")], k],
        &[&["A", &format!("11316:{server}:d")], k],
        &[&["A", "11316:zz:"], k],
        &[&["a", &address], &["k", "11316"]],
    ];
    for tags in refused {
        assert_eq!(read(tags), Err(ReviewError::Root), "{tags:?}");
    }
    let note = Unsigned { kind: 1, created_at: BEGIN, tags: Tags::new(), content: String::new() };
    assert_eq!(Review::read(&sign(&keys(1), note)), Err(ReviewError::Kind(1)));
}

#[test]
fn the_parent_is_read_from_what_there_is() {
    let server = me().to_hex();
    let address = format!("11316:{server}:");
    let id = EventId::from_byte_array([9; 32]);
    let hex = id.to_hex();
    let long = format!("wss://{}.example", "r".repeat(600));
    let table: [(&[&[&str]], Parent); 9] = [
        (&[], Parent::Announcement),
        (&[&["a", &address]], Parent::Announcement),
        (&[&["a", &address], &["e", &hex], &["k", "11316"]], Parent::Announcement),
        (&[&["e", &hex], &["k", "1111"]], Parent::Comment(id)),
        (&[&["a", &address], &["e", &hex], &["k", "1111"]], Parent::Comment(id)),
        (&[&["e", &hex]], Parent::Comment(id)),
        (&[&["e", "zz"], &["e", &hex], &["k", "1111"]], Parent::Comment(id)),
        (&[&["e", "zz"], &["k", "1111"]], Parent::Unreadable),
        (&[&["k", "1"]], Parent::Unreadable),
    ];
    for (further, parent) in table {
        for root in [&address[..], &format!("11316:{server}")] {
            let mut list: Vec<&[&str]> = vec![&["K", "11316"]];
            let root = ["A", root, &long];
            list.push(&root);
            list.extend(further);
            let review = read(&list).unwrap();
            assert_eq!((review.parent, review.server, review.relay), (parent, me(), None), "{list:?}");
        }
    }
}

#[test]
fn texts_are_bounded_and_not_empty() {
    let long = "x".repeat(16 * 1024 + 1);
    let too_long = ReviewError::TooLong { bytes: 16_385, limit: 16_384 };
    assert_eq!(words(&long).review(&me(), None, BEGIN), Err(too_long.clone()));
    assert_eq!(words(" \n").review(&me(), None, BEGIN), Err(ReviewError::Empty));
    assert_eq!(review(1, "a", BEGIN).reply(&words(""), BEGIN), Err(ReviewError::Empty));
    let hinted = Words { content: "a", relay: Some(&long) };
    assert_eq!(hinted.review(&me(), None, BEGIN), Err(ReviewError::Hint { bytes: 16_385, limit: 512 }));
    let mut draft = words("a").review(&me(), None, BEGIN).unwrap();
    draft.content = long;
    assert_eq!(Review::read(&sign(&keys(1), draft)), Err(too_long));
}

fn shown(threads: &Threads) -> Vec<(usize, Standing, &str)> {
    let placed = threads.placed.iter();
    placed.map(|placed| (placed.depth, placed.standing, placed.review.content.as_str())).collect()
}

#[test]
fn replies_stand_below_what_they_answer_and_strays_at_the_top() {
    let first = review(1, "first", BEGIN);
    let second = review(2, "second", BEGIN + 10);
    let early = reply(3, &first, "early", BEGIN + 20);
    let late = reply(4, &first, "late", BEGIN + 30);
    let nested = reply(1, &early, "nested", BEGIN + 40);
    let lost = review(5, "lost", BEGIN);
    let stray = reply(1, &lost, "stray", BEGIN + 5);
    let below = reply(2, &stray, "below", BEGIN + 50);
    let all = [&nested, &late, &stray, &first, &below, &early, &second, &first];
    let threads = Threads::build(&me(), all.into_iter().cloned(), BEGIN + 60);
    let expected = [
        (0, Standing::Review, "second"),
        (0, Standing::Orphan, "stray"),
        (1, Standing::Reply, "below"),
        (0, Standing::Review, "first"),
        (1, Standing::Reply, "early"),
        (2, Standing::Reply, "nested"),
        (1, Standing::Reply, "late"),
    ];
    assert_eq!(shown(&threads), expected);
    assert_eq!(threads.left_out, 0);
}

#[test]
fn a_thread_is_only_so_deep_and_loses_nothing() {
    let mut chain = vec![review(1, "0", BEGIN)];
    for n in 1..40 {
        let parent = chain.last().unwrap();
        let next = reply(1, parent, &n.to_string(), BEGIN + n);
        chain.push(next);
    }
    let threads = Threads::build(&me(), chain.into_iter().rev(), BEGIN + 60);
    for (n, placed) in threads.placed.iter().enumerate() {
        assert_eq!(placed.review.content, n.to_string());
        assert_eq!(placed.depth, n.min(Threads::DEEPEST));
        let expected = match n {
            0 => Standing::Review,
            n if n <= Threads::DEEPEST => Standing::Reply,
            _ => Standing::Deeper,
        };
        assert_eq!(placed.standing, expected);
    }
    assert_eq!(threads.placed.len(), 40);
}

#[test]
fn of_too_many_the_newest_are_shown_and_none_from_the_future_or_of_others() {
    let one = review(1, "r", BEGIN);
    let many = Vec::from_iter((0..1_000_u64).map(|n| {
        let mut review = one.clone();
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        (review.id, review.created_at) = (EventId::from_byte_array(id), BEGIN + n);
        review
    }));
    let mut other = one.clone();
    other.server = PublicKey::from_byte_array([8; 32]);
    let mut future = one.clone();
    future.created_at = BEGIN + 1_000 + 15 * 60 + 1;
    // What is left out and comes again is not left out twice.
    let again = [other, future.clone(), future, many[0].clone()];
    let threads = Threads::build(&me(), many.into_iter().chain(again), BEGIN + 1_000);
    assert_eq!((threads.placed.len(), threads.left_out), (Threads::MOST, 501));
    assert_eq!(threads.placed[0].review.created_at, BEGIN + 999);
    assert_eq!(threads.placed[499].review.created_at, BEGIN + 500);
}

#[test]
fn the_filter_asks_for_the_reviews_of_one_server() {
    let expected =
        format!(r##"{{"kinds":[1111],"#K":["11316"],"#A":["11316:{}:"],"limit":500}}"##, me().to_hex());
    assert_eq!(review_filter(&me(), 500), expected);
}
