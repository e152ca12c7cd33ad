//! Keys without a curve, for simulation and fuzzing alone (`contextvm_core::fake`).
use contextvm_core::fake::hash;
use nostr::key::{PublicKey, SecretKey};
use zeroize::Zeroizing;

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
