//! Streams from both ends: vectors of the TypeScript SDK, tables of refusals, hostile peers, and a network that loses frames.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, and not all of their functions are marked as tests"
)]

mod hostile;
mod pair;
mod readers;
mod stage;
mod vectors;
mod writer;
