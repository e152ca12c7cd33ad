//! Gift wraps that nobody can open.
use contextvm::core::{WrapKind, event, kind};
use contextvm::crypto::{Entropy, seal};
use contextvm::runtime::clock::unix_now;
use nostr::event::{Event, Tag, Tags};

use crate::{Failure, SERVER, public_key};

/// A gift wrap with a true signature of a key that nobody saw before, whose content was sealed by another key, so that
/// its MAC is wrong: the dearest rubbish that costs its maker nothing but a signature.
pub(super) fn wrap(template: &Event) -> Result<String, Failure> {
    let (keys, content) = (contextvm::new_keys()?, template.content.clone());
    let tags = template.tags.clone();
    Ok(event::print(&keys.sign_event(kind::EPHEMERAL_GIFT_WRAP, unix_now(), tags, content, [7; 32])))
}

/// A gift wrap around about `size` bytes.
pub(super) fn template(size: usize) -> Result<Event, Failure> {
    let (keys, server) = (contextvm::new_keys()?, public_key(SERVER)?);
    let tags: Tags = [Tag::public_key(server)].into_iter().collect();
    let inner = keys.sign_event(kind::MESSAGE, unix_now(), tags, "x".repeat(size), [7; 32]);
    let entropy = Entropy::gather(getrandom::fill)?;
    Ok(seal(&inner, &server, WrapKind::Ephemeral, unix_now(), &entropy)?)
}
