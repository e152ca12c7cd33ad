//! Sealing: a signed inner event goes into a gift wrap that a one-time key signs.
use contextvm_core::{WrapKind, event};
use nostr::event::{Event, Tag, Tags};
use nostr::key::PublicKey;

use crate::entropy::Entropy;
use crate::error::SealError;
use crate::keys::Keys;
use crate::nip44::{self, ExtendedLength};
use crate::size::SEAL_LIMIT;

/// Puts a signed inner event into a gift wrap for `recipient` (CEP-4, CEP-19).
///
/// The plaintext is the complete signed event in JSON, encrypted with NIP-44 v2 under the one-time key and the
/// recipient's. The wrap carries exactly one `p` tag and the real time: relays filter by `since`, so a back-dated wrap
/// would never arrive. Nothing in the wrap comes from the inner event's author.
///
/// # Errors
/// Refuses inner events above [`SEAL_LIMIT`], recipients that are not on the curve, and
/// entropy that does not make a key.
pub fn seal(
    inner: &Event,
    recipient: &PublicKey,
    wrap: WrapKind,
    now_unix: u64,
    entropy: &Entropy,
) -> Result<Event, SealError> {
    let plaintext = event::print(inner);
    if plaintext.len() > SEAL_LIMIT {
        return Err(SealError::TooLarge { size: plaintext.len(), limit: SEAL_LIMIT });
    }
    let one_time = Keys::from_secret(&entropy.one_time_secret()).map_err(|_| SealError::Entropy)?;
    let key = nip44::conversation_key(&one_time, recipient).map_err(|_| SealError::Recipient)?;
    // Empty or too long is excluded above, so only memory can be lacking.
    let content = nip44::encrypt(&key, plaintext.as_bytes(), &entropy.nonce(), ExtendedLength::Refuse)
        .map_err(|_| SealError::TooLarge { size: plaintext.len(), limit: SEAL_LIMIT })?;
    let tags = Tags::from_list(alloc::vec![Tag::public_key(*recipient)]);
    Ok(one_time.sign_now(wrap.kind(), now_unix, tags, content, &entropy.aux()))
}
