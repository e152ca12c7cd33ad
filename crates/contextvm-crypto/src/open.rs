//! Opening: from an event as a relay sent it to the proof that it may be believed.
use contextvm_core::{Limits, Opened, Protection, WrapKind, event};
use nostr::event::Event;
use nostr::key::PublicKey;

use crate::error::OpenError;
use crate::keys::Keys;
use crate::nip44;

/// Opens a gift wrap and checks the event inside it: kind 25910, addressed to us alone, fresh, id and signature true.
///
/// The *outer* signature is deliberately not required. The wrap is signed by a throw-away key that anybody can make, so
/// it says nothing about the caller; the MAC already binds the content to `wrap.pubkey`, and the inner signature names
/// the caller. Checking it would cost 25 µs per event and protect nothing that is used later, with one exception to
/// keep in mind: **`wrap.id` is a claim, not a hash**, until [`Event::verify`] was called. Never mark an outer id as
/// seen before this function succeeded, and never key work on it alone.
///
/// Memory is bounded by about four times `limits.event`.
///
/// # Errors
/// Returns the first check that failed. Sizes and form come first, so that garbage costs no curve arithmetic.
pub fn open(wrap: &Event, keys: &Keys, now_unix: u64, limits: &Limits) -> Result<Opened, OpenError> {
    let kind = wrap.kind.as_u16();
    let wrap_kind = WrapKind::from_kind(kind).ok_or(OpenError::NotAWrap(kind))?;
    let payload = nip44::Payload::decode(bounded(&wrap.content, limits)?, limits.event)?;
    let key = nip44::conversation_key(keys, &wrap.pubkey)?;
    let plaintext = payload.decrypt(&key)?;
    let inner = core::str::from_utf8(&plaintext).ok().and_then(event::read).ok_or(OpenError::NotAnEvent)?;
    let protection = Protection::Wrapped(wrap_kind);
    Ok(Opened::check(inner, protection, wrap.id, &keys.public_key(), now_unix, limits.age_window)?)
}

/// Checks an event that came in clear, with the same rules as the inner event of a gift wrap.
///
/// # Errors
/// Returns the first check that failed, cheapest first.
pub fn open_plain(event: Event, me: &PublicKey, now_unix: u64, limits: &Limits) -> Result<Opened, OpenError> {
    bounded(&event.content, limits)?;
    let id = event.id;
    Ok(Opened::check(event, Protection::Plain, id, me, now_unix, limits.age_window)?)
}

fn bounded<'a>(content: &'a str, limits: &Limits) -> Result<&'a str, OpenError> {
    if content.len() > limits.event {
        return Err(OpenError::TooLarge { size: content.len(), limit: limits.event });
    }
    Ok(content)
}
