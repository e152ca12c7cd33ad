//! The hostile at work: what they do really happens, and nothing comes of it.
#![expect(
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests look at what their test speaks of, and stop where it cannot go on"
)]

mod alone;
mod worlds;
