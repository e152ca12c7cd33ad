//! The order in which relays answer changes nothing (T70, T71): against a model and over shuffles.
use contextvm_announce::{Directory, DirectoryLimits, Signed, newest::FUTURE};
use contextvm_core::kind;
use nostr::event::EventId;
use proptest::prelude::*;

use crate::stage::{INITIALIZE, NOW, keys, signed, tools_result};

const AUTHORS: u64 = 2;
const KINDS: [u16; 4] = [kind::SERVER_ANNOUNCEMENT, kind::TOOLS_LIST, kind::RELAY_LIST, kind::PROFILE];

/// What one event is, before ids exist: author, place in time, and kind or deletion.
#[derive(Clone, Debug)]
struct Sketch {
    author: u64,
    at: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// An announcement of this kind; the number makes it another event.
    Announced(usize, u8),
    /// A deletion of kinds up to its own time, and of the events at these places of the list.
    Deletion(Vec<usize>, Vec<prop::sample::Index>),
}

fn sketches() -> impl Strategy<Value = Vec<Sketch>> {
    let announced = (0..KINDS.len(), 0..3u8).prop_map(|(kind, n)| What::Announced(kind, n));
    let deletion = (
        prop::collection::vec(0..KINDS.len(), 0..2),
        prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    )
        .prop_map(|(kinds, ids)| What::Deletion(kinds, ids));
    let at = prop_oneof![8 => 0..6u64, 1 => Just(FUTURE.as_secs() + 1), 1 => Just(FUTURE.as_secs() * 100)];
    let sketch = (0..AUTHORS, at, prop_oneof![4 => announced, 1 => deletion])
        .prop_map(|(author, at, what)| Sketch { author, at, what });
    prop::collection::vec(sketch, 1..24)
}

fn events(sketches: &[Sketch]) -> Vec<Signed> {
    let mut events: Vec<Signed> = Vec::new();
    for sketch in sketches {
        let me = keys(sketch.author);
        let hex = me.public_key().to_hex();
        events.push(match &sketch.what {
            What::Announced(kind, n) => {
                let n = n.to_string();
                let content = match KINDS[*kind] {
                    kind::SERVER_ANNOUNCEMENT => INITIALIZE.to_owned(),
                    kind::TOOLS_LIST => tools_result(&["a"]),
                    kind::PROFILE => "{}".to_owned(),
                    _ => String::new(),
                };
                signed(&me, KINDS[*kind], NOW + sketch.at, &[&["x", &n]], &content)
            }
            What::Deletion(kinds, ids) => {
                let places =
                    kinds.iter().map(|kind| vec!["a".to_owned(), format!("{}:{hex}:", KINDS[*kind])]);
                let named = ids.iter().filter(|_| !events.is_empty());
                let ids = named.map(|id| vec!["e".to_owned(), id.get(&events).id.to_hex()]);
                let list: Vec<Vec<String>> = places.chain(ids).collect();
                let list: Vec<Vec<&str>> =
                    list.iter().map(|tag| tag.iter().map(String::as_str).collect()).collect();
                let list: Vec<&[&str]> = list.iter().map(Vec::as_slice).collect();
                signed(&me, kind::DELETION, NOW + sketch.at, &list, "")
            }
        });
    }
    events
}

type View = Vec<Option<EventId>>;

fn view<'a>(events: impl IntoIterator<Item = &'a Signed>) -> View {
    let mut directory = Directory::new(DirectoryLimits::default());
    for event in events {
        let _taken_or_not = directory.add(event, NOW);
    }
    let mut shown = Vec::new();
    for author in 0..AUTHORS {
        let entry = directory.server(&keys(author).public_key());
        shown.extend([
            entry.and_then(|entry| entry.server()).map(|part| part.id),
            entry.and_then(|entry| entry.list(contextvm_announce::DocumentKind::Tools)).map(|part| part.id),
            entry.and_then(|entry| entry.relay_list()).map(|part| part.id),
            entry.and_then(|entry| entry.profile()).map(|part| part.id),
        ]);
    }
    shown
}

/// What the rules say, told from all events at once.
fn model(events: &[Signed]) -> View {
    let present: Vec<&Signed> =
        events.iter().filter(|event| event.created_at.as_secs() <= NOW + FUTURE.as_secs()).collect();
    let mut shown = Vec::new();
    for author in 0..AUTHORS {
        let key = keys(author).public_key();
        let own: Vec<&&Signed> = present.iter().filter(|event| event.pubkey == key).collect();
        let deletions: Vec<&&&Signed> =
            own.iter().filter(|event| event.kind.as_u16() == kind::DELETION).collect();
        for wanted in KINDS {
            let place = format!("{wanted}:{}:", key.to_hex());
            let of_kind = own.iter().filter(|event| event.kind.as_u16() == wanted);
            let newest = of_kind.min_by_key(|event| (u64::MAX - event.created_at.as_secs(), event.id));
            shown.push(newest.map(|event| event.id).filter(|id| {
                let at = newest.map(|event| event.created_at);
                !deletions.iter().any(|deletion| {
                    deletion.tags.iter().any(|tag| match (tag.kind(), tag.content()) {
                        ("e", Some(hex)) => hex == id.to_hex(),
                        ("a", Some(named)) => named == place && Some(deletion.created_at) >= at,
                        _ => false,
                    })
                })
            }));
        }
    }
    shown
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_order_of_arrival_leads_to_another_view(
        (sketches, order) in sketches().prop_flat_map(|list| {
            let order: Vec<usize> = (0..list.len()).collect();
            (Just(list), Just(order).prop_shuffle())
        })
    ) {
        let events = events(&sketches);
        let expected = model(&events);
        prop_assert_eq!(&view(&events), &expected);
        prop_assert_eq!(&view(order.iter().map(|at| &events[*at])), &expected);
        // Another relay repeats all of it, old copies last.
        prop_assert_eq!(&view(order.iter().map(|at| &events[*at]).chain(events.iter().rev())), &expected);
    }
}
