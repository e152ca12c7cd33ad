//! Broadcasts of the application: one notification, copied to one session after the other as the outputs are drained.
use alloc::string::String;

use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::{Now, object, rewrite};
use nostr::key::PublicKey;

use super::ServerMachine;
use super::outbound::subject;
use crate::DropReason;

/// Broadcasts that may be under way at once.
const CASTS: usize = 64;

/// One broadcast under way.
#[derive(Clone, Debug)]
pub(super) struct Cast {
    message: String,
    /// Only to subscribers of this resource.
    uri: Option<String>,
    now: Now,
    last: Option<PublicKey>,
}

impl ServerMachine {
    pub(super) fn broadcast(&mut self, message: String, now: Now) {
        if let Err(reason) = self.start_cast(message, now) {
            self.drop(reason);
        }
    }

    fn start_cast(&mut self, message: String, now: Now) -> Result<(), DropReason> {
        let parsed = Envelope::parse(&message, &self.own).map_err(|_| DropReason::Malformed)?;
        if parsed.kind != MessageKind::Notification {
            return Err(DropReason::Unsupported);
        }
        if parsed.extra > 0 {
            return self.start_cast(parsed.to_exact_text(), now);
        }
        if let Some(id) = subject(&parsed)? {
            let key = self.routes.key_of(id).ok_or(DropReason::UnknownRequest)?;
            return self.correlate(key, &parsed, now);
        }
        if self.casts.len() >= CASTS {
            return Err(DropReason::Busy);
        }
        let is_update = parsed.method.as_deref() == Some("notifications/resources/updated");
        let uri = rewrite::param(parsed.params, "uri").filter(|_| is_update);
        let uri = uri.and_then(object::string).map(|uri| uri.into_owned());
        if is_update && uri.is_none() {
            return Err(DropReason::Malformed);
        }
        self.casts.push_back(Cast { message, uri, now, last: None });
        Ok(())
    }

    /// Makes the next copy of the oldest broadcast; returns `false` when none is under way.
    pub(super) fn cast_one(&mut self) -> bool {
        let Some(cast) = self.casts.front_mut() else { return false };
        let uri = cast.uri.as_deref();
        let next = self.sessions.next_where(cast.last, |session| {
            session.initialised && session.member && uri.is_none_or(|uri| session.is_subscribed(uri))
        });
        cast.last = next;
        let (message, now) = (cast.message.clone(), cast.now);
        let sent = match next {
            Some(caller) => self.publish_other(caller, self.floor(&caller), None, None, message, now),
            None => {
                self.casts.pop_front();
                return true;
            }
        };
        if let Err(reason) = sent {
            self.drop(reason);
        }
        true
    }
}
