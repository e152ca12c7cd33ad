//! The JSON-RPC errors with which a call ends when the server did not end it.
use alloc::format;
use alloc::string::String;
use contextvm_core::printable::Printable;
use contextvm_core::{envelope, object};
use serde_json::value::RawValue;

use super::Lost;
use super::json;

/// JSON-RPC code of every ending that this library makes, but for malformed messages.
pub const LOST_CODE: i64 = -32001;
/// JSON-RPC code for a message that is not JSON-RPC.
pub const MALFORMED_CODE: i64 = -32600;

/// Longest text of a relay in an error, characters.
const RELAY_TEXT: usize = 200;

/// Why a call ends, with what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending<'a> {
    NoReply {
        waited_ms: u64,
        retryable: bool,
    },
    NotSent {
        waited_ms: u64,
        relay: &'a str,
    },
    Closed {
        retryable: bool,
    },
    Busy {
        limit: usize,
        of: &'static str,
    },
    TooLarge {
        size: usize,
        limit: usize,
    },
    Malformed {
        what: &'a str,
    },
    /// `what` is a text of ours.
    Transfer {
        what: &'a str,
        retryable: bool,
    },
}

impl Ending<'_> {
    pub(super) const fn lost(&self) -> Lost {
        match self {
            Self::NoReply { .. } => Lost::NoReply,
            Self::NotSent { .. } => Lost::NotSent,
            Self::Closed { .. } => Lost::Closed,
            Self::Busy { .. } => Lost::Busy,
            Self::TooLarge { .. } => Lost::TooLarge,
            Self::Malformed { .. } => Lost::Malformed,
            Self::Transfer { .. } => Lost::Transfer,
        }
    }

    /// Prints the error under the application's id.
    pub(super) fn to_text(&self, id: &RawValue) -> String {
        let code = match self {
            Self::Malformed { .. } => MALFORMED_CODE,
            Self::NoReply { .. }
            | Self::NotSent { .. }
            | Self::Closed { .. }
            | Self::Busy { .. }
            | Self::TooLarge { .. }
            | Self::Transfer { .. } => LOST_CODE,
        };
        let data = json::raw(self.data());
        envelope::response_error(id, code, &self.message(), data.as_deref())
    }

    fn message(&self) -> String {
        match self {
            Self::NoReply { waited_ms, .. } => format!("no reply from the server within {waited_ms} ms"),
            Self::NotSent { relay, .. } => {
                format!("no relay took the request: {}", Printable::short(relay, RELAY_TEXT))
            }
            Self::Closed { .. } => String::from("the client was closed before the server replied"),
            Self::Busy { limit, of } => {
                format!("too many calls are waiting already: the limit is {limit} {of}")
            }
            Self::TooLarge { size, limit } => {
                format!("the request needs an event of {size} bytes: the limit is {limit} bytes")
            }
            Self::Malformed { what } => {
                format!("not a JSON-RPC message: {}", Printable::short(what, RELAY_TEXT))
            }
            Self::Transfer { what, .. } => format!("the transfer failed: {what}"),
        }
    }

    fn data(&self) -> String {
        match self {
            Self::NoReply { waited_ms, retryable } => {
                format!(r#"{{"reason":"no_reply","waitedMs":{waited_ms},"retryable":{retryable}}}"#)
            }
            Self::NotSent { waited_ms, relay } => {
                let relay = object::quote(&format!("{}", Printable::short(relay, RELAY_TEXT)));
                format!(r#"{{"reason":"not_sent","waitedMs":{waited_ms},"relay":{relay},"retryable":true}}"#)
            }
            Self::Closed { retryable } => format!(r#"{{"reason":"closed","retryable":{retryable}}}"#),
            Self::Busy { limit, .. } => format!(r#"{{"reason":"busy","limit":{limit},"retryable":true}}"#),
            Self::TooLarge { size, limit } => {
                format!(r#"{{"reason":"too_large","size":{size},"limit":{limit},"retryable":false}}"#)
            }
            Self::Malformed { .. } => String::from(r#"{"reason":"malformed","retryable":false}"#),
            Self::Transfer { what, retryable } => {
                let cause = object::quote(what);
                format!(r#"{{"reason":"transfer","cause":{cause},"retryable":{retryable}}}"#)
            }
        }
    }
}
