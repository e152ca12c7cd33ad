//! The gate in front of the cryptography: what it lets through, and what cannot poison it.
#![expect(clippy::unwrap_used, reason = "tests")]
use contextvm_core::{Draft, Limits, Mono, Now, Protection, WrapKind};
use contextvm_crypto::{Entropy, Keys};
use contextvm_engine::{ClientConfig, DropReason, EncryptionMode, Gate, GiftWrapMode, ServerConfig};
use nostr::event::{Event, EventId, Tag, Tags};
use nostr::key::PublicKey;
use serde_json::Value;

const NOW: Now = Now { mono: Mono(5_000), unix: 1_700_000_000 };

fn keys(n: u8) -> Keys {
    Keys::from_secret_bytes([n; 32]).unwrap()
}

fn plain(from: &Keys, to: PublicKey, created_at: u64) -> Event {
    let tags = Tags::from_list(vec![Tag::public_key(to)]);
    let draft = Draft::new(from.public_key(), created_at, tags, "{}".to_owned());
    from.sign_draft(&draft, [3; 32])
}

fn wrapped(inner: &Event, to: PublicKey, wrap: WrapKind, seed: u8) -> Event {
    let entropy = Entropy::from_bytes([seed; Entropy::LEN]);
    contextvm_crypto::seal(inner, &to, wrap, NOW.unix, &entropy).unwrap()
}

fn edited(event: &Event, edit: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_str(&event.as_json()).unwrap();
    edit(&mut value);
    value.to_string()
}

fn later(millis: u64) -> Now {
    Now { mono: Mono(NOW.mono.0 + millis), ..NOW }
}

#[test]
fn only_kinds_that_the_modes_allow_are_let_through() {
    let (me, client) = (keys(1).public_key(), keys(2));
    let inner = plain(&client, me, NOW.unix);
    let events = [
        inner.clone(),
        wrapped(&inner, me, WrapKind::Persistent, 5),
        wrapped(&inner, me, WrapKind::Ephemeral, 6),
    ];
    for (encryption, gift_wrap, admitted) in [
        (EncryptionMode::Optional, GiftWrapMode::Optional, [true, true, true]),
        (EncryptionMode::Required, GiftWrapMode::Optional, [false, true, true]),
        (EncryptionMode::Disabled, GiftWrapMode::Optional, [true, false, false]),
        (EncryptionMode::Optional, GiftWrapMode::Persistent, [true, true, false]),
        (EncryptionMode::Optional, GiftWrapMode::Ephemeral, [true, false, true]),
    ] {
        let config = ServerConfig { encryption, gift_wrap, ..ServerConfig::default() };
        let mut gate = Gate::for_server(me, &config);
        for (event, admitted) in events.iter().zip(admitted) {
            let result = gate.admit(&event.as_json(), 0, NOW).map(|outer| outer.event);
            let expected = if admitted { Ok(event.clone()) } else { Err(DropReason::Policy) };
            assert_eq!(result, expected, "{encryption:?} {gift_wrap:?}");
        }
    }
}

#[test]
fn a_note_is_not_a_call() {
    let me = keys(1).public_key();
    let event = plain(&keys(2), me, NOW.unix);
    let mut gate = Gate::for_server(me, &ServerConfig::default());
    let known = [25_910, 1_059, 21_059];
    for kind in (0..=u16::MAX).filter(|kind| !known.contains(kind)) {
        let raw = edited(&event, |value| value["kind"] = kind.into());
        assert_eq!(gate.admit(&raw, 0, NOW), Err(DropReason::Kind), "{kind}");
    }
}

