//! The driver with an endpoint that does what the test tells it, over a real relay.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
mod answering;
mod flood;
mod puppet;
mod relay_limit;
mod traffic;
