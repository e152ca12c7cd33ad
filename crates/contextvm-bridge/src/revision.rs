//! The words of MCP's revisions that more than one part of the bridges knows.
use contextvm_core::object;
use serde_json::value::RawValue;

/// The first revision without `initialize` and sessions; revisions compare as text.
pub(crate) const MODERN: &str = "2026-07-28";
/// The newest revision with `initialize`.
pub(crate) const LATEST_LEGACY: &str = "2025-11-25";
/// The revisions with `initialize`, oldest first.
pub(crate) const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", LATEST_LEGACY];

/// `_meta` member of every modern request: what the client can do.
pub(crate) const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// `_meta` member of modern requests: the client's name and version.
pub(crate) const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// `_meta` member of modern requests: which log messages are wanted.
pub(crate) const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// `_meta` member of modern results: the server's name and version.
pub(crate) const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// Invalid params; in the modern revision also: there is no such resource.
pub(crate) const INVALID_PARAMS: i64 = -32602;
/// How the older revisions say that there is no such resource.
pub(crate) const NO_RESOURCE: i64 = -32002;
/// Modern: a header and the body disagree, or a header is missing.
#[cfg(feature = "http")]
pub(crate) const HEADER_MISMATCH: i64 = -32020;
/// Modern: the client did not declare a capability that the request needs.
#[cfg(feature = "http")]
pub(crate) const MISSING_CAPABILITY: i64 = -32021;
/// Modern: the revision is not supported.
pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;

/// The levels of log messages, the most talkative first.
pub(crate) const LOG_LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// Returns the place of a level of log messages; the lower, the more is said. `None` when there is no such level.
pub(crate) fn log_level(level: &RawValue) -> Option<usize> {
    let level = object::string(level)?;
    LOG_LEVELS.iter().position(|known| *known == level)
}

/// Whether an update of one resource concerns a subscription to another: it may name a part of it.
pub(crate) fn covers(subscribed: &str, updated: &str) -> bool {
    updated
        .strip_prefix(subscribed)
        .is_some_and(|rest| rest.is_empty() || subscribed.ends_with('/') || rest.starts_with(['/', '?', '#']))
}

/// Whether a revision has no `initialize` and no sessions.
#[cfg(any(feature = "http", test))]
pub(crate) fn is_modern(version: &str) -> bool {
    version >= MODERN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_compare_as_text() {
        assert!(is_modern(MODERN) && is_modern("2027-01-01"));
        assert!(LEGACY.iter().all(|version| !is_modern(version)) && !is_modern(""));
    }
}
