//! What is known of the server, and what follows for what is sent to it and taken from it.
use alloc::vec::Vec;
use core::time::Duration;

use contextvm_core::{Now, PeerTags, Protection, WrapKind, tags};
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
    /// When a request was answered last, since one with our flags was and the server has not introduced itself anew. That a
    /// relay took one does not say that the server was there to hear it.
    announced: Option<Now>,
}

impl Session {
    /// Whether the server knows what we take.
    pub(super) const fn is_announced(&self) -> bool {
        self.announced.is_some()
    }

    /// The server has answered a request, with our flags or without.
    pub(super) fn answered(&mut self, flagged: bool, now: Now) {
        if flagged || self.is_announced() {
            self.announced = Some(now);
        }
    }

    /// The server does not know what we take, or soon will not.
    pub(super) const fn unannounce(&mut self) {
        self.announced = None;
    }

    /// The server has forgotten us: it is told who we are before anything large.
    pub(super) const fn meet_anew(&mut self) {
        (self.announced, self.heard) = (None, false);
    }

    /// Servers forget whom they have not heard for long: meets them anew when no request was answered for `patience`, by either
    /// clock, since one of them stands still while a machine sleeps.
    pub(super) fn grow_old(&mut self, patience: Duration, now: Now) {
        let is_old = |at: Now| {
            at.mono.after(patience) <= now.mono || at.unix.saturating_add(patience.as_secs()) <= now.unix
        };
        if self.announced.is_some_and(is_old) {
            self.meet_anew();
        }
    }

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
