//! Properties: what is printed is read back, nothing panics, and the scan agrees with serde_json.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic, and not all of their functions are marked as tests"
)]

use contextvm_core::object::{self, Object, compact, quote};
use contextvm_core::rewrite::{self, Rewrite};
use contextvm_core::{
    Capability, ClientFrame, Envelope, Limits, MessageKind, PeerTags, Printable, RelayFrame, ScanError,
    ServerIdentity, envelope, event, frame, scan, tags,
};
use nostr::event::{Event, EventId, Kind, Signature, Tag, Tags};
use nostr::key::PublicKey;
use nostr::types::Timestamp;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn json_object() -> impl Strategy<Value = Map<String, Value>> {
    btree_map(any::<String>(), json(), 0..6).prop_map(|map| map.into_iter().collect())
}

fn id() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<String>().prop_map(Value::from),
        (-9_007_199_254_740_991i64..=9_007_199_254_740_991).prop_map(Value::from),
    ]
}

/// Any JSON-RPC message, with unknown members, in some layout.
fn message() -> impl Strategy<Value = (Value, String)> {
    let params = proptest::option::of(json_object());
    let parts = (id(), any::<String>(), params, json_object(), 0..4usize, "[x-z]{3}", json(), any::<bool>());
    parts.prop_map(|(id, method, params, result, shape, extra, value, pretty)| {
        let mut map = Map::new();
        map.insert("jsonrpc".into(), "2.0".into());
        map.insert(extra, value);
        if shape != 1 {
            map.insert("id".into(), id);
        }
        match shape {
            0 | 1 => {
                map.insert("method".into(), method.into());
                if let Some(params) = params {
                    map.insert("params".into(), params.into());
                }
            }
            2 => drop(map.insert("result".into(), result.into())),
            _ => drop(map.insert("error".into(), serde_json::json!({"code": -1, "message": method}))),
        }
        let value = Value::from(map);
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }
            .unwrap();
        // serde_json does not read every double back to the last bit, so both sides are read by it.
        (serde_json::from_str(&text).unwrap(), text)
    })
}

/// Text made of the tokens that matter to a JSON parser.
fn token_soup() -> impl Strategy<Value = String> {
    let tokens = [
        "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"b\":", "\\", "\\u", "\\ud83d", "\\ude00", "\\u0061",
        "0", "1", "-", ".", "e", "E", "+", "9", "400", "true", "false", "null", "nul", " ", "\n", "\t",
        "\u{1}", "\u{7f}", "\u{feff}", "é", "😀", "a",
    ];
    vec(proptest::sample::select(tokens.to_vec()), 0..24).prop_map(|tokens| tokens.concat())
}

/// Valid JSON with one place cut out, replaced or doubled.
fn damaged() -> impl Strategy<Value = String> {
    (json(), any::<prop::sample::Index>(), token_soup(), 0..4usize).prop_map(|(value, at, insert, cut)| {
        let chars: Vec<char> = value.to_string().chars().collect();
        let at = at.index(chars.len());
        let after = (at + cut).min(chars.len());
        chars[..at].iter().copied().chain(insert.chars()).chain(chars[after..].iter().copied()).collect()
    })
}

/// serde_json's verdict; it refuses what is no JSON and overflow, and takes duplicate keys.
fn agrees(text: &str) -> Result<(), TestCaseError> {
    let limits = Limits { json_depth: 6, json_nodes: 12, json_number: 12, ..Limits::default() };
    let theirs = serde_json::from_str::<Value>(text);
    match scan::check(text, &limits) {
        Ok(_) => prop_assert!(theirs.is_ok(), "accepted {text:?}"),
        Err(
            ScanError::Depth { .. }
            | ScanError::Nodes { .. }
            | ScanError::NumberLength { .. }
            | ScanError::DuplicateKey { .. },
        ) => {}
        Err(error) => prop_assert!(theirs.is_err(), "refused {text:?}: {error}"),
    }
    Ok(())
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_scan_agrees_with_serde_json_on_token_soup(text in token_soup()) {
        agrees(&text)?;
    }

    #[test]
    fn the_scan_agrees_with_serde_json_on_damaged_text(text in damaged()) {
        agrees(&text)?;
    }
}

