//! Secret keys: made, parsed, used for signing, and wiped.
use alloc::string::String;
use core::fmt::{self, Write as _};

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use bitcoin_hashes::hkdf::Hkdf;
use bitcoin_hashes::sha256;
use contextvm_core::{Draft, event, kind};
use nostr::event::{Event, EventId, Kind, Tag, Tags};
use nostr::key::{PublicKey, SecretKey};
use nostr::types::Timestamp;
#[cfg(not(contextvm_fake_crypto))]
use secp256k1::SECP256K1;
use zeroize::Zeroizing;

use crate::error::KeyError;

const NSEC: Hrp = Hrp::parse_unchecked("nsec");
/// `nsec`, the separator, 52 data characters and 6 of checksum.
const NSEC_LEN: usize = 63;

/// A secret key with its public key, wiped when dropped.
///
/// `Debug` prints the public key alone. There is no `Display`, no `Serialize` and no way to compare secrets; the only
/// way out for the secret is [`Keys::to_nsec`].
#[derive(Clone)]
pub struct Keys(Pair);

#[cfg(not(contextvm_fake_crypto))]
type Pair = nostr::key::Keys;
#[cfg(contextvm_fake_crypto)]
type Pair = crate::fake::Pair;

impl Keys {
    /// Takes a secret key as bytes.
    ///
    /// # Errors
    /// Returns [`KeyError::Range`] for zero and for numbers not below the order of the curve.
    pub fn from_secret_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        Self::from_secret(&Zeroizing::new(bytes))
    }

    /// Makes a new key from random bytes.
    ///
    /// # Errors
    /// As [`Keys::from_secret_bytes`]; a good generator hits it once in 2^127 tries.
    pub fn from_entropy(bytes: [u8; 32]) -> Result<Self, KeyError> {
        Self::from_secret_bytes(bytes)
    }

    /// Parses an `nsec` or 64 hex digits, with white space around it ignored.
    ///
    /// # Errors
    /// Returns what is wrong, and never any part of the text.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let mut secret = Zeroizing::new([0; 32]);
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            read_hex(text, &mut secret)?;
        } else {
            read_nsec(text, &mut secret)?;
        }
        Self::from_secret(&secret)
    }

    pub(crate) fn from_secret(bytes: &Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        let secret = SecretKey::from_slice(bytes.as_slice()).map_err(|_| KeyError::Range)?;
        Ok(Self(Pair::new(secret)))
    }

    /// Derives the key of a further identity from this one (HKDF-SHA256), so that one backup covers them all.
    ///
    /// The same key and label always give the same identity. Who knows a derived key learns nothing of this one or of
    /// its siblings.
    ///
    /// # Errors
    /// Returns [`KeyError::Range`] when 256 outputs in a row are no keys: one chance in 2^32512.
    pub fn derive(&self, label: &str) -> Result<Self, KeyError> {
        let hkdf = Hkdf::<sha256::HashEngine>::new(b"contextvm", self.secret().as_secret_bytes());
        let mut bytes = Zeroizing::new([0; 32]);
        for attempt in 0..=u8::MAX {
            let info = [b"identity\0", [attempt].as_slice(), label.as_bytes()].concat();
            // Only an output of more than 8,160 bytes is refused.
            let _fits = hkdf.expand(&info, bytes.as_mut_slice());
            if let Ok(keys) = Self::from_secret(&bytes) {
                return Ok(keys);
            }
        }
        Err(KeyError::Range)
    }

    /// Returns the public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    /// Writes the secret key as `nsec`, in memory that is wiped when dropped.
    #[must_use]
    pub fn to_nsec(&self) -> Zeroizing<String> {
        let mut nsec = Zeroizing::new(String::with_capacity(NSEC_LEN));
        let written =
            bech32::encode_lower_to_fmt::<Bech32, String>(&mut nsec, NSEC, self.secret().as_secret_bytes());
        debug_assert!(written.is_ok(), "32 bytes always fit into bech32");
        nsec
    }

    /// Signs a draft with given aux bytes. The id is taken over and the result is not verified again.
    ///
    /// `draft.author` must be this key; otherwise the event comes out with a signature that verifies nowhere.
    #[must_use]
    pub fn sign_draft(&self, draft: &Draft, aux: [u8; 32]) -> Event {
        debug_assert!(draft.author == self.public_key(), "draft belongs to another key");
        self.sign_id(
            draft.id,
            draft.created_at,
            Kind::from_u16(kind::MESSAGE),
            draft.tags.clone(),
            draft.content.clone(),
            &Zeroizing::new(aux),
        )
    }

    /// Signs the answer to a relay's challenge (NIP-42, kind 22242).
    #[must_use]
    pub fn sign_auth(&self, relay: &str, challenge: &str, created_at: u64, aux: [u8; 32]) -> Event {
        let tags = Tags::from_list(alloc::vec![
            Tag::custom("relay", [relay]),
            Tag::custom("challenge", [challenge]),
        ]);
        self.sign_event(kind::AUTH, created_at, tags, String::new(), aux)
    }

    /// Signs an event of any kind.
    #[must_use]
    pub fn sign_event(
        &self,
        kind: u16,
        created_at: u64,
        tags: Tags,
        content: String,
        aux: [u8; 32],
    ) -> Event {
        self.sign_now(kind, created_at, tags, content, &Zeroizing::new(aux))
    }

    pub(crate) fn sign_now(
        &self,
        kind: u16,
        created_at: u64,
        tags: Tags,
        content: String,
        aux: &Zeroizing<[u8; 32]>,
    ) -> Event {
        let kind = Kind::from_u16(kind);
        let stamp = Timestamp::from_secs(created_at);
        let id = event::id_of(&self.public_key(), stamp, kind, &tags, &content);
        self.sign_id(id, created_at, kind, tags, content, aux)
    }

    fn sign_id(
        &self,
        id: EventId,
        created_at: u64,
        kind: Kind,
        tags: Tags,
        content: String,
        aux: &Zeroizing<[u8; 32]>,
    ) -> Event {
        #[cfg(not(contextvm_fake_crypto))]
        let signature = self.0.sign_schnorr_with_aux_rand(SECP256K1, id.as_bytes(), aux);
        #[cfg(contextvm_fake_crypto)]
        let signature = contextvm_core::fake::sign(&self.public_key(), &id, aux);
        Event::new(id, self.public_key(), Timestamp::from_secs(created_at), kind, tags, content, signature)
    }

    pub(crate) fn secret(&self) -> &SecretKey {
        self.0.secret_key()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(")?;
        for byte in self.public_key().as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        f.write_char(')')
    }
}

fn read_hex(text: &str, into: &mut Zeroizing<[u8; 32]>) -> Result<(), KeyError> {
    let mut digits = text.chars();
    for byte in into.iter_mut() {
        let mut next = || digits.next().and_then(|digit| digit.to_digit(16)).ok_or(KeyError::Form);
        let value = next()? * 16 + next()?;
        *byte = u8::try_from(value).map_err(|_| KeyError::Form)?;
    }
    Ok(())
}

fn read_nsec(text: &str, into: &mut Zeroizing<[u8; 32]>) -> Result<(), KeyError> {
    let checked = CheckedHrpstring::new::<Bech32>(text).map_err(|_| KeyError::Form)?;
    if checked.hrp() != NSEC {
        let public = ["npub", "nprofile"].into_iter().any(|hrp| checked.hrp() == Hrp::parse_unchecked(hrp));
        return Err(if public { KeyError::Public } else { KeyError::Form });
    }
    let mut bytes = checked.byte_iter();
    if bytes.len() != into.len() {
        return Err(KeyError::Form);
    }
    for byte in into.iter_mut() {
        *byte = bytes.next().ok_or(KeyError::Form)?;
    }
    Ok(())
}
