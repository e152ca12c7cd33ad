//! What servers publish, read and merged: vectors, order of arrival, rollback, floods, filters and names.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod filters;
mod floods;
mod memory;
mod merging;
mod names;
mod order;
mod reading;
mod stage;
mod vectors;