proptest! {
    #[test]
    fn the_scan_accepts_and_counts_valid_text(value in json(), pretty: bool) {
        fn nodes(value: &Value) -> usize {
            match value {
                Value::Array(list) => 1 + list.iter().map(nodes).sum::<usize>(),
                Value::Object(map) => 1 + map.values().map(nodes).sum::<usize>(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
            }
        }
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(scan::check(&text, &Limits::default()).map(|scan| scan.nodes), Ok(nodes(&value)));
    }

    #[test]
    fn nothing_panics_on_any_text(text in any::<String>(), soup in token_soup()) {
        for text in [text, soup] {
            let _ = Envelope::parse(&text, &Limits::default());
            let _ = Object::parse(&text).map(|object| object.to_text());
            let _ = RelayFrame::parse(&text);
            let _ = ClientFrame::parse(&text);
            let _ = text.parse::<ServerIdentity>();
            let _ = compact(&text);
            let _ = Printable(&text).to_string();
        }
    }

    #[test]
    fn messages_survive_parsing_and_printing((value, text) in message()) {
        let message = Envelope::parse(&text, &Limits::default());
        // A generated name could resemble `_meta` and the like, but never does.
        let message = message.map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        let printed = message.to_text();
        prop_assert_eq!(&serde_json::from_str::<Value>(&printed).unwrap(), &value);
        let again = Envelope::parse(&printed, &Limits::default()).unwrap();
        prop_assert_eq!(again.kind, message.kind);
        prop_assert_eq!(again.to_text(), printed);
        let exact = message.to_exact_text();
        prop_assert!(Envelope::parse(&exact, &Limits::default()).unwrap().extra == 0);
    }

    #[test]
    fn an_edit_changes_what_it_names_and_nothing_else((value, text) in message(), new in id(), name in "[a-c]{1,3}") {
        let message = Envelope::parse(&text, &Limits::default()).unwrap();
        let with_id = rewrite::with_id(&message, &new.to_string());
        let mut expected = value.clone();
        expected["id"] = new.clone();
        prop_assert_eq!(&serde_json::from_str::<Value>(&with_id).unwrap(), &expected);

        if matches!(message.kind, MessageKind::Request | MessageKind::Notification) {
            let edited = Rewrite::of(&message).id(new.to_string()).meta(&name, "[1.0]").to_text();
            if expected.get("params").is_none() {
                expected["params"] = Value::Object(Map::new());
            }
            expected["params"]["_meta"][&name] = serde_json::json!([1.0]);
            prop_assert_eq!(&serde_json::from_str::<Value>(&edited).unwrap(), &expected);
            let edited = Envelope::parse(&edited, &Limits::default()).unwrap();
            prop_assert_eq!(rewrite::meta_member(edited.params, &name).map(RawValue::get), Some("[1.0]"));
        }
    }

    #[test]
    fn compact_text_is_what_serde_json_prints_and_one_line(value in json()) {
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(compact(&pretty), value.to_string());
        prop_assert!(!compact(&pretty).contains(['\n', '\r', '\0']));
    }

    #[test]
    fn objects_and_strings_survive_parsing_and_printing(map in json_object(), text in any::<String>()) {
        let printed = Value::Object(map.clone()).to_string();
        let object = Object::parse(&printed).unwrap();
        prop_assert_eq!(&object.to_text(), &printed);
        prop_assert_eq!(object.len(), map.len());
        for (key, value) in &map {
            prop_assert_eq!(object.get(key).map(|value| value.get().to_owned()), Some(value.to_string()));
        }
        prop_assert_eq!(quote(&text), serde_json::to_string(&text).unwrap());
        let quoted = raw(&quote(&text));
        prop_assert_eq!(object::string(&quoted), Some(text.into()));
    }

    #[test]
    fn printed_messages_are_read_back(id in id(), method in any::<String>(), object in json_object(), code: i64) {
        let (id, object) = (raw(&id.to_string()), raw(&Value::Object(object).to_string()));
        let limits = Limits::default();
        let texts = [
            (envelope::request(&id, &method, None), MessageKind::Request),
            (envelope::notification(&method, None), MessageKind::Notification),
            (envelope::response_result(&id, &object), MessageKind::Response),
            (envelope::response_error(&id, code, &method, Some(&object)), MessageKind::Error),
        ];
        for (text, kind) in &texts {
            let message = Envelope::parse(text, &limits).unwrap();
            prop_assert_eq!(message.kind, *kind);
            prop_assert_eq!(&message.to_exact_text(), text);
        }
        let error = Envelope::parse(&texts[3].0, &limits).unwrap();
        prop_assert_eq!(error.error_code(), Some(code));
    }

    #[test]
    fn the_name_of_a_tool_is_exact(name in any::<String>()) {
        let text = serde_json::json!({"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":name}}).to_string();
        let message = Envelope::parse(&text, &Limits::default()).unwrap();
        prop_assert_eq!(Capability::of(&message).unwrap().name, Some(name));
    }

    #[test]
    fn frames_are_read_as_they_were_printed(sub in any::<String>(), text in any::<String>(), accepted: bool, id: [u8; 32], map in json_object()) {
        let json = Value::Object(map).to_string();
        let event = frame::relay_event(&sub, &json);
        let is_same = matches!(RelayFrame::parse(&event), Ok(RelayFrame::Event { subscription, event })
            if subscription == sub && event.get() == json);
        prop_assert!(is_same);
        let hex = nostr::event::EventId::from_byte_array(id).to_hex();
        let ok = frame::ok(&hex, accepted, &text);
        let is_same = matches!(RelayFrame::parse(&ok), Ok(RelayFrame::Ok { id, accepted: verdict, message })
            if id.to_hex() == hex && verdict == accepted && message == text);
        prop_assert!(is_same);
        let req = frame::req(&sub, &[&json, "{}"]);
        let is_same = matches!(ClientFrame::parse(&req), Ok(ClientFrame::Req { subscription, filters })
            if subscription == sub && filters.len() == 2 && filters[0].get() == json);
        prop_assert!(is_same);
    }

    #[test]
    fn printable_text_hides_nothing(text in any::<String>(), max in 0..20usize) {
        let shown = Printable(&text).to_string();
        let hidden = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{feff}');
        prop_assert!(!shown.contains(hidden));
        let short = Printable::short(&text, max).to_string();
        let cut = short.strip_suffix('…').filter(|_| text.chars().count() > max);
        prop_assert!(shown.starts_with(cut.unwrap_or(&short)));
    }

    #[test]
    fn identities_are_read_as_they_were_printed(secret in 1..=u64::MAX, hosts in vec("[a-z]{1,12}", 0..5)) {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&secret.to_be_bytes());
        let key = nostr::key::Keys::new(nostr::key::SecretKey::from_slice(&bytes).unwrap()).public_key();
        let relays = hosts.iter().map(|host| format!("wss://{host}.example")).collect();
        let identity = ServerIdentity { key, relays };
        prop_assert_eq!(identity.to_string().parse::<ServerIdentity>(), Ok(identity.clone()));
        let hex: ServerIdentity = key.to_hex().to_uppercase().parse().unwrap();
        prop_assert_eq!(hex.key, key);
    }

    #[test]
    fn the_same_tags_teach_nothing_twice(list in vec(vec(prop_oneof![
        any::<String>(), Just("name".to_owned()), Just("support_encryption".to_owned()), Just("e".to_owned()),
    ], 1..4), 0..8)) {
        let list: Tags = Tags::from_list(list.into_iter().map(|tag| Tag::parse(tag).unwrap()).collect());
        let mut peer = PeerTags::default();
        prop_assert_eq!(peer.learn(&list), list.iter().any(tags::is_discovery));
        let learned = peer.clone();
        prop_assert!(!peer.learn(&list));
        prop_assert_eq!(peer, learned);
        let _ = tags::answered_id(&list);
    }

    #[test]
    fn events_are_read_as_they_were_printed(
        content in any::<String>(), tags in vec(vec(any::<String>(), 1..4), 0..8), created_at: u64, kind: u16,
    ) {
        let event = Event::new(
            EventId::from_byte_array([0xa0; 32]),
            PublicKey::from_byte_array([0x0b; 32]),
            Timestamp::from_secs(created_at),
            Kind::from_u16(kind),
            Tags::parse(tags).unwrap(),
            content,
            Signature::from_byte_array([0xc0; 64]),
        );
        let printed = event::print(&event);
        prop_assert_eq!(&printed, &event.as_json());
        prop_assert_eq!(event::read(&printed), Some(event));
    }
}
