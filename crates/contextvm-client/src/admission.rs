//! What is taken from somebody else's list of relays: a stranger's list must not reach into our own network.
use contextvm_core::Limits;
use contextvm_relay::{Addresses, is_local};
use nostr::types::RelayUrl;

use crate::options::ClientOptions;

/// The rule for relays that an `nprofile` or a relay list names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    /// Where they may lead to when they are dialled.
    pub(crate) addresses: Addresses,
    /// Entries that are looked at.
    read: usize,
    /// Relays that are taken, at most.
    taken: usize,
}

impl Admission {
    pub(crate) const fn of(options: &ClientOptions) -> Self {
        Self::new(options.dangerous_local_relays, &options.config.limits)
    }

    pub(crate) const fn new(local: bool, limits: &Limits) -> Self {
        let addresses = if local { Addresses::Any } else { Addresses::Public };
        Self { addresses, read: limits.relay_list, taken: limits.relays_dialled }
    }

    /// Takes the first entries that may be dialled, each once.
    pub(crate) fn take<'a>(self, urls: impl Iterator<Item = &'a str>) -> Vec<RelayUrl> {
        let mut out: Vec<RelayUrl> = Vec::new();
        for url in urls.take(self.read) {
            match RelayUrl::parse(url.trim()) {
                Ok(url) if self.admits(&url) && !out.contains(&url) => out.push(url),
                Ok(_) | Err(_) => {}
            }
        }
        out.truncate(self.taken);
        out
    }

    fn admits(self, url: &RelayUrl) -> bool {
        match self.addresses {
            Addresses::Any => true,
            Addresses::Public => url.scheme().is_secure() && !is_local(url.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use contextvm_core::identity::ServerIdentity;
    use contextvm_crypto::Keys;

    use super::*;

    fn options() -> ClientOptions {
        let keys = |byte| Keys::from_secret_bytes([byte; 32]).unwrap();
        ClientOptions::new(keys(1), ServerIdentity::from(keys(2).public_key()))
    }

    #[test]
    fn a_list_of_a_thousand_relays_is_cut_to_the_limits() {
        let many: Vec<String> = (0..1_000).map(|n| format!("wss://r{n}.example")).collect();
        let taken = Admission::of(&options()).take(many.iter().map(String::as_str));
        assert_eq!(taken.len(), options().config.limits.relays_dialled);
        let late = ["ws://a.example"; 8].into_iter().chain(["wss://ninth.example"]);
        assert!(Admission::of(&options()).take(late).is_empty());
    }

    #[test]
    fn private_addresses_are_known_by_their_text_and_refused_unless_asked_for() {
        let local = [
            "wss://localhost:1",
            "wss://LOCALHOST.",
            "wss://127.0.0.1",
            "wss://0x7f.1",
            "wss://[::1]:8",
            "wss://[::ffff:10.0.0.1]",
            "wss://user@192.168.1.1/x",
            "wss://printer.local",
            "wss://printer",
            "wss://100.64.1.2",
            "ws://relay.example",
        ];
        for url in local {
            assert!(Admission::of(&options()).take([url].into_iter()).is_empty(), "{url}");
            let asked = ClientOptions { dangerous_local_relays: true, ..options() };
            assert_eq!(Admission::of(&asked).take([url].into_iter()).len(), 1, "{url}");
        }
        for url in ["wss://relay.example", "wss://1.1.1.1", "wss://local.example"] {
            assert_eq!(Admission::of(&options()).take([url].into_iter()).len(), 1, "{url}");
        }
    }
}
