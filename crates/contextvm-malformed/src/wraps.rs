//! Gift wraps: the payload (NIP-44), what is in it, and the event around it.
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
use bitcoin_hashes::hmac::{Hmac, HmacEngine};
use bitcoin_hashes::{Hash as _, HashEngine as _, sha256};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use contextvm_core::event;
use contextvm_crypto::nip44::conversation_key;
use nostr::event::{Event, EventId, Kind, Tag, Tags};
use nostr::key::PublicKey;
use nostr::types::Timestamp;

use crate::Cases;
use crate::json::{Members, replaced};

const NONCE: [u8; 32] = [5; 32];

pub(crate) const INNER: u16 = 25910;

/// Version, nonce and MAC.
const AROUND: usize = 65;

pub(crate) fn add(cases: &mut Cases<'_>) {
    payloads(cases);
    spellings(cases);
    paddings(cases);
    recipients(cases);
}

/// The padded length of a plaintext, as NIP-44 computes it.
fn padded_len(len: usize) -> usize {
    if len <= 32 {
        return 32;
    }
    let next_power = 1_usize << ((len - 1).ilog2() + 1);
    let chunk = if next_power <= 256 { 32 } else { next_power / 8 };
    chunk * ((len - 1) / chunk + 1)
}

impl Cases<'_> {
    /// A true inner event that is new, as JSON.
    pub(crate) fn inner(&self) -> String {
        self.fresh_text()
    }

    /// Encrypts bytes that are padded already, prefix included, with a true MAC.
    pub(crate) fn payload(&self, padded: &[u8]) -> Vec<u8> {
        let key = conversation_key(&self.world.one_time, &self.world.me(self.role).public_key()).unwrap();
        sealed(&key, padded)
    }

    pub(crate) fn padded(&self, plaintext: &[u8]) -> Vec<u8> {
        let mut padded = u16::try_from(plaintext.len()).unwrap().to_be_bytes().to_vec();
        padded.extend_from_slice(plaintext);
        padded.resize(2 + padded_len(plaintext.len()), 0);
        padded
    }

    /// A gift wrap with this content, true in everything else.
    pub(crate) fn wrap(&self, content: &str) -> String {
        self.wrap_as(1059 + 20_000 * u16::try_from(self.list.len() % 2).unwrap(), content)
    }

    pub(crate) fn wrap_as(&self, kind: u16, content: &str) -> String {
        event::print(&self.outer_event(kind, self.world.now, vec![self.to_me()], content))
    }

    pub(crate) fn to_me(&self) -> Tag {
        Tag::public_key(self.world.me(self.role).public_key())
    }

    pub(crate) fn outer_event(&self, kind: u16, at: u64, tags: Vec<Tag>, content: &str) -> Event {
        self.world.one_time.sign_event(kind, at, Tags::from_list(tags), content.to_owned(), [9; 32])
    }

    /// A gift wrap around this plaintext.
    pub(crate) fn around(&self, plaintext: &str) -> String {
        self.wrap(&STANDARD.encode(self.payload(&self.padded(plaintext.as_bytes()))))
    }

    pub(crate) fn add_payload(&mut self, name: String, payload: &[u8], want: &str) {
        let wrap = self.wrap(&STANDARD.encode(payload));
        self.add(name, wrap, want);
    }
}

/// Encrypts padded bytes under a conversation key (NIP-44, version 2).
fn sealed(key: &[u8; 32], padded: &[u8]) -> Vec<u8> {
    let mut keys = [0; 76];
    // NIP-44: HKDF-expand with the conversation key as PRK and the nonce as info.
    expand(key, &NONCE, &mut keys);
    let mut body = padded.to_vec();
    let (chacha_key, rest) = keys.split_at(32);
    let (chacha_nonce, hmac_key) = rest.split_at(12);
    let nonce: [u8; 12] = chacha_nonce.try_into().unwrap();
    let chacha_key: [u8; 32] = chacha_key.try_into().unwrap();
    ChaCha20::new(&chacha_key.into(), &nonce.into()).apply_keystream(&mut body);
    let mac = mac(hmac_key, &[&NONCE, &body]);
    [&[2][..], &NONCE, &body, &mac].concat()
}

