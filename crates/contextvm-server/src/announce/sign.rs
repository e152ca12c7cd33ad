//! Drafts become events.
use contextvm_announce::Unsigned;
use contextvm_crypto::Keys;
use contextvm_relay::PublishEvent;
use contextvm_runtime::StartError;
use nostr::event::Event;

/// Signs a draft.
pub(super) fn sign(keys: &Keys, draft: Unsigned) -> Result<Event, StartError> {
    let Unsigned { kind, created_at, tags, content } = draft;
    Ok(keys.sign_event(kind, created_at, tags, content, contextvm_runtime::random()?))
}

/// Prints an event for the relays.
pub(super) fn print(event: &Event) -> PublishEvent {
    PublishEvent { id: event.id, json: event.as_json().into() }
}
