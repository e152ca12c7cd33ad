//! The ContextVM client transport: one client key talking to one server key.
//!
//! [`Client::connect`] resolves the server's relays (see [`resolve`]), connects, and gives a [`Client`] to send with and
//! [`Messages`] to read from. [`Client::request`] makes one plain call ([`modern`] adds what MCP 2026-07-28 wants in each); the
//! `rmcp` feature turns the pair into a typed MCP transport.

pub mod client;
pub mod error;
pub mod modern;
pub mod options;
pub mod resolve;
#[cfg(feature = "rmcp")]
pub mod rmcp;

mod admission;
mod desk;
mod search;
mod view;

pub use client::{Answered, Client, ClientStatus, Messages};
pub use contextvm_core::identity::ServerIdentity;
pub use contextvm_engine::client::{Exchange, Lost};
pub use contextvm_engine::{ClientConfig, EncryptionMode, GiftWrapMode};
pub use error::{CallError, Error, ErrorKind};
pub use options::{ClientBuilder, ClientOptions};
pub use view::ServerView;

#[cfg(feature = "rmcp")]
pub use crate::rmcp::ClientTransport;
