//! Stories of the server face: sessions inside the process.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod local_callers;
#[cfg(feature = "rmcp")]
mod typed_services;
mod without_relays;
