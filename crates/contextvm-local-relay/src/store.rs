//! The events the relay keeps, in memory, bounded by count and bytes.
use crate::filter;
use nostr::event::{Event, EventId, Kind};
use nostr::filter::Filter;
use nostr::key::PublicKey;
use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long ephemeral events are kept when the relay is told to keep them.
const EPHEMERAL_LIFE: Duration = Duration::from_secs(5 * 60);
/// What a value of a tag takes beside its text, bytes.
const VALUE_BYTES: usize = 100;

/// One event with the text it arrived in.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) event: Event,
    pub(crate) json: Arc<str>,
}

/// Says what became of an offered event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is kept (or was only passed on, for ephemeral kinds).
    Yes,
    /// A newer version of the same replaceable event is already here.
    Superseded,
    /// Its author has asked for its deletion.
    Deleted,
}

type Version = (u16, PublicKey, String);

/// What a deletion request names of its author's events (NIP-09).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// One event.
    Event(EventId),
    /// Every version of a replaceable event up to the time of the request.
    Versions(Version),
}

/// Newest first, lowest id first among equals: the order in which relays serve.
type Rank = (Reverse<u64>, EventId);

#[derive(Debug)]
pub(crate) struct Store {
    by_id: HashMap<EventId, Arc<Stored>>,
    by_kind: BTreeMap<u16, BTreeSet<Rank>>,
    newest: BTreeMap<Version, EventId>,
    deletions: BTreeMap<(PublicKey, Target), BTreeSet<(u64, EventId)>>,
    arrivals: VecDeque<EventId>,
    ephemeral: VecDeque<(Instant, EventId)>,
    bytes: usize,
    max_events: usize,
    max_bytes: usize,
}

