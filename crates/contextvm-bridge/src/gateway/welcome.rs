//! The `initialize` exchange: once with the child, then in its stead with every caller.
use contextvm_core::envelope::{self, Envelope};
use contextvm_core::object::{self, Object, quote};
use serde_json::value::RawValue;

use crate::answer::raw;
use crate::revision::{LATEST_LEGACY, LEGACY};

/// What the child said about itself when it was initialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// `serverInfo.name`, as sent.
    pub name: Option<String>,
    /// `serverInfo.version`, as sent.
    pub version: Option<String>,
    /// The protocol revision that it chose.
    pub protocol: Option<String>,
    answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Result(String),
    Error(String),
}

impl Welcome {
    /// Prints the gateway's own `initialize`. Everything that one of the callers might offer is declared.
    pub(crate) fn request(id: &str) -> String {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"initialize","params":{{"protocolVersion":"{LATEST_LEGACY}","capabilities":{{"sampling":{{}},"elicitation":{{}},"roots":{{}}}},"clientInfo":{{"name":"cvm","version":"{version}"}}}}}}"#,
            quote(id),
        )
    }

    /// Prints an `initialize` that declares nothing, for a caller that never sent one.
    pub(crate) fn plain_request(id: &RawValue) -> String {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"initialize","params":{{"protocolVersion":"{LATEST_LEGACY}","capabilities":{{}},"clientInfo":{{"name":"cvm","version":"{version}"}}}}}}"#,
            id.get(),
        )
    }

    /// Prints the notification that follows the child's answer.
    pub(crate) fn initialized() -> String {
        envelope::notification("notifications/initialized", None)
    }

    /// Keeps the child's answer. A child that refuses (one without `initialize`, say) refuses it to callers, too.
    pub(crate) fn learn(answer: &Envelope<'_>) -> Option<Self> {
        if let Some(error) = answer.error {
            let answer = Answer::Error(error.get().to_owned());
            return Some(Self { name: None, version: None, protocol: None, answer });
        }
        let result = answer.result?;
        let text = |value: Option<&RawValue>| value.and_then(object::string).map(|text| text.into_owned());
        let info = object::member(result, "serverInfo");
        Some(Self {
            name: info.and_then(|info| text(object::member(info, "name"))),
            version: info.and_then(|info| text(object::member(info, "version"))),
            protocol: text(object::member(result, "protocolVersion")),
            answer: Answer::Result(object::compact(result.get())),
        })
    }

    /// Whether the child took part in the exchange.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        matches!(self.answer, Answer::Result(_))
    }

    /// Prints the answer to a caller's `initialize`.
    pub(crate) fn answer(&self, id: &RawValue, params: Option<&RawValue>) -> String {
        match &self.answer {
            Answer::Error(error) => format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.get()),
            Answer::Result(result) => {
                let asked = params.and_then(|params| object::member(params, "protocolVersion"));
                let asked = asked.and_then(object::string);
                let edited = Object::parse(result).map(|result| {
                    let mut edit = result.into_edit();
                    if let Some(version) = self.version_for(asked.as_deref()) {
                        edit.set_string("protocolVersion", version);
                    }
                    edit.to_text()
                });
                let result = raw(edited.unwrap_or_else(|_| result.clone()));
                result.map_or_else(String::new, |result| envelope::response_result(id, &result))
            }
        }
    }

    /// An older revision is granted, because newer ones only add to it; otherwise the child's own counts.
    fn version_for<'a>(&'a self, asked: Option<&'a str>) -> Option<&'a str> {
        let place = |version: &str| LEGACY.iter().position(|known| *known == version);
        let own = self.protocol.as_deref()?;
        match (asked.and_then(place), place(own)) {
            (Some(wanted), Some(most)) if wanted <= most => asked,
            _ => Some(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contextvm_core::Limits;

    fn welcome(text: &str) -> Welcome {
        Welcome::learn(&Envelope::parse(text, &Limits::default()).unwrap()).unwrap()
    }

    fn ask(welcome: &Welcome, version: &str) -> String {
        let params = raw(format!(r#"{{"protocolVersion":"{version}"}}"#)).unwrap();
        welcome.answer(&raw("\"ab\"".into()).unwrap(), Some(&params))
    }

    const CHILD: &str = r#"{"jsonrpc":"2.0","id":"cvm-1","result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{"x": 1.0}},"serverInfo":{"name":"n","version":"v"},"instructions":"a\nb","new":[1e3]}}"#;

    #[test]
    fn a_caller_gets_the_childs_words_with_its_own_id() {
        let answer = ask(&welcome(CHILD), "2025-06-18");
        assert_eq!(
            answer,
            r#"{"jsonrpc":"2.0","id":"ab","result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{"x":1.0}},"serverInfo":{"name":"n","version":"v"},"instructions":"a\nb","new":[1e3]}}"#
        );
    }

    #[test]
    fn an_older_revision_is_granted_and_a_newer_or_unknown_one_is_not() {
        let welcome = welcome(CHILD);
        for (asked, given) in [
            ("2024-11-05", "2024-11-05"),
            ("2025-11-25", "2025-06-18"),
            ("1999-01-01", "2025-06-18"),
            ("2026-07-28", "2025-06-18"),
        ] {
            assert!(ask(&welcome, asked).contains(&format!(r#""protocolVersion":"{given}""#)), "{asked}");
        }
    }

    #[test]
    fn a_child_that_refuses_initialize_refuses_it_to_callers() {
        let refused =
            welcome(r#"{"jsonrpc":"2.0","id":"x","error":{"code":-32601,"message":"no","data":{"a":1}}}"#);
        assert!(!refused.is_accepted());
        assert_eq!(
            ask(&refused, "2025-06-18"),
            r#"{"jsonrpc":"2.0","id":"ab","error":{"code":-32601,"message":"no","data":{"a":1}}}"#
        );
    }

    #[test]
    fn the_gateways_own_initialize_is_a_request() {
        let text = Welcome::request("cvm-1");
        let request = Envelope::parse(&text, &Limits::default()).unwrap();
        assert_eq!(request.method.as_deref(), Some("initialize"));
    }
}
