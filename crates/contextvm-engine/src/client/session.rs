//! What is known of the server, and what follows for what is sent to it and taken from it.
use alloc::vec::Vec;
use contextvm_core::{PeerTags, Protection, WrapKind, tags};
use nostr::event::Tag;

use crate::{ClientConfig, DropReason, EncryptionMode, GiftWrapMode};

/// One server as this client has come to know it.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) tags: PeerTags,
    /// Anything of the server was heard.
    pub(super) heard: bool,
    /// The server was heard encrypted, so plaintext in its name is not believed any more.
    pub(super) floor: bool,
    /// The server sent a kind 21059, which proves that it reads them.
    ephemeral_seen: bool,
    /// A request with our flags was answered, and the server has not introduced itself anew since. That a relay took one does
    /// not say that the server was there to hear it.
    pub(super) announced: bool,
}

impl Session {
    pub(super) const fn knows_ephemeral(&self) -> bool {
        self.tags.ephemeral || self.ephemeral_seen
    }

    /// Chooses how the next message travels. A client that encrypts never falls back to plaintext.
    pub(super) const fn protection(&self, config: &ClientConfig) -> Protection {
        match (config.encryption, config.gift_wrap) {
            (EncryptionMode::Disabled, _) => Protection::Plain,
            (_, GiftWrapMode::Ephemeral) => Protection::Wrapped(WrapKind::Ephemeral),
            (_, GiftWrapMode::Persistent) => Protection::Wrapped(WrapKind::Persistent),
            (_, GiftWrapMode::Optional) if self.knows_ephemeral() => Protection::Wrapped(WrapKind::Ephemeral),
            (_, GiftWrapMode::Optional) => Protection::Wrapped(WrapKind::Persistent),
        }
    }

    /// Returns why an event that travelled so is not believed, if it is not.
    pub(super) const fn refusal(&self, config: &ClientConfig, protection: Protection) -> Option<DropReason> {
        match (protection, config.encryption, config.gift_wrap) {
            (Protection::Plain, EncryptionMode::Required, _) => Some(DropReason::Policy),
            (Protection::Plain, EncryptionMode::Optional, _) if self.floor => Some(DropReason::BelowFloor),
            (Protection::Wrapped(WrapKind::Persistent), _, GiftWrapMode::Ephemeral)
            | (Protection::Wrapped(WrapKind::Ephemeral), _, GiftWrapMode::Persistent) => {
                Some(DropReason::Policy)
            }
            (Protection::Plain, EncryptionMode::Optional | EncryptionMode::Disabled, _)
            | (Protection::Wrapped(_), _, _) => None,
        }
    }

    /// Notes how the server was heard; `true` when that is news.
    pub(super) const fn hear(&mut self, protection: Protection) -> bool {
        self.heard = true;
        match protection {
            Protection::Plain => false,
            Protection::Wrapped(wrap) => {
                let news = matches!(wrap, WrapKind::Ephemeral) && !self.ephemeral_seen;
                self.floor = true;
                self.ephemeral_seen = self.ephemeral_seen || matches!(wrap, WrapKind::Ephemeral);
                news
            }
        }
    }
}

/// The flags with which a client says what it understands, in wire order.
pub(super) fn flags(config: &ClientConfig) -> Vec<Tag> {
    let encryption = !matches!(config.encryption, EncryptionMode::Disabled);
    let ephemeral = encryption && !matches!(config.gift_wrap, GiftWrapMode::Persistent);
    [
        (encryption, tags::SUPPORT_ENCRYPTION),
        (ephemeral, tags::SUPPORT_ENCRYPTION_EPHEMERAL),
        (true, tags::SUPPORT_OVERSIZED_TRANSFER),
        (config.open_streams, tags::SUPPORT_OPEN_STREAM),
        (true, tags::SUPPORT_UNORDERED_STREAMS),
        (config.answer_server_requests, tags::SUPPORT_SERVER_REQUESTS),
    ]
    .into_iter()
    .filter(|(on, _)| *on)
    .map(|(_, name)| tags::flag(name))
    .collect()
}
