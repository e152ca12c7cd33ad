//! The capability that a message uses: the one name that access, accounting and dispatch agree on.
use alloc::string::{String, ToString};

use crate::envelope::Envelope;
use crate::object;

/// A method, and the tool, prompt or resource that it names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability {
    /// JSON-RPC method.
    pub method: String,
    /// Exact characters of the name after unescaping: no trimming, no case folding, no Unicode normalisation.
    pub name: Option<String>,
}

impl Capability {
    /// Names the capability of a request or notification; answers have none.
    ///
    /// `tools/call` and `prompts/get` name `params.name`; `resources/read`, `resources/subscribe` and
    /// `resources/unsubscribe` name `params.uri`; `completion/complete` names `params.ref.name` of a `ref/prompt` and
    /// `params.ref.uri` of a `ref/resource`. A name that is absent or not a string is no name.
    ///
    /// ```
    /// use contextvm_core::{Capability, Limits, envelope::Envelope};
    /// let text = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"\u0061dd"}}"#;
    /// let message = Envelope::parse(text, &Limits::default())?;
    /// let capability = Capability::of(&message);
    /// assert_eq!(capability.and_then(|capability| capability.name).as_deref(), Some("add"));
    /// # Ok::<(), contextvm_core::envelope::EnvelopeError>(())
    /// ```
    #[must_use]
    pub fn of(message: &Envelope<'_>) -> Option<Self> {
        let method = message.method.as_deref()?;
        Some(Self { method: method.to_string(), name: name(message, method) })
    }
}

/// Names the members of `params`, and of `params.ref`, that nothing may resemble in a message with this method.
pub(crate) fn names(method: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match method {
        "tools/call" | "prompts/get" => (&["_meta", "name"], &[]),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => (&["_meta", "uri"], &[]),
        "completion/complete" => (&["_meta", "ref"], &["type", "name", "uri"]),
        "notifications/cancelled" => (&["_meta", "requestId"], &[]),
        "notifications/progress" => (&["_meta", "progressToken"], &[]),
        _ => (&["_meta"], &[]),
    }
}

fn name(message: &Envelope<'_>, method: &str) -> Option<String> {
    let named = match method {
        "tools/call" | "prompts/get" => message.param("name"),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => message.param("uri"),
        "completion/complete" => {
            let reference = message.param("ref")?;
            match object::string(object::member(reference, "type")?)?.as_ref() {
                "ref/prompt" => object::member(reference, "name"),
                "ref/resource" => object::member(reference, "uri"),
                _ => None,
            }
        }
        _ => None,
    };
    object::string(named?).map(|name| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use alloc::format;

    fn of(method: &str, params: &str) -> Option<Option<String>> {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let message = Envelope::parse(&text, &Limits::default()).unwrap();
        Capability::of(&message).map(|capability| capability.name)
    }

    #[test]
    fn each_method_names_its_own_member() {
        let all = r#"{"name":"n","uri":"u","ref":{"type":"ref/prompt","name":"rn","uri":"ru"}}"#;
        let table = [
            ("tools/call", Some("n")),
            ("prompts/get", Some("n")),
            ("resources/read", Some("u")),
            ("resources/subscribe", Some("u")),
            ("resources/unsubscribe", Some("u")),
            ("completion/complete", Some("rn")),
            ("tools/list", None),
            ("initialize", None),
            ("Tools/Call", None),
        ];
        for (method, name) in table {
            assert_eq!(of(method, all).unwrap().as_deref(), name, "{method}");
        }
        let template = r#"{"ref":{"type":"ref/resource","name":"rn","uri":"ru"}}"#;
        assert_eq!(of("completion/complete", template), Some(Some("ru".into())));
    }

    #[test]
    fn a_name_that_is_absent_or_no_string_is_no_name() {
        for params in ["{}", r#"{"name":7}"#, r#"{"name":null}"#, r#"{"name":["a"]}"#, r#"{"uri":"a"}"#] {
            assert_eq!(of("tools/call", params), Some(None), "{params}");
        }
        for params in
            ["{}", r#"{"ref":"a"}"#, r#"{"ref":{"name":"a"}}"#, r#"{"ref":{"type":"x","name":"a"}}"#]
        {
            assert_eq!(of("completion/complete", params), Some(None), "{params}");
        }
    }

    #[test]
    fn the_name_is_compared_to_the_last_character() {
        assert_eq!(of("tools/call", r#"{"name":"\u0061\u0064d"}"#), Some(Some("add".into())));
        for other in ["add ", " add", "Add", "аdd", "add\\u0000", "ad\\u200bd", "adḋ", "add\\n"] {
            assert_ne!(
                of("tools/call", &format!(r#"{{"name":"{other}"}}"#)),
                Some(Some("add".into())),
                "{other}"
            );
        }
        assert_ne!(of("tools/call", r#"{"name":"é"}"#), of("tools/call", r#"{"name":"e\u0301"}"#));
    }

    #[test]
    fn answers_use_no_capability() {
        let text = r#"{"jsonrpc":"2.0","id":1,"result":{"name":"n"}}"#;
        assert_eq!(Capability::of(&Envelope::parse(text, &Limits::default()).unwrap()), None);
    }
}
