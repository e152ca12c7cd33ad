//! Requests of the server: which host each concerns, and which are not answered yet.
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use contextvm_core::envelope::Envelope;
use contextvm_core::rewrite;

use super::calls::{Path, id_form};
use super::{Act, Purpose, Switchboard};
use crate::answer::{FAILED, empty_result};
use crate::proxy::conversation::Heard;

/// Requests of the server that may wait for hosts.
const ASKED: usize = 256;
/// How long one may wait; our own client forgets it after this time, too.
const PATIENCE: Duration = Duration::from_secs(600);

/// The server's open requests: by the comparable form of its id, the host that was asked, and when.
#[derive(Debug, Default)]
pub(super) struct Asked(BTreeMap<String, (u64, Instant)>);

impl Switchboard {
    /// Asks the one host that a request of the server can concern. A host of 2026-07-28 is asked by a round of input only.
    pub(super) fn server_asks(&mut self, message: &Envelope<'_>, now: Instant) {
        let (Some(id), Some(method)) = (message.id, message.method.as_deref()) else { return };
        if method == "ping" {
            return self.acts.push_back(Act::Server(empty_result(id)));
        }
        let working: Vec<_> = self
            .calls
            .iter()
            .filter(|(_, call)| call.path == Path::Straight && !call.modern)
            .map(|(_, call)| (call.host, call.id.clone()))
            .collect();
        let hosts: BTreeSet<u64> = working.iter().map(|(host, _)| *host).collect();
        let hosts: Vec<u64> = hosts.into_iter().collect();
        let down = self.down_candidates();
        let sessions: Vec<u64> = self
            .hosts
            .iter()
            .filter(|(_, host)| host.session && host.upgrade.is_none())
            .map(|(host, _)| *host)
            .collect();
        let host = match (hosts.as_slice(), down.as_slice(), sessions.as_slice()) {
            ([], [own], _) => {
                let own = own.clone();
                return self.down_asked(&own, id, method, message, now);
            }
            ([host], [], _) => *host,
            // To the server all hosts are one client, whose session is the one that began last.
            ([], [], sessions) if sessions.contains(&self.latest) => self.latest,
            ([], [], [host]) => *host,
            _ => {
                let why = "it is not known which of the hosts behind this client is meant";
                return self.refuse_server(id.get(), FAILED, "which_host", why);
            }
        };
        if self.asked.0.len() >= ASKED {
            return self.refuse_server(id.get(), FAILED, "busy", "too many requests wait for hosts");
        }
        let about = match working.as_slice() {
            [(_, call)] => Some(call.clone()),
            _ => None,
        };
        self.asked.0.insert(id_form(id), (host, now));
        self.acts.push_back(Act::Host(host, Heard { text: message.text().to_owned(), about }));
    }

    /// Passes a host's answer on to whoever asked.
    pub(super) fn host_answers(&mut self, host: u64, message: &Envelope<'_>) {
        let Some(form) = message.id.map(id_form) else { return };
        if self.asked.0.get(&form).is_some_and(|(asked, _)| *asked == host) {
            self.asked.0.remove(&form);
            self.acts.push_back(Act::Server(message.text().to_owned()));
        } else {
            self.up_answer(host, message);
        }
    }

    /// The server takes a request of its own back, or ends a subscription.
    pub(super) fn server_cancels(&mut self, message: &Envelope<'_>, now: Instant) {
        let Some(id) = rewrite::cancelled_request_id(message.params) else { return };
        if let Some((host, _)) = self.asked.0.remove(&id_form(id)) {
            let text = message.text().to_owned();
            return self.acts.push_back(Act::Host(host, Heard { text, about: None }));
        }
        let own = rewrite::plain_text(id);
        if let Some(Purpose::Listen) = self.purposes.get(own.as_ref()) {
            self.purposes.remove(own.as_ref());
            return self.listen_ended(&own, message, now);
        }
        if let Some(call) = self.calls.get(&own).filter(|call| !call.is_work()) {
            let text = rewrite::with_cancelled_request_id(message, call.id.get());
            self.acts.push_back(Act::Host(call.host, Heard { text, about: Some(call.id.clone()) }));
            self.subscription_over(&own);
        }
    }

    /// Questions to a host that is gone are answered for it.
    pub(super) fn asked_gone(&mut self, host: u64) {
        let unanswered: Vec<String> =
            self.asked.0.iter().filter(|(_, asked)| asked.0 == host).map(|(id, _)| id.clone()).collect();
        for id in unanswered {
            self.asked.0.remove(&id);
            self.refuse_server(&id, FAILED, "host_gone", "the host that was asked is gone");
        }
    }

    /// Takes back what a host did not answer in time.
    pub(super) fn asked_sweep(&mut self, now: Instant) {
        let late = self.asked.0.extract_if(.., |_, (_, since)| now.duration_since(*since) >= PATIENCE);
        let told = late.map(|(id, (host, _))| {
            let text = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"not answered in time"}}}}"#
            );
            Act::Host(host, Heard { text, about: None })
        });
        self.acts.extend(told);
    }
}
