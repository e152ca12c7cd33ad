//! The target of what relays say about themselves (NIP-11).
use contextvm_core::RelayInfo;
use contextvm_core::relay_info::DOCUMENT;
use serde_json::Value;

use crate::seeds::{Seed, texts};

/// Documents: what is read is what another parser reads, member by member, cut to its bounds.
pub fn relay_info(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let Ok(info) = RelayInfo::parse(text) else { return };
    assert!(text.len() <= DOCUMENT);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document: Value = serde_json::from_str(text).expect("what is read is json");
    assert!(document.is_object());
    for (name, read) in [
        ("name", &info.name),
        ("description", &info.description),
        ("contact", &info.contact),
        ("software", &info.software),
        ("version", &info.version),
    ] {
        let words = document[name].as_str().map(str::trim).filter(|words| !words.is_empty());
        let words: Option<String> = words.map(|words| words.chars().take(1_024).collect());
        assert_eq!(*read, words, "{name}");
    }
    let nips = document["supported_nips"].as_array().into_iter().flatten();
    let nips = nips.filter_map(|nip| u16::try_from(nip.as_u64()?).ok()).take(256);
    assert_eq!(info.supported_nips, nips.collect::<Vec<_>>());
    let (limits, said) = (&info.limitation, &document["limitation"]);
    for (name, read) in [
        ("max_message_length", limits.max_message_length),
        ("max_subscriptions", limits.max_subscriptions),
        ("max_filters", limits.max_filters),
        ("max_limit", limits.max_limit),
        ("max_subid_length", limits.max_subid_length),
        ("max_event_tags", limits.max_event_tags),
        ("max_content_length", limits.max_content_length),
        ("min_pow_difficulty", limits.min_pow_difficulty),
        ("created_at_lower_limit", limits.created_at_lower_limit),
        ("created_at_upper_limit", limits.created_at_upper_limit),
    ] {
        assert_eq!(read, said[name].as_u64(), "{name}");
    }
    for (name, read) in [
        ("auth_required", limits.auth_required),
        ("payment_required", limits.payment_required),
        ("restricted_writes", limits.restricted_writes),
    ] {
        assert_eq!(read, said[name].as_bool(), "{name}");
    }
}

/// The inputs of `corpus/relay_info`.
pub(crate) fn seeds() -> Vec<Seed> {
    let long = format!(r#"{{"name":"{}"}}"#, "é".repeat(1_100));
    let nips = format!(r#"{{"supported_nips":[1{}]}}"#, ",42".repeat(300));
    texts(
        "relay_info",
        &[
            (
                "full",
                r#"{"name":"r","description":"d","contact":"c","software":"s","version":"0.9","supported_nips":[1,11,42],"limitation":{"max_message_length":524288,"max_subscriptions":20,"max_filters":10,"max_limit":500,"max_subid_length":64,"max_event_tags":100,"max_content_length":8196,"min_pow_difficulty":0,"auth_required":false,"payment_required":true,"restricted_writes":true,"created_at_lower_limit":1,"created_at_upper_limit":900}}"#,
            ),
            ("empty", "{}"),
            ("mark", "\u{feff}{\"name\":\"r\"}"),
            ("two_marks", "\u{feff}\u{feff}{}"),
            ("blank", r#"{"name":" \t ","version":"\u00a0v\n"}"#),
            ("wrong_types", r#"{"name":[],"supported_nips":{},"limitation":7}"#),
            ("odd_nips", r#"{"supported_nips":["01",1,-1,70000,2.0,1e1,null,[9],-0]}"#),
            (
                "odd_limits",
                r#"{"limitation":{"max_limit":18446744073709551616,"max_filters":-1,"max_subscriptions":1.0,"auth_required":"true"}}"#,
            ),
            ("duplicate", r#"{"name":"a","n\u0061me":"b"}"#),
            ("escapes", r#"{"name":"\ud83d\ude00\u202e\u0000\\"}"#),
            ("array", "[{}]"),
            ("page", "<html>"),
            ("cut", r#"{"name":"r","limitation":{"#),
            ("long", &long),
            ("nips", &nips),
        ],
    )
}