/// HKDF-expand (RFC 5869).
fn expand(prk: &[u8; 32], info: &[u8], out: &mut [u8]) {
    let mut block: Vec<u8> = Vec::new();
    for (piece, number) in out.chunks_mut(32).zip(1..) {
        block = mac(prk, &[&block, info, &[number]]).to_vec();
        piece.copy_from_slice(&block[..piece.len()]);
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::HashEngine>::new(key);
    parts.iter().for_each(|part| engine.input(part));
    let mac: Hmac<sha256::Hash> = engine.finalize();
    mac.to_byte_array()
}

fn payloads(cases: &mut Cases<'_>) {
    let honest = |cases: &Cases<'_>| cases.payload(&cases.padded(cases.inner().as_bytes()));
    let size = honest(cases).len();
    for kind in [1059, 21059] {
        let content = STANDARD.encode(honest(cases));
        let wrap = cases.wrap_as(kind, &content);
        cases.add(format!("honest/{kind}"), wrap, "taken");
    }
    for version in (0..=255_u8).filter(|version| *version != 2) {
        let mut payload = honest(cases);
        payload[0] = version;
        cases.add_payload(format!("version/{version}"), &payload, "open version");
    }
    let flips =
        (0..256).map(|bit| ("mac", size * 8 - 256 + bit)).chain((0..64).map(|bit| ("nonce", 8 + bit * 4)));
    let ciphertext = (0..96).map(|bit| ("ciphertext", 33 * 8 + bit * 53));
    for (label, bit) in flips.chain(ciphertext) {
        let mut payload = honest(cases);
        payload[bit / 8] ^= 1 << (bit % 8);
        let shown = if label == "mac" { bit + 256 - size * 8 } else { bit };
        cases.add_payload(format!("bit/{label}/{shown}"), &payload, "open mac");
    }
    for length in 0..=size.min(420) {
        let payload = honest(cases)[..length].to_vec();
        let block = length.saturating_sub(AROUND + 2);
        let possible = block >= 32 && padded_len(block) == block;
        cases.add_payload(
            format!("cut/{length}"),
            &payload,
            if possible { "open mac" } else { "open length" },
        );
    }
    for more in 1..=40 {
        let mut payload = honest(cases);
        payload.resize(size + more, 0);
        let block = payload.len() - AROUND - 2;
        let want = if padded_len(block) == block { "open mac" } else { "open length" };
        cases.add_payload(format!("longer/{more}"), &payload, want);
    }
}

/// One payload, written in ways that are not its base64.
fn spellings(cases: &mut Cases<'_>) {
    let text = |cases: &Cases<'_>| STANDARD.encode(cases.payload(&cases.padded(cases.inner().as_bytes())));
    let size = text(cases).len();
    for cut in (1..=80).filter(|cut| cut % 4 != 0) {
        let wrap = cases.wrap(&text(cases)[..size - cut]);
        cases.add(format!("base64/cut/{cut}"), wrap, "open encoding");
    }
    // Everything printable that is no letter of it, and more.
    let foreign = (0x20..0x7f_u8).filter(|byte| !byte.is_ascii_alphanumeric() && !b"+/".contains(byte));
    let foreign: Vec<char> =
        foreign.map(char::from).chain("\n\r\t\0\u{7f}é€\u{ff21}\u{200b}".chars()).collect();
    for (nth, letter) in foreign.into_iter().enumerate() {
        let at = 4 + nth * 7;
        let wrap = cases.wrap(&replaced(&text(cases), at, &letter.to_string()));
        cases.add(format!("base64/letter/{:x}", u32::from(letter)), wrap, "open encoding");
        let inserted = format!("{}{letter}{}", &text(cases)[..at], &text(cases)[at..]);
        let wrap = cases.wrap(&inserted);
        cases.add(format!("base64/inserted/{:x}", u32::from(letter)), wrap, "open encoding");
    }
    for at in (0..size).step_by(76).skip(1) {
        let wrap = cases.wrap(&format!("{}\r\n{}", &text(cases)[..at], &text(cases)[at..]));
        cases.add(format!("base64/line/{at}"), wrap, "open encoding");
    }
    let bytes = |cases: &Cases<'_>| cases.payload(&cases.padded(cases.inner().as_bytes()));
    let hex: String = bytes(cases).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        ("no-padding", STANDARD_NO_PAD.encode(bytes(cases)), "open encoding"),
        ("padding-added", format!("{}=", text(cases)), "open encoding"),
        ("padding-four", format!("{}====", text(cases)), "open encoding"),
        ("space-before", format!(" {}", text(cases)), "open encoding"),
        ("space-after", format!("{} ", text(cases)), "open encoding"),
        ("newline-after", format!("{}\n", text(cases)), "open encoding"),
        ("hex", hex, "open encoding"),
        ("data-url", format!("data:;base64,{}", text(cases)), "open encoding"),
        ("quoted", format!("\"{}\"", text(cases)), "open encoding"),
        ("twice", STANDARD.encode(text(cases)), "open version"),
        ("marker", format!("#{}", text(cases)), "open marker"),
        ("marker-alone", "#".to_owned(), "open marker"),
        ("nip04", format!("{}?iv={}", STANDARD.encode([7; 64]), STANDARD.encode([8; 16])), "open encoding"),
        ("plain", cases.inner(), "open encoding"),
        ("percent", text(cases).replace('+', "%2B").replace('/', "%2F"), "open encoding"),
    ];
    let url = URL_SAFE.encode(bytes(cases));
    if url != text(cases) {
        forms.push(("url-safe", url, "open encoding"));
    }
    for (label, content, want) in forms {
        let wrap = cases.wrap(&content);
        cases.add(format!("base64/{label}"), wrap, want);
    }
    spare_bits(cases);
}