impl Store {
    /// Makes an empty store.
    pub(crate) fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            by_id: HashMap::new(),
            by_kind: BTreeMap::new(),
            newest: BTreeMap::new(),
            deletions: BTreeMap::new(),
            arrivals: VecDeque::new(),
            ephemeral: VecDeque::new(),
            bytes: 0,
            max_events: max_events.max(1),
            max_bytes,
        }
    }

    /// Counts the kept events.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Says whether the event is kept.
    pub(crate) fn contains(&self, id: &EventId) -> bool {
        self.by_id.contains_key(id)
    }

    /// Counts the bytes of the kept events: their texts, and what their tags take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a verified event in and applies replacement and deletion.
    pub(crate) fn insert(&mut self, stored: &Arc<Stored>, keep_ephemeral: bool, now: Instant) -> Kept {
        let event = &stored.event;
        if event.kind.is_ephemeral() {
            if keep_ephemeral {
                self.expire(now);
                self.ephemeral.push_back((now, event.id));
                self.add(stored);
            }
            return Kept::Yes;
        }
        if self.is_deleted(event) {
            return Kept::Deleted;
        }
        if let Some(version) = version_of(event) {
            if let Some(current) = self.newest.get(&version).and_then(|id| self.by_id.get(id)) {
                if rank_of(&current.event) <= rank_of(event) {
                    return Kept::Superseded;
                }
                let old = current.event.id;
                self.remove(&old);
            }
            self.newest.insert(version, event.id);
        }
        self.add(stored);
        self.delete_for(event);
        Kept::Yes
    }

    /// Lists the kept events that the filters take, each once, newest first; every filter has its own limit.
    pub(crate) fn query(&mut self, filters: &[Filter], most: usize, now: Instant) -> Vec<Arc<Stored>> {
        self.expire(now);
        let mut found: BTreeMap<Rank, Arc<Stored>> = BTreeMap::new();
        for filter in filters {
            let limit = filter.limit.unwrap_or(most).min(most);
            found.extend(
                self.query_one(filter, limit).into_iter().map(|stored| (rank_of(&stored.event), stored)),
            );
        }
        found.into_values().collect()
    }

    fn query_one(&self, filter: &Filter, limit: usize) -> Vec<Arc<Stored>> {
        if limit == 0 {
            return Vec::new();
        }
        let mut found: Vec<Arc<Stored>> = Vec::new();
        if let Some(ids) = &filter.ids {
            let known = ids.iter().filter_map(|id| self.by_id.get(id));
            found.extend(known.filter(|stored| filter::matches(filter, &stored.event)).cloned());
        } else {
            let wanted =
                |kind: u16| filter.kinds.as_ref().is_none_or(|kinds| kinds.contains(&Kind::from(kind)));
            for (_, ranks) in self.by_kind.iter().filter(|(kind, _)| wanted(**kind)) {
                let known = ranks.iter().filter_map(|(_, id)| self.by_id.get(id));
                found.extend(
                    known.filter(|stored| filter::matches(filter, &stored.event)).take(limit).cloned(),
                );
            }
        }
        found.sort_by_key(|stored| rank_of(&stored.event));
        found.truncate(limit);
        found
    }

    fn add(&mut self, stored: &Arc<Stored>) {
        let event = &stored.event;
        self.bytes += weight(stored);
        self.by_kind.entry(event.kind.as_u16()).or_default().insert(rank_of(event));
        for target in targets_of(event) {
            let named = self.deletions.entry((event.pubkey, target)).or_default();
            named.insert((event.created_at.as_secs(), event.id));
        }
        self.by_id.insert(event.id, Arc::clone(stored));
        self.arrivals.push_back(event.id);
        while self.by_id.len() > self.max_events || self.bytes > self.max_bytes {
            let Some(oldest) = self.arrivals.pop_front() else {
                break;
            };
            self.remove(&oldest);
        }
        // Removals leave their ids behind in the queue of arrivals; it is swept before it outgrows the store.
        if self.arrivals.len() > self.by_id.len().saturating_mul(2) + 16 {
            self.arrivals.retain(|id| self.by_id.contains_key(id));
        }
    }

    fn remove(&mut self, id: &EventId) {
        let Some(stored) = self.by_id.remove(id) else {
            return;
        };
        let event = &stored.event;
        self.bytes = self.bytes.saturating_sub(weight(&stored));
        if let Some(ranks) = self.by_kind.get_mut(&event.kind.as_u16()) {
            ranks.remove(&rank_of(event));
            if ranks.is_empty() {
                self.by_kind.remove(&event.kind.as_u16());
            }
        }
        if let Some(version) = version_of(event)
            && self.newest.get(&version) == Some(id)
        {
            self.newest.remove(&version);
        }
        for target in targets_of(event) {
            if let Entry::Occupied(mut named) = self.deletions.entry((event.pubkey, target)) {
                named.get_mut().remove(&(event.created_at.as_secs(), *id));
                if named.get().is_empty() {
                    named.remove();
                }
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((arrived, id)) = self.ephemeral.front().copied() {
            if now.duration_since(arrived) < EPHEMERAL_LIFE {
                break;
            }
            self.ephemeral.pop_front();
            self.remove(&id);
        }
    }

    fn is_deleted(&self, event: &Event) -> bool {
        // Deletion requests cannot be deleted.
        if event.kind == Kind::EventDeletion {
            return false;
        }
        let last = |target| self.deletions.get(&(event.pubkey, target)).and_then(BTreeSet::last);
        last(Target::Event(event.id)).is_some()
            || version_of(event)
                .and_then(|version| last(Target::Versions(version)))
                .is_some_and(|(asked_at, _)| event.created_at.as_secs() <= *asked_at)
    }

    fn delete_for(&mut self, deletion: &Event) {
        for target in targets_of(deletion) {
            let named = match &target {
                Target::Event(id) => self.by_id.get(id),
                Target::Versions(version) => self.newest.get(version).and_then(|id| self.by_id.get(id)),
            };
            let Some(event) = named.map(|stored| &stored.event) else {
                continue;
            };
            // Whether it is the author's own, old enough and no deletion request itself.
            if event.pubkey == deletion.pubkey && self.is_deleted(event) {
                let id = event.id;
                self.remove(&id);
            }
        }
    }
}

/// Lists what an event names for deletion; only deletion requests name something, and only of their own author.
fn targets_of(event: &Event) -> Vec<Target> {
    if event.kind != Kind::EventDeletion {
        return Vec::new();
    }
    let addresses = event.tags.iter().filter(|tag| tag.kind() == "a").filter_map(|tag| tag.content());
    let versions = addresses.filter_map(address_of).filter(|(_, author, _)| *author == event.pubkey);
    event.tags.event_ids().map(Target::Event).chain(versions.map(Target::Versions)).collect()
}

/// What an event takes, bytes: each value of a tag takes memory of its own.
fn weight(stored: &Stored) -> usize {
    let values: usize = stored.event.tags.iter().map(|tag| tag.as_slice().len()).sum();
    stored.json.len().saturating_add(values.saturating_mul(VALUE_BYTES))
}

fn rank_of(event: &Event) -> Rank {
    (Reverse(event.created_at.as_secs()), event.id)
}

fn version_of(event: &Event) -> Option<Version> {
    if event.kind.is_replaceable() {
        return Some((event.kind.as_u16(), event.pubkey, String::new()));
    }
    if event.kind.is_addressable() {
        return Some((event.kind.as_u16(), event.pubkey, event.tags.identifier().unwrap_or_default()));
    }
    None
}

fn address_of(value: &str) -> Option<Version> {
    let mut parts = value.splitn(3, ':');
    let kind = parts.next()?.parse().ok()?;
    let author = contextvm_core::event::read_key(parts.next()?)?;
    Some((kind, author, parts.next().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event, keys};

    fn stored(event: &Event) -> Arc<Stored> {
        Arc::new(Stored { event: event.clone(), json: event.as_json().into() })
    }

    fn put(store: &mut Store, event: &Event) -> Kept {
        store.insert(&stored(event), false, Instant::now())
    }

    fn all(store: &mut Store) -> Vec<EventId> {
        let found = store.query(&[Filter::default()], 1_000, Instant::now());
        found.iter().map(|stored| stored.event.id).collect()
    }

    #[test]
    fn a_newer_replaceable_event_takes_the_place_of_the_older() {
        let mut store = Store::new(100, 1_000_000);
        let older = event(&keys(1), 11_316, 10, &[], "old");
        let newer = event(&keys(1), 11_316, 11, &[], "new");
        let other = event(&keys(2), 11_316, 5, &[], "other author");
        for offered in [&older, &newer, &other] {
            assert_eq!(put(&mut store, offered), Kept::Yes);
        }
        assert_eq!(put(&mut store, &older), Kept::Superseded);
        assert_eq!(all(&mut store), [newer.id, other.id]);
    }

    #[test]
    fn every_kind_of_a_server_has_one_version_per_author() {
        let mut store = Store::new(100, 1_000_000);
        for kind in [0, 10_002, 11_316, 11_317, 11_318, 11_319, 11_320] {
            let newer = event(&keys(1), kind, 11, &[], "new");
            assert_eq!(put(&mut store, &event(&keys(1), kind, 10, &[], "old")), Kept::Yes);
            assert_eq!(put(&mut store, &newer), Kept::Yes);
            let filter = Filter::from_json(format!(r#"{{"kinds":[{kind}]}}"#)).unwrap();
            let found = store.query(&[filter], 100, Instant::now());
            assert_eq!(found.iter().map(|stored| stored.event.id).collect::<Vec<_>>(), [newer.id], "{kind}");
        }
    }

    #[test]
    fn among_versions_of_one_second_the_lowest_id_wins() {
        let mut store = Store::new(100, 1_000_000);
        let mut pair = [event(&keys(1), 0, 10, &[], "a"), event(&keys(1), 0, 10, &[], "b")];
        pair.sort_by_key(|event| event.id);
        assert_eq!(put(&mut store, &pair[1]), Kept::Yes);
        assert_eq!(put(&mut store, &pair[0]), Kept::Yes);
        assert_eq!(put(&mut store, &pair[1]), Kept::Superseded);
        assert_eq!(all(&mut store), [pair[0].id]);
    }

    #[test]
    fn addressable_events_are_told_apart_by_their_identifier() {
        let mut store = Store::new(100, 1_000_000);
        let first = event(&keys(1), 30_000, 10, &[&["d", "x"]], "");
        let second = event(&keys(1), 30_000, 10, &[&["d", "y"]], "");
        let newer = event(&keys(1), 30_000, 12, &[&["d", "x"]], "");
        for offered in [&first, &second, &newer] {
            assert_eq!(put(&mut store, offered), Kept::Yes);
        }
        assert_eq!(all(&mut store), [newer.id, second.id]);
    }

    #[test]
    fn a_deletion_reaches_only_the_authors_own_events_and_keeps_them_out() {
        let mut store = Store::new(100, 1_000_000);
        let mine = event(&keys(1), 1, 10, &[], "mine");
        let theirs = event(&keys(2), 1, 10, &[], "theirs");
        put(&mut store, &mine);
        put(&mut store, &theirs);
        let names: &[&[&str]] = &[&["e", &mine.id.to_hex()], &["e", &theirs.id.to_hex()]];
        let deletion = event(&keys(1), 5, 20, names, "");
        put(&mut store, &deletion);
        assert_eq!(all(&mut store), [deletion.id, theirs.id]);
        assert_eq!(put(&mut store, &mine), Kept::Deleted);
    }

    #[test]
    fn a_deletion_by_address_spares_versions_made_after_it() {
        let mut store = Store::new(100, 1_000_000);
        let old = event(&keys(1), 11_316, 10, &[], "old");
        put(&mut store, &old);
        let address = format!("11316:{}:", old.pubkey.to_hex());
        put(&mut store, &event(&keys(1), 5, 20, &[&["a", &address]], ""));
        assert_eq!(store.len(), 1);
        let late = event(&keys(1), 11_316, 20, &[], "as old as the deletion");
        assert_eq!(put(&mut store, &late), Kept::Deleted);
        let new = event(&keys(1), 11_316, 21, &[], "new");
        assert_eq!(put(&mut store, &new), Kept::Yes);
    }

    #[test]
    fn a_deletion_holds_as_long_as_it_is_kept() {
        let mut store = Store::new(2, 1_000_000);
        let mine = event(&keys(1), 1, 10, &[], "mine");
        let name: &[&[&str]] = &[&["e", &mine.id.to_hex()]];
        let (first, second) = (event(&keys(1), 5, 20, name, ""), event(&keys(1), 5, 21, name, ""));
        put(&mut store, &first);
        put(&mut store, &second);
        put(&mut store, &event(&keys(2), 1, 30, &[], "in place of the first"));
        assert_eq!(put(&mut store, &mine), Kept::Deleted);
        put(&mut store, &event(&keys(2), 1, 31, &[], "in place of the second"));
        assert!(store.deletions.is_empty());
        assert_eq!(put(&mut store, &mine), Kept::Yes);
    }

    #[test]
    fn count_and_bytes_stay_bounded_and_the_oldest_arrival_goes_first() {
        let mut store = Store::new(3, 1_000_000);
        let events: Vec<Event> = (0..10).map(|second| event(&keys(1), 1, second, &[], "")).collect();
        for offered in &events {
            put(&mut store, offered);
        }
        assert_eq!(all(&mut store), [events[9].id, events[8].id, events[7].id]);
        let mut store = Store::new(1_000, events[0].as_json().len() * 2);
        for offered in &events {
            put(&mut store, offered);
        }
        assert!(store.bytes() <= events[0].as_json().len() * 2);
        assert!((1..=2).contains(&store.len()));
        assert!(store.arrivals.len() <= store.len() * 2 + 17);
    }

    #[test]
    fn the_limit_of_each_filter_counts_for_itself() {
        let mut store = Store::new(100, 1_000_000);
        for second in 0..10 {
            put(&mut store, &event(&keys(1), 1, second, &[], ""));
            put(&mut store, &event(&keys(1), 2, second, &[], ""));
        }
        let filters = [
            Filter::from_json(r#"{"kinds":[1],"limit":2}"#).unwrap(),
            Filter::from_json(r#"{"kinds":[2],"limit":3}"#).unwrap(),
            Filter::from_json(r#"{"limit":0}"#).unwrap(),
        ];
        let found = store.query(&filters, 100, Instant::now());
        let seconds: Vec<u64> = found.iter().map(|stored| stored.event.created_at.as_secs()).collect();
        assert_eq!(seconds, [9, 9, 8, 8, 7]);
    }

    #[test]
    fn ephemeral_events_are_kept_only_on_demand_and_for_five_minutes() {
        let mut store = Store::new(100, 1_000_000);
        let now = Instant::now();
        let note = event(&keys(1), 25_910, 10, &[], "");
        assert_eq!(store.insert(&stored(&note), false, now), Kept::Yes);
        assert_eq!(store.len(), 0);
        assert_eq!(store.insert(&stored(&note), true, now), Kept::Yes);
        assert_eq!(store.query(&[Filter::default()], 10, now).len(), 1);
        assert_eq!(store.query(&[Filter::default()], 10, now + EPHEMERAL_LIFE).len(), 0);
        assert_eq!(store.bytes(), 0);
        for second in 0..10 {
            let note = event(&keys(1), 25_910, second, &[], "");
            store.insert(&stored(&note), true, now + EPHEMERAL_LIFE * u32::try_from(second).unwrap());
        }
        assert_eq!((store.len(), store.ephemeral.len()), (1, 1), "nobody has to ask for them to be let go");
    }
}
