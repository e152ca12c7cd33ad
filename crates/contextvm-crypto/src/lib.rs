//! The cryptography of ContextVM: zeroized keys, NIP-44, and the sealing and opening of gift wraps.
//!
//! Everything here is a pure function of its arguments. Randomness comes in as [`Entropy`], time as plain seconds, and
//! nothing is read from the operating system, so that every result can be reproduced in a test.
//!
//! * [`Keys`] holds a secret key and signs with it.
//! * [`seal`] puts a signed inner event into a gift wrap (CEP-4, CEP-19).
//! * [`open`] takes it out again and yields an [`Opened`](contextvm_core::Opened), the proof that it may be believed.
//! * [`size`] says beforehand how large the published gift wrap will be.
//!
//! ```
//! use contextvm_core::{Draft, Limits, WrapKind};
//! use contextvm_crypto::{Entropy, Keys, open, seal};
//! use nostr::event::{Tag, Tags};
//!
//! let (client, server) = (Keys::from_entropy([1; 32])?, Keys::from_entropy([2; 32])?);
//! let tags = Tags::from_list(vec![Tag::public_key(server.public_key())]);
//! let draft = Draft::new(client.public_key(), 1_700_000_000, tags, "{}".to_owned());
//! let inner = client.sign_draft(&draft, [3; 32]);
//! let wrap = seal(&inner, &server.public_key(), WrapKind::Ephemeral, 1_700_000_000, &Entropy::from_bytes([4; 96]))?;
//! let opened = open(&wrap, &server, 1_700_000_002, &Limits::default())?;
//! assert_eq!(opened.event().id, draft.id);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
extern crate alloc;

#[cfg(all(contextvm_fake_hashes, not(contextvm_fake_crypto)))]
compile_error!("hashes are faked only where curves are");

mod entropy;
mod error;
#[cfg(contextvm_fake_crypto)]
mod fake;
mod keys;
pub mod nip44;
mod open;
mod seal;

pub use contextvm_core::size;
pub use entropy::Entropy;
pub use error::{KeyError, OpenError, SealError};
pub use keys::Keys;
pub use nip44::Nip44Error;
pub use open::{open, open_plain};
pub use seal::seal;
