//! The frames of a transfer: `notifications/progress` messages with a `cvm` member, read leniently and printed exactly.
use alloc::borrow::Cow;
use alloc::string::{String, ToString};

use contextvm_core::envelope::{MAX_SAFE_INTEGER, MessageKind};
use contextvm_core::object::{self, Object, quote};
use contextvm_core::rewrite::{self, PROGRESS_TOKEN};
use contextvm_core::{Envelope, Fault};
use serde_json::value::RawValue;

/// Longest progress token of a transfer, bytes.
pub const MAX_TOKEN: usize = 1_024;

const METHOD: &str = "notifications/progress";
const TYPE: &str = "oversized-transfer";

/// Why a progress notification that says it belongs to a transfer does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferFrameError {
    /// `progressToken` is absent, empty, too long or neither a string nor a number.
    #[error("frame has no usable progress token")]
    Token,
    /// `progress` is not a positive integer up to 2^53 - 1.
    #[error("progress of a frame is not a positive integer")]
    Progress,
    /// `frameType` is none of CEP-22.
    #[error("frame type is unknown")]
    FrameType,
    /// A member is absent or of the wrong type.
    #[error("frame has no valid {0}")]
    Member(&'static str),
}

impl TransferFrameError {
    /// Says who misbehaved: whoever wrote the frame.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// What a frame is for (`frameType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameType {
    /// Declares a transfer.
    Start,
    /// The receiver is ready.
    Accept,
    /// Some of the message.
    Chunk,
    /// Everything was sent.
    End,
    /// Either side gives up.
    Abort,
}

impl FrameType {
    /// Returns the word on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Accept => "accept",
            Self::Chunk => "chunk",
            Self::End => "end",
            Self::Abort => "abort",
        }
    }

    /// Returns the text for people that goes with it, as the existing SDKs write it.
    const fn message(self) -> Option<&'static str> {
        match self {
            Self::Start => Some("starting oversized transfer"),
            Self::Accept => Some("oversized request accepted"),
            Self::End => Some("oversized transfer complete"),
            Self::Chunk | Self::Abort => None,
        }
    }
}

/// What a start frame declares; nothing of it is checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start<'a> {
    /// `completionMode`; CEP-22 knows only `render`.
    pub completion_mode: Option<Cow<'a, str>>,
    /// `digest`, with its algorithm.
    pub digest: Cow<'a, str>,
    /// UTF-8 bytes of the message.
    pub total_bytes: u64,
    /// Chunk frames that follow.
    pub total_chunks: u64,
}

