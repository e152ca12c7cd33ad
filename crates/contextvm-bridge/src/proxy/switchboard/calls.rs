//! The requests that hosts wait for, under ids that are unique over all of them.
use std::collections::BTreeMap;
use std::time::Instant;

use contextvm_core::envelope::Envelope;
use contextvm_core::object::{self, quote};
use contextvm_core::rewrite::{self, PROGRESS_TOKEN, Rewrite};
use serde_json::value::RawValue;

use crate::revision::{CLIENT_CAPABILITIES, LOG_LEVEL, log_level};

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// Not sent, at least not yet.
    Held,
    /// Host and server speak the same revision.
    Straight,
    /// A request of 2026-07-28 to a server of an earlier revision.
    Down,
    /// A request of an earlier revision to a server of 2026-07-28.
    Up,
}

/// One open request of a host.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) host: u64,
    pub(super) id: Box<RawValue>,
    pub(super) token: Option<Box<RawValue>>,
    pub(super) method: String,
    /// It is one of 2026-07-28.
    pub(super) modern: bool,
    /// What the host can do, if the request says so (2026-07-28).
    pub(super) capabilities: Option<Box<RawValue>>,
    /// From which level on it asked for log messages (2026-07-28).
    pub(super) logs_from: Option<usize>,
    pub(super) path: Path,
    pub(super) asked: Instant,
    /// When it last moved: asked, or shown progress.
    pub(super) moved: Instant,
    /// The last `progress` that the host saw.
    pub(super) progress: f64,
    /// The host saw progress of the proxy's own.
    pub(super) crumbs: bool,
    bytes: usize,
}

impl Call {
    /// A call that the server works on, as opposed to a subscription that merely stays open.
    pub(super) fn is_work(&self) -> bool {
        self.method != "subscriptions/listen"
    }
}

/// The table of open requests.
#[derive(Debug, Default)]
pub(super) struct Calls {
    by_own: BTreeMap<String, Call>,
    own_by_host: BTreeMap<(u64, String), String>,
    bytes: usize,
}

impl Calls {
    /// Opens a call; `None` if the host already waits for this id.
    pub(super) fn open(
        &mut self,
        own: String,
        host: u64,
        message: &Envelope<'_>,
        now: Instant,
    ) -> Option<()> {
        let id = message.id?;
        let place = (host, id_form(id));
        if self.own_by_host.contains_key(&place) {
            return None;
        }
        let method = message.method.as_deref().unwrap_or_default().to_owned();
        let level = rewrite::meta_member(message.params, LOG_LEVEL);
        let call = Call {
            host,
            id: id.to_owned(),
            token: message.progress_token().map(ToOwned::to_owned),
            modern: rewrite::protocol_version(message.params).is_some() || method == "server/discover",
            method,
            capabilities: rewrite::meta_member(message.params, CLIENT_CAPABILITIES).map(ToOwned::to_owned),
            logs_from: level.and_then(log_level),
            path: Path::Held,
            asked: now,
            moved: now,
            progress: 0.0,
            crumbs: false,
            bytes: message.text().len(),
        };
        self.bytes = self.bytes.saturating_add(call.bytes);
        self.own_by_host.insert(place, own.clone());
        self.by_own.insert(own, call);
        Some(())
    }

    pub(super) fn len(&self) -> usize {
        self.by_own.len()
    }

    /// The bytes of all open requests.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, own: &str) -> Option<&Call> {
        self.by_own.get(own)
    }

    pub(super) fn get_mut(&mut self, own: &str) -> Option<&mut Call> {
        self.by_own.get_mut(own)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Call)> {
        self.by_own.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&String, &mut Call)> {
        self.by_own.iter_mut()
    }

    /// Returns the own id of the request that a host knows by this id.
    pub(super) fn own_of(&self, host: u64, id: &RawValue) -> Option<String> {
        self.own_by_host.get(&(host, id_form(id))).cloned()
    }

    pub(super) fn of_host(&self, host: u64) -> Vec<String> {
        self.by_own.iter().filter(|(_, call)| call.host == host).map(|(own, _)| own.clone()).collect()
    }

    pub(super) fn close(&mut self, own: &str) -> Option<Call> {
        let call = self.by_own.remove(own)?;
        self.own_by_host.remove(&(call.host, id_form(&call.id)));
        self.bytes = self.bytes.saturating_sub(call.bytes);
        Some(call)
    }

    /// Continues a call under another own id.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(call) = self.by_own.remove(from) {
            self.own_by_host.insert((call.host, id_form(&call.id)), to.to_owned());
            self.by_own.insert(to.to_owned(), call);
        }
    }
}

/// Brings an id into comparable form: `1` and `"1"` differ, spellings of one string do not.
pub(super) fn id_form(id: &RawValue) -> String {
    object::string(id).map_or_else(|| id.get().to_owned(), |plain| quote(&plain))
}

/// Prints a request under its own id, which is its progress token, too, if it has one.
pub(super) fn renamed<'a>(message: &Envelope<'a>, own: &str) -> Rewrite<'a> {
    let rewrite = Rewrite::of(message).id(quote(own));
    match message.progress_token() {
        Some(_) => rewrite.meta(PROGRESS_TOKEN, quote(own)),
        None => rewrite,
    }
}
