//! Which relays lead to a server (CEP-17): configured, hinted, listed by the server, or fallen back to.
use std::net::IpAddr;
use std::time::Duration;

use contextvm_core::kind;
use contextvm_relay::Addresses;
use nostr::event::Event;
use nostr::key::PublicKey;
use nostr::types::RelayUrl;

use crate::Error;
use crate::options::ClientOptions;

/// Where servers publish their relay lists unless told otherwise.
pub const DISCOVERY_RELAYS: [&str; 6] = [
    "wss://relay.damus.io",
    "wss://relay.primal.net",
    "wss://nos.lol",
    "wss://relay.snort.social/",
    "wss://nostr.mom/",
    "wss://nostr.oxtr.dev/",
];

/// How long the server's own list is preferred over the fallback.
pub const PREFERENCE: Duration = Duration::from_secs(3);
/// How long to look for the server's own list when there is no fallback.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Where the relays came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The options named them.
    Configured,
    /// The server's `nprofile` named them.
    Hints,
    /// The server's relay list (kind 10002) named them.
    RelayList,
    /// Fallback relays of the options.
    Fallback,
    /// The discovery relays themselves.
    Discovery,
}

/// The relays to use for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// Their addresses, most preferred first, at least one.
    pub relays: Vec<RelayUrl>,
    /// Who named them.
    pub source: Source,
    /// Which network addresses they may lead to: a stranger's list must not reach into our own network.
    pub addresses: Addresses,
}

/// Finds the relays of a server by the precedence of CEP-17.
///
/// Configured relays win and nothing is asked; then usable hints; then the server's relay list if it is found within
/// [`PREFERENCE`]; then the fallback; then, after [`PATIENCE`] in all, the discovery relays themselves.
///
/// # Errors
/// Fails when a configured address does not parse or when nothing names a relay.
pub async fn resolve(options: &ClientOptions) -> Result<Resolved, Error> {
    if !options.relays.is_empty() {
        return operator(&options.relays, Source::Configured);
    }
    let trust = Trust::of(options);
    let hints = usable(options.server.relays.iter().map(String::as_str), trust, options);
    if !hints.is_empty() {
        return Ok(foreign(hints, Source::Hints, trust));
    }
    let discovery = discovery_relays(options)?;
    if discovery.is_empty() {
        return operator(&options.fallback_relays, Source::Fallback);
    }
    let patience = if options.fallback_relays.is_empty() { PATIENCE } else { PREFERENCE };
    if let Some(event) = newest_list(&discovery, options.server.key, patience).await {
        let listed = usable(listed(&event), trust, options);
        if !listed.is_empty() {
            return Ok(foreign(listed, Source::RelayList, trust));
        }
    }
    if !options.fallback_relays.is_empty() {
        return operator(&options.fallback_relays, Source::Fallback);
    }
    Ok(Resolved { relays: discovery, source: Source::Discovery, addresses: Addresses::Any })
}

/// How far addresses that somebody else named are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// `wss` at public addresses.
    Public,
    /// Whatever it is: development on one machine.
    Local,
}

impl Trust {
    fn of(options: &ClientOptions) -> Self {
        let is_local = |url: &String| RelayUrl::parse(url.trim()).is_ok_and(|url| is_local(&url));
        let local = options
            .discovery_relays
            .as_ref()
            .is_some_and(|urls| !urls.is_empty() && urls.iter().all(is_local));
        if local || options.dangerous_local_relays { Self::Local } else { Self::Public }
    }

    fn admits(self, url: &RelayUrl) -> bool {
        match self {
            Self::Local => true,
            Self::Public => url.as_str().starts_with("wss://") && !is_local(url),
        }
    }
}

/// Takes the relays that the operator of this host named.
fn operator(urls: &[String], source: Source) -> Result<Resolved, Error> {
    let relays = parse_all(urls.iter().map(String::as_str))?;
    if relays.is_empty() {
        return Err(Error::NoRelays);
    }
    Ok(Resolved { relays, source, addresses: Addresses::Any })
}

