//! Looking up names at their domains (NIP-05): over https, at public addresses, without redirects.
use std::collections::BTreeMap;
use std::time::Duration;

use contextvm_core::{Fault, ServerIdentity};
use contextvm_relay::{Addresses, Fetch, FetchError};
use nostr::key::PublicKey;
use nostr::types::url::Url;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::names::Nip05;

/// How long a lookup may take by default: 5 s.
pub const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);
/// Largest document taken: 64 KiB.
pub const LARGEST_DOCUMENT: usize = 64 * 1024;
/// Most relays that a document may name for one key; the rest is left out.
pub const MOST_HINTS: usize = 16;

/// How names are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NameOptions {
    /// Allow private addresses, and plain http at `localhost` and at IP addresses. Dangerous outside development.
    pub dangerous_local: bool,
    /// Longest wait; 5 s.
    pub deadline: Duration,
}

impl Default for NameOptions {
    fn default() -> Self {
        Self { dangerous_local: false, deadline: LOOKUP_DEADLINE }
    }
}

impl NameOptions {
    /// Allows private addresses, and plain http at `localhost` and at IP addresses.
    #[must_use]
    pub const fn with_dangerous_local(mut self, local: bool) -> Self {
        self.dangerous_local = local;
        self
    }

    /// Sets the longest wait.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// Why a name leads to no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Nip05Error {
    /// The domain is no host that could be asked.
    #[error("the domain is not one that can be asked")]
    Address,
    /// The domain did not give its document.
    #[error("the domain gave no list of names: {0}")]
    Fetch(#[from] FetchError),
    /// What it gave is not a list of names.
    #[error("what the domain gave is not a list of names (NIP-05)")]
    Document,
    /// The list does not have the name.
    #[error("the domain does not know the name")]
    Unknown,
    /// The list has something else than a public key in hex for the name.
    #[error("the domain has no valid public key for the name")]
    NotAKey,
}

impl Nip05Error {
    /// Says who misbehaved.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Address => Fault::Local,
            Self::Fetch(_) | Self::Document | Self::Unknown | Self::NotAKey => Fault::Peer,
        }
    }

    /// Whether the same lookup may succeed later without any change.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Fetch(_))
    }
}

/// What a domain says about a name that a key claims.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verification {
    /// The domain names this key.
    Verified,
    /// The domain names this other key, or none.
    Mismatch(Option<PublicKey>),
    /// The claim is not of the form `name@domain`.
    Malformed,
    /// The domain could not be asked.
    Unreachable(Nip05Error),
}

/// Asks the domain for the key behind a name; relays that it names for the key become hints.
///
/// # Errors
/// Fails when the domain cannot be asked or does not know the name.
pub async fn resolve(name: &Nip05, options: &NameOptions) -> Result<ServerIdentity, Nip05Error> {
    let addresses = if options.dangerous_local { Addresses::Any } else { Addresses::Public };
    let scheme = if options.dangerous_local && is_local(&name.domain) { "http" } else { "https" };
    // Both parts hold nothing that would need escaping.
    let url = format!("{scheme}://{}/.well-known/nostr.json?name={}", name.domain, name.name);
    let fetch = Fetch::new(Url::parse(&url).map_err(|_| Nip05Error::Address)?)
        .with_addresses(addresses)
        .with_accept("application/json")
        .with_limit(LARGEST_DOCUMENT)
        .with_deadline(options.deadline);
    read(&fetch.get().await?, &name.name)
}

/// Asks whether a domain names a key, as the key's profile claims it.
pub async fn verify(key: &PublicKey, claim: &str, options: &NameOptions) -> Verification {
    let Ok(name) = claim.parse::<Nip05>() else { return Verification::Malformed };
    match resolve(&name, options).await {
        Ok(identity) if identity.key == *key => Verification::Verified,
        Ok(other) => Verification::Mismatch(Some(other.key)),
        Err(Nip05Error::Unknown | Nip05Error::NotAKey) => Verification::Mismatch(None),
        Err(error) => Verification::Unreachable(error),
    }
}

