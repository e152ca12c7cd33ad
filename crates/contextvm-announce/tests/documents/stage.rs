//! Keys and events for the stories.
use contextvm_announce::{Directory, Signed};
use contextvm_core::kind;
use contextvm_crypto::Keys;
use nostr::event::Tags;

/// The clock of the stories, Unix seconds.
pub(crate) const NOW: u64 = 1_700_000_000;

/// The result of an `initialize`.
pub(crate) const INITIALIZE: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"demo","version":"1.0"}}"#;

/// Key pair number `n`.
pub(crate) fn keys(n: u64) -> Keys {
    let mut secret = [0x11; 32];
    secret[..8].copy_from_slice(&(n + 1).to_be_bytes());
    Keys::from_secret_bytes(secret).unwrap()
}

/// Tags from a list of lists.
pub(crate) fn tags(list: &[&[&str]]) -> Tags {
    Tags::parse(list.iter().map(|tag| tag.iter().map(ToString::to_string))).unwrap()
}

/// A signed event.
pub(crate) fn signed(keys: &Keys, kind: u16, created_at: u64, list: &[&[&str]], content: &str) -> Signed {
    Signed::verify(keys.sign_event(kind, created_at, tags(list), content.to_owned(), [7; 32])).unwrap()
}

/// An announcement of a server of this name.
pub(crate) fn server(keys: &Keys, created_at: u64, name: &str) -> Signed {
    signed(keys, kind::SERVER_ANNOUNCEMENT, created_at, &[&["name", name]], INITIALIZE)
}

/// A list of tools of these names.
pub(crate) fn tools(keys: &Keys, created_at: u64, list: &[&[&str]], names: &[&str]) -> Signed {
    signed(keys, kind::TOOLS_LIST, created_at, list, &tools_result(names))
}

/// A result of `tools/list`.
pub(crate) fn tools_result(names: &[&str]) -> String {
    let tools: Vec<String> = names
        .iter()
        .map(|name| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#))
        .collect();
    format!(r#"{{"tools":[{}]}}"#, tools.join(","))
}

/// The name that the view has for a key; empty when it has none.
pub(crate) fn name(view: &Directory, keys: &Keys) -> String {
    view.server(&keys.public_key()).map(|entry| entry.name()).unwrap_or_default()
}
