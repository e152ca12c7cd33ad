//! The real binary, as people, scripts and MCP hosts run it.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod announcing;
mod basics;
mod discovery;
mod endings;
mod eras;
mod fleet;
mod http;
mod inspection;
mod keys;
mod large;
mod names;
mod neighbours;
mod published;
mod purity;
mod relay_check;
mod restarts;
mod reviews;
mod saved;
mod saving;
mod serving;
mod stage;
mod streaming;
mod upstream;
