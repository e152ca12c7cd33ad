//! Damaged payloads: each is refused for its own reason and none panics.
#![cfg(test)]
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bitcoin_hashes::hmac::{Hmac, HmacEngine};
use bitcoin_hashes::{Hash as _, HashEngine as _, sha256};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use contextvm_crypto::Nip44Error;
use contextvm_crypto::nip44::{ExtendedLength, decrypt, encrypt};
use contextvm_crypto::size::padded_len;
use zeroize::Zeroizing;

const NO_LIMIT: usize = usize::MAX;

/// A conversation key and a nonce of the official file, with the message keys that belong to them.
struct Known {
    conversation: Zeroizing<[u8; 32]>,
    nonce: [u8; 32],
    chacha_key: [u8; 32],
    chacha_nonce: [u8; 12],
    hmac_key: [u8; 32],
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let mut out = [0; N];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
    }
    out
}

fn known() -> Known {
    let file: serde_json::Value = serde_json::from_str(include_str!("vectors/nip44.vectors.json")).unwrap();
    let part = &file["v2"]["valid"]["get_message_keys"];
    let row = |name: &str| part["keys"][0][name].as_str().unwrap();
    Known {
        conversation: Zeroizing::new(bytes(part["conversation_key"].as_str().unwrap())),
        nonce: bytes(row("nonce")),
        chacha_key: bytes(row("chacha_key")),
        chacha_nonce: bytes(row("chacha_nonce")),
        hmac_key: bytes(row("hmac_key")),
    }
}

impl Known {
    /// Encrypts `padded` as it stands, prefix included, with a correct MAC.
    fn payload(&self, padded: &[u8]) -> Vec<u8> {
        let mut body = padded.to_vec();
        ChaCha20::new(&self.chacha_key.into(), &self.chacha_nonce.into()).apply_keystream(&mut body);
        let mut engine = HmacEngine::<sha256::HashEngine>::new(&self.hmac_key);
        engine.input(&self.nonce);
        engine.input(&body);
        let mac: Hmac<sha256::Hash> = engine.finalize();
        [&[2][..], &self.nonce, &body, &mac.to_byte_array()].concat()
    }

    fn decrypt(&self, payload: &[u8]) -> Result<Vec<u8>, Nip44Error> {
        decrypt(&self.conversation, &STANDARD.encode(payload), NO_LIMIT)
    }

    fn honest(&self) -> Vec<u8> {
        let text = encrypt(&self.conversation, b"hello", &self.nonce, ExtendedLength::Refuse).unwrap();
        STANDARD.decode(text).unwrap()
    }
}

/// Prefix, `plaintext` letters, and zeros up to `padded` bytes after the prefix.
fn padded(prefix: &[u8], plaintext: usize, padded: usize) -> Vec<u8> {
    let mut out = prefix.to_vec();
    out.extend(std::iter::repeat_n(b'x', plaintext.min(padded)));
    out.resize(prefix.len() + padded, 0);
    out
}

#[test]
fn the_forger_of_this_file_makes_what_the_library_makes() {
    let known = known();
    let mut plain = vec![0, 5];
    plain.extend_from_slice(b"hello");
    plain.resize(34, 0);
    assert_eq!(known.payload(&plain), known.honest());
    assert_eq!(known.decrypt(&known.honest()).unwrap(), b"hello");
}

#[test]
fn truncated_payloads_have_an_impossible_length() {
    let known = known();
    let honest = known.honest();
    assert_eq!(honest.len(), 99);
    for length in 0..honest.len() {
        assert_eq!(known.decrypt(&honest[..length]), Err(Nip44Error::Length(length)));
    }
    for extra in 1..32 {
        let mut longer = honest.clone();
        longer.resize(honest.len() + extra, 0);
        assert_eq!(known.decrypt(&longer), Err(Nip44Error::Length(99 + extra)));
    }
}

