//! NIP-44 version 2: conversation keys, strict decoding, and both length prefixes.
//!
//! The primitives are those of the `nostr` crate, which compares the MAC in constant time. What is added here is order:
//! every length is checked before base64 is decoded, and every form before a curve point is touched.
use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
#[cfg(not(contextvm_fake_hashes))]
use nostr::error::ErrorKind;
use nostr::key::PublicKey;
#[cfg(not(contextvm_fake_hashes))]
use nostr::nips::nip44::v2::{self, ConversationKey};
use zeroize::Zeroizing;

use crate::keys::Keys;
use crate::size::padded_len;

/// The only version there is.
const VERSION: u8 = 2;
/// Version, nonce and MAC.
const AROUND_CIPHERTEXT: usize = 1 + 32 + 32;
/// First plaintext length that takes the six-byte prefix.
const EXTENDED_FROM: usize = 65_536;
/// Shortest payload: one padded block of 32 bytes with a two-byte prefix.
const SHORTEST: usize = AROUND_CIPHERTEXT + 2 + 32;

/// Why a text was not encrypted or decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Nip44Error {
    /// The other key is not a point of the curve.
    #[error("public key is not on the curve")]
    Key,
    /// There is nothing to encrypt.
    #[error("plaintext is empty")]
    Empty,
    /// The text is longer than allowed; nothing was decoded.
    #[error("text of {size} bytes exceeds {limit}")]
    TooLarge {
        /// What was given, bytes.
        size: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// The payload starts with `#`: a version that is not base64.
    #[error("payload has an unknown encoding")]
    Marker,
    /// The payload is not canonical base64 of the standard alphabet with padding.
    #[error("payload is not canonical base64")]
    Encoding,
    /// The version byte is not 2.
    #[error("payload version {0} is not 2")]
    Version(u8),
    /// No plaintext makes a payload of this length.
    #[error("payload of {0} bytes has an impossible length")]
    Length(usize),
    /// The MAC is wrong: damaged, forged, or meant for somebody else.
    #[error("payload mac does not verify")]
    Mac,
    /// The length prefix and the padding contradict one another.
    #[error("payload padding is wrong")]
    Padding,
}

/// Whether plaintexts of 65,536 bytes and more may be encrypted, which older peers cannot read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExtendedLength {
    /// Refuse them. What we send.
    #[default]
    Refuse,
    /// Write the six-byte length prefix of June 2026.
    Allow,
}

/// Derives the key that two parties share: their ECDH point through HKDF-extract.
///
/// # Errors
/// Returns [`Nip44Error::Key`] when `other` is not on the curve.
pub fn conversation_key(mine: &Keys, other: &PublicKey) -> Result<Zeroizing<[u8; 32]>, Nip44Error> {
    #[cfg(contextvm_fake_crypto)]
    return Ok(crate::fake::shared(&mine.public_key(), other));
    #[cfg(not(contextvm_fake_crypto))]
    derive(mine, other)
}

#[cfg(not(contextvm_fake_crypto))]
fn derive(mine: &Keys, other: &PublicKey) -> Result<Zeroizing<[u8; 32]>, Nip44Error> {
    let derived = ConversationKey::derive(mine.secret(), other).map_err(|_| Nip44Error::Key)?;
    let wiped = Wiped(derived);
    let mut key = Zeroizing::new([0; 32]);
    for (to, from) in key.iter_mut().zip(wiped.0.as_bytes()) {
        *to = *from;
    }
    Ok(key)
}

