//! Gift wraps that another implementation made, with a strict peer's verdict on each.
#![cfg(test)]
use bitcoin_hashes::sha256;
use contextvm_core::{Limits, Protection, Refusal, WrapKind};
use contextvm_crypto::nip44::{ExtendedLength, conversation_key, decrypt, encrypt};
use contextvm_crypto::{Keys, OpenError, open};
use nostr::event::Event;
use serde_json::Value;

const NOW: u64 = 1_700_000_000;

fn vectors() -> Vec<Value> {
    let mut file: Value = serde_json::from_str(include_str!("vectors/gift_wraps.json")).unwrap();
    let Value::Array(rows) = file["vectors"].take() else { panic!("vectors is a list") };
    assert_eq!(rows.len(), 15);
    rows
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap()
}

fn keys(row: &Value, name: &str) -> Keys {
    Keys::parse(text(row, name)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(data: &[u8]) -> String {
    hex(&sha256::Hash::hash(data).to_byte_array())
}

fn nonce(row: &Value) -> [u8; 32] {
    // Every nonce in this file repeats one byte.
    let hex = text(row, "nonce");
    let byte = u8::from_str_radix(&hex[..2], 16).unwrap();
    assert_eq!(hex, hex[..2].repeat(32));
    [byte; 32]
}

/// The plaintext of a row, given or by its recipe.
fn plaintext(row: &Value) -> String {
    let size = usize::try_from(row["plaintext_bytes"].as_u64().unwrap()).unwrap();
    let plaintext = match row["expected_plaintext"].as_str() {
        Some(given) => given.to_owned(),
        None => format!(r#"{{"x":"{}"}}"#, "y".repeat(size - 8)),
    };
    assert_eq!(plaintext.len(), size);
    assert_eq!(digest(plaintext.as_bytes()), text(row, "plaintext_sha256"));
    plaintext
}

#[test]
fn payloads_are_reproduced_and_decrypt_from_both_sides() {
    for row in &vectors() {
        let (one_time, recipient) = (keys(row, "ephemeral_sk"), keys(row, "recipient_sk"));
        assert_eq!(recipient.public_key().to_hex(), text(row, "recipient_pk"));
        let shared = conversation_key(&one_time, &recipient.public_key()).unwrap();
        assert_eq!(hex(shared.as_slice()), text(row, "conversation_key"));
        assert_eq!(conversation_key(&recipient, &one_time.public_key()).unwrap(), shared);

        let plaintext = plaintext(row);
        let payload = encrypt(&shared, plaintext.as_bytes(), &nonce(row), ExtendedLength::Allow).unwrap();
        assert_eq!(digest(payload.as_bytes()), text(row, "payload_sha256"));
        assert_eq!(decrypt(&shared, &payload, payload.len()).unwrap(), plaintext.as_bytes());
        if let Some(wrap) = row.get("wrap") {
            assert_eq!(text(wrap, "content"), payload);
        }
        if let Some(length) = row["payload_length"].as_u64() {
            assert_eq!(payload.len() as u64, length);
        }
    }
}

/// What a strict peer says to the wrap with this label.
fn verdict(label: &str) -> Result<(), Refusal> {
    let reasons = [
        ("garbage signature", Refusal::Signature),
        ("id does not match", Refusal::Id),
        ("inner kind 1,", Refusal::Kind(1)),
        ("names another recipient", Refusal::Audience),
        // This one is addressed to the server whose key did not sign it, and is given to the client.
        ("not the expected server", Refusal::Audience),
    ];
    if let Some((_, refusal)) = reasons.iter().find(|(part, _)| label.contains(part)) {
        return Err(*refusal);
    }
    assert!(label.starts_with("request in kind") || label.starts_with("response in kind"), "{label}");
    Ok(())
}

#[test]
fn wraps_are_opened_or_refused_as_labelled() {
    let mut opened = 0;
    let mut refused = 0;
    for row in vectors().iter().filter(|row| row.get("wrap").is_some()) {
        let label = text(row, "label");
        let wrap: Event = serde_json::from_value(row["wrap"].clone()).unwrap();
        assert!(wrap.verify().is_ok(), "{label}");
        let result = open(&wrap, &keys(row, "recipient_sk"), NOW, &Limits::default());
        match verdict(label) {
            Err(refusal) => {
                assert_eq!(result, Err(OpenError::Refused(refusal)), "{label}");
                refused += 1;
            }
            Ok(()) => {
                let result = result.unwrap();
                assert_eq!(result.event().id.to_hex(), text(&row["inner_event"], "id"));
                assert_eq!(result.event().content, text(&row["inner_event"], "content"));
                assert_eq!(result.outer(), wrap.id);
                let kind =
                    WrapKind::from_kind(u16::try_from(row["kind"].as_u64().unwrap()).unwrap()).unwrap();
                assert_eq!(result.protection(), Protection::Wrapped(kind));
                opened += 1;
            }
        }
    }
    assert_eq!((opened, refused), (4, 5));
}

#[test]
fn a_wrap_that_is_too_old_or_from_the_future_is_refused() {
    let row = &vectors()[0];
    let wrap: Event = serde_json::from_value(row["wrap"].clone()).unwrap();
    let keys = keys(row, "recipient_sk");
    let limits = Limits::default();
    for now in [NOW - limits.age_window, NOW + limits.age_window] {
        assert!(open(&wrap, &keys, now, &limits).is_ok());
    }
    for now in [NOW - limits.age_window - 1, NOW + limits.age_window + 1, 0, u64::MAX] {
        let expected = Refusal::Age { created_at: NOW, now, window: limits.age_window };
        assert_eq!(open(&wrap, &keys, now, &limits), Err(OpenError::Refused(expected)));
    }
}
