//! Which relays lead to a server (CEP-17): configured, hinted, listed by the server, or fallen back to.
use std::time::Duration;

use contextvm_announce::BOOTSTRAP_RELAYS;
use contextvm_relay::Addresses;
use nostr::types::RelayUrl;

use crate::Error;
use crate::admission::Admission;
use crate::options::ClientOptions;
use crate::search::Search;

/// Where servers publish their relay lists unless told otherwise.
pub const DISCOVERY_RELAYS: [&str; 6] = BOOTSTRAP_RELAYS;

/// How long the server's own list is preferred over the fallback: 3 s.
pub const PREFERENCE: Duration = Duration::from_secs(3);
/// How long the server's own list is looked for in all: 10 s.
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
/// Configured relays win and nothing is asked; then usable hints; then the server's relay list, if a discovery relay
/// has it within [`PREFERENCE`] ([`PATIENCE`] where there is no fallback) and within a second after the first of them
/// has answered, or the newest list that the memory of the options knows, when none of them has a newer one; then the
/// fallback; then the discovery relays themselves. Saving what was learned may add 2 s while another process holds the file.
///
/// A [`Client`](crate::Client) that started before every discovery relay had answered goes on looking for [`PATIENCE`] in all and
/// adds the relays of a newer list that comes late to those in use.
///
/// # Errors
/// Fails when a configured address does not parse or when nothing names a relay.
pub async fn resolve(options: &ClientOptions) -> Result<Resolved, Error> {
    find(options).await.map(|(resolved, _search)| resolved)
}

/// Does what [`resolve`] says; where some relay has not answered yet, the search goes on.
pub(crate) async fn find(options: &ClientOptions) -> Result<(Resolved, Option<Search>), Error> {
    if !options.relays.is_empty() {
        return Ok((operator(parsed(&options.relays)?, Source::Configured)?, None));
    }
    let admission = Admission::of(options);
    let foreign = |relays, source| Resolved { relays, source, addresses: admission.addresses };
    let hints = admission.take(options.server.relays.iter().map(String::as_str));
    if !hints.is_empty() {
        return Ok((foreign(hints, Source::Hints), None));
    }
    let fallback = parsed(&options.fallback_relays)?;
    let discovery = match &options.discovery_relays {
        Some(urls) => parsed(urls)?,
        None => parsed(&DISCOVERY_RELAYS)?,
    };
    if discovery.is_empty() {
        return Ok((operator(fallback, Source::Fallback)?, None));
    }
    let mut search = Search::start(&discovery, options.server.key, admission, options.memory.clone());
    let patience = if fallback.is_empty() { PATIENCE } else { PREFERENCE };
    let listed = search.soon(patience).await;
    if !listed.is_empty() {
        return Ok((foreign(listed, Source::RelayList), Some(search).filter(|search| !search.is_over())));
    }
    let resolved = if fallback.is_empty() {
        operator(discovery, Source::Discovery)
    } else {
        operator(fallback, Source::Fallback)
    };
    Ok((resolved?, Some(search).filter(|search| !search.is_over())))
}

/// Takes the relays that the operator of this host named.
fn operator(relays: Vec<RelayUrl>, source: Source) -> Result<Resolved, Error> {
    if relays.is_empty() {
        return Err(Error::NoRelays);
    }
    Ok(Resolved { relays, source, addresses: Addresses::Any })
}

fn parsed<S: AsRef<str>>(urls: &[S]) -> Result<Vec<RelayUrl>, Error> {
    parse_all(urls).map_err(Error::RelayUrl)
}

/// Reads addresses; the error is the place of the first that is none.
pub(crate) fn parse_all<S: AsRef<str>>(urls: &[S]) -> Result<Vec<RelayUrl>, usize> {
    let parse = |(place, url): (usize, &S)| RelayUrl::parse(url.as_ref().trim()).map_err(|_| place);
    urls.iter().enumerate().map(parse).collect()
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
