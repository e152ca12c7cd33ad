//! Clients and servers over real relays on loopback.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod access;
mod callers;
mod discovery;
mod eras;
mod relays;
mod resolution;
mod round_trips;
mod stores;
mod streams;
mod support;
mod transfers;
