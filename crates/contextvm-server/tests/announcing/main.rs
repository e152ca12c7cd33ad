//! Stories of announcing: what a server publishes about itself on real relays, and what it does not.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod changing;
mod deleting;
mod publishing;
mod stage;
#[cfg(feature = "rmcp")]
mod typed;
mod withholding;
