//! What a ContextVM server must remember across restarts, in one file under a lock: accepted ids and given answers.
//!
//! [`Store::open`] returns what an earlier run left, for [`ServerMachine::restore`](contextvm_engine::ServerMachine::restore);
//! [`Store::commit`] has a batch of records on disk when it returns. Both block; call them beside an async loop.

mod base;
mod code;
mod error;
mod file;
mod overlay;
#[cfg(test)]
mod power;
mod store;

pub use error::StoreError;
pub use store::{Discarded, Restored, Store};
