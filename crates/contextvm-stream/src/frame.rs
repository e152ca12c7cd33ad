//! The frames of a stream: `notifications/progress` messages with a `cvm` member, read leniently and printed exactly.
use alloc::borrow::Cow;
use alloc::string::String;

use contextvm_core::Envelope;
use contextvm_core::progress::{ProgressFrame, ProgressFrameError, ProgressPrinter};

const TYPE: &str = "open-stream";

/// What a frame is for (`frameType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamFrameType {
    /// Begins a stream.
    Start,
    /// The reader is ready. A server that asks for the client's flag needs none.
    Accept,
    /// Some of the text.
    Chunk,
    /// Is the other side there?
    Ping,
    /// It is.
    Pong,
    /// Everything was sent.
    Close,
    /// Either side gives up.
    Abort,
}

impl StreamFrameType {
    /// Returns the word on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Accept => "accept",
            Self::Chunk => "chunk",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Close => "close",
            Self::Abort => "abort",
        }
    }
}

/// The part of a frame that its type decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamBody<'a> {
    /// Begins a stream, perhaps with a content type, which is advice to applications.
    Start(Option<Cow<'a, str>>),
    /// The reader is ready.
    Accept,
    /// Some of the text.
    Chunk {
        /// `chunkIndex`: 0, 1, 2 ... without a gap.
        index: u64,
        /// Any number of whole characters.
        data: Cow<'a, str>,
    },
    /// A nonce that the other side is to send back.
    Ping(Cow<'a, str>),
    /// The nonce of a ping.
    Pong(Cow<'a, str>),
    /// Everything was sent; `lastChunkIndex`, if there was a chunk.
    Close(Option<u64>),
    /// Either side gives up, perhaps with a reason.
    Abort(Option<Cow<'a, str>>),
}

/// One frame of a stream (CEP-41).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFrame<'a> {
    /// The progress token in its text form: `5` and `"5"` are one token.
    pub token: Cow<'a, str>,
    /// The number of the frame among those of its sender, at least 1.
    pub progress: u64,
    /// The rest.
    pub body: StreamBody<'a>,
}

impl<'a> StreamFrame<'a> {
    /// Reads a frame; `None` when the message is something else, other progress included.
    ///
    /// Members that CEP-41 does not know are ignored, and so are optional ones that are `null`. A chunk without escapes is
    /// borrowed, any other is copied once.
    ///
    /// # Errors
    /// Returns the first rule of the grammar that the frame breaks. Other progress breaks none.
    pub fn read(message: &Envelope<'a>) -> Result<Option<Self>, ProgressFrameError> {
        let Some(frame) = ProgressFrame::read(message, TYPE)? else { return Ok(None) };
        let body = StreamBody::read(&frame)?;
        Ok(Some(Self { token: frame.token, progress: frame.progress, body }))
    }

    /// Prints the frame as one JSON-RPC message, byte for byte as the TypeScript SDK does.
    #[must_use]
    pub fn to_text(&self) -> String {
        let name = self.body.frame_type().name();
        let printer = ProgressPrinter::new((&self.token, self.progress), None, TYPE, name, self.body.len());
        self.body.print(printer).finish()
    }
}

impl<'a> StreamBody<'a> {
    /// Returns its type.
    #[must_use]
    pub const fn frame_type(&self) -> StreamFrameType {
        match self {
            Self::Start(_) => StreamFrameType::Start,
            Self::Accept => StreamFrameType::Accept,
            Self::Chunk { .. } => StreamFrameType::Chunk,
            Self::Ping(_) => StreamFrameType::Ping,
            Self::Pong(_) => StreamFrameType::Pong,
            Self::Close(_) => StreamFrameType::Close,
            Self::Abort(_) => StreamFrameType::Abort,
        }
    }

    fn read(frame: &ProgressFrame<'a>) -> Result<Self, ProgressFrameError> {
        let is_there = |name| frame.get(name).is_some_and(|json| json.get() != "null");
        Ok(match frame.text("frameType").ok().as_deref() {
            // What is only advice makes no frame invalid.
            Some("start") => Self::Start(frame.text("contentType").ok()),
            Some("accept") => Self::Accept,
            Some("chunk") => Self::Chunk { index: frame.integer("chunkIndex")?, data: frame.text("data")? },
            Some("ping") => Self::Ping(frame.text("nonce")?),
            Some("pong") => Self::Pong(frame.text("nonce")?),
            Some("close") if is_there("lastChunkIndex") => {
                Self::Close(Some(frame.integer("lastChunkIndex")?))
            }
            Some("close") => Self::Close(None),
            Some("abort") if is_there("reason") => Self::Abort(Some(frame.text("reason")?)),
            Some("abort") => Self::Abort(None),
            Some(_) | None => return Err(ProgressFrameError::FrameType),
        })
    }

    fn print(&self, out: ProgressPrinter) -> ProgressPrinter {
        match self {
            Self::Start(Some(content_type)) => out.text("contentType", content_type),
            Self::Chunk { index, data } => out.integer("chunkIndex", *index).text("data", data),
            Self::Ping(nonce) | Self::Pong(nonce) => out.text("nonce", nonce),
            Self::Close(Some(last)) => out.integer("lastChunkIndex", *last),
            Self::Abort(Some(reason)) => out.text("reason", reason),
            Self::Start(None) | Self::Accept | Self::Close(None) | Self::Abort(None) => out,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Chunk { data, .. } => 48 + data.len() + data.len() / 8,
            Self::Start(text) | Self::Abort(text) => text.as_ref().map_or(0, |text| 24 + text.len()),
            Self::Ping(nonce) | Self::Pong(nonce) => 16 + nonce.len(),
            Self::Accept | Self::Close(_) => 40,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use contextvm_core::Limits;
    use contextvm_core::envelope::MAX_SAFE_INTEGER;

    fn with_cvm(cvm: &str) -> Result<Option<StreamFrame<'static>>, ProgressFrameError> {
        let params = format!(r#"{{"progressToken":5,"progress":1,"cvm":{{"type":"open-stream",{cvm}}}}}"#);
        let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#);
        let message = Envelope::parse(text.leak(), &Limits::default()).unwrap();
        StreamFrame::read(&message)
    }

    #[test]
    fn a_transfer_is_no_stream() {
        let text = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1,"cvm":{"type":"oversized-transfer","frameType":"end"}}}"#;
        let message = Envelope::parse(text, &Limits::default()).unwrap();
        assert_eq!(StreamFrame::read(&message), Ok(None));
    }

    #[test]
    fn a_frame_without_its_members_is_refused() {
        let table = [
            (r#""x":1"#, ProgressFrameError::FrameType),
            (r#""frameType":"end""#, ProgressFrameError::FrameType),
            (r#""frameType":null"#, ProgressFrameError::FrameType),
            (r#""frameType":"chunk","data":"a""#, ProgressFrameError::Member("chunkIndex")),
            (r#""frameType":"chunk","chunkIndex":-1,"data":"a""#, ProgressFrameError::Member("chunkIndex")),
            (r#""frameType":"chunk","chunkIndex":0.5,"data":"a""#, ProgressFrameError::Member("chunkIndex")),
            (r#""frameType":"chunk","chunkIndex":"0","data":"a""#, ProgressFrameError::Member("chunkIndex")),
            (r#""frameType":"chunk","chunkIndex":0"#, ProgressFrameError::Member("data")),
            (r#""frameType":"chunk","chunkIndex":0,"data":{}"#, ProgressFrameError::Member("data")),
            (r#""frameType":"ping""#, ProgressFrameError::Member("nonce")),
            (r#""frameType":"pong","nonce":1"#, ProgressFrameError::Member("nonce")),
            (r#""frameType":"close","lastChunkIndex":-1"#, ProgressFrameError::Member("lastChunkIndex")),
            (r#""frameType":"abort","reason":7"#, ProgressFrameError::Member("reason")),
        ];
        for (cvm, error) in table {
            assert_eq!(with_cvm(cvm), Err(error), "{cvm}");
        }
    }

    #[test]
    fn what_is_only_advice_or_null_is_not_missed() {
        let table = [
            (r#""frameType":"start","contentType":7,"x":[]"#, StreamBody::Start(None)),
            (
                r#""frameType":"start","contentType":"text/plain""#,
                StreamBody::Start(Some("text/plain".into())),
            ),
            (r#""frameType":"close","lastChunkIndex":null"#, StreamBody::Close(None)),
            (r#""frameType":"close","lastChunkIndex":3.0"#, StreamBody::Close(Some(3))),
            (r#""frameType":"abort","reason":null"#, StreamBody::Abort(None)),
        ];
        for (cvm, body) in table {
            let frame = StreamFrame { token: "5".into(), progress: 1, body };
            assert_eq!(with_cvm(cvm), Ok(Some(frame)), "{cvm}");
        }
    }

    #[test]
    fn a_printed_frame_says_the_same() {
        let bodies = [
            StreamBody::Start(None),
            StreamBody::Start(Some("text/\"plain".into())),
            StreamBody::Accept,
            StreamBody::Chunk { index: 0, data: "{\"é\\\n\u{1}😀".into() },
            StreamBody::Chunk { index: MAX_SAFE_INTEGER, data: "".into() },
            StreamBody::Ping("t:1".into()),
            StreamBody::Pong("\"".into()),
            StreamBody::Close(None),
            StreamBody::Close(Some(0)),
            StreamBody::Abort(None),
            StreamBody::Abort(Some("no \"space\"".into())),
        ];
        for body in bodies {
            let frame = StreamFrame { token: "t\"\n".into(), progress: 3, body };
            let text = frame.to_text();
            let message = Envelope::parse(&text, &Limits::default()).unwrap();
            assert_eq!(message.extra, 0);
            assert_eq!(StreamFrame::read(&message), Ok(Some(frame)), "{text}");
        }
    }
}
