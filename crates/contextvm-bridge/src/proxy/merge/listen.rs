//! One subscription to several servers (2026-07-28).
use std::collections::BTreeSet;

use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::{self, Object, quote};
use contextvm_core::rewrite::{self, Rewrite, SUBSCRIPTION_ID};
use serde_json::value::RawValue;

use super::gather::PATIENCE;
use super::merger::{Act, Call, Merger, Work};
use super::union::unite;
use crate::proxy::conversation::Heard;

/// The lists of whose changes a host can hear: capability, and how a change is told of.
pub(super) const CHANGES: [(&str, &str); 3] = [
    ("tools", "notifications/tools/list_changed"),
    ("prompts", "notifications/prompts/list_changed"),
    ("resources", "notifications/resources/list_changed"),
];
/// Notifications that may wait for the acknowledgement.
const HELD: usize = 64;

/// A subscription of the host.
#[derive(Debug)]
pub(super) struct Listen {
    /// Parts that were not acknowledged yet; empty once the host has been told.
    waiting: BTreeSet<String>,
    /// What servers agreed to, as JSON.
    agreed: Option<String>,
    /// What came before the acknowledgement.
    held: Vec<String>,
    error: Option<String>,
}

impl Merger {
    /// Subscribes to every server that can be asked.
    pub(super) fn listen(&mut self, number: u64, message: &Envelope<'_>) {
        let servers: Vec<usize> =
            (0..self.sessions.len()).filter(|server| self.can_ask(*server, true)).collect();
        if servers.is_empty() {
            return self.not_offered(number, "subscriptions/listen");
        }
        for server in servers {
            let rewrite = Rewrite::of(message);
            let rewrite = match self.wishes_of(server, message) {
                Some(wishes) => rewrite.param("notifications", wishes),
                None => rewrite,
            };
            self.ask(number, server, rewrite);
        }
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.since = self.now;
        let waiting = call.parts.keys().cloned().collect();
        call.work = Work::Listen(Listen { waiting, agreed: None, held: Vec::new(), error: None });
    }

    /// What of a host's wishes concerns a server, if not all: resources that are known to be of others do not.
    fn wishes_of(&self, server: usize, message: &Envelope<'_>) -> Option<String> {
        let wishes = message.param("notifications")?;
        let uris = object::member(wishes, "resourceSubscriptions")?;
        let uris: Vec<String> = serde_json::from_str(uris.get()).ok()?;
        let concerns = |uri: &&String| {
            self.directory.is_claimed(server, uri)
                || !(0..self.sessions.len()).any(|other| self.directory.is_claimed(other, uri))
        };
        let own: Vec<String> = uris.iter().filter(concerns).map(|uri| quote(uri)).collect();
        if own.len() == uris.len() {
            return None;
        }
        let mut wishes = Object::parse(wishes.get()).ok()?.into_edit();
        wishes.set("resourceSubscriptions", format!("[{}]", own.join(",")));
        Some(wishes.to_text())
    }

    /// Takes what a server says to its part of a subscription.
    pub(super) fn listened(&mut self, number: u64, own: &str, message: &Envelope<'_>) {
        let Some(Call { id: Some(id), work: Work::Listen(listen), .. }) = self.calls.get_mut(&number) else {
            return;
        };
        if message.method.as_deref() != Some("notifications/subscriptions/acknowledged") {
            let text = rewrite::with_subscription_id(message, id.get());
            if listen.waiting.is_empty() {
                let about = Some(id.clone());
                return self.acts.push_back(Act::Host(Heard { text, about }));
            }
            listen.held.push(text);
            if listen.held.len() >= HELD {
                self.acknowledge(number);
            }
            return;
        }
        if listen.waiting.remove(own) {
            let agreed = message.param("notifications").map_or("{}", RawValue::get);
            listen.agreed = Some(unite(listen.agreed.as_deref().unwrap_or("{}"), agreed, 0));
            if listen.waiting.is_empty() {
                self.acknowledge(number);
            }
        }
    }

    /// Tells the host what the servers agreed to, and what came in the meantime.
    fn acknowledge(&mut self, number: u64) {
        let Some(Call { id: Some(id), work: Work::Listen(listen), .. }) = self.calls.get_mut(&number) else {
            return;
        };
        listen.waiting.clear();
        let acknowledgement = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"{SUBSCRIPTION_ID}":{}}},"notifications":{}}}}}"#,
            id.get(),
            listen.agreed.take().unwrap_or_else(|| "{}".to_owned()),
        );
        let all = core::iter::once(acknowledgement).chain(core::mem::take(&mut listen.held));
        self.acts.extend(all.map(|text| Act::Host(Heard { text, about: Some(id.clone()) })));
    }

    /// A server has refused its part or ended it. Without what it agreed to, the whole is not what the host was told: it ends,
    /// and the host subscribes again.
    pub(super) fn listen_ended(&mut self, number: u64, own: &str, message: &Envelope<'_>) {
        let Some(Call { work: Work::Listen(listen), parts, .. }) = self.calls.get_mut(&number) else {
            return;
        };
        let refused = listen.waiting.remove(own) && message.kind == MessageKind::Error;
        if refused && !parts.is_empty() {
            listen.error.get_or_insert_with(|| message.text().to_owned());
            if listen.waiting.is_empty() {
                self.acknowledge(number);
            }
            return;
        }
        let first = listen.error.take().filter(|_| refused);
        self.take_back(number);
        match first {
            Some(first) => self.answer_text(number, &first),
            None => self.end_listen(number, message),
        }
    }

    /// The end of a subscription names it in its result, too.
    fn end_listen(&mut self, number: u64, message: &Envelope<'_>) {
        let id = self.calls.get(&number).and_then(|call| call.id.clone());
        let named = message.result.zip(id).and_then(|(result, id)| {
            let mut result = Object::parse(result.get()).ok()?.into_edit();
            let meta = result.get("_meta")?.to_owned();
            let mut meta = Object::parse(&meta).ok()?.into_edit();
            meta.get(SUBSCRIPTION_ID)?;
            meta.set(SUBSCRIPTION_ID, id.get().to_owned());
            result.set("_meta", meta.to_text());
            Some(result.to_text())
        });
        match named {
            Some(result) => self.result_for(number, &result),
            None => self.answer(number, message),
        }
    }

    /// Goes on without servers that do not say whether they agree.
    pub(super) fn listen_sweep(&mut self) {
        let due = |call: &Call| match &call.work {
            Work::Listen(listen) => {
                !listen.waiting.is_empty()
                    && listen.agreed.is_some()
                    && self.now.duration_since(call.since) >= PATIENCE
            }
            Work::Straight | Work::Seek(_) | Work::Collect(_) | Work::Open => false,
        };
        let due: Vec<u64> =
            self.calls.iter().filter(|(_, call)| due(call)).map(|(number, _)| *number).collect();
        for number in due {
            self.acknowledge(number);
        }
    }
}
