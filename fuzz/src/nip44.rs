//! The target of NIP-44: our verdict on a payload against a second reading of the text of the NIP.
use bitcoin_hashes::hmac::HmacEngine;
use bitcoin_hashes::{Hash as _, HashEngine as _, sha256};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use contextvm_core::size::{SEAL_LIMIT, padded_len};
use contextvm_crypto::nip44::{ExtendedLength, decrypt, encrypt};

use crate::bytes::Bytes;
use crate::seeds::Seed;

const KEY: [u8; 32] = [7; 32];
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// What each byte says as a digit; 64 where it is none.
const DIGITS: [u8; 256] = {
    let (mut digits, mut digit) = ([64; 256], 0);
    while digit < 64 {
        digits[ALPHABET[digit as usize] as usize] = digit;
        digit += 1;
    }
    digits
};

/// Payloads: what one reading of the NIP decrypts, the other decrypts to the same; what is encrypted comes back.
pub fn nip44(data: &[u8]) {
    let mut bytes = Bytes(data);
    match bytes.below(4) {
        // Any text.
        0 => same_verdict(&String::from_utf8_lossy(bytes.0)),
        // Any decoded payload.
        1 => same_verdict(&print(bytes.0)),
        // Any padded plaintext, with a true MAC.
        2 => {
            let nonce = [bytes.byte(); 32];
            same_verdict(&print(&locked(&nonce, bytes.0)));
        }
        // An honest payload, perhaps with damage.
        _ => {
            let nonce = [bytes.byte(); 32];
            let (is_long, size) = (bytes.byte() == 255, usize::from(bytes.short()));
            // Beyond what the short form of the length can say, for one in sixteen of those that ask for it: a fuzzer that finds
            // something behind a dear input makes most of its own out of it.
            let is_long =
                is_long && data.iter().fold(0_u8, |sum, byte| sum.wrapping_mul(31) ^ byte) % 16 == 0;
            let length = if is_long { 2 * size } else { size / 64 };
            let filler = core::iter::repeat(b'x');
            let plaintext: Vec<u8> = bytes.0.iter().copied().chain(filler).take(length).collect();
            honest(&plaintext, &nonce, &mut bytes);
        }
    }
}

fn honest(plaintext: &[u8], nonce: &[u8; 32], bytes: &mut Bytes<'_>) {
    let key = KEY.into();
    let Ok(text) = encrypt(&key, plaintext, nonce, ExtendedLength::Allow) else {
        return assert!(plaintext.is_empty(), "only what is empty is refused");
    };
    assert_eq!(encrypt(&key, plaintext, nonce, ExtendedLength::Refuse).is_ok(), plaintext.len() < 65_536);
    assert_eq!(decrypt(&key, &text, text.len()).as_deref(), Ok(plaintext));
    assert!(decrypt(&key, &text, text.len() - 1).is_err(), "a limit holds");
    assert_eq!(reference(&text).as_deref(), Some(plaintext));
    if plaintext.len() <= SEAL_LIMIT {
        assert_eq!(padded_len(plaintext.len()), padding(plaintext.len()));
    }
    let mut damaged = text.clone().into_bytes();
    for _ in 0..1 + bytes.below(3) {
        let at = usize::from(bytes.short()) % damaged.len();
        damaged[at] = bytes.byte() % 128;
    }
    let damaged = String::from_utf8(damaged).expect("it is ascii");
    same_verdict(&damaged);
    assert!(damaged == text || reference(&damaged).is_none(), "nothing damaged is taken");
}

fn same_verdict(text: &str) {
    let ours = decrypt(&KEY.into(), text, usize::MAX);
    assert_eq!(ours.clone().ok(), reference(text), "{ours:?}");
}

