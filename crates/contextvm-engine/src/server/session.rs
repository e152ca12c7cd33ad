//! Sessions: what is known of each caller. No connection is implied.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use contextvm_core::{Limits, Mono, PeerTags};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;

use super::floor::Floor;

/// Resources one caller may be subscribed to at once.
const SUBSCRIPTIONS: usize = 128;
/// Longest resource name that is kept, bytes.
const SUBSCRIPTION: usize = 2_048;
/// What a kept resource name costs beside its text, bytes.
const OVERHEAD: usize = 64;
/// Bytes of resource names kept over all callers, overhead included; strangers may only use half.
const SUBSCRIPTION_BYTES: usize = 4 * 1024 * 1024;
/// Longest tag of a caller that is listened to, and all of one event together, bytes in memory.
const TAG_BYTES: usize = 256;
const TAGS_BYTES: usize = 1_024;

/// What is known of one caller.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// What the caller has said about itself.
    pub(super) tags: Arc<PeerTags>,
    /// It sent `notifications/initialized`.
    pub(super) initialised: bool,
    /// How it speaks.
    pub(super) floor: Floor,
    /// It understands ephemeral wraps: it said so, or it sent one.
    pub(super) ephemeral: bool,
    /// Our discovery tags have reached a relay since the last `initialize`.
    pub(super) told: bool,
    /// The latest request in which the caller introduced itself although it was told: it may have begun anew, so the answer
    /// to that request says again who we are.
    pub(super) introduced: Option<EventId>,
    /// Counts the `initialize` requests, so that an older publication cannot set `told`.
    pub(super) epoch: u32,
    /// It may call by its key, and not only because a capability is open to all.
    pub(super) member: bool,
    /// It is out of reach of the strangers' ring.
    pub(super) established: bool,
    /// A stream to it was written to its end.
    pub(super) has_read: bool,
    /// Requests of it that are in flight.
    pub(super) open: usize,
    /// Events of it that were accepted in a period.
    accepted: (u64, usize),
    used: Mono,
    subscriptions: BTreeSet<String>,
}

impl Session {
    /// Learns from the tags of one event; a caller cannot make us remember much.
    pub(super) fn learn(&mut self, tags: &Tags) {
        let mut left = TAGS_BYTES;
        let modest = tags.iter().filter(|tag| {
            let texts = tag.as_slice().iter().map(|text| text.len() + size_of::<String>());
            let cost = texts.sum::<usize>() + size_of::<Tag>();
            let fits = cost <= TAG_BYTES.min(left);
            left -= if fits { cost } else { 0 };
            fits
        });
        let modest = modest.cloned().collect();
        Arc::make_mut(&mut self.tags).learn(&modest);
    }

    /// Counts an accepted event.
    pub(super) const fn accept(&mut self, period: u64) {
        self.accepted = (period, self.accepted(period).saturating_add(1));
    }

    /// Returns how many events were accepted in this period.
    pub(super) const fn accepted(&self, period: u64) -> usize {
        if self.accepted.0 == period { self.accepted.1 } else { 0 }
    }

    pub(super) fn is_subscribed(&self, uri: &str) -> bool {
        self.subscriptions.contains(uri)
    }
}

/// All sessions: those of established callers, and the ring of strangers, who only ever evict each other.
///
/// Established is who may call by its key on a server that restricts keys, and on a server that is open to all, who
/// had a request answered while there was room: there, nobody loses an established session to somebody else. A session
/// with a request in flight is never forgotten. What is forgotten with a session: its encryption floor, too.
#[derive(Debug)]
pub(super) struct Sessions {
    map: BTreeMap<PublicKey, Session>,
    /// Sessions without open requests by last use; `[strangers, established]`.
    idle: [BTreeSet<(Mono, PublicKey)>; 2],
    count: [usize; 2],
    most: [usize; 2],
    idle_after: Duration,
    subscription_bytes: usize,
}

