//! Targets of core and crypto: texts and events from strangers.
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::frame::{self, ClientFrame, RelayFrame};
use contextvm_core::scan::{self, ScanError};
use contextvm_core::{
    Capability, Limits, Now, Object, PeerTags, Printable, Rewrite, WrapKind, event, kind, object, rewrite,
};
use contextvm_crypto::nip44::{ExtendedLength, conversation_key, encrypt};
use contextvm_crypto::{Entropy, open as open_wrap, open_plain, seal};
use contextvm_engine::{Gate, ServerConfig};
use nostr::event::Event;
use nostr::key::PublicKey;
use serde_json::Value;

use crate::bytes::Bytes;
use crate::people::{START, keys, message, tags};

fn text(data: &[u8]) -> Option<&str> {
    core::str::from_utf8(data).ok()
}

/// Frames between relays and clients: what parses is printed to a frame that says the same.
pub fn relay_frame(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(parsed) = RelayFrame::parse(text)
        && let Some(printed) = relay_text(&parsed)
    {
        let again = RelayFrame::parse(&printed).expect("a printed frame parses");
        assert_eq!(format!("{again:?}"), format!("{parsed:?}"));
    }
    if let Ok(parsed) = ClientFrame::parse(text)
        && let Some(printed) = client_text(&parsed)
    {
        let again = ClientFrame::parse(&printed).expect("a printed frame parses");
        assert_eq!(format!("{again:?}"), format!("{parsed:?}"));
    }
    let shown = Printable(text).to_string();
    assert!(!shown.chars().any(char::is_control), "what is shown has no control character: {shown:?}");
}

fn relay_text(parsed: &RelayFrame<'_>) -> Option<String> {
    Some(match parsed {
        RelayFrame::Event { subscription, event } => frame::relay_event(subscription, event.get()),
        RelayFrame::Ok { id, accepted, message } => frame::ok(&id.to_hex(), *accepted, message),
        RelayFrame::EndOfStored { subscription } => frame::eose(subscription),
        RelayFrame::Closed { subscription, message } => frame::closed(subscription, message),
        RelayFrame::Notice { message } => frame::notice(message),
        RelayFrame::Auth { challenge } => frame::challenge(challenge),
        RelayFrame::Count { .. } => return None,
    })
}

fn client_text(parsed: &ClientFrame<'_>) -> Option<String> {
    Some(match parsed {
        ClientFrame::Event { event } => frame::event(event.get()),
        ClientFrame::Req { subscription, filters } => {
            let filters: Vec<&str> = filters.iter().map(|filter| filter.get()).collect();
            frame::req(subscription, &filters)
        }
        ClientFrame::Close { subscription } => frame::close(subscription),
        ClientFrame::Auth { event } => frame::auth(event.get()),
        ClientFrame::Count { .. } => return None,
    })
}

/// Outer events: through the gate and through both ways of opening.
///
/// A fuzzer signs nothing, so `+` in front of an event has it signed, and `*` sealed as well.
pub fn event(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match (text.strip_prefix('+'), text.strip_prefix('*')) {
        (Some(text), _) => signed(text).map_or((), |event| outer_event(&event::print(&event))),
        (_, Some(text)) => {
            let Some(inner) = signed(text) else { return };
            let entropy = Entropy::from_bytes([5; Entropy::LEN]);
            let wrap = if text.len() % 2 == 0 { WrapKind::Ephemeral } else { WrapKind::Persistent };
            let Ok(event) = seal(&inner, &keys(0x11).public_key(), wrap, START, &entropy) else { return };
            outer_event(&event::print(&event));
        }
        _ => outer_event(text),
    }
}

fn signed(text: &str) -> Option<Event> {
    let Event { kind, created_at, tags, content, .. } = Event::from_json(text).ok()?;
    Some(keys(0x22).sign_event(kind.as_u16(), created_at.as_secs(), tags, content, [7; 32]))
}

fn outer_event(text: &str) {
    let me = keys(0x11);
    let limits = Limits::default();
    let now = Now { unix: START, ..Now::default() };
    let mut gate = Gate::for_server(me.public_key(), &ServerConfig::default());
    if let Ok(outer) = gate.admit(text, 0, now) {
        assert!(outer.event.verify_id(), "what passes the gate is what its id says");
        assert!(gate.admit(text, 1, now).is_err(), "a second copy waits for the first");
        gate.refused(outer.event.id, &outer.event.sig);
        assert!(gate.admit(text, 1, now).is_ok(), "a copy that could not be opened poisons nothing");
    }
    let Ok(parsed) = Event::from_json(text) else {
        return;
    };
    assert_eq!(event::print(&parsed), parsed.as_json());
    let again = event::read(text);
    assert!(again.is_none_or(|again| again == parsed), "two readers read one event");
    PeerTags::default().learn(&parsed.tags);
    if let Ok(opened) = open_wrap(&parsed, &me, START, &limits) {
        check(opened.event(), &me.public_key());
    }
    if let Ok(opened) = open_plain(parsed, &me.public_key(), START, &limits) {
        check(opened.event(), &me.public_key());
    }
}

fn check(event: &Event, me: &PublicKey) {
    assert!(event.verify_id() && event::is_signed(event), "an opened event verifies");
    assert_eq!(event.kind.as_u16(), kind::MESSAGE);
    assert_eq!(event.tags.iter().filter(|tag| tag.kind() == "p").count(), 1);
    assert!(event.tags.iter().any(|tag| tag.content() == Some(&me.to_hex())));
}

