//! The frames of a transfer: `notifications/progress` messages with a `cvm` member, read leniently and printed exactly.
use alloc::borrow::Cow;
use alloc::string::String;

use contextvm_core::Envelope;
use contextvm_core::progress::{ProgressFrame, ProgressFrameError, ProgressPrinter};

const TYPE: &str = "oversized-transfer";

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
    pub fn read(message: &Envelope<'a>) -> Result<Option<Self>, ProgressFrameError> {
        let Some(frame) = ProgressFrame::read(message, TYPE)? else { return Ok(None) };
        let body = FrameBody::read(&frame)?;
        Ok(Some(Self { token: frame.token, progress: frame.progress, body }))
    }

    /// Prints the frame as one JSON-RPC message, byte for byte as the TypeScript SDK does; an accept and an abort that it
    /// never sends follow the same order.
    #[must_use]
    pub fn to_text(&self) -> String {
        let frame_type = self.body.frame_type();
        let (number, name) = ((self.token.as_ref(), self.progress), frame_type.name());
        let printer = ProgressPrinter::new(number, frame_type.message(), TYPE, name, self.body.len());
        self.body.print(printer).finish()
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

    fn read(frame: &ProgressFrame<'a>) -> Result<Self, ProgressFrameError> {
        let optional = |name| frame.get(name).map(|_| frame.text(name)).transpose();
        Ok(match frame.text("frameType").ok().as_deref() {
            Some("start") => Self::Start(Start {
                completion_mode: optional("completionMode")?,
                digest: frame.text("digest")?,
                total_bytes: frame.integer("totalBytes")?,
                total_chunks: frame.integer("totalChunks")?,
            }),
            Some("accept") => Self::Accept,
            Some("chunk") => Self::Chunk(frame.text("data")?),
            Some("end") => Self::End,
            Some("abort") => Self::Abort(optional("reason")?),
            Some(_) | None => return Err(ProgressFrameError::FrameType),
        })
    }

    fn print(&self, out: ProgressPrinter) -> ProgressPrinter {
        match self {
            Self::Start(start) => {
                let out = match &start.completion_mode {
                    Some(mode) => out.text("completionMode", mode),
                    None => out,
                };
                out.text("digest", &start.digest)
                    .integer("totalBytes", start.total_bytes)
                    .integer("totalChunks", start.total_chunks)
            }
            Self::Chunk(data) => out.text("data", data),
            Self::Abort(Some(reason)) => out.text("reason", reason),
            Self::Accept | Self::End | Self::Abort(None) => out,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Chunk(data) => data.len() + data.len() / 8,
            Self::Start(_) | Self::Accept | Self::End | Self::Abort(_) => 192,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use contextvm_core::Limits;
    use contextvm_core::envelope::MAX_SAFE_INTEGER;

    fn with_cvm(cvm: &str) -> Result<Option<TransferFrame<'static>>, ProgressFrameError> {
        let params =
            format!(r#"{{"progressToken":"t","progress":1,"cvm":{{"type":"oversized-transfer",{cvm}}}}}"#);
        let text = format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}"#);
        let message = Envelope::parse(text.leak(), &Limits::default()).unwrap();
        TransferFrame::read(&message)
    }

    #[test]
    fn a_frame_without_its_members_is_refused() {
        let table = [
            (r#""x":1"#, ProgressFrameError::FrameType),
            (r#""frameType":"part""#, ProgressFrameError::FrameType),
            (r#""frameType":7"#, ProgressFrameError::FrameType),
            (r#""frameType":"chunk""#, ProgressFrameError::Member("data")),
            (r#""frameType":"chunk","data":7"#, ProgressFrameError::Member("data")),
            (r#""frameType":"abort","reason":7"#, ProgressFrameError::Member("reason")),
            (r#""frameType":"start","totalBytes":1,"totalChunks":1"#, ProgressFrameError::Member("digest")),
            (r#""frameType":"start","digest":"d","totalChunks":1"#, ProgressFrameError::Member("totalBytes")),
            (
                r#""frameType":"start","digest":"d","totalBytes":1,"totalChunks":-1"#,
                ProgressFrameError::Member("totalChunks"),
            ),
            (
                r#""frameType":"start","completionMode":1,"digest":"d","totalBytes":1,"totalChunks":1"#,
                ProgressFrameError::Member("completionMode"),
            ),
        ];
        for (cvm, error) in table {
            assert_eq!(with_cvm(cvm), Err(error), "{cvm}");
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
