//! Loss-free edits of one message: ids, progress tokens and `_meta` change, every other value keeps its text.
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::value::RawValue;

use crate::envelope::{Envelope, Params};
use crate::object::{self, Object, Printer, print, visit};

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
    inside: Params<'a>,
    meta_beside: Option<&'a RawValue>,
    new_id: Option<Cow<'a, str>>,
    in_params: Vec<(&'a str, Cow<'a, str>)>,
    in_meta: Vec<Change<'a>>,
}

/// A member name with its new JSON text, or `None` to remove it.
type Change<'a> = (&'a str, Option<Cow<'a, str>>);

impl<'a> Rewrite<'a> {
    /// Starts with no edits.
    pub fn of(message: &Envelope<'a>) -> Self {
        Self {
            text: message.text(),
            id: message.id,
            inside: message.inside.clone(),
            meta_beside: message.meta_beside,
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
        self.in_params.push((name, json.into()));
        self
    }

    /// Sets a member of `params._meta`; both are created when absent.
    pub fn meta(mut self, name: &'a str, json: impl Into<Cow<'a, str>>) -> Self {
        self.in_meta.push((name, Some(json.into())));
        self
    }

    /// Removes a member of `params._meta`, and of a `_meta` beside `params` (where CEP-16 draws it), if it is there.
    pub fn without_meta(mut self, name: &'a str) -> Self {
        self.in_meta.push((name, None));
        self
    }

    /// Prints the message with all edits.
    #[must_use]
    pub fn to_text(&self) -> String {
        let start = self.text.find('{').map_or(0, |at| at + 1);
        let end = self.text.rfind('}').unwrap_or(self.text.len());
        let mut splices = Vec::with_capacity(4);
        if let Some(new) = &self.new_id {
            splices.push(match self.span(self.id) {
                Some((from, to)) => (from, to, Cow::Borrowed(new.as_ref())),
                None => (start, start, Cow::Owned(["\"id\":", new, ","].concat())),
            });
        }
        self.splice_params(end, &mut splices);
        if let Some((from, to)) = self.span(self.meta_beside) {
            let removals = self.in_meta.iter().filter(|change| change.1.is_none()).cloned();
            if let Some(new) = changed(self.meta_beside.map(RawValue::get), &removals.collect::<Vec<_>>()) {
                splices.push((from, to, Cow::Owned(new)));
            }
        }
        splices.sort_by_key(|splice| splice.0);
        splice(self.text, &splices)
    }

    /// Adds what changes `params`; `end` is where the message's last bracket stands.
    fn splice_params<'s>(&'s self, end: usize, splices: &mut Vec<Splice<'s>>) {
        let changes = self.changes_to_params();
        if changes.is_empty() {
            return;
        }
        let Some((_, to)) = self.span(self.inside.object) else {
            splices.push((end, end, Cow::Owned([",\"params\":", &printed(&changes)].concat())));
            return;
        };
        let mut added = Vec::new();
        for (name, json) in changes {
            match self.span(self.inside.get(name)) {
                Some((from, to)) => splices.push((from, to, json)),
                None => added.push((name, json)),
            }
        }
        let added = printed(&added);
        if let Some(members) = added.get(1..added.len() - 1).filter(|members| !members.is_empty()) {
            let comma = if self.inside.is_empty() { "" } else { "," };
            splices.push((to - 1, to - 1, Cow::Owned([comma, members].concat())));
        }
    }

    /// The members of `params` that get a new value, each once.
    fn changes_to_params(&self) -> Vec<(&str, Cow<'_, str>)> {
        let mut changes: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(self.in_params.len() + 1);
        for (name, json) in &self.in_params {
            changes.retain(|change| change.0 != *name);
            changes.push((name, Cow::Borrowed(json)));
        }
        let given = changes.iter().find(|change| change.0 == META).map(|change| change.1.as_ref());
        if let Some(new) = changed(given.or(self.inside.meta.map(RawValue::get)), &self.in_meta) {
            changes.retain(|change| change.0 != META);
            changes.push((META, Cow::Owned(new)));
        }
        changes
    }

    /// Where a part lies in the text.
    fn span(&self, part: Option<&RawValue>) -> Option<(usize, usize)> {
        let part = part?.get();
        let from = part.as_ptr().addr().checked_sub(self.text.as_ptr().addr())?;
        let to = from + part.len();
        (self.text.get(from..to)? == part).then_some((from, to))
    }
}

