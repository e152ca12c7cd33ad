//! Transfers from both ends: the vectors of the TypeScript SDK, tables of refusals, and a network that loses and reorders.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, and not all of their functions are marked as tests"
)]

mod pair;
mod receiver;
mod restart;
mod sender;
mod stage;
mod vectors;
