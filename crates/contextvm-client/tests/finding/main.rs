//! Servers are found over real relays on loopback, some of which are dead, slow, behind, or lie.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod follows;
mod honesty;
mod lists;
mod lying;
mod names;
mod partial;
mod processes;
mod reviews;
mod schemas;
mod support;
