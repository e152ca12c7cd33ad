//! Loss-free edits of one message: ids, progress tokens and `_meta` change, every other value keeps its text.
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::value::RawValue;

use crate::envelope::Envelope;
use crate::object::{self, Edit, Object};

/// `_meta` member: the caller's public key (CEP-16).
pub const CLIENT_PUBKEY: &str = "clientPubkey";
/// `_meta` member: the inner event id of the request.
pub const REQUEST_EVENT_ID: &str = "requestEventId";
/// `_meta` member, and member of `params` in `notifications/progress`: the progress token.
pub const PROGRESS_TOKEN: &str = "progressToken";
/// Member of `params` in `notifications/cancelled`: the request that is cancelled.
pub const REQUEST_ID: &str = "requestId";
/// `_meta` member: the request that a notification belongs to.
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// `_meta` member: the MCP revision of a message that needs no `initialize`.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

const META: &str = "_meta";

/// A set of edits to one message, applied at once by [`Rewrite::to_text`].
///
/// Arguments named `json` must be one JSON value each; they are not checked ([`object::quote`] makes one of a string).
///
/// ```
/// use contextvm_core::{Limits, envelope::Envelope, rewrite::{CLIENT_PUBKEY, Rewrite}};
/// let text = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
/// let message = Envelope::parse(text, &Limits::default())?;
/// assert_eq!(
///     Rewrite::of(&message).id(r#""e5""#).meta(CLIENT_PUBKEY, r#""79be""#).to_text(),
///     r#"{"jsonrpc":"2.0","id":"e5","method":"ping","params":{"_meta":{"clientPubkey":"79be"}}}"#,
/// );
/// # Ok::<(), contextvm_core::envelope::EnvelopeError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Rewrite<'a> {
    text: &'a str,
    id: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    new_id: Option<Cow<'a, str>>,
    in_params: Vec<Change<'a>>,
    in_meta: Vec<Change<'a>>,
}

/// A member name with its new JSON text, or `None` to remove it.
type Change<'a> = (&'a str, Option<Cow<'a, str>>);

impl<'a> Rewrite<'a> {
    /// Starts with no edits.
    pub const fn of(message: &Envelope<'a>) -> Self {
        Self {
            text: message.text(),
            id: message.id,
            params: message.params,
            new_id: None,
            in_params: Vec::new(),
            in_meta: Vec::new(),
        }
    }

    /// Sets the top-level `id`.
    pub fn id(mut self, json: impl Into<Cow<'a, str>>) -> Self {
        self.new_id = Some(json.into());
        self
    }

    /// Sets a member of `params`, which is created when absent.
    pub fn param(mut self, name: &'a str, json: impl Into<Cow<'a, str>>) -> Self {
        self.in_params.push((name, Some(json.into())));
        self
    }

    /// Sets a member of `params._meta`; both are created when absent.
    pub fn meta(mut self, name: &'a str, json: impl Into<Cow<'a, str>>) -> Self {
        self.in_meta.push((name, Some(json.into())));
        self
    }

    /// Removes a member of `params._meta` if it is there.
    pub fn without_meta(mut self, name: &'a str) -> Self {
        self.in_meta.push((name, None));
        self
    }

    /// Prints the message with all edits.
    #[must_use]
    pub fn to_text(&self) -> String {
        let params = self.edited_params();
        let (start, end) = (self.text.find('{').map_or(0, |at| at + 1), self.text.rfind('}'));
        let end = end.unwrap_or(self.text.len());
        let mut splices: Vec<(usize, usize, [&str; 3])> = Vec::with_capacity(2);
        if let Some(new) = &self.new_id {
            splices.push(match self.span(self.id) {
                Some((from, to)) => (from, to, ["", new, ""]),
                None => (start, start, [r#""id":"#, new, ","]),
            });
        }
        if let Some(new) = &params {
            splices.push(match self.span(self.params) {
                Some((from, to)) => (from, to, ["", new, ""]),
                None => (end, end, [r#","params":"#, new, ""]),
            });
        }
        splices.sort_unstable_by_key(|splice| splice.0);
        splice(self.text, &splices)
    }

    /// The new text of `params`, or `None` when it stays as it is.
    fn edited_params(&self) -> Option<String> {
        let old = self.params.and_then(|params| Object::parse(params.get()).ok());
        let old_meta = old.as_ref().and_then(|params| params.get(META));
        let meta = edited(
            old_meta.and_then(|meta| Object::parse(meta.get()).ok()),
            &self.in_meta,
        );
        if meta.is_none() && self.in_params.is_empty() {
            return None;
        }
        let mut params = old.map(Object::into_edit).unwrap_or_default();
        apply(&mut params, &self.in_params);
        if let Some(meta) = &meta {
            params.set(META, meta.to_text());
        }
        Some(params.to_text())
    }

    /// Where a part lies in the text.
    fn span(&self, part: Option<&RawValue>) -> Option<(usize, usize)> {
        let part = part?.get();
        let from = part.as_ptr().addr().checked_sub(self.text.as_ptr().addr())?;
        let to = from + part.len();
        (self.text.get(from..to)? == part).then_some((from, to))
    }
}

/// Applies changes to an object that may be absent; `None` when nothing changes.
fn edited<'b>(old: Option<Object<'b>>, changes: &'b [Change<'_>]) -> Option<Edit<'b>> {
    let mut edit = old.map(Object::into_edit).unwrap_or_default();
    apply(&mut edit, changes).then_some(edit)
}

fn apply<'b>(edit: &mut Edit<'b>, changes: &'b [Change<'_>]) -> bool {
    let mut changed = false;
    for (name, json) in changes {
        changed |= match json {
            Some(json) => {
                edit.set(*name, json.as_ref());
                true
            }
            None => edit.remove(name),
        };
    }
    changed
}

