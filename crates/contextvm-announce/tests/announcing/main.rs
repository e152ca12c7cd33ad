//! Stories of publishing: the announcing machine, deletions and reviews.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod changes;
mod disorder;
mod greeting;
mod reviews;
mod stage;
mod stamps;
mod vectors;
mod withdrawing;
