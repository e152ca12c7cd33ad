//! Routes: requests that the application was asked and still owes an answer to.
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use contextvm_core::progress::MAX_TOKEN;
use contextvm_core::rewrite::plain_text;
use contextvm_core::{Mono, Protection};
use nostr::event::EventId;
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use super::RequestKey;

/// Cancelled requests whose late answer is still swallowed after their route is gone.
const LATE: usize = 1_024;

/// Methods whose answers may carry tags about what is listed.
const LISTS: [&str; 4] = ["tools/list", "resources/list", "resources/templates/list", "prompts/list"];

/// Returns the method if it asks for a list.
pub(super) fn list_method(method: &str) -> Option<&'static str> {
    LISTS.into_iter().find(|list| *list == method)
}

/// What became of the stream of a request (CEP-41).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamUse {
    /// The caller reads none.
    No,
    /// None was started.
    Offered,
    Open,
    /// It was closed, and a relay took all of it.
    Closed,
    /// It failed, or was given up.
    Failed,
}

/// How an answer finds its way back.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// The client's own id as it wrote it.
    pub(super) id: String,
    /// The client's own progress token as it wrote it.
    pub(super) token: Option<String>,
    /// How the request travelled.
    pub(super) protection: Protection,
    /// The resource, when the request subscribes to one.
    pub(super) subscribes: Option<String>,
    /// It is a `subscriptions/listen` (MCP 2026-07-28), which the application may end with a cancellation.
    pub(super) listens: bool,
    /// The method, when the request asks for a list.
    pub(super) lists: Option<&'static str>,
    /// The caller does not wait any more: the answer is swallowed.
    pub(super) cancelled: bool,
    /// The application has heard of it; until then it waits for the store.
    pub(super) heard: bool,
    /// The stream that the application writes meanwhile.
    pub(super) stream: StreamUse,
    /// Length of the request, and of an answer that waits for the end of its stream.
    pub(super) bytes: usize,
    nth: u64,
    ends: Option<Mono>,
}

impl Route {
    pub(super) const fn new(id: String, token: Option<String>, protection: Protection, bytes: usize) -> Self {
        Self {
            id,
            token,
            protection,
            subscribes: None,
            listens: false,
            lists: None,
            cancelled: false,
            heard: false,
            stream: StreamUse::No,
            bytes,
            nth: 0,
            ends: None,
        }
    }

    /// Returns the client's progress token in its text form, if frames can be sent under it.
    pub(super) fn token_text(&self) -> Option<String> {
        let token = text_form(self.token.as_deref()?);
        (1..=MAX_TOKEN).contains(&token.len()).then_some(token)
    }
}

/// All routes, by request key. A second index finds the caller of an inner id, which is a hash and names one request.
#[derive(Debug, Default)]
pub(super) struct Routes {
    map: BTreeMap<RequestKey, Route>,
    callers: BTreeMap<EventId, PublicKey>,
    ends: BTreeSet<(Mono, RequestKey)>,
    bytes: usize,
    lists: usize,
    next: u64,
    late: VecDeque<RequestKey>,
}

impl Routes {
    pub(super) fn insert(&mut self, key: RequestKey, mut route: Route) {
        self.next = self.next.wrapping_add(1);
        route.nth = self.next;
        self.bytes = self.bytes.saturating_add(route.bytes);
        self.lists += usize::from(route.lists.is_some());
        self.callers.insert(key.id, key.caller);
        self.map.insert(key, route);
    }

    pub(super) fn get(&self, key: &RequestKey) -> Option<&Route> {
        self.map.get(key)
    }

    pub(super) fn take(&mut self, key: &RequestKey) -> Option<Route> {
        let route = self.map.remove(key)?;
        self.callers.remove(&key.id);
        self.bytes = self.bytes.saturating_sub(route.bytes);
        self.lists = self.lists.saturating_sub(usize::from(route.lists.is_some()));
        if let Some(end) = route.ends {
            self.ends.remove(&(end, *key));
        }
        Some(route)
    }

    pub(super) fn set_stream(&mut self, key: &RequestKey, stream: StreamUse) {
        if let Some(route) = self.map.get_mut(key) {
            route.stream = stream;
        }
    }

