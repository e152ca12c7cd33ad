//! The server machine.

/// Placeholder.
pub fn server_engine(_data: &[u8]) {}
