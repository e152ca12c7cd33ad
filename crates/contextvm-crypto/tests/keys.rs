//! Secret keys come in by two forms, sign what they are given, and never show themselves.
#![cfg(test)]
use contextvm_core::{Draft, Fault};
use contextvm_crypto::{Entropy, KeyError, Keys, Nip44Error, OpenError, SealError};
use nostr::event::{Tag, Tags};

/// NIP-19's own example.
const HEX: &str = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa";
const NSEC: &str = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";

#[test]
fn both_forms_give_the_same_key() {
    let hex = Keys::parse(HEX).unwrap();
    let expected = hex.public_key();
    for text in
        [NSEC, &HEX.to_uppercase(), &NSEC.to_uppercase(), &format!(" {NSEC}\r\n"), &format!("{HEX}\n")]
    {
        assert_eq!(Keys::parse(text).unwrap().public_key(), expected);
    }
    assert_eq!(*hex.to_nsec(), NSEC);
    assert_eq!(expected.to_hex(), "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e");
}

#[test]
fn what_is_no_secret_key_is_refused_without_being_repeated() {
    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let typo = NSEC.replacen('v', "w", 1);
    let mixed = NSEC.replacen('v', "V", 1);
    let cases = [
        ("", KeyError::Form),
        ("nsec", KeyError::Form),
        ("nsec1", KeyError::Form),
        (&HEX[1..], KeyError::Form),
        (&format!("{HEX}0"), KeyError::Form),
        (&format!("{}g", &HEX[1..]), KeyError::Form),
        (&format!("0x{}", &HEX[2..]), KeyError::Form),
        (&"\u{e9}".repeat(32), KeyError::Form),
        (&typo, KeyError::Form),
        (&mixed, KeyError::Form),
        (&format!("nostr:{NSEC}"), KeyError::Form),
        (&"0".repeat(64), KeyError::Range),
        (order, KeyError::Range),
        ("npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg", KeyError::Public),
    ];
    for (text, expected) in cases {
        let error = Keys::parse(text).unwrap_err();
        assert_eq!(error, expected, "{text}");
        assert_eq!(error.fault(), Fault::Local);
        for shown in [format!("{error}"), format!("{error:?}")] {
            assert!(text.len() < 8 || !shown.contains(&text[..8]), "{shown}");
        }
    }
}

#[test]
fn an_nsec_of_another_length_is_refused() {
    let hrp = bech32::Hrp::parse("nsec").unwrap();
    for length in [0, 1, 31, 33, 64] {
        let text = bech32::encode::<bech32::Bech32>(hrp, &vec![1; length]).unwrap();
        assert_eq!(Keys::parse(&text).unwrap_err(), KeyError::Form);
    }
    let other = bech32::encode::<bech32::Bech32m>(hrp, &[1; 32]).unwrap();
    assert_eq!(Keys::parse(&other).unwrap_err(), KeyError::Form, "bech32m is another checksum");
}

#[test]
fn debug_shows_the_public_key_and_no_form_of_the_secret() {
    let keys = Keys::parse(HEX).unwrap();
    let reversed: String = HEX.as_bytes().rchunks(2).flatten().map(|byte| char::from(*byte)).collect();
    for shown in [format!("{keys:?}"), format!("{keys:#?}"), format!("{:?}", Some(&keys))] {
        assert!(shown.contains(&keys.public_key().to_hex()));
        for secret in [HEX, &HEX.to_uppercase(), NSEC, &reversed, &HEX[..16], "103, 222, 162"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[test]
fn a_draft_is_signed_under_the_id_that_it_already_has() {
    let keys = Keys::parse(HEX).unwrap();
    let tags =
        Tags::from_list(vec![Tag::public_key(keys.public_key()), Tag::custom("support_encryption", [""; 0])]);
    let draft = Draft::new(keys.public_key(), 1_700_000_000, tags, "{\"x\":\"\u{e9}\\n\"}".to_owned());
    let event = keys.sign_draft(&draft, [1; 32]);
    assert!(event.verify().is_ok());
    assert_eq!((event.id, event.kind.as_u16()), (draft.id, 25_910));
    assert_eq!((&event.tags, &event.content), (&draft.tags, &draft.content));
    assert_eq!(event.created_at.as_secs(), draft.created_at);
    assert_eq!(keys.sign_draft(&draft, [1; 32]).sig, event.sig, "the same aux bytes give the same signature");
    assert_ne!(keys.sign_draft(&draft, [2; 32]).sig, event.sig);
}

#[test]
fn a_relay_accepts_the_answer_to_its_challenge() {
    let keys = Keys::parse(HEX).unwrap();
    let event = keys.sign_auth("wss://relay.example.com", "a \"challenge\"", 1_700_000_000, [1; 32]);
    assert!(event.verify().is_ok());
    let url = nostr::types::RelayUrl::parse("wss://relay.example.com").unwrap();
    assert!(nostr::nips::nip42::is_valid_auth_event(&event, &url, "a \"challenge\""));
    assert!(!nostr::nips::nip42::is_valid_auth_event(&event, &url, "another"));
    assert_eq!((event.tags.len(), event.content.as_str()), (2, ""));
}

#[test]
fn new_keys_come_from_the_entropy_alone() {
    assert_eq!(
        Keys::from_entropy([3; 32]).unwrap().public_key(),
        Keys::from_secret_bytes([3; 32]).unwrap().public_key()
    );
    assert_eq!(Keys::from_entropy([0; 32]).unwrap_err(), KeyError::Range);
    assert_eq!(Keys::from_entropy([0xff; 32]).unwrap_err(), KeyError::Range);
    assert_eq!(Entropy::LEN, 96);
}

#[test]
fn every_error_fits_behind_failed_to() {
    let texts = [
        KeyError::Range.to_string(),
        SealError::TooLarge { size: 70_000, limit: 65_407 }.to_string(),
        SealError::Recipient.to_string(),
        OpenError::NotAWrap(1).to_string(),
        OpenError::Nip44(Nip44Error::Mac).to_string(),
        OpenError::NotAnEvent.to_string(),
    ];
    for text in texts {
        assert!(text.starts_with(|first: char| first.is_ascii_lowercase()) && !text.ends_with('.'), "{text}");
    }
    assert_eq!(OpenError::Nip44(Nip44Error::Mac).fault(), Fault::Peer);
    assert_eq!(SealError::Recipient.fault(), Fault::Local);
}

#[test]
fn derived_identities_are_those_that_any_hkdf_gives() {
    let mut secret = [0; 32];
    secret[31] = 1;
    let keys = Keys::from_secret_bytes(secret).unwrap();
    let expected = Keys::parse("ff6b6e9467c93f36826b509d6fe4801fa738247d334b27f3c2305f2ec4761686").unwrap();
    assert_eq!(keys.derive("weather").unwrap().public_key(), expected.public_key());
    assert_ne!(keys.derive("").unwrap().public_key(), keys.public_key());
    assert_ne!(keys.derive("a").unwrap().public_key(), keys.derive("b").unwrap().public_key());
}