#[test]
fn events_for_others_are_stopped_whatever_their_tags_look_like() {
    let (me, other) = (keys(1).public_key(), keys(9).public_key());
    let event = plain(&keys(2), me, NOW.unix);
    let mut gate = Gate::for_server(me, &ServerConfig::default());
    let (mine, others) = (me.to_hex(), other.to_hex());
    for tags in [
        serde_json::json!([]),
        serde_json::json!([["p", others]]),
        serde_json::json!([["p", mine], ["p", others]]),
        serde_json::json!([["p", others], ["x"], ["p", mine]]),
        serde_json::json!([["p", mine], ["p", mine]]),
        serde_json::json!([["p", mine.to_uppercase()]]),
        serde_json::json!([["P", mine]]),
        serde_json::json!([["p"]]),
    ] {
        let raw = edited(&event, |value| value["tags"] = tags.clone());
        assert_eq!(gate.admit(&raw, 0, NOW), Err(DropReason::Audience), "{tags}");
    }
}

#[test]
fn rubbish_bulk_and_age_are_stopped() {
    let me = keys(1).public_key();
    let limits = Limits { event: 2_000, ..Limits::default() };
    let mut gate = Gate::for_server(me, &ServerConfig { limits, ..ServerConfig::default() });
    for raw in ["", "{}", "[]", "null", "{\"id\":", "\u{0}"] {
        assert_eq!(gate.admit(raw, 0, NOW), Err(DropReason::Malformed), "{raw:?}");
    }
    assert_eq!(gate.admit(&" ".repeat(2_001), 0, NOW), Err(DropReason::TooLarge));
    for created_at in [NOW.unix - 601, NOW.unix + 601] {
        let event = plain(&keys(2), me, created_at);
        assert_eq!(gate.admit(&event.as_json(), 0, NOW), Err(DropReason::Stale));
    }
    let event = plain(&keys(2), me, NOW.unix);
    let raw = edited(&event, |value| value["content"] = "other".into());
    assert_eq!(gate.admit(&raw, 0, NOW), Err(DropReason::Id));
}

#[test]
fn an_event_of_nothing_but_tags_is_not_read_into_memory() {
    let me = keys(1).public_key();
    let mut gate = Gate::for_server(me, &ServerConfig::default());
    let event = plain(&keys(2), me, NOW.unix);
    for tags in [vec![serde_json::json!([""]); 20_000], vec![serde_json::json!(vec![""; 30_000])]] {
        let raw = edited(&event, |value| value["tags"] = tags.into());
        assert!(raw.len() < Limits::default().event);
        assert_eq!(gate.admit(&raw, 0, NOW), Err(DropReason::Malformed));
    }
}

#[test]
fn poisoned_id_arrives_first() {
    let me = keys(1).public_key();
    let mut gate = Gate::for_server(me, &ServerConfig::default());
    let event = plain(&keys(2), me, NOW.unix);
    let true_one = event.as_json();
    for n in 0..200_u32 {
        let forged = edited(&event, |value| value["sig"] = format!("{n:0128x}").into());
        let outer = gate.admit(&forged, 0, NOW).unwrap();
        if n % 2 == 0 {
            gate.refused(outer.event.id, &outer.event.sig);
        }
    }
    let outer = gate.admit(&true_one, 1, NOW).expect("the true copy is no duplicate of a forged one");
    assert_eq!(gate.admit(&true_one, 2, NOW), Err(DropReason::Copy), "it is in work");
    gate.opened(outer.event.id);
    assert_eq!(gate.admit(&true_one, 2, NOW), Err(DropReason::Duplicate), "it was opened");
}

#[test]
fn a_copy_that_failed_may_come_again_and_one_that_got_lost_does_not_block_for_ever() {
    let me = keys(1).public_key();
    let mut gate = Gate::for_server(me, &ServerConfig::default());
    let wrap = wrapped(&plain(&keys(2), me, NOW.unix), me, WrapKind::Persistent, 5).as_json();
    let outer = gate.admit(&wrap, 0, NOW).unwrap();
    gate.refused(outer.event.id, &outer.event.sig);
    assert!(gate.admit(&wrap, 0, NOW).is_ok());
    assert_eq!(gate.admit(&wrap, 0, later(29_999)), Err(DropReason::Duplicate));
    assert!(gate.admit(&wrap, 0, later(30_000)).is_ok());
}