/// Replaces ranges, which come in order and do not overlap.
fn splice(text: &str, splices: &[(usize, usize, [&str; 3])]) -> String {
    let added: usize = splices.iter().flat_map(|splice| splice.2).map(str::len).sum();
    let mut out = String::with_capacity(text.len() + added);
    let mut kept_from = 0;
    for (from, to, new) in splices {
        out.push_str(text.get(kept_from..*from).unwrap_or_default());
        out.extend(new.iter().copied());
        kept_from = *to;
    }
    out.push_str(text.get(kept_from..).unwrap_or_default());
    out
}

/// Prints a message with another top-level `id`.
#[must_use]
pub fn with_id(message: &Envelope<'_>, id_json: &str) -> String {
    Rewrite::of(message).id(id_json).to_text()
}

/// Prints a message with another `params._meta.progressToken`.
#[must_use]
pub fn with_progress_token(message: &Envelope<'_>, token_json: &str) -> String {
    Rewrite::of(message).meta(PROGRESS_TOKEN, token_json).to_text()
}

/// Prints a `notifications/progress` with another `params.progressToken`.
#[must_use]
pub fn with_notified_token(message: &Envelope<'_>, token_json: &str) -> String {
    Rewrite::of(message).param(PROGRESS_TOKEN, token_json).to_text()
}

/// Prints a `notifications/cancelled` with another `params.requestId`.
#[must_use]
pub fn with_cancelled_request_id(message: &Envelope<'_>, id_json: &str) -> String {
    Rewrite::of(message).param(REQUEST_ID, id_json).to_text()
}

/// Prints a message with another `_meta` subscription id.
#[must_use]
pub fn with_subscription_id(message: &Envelope<'_>, id_json: &str) -> String {
    Rewrite::of(message).meta(SUBSCRIPTION_ID, id_json).to_text()
}

/// Returns `params.<name>`.
#[must_use]
pub fn param<'a>(params: Option<&'a RawValue>, name: &str) -> Option<&'a RawValue> {
    object::member(params?, name)
}

/// Returns `params._meta.<name>`.
#[must_use]
pub fn meta_member<'a>(params: Option<&'a RawValue>, name: &str) -> Option<&'a RawValue> {
    object::member(param(params, META)?, name)
}

/// Returns `params._meta.progressToken` of a request.
#[must_use]
pub fn progress_token(params: Option<&RawValue>) -> Option<&RawValue> {
    meta_member(params, PROGRESS_TOKEN)
}

/// Returns `params.progressToken` of a `notifications/progress`.
#[must_use]
pub fn notified_token(params: Option<&RawValue>) -> Option<&RawValue> {
    param(params, PROGRESS_TOKEN)
}

/// Returns `params.requestId` of a `notifications/cancelled`.
#[must_use]
pub fn cancelled_request_id(params: Option<&RawValue>) -> Option<&RawValue> {
    param(params, REQUEST_ID)
}

/// Returns `params._meta."io.modelcontextprotocol/subscriptionId"`.
#[must_use]
pub fn subscription_id(params: Option<&RawValue>) -> Option<&RawValue> {
    meta_member(params, SUBSCRIPTION_ID)
}

/// Returns `params._meta."io.modelcontextprotocol/protocolVersion"`.
#[must_use]
pub fn protocol_version(params: Option<&RawValue>) -> Option<&RawValue> {
    meta_member(params, PROTOCOL_VERSION)
}