/// A range of the message and the text that takes its place.
type Splice<'s> = (usize, usize, Cow<'s, str>);

fn printed(members: &[(&str, Cow<'_, str>)]) -> String {
    print(members.iter().map(|(name, json)| (*name, json.as_ref())))
}

/// Prints an object after all changes; `None` when there is nothing to change.
///
/// A member that only gets another value keeps its place; one that is new, or removed and set again, comes to the end.
fn changed(object: Option<&str>, changes: &[Change<'_>]) -> Option<String> {
    if changes.is_empty() {
        return None;
    }
    let last = |key: &str| changes.iter().rposition(|change| change.0 == key);
    let removed = |key: &str| changes.iter().any(|change| change.0 == key && change.1.is_none());
    let mut out = Printer::new(object.map_or(0, str::len) + 64);
    let (mut in_place, mut has_changed) = (Vec::new(), false);
    // What is no object has no members.
    let _ = visit(object.unwrap_or_default(), |key, value| {
        let change = last(&key).and_then(|last| changes.get(last));
        let json = match change {
            None => value.get(),
            Some((name, Some(json))) if !removed(name) => {
                in_place.push(*name);
                json
            }
            Some(_) => {
                has_changed = true;
                return;
            }
        };
        out.json(&key, json);
    });
    for (at, (name, json)) in changes.iter().enumerate() {
        if let Some(json) = json
            && last(name) == Some(at)
            && !in_place.contains(name)
        {
            has_changed = true;
            out.json(name, json);
        }
    }
    (has_changed || !in_place.is_empty()).then(|| out.finish())
}

/// Replaces ranges, which come in order and do not overlap.
fn splice(text: &str, splices: &[Splice<'_>]) -> String {
    let added: usize = splices.iter().map(|splice| splice.2.len()).sum();
    let mut out = String::with_capacity(text.len() + added);
    let mut kept_from = 0;
    for (from, to, new) in splices {
        out.push_str(text.get(kept_from..*from).unwrap_or_default());
        out.push_str(new);
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

/// Prints the answer to a `subscriptions/listen` with another subscription id in `result._meta`, if it names one there.
#[must_use]
pub fn with_ended_subscription<'a>(message: &Envelope<'a>, id_json: &str) -> Cow<'a, str> {
    let edited = message.result.and_then(|result| {
        let mut result = Object::parse(result.get()).ok()?.into_edit();
        let mut meta = Object::parse(result.get(META)?).ok()?.into_edit();
        meta.get(SUBSCRIPTION_ID)?;
        meta.set(SUBSCRIPTION_ID, id_json);
        let meta = meta.to_text();
        result.set(META, meta);
        let mut whole = Object::parse(message.text()).ok()?.into_edit();
        whole.set("result", result.to_text());
        Some(whole.to_text())
    });
    edited.map_or(Cow::Borrowed(message.text()), Cow::Owned)
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
        let text =
            text.replace("\"x\"", "\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{ \"a\" : 1.0 },\"x\"");
        assert_eq!(rewritten(&text, |edit| edit), text);
        assert_eq!(rewritten(&text, |edit| edit.without_meta(CLIENT_PUBKEY)), text);
    }

    #[test]
    fn an_id_is_replaced_wherever_it_stands() {
        let table = [
            (r#"{"jsonrpc":"2.0","method":"m","id":7}"#, r#"{"jsonrpc":"2.0","method":"m","id":"n"}"#),
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
                r#"{"jsonrpc":"2.0","params":{ "a":1.0 ,"_meta":{"clientPubkey":"k"}},"id":1,"method":"m"}"#,
            ),
            (
                r#"{"jsonrpc":"2.0","params":{"_meta":{"x":-0,"clientPubkey":"forged","requestEventId":1},"a":1},"id":1,"method":"m"}"#,
                r#"{"jsonrpc":"2.0","params":{"_meta":{"x":-0,"clientPubkey":"k"},"a":1},"id":1,"method":"m"}"#,
            ),
        ];
        for (text, expected) in table {
            assert_eq!(
                rewritten(text, |edit| edit.without_meta(REQUEST_EVENT_ID).meta(CLIENT_PUBKEY, "\"k\"")),
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
    fn what_is_removed_from_meta_is_removed_beside_params_too() {
        let text = r#"{"jsonrpc":"2.0","id":1,"_meta":{"clientPubkey":"forged", "x" : 1},"method":"m"}"#;
        assert_eq!(
            rewritten(text, |edit| edit.without_meta(CLIENT_PUBKEY).meta(CLIENT_PUBKEY, "\"k\"")),
            r#"{"jsonrpc":"2.0","id":1,"_meta":{"x":1},"method":"m","params":{"_meta":{"clientPubkey":"k"}}}"#
        );
        assert_eq!(rewritten(text, |edit| edit.without_meta(REQUEST_EVENT_ID)), text);
        let no_object = r#"{"jsonrpc":"2.0","id":1,"_meta":["clientPubkey"],"method":"m"}"#;
        assert_eq!(rewritten(no_object, |edit| edit.without_meta(CLIENT_PUBKEY)), no_object);
    }

    #[test]
    fn only_the_named_members_of_params_change_their_text() {
        let text =
            r#"{"jsonrpc":"2.0","method":"m","params":{ "b" : [ 1 ], "_meta" : { "x" : 1 } , "a" : 2 }}"#;
        assert_eq!(
            rewritten(text, |edit| edit.param("a", "3").param("c", "4").param("a", "5").meta("y", "6")),
            r#"{"jsonrpc":"2.0","method":"m","params":{ "b" : [ 1 ], "_meta" : {"x":1,"y":6} , "a" : 5 ,"c":4}}"#
        );
        let empty = r#"{"jsonrpc":"2.0","method":"m","params":{ }}"#;
        assert_eq!(rewritten(empty, |edit| edit.param("a", "3")), empty.replace("{ }", "{ \"a\":3}"));
        assert_eq!(
            rewritten(empty, |edit| edit.param(META, r#"{"a":1}"#).meta("b", "2")),
            empty.replace("{ }", r#"{ "_meta":{"a":1,"b":2}}"#)
        );
    }

    #[test]
    fn params_with_many_members_are_edited_alike() {
        for (before, after) in [(0, 40), (15, 1), (16, 0), (17, 0), (40, 3)] {
            let some = |from: usize, count: usize| -> String {
                (from..from + count).map(|n| alloc::format!("\"m{n}\":{n},")).collect()
            };
            let (head, tail) = (some(0, before), some(100, after));
            let text = alloc::format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{head}"_meta":{{"progressToken":1}},"name":"n",{tail}"z":0}}}}"#
            );
            let message = Envelope::parse(&text, &Limits::default()).unwrap();
            assert_eq!(message.param("z").map(RawValue::get), Some("0"));
            assert_eq!(message.param("name").map(RawValue::get), Some("\"n\""));
            assert!(message.param("nothing").is_none());
            assert_eq!(
                rewritten(&text, |edit| edit.meta(PROGRESS_TOKEN, "2").param("z", "3").param("new", "4")),
                text.replace("Token\":1", "Token\":2").replace("\"z\":0", "\"z\":3,\"new\":4")
            );
        }
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
        assert_eq!(with_notified_token(&message, "3"), text.replace("\"a\"", "3"));

        let text = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
        let message = Envelope::parse(text, &limits).unwrap();
        assert_eq!(cancelled_request_id(message.params).map(RawValue::get), Some("5"));
        assert_eq!(with_cancelled_request_id(&message, "\"e\""), text.replace('5', "\"e\""));

        let text = r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"s","io.modelcontextprotocol/protocolVersion":"v","progressToken":9}}}"#;
        let message = Envelope::parse(text, &limits).unwrap();
        assert_eq!(subscription_id(message.params).map(RawValue::get), Some("\"s\""));
        assert_eq!(protocol_version(message.params).map(RawValue::get), Some("\"v\""));
        assert_eq!(with_subscription_id(&message, "5"), text.replace("\"s\"", "5"));
        assert!(subscription_id(None).is_none());
    }

    #[test]
    fn a_token_compares_by_its_text_within_one_peer() {
        let raw = |json: &str| RawValue::from_string(json.into()).unwrap();
        assert_eq!(plain_text(&raw("5")), plain_text(&raw("\"\\u0035\"")));
        assert_ne!(plain_text(&raw("5")), plain_text(&raw("\"05\"")));
    }
}
