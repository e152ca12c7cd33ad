//! Stories of bridges: real relays, real children, real streams.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod crowd;
mod gateway;
mod http_server;
mod isolation;
mod languages;
mod large;
mod lists;
mod local_caller;
mod many_servers;
mod orphans;
mod parsers;
mod proxy;
mod stage;
mod streams;
mod upstream;
