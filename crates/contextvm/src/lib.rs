//! ContextVM: the Model Context Protocol over Nostr.
//!
//! This crate re-exports the layered crates under short names. A server starts with [`server::Server::builder`], a
//! client with [`client::Client::builder`]; both speak raw JSON-RPC, and with the feature `rmcp` (on by default) typed
//! MCP as well. The examples show the four ways to use it.
//!
//! ```no_run
//! use contextvm::{Keys, client::Client};
//!
//! # async fn call() -> Result<(), Box<dyn std::error::Error>> {
//! let server = "npub1sn0wdenkukak0d9dfczzeacvhkrgz92ak56egt7vdgzn8pv2wfqqhrjdv9".parse()?;
//! let keys = contextvm::new_keys()?;
//! let (client, _messages) = Client::builder(keys, server).stateless().connect().await?;
//! let tools = client.request("tools/list", None).await?;
//! println!("{tools}");
//! # Ok(()) }
//! ```

pub use contextvm_announce as announce;
pub use contextvm_bridge as bridge;
pub use contextvm_client as client;
pub use contextvm_core as core;
pub use contextvm_crypto as crypto;
pub use contextvm_engine as engine;
#[cfg(feature = "local-relay")]
pub use contextvm_local_relay as local_relay;
pub use contextvm_relay as relay;
pub use contextvm_runtime as runtime;
pub use contextvm_server as server;
pub use contextvm_store as store;

pub use contextvm_core::{Limits, PeerTags, ServerIdentity};
pub use contextvm_crypto::Keys;
pub use contextvm_runtime::new_keys;
