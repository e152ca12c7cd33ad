//! Which era the server speaks, and how that is found out.
use std::time::{Duration, Instant};

use contextvm_core::envelope::Envelope;
use contextvm_core::{object, rewrite};

use super::calls::Path;
use super::texts::{modern_params, request_text, shows_modern};
use super::{Purpose, Switchboard};
use crate::revision::{CLIENT_CAPABILITIES, MODERN};

/// How long a server may take to show which era it speaks before it is taken for an older one.
const PROBE: Duration = Duration::from_secs(20);

/// Which revision the server is known to speak without `initialize`.
#[derive(Debug)]
pub(super) enum Era {
    Unknown,
    /// Asked, and what waits for the answer.
    Probing {
        own: String,
        since: Instant,
        held: Vec<(String, String)>,
    },
    Modern,
    Legacy,
}

impl Switchboard {
    /// Sends a request of 2026-07-28 the way that suits the server.
    pub(super) fn modern_request(&mut self, own: String, text: String, now: Instant) {
        match &mut self.era {
            Era::Modern => self.send_call(&own, Path::Straight, text),
            Era::Legacy => self.down_request(&own, &text, now),
            Era::Probing { held, .. } => held.push((own, text)),
            Era::Unknown => {
                let limits = self.limits.clone();
                if Envelope::parse(&text, &limits).is_ok_and(|message| is_probe(&message)) {
                    // The host's own question shows it just as well.
                    self.era = Era::Probing { own: own.clone(), since: now, held: Vec::new() };
                    return self.send_call(&own, Path::Straight, text);
                }
                self.probe(vec![(own, text)], now);
            }
        }
    }

    fn probe(&mut self, held: Vec<(String, String)>, since: Instant) {
        let own = self.own_request(Purpose::Probe, "server/discover", &modern_params(""));
        self.era = Era::Probing { own, since, held };
    }

    pub(super) fn is_probing(&self, own: &str) -> bool {
        matches!(&self.era, Era::Probing { own: probe, .. } if probe == own)
    }

    /// Takes the answer to a probe, be it the switchboard's own or a host's.
    pub(super) fn probe_answered(&mut self, own: &str, answer: &Envelope<'_>, now: Instant) {
        match (shows_modern(answer), self.is_probing(own)) {
            (Some(modern), true) => self.probed(modern, now),
            (None, true) => self.not_probed(answer),
            // It was slow; if nothing of an older session was seen since, its word stands.
            (Some(true), false) if !self.down_is_open() => self.era = Era::Modern,
            (_, false) => {}
        }
    }

    /// The server has shown which era it speaks; what waited for that goes on.
    fn probed(&mut self, modern: bool, now: Instant) {
        let next = if modern { Era::Modern } else { Era::Legacy };
        let Era::Probing { own, held, .. } = core::mem::replace(&mut self.era, next) else { return };
        if !modern && self.calls.get(&own).is_some() {
            self.down_request(&own, &request_text(&own, "server/discover", &modern_params("")), now);
        }
        for (own, text) in held {
            if self.calls.get(&own).is_some() {
                self.modern_request(own, text, now);
            }
        }
    }

    /// It could not be found out; whoever waits learns why, and the next request tries again.
    fn not_probed(&mut self, answer: &Envelope<'_>) {
        let Era::Probing { held, .. } = core::mem::replace(&mut self.era, Era::Unknown) else { return };
        for (own, _) in held {
            self.answer_host(&own, answer);
        }
    }

    /// A host has taken its question back; whoever else waits for the answer has it asked again.
    pub(super) fn probe_cancelled(&mut self, own: &str) {
        if !self.is_probing(own) {
            return;
        }
        let Era::Probing { since, held, .. } = core::mem::replace(&mut self.era, Era::Unknown) else {
            return;
        };
        if held.iter().any(|(own, _)| self.calls.get(own).is_some()) {
            self.probe(held, since);
        }
    }

    pub(super) fn era_sweep(&mut self, now: Instant) {
        if let Era::Probing { since, .. } = &self.era
            && now.duration_since(*since) >= PROBE
        {
            self.probed(false, now);
        }
    }
}

/// Whether a request asks what a server of 2026-07-28 must answer: one that is incomplete it refuses like an older one.
fn is_probe(message: &Envelope<'_>) -> bool {
    let version = rewrite::protocol_version(message.params).and_then(object::string);
    message.method.as_deref() == Some("server/discover")
        && version.as_deref() == Some(MODERN)
        && rewrite::meta_member(message.params, CLIENT_CAPABILITIES).is_some()
}
