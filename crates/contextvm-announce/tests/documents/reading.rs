//! Documents that are broken, unusual, or of the newer era.
use std::cmp::Ordering;

use contextvm_announce::price::compare_amounts;
use contextvm_announce::relay_list::Marker;
use contextvm_announce::{
    DocumentError, DocumentKind, ListDocument, Price, Profile, RelayList, ServerDocument,
};

use crate::stage::tags;

#[test]
fn a_server_of_the_newer_era_says_what_it_is() {
    let result = r#"{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25",7],
        "capabilities":{"tools":{}},"instructions":"i","ttlMs":1,
        "_meta":{"io.modelcontextprotocol/serverInfo":{"name":"n","title":"t","version":"2"}}}"#;
    assert_eq!(DocumentKind::of_result(result), Some(DocumentKind::Server));
    let document = ServerDocument::from_result(result, &tags(&[])).unwrap();
    assert_eq!(document.protocol_versions, ["2026-07-28", "2025-11-25"]);
    assert_eq!(
        [document.name, document.title, document.version, document.instructions],
        ["n", "t", "2", "i"].map(|text| Some(text.to_owned()))
    );
    assert_eq!(document.capabilities.map(|raw| raw.get().to_owned()), Some(r#"{"tools":{}}"#.to_owned()));
}

#[test]
fn what_is_no_document_is_refused_by_name() {
    let server = |text: &str| ServerDocument::from_result(text, &tags(&[])).err();
    assert_eq!(server("[]"), Some(DocumentError::NotAnObject));
    assert_eq!(server("{}"), Some(DocumentError::NoVersion));
    assert_eq!(server(r#"{"supportedVersions":[]}"#), Some(DocumentError::NoVersion));
    assert_eq!(server(r#"{"supportedVersions":"2026-07-28"}"#), Some(DocumentError::NoVersion));
    assert!(matches!(server("{"), Some(DocumentError::Scan(_))));
    assert!(matches!(
        server(r#"{"protocolVersion":"a","protocolVersion":"b"}"#),
        Some(DocumentError::Scan(_))
    ));
    let list = |text: &str| ListDocument::from_result(DocumentKind::Tools, text, &tags(&[])).err();
    assert_eq!(list(r#"{"tools":{}}"#), Some(DocumentError::NoList("tools")));
    assert_eq!(list(r#"{"prompts":[]}"#), Some(DocumentError::NoList("tools")));
    assert_eq!(list("null"), Some(DocumentError::NotAnObject));
    let deep = format!(r#"{{"tools":[{}{}]}}"#, "[".repeat(100), "]".repeat(100));
    assert!(matches!(list(&deep), Some(DocumentError::Scan(_))));
    let server = ListDocument::from_result(DocumentKind::Server, "{}", &tags(&[])).err();
    assert_eq!(server, Some(DocumentError::Kind(11316)));
}

#[test]
fn broken_things_are_counted_and_the_others_stay() {
    let text = r#"{"tools":[7,{"name":"a","x":1.0},{"name":""},{"title":"b"},{"name":"a"},{"name":7},{"name":"b"}],
        "nextCursor":"more"}"#;
    let list = ListDocument::from_result(DocumentKind::Tools, text, &tags(&[])).unwrap();
    let names: Vec<&str> = list.items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!((names.as_slice(), list.skipped, list.more), (["a", "b"].as_slice(), 5, true));
    assert_eq!(list.item("a").map(|item| item.raw.get()), Some(r#"{"name":"a","x":1.0}"#));

    let many: Vec<String> = (0..ListDocument::ITEMS + 3).map(|n| format!(r#"{{"uri":"u:{n}"}}"#)).collect();
    let text = format!(r#"{{"resources":[{}]}}"#, many.join(","));
    let list = ListDocument::from_result(DocumentKind::Resources, &text, &tags(&[])).unwrap();
    assert_eq!((list.items.len(), list.skipped), (ListDocument::ITEMS, 3));
}

#[test]
fn results_are_told_apart_by_their_members() {
    let table = [
        (r#"{"protocolVersion":"1","tools":[]}"#, Some(DocumentKind::Server)),
        (r#"{"tools":[]}"#, Some(DocumentKind::Tools)),
        (r#"{"resources":[]}"#, Some(DocumentKind::Resources)),
        (r#"{"resourceTemplates":[]}"#, Some(DocumentKind::ResourceTemplates)),
        (r#"{"prompts":[]}"#, Some(DocumentKind::Prompts)),
        (r#"{"tools":{}}"#, None),
        (r#"{"content":[]}"#, None),
        ("[]", None),
    ];
    for (text, kind) in table {
        assert_eq!(DocumentKind::of_result(text), kind, "{text}");
    }
    for kind in DocumentKind::ALL {
        assert_eq!(DocumentKind::from_kind(kind.kind()), Some(kind));
    }
    assert_eq!(DocumentKind::from_kind(1), None);
}

#[test]
fn prices_keep_their_text_and_compare_as_decimals() {
    let price = |capability, amount, unit| Price::new(capability, amount, unit);
    let range = price("tool:a:b", "100-1000", "sats").unwrap();
    assert_eq!((range.capability.name(), range.amount.as_str(), range.at_most()), ("a:b", "100", "1000"));
    assert_eq!((range.amounts().as_str(), range.to_string().as_str()), ("100-1000", "100-1000 sats"));
    assert!(range.is_within("1000", "sat") && range.is_within("1000.0", "SATS"));
    assert!(!range.is_within("999.9", "sats") && !range.is_within("1000", "usd") && !range.is_free());
    assert!(price("prompt:p", "0.00", "x").unwrap().is_within("0", "other"));
    for odd in ["-5", "5-", "free", "1e3", "", ".5", "5.", "１"] {
        let price = price("resource:u", odd, "sats").unwrap();
        assert_eq!(price.amounts(), odd);
        assert!(!price.is_free() && !price.is_within("1000000", "sats"), "{odd}");
    }
    let turned = price("tool:a", "100-0", "sats").unwrap();
    assert!(!turned.is_free() && !turned.is_within("99", "sats") && turned.is_within("100", "sats"));
    assert_eq!((turned.at_most(), turned.amounts().as_str()), ("100", "100-0"));
    for odd in ["ask-0", "0-ask", "5-ask"] {
        let price = price("tool:a", odd, "sats").unwrap();
        assert!(!price.is_free() && !price.is_within("1000", "sats"), "{odd}");
    }
    for none in ["tool:", "tool", "thing:a", ""] {
        assert_eq!(price(none, "1", "sats"), None, "{none}");
    }
    let short = tags(&[&["cap", "tool:a", "1"], &["cap", "tool:b", "1", "sats", "more"], &["cap"]]);
    assert_eq!(Price::of(&short).map(|price| price.capability.to_string()).collect::<Vec<_>>(), ["tool:b"]);
    let order = [
        ("007", "7", Ordering::Equal),
        ("0.50", "0.5", Ordering::Equal),
        ("9", "10", Ordering::Less),
        ("0.09", "0.1", Ordering::Less),
        ("99999999999999999999999999", "99999999999999999999999998.9", Ordering::Greater),
    ];
    for (a, b, expected) in order {
        assert_eq!(compare_amounts(a, b), Some(expected), "{a} {b}");
        assert_eq!(compare_amounts(b, a), Some(expected.reverse()), "{b} {a}");
    }
}

#[test]
fn relay_lists_are_selected_by_marker_and_bounded() {
    let list = |tags_: &[&[&str]]| RelayList::from_tags(tags(tags_).iter());
    let both =
        list(&[&["r", "wss://a", "write"], &["r", " wss://b "], &["r", "wss://c", ""], &["r", "wss://b"]]);
    assert_eq!(both.selection(), ["wss://b", "wss://c"]);
    let marked = list(&[
        &["r", "wss://w", "write"],
        &["r", "wss://r", "read"],
        &["r", "wss://x", "else"],
        &["r", "wss://w", "read"],
    ]);
    assert_eq!(marked.selection(), ["wss://r", "wss://w"]);
    assert_eq!(marked.entries[2].marker, Marker::Other("else".into()));
    let long = format!("wss://{}", "a".repeat(RelayList::URL_BYTES));
    let odd = list(&[&["r"], &["r", ""], &["r", &long], &["p", "wss://p"]]);
    assert_eq!((odd.entries.len(), odd.skipped, odd.selection().len()), (0, 3, 0));
    let many: Vec<Vec<String>> =
        (0..RelayList::ENTRIES + 5).map(|n| vec!["r".into(), format!("wss://{n}")]).collect();
    let many = RelayList::from_tags(nostr::event::Tags::parse(many).unwrap().iter());
    assert_eq!((many.entries.len(), many.skipped), (RelayList::ENTRIES, 5));
}

#[test]
fn a_profile_keeps_its_text_and_leaves_out_what_is_no_string() {
    let text = r#"{"about":"a\n","name":"n","display_name":7,"bot":true,"lud06":"x"}"#;
    let profile = Profile::parse(text).unwrap();
    assert_eq!(
        (profile.name.as_deref(), profile.about.as_deref(), profile.display_name.as_ref()),
        (Some("n"), Some("a\n"), None)
    );
    assert_eq!(profile.raw, text);
    assert_eq!(profile.to_content(), r#"{"name":"n","about":"a\n"}"#);
    assert!(Profile::default().is_empty() && Profile::parse("{}").unwrap().is_empty() && !profile.is_empty());
    assert!(Profile::parse("[]").is_err() && Profile::parse("{").is_err());
}
