//! The ContextVM server transport: a listener that yields one session per caller.
//!
//! [`Server::builder`] collects the options, [`Server::start`] connects and gives a [`Listener`];
//! [`Listener::accept`] yields a [`Session`] for each caller that was let in, and `serve_rmcp` (feature `rmcp`)
//! runs one typed MCP service per caller on top of it.

pub mod access;
pub mod announce;
pub mod error;
pub mod listener;
pub mod local;
pub mod options;
#[cfg(feature = "rmcp")]
pub mod rmcp;
pub mod session;
pub mod stream;

mod answer;
mod desk;
mod listing;
mod offline;
mod opening;
mod writing;

pub use access::{AccessCallback, Answer};
pub use announce::{AnnounceOptions, AnnounceStatus, Announcing};
pub use contextvm_announce::{CommonSchemas, Price, Priced, Profile};
pub use contextvm_engine::server::{Access, Delivery, RequestKey};
pub use contextvm_engine::{EncryptionMode, GiftWrapMode, Identity, ServerConfig, StreamError};
pub use contextvm_store::StoreError;
pub use error::{Error, ErrorKind};
pub use listener::{Listener, ServerHandle, ServerStatus};
pub use local::{LocalCaller, LocalError, LocalSender};
pub use options::{Server, ServerBuilder, ServerOptions};
pub use session::{Inbound, Session, SessionSender};
pub use stream::StreamWriter;

#[cfg(feature = "rmcp")]
pub use crate::rmcp::{Caller, caller, peer_tags, request_event, serve_rmcp, stream_writer};
