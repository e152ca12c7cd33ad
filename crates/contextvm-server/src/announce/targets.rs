//! Where announcements go: the relays that are advertised, and public ones where clients look.
use contextvm_announce::BOOTSTRAP_RELAYS;
use contextvm_relay::is_local;
use nostr::types::RelayUrl;

use super::AnnouncingError;

/// The relays that announcements go to, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceTargets {
    /// Relays that callers are told about, in order.
    pub advertised: Vec<RelayUrl>,
    /// Further relays, which only carry announcements.
    pub bootstrap: Vec<RelayUrl>,
}

impl AnnounceTargets {
    /// Takes the advertised relays and the bootstrap relays: `None` for the default six, an empty list for none.
    ///
    /// A relay on this host or in a private network is advertised only if there is no other; then the default bootstrap
    /// relays are left out too, because what is not reachable from outside is nobody's business there. URLs that differ only
    /// in a final slash are one relay.
    ///
    /// # Errors
    /// Fails when a URL does not parse, and when no relay remains.
    pub fn new(advertised: &[String], bootstrap: Option<&[String]>) -> Result<Self, AnnouncingError> {
        let parsed = parse(advertised.iter().map(String::as_str), 0)?;
        Self::of(parsed, advertised.len(), bootstrap)
    }

    /// Takes advertised relays that parse, and how many were given.
    pub(super) fn of(
        mut advertised: Vec<RelayUrl>,
        given: usize,
        bootstrap: Option<&[String]>,
    ) -> Result<Self, AnnouncingError> {
        let is_local_only = advertised.iter().all(|url| is_local(url.into()));
        if !is_local_only {
            advertised.retain(|url| !is_local(url.into()));
        }
        let mut bootstrap = match bootstrap {
            Some(urls) => parse(urls.iter().map(String::as_str), given)?,
            None if is_local_only => Vec::new(),
            None => parse(BOOTSTRAP_RELAYS.into_iter(), given)?,
        };
        bootstrap.retain(|url| !advertised.contains(url));
        if advertised.is_empty() && bootstrap.is_empty() {
            return Err(AnnouncingError::NoRelays);
        }
        Ok(Self { advertised, bootstrap })
    }

    /// Lists all of them, the advertised ones first.
    #[must_use]
    pub fn all(&self) -> Vec<RelayUrl> {
        self.advertised.iter().chain(&self.bootstrap).cloned().collect()
    }
}

fn parse<'a>(urls: impl Iterator<Item = &'a str>, first: usize) -> Result<Vec<RelayUrl>, AnnouncingError> {
    let mut parsed: Vec<RelayUrl> = Vec::new();
    for (place, url) in urls.enumerate() {
        let url = RelayUrl::parse(url.trim()).map_err(|_| AnnouncingError::RelayUrl(first + place))?;
        if !parsed.contains(&url) {
            parsed.push(url);
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(urls: &[&str]) -> Vec<String> {
        urls.iter().map(ToString::to_string).collect()
    }

    fn printed(urls: &[RelayUrl]) -> Vec<String> {
        urls.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_default_relays_are_for_servers_that_outsiders_can_reach() {
        let local = [
            "ws://localhost:1",
            "ws://127.0.0.1:1",
            "ws://0.0.0.0:1",
            "ws://[::1]:1",
            "ws://[::]:1",
            "ws://[::ffff:127.0.0.1]:1",
            "ws://10.1.2.3",
            "ws://192.168.0.1",
            "ws://100.64.1.2",
            "ws://[fd00::1]",
            "wss://relay.local",
            "wss://relay",
            "wss://a.localhost",
        ];
        let targets = AnnounceTargets::new(&texts(&local), None).unwrap();
        assert_eq!((targets.advertised.len(), targets.bootstrap.len()), (local.len(), 0));
        for public in ["wss://relay.example", "ws://8.8.8.8", "wss://[2606:4700::1]"] {
            let mixed = texts(&["ws://127.0.0.1:1", public]);
            assert_eq!(AnnounceTargets::new(&mixed, None).unwrap().bootstrap.len(), 6, "{public}");
        }
    }

    #[test]
    fn what_is_named_holds_even_for_local_relays_and_an_empty_list_is_none() {
        let local = texts(&["ws://127.0.0.1:1"]);
        let named = AnnounceTargets::new(&local, Some(&texts(&["wss://a.example"]))).unwrap();
        assert_eq!(printed(&named.bootstrap), ["wss://a.example"]);
        let public = texts(&["wss://b.example"]);
        assert_eq!(AnnounceTargets::new(&public, Some(&[])).unwrap().all().len(), 1);
        assert_eq!(AnnounceTargets::new(&[], Some(&[])), Err(AnnouncingError::NoRelays));
        assert_eq!(AnnounceTargets::new(&[], None), Err(AnnouncingError::NoRelays));
    }

    #[test]
    fn each_relay_is_named_once() {
        let advertised =
            texts(&["wss://a.example/", "wss://A.example", " wss://a.example/x", "wss://nos.lol/"]);
        let targets = AnnounceTargets::new(&advertised, None).unwrap();
        assert_eq!(printed(&targets.advertised), ["wss://a.example/", "wss://a.example/x", "wss://nos.lol/"]);
        assert_eq!(targets.bootstrap.len(), 5);
    }

    #[test]
    fn a_bad_url_is_named_by_its_place() {
        let bad = |advertised: &[&str], bootstrap: &[&str]| {
            AnnounceTargets::new(&texts(advertised), Some(&texts(bootstrap))).unwrap_err()
        };
        assert_eq!(bad(&["wss://a.example", "https://b.example"], &[]), AnnouncingError::RelayUrl(1));
        assert_eq!(bad(&["wss://a.example", "wss://a.example"], &["x"]), AnnouncingError::RelayUrl(2));
    }

    #[test]
    fn outsiders_are_not_told_about_local_relays_beside_public_ones() {
        let advertised =
            |urls: &[&str]| printed(&AnnounceTargets::new(&texts(urls), None).unwrap().advertised);
        assert_eq!(advertised(&["ws://127.0.0.1:1", "wss://a.example"]), ["wss://a.example"]);
        assert_eq!(advertised(&["ws://127.0.0.1:1"]), ["ws://127.0.0.1:1"]);
    }
}