/// Encrypts with a given nonce and writes base64. A nonce must never be used twice with one key.
///
/// # Errors
/// Refuses an empty plaintext, one of 65,536 bytes or more unless `extended` allows it, and one above 4 GiB.
pub fn encrypt(
    key: &Zeroizing<[u8; 32]>,
    plaintext: &[u8],
    nonce: &[u8; 32],
    extended: ExtendedLength,
) -> Result<String, Nip44Error> {
    let limit = match extended {
        ExtendedLength::Refuse => EXTENDED_FROM - 1,
        ExtendedLength::Allow => usize::try_from(u32::MAX).unwrap_or(usize::MAX),
    };
    if plaintext.is_empty() {
        return Err(Nip44Error::Empty);
    }
    let too_large = Nip44Error::TooLarge { size: plaintext.len(), limit };
    if plaintext.len() > limit {
        return Err(too_large);
    }
    #[cfg(contextvm_fake_hashes)]
    let payload = crate::fake::encrypt(key, plaintext, nonce).ok_or(too_large)?;
    #[cfg(not(contextvm_fake_hashes))]
    let payload = encrypt_bytes(key, plaintext, nonce).ok_or(too_large)?;
    Ok(STANDARD.encode(payload))
}

/// The lengths were checked, so only memory can be lacking.
#[cfg(not(contextvm_fake_hashes))]
fn encrypt_bytes(key: &Zeroizing<[u8; 32]>, plaintext: &[u8], nonce: &[u8; 32]) -> Option<Vec<u8>> {
    let key = Wiped(ConversationKey::new(**key));
    v2::encrypt_to_bytes_with_nonce(&key.0, plaintext, *nonce).ok()
}

/// Decrypts base64 of at most `limit` characters.
///
/// # Errors
/// Returns the first check that failed, cheapest first.
pub fn decrypt(key: &Zeroizing<[u8; 32]>, text: &str, limit: usize) -> Result<Vec<u8>, Nip44Error> {
    Payload::decode(text, limit)?.decrypt(key)
}

/// A decoded payload whose version and length are possible, before any cryptography.
pub(crate) struct Payload(Vec<u8>);

impl Payload {
    pub(crate) fn decode(text: &str, limit: usize) -> Result<Self, Nip44Error> {
        if text.len() > limit {
            return Err(Nip44Error::TooLarge { size: text.len(), limit });
        }
        if text.starts_with('#') {
            return Err(Nip44Error::Marker);
        }
        let bytes = STANDARD.decode(text).map_err(|_| Nip44Error::Encoding)?;
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&other) => return Err(Nip44Error::Version(other)),
            None => return Err(Nip44Error::Length(0)),
        }
        if !possible(bytes.len()) {
            return Err(Nip44Error::Length(bytes.len()));
        }
        Ok(Self(bytes))
    }

    #[cfg(contextvm_fake_hashes)]
    pub(crate) fn decrypt(self, key: &Zeroizing<[u8; 32]>) -> Result<Vec<u8>, Nip44Error> {
        crate::fake::decrypt(key, self.0)
    }

    #[cfg(not(contextvm_fake_hashes))]
    pub(crate) fn decrypt(self, key: &Zeroizing<[u8; 32]>) -> Result<Vec<u8>, Nip44Error> {
        let key = Wiped(ConversationKey::new(**key));
        v2::decrypt_to_bytes(&key.0, &self.0).map_err(|error| {
            if error.kind() == ErrorKind::Crypto { Nip44Error::Mac } else { Nip44Error::Padding }
        })
    }
}

/// Whether some plaintext makes a payload of this many bytes: each padded size with its own prefix.
const fn possible(payload: usize) -> bool {
    if payload < SHORTEST {
        return false;
    }
    let short = payload - AROUND_CIPHERTEXT - 2;
    let long = short.saturating_sub(4);
    let short_fits = short <= EXTENDED_FROM && padded_len(short) == short;
    let long_fits = long >= EXTENDED_FROM && padded_len(long) == long;
    short_fits || long_fits
}

/// A conversation key that is overwritten when dropped: the type is `Copy` and wipes nothing by itself.
#[cfg(not(contextvm_fake_hashes))]
struct Wiped(ConversationKey);

#[cfg(not(contextvm_fake_hashes))]
impl Drop for Wiped {
    fn drop(&mut self) {
        self.0 = ConversationKey::new([0; 32]);
        core::hint::black_box(&self.0);
    }
}
