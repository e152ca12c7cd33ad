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
        /// Seconds by which our clock is ahead of the relays', if that may be the reason.
        clock_ahead: Option<i64>,
    },
    NotSent {
        waited_ms: u64,
        relay: &'a str,
        clock_ahead: Option<i64>,
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
            Self::NoReply { waited_ms, clock_ahead, .. } => {
                format!("no reply from the server within {waited_ms} ms{}", off_words(*clock_ahead))
            }
            Self::NotSent { relay, clock_ahead, .. } => {
                let relay = Printable::short(relay, RELAY_TEXT);
                format!("no relay took the request: {relay}{}", off_words(*clock_ahead))
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
            Self::NoReply { waited_ms, retryable, clock_ahead } => {
                let off = off_member(*clock_ahead);
                format!(r#"{{"reason":"no_reply","waitedMs":{waited_ms}{off},"retryable":{retryable}}}"#)
            }
            Self::NotSent { waited_ms, relay, clock_ahead } => {
                let relay = object::quote(&format!("{}", Printable::short(relay, RELAY_TEXT)));
                let off = off_member(*clock_ahead);
                format!(
                    r#"{{"reason":"not_sent","waitedMs":{waited_ms},"relay":{relay}{off},"retryable":true}}"#
                )
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

/// Says how wrong our clock is, behind what went wrong.
fn off_words(clock_ahead: Option<i64>) -> String {
    let Some(off) = clock_ahead else { return String::new() };
    let which = if off > 0 { "ahead of" } else { "behind" };
    format!("; the clock of this host is {} s {which} the relays'", off.unsigned_abs())
}

fn off_member(clock_ahead: Option<i64>) -> String {
    clock_ahead.map_or_else(String::new, |off| format!(r#","clockAheadSeconds":{off}"#))
}
