//! Open streams (CEP-41) as machines: text that a server sends while a call runs, written here and read in order there.
//!
//! The crate decides and measures; it publishes nothing. A [`Writer`] takes text as long as it has room, cuts it into chunks
//! and gives frames out as it is allowed to. [`Readers`] takes the frames of all streams in any order and yields the chunks of
//! each in order, and one end. Both ask whether the other side is there, and answer when they are asked.
//!
//! ```
//! use contextvm_core::{Envelope, Limits, Now};
//! use contextvm_stream::{
//!     ReaderInput, ReaderOutput, Readers, StreamEnd, StreamFrame, StreamKey, Writer, WriterInput, WriterOutput,
//! };
//! # use nostr::{event::EventId, key::PublicKey};
//! # let peer = PublicKey::from_byte_array([7; 32]);
//! # let request = EventId::from_byte_array([1; 32]);
//! let (limits, now) = (Limits::default(), Now::default());
//! let key = StreamKey { peer, request, token: "token".to_owned() };
//! let mut writer = Writer::new("token", &limits)?;
//! let mut readers = Readers::new(&limits);
//! readers.open(key.clone())?;
//! writer.handle(WriterInput::Credit(100), now);
//! assert_eq!(writer.write("Hello", now)?, 5);
//! writer.close(now)?;
//! while let Some(output) = writer.poll_output() {
//!     let WriterOutput::Frame { progress, content, .. } = output else { break };
//!     let envelope = Envelope::parse(&content, &limits)?;
//!     if let Some(frame) = StreamFrame::read(&envelope)? {
//!         readers.handle(ReaderInput::Frame { peer, request, frame }, now);
//!     }
//!     writer.handle(WriterInput::Published(progress), now);
//! }
//! let Some(ReaderOutput::Chunk { data, .. }) = readers.poll_output() else { panic!() };
//! assert_eq!(&*data, "Hello");
//! let end = StreamEnd::Closed { chunks: 1 };
//! assert_eq!(readers.poll_output(), Some(ReaderOutput::Ended { key, end }));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! What is left to the caller: events and their tags, encryption, which peers may be heard at all, who is given a writer (only
//! a call whose client has the flag and sent a token), and the final answer, which follows the end of the writer.
#![no_std]
extern crate alloc;

mod error;
mod frame;
mod keepalive;
mod readers;
mod writer;

use alloc::string::String;

pub use contextvm_core::progress::MAX_TOKEN;
use nostr::event::EventId;
use nostr::key::PublicKey;

pub use error::{StreamDrop, StreamError};
pub use frame::{StreamBody, StreamFrame, StreamFrameType};
pub use readers::{ReaderInput, ReaderOutput, Readers, StreamEnd, StreamLoad};
pub use writer::{Writer, WriterInput, WriterOutput};

/// Longest nonce of a ping that is sent or answered, bytes.
pub const MAX_NONCE: usize = 64;

/// Longest reason of an abort that is sent or handed on, bytes; what is longer is cut.
pub const MAX_REASON: usize = 256;

/// How many chunks a reader puts in order, as far as `limits.stream_buffer` holds them: the next one and 4,095 behind it.
///
/// A frame counts as published when the fastest relay took it. If that one loses it, it comes from a slower relay, overtaken
/// by all that was published meanwhile.
pub const WINDOW: u64 = 4_096;

/// Names one stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// Who writes it: the author of every frame.
    pub peer: PublicKey,
    /// The request during which it is written: the same for every frame, whatever `e` tags they carry.
    pub request: EventId,
    /// The progress token of that request, in its text form.
    pub token: String,
}

/// Why a machine of this crate wants to be called at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StreamWake {
    /// The peer has been silent and is to be asked whether it is there.
    Idle,
    /// The peer has not answered.
    Probe,
    /// A ping that came too soon may be answered.
    Pong,
    /// What may have been overtaken has had its time.
    Grace,
    /// The stream has lasted, or a gap in it, for too long.
    Deadline,
}

/// Cuts a reason to what is allowed.
fn short(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(MAX_REASON)).unwrap_or_default()
}