/// The part of a frame that its type decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameBody<'a> {
    /// Declares a transfer.
    Start(Start<'a>),
    /// The receiver is ready.
    Accept,
    /// Some of the message: any number of whole characters.
    Chunk(Cow<'a, str>),
    /// Everything was sent.
    End,
    /// Either side gives up, perhaps with a reason.
    Abort(Option<Cow<'a, str>>),
}

/// One frame of a transfer (CEP-22).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferFrame<'a> {
    /// The progress token in its text form: `5` and `"5"` are one token.
    pub token: Cow<'a, str>,
    /// The number of the frame within its transfer, at least 1.
    pub progress: u64,
    /// The rest.
    pub body: FrameBody<'a>,
}

impl<'a> TransferFrame<'a> {
    /// Reads a frame; `None` when the message is something else, other progress included.
    ///
    /// Members that CEP-22 does not know are ignored. A chunk without escapes is borrowed, any other is copied once.
    ///
    /// # Errors
    /// Returns the first rule of the grammar that the frame breaks. Other progress breaks none.
    pub fn read(message: &Envelope<'a>) -> Result<Option<Self>, TransferFrameError> {
        if message.kind != MessageKind::Notification || message.method.as_deref() != Some(METHOD) {
            return Ok(None);
        }
        let Some(cvm) = message.param("cvm").and_then(|cvm| Object::parse(cvm.get()).ok()) else {
            return Ok(None);
        };
        if text(&cvm, "type").as_deref() != Some(TYPE) {
            return Ok(None);
        }
        let token = message.param(PROGRESS_TOKEN).and_then(token).ok_or(TransferFrameError::Token)?;
        let progress = message.param("progress").and_then(integer).filter(|progress| *progress > 0);
        let progress = progress.ok_or(TransferFrameError::Progress)?;
        Ok(Some(Self { token, progress, body: FrameBody::read(&cvm)? }))
    }

    /// Prints the frame as one JSON-RPC message, byte for byte as the TypeScript SDK does; an accept and an abort that it
    /// never sends follow the same order.
    #[must_use]
    pub fn to_text(&self) -> String {
        let frame_type = self.body.frame_type();
        let mut out = String::with_capacity(256 + self.token.len() + self.body.len());
        for piece in [r#"{"jsonrpc":"2.0","method":""#, METHOD, r#"","params":{"progressToken":"#] {
            out.push_str(piece);
        }
        out.push_str(&quote(&self.token));
        out.push_str(r#","progress":"#);
        out.push_str(&self.progress.to_string());
        if let Some(message) = frame_type.message() {
            for piece in [r#","message":""#, message, "\""] {
                out.push_str(piece);
            }
        }
        for piece in [r#","cvm":{"type":""#, TYPE, r#"","frameType":""#, frame_type.name(), "\""] {
            out.push_str(piece);
        }
        self.body.print(&mut out);
        out.push_str("}}}");
        out
    }
}

impl<'a> FrameBody<'a> {
    /// Returns its type.
    #[must_use]
    pub const fn frame_type(&self) -> FrameType {
        match self {
            Self::Start(_) => FrameType::Start,
            Self::Accept => FrameType::Accept,
            Self::Chunk(_) => FrameType::Chunk,
            Self::End => FrameType::End,
            Self::Abort(_) => FrameType::Abort,
        }
    }

    fn read(cvm: &Object<'a>) -> Result<Self, TransferFrameError> {
        let member = |name| cvm.get(name).and_then(integer).ok_or(TransferFrameError::Member(name));
        let string = |name| text(cvm, name).ok_or(TransferFrameError::Member(name));
        let optional = |name| cvm.get(name).map(|_| string(name)).transpose();
        Ok(match text(cvm, "frameType").as_deref() {
            Some("start") => Self::Start(Start {
                completion_mode: optional("completionMode")?,
                digest: string("digest")?,
                total_bytes: member("totalBytes")?,
                total_chunks: member("totalChunks")?,
            }),
            Some("accept") => Self::Accept,
            Some("chunk") => Self::Chunk(string("data")?),
            Some("end") => Self::End,
            Some("abort") => Self::Abort(optional("reason")?),
            Some(_) | None => return Err(TransferFrameError::FrameType),
        })
    }

    fn print(&self, out: &mut String) {
        let mut member = |name: &str, json: &str| {
            for piece in [",\"", name, "\":", json] {
                out.push_str(piece);
            }
        };
        match self {
            Self::Start(start) => {
                if let Some(mode) = &start.completion_mode {
                    member("completionMode", &quote(mode));
                }
                member("digest", &quote(&start.digest));
                member("totalBytes", &start.total_bytes.to_string());
                member("totalChunks", &start.total_chunks.to_string());
            }
            Self::Chunk(data) => member("data", &quote(data)),
            Self::Abort(Some(reason)) => member("reason", &quote(reason)),
            Self::Accept | Self::End | Self::Abort(None) => {}
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Chunk(data) => data.len() + data.len() / 8,
            Self::Start(_) | Self::Accept | Self::End | Self::Abort(_) => 256,
        }
    }
}

fn text<'a>(object: &Object<'a>, name: &str) -> Option<Cow<'a, str>> {
    object.get(name).and_then(object::string)
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
    use alloc::format;
    use contextvm_core::Limits;

    fn read(params: &str) -> Result<Option<TransferFrame<'static>>, TransferFrameError> {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#);
        let message = Envelope::parse(text.leak(), &Limits::default()).unwrap();
        TransferFrame::read(&message)
    }

    fn with_cvm(cvm: &str) -> Result<Option<TransferFrame<'static>>, TransferFrameError> {
        read(&format!(r#"{{"progressToken":"t","progress":1,"cvm":{{"type":"oversized-transfer",{cvm}}}}}"#))
    }

    #[test]
    fn other_messages_are_no_frames() {
        for params in [
            r#"{"progressToken":"t","progress":1}"#,
            r#"{"progressToken":"t","progress":1,"cvm":7}"#,
            r#"{"progressToken":"t","progress":1,"cvm":{}}"#,
            r#"{"progressToken":"t","progress":1,"cvm":{"type":"open-stream","frameType":"start"}}"#,
        ] {
            assert_eq!(read(params), Ok(None), "{params}");
        }
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"notifications/progress","params":{"cvm":{"type":"oversized-transfer"}}}"#;
        let message = Envelope::parse(text, &Limits::default()).unwrap();
        assert_eq!(TransferFrame::read(&message), Ok(None));
    }

    #[test]
    fn tokens_are_compared_as_text() {
        let accept = |token: &str| {
            let cvm = r#"{"type":"oversized-transfer","frameType":"accept"}"#;
            read(&format!(r#"{{"progressToken":{token},"progress":2,"cvm":{cvm}}}"#))
        };
        for (json, text) in [("5", "5"), ("\"5\"", "5"), ("0", "0"), (r#""\u0061""#, "a")] {
            assert_eq!(accept(json).unwrap().unwrap().token, text);
        }
        let long = "t".repeat(MAX_TOKEN);
        assert_eq!(accept(&quote(&long)).unwrap().unwrap().token, long.as_str());
        for json in ["\"\"", "null", "{}", "[]", "true", &quote(&format!("{long}t"))] {
            assert_eq!(accept(json), Err(TransferFrameError::Token), "{json}");
        }
        let without = r#"{"progress":1,"cvm":{"type":"oversized-transfer","frameType":"end"}}"#;
        assert_eq!(read(without), Err(TransferFrameError::Token));
    }

    #[test]
    fn progress_is_a_positive_integer_in_any_spelling() {
        let end = |progress: &str| {
            let cvm = r#"{"type":"oversized-transfer","frameType":"end"}"#;
            read(&format!(r#"{{"progressToken":"t"{progress},"cvm":{cvm}}}"#))
        };
        for (json, number) in [("1", 1), ("1.0", 1), ("1e3", 1_000), ("9007199254740991", MAX_SAFE_INTEGER)] {
            assert_eq!(end(&format!(",\"progress\":{json}")).unwrap().unwrap().progress, number, "{json}");
        }
        for json in ["0", "-1", "1.5", "9007199254740992", "1e300", "\"1\"", "null", "[1]"] {
            assert_eq!(end(&format!(",\"progress\":{json}")), Err(TransferFrameError::Progress), "{json}");
        }
        assert_eq!(end(""), Err(TransferFrameError::Progress));
    }

    #[test]
    fn a_frame_without_its_members_is_refused() {
        let table = [
            (r#""x":1"#, TransferFrameError::FrameType),
            (r#""frameType":"part""#, TransferFrameError::FrameType),
            (r#""frameType":7"#, TransferFrameError::FrameType),
            (r#""frameType":"chunk""#, TransferFrameError::Member("data")),
            (r#""frameType":"chunk","data":7"#, TransferFrameError::Member("data")),
            (r#""frameType":"abort","reason":7"#, TransferFrameError::Member("reason")),
            (r#""frameType":"start","totalBytes":1,"totalChunks":1"#, TransferFrameError::Member("digest")),
            (r#""frameType":"start","digest":"d","totalChunks":1"#, TransferFrameError::Member("totalBytes")),
            (
                r#""frameType":"start","digest":"d","totalBytes":1,"totalChunks":-1"#,
                TransferFrameError::Member("totalChunks"),
            ),
            (
                r#""frameType":"start","completionMode":1,"digest":"d","totalBytes":1,"totalChunks":1"#,
                TransferFrameError::Member("completionMode"),
            ),
        ];
        for (cvm, error) in table {
            assert_eq!(with_cvm(cvm), Err(error), "{cvm}");
            assert_eq!(error.fault(), Fault::Peer);
        }
    }

    #[test]
    fn a_printed_frame_says_the_same() {
        let start = Start {
            completion_mode: None,
            digest: "sha256:\"\\".into(),
            total_bytes: 7,
            total_chunks: MAX_SAFE_INTEGER,
        };
        let bodies = [
            FrameBody::Start(start.clone()),
            FrameBody::Start(Start { completion_mode: Some("render".into()), ..start }),
            FrameBody::Accept,
            FrameBody::Chunk("{\"é\\\n\u{1}😀".into()),
            FrameBody::Chunk("".into()),
            FrameBody::End,
            FrameBody::Abort(None),
            FrameBody::Abort(Some("no \"space\"".into())),
        ];
        for body in bodies {
            let frame = TransferFrame { token: "t\"\n".into(), progress: 3, body };
            let text = frame.to_text();
            let message = Envelope::parse(&text, &Limits::default()).unwrap();
            assert_eq!(message.extra, 0);
            assert_eq!(TransferFrame::read(&message), Ok(Some(frame)), "{text}");
        }
    }
}
