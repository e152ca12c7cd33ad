//! What a host is told beside an error that the MCP server did not give: which server, which relays, how long, what to do.
use std::time::Duration;

use contextvm_core::Limits;
use contextvm_core::envelope::Envelope;
use contextvm_core::object::{self, Edit, Object};
use contextvm_core::rewrite;
use serde_json::value::RawValue;

use super::switchboard::LOCAL;
use crate::answer::{FAILED, TIMED_OUT};

/// How the reasons of errors begin that a gateway gives in place of its server.
const GATEWAY: [&str; 3] = ["child_", "upstream_", "shutting_down"];

/// What is known about the other side.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The server's npub.
    pub(super) server: String,
    /// Our own npub.
    pub(super) client: String,
    /// The relays and how it stands with each, as JSON.
    pub(super) relays: String,
    /// What to do when the server cannot be reached.
    pub(super) hint: String,
}

/// Whether a text is worth a look, without parsing it.
pub(super) fn may_be_failure(text: &str) -> bool {
    text.contains(r#""error""#)
}

impl Facts {
    /// Adds them to an error of our own client, of a gateway or of an access check; every other text stays as it is.
    pub(super) fn added_to(
        &self,
        text: String,
        limits: &Limits,
        waited: impl Fn(&str) -> Option<Duration>,
    ) -> String {
        let edited = Envelope::parse(&text, limits).ok().and_then(|message| {
            let error = message.error?;
            let data = object::member(error, "data");
            let (reason, hint) = self.advice(&message, data)?;
            let mut data = match data {
                Some(data) => Object::parse(data.get()).ok()?.into_edit(),
                None => Edit::new(),
            };
            data.set_string("reason", &reason);
            data.set_string("server", &self.server);
            data.set("relays", self.relays.as_str());
            let waited = message.id.and_then(|id| waited(&rewrite::plain_text(id)));
            if let (Some(waited), None) = (waited, data.get("waitedMs")) {
                data.set("waitedMs", waited.as_millis().to_string());
            }
            data.set_string("hint", &hint);
            let mut error = Object::parse(error.get()).ok()?.into_edit();
            error.set("data", data.to_text());
            let mut whole = Object::parse(message.text()).ok()?.into_edit();
            whole.set("error", error.to_text());
            Some(whole.to_text())
        });
        edited.unwrap_or(text)
    }

    /// The reason of an error that the MCP server did not give, and what is to be done about it.
    fn advice(&self, message: &Envelope<'_>, data: Option<&RawValue>) -> Option<(String, String)> {
        message.error_code().filter(|code| [FAILED, TIMED_OUT].contains(code))?;
        let text = |member: Option<&RawValue>| member.and_then(object::string).map(|text| text.into_owned());
        match text(data.and_then(|data| object::member(data, "reason"))) {
            Some(reason) if LOCAL.contains(&reason.as_str()) => Some((reason, self.hint.clone())),
            Some(reason) if GATEWAY.iter().any(|start| reason.starts_with(start)) => {
                let hint = "try again in a while; the server's operator sees more: cvm ctl status";
                Some((reason, hint.to_owned()))
            }
            Some(_) => None,
            None => {
                let said = text(message.error.and_then(|error| object::member(error, "message")))?;
                let refused = said.eq_ignore_ascii_case("unauthorized");
                let hint = || format!("ask the server's operator to allow {}", self.client);
                refused.then(|| ("not_allowed".to_owned(), hint()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let facts = Facts {
            server: "npub1s".into(),
            client: "npub1c".into(),
            relays: r#"[{"url":"ws://a","state":"connected"}]"#.into(),
            hint: "h".into(),
        };
        let waited = |id: &str| (id == "cvm-1").then_some(Duration::from_millis(7));
        facts.added_to(text.to_owned(), &Limits::default(), waited)
    }

    #[test]
    fn failures_on_the_way_say_where_how_long_and_what_to_do() {
        assert_eq!(
            told(
                r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32001,"message":"m","data":{"reason":"no_reply","waitedMs":5}}}"#
            ),
            r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32001,"message":"m","data":{"reason":"no_reply","waitedMs":5,"server":"npub1s","relays":[{"url":"ws://a","state":"connected"}],"hint":"h"}}}"#
        );
        let dead = told(
            r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32000,"message":"m","data":{"reason":"child_exited"}}}"#,
        );
        assert!(
            dead.contains(r#""waitedMs":7,"hint":"try again"#) && dead.contains(r#""relays":[{"#),
            "{dead}"
        );
        let refused =
            told(r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32000,"message":"Unauthorized"}}"#);
        assert!(refused.contains(r#""data":{"reason":"not_allowed","server":"npub1s""#), "{refused}");
        assert!(refused.contains("ask the server's operator to allow npub1c"), "{refused}");
    }

    #[test]
    fn what_the_mcp_server_said_stays_as_it_is() {
        for text in [
            r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32601,"message":"Unauthorized"}}"#,
            r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32000,"message":"m","data":{"reason":"out of paper"}}}"#,
            r#"{"jsonrpc":"2.0","id":"cvm-1","error":{"code":-32000,"message":"m","data":5}}"#,
            r#"{"jsonrpc":"2.0","id":"cvm-1","result":{"error":{"code":-32000,"message":"Unauthorized"}}}"#,
            r#"{"error" "#,
        ] {
            assert_eq!(told(text), text);
        }
    }
}
