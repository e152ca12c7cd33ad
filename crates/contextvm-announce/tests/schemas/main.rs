//! Common tool schemas (CEP-15) and pinned tools, checked against other implementations and by properties.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests may panic, and not all of their functions are marked as tests"
)]

mod annotations;
mod generate;
mod hashes;
mod pinned;
mod properties;

use serde_json::value::RawValue;

/// Makes a raw value of a JSON text.
fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.trim().to_owned()).unwrap()
}
