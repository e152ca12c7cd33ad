//! Resource subscriptions of hosts with sessions, which one server takes for one client.
//!
//! None of the hosts may end what another listens to.
use std::collections::BTreeSet;

use contextvm_core::envelope::Envelope;
use contextvm_core::{object, rewrite};

use super::filter::is_name;
use super::{Act, Host, Switchboard};
use crate::proxy::conversation::Heard;
use crate::revision::covers;

/// Resources that are remembered of one host.
const URIS: usize = 1_024;

impl Switchboard {
    /// Notes what a host listens to; whether its request ends what others want still and so must not reach the server.
    pub(super) fn is_shared(&mut self, host: u64, message: &Envelope<'_>) -> bool {
        let method = message.method.as_deref().unwrap_or_default();
        let uri = rewrite::param(message.params, "uri").and_then(object::string).unwrap_or_default();
        let Some(state) = self.hosts.get_mut(&host) else { return false };
        match method {
            "resources/subscribe" if is_name(&uri) && state.uris.len() < URIS => {
                state.uris.insert(uri.into_owned());
                false
            }
            "resources/unsubscribe" => {
                state.uris.remove(uri.as_ref());
                self.is_wanted(&uri)
            }
            _ => false,
        }
    }

    /// Whether any host listens to a resource.
    pub(super) fn is_wanted(&self, uri: &str) -> bool {
        self.hosts.values().any(|host| host.uris.contains(uri)) || self.down_wants(uri)
    }

    /// Ends what only a host listened to that is gone. With the last host everything ends.
    pub(super) fn unshare(&mut self, uris: &BTreeSet<String>) {
        if self.hosts.is_empty() {
            return;
        }
        for uri in uris.iter().filter(|uri| !self.is_wanted(uri)).cloned().collect::<Vec<_>>() {
            self.down_subscription("resources/unsubscribe", &uri);
        }
    }

    /// A host has begun a session, which may have ended that of the others: what they listen to is subscribed to again.
    pub(super) fn share_again(&mut self, host: u64) {
        let others = self.hosts.iter().filter(|(other, _)| **other != host);
        let uris: BTreeSet<String> =
            others.flat_map(|(_, host)| host.uris.iter().cloned()).chain(self.down_uris()).collect();
        for uri in uris {
            self.down_subscription("resources/subscribe", &uri);
        }
    }

    /// Tells hosts with sessions of a change: the only one as the server does, several what they listen to.
    pub(super) fn tell_updated(&mut self, message: &Envelope<'_>) {
        let uri = rewrite::param(message.params, "uri").and_then(object::string).unwrap_or_default();
        let alone = self.hosts.values().filter(|host| host.session).count() == 1;
        let listens = |host: &Host| alone || host.uris.iter().any(|wanted| covers(wanted, &uri));
        let told = self.hosts.iter().filter(|(_, host)| host.session && listens(host));
        let heard = Heard { text: message.text().to_owned(), about: None };
        self.acts.extend(told.map(|(host, _)| Act::Host(*host, heard.clone())));
    }
}
