//! Relays over real sockets, against a relay that does exactly what each test tells it.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail loudly")]
mod adding;
mod authenticating;
mod fetching;
mod frames;
mod holding;
mod leaks;
mod phishing;
mod posting;
mod probing;
mod publishing;
mod querying;
mod subscribing;
mod support;
