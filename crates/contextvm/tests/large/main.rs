//! Large messages and long streams over relays that lose, double, reorder and restart: whole and in order, or a clean end.
//!
//! `CVM_LARGE=full` makes the numbers those of `cargo xtask large --full`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and these say how much arrived"
)]

mod application;
mod restarts;
mod stage;
mod storms;
mod streams;