    /// Adds to the bytes of a route what is held for it.
    pub(super) fn add_bytes(&mut self, key: &RequestKey, bytes: usize) {
        if let Some(route) = self.map.get_mut(key) {
            route.bytes = route.bytes.saturating_add(bytes);
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    /// Returns the newest open request of one caller with this progress token in its text form.
    pub(super) fn find_token(&self, caller: PublicKey, token: &str) -> Option<RequestKey> {
        let has_it = |route: &Route| route.token.as_deref().is_some_and(|own| text_form(own) == token);
        let open = self.of(caller).filter(|(_, route)| !route.cancelled && has_it(route));
        open.max_by_key(|(_, route)| route.nth).map(|(key, _)| *key)
    }

    /// Returns the request key of an inner id.
    pub(super) fn key_of(&self, id: EventId) -> Option<RequestKey> {
        self.callers.get(&id).map(|caller| RequestKey { caller: *caller, id })
    }

    /// Returns the newest open request of one caller with this id.
    pub(super) fn find(&self, caller: PublicKey, is_it: impl Fn(&str) -> bool) -> Option<RequestKey> {
        let open = self.of(caller).filter(|(_, route)| !route.cancelled && is_it(&route.id));
        open.max_by_key(|(_, route)| route.nth).map(|(key, _)| *key)
    }

    /// Whether another open request of the same caller carries the same progress token.
    pub(super) fn shares_token(&self, key: &RequestKey) -> bool {
        let token = |route: &Route| route.token.as_deref().map(text_form);
        let own = self.map.get(key).and_then(token);
        own.is_some() && self.of(key.caller).any(|(other, route)| other != key && token(route) == own)
    }

    /// Lists the requests of one caller of which the application has heard.
    pub(super) fn heard_of(&self, caller: PublicKey) -> Vec<RequestKey> {
        self.of(caller).filter(|(_, route)| route.heard).map(|(key, _)| *key).collect()
    }

    /// Lists what the caller of a request had asked before it.
    pub(super) fn older_than(&self, key: &RequestKey) -> Vec<RequestKey> {
        let nth = self.map.get(key).map_or(0, |route| route.nth);
        self.of(key.caller).filter(|(_, route)| route.nth < nth).map(|(older, _)| *older).collect()
    }

    /// Marks a route whose answer nobody waits for; it ends at the given time at the latest.
    pub(super) fn cancel(&mut self, key: &RequestKey, end: Mono) {
        if let Some(route) = self.map.get_mut(key) {
            route.cancelled = true;
        }
        self.end_at(key, end);
    }

    /// The application hears of a request, which may take its time from now on.
    pub(super) fn hear(&mut self, key: &RequestKey) {
        let Some(route) = self.map.get_mut(key) else { return };
        route.heard = true;
        if let Some(end) = route.ends.take_if(|_| !route.cancelled) {
            self.ends.remove(&(end, *key));
        }
    }

    /// Sets the time at which a route ends at the latest without an answer of the application.
    pub(super) fn end_at(&mut self, key: &RequestKey, end: Mono) {
        let Some(route) = self.map.get_mut(key) else { return };
        let end = route.ends.map_or(end, |planned| planned.min(end));
        if let Some(old) = route.ends.replace(end) {
            self.ends.remove(&(old, *key));
        }
        self.ends.insert((end, *key));
    }

    /// Returns a route that is over its time.
    pub(super) fn overdue(&self, now: Mono) -> Option<RequestKey> {
        self.ends.first().filter(|(end, _)| *end <= now).map(|(_, key)| *key)
    }

    pub(super) fn next_end(&self) -> Option<Mono> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Remembers for a while that an answer to this key is of no interest.
    pub(super) fn expect_late(&mut self, key: RequestKey) {
        if self.late.len() >= LATE {
            self.late.pop_front();
        }
        self.late.push_back(key);
    }

    /// Whether this is the late answer to a request that ended, and forgets it.
    pub(super) fn was_late(&mut self, key: &RequestKey) -> bool {
        let found = self.late.iter().position(|late| late == key);
        found.is_some_and(|at| self.late.remove(at).is_some())
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) const fn lists(&self) -> usize {
        self.lists
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn bytes_of(&self, caller: PublicKey) -> usize {
        self.of(caller).map(|(_, route)| route.bytes).sum()
    }

    fn of(&self, caller: PublicKey) -> impl Iterator<Item = (&RequestKey, &Route)> {
        let first = RequestKey { caller, id: EventId::from_byte_array([0; 32]) };
        let last = RequestKey { caller, id: EventId::from_byte_array([u8::MAX; 32]) };
        self.map.range(first..=last)
    }
}

/// Compares tokens as peers do: `5` and `"5"` are one.
fn text_form(token: &str) -> String {
    serde_json::from_str::<&RawValue>(token)
        .map_or_else(|_| token.into(), |token| plain_text(token).into_owned())
}
