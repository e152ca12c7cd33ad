//! Error answers that the face gives in the application's stead.
use contextvm_core::envelope;
use contextvm_engine::{DropReason, RequestKey};
use serde_json::value::RawValue;

/// Refusal by the transport: what the machine answers when it has no room itself.
const REFUSED: i64 = -32000;
/// JSON-RPC method not found.
const NO_SUCH_METHOD: i64 = -32601;
/// JSON-RPC internal error.
const INTERNAL: i64 = -32603;
/// JSON-RPC invalid request.
#[cfg(feature = "rmcp")]
const INVALID_REQUEST: i64 = -32600;

/// Prints the answer to a request that the application has no room for.
pub(crate) fn busy(key: &RequestKey) -> Option<String> {
    error(key, REFUSED, "Busy")
}

/// Prints the answer to a request of the application that was not sent to its caller.
pub(crate) fn unasked(id: &str, reason: DropReason) -> Option<String> {
    let id = RawValue::from_string(id.to_owned()).ok()?;
    let (code, message) = if reason == DropReason::Unsupported {
        (NO_SUCH_METHOD, "The client does not answer requests of a server")
    } else if reason == DropReason::Busy {
        (REFUSED, "Busy")
    } else {
        (INTERNAL, "The request could not be sent")
    };
    Some(envelope::response_error(&id, code, message, None))
}

/// Prints the answer to a request that the typed service cannot read.
#[cfg(feature = "rmcp")]
pub(crate) fn unreadable(key: &RequestKey) -> Option<String> {
    error(key, INVALID_REQUEST, "the request does not have the form of its method")
}

/// Prints the answer of a local caller to a question that it knows nothing about.
pub(crate) fn no_such_method(id: &RawValue) -> String {
    envelope::response_error(id, NO_SUCH_METHOD, "Method not found", None)
}

/// Prints the answer to a ping.
pub(crate) fn empty(id: &RawValue) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, id.get())
}

fn error(key: &RequestKey, code: i64, message: &str) -> Option<String> {
    let id = RawValue::from_string(format!("\"{}\"", key.id.to_hex())).ok()?;
    Some(envelope::response_error(&id, code, message, None))
}