#[test]
fn an_event_that_is_published_again_may_ask_again_and_a_slow_copy_of_it_may_not() {
    let me = keys(1).public_key();
    let mut gate = Gate::for_server(me, &ServerConfig::default());
    let inner = plain(&keys(2), me, NOW.unix);
    let wrap = wrapped(&inner, me, WrapKind::Ephemeral, 5);
    for event in [&inner, &wrap] {
        let json = event.as_json();
        let outer = gate.admit(&json, 0, NOW).unwrap();
        assert_eq!(gate.admit(&json, 1, NOW), Err(DropReason::Copy), "in work");
        assert_eq!(gate.admit(&json, 1, NOW), Err(DropReason::Duplicate), "a second one of the same relay");
        gate.opened(outer.event.id);
        assert_eq!(gate.admit(&json, 0, later(499)), Err(DropReason::Duplicate), "too soon");
        assert_eq!(gate.admit(&json, 2, later(2_999)), Err(DropReason::Copy), "a slow relay");
        assert!(gate.admit(&json, 1, later(500)).is_ok(), "the relay had passed it on before");
        gate.opened(outer.event.id);
        assert!(gate.admit(&json, 3, later(3_500)).is_ok(), "nobody is that slow");
    }
}

#[test]
fn all_relays_that_delivered_a_request_are_known_and_late_copies_count() {
    let (me, client) = (keys(1).public_key(), keys(2));
    let mut gate = Gate::for_server(me, &ServerConfig::default());
    let inner = plain(&client, me, NOW.unix);
    let (first, second) =
        (wrapped(&inner, me, WrapKind::Ephemeral, 5), wrapped(&inner, me, WrapKind::Ephemeral, 6));
    assert_eq!(gate.via(&inner.id), 0);
    assert!(gate.admit(&first.as_json(), 1, NOW).is_ok());
    assert!(gate.admit(&first.as_json(), 2, NOW).is_err(), "while it is being opened");
    gate.opened(first.id);
    gate.carried(inner.id, first.id);
    assert_eq!(gate.via(&inner.id), 0b110);
    assert!(gate.admit(&first.as_json(), 4, later(40)).is_err(), "after it was opened");
    assert_eq!(gate.via(&inner.id), 0b1_0110);
    assert!(gate.admit(&second.as_json(), 5, later(80)).is_ok());
    gate.opened(second.id);
    gate.carried(inner.id, second.id);
    assert_eq!(gate.via(&inner.id), 0b11_0110, "wrapped again, it is the same request");
    assert!(gate.admit(&first.as_json(), 6, later(120)).is_err());
    assert_eq!(gate.via(&inner.id), 0b111_0110, "a copy of the first wrap behind the second");
    for n in 0..70_000_u32 {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        gate.carried(EventId::from_byte_array(id), first.id);
    }
    assert_eq!(gate.via(&inner.id), 0, "many others later it is not known any more");
}

#[test]
fn an_event_that_a_relay_had_kept_asks_for_nothing_when_it_was_opened_before() {
    let me = keys(1).public_key();
    let mut gate = Gate::for_server(me, &ServerConfig::default());
    let json = wrapped(&plain(&keys(2), me, NOW.unix), me, WrapKind::Persistent, 5).as_json();
    let outer = gate.admit_stored(&json, 0, NOW).expect("it is new to us");
    gate.opened(outer.event.id);
    assert_eq!(gate.admit_stored(&json, 0, later(500_000)), Err(DropReason::Duplicate));
    assert_eq!(gate.admit_stored(&json, 1, later(500_000)), Err(DropReason::Copy));
    assert_eq!(gate.admit_stored(&json, 1, later(500_000)), Err(DropReason::Duplicate));
    assert!(gate.admit(&json, 0, later(500_000)).is_ok(), "somebody published it again");
}

#[test]
fn a_client_never_hears_an_event_twice() {
    let me = keys(1).public_key();
    let server = keys(2);
    let mut gate = Gate::for_client(me, &ClientConfig::new(server.public_key()));
    let event = plain(&server, me, NOW.unix);
    let outer = gate.admit(&event.as_json(), 0, NOW).unwrap();
    gate.opened(outer.event.id);
    assert_eq!(gate.admit(&event.as_json(), 0, later(500_000)), Err(DropReason::Duplicate));
}