/// Returns an id or token as plain text, so that `5` and `"5"` compare equal within one peer.
#[must_use]
pub fn plain_text(id_or_token: &RawValue) -> Cow<'_, str> {
    object::string(id_or_token).unwrap_or(Cow::Borrowed(id_or_token.get()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    fn rewritten(text: &str, edit: impl for<'a> FnOnce(Rewrite<'a>) -> Rewrite<'a>) -> String {
        let message = Envelope::parse(text, &Limits::default()).unwrap();
        let out = edit(Rewrite::of(&message)).to_text();
        assert!(Envelope::parse(&out, &Limits::default()).is_ok(), "{out}");
        out
    }

    #[test]
    fn no_edit_changes_no_byte() {
        let text = " { \"id\" : 1.0e0 ,\"x\":[ -0 ]} ".replace("1.0e0", "-0");
        let text = text.replace(
            "\"x\"",
            "\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{ \"a\" : 1.0 },\"x\"",
        );
        assert_eq!(rewritten(&text, |edit| edit), text);
        assert_eq!(rewritten(&text, |edit| edit.without_meta(CLIENT_PUBKEY)), text);
    }

    #[test]
    fn an_id_is_replaced_wherever_it_stands() {
        let table = [
            (
                r#"{"jsonrpc":"2.0","method":"m","id":7}"#,
                r#"{"jsonrpc":"2.0","method":"m","id":"n"}"#,
            ),
            (
                r#"{ "id" : "\u0041" ,"jsonrpc":"2.0","result":{"id":7}}"#,
                r#"{ "id" : "n" ,"jsonrpc":"2.0","result":{"id":7}}"#,
            ),
            (
                r#" {"jsonrpc":"2.0","error":{"code":1,"message":"{"}}"#,
                r#" {"id":"n","jsonrpc":"2.0","error":{"code":1,"message":"{"}}"#,
            ),
        ];
        for (text, expected) in table {
            assert_eq!(rewritten(text, |edit| edit.id("\"n\"")), expected);
            let message = Envelope::parse(text, &Limits::default()).unwrap();
            assert_eq!(with_id(&message, "\"n\""), expected);
        }
    }

    #[test]
    fn meta_is_created_merged_and_stripped() {
        let table = [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"m"} "#,
                r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"clientPubkey":"k"}}} "#,
            ),
            (
                r#"{"jsonrpc":"2.0","params":{ "a":1.0 },"id":1,"method":"m"}"#,
                r#"{"jsonrpc":"2.0","params":{"a":1.0,"_meta":{"clientPubkey":"k"}},"id":1,"method":"m"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","params":{"_meta":{"x":-0,"clientPubkey":"forged","requestEventId":1},"a":1},"id":1,"method":"m"}"#,
                r#"{"jsonrpc":"2.0","params":{"_meta":{"x":-0,"clientPubkey":"k"},"a":1},"id":1,"method":"m"}"#,
            ),
        ];
        for (text, expected) in table {
            assert_eq!(
                rewritten(text, |edit| edit
                    .without_meta(REQUEST_EVENT_ID)
                    .meta(CLIENT_PUBKEY, "\"k\"")),
                expected
            );
        }
        let text = r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"clientPubkey":"forged"}}}"#;
        assert_eq!(
            rewritten(text, |edit| edit.without_meta(CLIENT_PUBKEY)),
            r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{}}}"#
        );
    }

    #[test]
    fn id_token_and_meta_change_in_one_go() {
        let text = r#"{"params":{"_meta":{"progressToken":3}},"id":5,"method":"m","jsonrpc":"2.0"}"#;
        assert_eq!(
            rewritten(text, |edit| edit
                .id("\"e\"")
                .meta(PROGRESS_TOKEN, "\"e\"")
                .meta(REQUEST_EVENT_ID, "\"e\"")),
            r#"{"params":{"_meta":{"progressToken":"e","requestEventId":"e"}},"id":"e","method":"m","jsonrpc":"2.0"}"#
        );
    }

    #[test]
    fn correlations_of_notifications_are_read_and_replaced() {
        let limits = Limits::default();
        let text = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"a","progress":1.0}}"#;
        let message = Envelope::parse(text, &limits).unwrap();
        assert_eq!(notified_token(message.params).map(RawValue::get), Some("\"a\""));
        assert_eq!(progress_token(message.params).map(RawValue::get), None);
        assert_eq!(with_notified_token(&message, "3"), text.replace("\"a\"", "3"));

        let text = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
        let message = Envelope::parse(text, &limits).unwrap();
        assert_eq!(cancelled_request_id(message.params).map(RawValue::get), Some("5"));
        assert_eq!(
            with_cancelled_request_id(&message, "\"e\""),
            text.replace('5', "\"e\"")
        );

        let text = r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"s","io.modelcontextprotocol/protocolVersion":"v","progressToken":9}}}"#;
        let message = Envelope::parse(text, &limits).unwrap();
        assert_eq!(subscription_id(message.params).map(RawValue::get), Some("\"s\""));
        assert_eq!(protocol_version(message.params).map(RawValue::get), Some("\"v\""));
        assert_eq!(progress_token(message.params).map(RawValue::get), Some("9"));
        assert_eq!(with_subscription_id(&message, "5"), text.replace("\"s\"", "5"));
        assert_eq!(with_progress_token(&message, "10"), text.replace('9', "10"));
        assert!(subscription_id(None).is_none());
    }

    #[test]
    fn a_token_compares_by_its_text_within_one_peer() {
        let raw = |json: &str| RawValue::from_string(json.into()).unwrap();
        assert_eq!(plain_text(&raw("5")), plain_text(&raw("\"\\u0035\"")));
        assert_ne!(plain_text(&raw("5")), plain_text(&raw("\"05\"")));
    }
}
