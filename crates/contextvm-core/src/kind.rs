//! Event kinds that ContextVM uses (wire protocol, kinds table).

/// Profile of a key, also of a server (CEP-23, NIP-01); replaceable.
pub const PROFILE: u16 = 0;
/// Whom a key follows (NIP-02); replaceable.
pub const FOLLOWS: u16 = 3;
/// Request to delete own events (NIP-09).
pub const DELETION: u16 = 5;
/// Comment; on an announcement it is a review (CEP-24, NIP-22).
pub const COMMENT: u16 = 1111;
/// What a server is: its answer to `initialize` or `server/discover` (CEP-6); replaceable, as are the four lists.
pub const SERVER_ANNOUNCEMENT: u16 = 11316;
/// A server's tools (CEP-6).
pub const TOOLS_LIST: u16 = 11317;
/// A server's resources (CEP-6).
pub const RESOURCES_LIST: u16 = 11318;
/// A server's resource templates (CEP-6).
pub const RESOURCE_TEMPLATES_LIST: u16 = 11319;
/// A server's prompts (CEP-6).
pub const PROMPTS_LIST: u16 = 11320;
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
