//! What all connections of one relay share: the store, the subscriptions, the faults and the counters.
use crate::faults::{Dice, Faults};
use crate::filter;
use crate::outbox::{Draft, Outbox};
use crate::seen::Seen;
use crate::store::{Kept, Store, Stored};
use crate::{RelayOptions, RelayStats};
use contextvm_core::frame;
use nostr::event::Event;
use nostr::filter::Filter;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::time::Instant;

/// The number of a connection, counted from 1 in the order of arrival.
pub(crate) type ConnectionId = u64;
type SubscriptionKey = (ConnectionId, Arc<str>);

/// The answer to a published event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) accepted: bool,
    pub(crate) reason: String,
}

impl Verdict {
    /// Accepts, with or without a remark.
    pub(crate) fn yes(reason: &str) -> Self {
        Self { accepted: true, reason: reason.to_owned() }
    }

    /// Refuses with a reason.
    pub(crate) fn no(reason: &str) -> Self {
        Self { accepted: false, reason: reason.to_owned() }
    }
}

#[derive(Debug)]
struct Member {
    outbox: Outbox,
    cut: watch::Sender<bool>,
    subscriptions: BTreeMap<Arc<str>, Vec<Filter>>,
    dice: Dice,
    last_due: Instant,
}

#[derive(Debug)]
struct State {
    store: Store,
    seen: Seen,
    members: HashMap<ConnectionId, Member>,
    by_recipient: HashMap<String, BTreeSet<SubscriptionKey>>,
    unindexed: BTreeSet<SubscriptionKey>,
    stats: RelayStats,
}

/// The shared part of a relay; its lock is never held across an await.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) options: RelayOptions,
    pub(crate) addr: SocketAddr,
    faults: watch::Sender<Arc<Faults>>,
    state: Mutex<State>,
}

impl Room {
    /// Makes an empty room for a relay that listens on `addr`.
    pub(crate) fn new(options: RelayOptions, addr: SocketAddr) -> Self {
        let state = State {
            store: Store::new(options.max_stored, options.max_stored_bytes),
            seen: Seen::new(options.max_seen),
            members: HashMap::new(),
            by_recipient: HashMap::new(),
            unindexed: BTreeSet::new(),
            stats: RelayStats::default(),
        };
        let faults = watch::Sender::new(Arc::new(options.faults.clone()));
        Self { options, addr, faults, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the faults in force.
    pub(crate) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults.borrow())
    }

    /// Follows changes of the faults.
    pub(crate) fn watch_faults(&self) -> watch::Receiver<Arc<Faults>> {
        self.faults.subscribe()
    }

    /// Puts other faults in force, for all connections at once.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.faults.send_replace(Arc::new(faults));
    }

    /// Returns the counters.
    pub(crate) fn stats(&self) -> RelayStats {
        let state = self.state();
        let subscriptions = state.members.values().map(|member| member.subscriptions.len()).sum();
        RelayStats {
            connections: state.members.len(),
            subscriptions,
            stored: state.store.len(),
            stored_bytes: state.store.bytes(),
            ..state.stats.clone()
        }
    }

    /// Counts something.
    pub(crate) fn count(&self, change: impl FnOnce(&mut RelayStats)) {
        change(&mut self.state().stats);
    }

    /// Lets a connection in; `None` when the relay is full.
    pub(crate) fn join(&self, outbox: Outbox) -> Option<(ConnectionId, watch::Receiver<bool>)> {
        let mut state = self.state();
        if state.members.len() >= self.options.max_connections {
            return None;
        }
        state.stats.accepted_connections += 1;
        let id = state.stats.accepted_connections;
        let (cut, cut_watch) = watch::channel(false);
        let dice = Dice::new(self.options.seed, id);
        let member = Member { outbox, cut, subscriptions: BTreeMap::new(), dice, last_due: Instant::now() };
        state.members.insert(id, member);
        Some((id, cut_watch))
    }

    /// Forgets a connection and its subscriptions.
    pub(crate) fn leave(&self, id: ConnectionId) {
        let mut state = self.state();
        if let Some(member) = state.members.remove(&id) {
            for (name, filters) in member.subscriptions {
                state.unindex(&(id, name), &filters);
            }
        }
    }

    /// Cuts every connection.
    pub(crate) fn cut_all(&self) -> usize {
        let state = self.state();
        for member in state.members.values() {
            member.cut.send_replace(true);
        }
        state.members.len()
    }

    /// Says whether the event is here already, and counts it when it is.
    pub(crate) fn is_repeat(&self, event: &Event) -> bool {
        self.state().is_repeat(event)
    }

    /// Takes a verified event: keeps it, passes it to the live subscriptions, and says what to answer.
    pub(crate) fn publish(&self, event: Event, json: &str) -> Verdict {
        let faults = self.faults();
        let stored = Arc::new(Stored { event, json: Arc::from(json) });
        let mut state = self.state();
        if state.is_repeat(&stored.event) {
            return Verdict::yes("duplicate: already have this event");
        }
        if stored.event.kind.is_ephemeral() {
            state.seen.insert(stored.event.id);
        }
        let keep_ephemeral = !faults.strict_ephemeral;
        match state.store.insert(&stored, keep_ephemeral, std::time::Instant::now()) {
            Kept::Yes => {}
            Kept::Superseded => {
                state.stats.accepted += 1;
                return Verdict::yes("duplicate: have a newer version");
            }
            Kept::Deleted => {
                state.stats.refused += 1;
                return Verdict::no("blocked: deleted by its author");
            }
        }
        state.stats.accepted += 1;
        state.pass_on(&stored, &faults);
        Verdict::yes("")
    }

    /// Opens or replaces a subscription and returns what is stored of it; `None` when there are too many, or they name too much.
    pub(crate) fn subscribe(
        &self,
        id: ConnectionId,
        name: &str,
        filters: Vec<Filter>,
    ) -> Option<Vec<Arc<Stored>>> {
        let mut guard = self.state();
        let state = &mut *guard;
        let name: Arc<str> = Arc::from(name);
        let member = state.members.get_mut(&id)?;
        let others = member.subscriptions.iter().filter(|(other, _)| **other != name);
        let named: usize = others.map(|(_, filters)| filter::values(filters)).sum();
        let is_new = !member.subscriptions.contains_key(&name);
        if (is_new && member.subscriptions.len() >= self.options.max_subscriptions)
            || named + filter::values(&filters) > filter::MAX_VALUES
        {
            return None;
        }
        let old = member.subscriptions.remove(&name);
        member.subscriptions.insert(Arc::clone(&name), filters.clone());
        if let Some(old) = old {
            state.unindex(&(id, Arc::clone(&name)), &old);
        }
        state.index(&(id, Arc::clone(&name)), &filters);
        Some(state.store.query(&filters, self.options.max_limit, std::time::Instant::now()))
    }

    /// Plans a stored event for a subscription.
    pub(crate) fn plan_stored(&self, id: ConnectionId, name: &str, stored: &Stored) -> [Option<Draft>; 2] {
        let faults = self.faults();
        let text = frame::relay_event(name, &stored.json);
        let mut guard = self.state();
        let state = &mut *guard;
        let member = state.members.get_mut(&id);
        member.map_or([None, None], |member| member.plan_event(&faults, text, &mut state.stats))
    }

    /// Ends a subscription.
    pub(crate) fn unsubscribe(&self, id: ConnectionId, name: &str) {
        let mut state = self.state();
        let removed = state.members.get_mut(&id).and_then(|member| member.subscriptions.remove_entry(name));
        if let Some((name, filters)) = removed {
            state.unindex(&(id, name), &filters);
        }
    }

    /// Plans an answer to the connection's own frame; `None` when the relay is mute.
    pub(crate) fn plan_reply(&self, id: ConnectionId, text: String, counts: bool) -> Option<Draft> {
        let faults = self.faults();
        self.state().members.get_mut(&id)?.plan_reply(&faults, text, counts)
    }
}

