//! Printing of JSON-RPC messages: exactly the known members, in the usual order.
use alloc::string::{String, ToString};

use serde_json::value::RawValue;

use crate::object::Printer;

/// Prints a request.
#[must_use]
pub fn request(id: &RawValue, method: &str, params: Option<&RawValue>) -> String {
    let mut out = start(method.len() + 64 + length(params));
    out.raw("id", Some(id)).string("method", method).raw("params", params);
    out.finish()
}

/// Prints a notification.
#[must_use]
pub fn notification(method: &str, params: Option<&RawValue>) -> String {
    let mut out = start(method.len() + 48 + length(params));
    out.string("method", method).raw("params", params);
    out.finish()
}

/// Prints a response; `result` must be an object for peers to accept it.
#[must_use]
pub fn response_result(id: &RawValue, result: &RawValue) -> String {
    let mut out = start(64 + result.get().len());
    out.raw("id", Some(id)).raw("result", Some(result));
    out.finish()
}

/// Prints an error response.
///
/// ```
/// use contextvm_core::envelope::response_error;
/// let id = serde_json::from_str("7")?;
/// assert_eq!(
///     response_error(id, -32000, "Unauthorized", None),
///     r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"Unauthorized"}}"#,
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[must_use]
pub fn response_error(id: &RawValue, code: i64, message: &str, data: Option<&RawValue>) -> String {
    let mut error = Printer::new(32 + message.len() + length(data));
    error.json("code", &code.to_string()).string("message", message).raw("data", data);
    let error = error.finish();
    let mut out = start(64 + error.len());
    out.raw("id", Some(id)).json("error", &error);
    out.finish()
}

fn length(json: Option<&RawValue>) -> usize {
    json.map_or(0, |json| json.get().len())
}

/// Starts a message with room for so many bytes.
pub(super) fn start(size: usize) -> Printer {
    let mut out = Printer::new(size);
    out.string("jsonrpc", "2.0");
    out
}