#[test]
fn a_mac_that_is_wrong_in_any_single_bit_is_refused() {
    let known = known();
    let honest = known.honest();
    for bit in 0..256 {
        let mut forged = honest.clone();
        forged[67 + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(known.decrypt(&forged), Err(Nip44Error::Mac), "bit {bit}");
    }
}

#[test]
fn any_other_flipped_bit_is_refused_too() {
    let known = known();
    let honest = known.honest();
    for bit in 0..67 * 8 {
        let mut forged = honest.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit < 8 { Nip44Error::Version(2 ^ (1 << bit)) } else { Nip44Error::Mac };
        assert_eq!(known.decrypt(&forged), Err(expected), "bit {bit}");
    }
}

#[test]
fn every_other_version_is_refused() {
    let known = known();
    let mut payload = known.honest();
    for version in (0..=255).filter(|version| *version != 2) {
        payload[0] = version;
        assert_eq!(known.decrypt(&payload), Err(Nip44Error::Version(version)));
    }
    let text = format!("#{}", STANDARD.encode(known.honest()));
    assert_eq!(decrypt(&known.conversation, &text, NO_LIMIT), Err(Nip44Error::Marker));
}

#[test]
fn paddings_off_by_one_are_refused() {
    let known = known();
    for size in [1, 31, 32, 33, 64, 65, 255, 256, 257, 320, 321, 1_024, 1_025, 32_768, 40_960, 65_535] {
        let right = padded_len(size);
        let prefix = u16::try_from(size).unwrap().to_be_bytes();
        assert_eq!(known.decrypt(&known.payload(&padded(&prefix, size, right))).unwrap(), vec![b'x'; size]);
        for wrong in [right - 1, right + 1] {
            let payload = known.payload(&padded(&prefix, size, wrong));
            assert_eq!(known.decrypt(&payload), Err(Nip44Error::Length(payload.len())), "{size}");
        }
        // Buckets that exist, with a prefix that belongs to another one.
        let next = padded_len(right + 1);
        if next <= 65_536 {
            let payload = known.payload(&padded(&prefix, size, next));
            assert_eq!(known.decrypt(&payload), Err(Nip44Error::Padding), "{size}");
        }
        if let Ok(more) = u16::try_from(right + 1) {
            let payload = known.payload(&padded(&more.to_be_bytes(), size, right));
            assert_eq!(known.decrypt(&payload), Err(Nip44Error::Padding), "{size}");
        }
    }
}

#[test]
fn a_prefix_of_zero_needs_an_extended_length_that_needs_it() {
    let known = known();
    let prefix = |length: u32| [&[0, 0][..], &length.to_be_bytes()].concat();
    for length in [0, 1, 31, 32, 65_535] {
        let size = usize::try_from(length).unwrap();
        // With the padding of that length, and with the smallest that the six-byte prefix allows.
        for room in [padded_len(size.max(1)), 65_536] {
            let refused = known.decrypt(&known.payload(&padded(&prefix(length), size, room)));
            assert!(matches!(refused, Err(Nip44Error::Padding | Nip44Error::Length(_))), "{length}");
        }
    }
    for length in [65_536_u32, 65_537, 81_920, 81_921] {
        let size = usize::try_from(length).unwrap();
        let right = padded_len(size);
        let plain = known.decrypt(&known.payload(&padded(&prefix(length), size, right))).unwrap();
        assert_eq!(plain.len(), size);
        for wrong in [right - 1, right + 1, padded_len(right + 1)] {
            let refused = known.decrypt(&known.payload(&padded(&prefix(length), size, wrong)));
            assert!(matches!(refused, Err(Nip44Error::Padding | Nip44Error::Length(_))), "{length}");
        }
    }
    let lie = known.payload(&padded(&prefix(u32::MAX), 65_536, 65_536));
    assert_eq!(known.decrypt(&lie), Err(Nip44Error::Padding));
}

#[test]
fn a_two_byte_prefix_cannot_reach_into_the_extended_sizes() {
    let known = known();
    // 65,536 + 4 bytes after a two-byte prefix is as long as 65,536 after a six-byte one.
    let payload = known.payload(&padded(&65_535_u16.to_be_bytes(), 65_535, 65_540));
    assert_eq!(known.decrypt(&payload), Err(Nip44Error::Padding));
}

#[test]
fn only_canonical_base64_is_read() {
    let known = known();
    let plaintext = [b'x'; 33];
    let text = encrypt(&known.conversation, &plaintext, &known.nonce, ExtendedLength::Refuse).unwrap();
    assert!(text.ends_with('=') && !text.ends_with("=="), "two spare bits in the last letter");
    assert!(decrypt(&known.conversation, &text, NO_LIMIT).is_ok());
    let refused = |text: &str| {
        assert_eq!(decrypt(&known.conversation, text, NO_LIMIT), Err(Nip44Error::Encoding), "{text}");
    };

    let last = text.len() - 2;
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let at = alphabet.find(&text[last..=last]).unwrap();
    for spare in 1..4 {
        let letter = &alphabet[at + spare..=at + spare];
        refused(&format!("{}{letter}=", &text[..last]));
    }
    refused(text.trim_end_matches('='));
    refused(&format!("{text}="));
    refused(&format!("{text}\n"));
    refused(&format!("{text}\r\n"));
    refused(&format!(" {text}"));
    refused(&format!("{}\n{}", &text[..64], &text[64..]));
    refused(&format!("{}\u{e9}{}", &text[..64], &text[66..]));
    let letters = (0..=255)
        .map(|salt| encrypt(&known.conversation, &plaintext, &[salt; 32], ExtendedLength::Refuse).unwrap());
    let mut seen = 0;
    for text in letters.filter(|text| text.contains(['+', '/'])) {
        refused(&URL_SAFE.encode(STANDARD.decode(text).unwrap()));
        seen += 1;
    }
    assert!(seen > 200, "nearly every payload has a letter that the two alphabets spell differently");
}

#[test]
fn nothing_is_decoded_above_the_limit() {
    let known = known();
    let text = STANDARD.encode(known.honest());
    let limit = text.len();
    assert!(decrypt(&known.conversation, &text, limit).is_ok());
    let refusal = Nip44Error::TooLarge { size: limit, limit: limit - 1 };
    assert_eq!(decrypt(&known.conversation, &text, limit - 1), Err(refusal));
    assert_eq!(decrypt(&known.conversation, "", limit), Err(Nip44Error::Length(0)));
}
