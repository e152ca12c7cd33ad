//! The messages that a bridge writes itself.
use std::time::Duration;

use contextvm_core::envelope;
use contextvm_core::object::{Edit, quote};
use serde_json::value::RawValue;

/// JSON-RPC: the method is not known.
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
/// The general error of MCP servers.
pub(crate) const FAILED: i64 = -32000;
/// A deadline passed.
pub(crate) const TIMED_OUT: i64 = -32001;
/// JSON-RPC: not a valid request.
pub(crate) const INVALID_REQUEST: i64 = -32600;

/// Why a request ends without the other side's answer: code, words, and `data` for programs.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    code: i64,
    message: String,
    data: Edit<'static>,
}

impl Failure {
    pub(crate) fn new(code: i64, reason: &str, message: impl Into<String>) -> Self {
        let mut data = Edit::new();
        data.set_string("reason", reason);
        Self { code, message: message.into(), data }
    }

    pub(crate) fn with_text(mut self, key: &'static str, value: &str) -> Self {
        self.data.set_string(key, value);
        self
    }

    pub(crate) fn with_json(mut self, key: &'static str, json: String) -> Self {
        self.data.set(key, json);
        self
    }

    pub(crate) fn with_time(self, key: &'static str, time: Duration) -> Self {
        self.with_json(key, time.as_millis().to_string())
    }

    /// Prints the answer to the request with this id, given as JSON text.
    pub(crate) fn answer(&self, id: &RawValue) -> String {
        let data = raw(self.data.to_text());
        envelope::response_error(id, self.code, &self.message, data.as_deref())
    }

    /// Prints the answer to the request with this id, given as plain text.
    pub(crate) fn answer_to(&self, id: &str) -> String {
        raw(quote(id)).map_or_else(String::new, |id| self.answer(&id))
    }
}

/// Makes a raw value of JSON text that this crate printed.
pub(crate) fn raw(json: String) -> Option<Box<RawValue>> {
    RawValue::from_string(json).ok()
}

/// Prints the answer `{}`.
pub(crate) fn empty_result(id: &RawValue) -> String {
    raw("{}".to_owned()).map_or_else(String::new, |result| envelope::response_result(id, &result))
}