#[test]
fn work_is_bounded() {
    let me = keys(1).public_key();
    let limits = Limits { open_queue: 1, ..Limits::default() };
    let mut gate = Gate::for_server(me, &ServerConfig { limits, ..ServerConfig::default() });
    let event = plain(&keys(2), me, NOW.unix);
    let copy = |n: u32| edited(&event, |value| value["sig"] = format!("{n:0128x}").into());
    for n in 0..16 {
        assert!(gate.admit(&copy(n), 0, NOW).is_ok());
    }
    assert_eq!(gate.admit(&copy(16), 0, NOW), Err(DropReason::Busy));
    assert!(gate.admit(&copy(16), 0, later(30_000)).is_ok());
}

#[test]
fn a_client_hears_plaintext_of_its_server_only_and_opens_wraps_even_when_it_sends_none() {
    let (me, server) = (keys(1).public_key(), keys(2));
    let config =
        ClientConfig { encryption: EncryptionMode::Disabled, ..ClientConfig::new(server.public_key()) };
    let mut gate = Gate::for_client(me, &config);
    let true_one = plain(&server, me, NOW.unix);
    assert_eq!(gate.admit(&true_one.as_json(), 0, NOW).unwrap().kind, Protection::Plain);
    let other = plain(&keys(3), me, NOW.unix);
    assert_eq!(gate.admit(&other.as_json(), 0, NOW), Err(DropReason::WrongAuthor));
    let wrap = wrapped(&true_one, me, WrapKind::Persistent, 5);
    assert_eq!(gate.admit(&wrap.as_json(), 0, NOW).unwrap().kind, Protection::Wrapped(WrapKind::Persistent));
    let config = ClientConfig { encryption: EncryptionMode::Required, ..config };
    let mut gate = Gate::for_client(me, &config);
    assert_eq!(gate.admit(&true_one.as_json(), 0, NOW), Err(DropReason::Policy));
}

#[test]
fn an_event_that_was_read_elsewhere_is_judged_as_its_text_is() {
    let (me, client) = (keys(1).public_key(), keys(2));
    let inner = plain(&client, me, NOW.unix);
    let mut damaged = wrapped(&inner, me, WrapKind::Ephemeral, 5);
    damaged.content.push('=');
    let events = [
        wrapped(&inner, me, WrapKind::Ephemeral, 6),
        wrapped(&inner, me, WrapKind::Persistent, 7),
        wrapped(&inner, keys(3).public_key(), WrapKind::Ephemeral, 8),
        plain(&client, me, NOW.unix - 5_000),
        damaged,
        inner,
    ];
    let limits = Limits { event: 1_200, ..Limits::default() };
    let config = ServerConfig { limits, ..ServerConfig::default() };
    let [mut by_text, mut as_read] = [0; 2].map(|_| Gate::for_server(me, &config));
    let mut verdicts = Vec::new();
    for (nth, event) in events.iter().cycle().take(40).enumerate() {
        let (text, relay, stored) = (event.as_json(), nth as u16 % 3, nth % 4 == 1);
        let now = later(700 * nth as u64);
        let admit = if stored { Gate::admit_stored } else { Gate::admit };
        let verdict = admit(&mut by_text, &text, relay, now).map(|outer| outer.kind);
        assert_eq!(as_read.admit_read(event, text.len(), relay, stored, now), verdict, "{nth}");
        if verdict.is_ok() && nth % 2 == 0 {
            by_text.opened(event.id);
            as_read.opened(event.id);
        }
        verdicts.push(verdict.err());
    }
    for reason in [
        None,
        Some(DropReason::Stale),
        Some(DropReason::Id),
        Some(DropReason::Audience),
        Some(DropReason::Duplicate),
    ] {
        assert!(verdicts.contains(&reason), "{reason:?}");
    }
}
