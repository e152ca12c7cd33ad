//! The official NIP-44 vectors, and the rows that the text added after the file was made.
#![cfg(test)]
use bitcoin_hashes::hmac::{Hmac, HmacEngine};
use bitcoin_hashes::{Hash as _, HashEngine as _, sha256};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use contextvm_crypto::nip44::{ExtendedLength, conversation_key, decrypt, encrypt};
use contextvm_crypto::size::padded_len;
use contextvm_crypto::{Keys, Nip44Error};
use nostr::key::PublicKey;
use serde_json::Value;
use zeroize::Zeroizing;

const NO_LIMIT: usize = usize::MAX;

fn vectors() -> Value {
    serde_json::from_str::<Value>(include_str!("vectors/nip44.vectors.json")).unwrap()["v2"].take()
}

fn rows<'a>(file: &'a Value, pointer: &str, expected: usize) -> &'a [Value] {
    let rows = file.pointer(pointer).and_then(Value::as_array).unwrap();
    assert_eq!(rows.len(), expected, "{pointer}");
    rows
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    assert_eq!(hex.len(), 2 * N);
    let mut out = [0; N];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
    }
    out
}

fn key(hex: &str) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(bytes(hex))
}

fn secret(hex: &str) -> Keys {
    Keys::from_secret_bytes(bytes(hex)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256_hex(data: impl AsRef<[u8]>) -> String {
    hex(&sha256::Hash::hash(data.as_ref()).to_byte_array())
}

fn decoded(payload: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(payload).unwrap()
}

#[test]
fn the_file_is_the_official_one() {
    assert_eq!(
        sha256_hex(include_bytes!("vectors/nip44.vectors.json")),
        "269ed0f69e4c192512cc779e78c555090cebc7c785b609e338a62afc3ce25040"
    );
}

#[test]
fn conversation_keys_are_derived() {
    for row in rows(&vectors(), "/valid/get_conversation_key", 35) {
        let other = PublicKey::from_hex(text(row, "pub2")).unwrap();
        let derived = conversation_key(&secret(text(row, "sec1")), &other).unwrap();
        assert_eq!(hex(derived.as_slice()), text(row, "conversation_key"));
    }
}

#[test]
fn message_keys_are_those_that_encrypt_and_authenticate() {
    let file = vectors();
    let conversation = key(file["valid"]["get_message_keys"]["conversation_key"].as_str().unwrap());
    for row in rows(&file, "/valid/get_message_keys/keys", 32) {
        let nonce = bytes::<32>(text(row, "nonce"));
        let payload = decoded(&encrypt(&conversation, b"x", &nonce, ExtendedLength::Refuse).unwrap());
        let (body, mac) = payload[1..].split_at(payload.len() - 33);

        let mut engine = HmacEngine::<sha256::HashEngine>::new(&bytes::<32>(text(row, "hmac_key")));
        engine.input(body);
        let expected: Hmac<sha256::Hash> = engine.finalize();
        assert_eq!(mac, expected.to_byte_array());

        let mut plain = body[32..].to_vec();
        let nonce = bytes::<12>(text(row, "chacha_nonce"));
        ChaCha20::new(&bytes::<32>(text(row, "chacha_key")).into(), &nonce.into())
            .apply_keystream(&mut plain);
        assert_eq!(&plain[..3], b"\0\x01x");
        assert_eq!(plain[3..], [0; 31]);
    }
}

#[test]
fn plaintexts_are_padded() {
    for row in rows(&vectors(), "/valid/calc_padded_len", 24) {
        assert_eq!(padded_len(number(&row[0])), number(&row[1]), "{row}");
    }
}

#[test]
fn short_texts_encrypt_to_the_payload_and_back() {
    for row in rows(&vectors(), "/valid/encrypt_decrypt", 10) {
        let (one, two) = (secret(text(row, "sec1")), secret(text(row, "sec2")));
        let shared = conversation_key(&one, &two.public_key()).unwrap();
        assert_eq!(shared, conversation_key(&two, &one.public_key()).unwrap());
        assert_eq!(hex(shared.as_slice()), text(row, "conversation_key"));
        let plaintext = text(row, "plaintext");
        let nonce = bytes(text(row, "nonce"));
        let payload = encrypt(&shared, plaintext.as_bytes(), &nonce, ExtendedLength::Refuse).unwrap();
        assert_eq!(payload, text(row, "payload"));
        assert_eq!(decrypt(&shared, &payload, payload.len()).unwrap(), plaintext.as_bytes());
    }
}

#[test]
fn long_texts_encrypt_to_the_payload_and_back() {
    for row in rows(&vectors(), "/valid/encrypt_decrypt_long_msg", 3) {
        let plaintext = text(row, "pattern").repeat(number(&row["repeat"]));
        assert_eq!(sha256_hex(&plaintext), text(row, "plaintext_sha256"));
        let shared = key(text(row, "conversation_key"));
        let nonce = bytes(text(row, "nonce"));
        let payload = encrypt(&shared, plaintext.as_bytes(), &nonce, ExtendedLength::Refuse).unwrap();
        assert_eq!(sha256_hex(&payload), text(row, "payload_sha256"));
        assert_eq!(decrypt(&shared, &payload, NO_LIMIT).unwrap(), plaintext.as_bytes());
    }
}

#[test]
fn lengths_that_we_never_send_are_refused() {
    let shared = key("c41c775356fd92eadc63ff5a0dc1da211b268cbea22316767095b2871ea1412d");
    for row in rows(&vectors(), "/invalid/encrypt_msg_lengths", 4) {
        let size = number(row);
        let plaintext = vec![b'x'; size];
        let expected =
            if size == 0 { Nip44Error::Empty } else { Nip44Error::TooLarge { size, limit: 65_535 } };
        assert_eq!(encrypt(&shared, &plaintext, &[1; 32], ExtendedLength::Refuse), Err(expected));
    }
    assert_eq!(encrypt(&shared, &[], &[1; 32], ExtendedLength::Allow), Err(Nip44Error::Empty));
}

#[test]
fn the_extended_rows_of_the_text_are_met() {
    let shared = key("c41c775356fd92eadc63ff5a0dc1da211b268cbea22316767095b2871ea1412d");
    let mut nonce = [0; 32];
    nonce[31] = 1;
    for (size, prefix, padded, digest) in [
        (65_535, 2, 65_536, "6d8c2810d1e870fbaa1f0a0937126cca837a15f9260e27060c331d70a3c0bc84"),
        (65_536, 6, 65_536, "b7b4edb36ba92e267d322d56d9aebc22e7fa96ff52e3c12adc07f07a43cbc616"),
        (65_537, 6, 81_920, "eeb7c7c5373894ea2c1547cfd3ccb15d5a0b2d619da852e5c79df792dcc9e435"),
    ] {
        let plaintext = vec![b'a'; size];
        let payload = encrypt(&shared, &plaintext, &nonce, ExtendedLength::Allow).unwrap();
        assert_eq!(sha256_hex(&payload), digest, "{size}");
        assert_eq!(decoded(&payload).len(), 65 + prefix + padded);
        assert_eq!(padded_len(size), padded);
        assert_eq!(decrypt(&shared, &payload, NO_LIMIT).unwrap(), plaintext);
    }
}

#[test]
fn keys_that_are_no_keys_are_refused() {
    for row in rows(&vectors(), "/invalid/get_conversation_key", 8) {
        let note = text(row, "note");
        let derived = Keys::from_secret_bytes(bytes(text(row, "sec1")))
            .map(|mine| conversation_key(&mine, &PublicKey::from_hex(text(row, "pub2")).unwrap()));
        match derived {
            Err(_) => assert!(note.contains("sec1"), "{note}"),
            Ok(key) => assert_eq!(key, Err(Nip44Error::Key), "{note}"),
        }
    }
}

#[test]
fn payloads_that_do_not_decrypt_are_refused_for_the_right_reason() {
    for row in rows(&vectors(), "/invalid/decrypt", 12) {
        let note = text(row, "note");
        let error = decrypt(&key(text(row, "conversation_key")), text(row, "payload"), NO_LIMIT).unwrap_err();
        let expected = match note {
            "unknown encryption version" => matches!(error, Nip44Error::Marker),
            "unknown encryption version 0" => matches!(error, Nip44Error::Version(0)),
            "invalid base64" => matches!(error, Nip44Error::Encoding),
            "invalid MAC" => matches!(error, Nip44Error::Mac),
            "invalid padding" => matches!(error, Nip44Error::Padding | Nip44Error::Length(_)),
            note if note.starts_with("invalid payload length") => {
                matches!(error, Nip44Error::Length(_) | Nip44Error::Encoding)
            }
            note => panic!("a new note: {note}"),
        };
        assert!(expected, "{note}: {error:?}");
    }
}
