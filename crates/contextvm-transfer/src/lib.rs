//! Oversized transfers (CEP-22) as machines: one JSON-RPC message in many events, cut here and put together there.
//!
//! The crate decides and measures; it publishes nothing. A [`Sender`] cuts
//! one message into the frames of one transfer and gives them out as it is allowed to. A [`Receiver`] takes the frames of all
//! peers in any order and yields the messages whose count, length and SHA-256 are what the start frame declared.
//!
//! ```
//! use contextvm_core::{Envelope, Limits, Now};
//! use contextvm_transfer::{
//!     Handshake, Receiver, ReceiverInput, ReceiverOutput, Sender, SenderInput, SenderOutput, TransferFrame,
//! };
//! # use nostr::{event::EventId, key::PublicKey};
//! # let peer = PublicKey::from_byte_array([7; 32]);
//! # let event = EventId::from_byte_array([1; 32]);
//! let (limits, now) = (Limits::default(), Now::default());
//! let message = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"text":"{}"}}}}"#, "long ".repeat(1_000));
//! let mut sender = Sender::new("token", message.clone(), 2_000, Handshake::Skip, &limits, now)?;
//! let mut receiver = Receiver::for_responses(&limits);
//! sender.handle(SenderInput::Credit(100), now);
//! while let Some(output) = sender.poll_output() {
//!     let SenderOutput::Frame { progress, content, .. } = output else { break };
//!     let envelope = Envelope::parse(&content, &limits)?;
//!     if let Some(frame) = TransferFrame::read(&envelope)? {
//!         receiver.handle(ReceiverInput::Frame { peer, request: None, frame, event }, now);
//!     }
//!     sender.handle(SenderInput::Published(progress), now);
//! }
//! let Some(ReceiverOutput::Complete { message: assembled, .. }) = receiver.poll_output() else { panic!() };
//! assert_eq!(assembled, message);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! What is left to the caller: events and their tags, encryption, which peers may be heard at all, and everything about the
//! assembled message, which is foreign text like any other and is parsed and authorised as itself.
#![no_std]
extern crate alloc;

mod cut;
mod digest;
mod error;
mod frame;
mod receiver;
mod sender;

pub use contextvm_core::progress::MAX_TOKEN;
pub use error::{TransferDrop, TransferError};
pub use frame::{FrameBody, FrameType, Start, TransferFrame};
pub use receiver::{Receiver, ReceiverInput, ReceiverLoad, ReceiverOutput, TransferKey};
pub use sender::{Handshake, Sender, SenderInput, SenderOutput, WINDOW};

/// The reason of an abort that is no failure: the same message follows in smaller chunks, under the same token.
///
/// The existing SDKs forget a transfer that is aborted and then accept a new start; they refuse a second start without it.
pub const RESTART: &str = "restart with smaller chunks";

/// Why a machine of this crate wants to be called at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransferWake {
    /// The peer has had its time to accept the start frame.
    Accept,
    /// A transfer has stood still, or lasted, for too long.
    Deadline,
}
