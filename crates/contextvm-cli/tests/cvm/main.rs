//! The real binary, as people, scripts and MCP hosts run it.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod basics;
mod endings;
mod eras;
mod fleet;
mod http;
mod keys;
mod purity;
mod serving;
mod stage;
mod upstream;
