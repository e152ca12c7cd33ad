//! The words of ContextVM: what is on the wire and how it is spelled, and nothing about what it means over time.
//!
//! Everything here is text and values: no socket, no clock, no key. Foreign text goes through the budgeted [`scan`] before any
//! other parser sees it, and what is parsed stays a slice of that text ([`Envelope`], [`Object`], [`RelayFrame`]), so that
//! forwarding changes only what it means to change ([`Rewrite`]).
//!
//! ```
//! use contextvm_core::{Capability, Envelope, Limits, MessageKind, Rewrite};
//!
//! let text = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add","arguments":{"a":1.0}}}"#;
//! let message = Envelope::parse(text, &Limits::default())?;
//! assert_eq!(message.kind, MessageKind::Request);
//! let name = Capability::of(&message).and_then(|capability| capability.name);
//! assert_eq!(name.as_deref(), Some("add"));
//! // Another id and one more `_meta` member; `1.0` stays `1.0`.
//! assert_eq!(
//!     Rewrite::of(&message).id("8").meta("clientPubkey", "\"79be\"").to_text(),
//!     concat!(
//!         r#"{"jsonrpc":"2.0","id":8,"method":"tools/call","params":"#,
//!         r#"{"name":"add","arguments":{"a":1.0},"_meta":{"clientPubkey":"79be"}}}"#,
//!     ),
//! );
//! # Ok::<(), contextvm_core::EnvelopeError>(())
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`envelope`], [`object`], [`rewrite`], [`scan`] | JSON-RPC messages as borrowed text |
//! | [`progress`] | what frames of transfers and of streams have in common |
//! | [`capability`] | the one name that access and dispatch agree on |
//! | [`tags`], [`kind`], [`event`], [`opened`], [`size`] | what is in an event, before and after it was checked, and how large it is |
//! | [`frame`], [`relay_info`] | what relays and their clients say to each other, and what a relay says of itself |
//! | [`identity`], [`printable`] | what people type and see |
//! | [`limits`], [`time`], [`backoff`], [`fault`] | bounds, clocks as values, growing delays, and who misbehaved |
#![no_std]
extern crate alloc;

pub mod backoff;
pub mod capability;
pub mod envelope;
pub mod event;
#[cfg(contextvm_fake_crypto)]
pub mod fake;
pub mod fault;
pub mod frame;
pub mod identity;
pub mod kind;
pub mod limits;
pub mod line;
pub mod object;
pub mod opened;
pub mod printable;
pub mod progress;
pub mod relay_info;
pub mod rewrite;
pub mod scan;
pub mod size;
pub mod tags;
mod text;
pub mod time;

pub use capability::Capability;
pub use envelope::{Envelope, EnvelopeError, MessageKind};
pub use event::{Draft, Protection, WrapKind};
pub use fault::Fault;
pub use frame::{ClientFrame, FrameError, RelayFrame};
pub use identity::{IdentityError, ServerIdentity};
pub use limits::Limits;
pub use object::{Object, ObjectError};
pub use opened::{Opened, Refusal};
pub use printable::Printable;
pub use relay_info::RelayInfo;
pub use rewrite::Rewrite;
pub use scan::{Scan, ScanError};
pub use tags::PeerTags;
pub use time::{Mono, Now};