impl State {
    fn is_repeat(&mut self, event: &Event) -> bool {
        let known = if event.kind.is_ephemeral() {
            self.seen.contains(&event.id)
        } else {
            self.store.contains(&event.id)
        };
        self.stats.repeats += u64::from(known);
        known
    }

    fn index(&mut self, key: &SubscriptionKey, filters: &[Filter]) {
        match filter::recipients(filters) {
            Some(values) => {
                for value in values {
                    self.by_recipient.entry(value).or_default().insert(key.clone());
                }
            }
            None => {
                self.unindexed.insert(key.clone());
            }
        }
    }

    fn unindex(&mut self, key: &SubscriptionKey, filters: &[Filter]) {
        self.unindexed.remove(key);
        for value in filter::recipients(filters).unwrap_or_default() {
            if let Some(keys) = self.by_recipient.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_recipient.remove(&value);
                }
            }
        }
    }

    fn pass_on(&mut self, stored: &Stored, faults: &Faults) {
        let event = &stored.event;
        let recipients = event.tags.iter().filter(|tag| tag.kind() == "p").filter_map(|tag| tag.content());
        let addressed: BTreeSet<&SubscriptionKey> =
            recipients.filter_map(|value| self.by_recipient.get(value)).flatten().collect();
        for (id, name) in self.unindexed.iter().chain(addressed) {
            let Some(member) = self.members.get_mut(id) else {
                continue;
            };
            if !member.subscriptions.get(name).is_some_and(|filters| filter::any_matches(filters, event)) {
                continue;
            }
            let text = frame::relay_event(name, &stored.json);
            for draft in member.plan_event(faults, text, &mut self.stats).into_iter().flatten() {
                if member.outbox.offer(draft).is_err() && !member.cut.send_replace(true) {
                    self.stats.slow_readers_cut += 1;
                }
            }
        }
    }
}

impl Member {
    fn due(&mut self, faults: &Faults) -> Option<Instant> {
        if faults.latency.is_zero() && faults.jitter.is_zero() {
            return None;
        }
        let extra = if faults.jitter.is_zero() { 0.0 } else { self.dice.fraction() };
        let due = Instant::now() + faults.latency + faults.jitter.mul_f64(extra);
        self.last_due = self.last_due.max(due);
        Some(self.last_due)
    }

    fn plan_reply(&mut self, faults: &Faults, text: String, counts: bool) -> Option<Draft> {
        if faults.mute {
            return None;
        }
        Some(Draft { text: text.into(), due: self.due(faults), hold: 0, counts })
    }

    fn plan_event(&mut self, faults: &Faults, text: String, stats: &mut RelayStats) -> [Option<Draft>; 2] {
        if faults.mute || self.dice.chance(faults.drop) {
            stats.dropped += 1;
            return [None, None];
        }
        let mut hold = 0;
        if self.dice.chance(faults.reorder) {
            stats.reordered += 1;
            hold = self.dice.up_to(faults.reorder_window);
        }
        stats.delivered += 1;
        let first = Draft { text: text.into(), due: self.due(faults), hold, counts: true };
        let mut second = None;
        if self.dice.chance(faults.duplicate) {
            stats.duplicated += 1;
            stats.delivered += 1;
            second = Some(Draft { text: first.text.clone(), due: first.due, hold: 0, counts: true });
        }
        [Some(first), second]
    }
}
