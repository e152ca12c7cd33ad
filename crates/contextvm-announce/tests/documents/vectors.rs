//! The announcements that the TypeScript SDK publishes: ids, tags, contents, deletions.
use contextvm_announce::{
    Added, Directory, DirectoryLimits, DocumentKind, ListDocument, Price, Priced, Profile, Refused,
    RelayList, ServerDocument, Signed, SignedError, relay_list_tags,
};
use contextvm_core::{event, kind};
use serde_json::Value;

use crate::stage::NOW;

fn vectors() -> Vec<(Signed, Value)> {
    let file: Value = serde_json::from_str(include_str!("../vectors/announcements.json")).unwrap();
    let events = file["events"].as_array().unwrap().iter();
    events
        .map(|entry| (Signed::read(&entry["event"].to_string()).unwrap(), entry["parsedContent"].clone()))
        .collect()
}

fn of(wanted: u16) -> Signed {
    vectors().into_iter().map(|(event, _)| event).find(|event| event.kind.as_u16() == wanted).unwrap()
}

#[test]
fn every_event_is_read_and_a_changed_one_is_not() {
    let kinds: Vec<u16> = vectors().iter().map(|(event, _)| event.kind.as_u16()).collect();
    assert_eq!(kinds, [11316, 0, 11317, 11318, 11319, 11320, 10002, 5, 5, 5, 5, 5]);
    for (event, _) in vectors() {
        let text = event::print(&event);
        assert_eq!(Signed::read(&text).as_ref(), Ok(&event));
        let moved = text
            .replace(&format!("\"created_at\":{}", event.created_at.as_secs()), "\"created_at\":1700009999");
        assert_eq!(Signed::read(&moved), Err(SignedError::Id));
        let mut forged = event.clone().into_event();
        forged.sig = of(if event.kind.as_u16() == 0 { 11316 } else { 0 }).sig;
        assert_eq!(Signed::verify(forged), Err(SignedError::Signature));
    }
    assert_eq!(Signed::read("{}"), Err(SignedError::NotAnEvent));
    let long = " ".repeat(Signed::BYTES + 1);
    assert!(matches!(Signed::read(&long), Err(SignedError::TooLong { .. })));
}

#[test]
fn the_server_says_what_it_is() {
    let document = ServerDocument::read(&of(kind::SERVER_ANNOUNCEMENT)).unwrap();
    assert_eq!(document.protocol_versions, ["2025-11-25"]);
    assert_eq!((document.name.as_deref(), document.version.as_deref()), (Some("demo-server"), Some("1.0.0")));
    assert_eq!(document.instructions.as_deref(), Some("Be nice"));
    assert_eq!(document.capability_names(), ["tools", "prompts", "resources"]);
    let tags = &document.tags;
    assert_eq!(
        (tags.name.as_deref(), tags.about.as_deref(), tags.website.as_deref(), tags.picture.as_deref()),
        (Some("Demo"), Some("about demo"), Some("https://example.com"), Some("https://example.com/p.png"))
    );
    assert!(tags.encryption && tags.ephemeral && tags.oversized && tags.open_stream && !tags.repeats);
    assert_eq!(document.pmi, ["bitcoin-lightning-bolt11"]);
    assert_eq!(document.payment_interaction.as_deref(), Some("explicit_gating"));
    assert_eq!(document.prices.len(), 3);
}

#[test]
fn lists_hold_their_things_prices_schemas_and_categories() {
    for (event, content) in vectors() {
        let Some(list) = DocumentKind::from_kind(event.kind.as_u16()).filter(|kind| kind.member().is_some())
        else {
            continue;
        };
        let document = ListDocument::read(&event).unwrap();
        let expected = content[list.member().unwrap()].as_array().unwrap();
        let items: Vec<Value> =
            document.items.iter().map(|item| serde_json::from_str(item.raw.get()).unwrap()).collect();
        assert_eq!(&items, expected);
        assert_eq!((document.skipped, document.more), (0, false));
        let printed: Vec<_> = document.prices.iter().map(Price::to_tag).collect();
        let caps: Vec<_> = event.tags.iter().filter(|tag| tag.kind() == "cap").cloned().collect();
        assert_eq!(printed, caps, "unfiltered tags are accepted and print as they came");
    }
    let tools = ListDocument::read(&of(kind::TOOLS_LIST)).unwrap();
    assert_eq!(tools.categories, ["demo", "echoing"]);
    assert_eq!(tools.schemas.len(), 1);
    assert_eq!(tools.schemas[0].hash, "fd79c0931239e4c79e679f6819d8bad6b63c45a441b25b30930e29e50ea9b012");
    assert_eq!(tools.schemas[0].tool, "echo");
    let price = Price {
        capability: Priced::Tool("echo".into()),
        amount: "100".into(),
        most: None,
        unit: "sats".into(),
    };
    assert_eq!(tools.prices_of("echo").collect::<Vec<_>>(), [&price]);
    assert_eq!(tools.prices_of("greet").count(), 0, "a prompt's price is no tool's");
    let resources = ListDocument::read(&of(kind::RESOURCES_LIST)).unwrap();
    let price = resources.prices_of("file:///readme.md").next().unwrap();
    assert_eq!((price.amount.as_str(), price.most.as_deref(), price.unit.as_str()), ("1", Some("9"), "usd"));
}

#[test]
fn the_profile_and_the_relay_list_print_as_they_came() {
    let event = of(kind::PROFILE);
    let profile = Profile::read(&event).unwrap();
    assert_eq!(profile.to_content(), event.content);
    assert_eq!((profile.name.as_deref(), profile.lud16.as_deref()), (Some("Demo"), Some("a@example.com")));
    let event = of(kind::RELAY_LIST);
    let list = RelayList::read(&event).unwrap();
    assert!(!list.selection().is_empty());
    assert_eq!(relay_list_tags(&list.selection()), event.tags.clone().to_vec());
    assert!(Profile::read(&event).is_err() && RelayList::read(&of(kind::PROFILE)).is_err());
}

#[test]
fn all_of_it_is_one_server_and_the_deletions_end_it_for_good() {
    let mut view = Directory::new(DirectoryLimits::default());
    let (deletions, events): (Vec<_>, Vec<_>) = vectors()
        .into_iter()
        .map(|(event, _)| event)
        .partition(|event| event.kind.as_u16() == kind::DELETION);
    for event in &events {
        assert_eq!(view.add(event, NOW), Ok(Added::New));
        assert_eq!(view.add(event, NOW), Ok(Added::Known));
    }
    let servers: Vec<_> = view.servers().collect();
    assert_eq!(servers.len(), 1);
    let server = servers[0];
    assert_eq!((server.name().as_str(), server.about().as_deref()), ("Demo", Some("about demo")));
    assert_eq!(server.server().map(|part| part.id), Some(of(kind::SERVER_ANNOUNCEMENT).id));
    assert_eq!(server.tools().map(|tools| tools.items.len()), Some(4));
    assert_eq!(server.prices(DocumentKind::Prompts).len(), 1);
    assert!(server.profile().is_some() && server.relay_list().is_some());

    for event in &deletions {
        assert_eq!(view.add(event, NOW), Ok(Added::Deletion(1)));
    }
    assert_eq!(view.servers().count(), 0, "profile and relay list alone are no server");
    for event in &events {
        let kept = matches!(event.kind.as_u16(), kind::PROFILE | kind::RELAY_LIST);
        let again = view.add(event, NOW);
        assert!(if kept { again == Ok(Added::Known) } else { matches!(again, Err(Refused::Older(_))) });
    }
}