impl Sessions {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            map: BTreeMap::new(),
            idle: [BTreeSet::new(), BTreeSet::new()],
            count: [0; 2],
            most: [limits.stranger_sessions, limits.sessions],
            idle_after: limits.session_idle,
            subscription_bytes: 0,
        }
    }

    pub(super) fn get(&self, caller: &PublicKey) -> Option<&Session> {
        self.map.get(caller)
    }

    pub(super) fn get_mut(&mut self, caller: &PublicKey) -> Option<&mut Session> {
        self.map.get_mut(caller)
    }

    pub(super) fn is_established(&self, caller: &PublicKey) -> bool {
        self.map.get(caller).is_some_and(|session| session.established)
    }

    /// Finds or makes the session of a caller that was let in, at the cost of another stranger's if need be.
    ///
    /// Returns `false` when the ring is full of strangers with open requests.
    pub(super) fn enter(&mut self, caller: PublicKey, now: Mono, ended: &mut Vec<PublicKey>) -> bool {
        if self.map.contains_key(&caller) {
            self.touch(&caller, now);
            return true;
        }
        if !self.make_room(false, ended) {
            return false;
        }
        self.map.insert(caller, Session { used: now, ..Session::default() });
        *slot(&mut self.count, false) += 1;
        slot(&mut self.idle, false).insert((now, caller));
        true
    }

    /// Moves a caller out of the ring; `evict` lets it replace an idle established caller when there is no room.
    pub(super) fn establish(&mut self, caller: &PublicKey, evict: bool, ended: &mut Vec<PublicKey>) {
        let is_stranger = self.map.get(caller).is_some_and(|session| !session.established);
        let is_full = slot(&mut self.count, true) >= slot(&mut self.most, true);
        if !is_stranger || (is_full && !(evict && self.make_room(true, ended))) {
            return;
        }
        let Some(session) = self.map.get_mut(caller) else { return };
        session.established = true;
        let at = (session.used, *caller);
        *slot(&mut self.count, false) -= 1;
        *slot(&mut self.count, true) += 1;
        if slot(&mut self.idle, false).remove(&at) {
            slot(&mut self.idle, true).insert(at);
        }
    }

    /// Counts one more request in flight; `false` when there is no session any more.
    pub(super) fn open(&mut self, caller: &PublicKey) -> bool {
        let Some(session) = self.map.get_mut(caller) else { return false };
        session.open = session.open.saturating_add(1);
        slot(&mut self.idle, session.established).remove(&(session.used, *caller));
        true
    }

    /// Counts one less request in flight.
    pub(super) fn close(&mut self, caller: &PublicKey, now: Mono) {
        if let Some(session) = self.map.get_mut(caller) {
            session.open = session.open.saturating_sub(1);
        }
        self.touch(caller, now);
    }

    /// Remembers a subscription; `false` when the caller or all together have too many.
    pub(super) fn subscribe(&mut self, caller: &PublicKey, uri: &str) -> bool {
        let Some(session) = self.map.get_mut(caller) else { return false };
        let own = session.subscriptions.iter().map(|uri| uri.len() + OVERHEAD).sum();
        let bytes = self.subscription_bytes.saturating_add(uri.len() + OVERHEAD);
        let has_room = uri.len() <= SUBSCRIPTION
            && bytes <= share_of(SUBSCRIPTION_BYTES, session.established, own)
            && session.subscriptions.len() < SUBSCRIPTIONS;
        if has_room && session.subscriptions.insert(uri.into()) {
            self.subscription_bytes = bytes;
        }
        has_room
    }

    pub(super) fn unsubscribe(&mut self, caller: &PublicKey, uri: &str) {
        let session = self.map.get_mut(caller);
        if session.is_some_and(|session| session.subscriptions.remove(uri)) {
            self.subscription_bytes = self.subscription_bytes.saturating_sub(uri.len() + OVERHEAD);
        }
    }

    pub(super) fn unsubscribe_all(&mut self, caller: &PublicKey) {
        let Some(session) = self.map.get_mut(caller) else { return };
        let bytes: usize = session.subscriptions.iter().map(|uri| uri.len() + OVERHEAD).sum();
        session.subscriptions.clear();
        self.subscription_bytes = self.subscription_bytes.saturating_sub(bytes);
    }

    /// Forgets one session that was idle for too long and returns whose it was.
    pub(super) fn expire(&mut self, now: Mono) -> Option<PublicKey> {
        let oldest = self.idle.iter().filter_map(BTreeSet::first).min()?;
        let caller = oldest.1;
        (oldest.0.after(self.idle_after) <= now).then(|| {
            self.forget(&caller);
            caller
        })
    }

    pub(super) fn next_end(&self) -> Option<Mono> {
        self.idle.iter().filter_map(BTreeSet::first).min().map(|(used, _)| used.after(self.idle_after))
    }

    /// Returns the first caller after the given one whose session satisfies the condition.
    pub(super) fn next_where(
        &self,
        after: Option<PublicKey>,
        condition: impl Fn(&Session) -> bool,
    ) -> Option<PublicKey> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.map.range((from, Unbounded)).find(|(_, session)| condition(session)).map(|(caller, _)| *caller)
    }

    pub(super) const fn count(&self) -> [usize; 2] {
        self.count
    }

    fn touch(&mut self, caller: &PublicKey, now: Mono) {
        let Some(session) = self.map.get_mut(caller) else { return };
        let idle = slot(&mut self.idle, session.established);
        idle.remove(&(session.used, *caller));
        session.used = now;
        if session.open == 0 {
            idle.insert((now, *caller));
        }
    }

    fn make_room(&mut self, established: bool, ended: &mut Vec<PublicKey>) -> bool {
        while slot(&mut self.count, established) >= slot(&mut self.most, established) {
            let Some((_, oldest)) = slot(&mut self.idle, established).first().copied() else {
                return false;
            };
            self.forget(&oldest);
            ended.push(oldest);
        }
        true
    }

    fn forget(&mut self, caller: &PublicKey) {
        self.unsubscribe_all(caller);
        if let Some(session) = self.map.remove(caller) {
            slot(&mut self.idle, session.established).remove(&(session.used, *caller));
            *slot(&mut self.count, session.established) -= 1;
        }
    }
}

/// How much of what all share one caller may use, who has `own` of it already: not established callers half, and the last quarter is
/// for established ones that have few.
pub(super) const fn share_of(all: usize, established: bool, own: usize) -> usize {
    match established {
        true if own < all.div_ceil(64) => all,
        true => all - all / 4,
        false => all.div_ceil(2),
    }
}

const fn slot<T>([strangers, established]: &mut [T; 2], is_established: bool) -> &mut T {
    if is_established { established } else { strangers }
}
