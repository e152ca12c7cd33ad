//! What frames of transfers and of streams have in common: a progress notification with a `cvm` member.
use alloc::borrow::Cow;
use alloc::string::{String, ToString};

use serde_json::value::RawValue;

use crate::Fault;
use crate::envelope::{Envelope, MAX_SAFE_INTEGER, MessageKind};
use crate::object::{self, Object};
use crate::rewrite::{self, PROGRESS_TOKEN};
use crate::text::push_quoted;

/// Longest progress token of a transfer or a stream, bytes.
pub const MAX_TOKEN: usize = 1_024;

const METHOD: &str = "notifications/progress";

/// Why a progress notification that says it is a frame of ContextVM is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProgressFrameError {
    /// `progressToken` is absent, empty, too long or neither a string nor a number.
    #[error("frame has no usable progress token")]
    Token,
    /// `progress` is not a positive integer up to 2^53 - 1.
    #[error("progress of a frame is not a positive integer")]
    Progress,
    /// `frameType` is none of the CEP.
    #[error("frame type is unknown")]
    FrameType,
    /// A member is absent or of the wrong type.
    #[error("frame has no valid {0}")]
    Member(&'static str),
}

impl ProgressFrameError {
    /// Says who misbehaved: whoever wrote the frame.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// A progress notification whose `cvm` member has a known `type`; the rest of that member is not read yet.
#[derive(Clone, Debug)]
pub struct ProgressFrame<'a> {
    /// The progress token in its text form: `5` and `"5"` are one token.
    pub token: Cow<'a, str>,
    /// The number of the frame, at least 1.
    pub progress: u64,
    cvm: Object<'a>,
}

impl<'a> ProgressFrame<'a> {
    /// Reads a frame; `None` when the message is something else, progress of another `type` included.
    ///
    /// # Errors
    /// Refuses a frame without a usable token or number.
    pub fn read(message: &Envelope<'a>, kind: &str) -> Result<Option<Self>, ProgressFrameError> {
        if message.kind != MessageKind::Notification || message.method.as_deref() != Some(METHOD) {
            return Ok(None);
        }
        let Some(cvm) = message.param("cvm").and_then(|cvm| Object::parse(cvm.get()).ok()) else {
            return Ok(None);
        };
        if cvm.get("type").and_then(object::string).as_deref() != Some(kind) {
            return Ok(None);
        }
        let token = message.param(PROGRESS_TOKEN).and_then(token).ok_or(ProgressFrameError::Token)?;
        let progress = message.param("progress").and_then(integer).filter(|progress| *progress > 0);
        let progress = progress.ok_or(ProgressFrameError::Progress)?;
        Ok(Some(Self { token, progress, cvm }))
    }

    /// Returns a member of `cvm`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.cvm.get(name)
    }

    /// Returns a member of `cvm` that is a string.
    ///
    /// # Errors
    /// Names the member when it is absent or something else.
    pub fn text(&self, name: &'static str) -> Result<Cow<'a, str>, ProgressFrameError> {
        self.get(name).and_then(object::string).ok_or(ProgressFrameError::Member(name))
    }

    /// Returns a member of `cvm` that is an integer from zero to 2^53 - 1, in any spelling.
    ///
    /// # Errors
    /// Names the member when it is absent or something else.
    pub fn integer(&self, name: &'static str) -> Result<u64, ProgressFrameError> {
        self.get(name).and_then(integer).ok_or(ProgressFrameError::Member(name))
    }
}

/// Prints a frame member by member, in the order of the TypeScript SDK.
#[derive(Clone, Debug)]
#[must_use]
pub struct ProgressPrinter(String);

impl ProgressPrinter {
    /// Starts with everything that stands before the members of one frame type; `room` bytes are made ready for those.
    pub fn new(
        (token, progress): (&str, u64),
        message: Option<&str>,
        kind: &str,
        frame_type: &str,
        room: usize,
    ) -> Self {
        let mut out = String::with_capacity(224 + token.len() + room);
        for piece in [r#"{"jsonrpc":"2.0","method":""#, METHOD, r#"","params":{"progressToken":"#] {
            out.push_str(piece);
        }
        push_quoted(&mut out, token);
        out.push_str(r#","progress":"#);
        out.push_str(&progress.to_string());
        if let Some(message) = message {
            out.push_str(r#","message":"#);
            push_quoted(&mut out, message);
        }
        for piece in [r#","cvm":{"type":""#, kind, r#"","frameType":""#, frame_type, "\""] {
            out.push_str(piece);
        }
        Self(out)
    }

    /// Adds a string to `cvm`.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        push_quoted(&mut self.0, value);
        self
    }

    /// Adds an integer to `cvm`.
    pub fn integer(mut self, name: &str, value: u64) -> Self {
        self.name(name);
        self.0.push_str(&value.to_string());
        self
    }

    /// Returns the JSON-RPC text.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.0.push_str("}}}");
        self.0
    }

