//! Sealing and opening against one another, against forgers and against noise.
#![cfg(test)]
use contextvm_core::{Draft, Limits, Opened, Protection, Refusal, WrapKind, kind};
use contextvm_crypto::size::{SEAL_LIMIT, largest_inner_for, wrapped_event_size};
use contextvm_crypto::{Entropy, Keys, Nip44Error, OpenError, SealError, open, open_plain, seal};
use nostr::event::{Event, EventId, Kind, Signature, Tag, Tags};
use nostr::key::PublicKey;
use nostr::types::Timestamp;
use proptest::prelude::*;

const NOW: u64 = 1_700_000_000;

fn keys(byte: u8) -> Keys {
    Keys::from_secret_bytes([byte; 32]).unwrap()
}

fn entropy(byte: u8) -> Entropy {
    let mut bytes = [byte; Entropy::LEN];
    bytes[32..].fill(byte ^ 0x55);
    Entropy::from_bytes(bytes)
}

fn to(recipient: &PublicKey) -> Tags {
    Tags::from_list(vec![Tag::public_key(*recipient)])
}

/// A kind 25910 event from `author` to `recipient`.
fn message(author: &Keys, recipient: &PublicKey, content: &str) -> Event {
    let draft = Draft::new(author.public_key(), NOW, to(recipient), content.to_owned());
    author.sign_draft(&draft, [9; 32])
}

/// A message whose JSON is exactly `size` bytes long.
fn message_of(size: usize, author: &Keys, recipient: &PublicKey) -> Event {
    let around = message(author, recipient, "").as_json().len();
    let event = message(author, recipient, &"x".repeat(size - around));
    assert_eq!(event.as_json().len(), size);
    event
}

/// Seals any event at all, checked or not.
fn wrap(inner: &Event, recipient: &PublicKey) -> Event {
    seal(inner, recipient, WrapKind::Ephemeral, NOW, &entropy(77)).unwrap()
}

fn reopened(inner: &Event) -> Result<Opened, OpenError> {
    let me = keys(0x11);
    open(&wrap(inner, &me.public_key()), &me, NOW, &Limits::default())
}

