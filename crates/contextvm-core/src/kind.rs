//! Event kinds that ContextVM uses (wire protocol, kinds table).

/// MCP message in both directions; ephemeral.
pub const MESSAGE: u16 = 25910;
/// Persistent gift wrap, which relays may store (CEP-4).
pub const GIFT_WRAP: u16 = 1059;
/// Ephemeral gift wrap, which relays pass on and do not store (CEP-19).
pub const EPHEMERAL_GIFT_WRAP: u16 = 21059;
/// Relay list of a server (CEP-17, NIP-65 form).
pub const RELAY_LIST: u16 = 10002;
/// Client authentication towards a relay (NIP-42).
pub const AUTH: u16 = 22242;
