//! Bridges between MCP processes and Nostr.
//!
//! The [`Gateway`] puts a supervised stdio server ([`child`]) on Nostr: every caller talks to the same child, which never
//! notices. The [`Proxy`] is the other way round: a stdio host talks to a server on Nostr. Both move raw JSON-RPC; what
//! they do not have to understand passes through unchanged.

pub mod child;
pub mod error;
pub mod gateway;
pub mod line;
pub mod notice;
pub mod proxy;

pub use child::{ChildCommand, RestartPolicy, RestartWhen};
pub use error::Error;
pub use gateway::{Gateway, GatewayBuilder};
pub use notice::{Notice, Reporter};
pub use proxy::{Proxy, ProxyBuilder};
/// Stops a bridge from outside.
pub use tokio_util::sync::CancellationToken;