fn foreign(relays: Vec<RelayUrl>, source: Source, trust: Trust) -> Resolved {
    let addresses = match trust {
        Trust::Public => Addresses::Public,
        Trust::Local => Addresses::Any,
    };
    Resolved { relays, source, addresses }
}

fn discovery_relays(options: &ClientOptions) -> Result<Vec<RelayUrl>, Error> {
    match &options.discovery_relays {
        Some(urls) => parse_all(urls.iter().map(String::as_str)),
        None => parse_all(DISCOVERY_RELAYS.into_iter()),
    }
}

fn parse_all<'a>(urls: impl Iterator<Item = &'a str>) -> Result<Vec<RelayUrl>, Error> {
    let parse = |(place, url): (usize, &str)| RelayUrl::parse(url.trim()).map_err(|_| Error::RelayUrl(place));
    urls.enumerate().map(parse).collect()
}

/// Takes from a stranger's list what may be dialled: the first `relay_list` entries, of them `relays_dialled`.
fn usable<'a>(urls: impl Iterator<Item = &'a str>, trust: Trust, options: &ClientOptions) -> Vec<RelayUrl> {
    let limits = &options.config.limits;
    let mut out: Vec<RelayUrl> = Vec::new();
    for url in urls.take(limits.relay_list) {
        match RelayUrl::parse(url.trim()) {
            Ok(url) if trust.admits(&url) && !out.contains(&url) => out.push(url),
            Ok(_) | Err(_) => {}
        }
    }
    out.truncate(limits.relays_dialled);
    out
}

/// Asks the discovery relays for the server's relay list and believes only what the server signed.
async fn newest_list(discovery: &[RelayUrl], server: PublicKey, patience: Duration) -> Option<Event> {
    let filter = format!(r#"{{"kinds":[{}],"authors":["{}"]}}"#, kind::RELAY_LIST, server.to_hex());
    let report = contextvm_relay::query(discovery, &filter, patience).await.ok()?;
    newest(report.events.iter().map(String::as_str), server)
}

fn newest<'a>(events: impl Iterator<Item = &'a str>, server: PublicKey) -> Option<Event> {
    let believed = events
        .filter_map(|json| serde_json::from_str::<Event>(json).ok())
        .filter(|event| event.kind.as_u16() == kind::RELAY_LIST && event.pubkey == server)
        .filter(|event| event.verify().is_ok());
    // Of two with one stamp the lower id wins (NIP-01).
    believed.max_by(|a, b| a.created_at.cmp(&b.created_at).then_with(|| b.id.cmp(&a.id)))
}

/// Returns the unmarked entries of a relay list if there are any, else the ones to read from, then to write to.
fn listed(event: &Event) -> impl Iterator<Item = &str> {
    let entries = |marker: Option<&'static str>| {
        event.tags.iter().filter(|tag| tag.kind() == "r").filter_map(move |tag| {
            let parts = tag.as_slice();
            let found = parts.get(2).map(String::as_str).filter(|marker| !marker.is_empty());
            (found == marker).then(|| parts.get(1).map(String::as_str)).flatten()
        })
    };
    let marked = entries(None).next().is_none();
    let first = if marked { Some("read") } else { None };
    entries(first).chain(entries(Some("write")).filter(move |_| marked))
}

/// Whether an address leads to this host or to a private network, as far as its text tells.
///
/// Names that resolve to private addresses are refused when they are dialled (see [`Addresses::Public`]).
fn is_local(url: &RelayUrl) -> bool {
    let rest = url.as_str().split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host_port.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(""),
        None => host_port.split(':').next().unwrap_or(""),
    };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => {
            v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified()
        }
        Ok(IpAddr::V6(v6)) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost") || name.ends_with(".local")
        }
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
