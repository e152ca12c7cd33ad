//! Keys without a curve, and NIP-44 without its ciphers, for simulation and fuzzing alone (`contextvm_core::fake`).
#[cfg(contextvm_fake_hashes)]
use alloc::vec::Vec;

use contextvm_core::fake::hash;
#[cfg(contextvm_fake_hashes)]
use contextvm_core::{fake, size::padded_len};
use nostr::key::{PublicKey, SecretKey};
use zeroize::Zeroizing;

#[cfg(contextvm_fake_hashes)]
use crate::nip44::Nip44Error;

/// A secret key, and a hash of it as its public key.
#[derive(Clone)]
pub(crate) struct Pair {
    secret: SecretKey,
    public: PublicKey,
}

impl Pair {
    pub(crate) fn new(secret: SecretKey) -> Self {
        let public = PublicKey::from_byte_array(hash(2, &[&secret.to_secret_bytes()]));
        Self { secret, public }
    }

    pub(crate) const fn public_key(&self) -> PublicKey {
        self.public
    }

    pub(crate) const fn secret_key(&self) -> &SecretKey {
        &self.secret
    }
}

/// What two parties share; each of them needs its own public key and the other's.
pub(crate) fn shared(mine: &PublicKey, other: &PublicKey) -> Zeroizing<[u8; 32]> {
    let (one, two) = (mine.as_bytes().min(other.as_bytes()), mine.as_bytes().max(other.as_bytes()));
    Zeroizing::new(hash(3, &[one, two]))
}

/// Makes a payload of version 2 with the prefix, the padding and the lengths of the true one.
#[cfg(contextvm_fake_hashes)]
pub(crate) fn encrypt(key: &[u8; 32], plaintext: &[u8], nonce: &[u8; 32]) -> Option<Vec<u8>> {
    let padded = padded_len(plaintext.len());
    let mut payload = Vec::with_capacity(padded.checked_add(6 + 65)?);
    payload.push(2);
    payload.extend(nonce);
    let from = payload.len();
    match u16::try_from(plaintext.len()) {
        Ok(short) => payload.extend(short.to_be_bytes()),
        Err(_) => {
            payload.extend([0, 0]);
            payload.extend(u32::try_from(plaintext.len()).ok()?.to_be_bytes());
        }
    }
    let prefix = payload.len();
    payload.extend(plaintext);
    payload.resize(prefix + padded, 0);
    let text = payload.get_mut(from..)?;
    fake::cipher(key, nonce, text);
    let mac = fake::mac(key, nonce, text);
    payload.extend(mac);
    Some(payload)
}

/// Takes a payload apart whose version and length are possible.
#[cfg(contextvm_fake_hashes)]
pub(crate) fn decrypt(key: &[u8; 32], payload: Vec<u8>) -> Result<Vec<u8>, Nip44Error> {
    let length = Nip44Error::Length(payload.len());
    let (_, rest) = payload.split_first().ok_or(length)?;
    let (nonce, rest) = rest.split_first_chunk::<32>().ok_or(length)?;
    let (text, mac) = rest.split_last_chunk::<32>().ok_or(length)?;
    if fake::mac(key, nonce, text) != *mac {
        return Err(Nip44Error::Mac);
    }
    let mut text = text.to_vec();
    fake::cipher(key, nonce, &mut text);
    let (short, rest) = text.split_first_chunk::<2>().ok_or(Nip44Error::Padding)?;
    let (length, prefix) = match (u16::from_be_bytes(*short), rest.first_chunk::<4>()) {
        (0, Some(long)) => (u32::from_be_bytes(*long) as usize, 6),
        (short, _) => (usize::from(short), 2),
    };
    let is_short = length < 65_536;
    if length == 0 || is_short != (prefix == 2) || text.len() != prefix + padded_len(length) {
        return Err(Nip44Error::Padding);
    }
    text.truncate(prefix + length);
    text.drain(..prefix);
    Ok(text)
}