#[test]
fn a_wrap_shows_the_recipient_and_nothing_of_the_author() {
    let (client, server) = (keys(0x22), keys(0x11));
    let inner = message(&client, &server.public_key(), r#"{"jsonrpc":"2.0","method":"ping","id":1}"#);
    for wrap_kind in [WrapKind::Persistent, WrapKind::Ephemeral] {
        let wrap = seal(&inner, &server.public_key(), wrap_kind, NOW + 3, &entropy(1)).unwrap();
        assert!(wrap.verify().is_ok());
        assert_eq!(wrap.kind.as_u16(), wrap_kind.kind());
        assert_eq!(wrap.tags, to(&server.public_key()));
        assert_eq!(wrap.created_at.as_secs(), NOW + 3);
        assert_eq!(wrap.pubkey, keys(1).public_key());
        assert!(!wrap.as_json().contains(&client.public_key().to_hex()));
        let opened = open(&wrap, &server, NOW, &Limits::default()).unwrap();
        assert_eq!(opened.event(), &inner);
        assert_eq!(opened.protection(), Protection::Wrapped(wrap_kind));
        assert_eq!(opened.outer(), wrap.id);
    }
}

#[test]
fn only_the_recipient_can_open() {
    let (client, server, other) = (keys(0x22), keys(0x11), keys(0x33));
    let wrap = wrap(&message(&client, &server.public_key(), "{}"), &server.public_key());
    let refused = Err(OpenError::Nip44(Nip44Error::Mac));
    assert_eq!(open(&wrap, &other, NOW, &Limits::default()), refused);
    assert_eq!(open(&wrap, &client, NOW, &Limits::default()), refused);
}

#[test]
fn an_event_in_clear_passes_the_same_checks() {
    let (client, server) = (keys(0x22), keys(0x11));
    let limits = Limits::default();
    let event = message(&client, &server.public_key(), "{}");
    let opened = open_plain(event.clone(), &server.public_key(), NOW, &limits).unwrap();
    assert_eq!((opened.event(), opened.outer()), (&event, event.id));
    assert_eq!(opened.protection(), Protection::Plain);

    let refused = |event, now| open_plain(event, &server.public_key(), now, &limits).unwrap_err();
    assert_eq!(
        refused(message(&client, &client.public_key(), "{}"), NOW),
        OpenError::Refused(Refusal::Audience)
    );
    let mut forged = event.clone();
    forged.content.push(' ');
    assert_eq!(refused(forged, NOW), OpenError::Refused(Refusal::Id));
    let long = message(&client, &server.public_key(), &"x".repeat(limits.event + 1));
    let size = limits.event + 1;
    assert_eq!(refused(long, NOW), OpenError::TooLarge { size, limit: limits.event });
}

#[test]
fn sizes_are_those_of_real_wraps() {
    let (client, server) = (keys(0x22), keys(0x11));
    let steps = (1..=8).map(|step| step * 8_192).flat_map(|bucket| [bucket - 1, bucket, bucket + 1]);
    for size in
        [420, 448, 449, 512, 513, 4_096, SEAL_LIMIT].into_iter().chain(steps).filter(|s| *s <= SEAL_LIMIT)
    {
        let inner = message_of(size, &client, &server.public_key());
        for (kind, shorter) in [(WrapKind::Ephemeral, 0), (WrapKind::Persistent, 1)] {
            let wrap = seal(&inner, &server.public_key(), kind, NOW, &entropy(3)).unwrap();
            assert_eq!(wrap.as_json().len() + shorter, wrapped_event_size(size), "{size}");
        }
    }
    let largest = message_of(largest_inner_for(65_536), &client, &server.public_key());
    assert_eq!(largest.as_json().len(), 40_960);
    assert_eq!(wrap(&largest, &server.public_key()).as_json().len(), 55_122);
}

#[test]
fn what_older_peers_cannot_read_is_not_sealed() {
    let (client, server) = (keys(0x22), keys(0x11));
    let inner = message_of(SEAL_LIMIT, &client, &server.public_key());
    let wrap = wrap(&inner, &server.public_key());
    assert_eq!(open(&wrap, &server, NOW, &Limits::default()).unwrap().into_event(), inner);
    let more = message_of(SEAL_LIMIT + 1, &client, &server.public_key());
    let refused = seal(&more, &server.public_key(), WrapKind::Ephemeral, NOW, &entropy(1));
    assert_eq!(refused, Err(SealError::TooLarge { size: 65_408, limit: 65_407 }));
}

#[test]
fn broken_keys_are_refused_when_sealing() {
    let (client, server) = (keys(0x22), keys(0x11));
    let inner = message(&client, &server.public_key(), "{}");
    let none = PublicKey::from_byte_array([0; 32]);
    assert_eq!(seal(&inner, &none, WrapKind::Ephemeral, NOW, &entropy(1)), Err(SealError::Recipient));
    for broken in [0, 0xff] {
        let refused = seal(&inner, &server.public_key(), WrapKind::Ephemeral, NOW, &entropy(broken));
        assert_eq!(refused, Err(SealError::Entropy));
    }
}

#[test]
fn an_outer_event_above_the_limit_is_not_decoded() {
    let (client, server) = (keys(0x22), keys(0x11));
    let wrap = wrap(&message(&client, &server.public_key(), "{}"), &server.public_key());
    let size = wrap.content.len();
    let limits = |event| Limits { event, ..Limits::default() };
    assert!(open(&wrap, &server, NOW, &limits(size)).is_ok());
    let refused = open(&wrap, &server, NOW, &limits(size - 1));
    assert_eq!(refused, Err(OpenError::TooLarge { size, limit: size - 1 }));
}

#[test]
fn only_the_two_outer_kinds_are_wraps() {
    let (client, server) = (keys(0x22), keys(0x11));
    let mut wrap = wrap(&message(&client, &server.public_key(), "{}"), &server.public_key());
    for kind in 0..=u16::MAX {
        wrap.kind = Kind::from_u16(kind);
        if WrapKind::from_kind(kind).is_none() {
            assert_eq!(open(&wrap, &server, NOW, &Limits::default()), Err(OpenError::NotAWrap(kind)));
        }
    }
}

#[test]
fn a_wrap_from_a_key_that_is_no_key_is_refused() {
    let (client, server) = (keys(0x22), keys(0x11));
    let mut wrap = wrap(&message(&client, &server.public_key(), "{}"), &server.public_key());
    wrap.pubkey = PublicKey::from_byte_array([0; 32]);
    assert_eq!(open(&wrap, &server, NOW, &Limits::default()), Err(OpenError::Nip44(Nip44Error::Key)));
}

#[test]
fn the_outer_signature_and_id_are_not_needed() {
    let (client, server) = (keys(0x22), keys(0x11));
    let mut wrap = wrap(&message(&client, &server.public_key(), "{}"), &server.public_key());
    wrap.sig = Signature::from_byte_array([0; 64]);
    wrap.id = EventId::from_slice(&[7; 32]).unwrap();
    let opened = open(&wrap, &server, NOW, &Limits::default()).unwrap();
    assert_eq!(opened.outer(), wrap.id, "which is why an outer id is a claim and no more");
}

#[test]
fn a_note_is_not_a_call() {
    let (client, server) = (keys(0x22), keys(0x11));
    let mut refused = 0;
    for number in 0..=u16::MAX {
        let event = Event::new(
            EventId::from_slice(&[0; 32]).unwrap(),
            client.public_key(),
            Timestamp::from_secs(NOW),
            Kind::from_u16(number),
            to(&server.public_key()),
            "{}",
            Signature::from_byte_array([0; 64]),
        );
        let checked = Opened::check(
            event,
            Protection::Plain,
            EventId::from_slice(&[0; 32]).unwrap(),
            &server.public_key(),
            NOW,
            600,
        );
        if number == kind::MESSAGE {
            assert_eq!(checked, Err(Refusal::Id), "the kind is right, so the next check speaks");
        } else {
            assert_eq!(checked, Err(Refusal::Kind(number)));
            refused += 1;
        }
    }
    assert_eq!(refused, 65_535);
}

#[test]
fn signed_events_of_other_kinds_are_not_calls_either() {
    let (client, server) = (keys(0x22), keys(0x11));
    for number in [0, 1, 4, 5, 13, 14, 1_059, 10_002, 11_316, 21_059, 22_242, 25_909, 25_911, u16::MAX] {
        let note = client.sign_event(number, NOW, to(&server.public_key()), "{}".to_owned(), [1; 32]);
        assert!(note.verify().is_ok());
        assert_eq!(reopened(&note), Err(OpenError::Refused(Refusal::Kind(number))));
    }
    let auth = client.sign_auth("wss://relay.example", "challenge", NOW, [1; 32]);
    assert_eq!(reopened(&auth), Err(OpenError::Refused(Refusal::Kind(22_242))));
}

#[test]
fn what_is_not_addressed_to_me_alone_is_handed_on_by_somebody() {
    let (client, me, other) = (keys(0x22), keys(0x11).public_key(), keys(0x33).public_key());
    let p = |key: &PublicKey| vec!["p".to_owned(), key.to_hex()];
    let refused = [
        vec![],
        vec![p(&other)],
        vec![p(&me), p(&me)],
        vec![p(&me), p(&other)],
        vec![p(&other), p(&me)],
        vec![vec!["P".to_owned(), me.to_hex()]],
        vec![vec!["p".to_owned(), me.to_hex().to_uppercase()]],
        vec![vec!["p".to_owned(), format!("{} ", me.to_hex())]],
        vec![vec!["p".to_owned(), String::new()]],
        vec![vec!["p".to_owned()]],
        vec![vec!["p".to_owned(), other.to_hex(), me.to_hex()]],
        vec![vec!["e".to_owned(), me.to_hex()]],
    ];
    for tags in refused {
        let signed =
            client.sign_event(kind::MESSAGE, NOW, Tags::parse(&tags).unwrap(), "{}".to_owned(), [1; 32]);
        assert_eq!(reopened(&signed), Err(OpenError::Refused(Refusal::Audience)), "{tags:?}");
    }
    for tags in [
        vec![p(&me)],
        vec![vec!["name".to_owned(), "x".to_owned()], vec!["pmi".to_owned()], p(&me)],
        vec![vec!["p".to_owned(), me.to_hex(), "wss://relay.example".to_owned()]],
    ] {
        let signed =
            client.sign_event(kind::MESSAGE, NOW, Tags::parse(&tags).unwrap(), "{}".to_owned(), [1; 32]);
        assert!(reopened(&signed).is_ok(), "{tags:?}");
    }
}

fn changed(event: &Event, change: impl FnOnce(&mut Event)) -> Event {
    let mut event = event.clone();
    change(&mut event);
    event
}

fn rehash(event: &mut Event) {
    event.id = EventId::compute(&event.pubkey, &event.created_at, &event.kind, &event.tags, &event.content);
}

#[test]
fn forged_inner_author() {
    let (client, me) = (keys(0x22), keys(0x11));
    let honest = message(&client, &me.public_key(), r#"{"jsonrpc":"2.0","method":"tools/call","id":7}"#);
    assert!(reopened(&honest).is_ok());
    let mut flips = 0;
    let mut refused = |event: Event| {
        let checked = reopened(&event);
        assert!(
            matches!(checked, Err(OpenError::Refused(Refusal::Id | Refusal::Signature))),
            "{event:?}: {checked:?}"
        );
        flips += 1;
    };
    for bit in 0..256 {
        let mut id = honest.id.to_bytes();
        id[bit / 8] ^= 1 << (bit % 8);
        refused(changed(&honest, |event| event.id = EventId::from_slice(&id).unwrap()));
        let mut author = honest.pubkey.to_bytes();
        author[bit / 8] ^= 1 << (bit % 8);
        let other_author = changed(&honest, |event| event.pubkey = PublicKey::from_byte_array(author));
        refused(other_author.clone());
        // The same with an id that fits, as a forger would do it.
        refused(changed(&other_author, rehash));
    }
    for bit in 0..512 {
        let mut signature = honest.sig.to_bytes();
        signature[bit / 8] ^= 1 << (bit % 8);
        refused(changed(&honest, |event| event.sig = Signature::from_byte_array(signature)));
    }
    for (at, letter) in honest.content.char_indices() {
        for bit in 0..7 {
            let other = char::from(u8::try_from(letter).unwrap() ^ (1 << bit));
            let other_content = changed(&honest, |event| {
                event.content.replace_range(at..=at, other.encode_utf8(&mut [0; 4]));
            });
            refused(other_content.clone());
            refused(changed(&other_content, rehash));
        }
    }
    for seconds in 1..=600 {
        refused(changed(&honest, |event| event.created_at = Timestamp::from_secs(NOW - seconds)));
    }
    assert!(flips > 2_500, "{flips}");
}

#[test]
fn a_plaintext_that_is_not_an_event_is_refused() {
    use contextvm_crypto::nip44::{ExtendedLength, conversation_key, encrypt};
    let (one_time, me) = (keys(0x44), keys(0x11));
    let key = conversation_key(&one_time, &me.public_key()).unwrap();
    let honest = message(&keys(0x22), &me.public_key(), "{}").as_json();
    assert!(honest.starts_with(r#"{"id":""#));
    let texts = [
        "x".to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "[".repeat(40_000),
        r#"{"a":"#.repeat(10_000),
        format!("{honest}{honest}"),
        format!("[{honest}]"),
        honest.replacen("\"sig\"", "\"sog\"", 1),
        honest.replacen('{', r#"{"kind":25910,"#, 1),
        format!("\u{feff}{honest}"),
        honest[..honest.len() - 1].to_owned(),
        honest.replacen("\"tags\":[", &format!("\"tags\":[{}", "[\"\"],".repeat(2_000)), 1),
    ];
    for plaintext in
        texts.iter().map(String::as_bytes).chain([&b"\xff\xfe"[..], &b"{\"id\":\"\xc0\x80\"}"[..]])
    {
        let content = encrypt(&key, plaintext, &[5; 32], ExtendedLength::Refuse).unwrap();
        let wrap = one_time.sign_event(kind::GIFT_WRAP, NOW, to(&me.public_key()), content, [0; 32]);
        assert_eq!(open(&wrap, &me, NOW, &Limits::default()), Err(OpenError::NotAnEvent));
    }
}

#[test]
fn an_extended_wrap_is_read_up_to_our_own_limit() {
    use contextvm_crypto::nip44::{ExtendedLength, conversation_key, encrypt};
    let (one_time, client, me) = (keys(0x44), keys(0x22), keys(0x11));
    let key = conversation_key(&one_time, &me.public_key()).unwrap();
    let inner = message_of(70_000, &client, &me.public_key());
    let content = encrypt(&key, inner.as_json().as_bytes(), &[5; 32], ExtendedLength::Allow).unwrap();
    let size = content.len();
    let wrap = one_time.sign_event(kind::GIFT_WRAP, NOW, to(&me.public_key()), content, [0; 32]);
    assert_eq!(open(&wrap, &me, NOW, &Limits::default()).unwrap().event(), &inner);
    let small = Limits { event: 64 * 1024, ..Limits::default() };
    assert_eq!(open(&wrap, &me, NOW, &small), Err(OpenError::TooLarge { size, limit: 65_536 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_sealed_opens_to_the_same_event(
        author in 1_u8..0xff, me in 1_u8..0xff, content in ".{0,300}", size in 0_usize..5_000,
        bytes in proptest::array::uniform32(1_u8..0xff), persistent: bool, age in -600_i64..=600,
    ) {
        let (author, me) = (keys(author), keys(me));
        let inner = message(&author, &me.public_key(), &(content + &"\u{1}".repeat(size)));
        let kind = if persistent { WrapKind::Persistent } else { WrapKind::Ephemeral };
        let mut all = [0; Entropy::LEN];
        all[..32].copy_from_slice(&bytes);
        all[32..].fill(bytes[0]);
        let entropy = Entropy::from_bytes(all);
        let wrap = seal(&inner, &me.public_key(), kind, NOW, &entropy).unwrap();
        prop_assert!(wrap.verify().is_ok());
        let read = Event::from_json(wrap.as_json()).unwrap();
        let opened = open(&read, &me, NOW.checked_add_signed(age).unwrap(), &Limits::default()).unwrap();
        prop_assert_eq!(opened.event(), &inner);
        prop_assert_eq!(opened.protection(), Protection::Wrapped(kind));
    }

    #[test]
    fn arbitrary_events_never_panic(
        kind in prop_oneof![Just(1_059_u16), Just(21_059), any::<u16>()],
        author in any::<[u8; 32]>(), content in prop_oneof![".{0,200}", "[A-Za-z0-9+/]{0,400}={0,2}", "Ag[A-Za-z0-9+/]{130}"],
        created_at: u64, now: u64, tags in proptest::collection::vec(proptest::collection::vec(".{0,8}", 1..4), 0..6),
    ) {
        let me = keys(0x11);
        let event = Event::new(
            EventId::from_slice(&author).unwrap(),
            PublicKey::from_byte_array(author),
            Timestamp::from_secs(created_at),
            Kind::from_u16(kind),
            Tags::parse(tags).unwrap(),
            content,
            Signature::from_byte_array([1; 64]),
        );
        prop_assert!(open(&event, &me, now, &Limits::default()).is_err());
        prop_assert!(open_plain(event, &me.public_key(), now, &Limits::default()).is_err());
    }

    #[test]
    fn arbitrary_plaintexts_of_a_true_sender_never_panic(plaintext in proptest::collection::vec(any::<u8>(), 1..2_000)) {
        use contextvm_crypto::nip44::{ExtendedLength, conversation_key, encrypt};
        let (one_time, me) = (keys(0x44), keys(0x11));
        let key = conversation_key(&one_time, &me.public_key()).unwrap();
        let content = encrypt(&key, &plaintext, &[5; 32], ExtendedLength::Refuse).unwrap();
        let wrap = one_time.sign_event(kind::EPHEMERAL_GIFT_WRAP, NOW, to(&me.public_key()), content, [0; 32]);
        prop_assert_eq!(open(&wrap, &me, NOW, &Limits::default()), Err(OpenError::NotAnEvent));
    }
}
