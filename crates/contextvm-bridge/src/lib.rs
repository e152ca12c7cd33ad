//! Bridges between MCP processes and Nostr.
//!
//! The [`Gateway`] puts any MCP server on Nostr: a supervised process ([`child`]) that all callers share or that each has
//! for itself, or a server that speaks Streamable HTTP. The [`Proxy`] is the other way round: hosts that speak stdio or
//! HTTP reach servers on Nostr, also across the eras of MCP. Both move raw JSON-RPC; what they do not have to understand
//! passes through unchanged.

mod answer;
pub mod child;
pub mod error;
pub mod gateway;
#[cfg(feature = "http")]
mod http;
pub mod line;
pub mod notice;
mod passes;
pub mod proxy;
mod queue;
mod revision;

pub use child::{ChildCommand, RestartPolicy, RestartWhen};
pub use error::Error;
#[cfg(feature = "http")]
pub use gateway::HttpTarget;
pub use gateway::{Gateway, GatewayBuilder, Isolation, Target};
pub use notice::{Notice, Reporter};
#[cfg(feature = "http")]
pub use proxy::{HttpOptions, HttpProxy, SecretToken};
pub use proxy::{Judgement, Proxy, ProxyBuilder, ToolCheck, ToolsRefused};
/// Stops a bridge from outside.
pub use tokio_util::sync::CancellationToken;
