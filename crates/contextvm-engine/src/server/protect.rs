//! How what a server sends is protected.
use contextvm_core::{Protection, WrapKind};
use nostr::key::PublicKey;

use super::ServerMachine;
use crate::{EncryptionMode, GiftWrapMode};

impl ServerMachine {
    /// The protection of what answers a request: that of the request, in the best wrap the caller is known to open.
    pub(super) fn mirrored(&self, to: &PublicKey, asked: Protection) -> Protection {
        match asked {
            Protection::Plain => Protection::Plain,
            Protection::Wrapped(wrap) => Protection::Wrapped(self.wrap(to, wrap)),
        }
    }

    /// The protection of what answers nothing: encrypted as soon as the caller was encrypted once.
    pub(super) fn floor(&self, to: &PublicKey) -> Protection {
        let was_encrypted = self.sessions.get(to).is_some_and(|session| session.floor.is_encrypted());
        match self.config.encryption {
            EncryptionMode::Disabled => Protection::Plain,
            EncryptionMode::Optional if !was_encrypted => Protection::Plain,
            EncryptionMode::Optional | EncryptionMode::Required => {
                Protection::Wrapped(self.wrap(to, WrapKind::Persistent))
            }
        }
    }

    /// The protection of what is said to somebody who has no session.
    pub(super) fn unmet(&self, asked: Protection) -> Protection {
        match asked {
            Protection::Plain => Protection::Plain,
            Protection::Wrapped(wrap) => Protection::Wrapped(self.fixed_wrap().unwrap_or(wrap)),
        }
    }

    fn wrap(&self, to: &PublicKey, otherwise: WrapKind) -> WrapKind {
        let ephemeral = self.sessions.get(to).is_some_and(|session| session.ephemeral);
        self.fixed_wrap().unwrap_or(if ephemeral { WrapKind::Ephemeral } else { otherwise })
    }

    const fn fixed_wrap(&self) -> Option<WrapKind> {
        match self.config.gift_wrap {
            GiftWrapMode::Optional => None,
            GiftWrapMode::Ephemeral => Some(WrapKind::Ephemeral),
            GiftWrapMode::Persistent => Some(WrapKind::Persistent),
        }
    }
}