/// Whether a domain is `localhost` or an IPv4 address, perhaps with a port.
fn is_local(domain: &str) -> bool {
    let host = domain.split_once(':').map_or(domain, |(host, _)| host);
    host == "localhost" || host.ends_with(".localhost") || host.parse::<std::net::Ipv4Addr>().is_ok()
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    names: BTreeMap<String, &'a RawValue>,
    #[serde(borrow, default)]
    relays: Option<&'a RawValue>,
}

/// Finds a name in a document; entries that are not asked for may be anything.
fn read(document: &[u8], name: &str) -> Result<ServerIdentity, Nip05Error> {
    let document: Document<'_> = serde_json::from_slice(document).map_err(|_| Nip05Error::Document)?;
    let hex = document.names.get(name).ok_or(Nip05Error::Unknown)?;
    let hex: String = serde_json::from_str(hex.get()).map_err(|_| Nip05Error::NotAKey)?;
    let identity: ServerIdentity = match hex.len() {
        64 => hex.parse().map_err(|_| Nip05Error::NotAKey)?,
        _ => return Err(Nip05Error::NotAKey),
    };
    let relays = document.relays.and_then(|relays| {
        let all: BTreeMap<String, &RawValue> = serde_json::from_str(relays.get()).ok()?;
        serde_json::from_str::<Vec<String>>(all.get(&identity.key.to_hex())?.get()).ok()
    });
    let relays = relays.unwrap_or_default().into_iter().take(MOST_HINTS).collect();
    Ok(ServerIdentity { relays, ..identity })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";

    fn found(document: &str) -> Result<ServerIdentity, Nip05Error> {
        read(document.as_bytes(), "bob")
    }

    #[test]
    fn a_name_is_found_whatever_the_other_entries_are() {
        let text = format!(
            r#"{{"names":{{"alice":7,"bob":"{HEX}"}},"relays":{{"x":1,"{HEX}":["wss://a.example"]}}}}"#
        );
        assert_eq!(found(&text).unwrap().relays, ["wss://a.example"]);
        for relays in ["null", "7", r#"{"7e":[]}"#, &format!(r#"{{"{HEX}":[1]}}"#)] {
            let identity = found(&format!(r#"{{"names":{{"bob":"{HEX}"}},"relays":{relays}}}"#)).unwrap();
            assert_eq!((identity.key.to_hex().as_str(), identity.relays.len()), (HEX, 0), "{relays}");
        }
        let many = vec!["wss://a.example"; 1_000];
        let text =
            format!(r#"{{"names":{{"bob":"{HEX}"}},"relays":{{"{HEX}":{}}}}}"#, serde_json::json!(many));
        assert_eq!(found(&text).unwrap().relays.len(), MOST_HINTS);
    }

    #[test]
    fn what_is_no_document_or_no_key_is_told_apart() {
        for text in ["", "[]", "{}", r#"{"names":[]}"#, "<html>"] {
            assert_eq!(found(text), Err(Nip05Error::Document), "{text}");
        }
        assert_eq!(found(r#"{"names":{"Bob":1}}"#), Err(Nip05Error::Unknown));
        let npub = found(&format!(r#"{{"names":{{"bob":"{HEX}"}}}}"#)).unwrap().to_string();
        let not_a_point = "f".repeat(64);
        for key in ["7", r#""""#, &format!("\"{npub}\""), &format!("\"{not_a_point}\"")] {
            assert_eq!(found(&format!(r#"{{"names":{{"bob":{key}}}}}"#)), Err(Nip05Error::NotAKey), "{key}");
        }
    }

    #[test]
    fn plain_http_is_for_this_host_alone() {
        for local in ["localhost", "localhost:80", "a.localhost:1", "127.0.0.1:8080"] {
            assert!(is_local(local), "{local}");
        }
        for other in ["example.com", "localhost.example.com:80", "127.0.0.1.example.com"] {
            assert!(!is_local(other), "{other}");
        }
    }
}
