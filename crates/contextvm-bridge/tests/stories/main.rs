//! Stories of bridges: real relays, real children, real streams.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod gateway;
mod proxy;
mod stage;
