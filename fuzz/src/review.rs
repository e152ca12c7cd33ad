//! The target of reviews: comments of strangers, threaded; what is drafted reads back.
use std::collections::BTreeSet;

use contextvm_announce::{Parent, Review, Signed, Standing, Threads, Unsigned, Words, review_filter};
use contextvm_core::kind;
use contextvm_crypto::Keys;
use nostr::event::{Event, EventId, Tag, Tags};
use serde_json::Value;

use crate::bytes::Bytes;
use crate::operations::each;
use crate::people::{START, keys};
use crate::seeds::Seed;

/// A list of comments, drafted by us or tagged by strangers: each stands once, replies stand below what they answer, and
/// nothing is deeper than shown.
pub fn review(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (server, other) = (keys(0x11).public_key(), keys(0x44).public_key());
    let authors = [keys(0x22), keys(0x33), keys(0x11)];
    let mut known: Vec<Review> = Vec::new();
    each(&mut bytes, |bytes| {
        let author = &authors[bytes.below(3)];
        let stamp = START + u64::from(bytes.byte()) * 8 - 1_000;
        let text = bytes.text();
        let words = Words { content: &text, relay: bytes.pick(&[None, Some(""), Some("wss://r")]) };
        let read = match bytes.below(4) {
            0 => {
                let about = if bytes.byte() % 8 == 7 { &other } else { &server };
                let draft = words.review(about, known.last().map(|review| review.id), stamp);
                assert_eq!(draft.is_ok(), !text.trim().is_empty());
                draft.ok().map(|draft| drafted(author, draft))
            }
            1 | 2 => {
                let at = bytes.below(known.len().max(1));
                let draft =
                    known.get(at).and_then(|parent| Some((parent.id, parent.reply(&words, stamp).ok()?)));
                draft.map(|(parent, draft)| {
                    let review = drafted(author, draft);
                    assert_eq!(review.parent, Parent::Comment(parent));
                    review
                })
            }
            _ => {
                let parent = known.last().map(|review| review.id);
                let tags = strange(bytes, &server.to_hex(), parent);
                let event = author.sign_event(kind::COMMENT, stamp, tags, text, [7; 32]);
                Signed::verify(event).ok().and_then(|signed| Review::read(&signed).ok())
            }
        };
        known.extend(read);
    });
    let filter: Value = serde_json::from_str(&review_filter(&server, 7)).expect("a filter is json");
    assert_eq!(filter["limit"], 7);
    threaded(&Threads::build(&server, known.iter().cloned(), START), &known, &server.to_hex());
}

fn drafted(author: &Keys, draft: Unsigned) -> Review {
    let Unsigned { kind, created_at, tags, content } = draft;
    let event: Event = author.sign_event(kind, created_at, tags, content, [7; 32]);
    let signed = Signed::verify(event).expect("it is signed");
    let review = Review::read(&signed).expect("what is drafted is a review");
    assert_eq!((review.author, review.created_at), (author.public_key(), created_at));
    review
}

/// Tags as strangers write them.
fn strange(bytes: &mut Bytes<'_>, server: &str, parent: Option<EventId>) -> Tags {
    let address = bytes.pick(&["11316:", "11316:", "11317:", "", "x"]);
    let end = bytes.pick(&[":", "", "::"]);
    let id = parent.map_or_else(String::new, |id| id.to_hex());
    let mut tags = vec![Tag::custom("A", [format!("{address}{server}{end}"), "wss://hint".to_owned()])];
    tags.extend([Tag::custom("K", [bytes.pick(&["11316", "11316", "1"])])]);
    for _ in 0..bytes.below(4) {
        tags.push(match bytes.below(5) {
            0 => Tag::custom("e", [id.clone()]),
            1 => Tag::custom("e", [bytes.text()]),
            2 => Tag::custom("k", [bytes.pick(&["1111", "11316", ""])]),
            3 => Tag::custom("a", [format!("11316:{server}:")]),
            _ => Tag::custom("p", [bytes.text()]),
        });
    }
    Tags::from_list(tags)
}

fn threaded(threads: &Threads, known: &[Review], server: &str) {
    let about = known.iter().filter(|review| review.server.to_hex() == server);
    let ids: BTreeSet<EventId> = about.map(|review| review.id).collect();
    let mut above: Vec<(EventId, usize)> = Vec::new();
    let mut seen = BTreeSet::new();
    for placed in &threads.placed {
        assert!(seen.insert(placed.review.id), "each stands once");
        assert!(placed.depth <= Threads::DEEPEST);
        if placed.standing == Standing::Reply {
            let over = above.iter().rev().find(|(_, depth)| *depth < placed.depth).map(|(id, _)| *id);
            assert_eq!(
                over.map(Parent::Comment),
                Some(placed.review.parent),
                "a reply stands below its parent"
            );
        }
        assert_eq!(placed.depth == 0, matches!(placed.standing, Standing::Review | Standing::Orphan));
        above.push((placed.review.id, placed.depth));
    }
    assert!(seen.is_subset(&ids));
    assert_eq!(seen.len() + threads.left_out, ids.len(), "nothing is lost without being counted");
}

/// The inputs of `corpus/review`.
pub(crate) fn seeds() -> Vec<Seed> {
    // Author, stamp, text, relay, then how.
    let says = |author: u8, stamp: u8, how: &[u8]| [&[author, stamp, 2, b'h', b'i', 2][..], how].concat();
    let first = says(0, 125, &[0, 0]);
    let reply = |stamp: u8, to: u8| says(1, stamp, &[1, to]);
    let deep: Vec<u8> = (0..12).flat_map(|depth| reply(depth, depth)).collect();
    [
        ("one", first.clone()),
        ("replies", [&first[..], &reply(126, 0), &reply(124, 1), &reply(126, 0)].concat()),
        ("deep", [&first[..], &deep].concat()),
        ("elsewhere", [&says(0, 1, &[0, 7])[..], &reply(2, 0)].concat()),
        ("future", says(0, 255, &[0, 0])),
        ("strange", [&first[..], &says(2, 9, &[3, 0, 0, 0, 2, 0, 2, 0])].concat()),
        ("orphan", says(2, 9, &[3, 0, 1, 0, 2, 1, 2, b'a', b'b', 2, 0])),
        ("wrong_root", says(2, 9, &[3, 2, 0, 2, 1, 3])),
    ]
    .map(|(name, bytes)| ("review", name, bytes))
    .into()
}