/// The last letter may hold bits that mean nothing; there is one true way to write them.
fn spare_bits(cases: &mut Cases<'_>) {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for length in 33..=192 {
        let plaintext = "x".repeat(length);
        let text = STANDARD.encode(cases.payload(&cases.padded(plaintext.as_bytes())));
        let Some(last) = text.find('=').map(|at| at - 1).filter(|_| length % 32 == 1) else { continue };
        let spare = if text.ends_with("==") { 16 } else { 4 };
        let at = alphabet.find(&text[last..=last]).unwrap();
        for more in 1..spare {
            let letter = &alphabet[at + more..=at + more];
            let wrap = cases.wrap(&replaced(&text, last, letter));
            cases.add(format!("base64/spare/{length}/{more}"), wrap, "open encoding");
        }
    }
}

/// Length prefixes that contradict the padding, under a true MAC.
fn paddings(cases: &mut Cases<'_>) {
    let size = cases.inner().len();
    let block = padded_len(size);
    let floor = (1..=block).find(|len| padded_len(*len) == block).unwrap();
    for prefix in (0..40).chain(floor - 40..block + 60).chain([1_024, 4_096, 32_767, 32_768, 65_534, 65_535])
    {
        let inner = cases.inner();
        let mut padded = cases.padded(inner.as_bytes());
        assert_eq!(inner.len(), size, "every number in it has as many digits");
        padded[..2].copy_from_slice(&u16::try_from(prefix).unwrap().to_be_bytes());
        let want = match prefix {
            _ if prefix == size => "taken",
            // The end of it is missing, or zeros follow it.
            _ if padded_len(prefix.max(1)) == block => "open not_an_event",
            _ => "open padding",
        };
        let payload = cases.payload(&padded);
        cases.add_payload(format!("padding/prefix/{prefix}"), &payload, want);
    }
    for (label, length) in [
        ("zero", 0_u32),
        ("one", 1),
        ("block", 640),
        ("65535", 65_535),
        ("65536", 65_536),
        ("most", u32::MAX),
    ] {
        let mut padded = cases.padded(cases.inner().as_bytes());
        padded[..2].fill(0);
        padded[2..6].copy_from_slice(&length.to_be_bytes());
        let payload = cases.payload(&padded);
        cases.add_payload(format!("padding/extended/{label}"), &payload, "open padding");
    }
    // What fills the block means nothing.
    let mut padded = cases.padded(cases.inner().as_bytes());
    let fill = 2 + cases.inner().len();
    padded[fill..].fill(0xff);
    let payload = cases.payload(&padded);
    cases.add_payload("padding/filled".to_owned(), &payload, "taken");
}

fn recipients(cases: &mut Cases<'_>) {
    let other = conversation_key(&cases.world.one_time, &cases.world.other.public_key()).unwrap();
    let payload = sealed(&other, &cases.padded(cases.inner().as_bytes()));
    cases.add_payload("recipient/other".to_owned(), &payload, "open mac");
    let long_term =
        conversation_key(cases.world.author(cases.role), &cases.world.me(cases.role).public_key()).unwrap();
    let payload = sealed(&long_term, &cases.padded(cases.inner().as_bytes()));
    cases.add_payload("recipient/long-term-key".to_owned(), &payload, "open mac");
    for (label, byte) in [("zeros", 0), ("ones", 0xff), ("sevens", 7)] {
        let payload = sealed(&[byte; 32], &cases.padded(cases.inner().as_bytes()));
        cases.add_payload(format!("recipient/key-of-{label}"), &payload, "open mac");
    }
    let field = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f";
    for (label, key) in [
        ("zero", "0".repeat(64)),
        ("five", format!("{}5", "0".repeat(63))),
        ("ones", "f".repeat(64)),
        ("field", field.to_owned()),
    ] {
        let text = with_author(cases, &PublicKey::from_hex(&key).unwrap());
        cases.add(format!("one-time-key/{label}"), text, "open key");
    }
    let keys = [
        ("author", cases.world.author(cases.role)),
        ("me", cases.world.me(cases.role)),
        ("other", &cases.world.other),
    ];
    for (label, key) in keys.map(|(label, keys)| (label, keys.public_key())) {
        let text = with_author(cases, &key);
        cases.add(format!("one-time-key/{label}"), text, "open mac");
    }
}

/// A gift wrap that claims another one-time key, with the id that belongs to it.
fn with_author(cases: &Cases<'_>, key: &PublicKey) -> String {
    let content = STANDARD.encode(cases.payload(&cases.padded(cases.inner().as_bytes())));
    let tags = Tags::from_list(vec![cases.to_me()]);
    let id =
        EventId::compute(key, &Timestamp::from_secs(cases.world.now), &Kind::from_u16(1059), &tags, &content);
    Members::of(&cases.wrap_as(1059, &content))
        .with("pubkey", format!("\"{}\"", key.to_hex()))
        .with("id", format!("\"{}\"", id.to_hex()))
        .text()
}
