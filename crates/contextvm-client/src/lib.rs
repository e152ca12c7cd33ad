//! The ContextVM client transport: one client key talking to one server key.
//!
//! [`Client::connect`] resolves the server's relays (see [`resolve`]), connects, and gives a [`Client`] to send with and
//! [`Messages`] to read from. [`Client::request`] makes one plain call ([`modern`] adds what MCP 2026-07-28 wants in each),
//! [`Client::call_stream`] one whose stream is read; the `rmcp` feature turns the pair into a typed MCP transport.
//!
//! Before a server can be talked to it has to be found: [`names`] reads what people type, [`nip05`] looks names up at their
//! domains, and [`Discovery`] asks relays what servers announce about themselves and others say about them. [`Memory`] knows the
//! newest that was ever seen of each, so that no relay can lead back behind it.

pub mod client;
pub mod discover;
pub mod error;
pub mod follows;
pub mod memory;
pub mod modern;
pub mod names;
pub mod nip05;
pub mod options;
pub mod providers;
pub mod resolve;
pub mod review;
#[cfg(feature = "rmcp")]
pub mod rmcp;
pub mod streamed;

mod admission;
mod asking;
mod desk;
mod queue;
mod recall;
mod round;
mod search;
mod store;
mod turns;
mod view;

pub use client::{Answered, Client, ClientStatus, Messages};
pub use contextvm_core::identity::ServerIdentity;
pub use contextvm_engine::client::{Exchange, Lost};
pub use contextvm_engine::{ClientConfig, Direction, EncryptionMode, GiftWrapMode, StreamError, Transferred};
pub use discover::{DiscoverError, Discovery, Found, RelayAnswer, Role, Scope};
pub use error::{CallError, Error, ErrorKind};
pub use follows::Follows;
pub use memory::{Memory, MemoryError};
pub use names::{Name, NameError, Nip05, SchemaName};
pub use nip05::{NameOptions, Nip05Error, Verification};
pub use options::{ClientBuilder, ClientOptions};
pub use providers::{Provider, Providers};
pub use streamed::{StreamChunk, StreamFailure, StreamedCall};
pub use view::ServerView;

#[cfg(feature = "rmcp")]
pub use crate::rmcp::ClientTransport;