/// JSON-RPC envelopes: what is accepted prints and rewrites to what is accepted, and nothing else changes.
pub fn envelope(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let limits = Limits::default();
    let Ok(parsed) = Envelope::parse(text, &limits) else {
        return;
    };
    assert!(scan::check(text, &limits).is_ok());
    let _ = Capability::of(&parsed);
    for (printed, extra) in [(parsed.to_text(), parsed.extra), (parsed.to_exact_text(), 0)] {
        let again = Envelope::parse(&printed, &limits).expect("a printed message parses");
        same(&again, &parsed);
        assert_eq!(raw(again.id), raw(parsed.id));
        assert_eq!(again.extra, extra, "strict peers get no unknown members, the others get them all");
    }
    if matches!(parsed.kind, MessageKind::Request | MessageKind::Response) {
        let renamed = rewrite::with_id(&parsed, r#""other""#);
        let again = Envelope::parse(&renamed, &limits).expect("a renamed message parses");
        same(&again, &parsed);
        assert_eq!(raw(again.id), Some(r#""other""#));
    }
    let cleaned = Rewrite::of(&parsed).without_meta(rewrite::CLIENT_PUBKEY).to_text();
    let again = Envelope::parse(&cleaned, &limits).expect("a cleaned message parses");
    let beside = Object::parse(&cleaned).expect("a message is an object").get("_meta");
    for meta in [again.meta(), beside].into_iter().flatten() {
        assert!(object::member(meta, rewrite::CLIENT_PUBKEY).is_none(), "nobody names himself");
    }
    if parsed.progress_token().is_some() {
        let changed = Rewrite::of(&parsed).meta(rewrite::PROGRESS_TOKEN, "7").to_text();
        let again = Envelope::parse(&changed, &limits).expect("a message with another token parses");
        assert_eq!(raw(again.progress_token()), Some("7"));
        assert_eq!(raw(again.id), raw(parsed.id));
    }
}

fn raw(value: Option<&serde_json::value::RawValue>) -> Option<&str> {
    value.map(serde_json::value::RawValue::get)
}

fn same(one: &Envelope<'_>, other: &Envelope<'_>) {
    assert_eq!(one.kind, other.kind);
    assert_eq!(one.method, other.method);
    for (one, other) in [(one.params, other.params), (one.result, other.result), (one.error, other.error)] {
        let value =
            |part| serde_json::from_str::<Value>(raw(part).unwrap_or("null")).expect("a part is json");
        assert_eq!(value(one), value(other));
    }
}

/// The budgeted scan against a second parser: they agree on what is JSON, and on what was counted.
pub fn scan(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let limits = Limits { event: 4_096, json_nodes: 512, json_depth: 32, ..Limits::default() };
    let second = serde_json::from_str::<Value>(text);
    match scan::check(text, &limits) {
        Ok(scan) => {
            let value = second.expect("what the scan accepts is json");
            assert_eq!(nodes(&value), scan.nodes, "no key was lost and every value was counted");
            assert_eq!(depth(&value), scan.depth);
        }
        Err(ScanError::Syntax { .. } | ScanError::Truncated | ScanError::Trailing { .. }) => {
            assert!(second.is_err(), "what the scan calls no json is none: {text:?}");
        }
        Err(_) => {}
    }
}

fn nodes(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(nodes).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Gift wraps: nothing that is damaged opens to anything but the event that was sealed.
pub fn open(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (client, me, one_time) = (keys(0x22), keys(0x11), keys(0x44));
    let limits = Limits::default();
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.to_owned();
    let honest = message(&client, START, tags(&me.public_key(), []), request);
    let key = conversation_key(&one_time, &me.public_key()).expect("both keys are keys");
    let wrapped = |content: String| {
        one_time.sign_event(kind::EPHEMERAL_GIFT_WRAP, START, tags(&me.public_key(), []), content, [1; 32])
    };
    let encrypted = |plaintext: &[u8]| encrypt(&key, plaintext, &[2; 32], ExtendedLength::Allow);
    match bytes.below(4) {
        // The content itself.
        0 => {
            let wrap = wrapped(String::from_utf8_lossy(bytes.0).into_owned());
            assert!(open_wrap(&wrap, &me, START, &limits).is_err(), "nobody knows the key");
        }
        // Any plaintext from a true sender.
        1 => {
            let Ok(content) = encrypted(bytes.0) else { return };
            if let Ok(opened) = open_wrap(&wrapped(content), &me, START, &limits) {
                check(opened.event(), &me.public_key());
            }
        }
        // A signed event with damage.
        2 => {
            let mut plaintext = honest.as_json().into_bytes();
            damage(&mut plaintext, &mut bytes);
            let content = encrypted(&plaintext).expect("it is neither empty nor long");
            if let Ok(opened) = open_wrap(&wrapped(content), &me, START, &limits) {
                assert_eq!(opened.event(), &honest);
            }
        }
        // A gift wrap with damage.
        _ => {
            let entropy = Entropy::from_bytes([5; Entropy::LEN]);
            let mut wrap =
                seal(&honest, &me.public_key(), WrapKind::Persistent, START, &entropy).expect("it is small");
            let mut content = wrap.content.into_bytes();
            damage(&mut content, &mut bytes);
            wrap.content = String::from_utf8_lossy(&content).into_owned();
            if let Ok(opened) = open_wrap(&wrap, &me, START, &limits) {
                assert_eq!(opened.event(), &honest);
            }
        }
    }
}

/// Changes single bytes, as often as the input says.
fn damage(target: &mut [u8], bytes: &mut Bytes<'_>) {
    while !bytes.is_empty() {
        let at = usize::from(bytes.short()) % target.len();
        target[at] ^= bytes.byte();
    }
}