    fn name(&mut self, name: &str) {
        for piece in [",\"", name, "\":"] {
            self.0.push_str(piece);
        }
    }
}

fn token(json: &RawValue) -> Option<Cow<'_, str>> {
    let is_token =
        json.get().starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit());
    Some(rewrite::plain_text(json)).filter(|text| is_token && (1..=MAX_TOKEN).contains(&text.len()))
}

/// Reads a whole number in any spelling: JSON writers that hold numbers as doubles print `1.0`.
fn integer(json: &RawValue) -> Option<u64> {
    let text = json.get();
    let whole = text.parse().ok().or_else(|| {
        let double = text.parse::<f64>().ok()?;
        let whole = double as u64;
        (whole as f64 == double).then_some(whole)
    })?;
    (whole <= MAX_SAFE_INTEGER).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use crate::object::quote;
    use alloc::format;

    fn read(params: &str) -> Result<Option<ProgressFrame<'static>>, ProgressFrameError> {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#);
        let message = Envelope::parse(text.leak(), &Limits::default()).unwrap();
        ProgressFrame::read(&message, "a-type")
    }

    fn with_token(token: &str) -> Result<Option<ProgressFrame<'static>>, ProgressFrameError> {
        read(&format!(r#"{{"progressToken":{token},"progress":2,"cvm":{{"type":"a-type"}}}}"#))
    }

    #[test]
    fn other_messages_are_no_frames() {
        for params in [
            r#"{"progressToken":"t","progress":1}"#,
            r#"{"progressToken":"t","progress":1,"cvm":7}"#,
            r#"{"progressToken":"t","progress":1,"cvm":{}}"#,
            r#"{"progressToken":"t","progress":1,"cvm":{"type":"b-type"}}"#,
            r#"{"cvm":{"type":["a-type"]}}"#,
        ] {
            assert!(matches!(read(params), Ok(None)), "{params}");
        }
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"notifications/progress","params":{"cvm":{"type":"a-type"}}}"#;
        let message = Envelope::parse(text, &Limits::default()).unwrap();
        assert!(matches!(ProgressFrame::read(&message, "a-type"), Ok(None)));
    }

    #[test]
    fn tokens_are_compared_as_text() {
        for (json, text) in [("5", "5"), ("\"5\"", "5"), ("0", "0"), (r#""\u0061""#, "a")] {
            assert_eq!(with_token(json).unwrap().unwrap().token, text);
        }
        let long = "t".repeat(MAX_TOKEN);
        assert_eq!(with_token(&quote(&long)).unwrap().unwrap().token, long.as_str());
        for json in ["\"\"", "null", "{}", "[]", "true", &quote(&format!("{long}t"))] {
            assert_eq!(with_token(json).err(), Some(ProgressFrameError::Token), "{json}");
        }
        let without = r#"{"progress":1,"cvm":{"type":"a-type"}}"#;
        assert_eq!(read(without).err(), Some(ProgressFrameError::Token));
        assert_eq!(ProgressFrameError::Token.fault(), Fault::Peer);
    }

    #[test]
    fn progress_is_a_positive_integer_in_any_spelling() {
        let frame =
            |progress: &str| read(&format!(r#"{{"progressToken":"t"{progress},"cvm":{{"type":"a-type"}}}}"#));
        for (json, number) in [("1", 1), ("1.0", 1), ("1e3", 1_000), ("9007199254740991", MAX_SAFE_INTEGER)] {
            assert_eq!(frame(&format!(",\"progress\":{json}")).unwrap().unwrap().progress, number, "{json}");
        }
        for json in ["0", "-1", "1.5", "9007199254740992", "1e300", "\"1\"", "null", "[1]"] {
            let error = frame(&format!(",\"progress\":{json}")).err();
            assert_eq!(error, Some(ProgressFrameError::Progress), "{json}");
        }
        assert_eq!(frame("").err(), Some(ProgressFrameError::Progress));
    }

    #[test]
    fn members_are_read_as_they_were_printed() {
        let printed = ProgressPrinter::new(("t\"", 3), Some("for \"people\""), "a-type", "part", 0)
            .text("s", "é\n\"")
            .integer("n", MAX_SAFE_INTEGER)
            .finish();
        let message = Envelope::parse(&printed, &Limits::default()).unwrap();
        assert_eq!(message.extra, 0);
        let frame = ProgressFrame::read(&message, "a-type").unwrap().unwrap();
        assert_eq!((frame.token.as_ref(), frame.progress), ("t\"", 3));
        assert_eq!(frame.text("frameType").as_deref(), Ok("part"));
        assert_eq!(frame.text("s").as_deref(), Ok("é\n\""));
        assert_eq!(frame.integer("n"), Ok(MAX_SAFE_INTEGER));
        assert_eq!(frame.integer("s"), Err(ProgressFrameError::Member("s")));
        assert_eq!(frame.text("n"), Err(ProgressFrameError::Member("n")));
        assert!(frame.get("x").is_none());
    }
}