/// Decrypts as the text of the NIP says, with the length prefix of June 2026.
fn reference(text: &str) -> Option<Vec<u8>> {
    let payload = read(text)?;
    // The shortest one holds 34 padded bytes, which is what may be indexed below.
    if payload.len() < 99 || payload[0] != 2 {
        return None;
    }
    let (body, mac) = payload.split_at(payload.len() - 32);
    let (nonce, ciphertext) = body[1..].split_at(32);
    let keys = message_keys(nonce);
    if hmac(&keys[44..76], &[&body[1..]]) != *mac {
        return None;
    }
    let mut padded = ciphertext.to_vec();
    cipher(&keys).apply_keystream(&mut padded);
    let (at, length) = match u16::from_be_bytes([padded[0], padded[1]]) {
        0 => (6, usize::try_from(u32::from_be_bytes(padded[2..6].try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    let is_right = at == 2 || length >= 65_536;
    (is_right && padded.len() == at + padding(length)).then(|| padded[at..at + length].to_vec())
}

/// A payload around these padded bytes, whatever they are.
fn locked(nonce: &[u8; 32], padded: &[u8]) -> Vec<u8> {
    let keys = message_keys(nonce);
    let mut body = [nonce, padded].concat();
    cipher(&keys).apply_keystream(&mut body[32..]);
    let mac = hmac(&keys[44..76], &[&body]);
    [&[2][..], &body, &mac].concat()
}

fn cipher(keys: &[u8]) -> ChaCha20 {
    ChaCha20::new_from_slices(&keys[..32], &keys[32..44]).expect("the lengths are right")
}

/// HKDF-expand to 76 bytes.
fn message_keys(nonce: &[u8]) -> Vec<u8> {
    let mut keys = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    for nth in 1..=3 {
        last = hmac(&KEY, &[&last, nonce, &[nth]]).to_vec();
        keys.extend_from_slice(&last);
    }
    keys.truncate(76);
    keys
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::HashEngine>::new(key);
    parts.iter().for_each(|part| engine.input(part));
    engine.finalize().to_byte_array()
}

/// The pseudocode of the NIP.
fn padding(length: usize) -> usize {
    let next_power = length.next_power_of_two();
    let chunk = if next_power <= 256 { 32 } else { next_power / 8 };
    if length <= 32 { 32 } else { chunk * ((length - 1) / chunk + 1) }
}

fn print(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let word = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for digit in 0..4 {
            let index = usize::try_from(word >> (18 - 6 * digit) & 63).expect("six bits");
            out.push(if digit <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    out
}

/// Canonical base64: whatever prints to the same text.
fn read(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut out = Vec::new();
    let (mut held, mut bits) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = DIGITS[usize::from(digit)];
        if value == 64 {
            return None;
        }
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    (print(&out) == text).then_some(out)
}

/// The inputs of `corpus/nip44`.
pub(crate) fn seeds() -> Vec<Seed> {
    let with = |mode: u8, rest: &[u8]| [&[mode][..], rest].concat();
    let padded = |prefix: &[u8], length: usize| [&[2, 9][..], prefix, &vec![b'a'; length]].concat();
    let good = print(&locked(&[1; 32], &[&[0, 5][..], &[b'a'; 32]].concat()));
    [
        ("text", with(0, good.as_bytes())),
        ("text_unpadded", with(0, good.trim_end_matches('=').as_bytes())),
        ("text_newline", with(0, format!("{good}\n").as_bytes())),
        ("marker", with(0, b"#2")),
        ("empty", with(0, b"")),
        ("payload", with(1, &locked(&[1; 32], &[&[0, 32][..], &[b'a'; 32]].concat()))),
        ("payload_version", with(1, &[&[1][..], &[0; 98]].concat())),
        ("payload_short", with(1, &[&[2][..], &[0; 97]].concat())),
        ("padded", padded(&[0, 1], 32)),
        ("padded_full", padded(&[0, 33], 64)),
        ("padded_too_much", padded(&[0, 1], 64)),
        ("padded_too_little", padded(&[0, 65], 64)),
        ("padded_empty", padded(&[0, 0], 32)),
        ("padded_long_form_of_a_short_one", padded(&[0, 0, 0, 0, 0, 5], 32)),
        ("padded_longer_than_it_is", padded(&[0, 0, 0, 1, 0, 0], 60)),
        ("honest", with(3, &[1, 0, 0, 9, 0, 40, 1])),
        ("honest_empty", with(3, &[1, 0, 1, 0])),
        ("honest_long", with(3, &[1, 255, 0, 0x80, 9])),
        ("honest_longest_short_form", with(3, &[1, 255, 0xff, 0x7f, 9])),
    ]
    .map(|(name, bytes)| ("nip44", name, bytes))
    .into()
}
