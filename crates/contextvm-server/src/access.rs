//! Access decisions that the application makes (who may call, what is open to all).
use std::pin::Pin;

use nostr::key::PublicKey;

/// A decision that takes time; `true` lets in.
pub type Answer<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// Asked by the server when its configuration says so. A panic, or no answer in time, means no.
pub trait AccessCallback: Send + Sync + 'static {
    /// Whether a key may call at all.
    fn key_allowed(&self, _key: PublicKey) -> Answer<'_> {
        Box::pin(core::future::ready(false))
    }

    /// Whether a capability is open to callers that are not otherwise allowed.
    fn capability_open<'a>(&'a self, _method: &'a str, _name: Option<&'a str>) -> Answer<'a> {
        Box::pin(core::future::ready(false))
    }
}
