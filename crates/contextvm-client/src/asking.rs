//! Questions to one relay at a time: filters, pages, and which events of an answer are taken.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contextvm_announce::Signed;
use contextvm_core::event;
use contextvm_relay::{Addresses, AuthSigner, Query, QueryOutcome};
use futures_util::future::join_all;
use nostr::event::{Event, EventId, Tag};
use nostr::key::PublicKey;
use nostr::types::RelayUrl;
use serde_json::{Map, Value};
use tokio::time::Instant;

/// Events asked for at once.
const PAGE: usize = 500;
/// Fewest events after which a relay may have held some back, so that it is asked for older ones.
const CAP: usize = 20;
/// Most pages of one answer.
const PAGES: usize = 10;
/// Largest frame taken, bytes: a stranger's large event must not end a relay's answer about all the others.
const FRAME: usize = 1024 * 1024;
/// Bytes of events after which one relay has said enough on one question.
const BYTES: usize = 8 * 1024 * 1024;

/// Which events are asked for; a relay that sends others is not believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) kinds: Vec<u16>,
    /// Empty means any.
    pub(crate) ids: BTreeSet<EventId>,
    /// Empty means anybody.
    pub(crate) authors: BTreeSet<PublicKey>,
    /// Tag names of one letter, each with the values of which one must be there.
    pub(crate) tags: Vec<(&'static str, BTreeSet<String>)>,
    /// Unix seconds.
    pub(crate) since: Option<u64>,
}

impl Filter {
    fn to_json(&self, until: Option<u64>) -> String {
        let mut members = Map::new();
        members.insert("kinds".into(), self.kinds.clone().into());
        let ids: Vec<String> = self.ids.iter().map(EventId::to_hex).collect();
        let authors: Vec<String> = self.authors.iter().map(PublicKey::to_hex).collect();
        for (name, values) in [("ids", ids), ("authors", authors)] {
            if !values.is_empty() {
                members.insert(name.into(), values.into());
            }
        }
        for (name, values) in &self.tags {
            members.insert(format!("#{name}"), values.iter().cloned().collect::<Vec<_>>().into());
        }
        for (name, time) in [("since", self.since), ("until", until)] {
            time.and_then(|time| members.insert(name.into(), time.into()));
        }
        members.insert("limit".into(), PAGE.into());
        Value::Object(members).to_string()
    }

    /// Reads an event that is no longer than the longest of these kinds may be.
    fn read(&self, json: &str) -> Option<Event> {
        let most = |of: fn(u16) -> usize| self.kinds.iter().map(|kind| of(*kind)).max().unwrap_or_default();
        let short = Some(json).filter(|json| json.len() <= most(Signed::most_bytes))?;
        event::read_within(short, most(Signed::most_values))
    }

    fn admits(&self, event: &Event) -> bool {
        let tagged = |(name, values): &(&str, BTreeSet<String>)| {
            let of_name = event.tags.iter().filter(|tag| tag.kind() == *name);
            of_name.filter_map(Tag::content).any(|value| values.contains(value))
        };
        self.kinds.contains(&event.kind.as_u16())
            && (self.ids.is_empty() || self.ids.contains(&event.id))
            && (self.authors.is_empty() || self.authors.contains(&event.pubkey))
            && self.since.is_none_or(|since| event.created_at.as_secs() >= since)
            && self.tags.iter().all(tagged)
    }
}

/// Events whose signatures were verified, over all relays and rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verified {
    by_id: Arc<Mutex<BTreeMap<EventId, Signed>>>,
}

impl Verified {
    /// Takes an event if it is valid; one that is known already is not verified again.
    fn take(&self, event: Event) -> Option<EventId> {
        let id = event.id;
        if self.all().get(&id).is_some_and(|known| *known.event() == event) {
            return Some(id);
        }
        let signed = Signed::verify(event).ok()?;
        self.all().insert(id, signed);
        Some(id)
    }

    /// Returns everything by id.
    pub(crate) fn all(&self) -> MutexGuard<'_, BTreeMap<EventId, Signed>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A relay to be asked.
pub(crate) struct Place {
    pub(crate) url: RelayUrl,
    pub(crate) addresses: Addresses,
    /// Answers its challenge; without one it does not learn who asks.
    pub(crate) signer: Option<Arc<dyn AuthSigner>>,
}

impl Place {
    /// Asks for one page.
    async fn page(&self, filter: String, left: Duration) -> (Vec<String>, QueryOutcome) {
        let mut query =
            Query::new(filter).with_deadline(left).with_events(PAGE).with_addresses(self.addresses);
        query.signer.clone_from(&self.signer);
        query.limits.relay_frame = FRAME;
        match query.ask(std::slice::from_ref(&self.url)).await {
            Ok(report) => {
                let answer = report.per_relay.into_iter().next();
                answer.map_or((Vec::new(), QueryOutcome::Late), |answer| (answer.events, answer.outcome))
            }
            Err(error) => (Vec::new(), QueryOutcome::Failed(error.to_string())),
        }
    }
}

/// How relays are asked.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) deadline: Duration,
    /// Unix seconds beyond which no stamp is believed.
    pub(crate) horizon: u64,
    pub(crate) verified: Verified,
}

/// What came of one relay.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) url: RelayUrl,
    pub(crate) outcome: QueryOutcome,
    /// One of the questions was answered, in full or in part.
    pub(crate) answered: bool,
    /// Events that were asked for and are valid.
    pub(crate) ids: BTreeSet<EventId>,
    pub(crate) invalid: usize,
    pub(crate) unwanted: usize,
    /// The relay may have more.
    pub(crate) capped: bool,
    pub(crate) took: Duration,
}

impl Asked {
    const fn nothing(url: RelayUrl) -> Self {
        Self {
            url,
            outcome: QueryOutcome::Complete,
            answered: false,
            ids: BTreeSet::new(),
            invalid: 0,
            unwanted: 0,
            capped: false,
            took: Duration::ZERO,
        }
    }

    /// Adds what came of another question to the same relay.
    pub(crate) fn add(&mut self, other: Self) {
        // A question that failed hides that another one was answered: the answer is not the whole.
        if self.outcome == QueryOutcome::Complete {
            self.outcome = other.outcome;
        }
        self.answered |= other.answered;
        self.ids.extend(other.ids);
        self.invalid = self.invalid.saturating_add(other.invalid);
        self.unwanted = self.unwanted.saturating_add(other.unwanted);
        self.capped |= other.capped;
        self.took = self.took.max(other.took);
    }
}

/// What was taken of one page.
#[derive(Debug, Default)]
struct Page {
    ids: BTreeSet<EventId>,
    invalid: usize,
    unwanted: usize,
    /// The lowest stamp of all, whatever was taken.
    oldest: Option<u64>,
}

impl Page {
    fn note(&mut self, json: &str) {
        let stamp = serde_json::from_str(json).ok().map(|Stamped { created_at }| created_at);
        self.oldest = self.oldest.into_iter().chain(stamp).min();
    }

    /// Returns until when the next page is asked for, after one until then: stamps beyond the horizon are stepped over, and so is a
    /// second of which nothing new comes. `None` when nothing older is to be had.
    fn next(&self, until: Option<u64>, new: bool, horizon: u64) -> Option<u64> {
        let (oldest, until) = (self.oldest?, until.unwrap_or(u64::MAX));
        let next = if new {
            oldest.min(until)
        } else if oldest <= until {
            oldest.checked_sub(1)?
        } else {
            // It does not mind until when it is asked.
            return None;
        };
        Some(next.min(horizon))
    }
}

/// All that is read of an event that may be none.
#[derive(serde::Deserialize)]
struct Stamped {
    created_at: u64,
}

impl Asking {
    /// Puts several questions to one relay at once.
    pub(crate) async fn ask(&self, place: Place, filters: &[Filter]) -> Asked {
        let questions = filters.iter().map(|filter| self.ask_one(&place, filter));
        let answers = join_all(questions).await;
        let mut all = Asked::nothing(place.url);
        answers.into_iter().for_each(|answer| all.add(answer));
        all
    }

    /// Asks for ever older events until a page is short, or time, bytes or pages are used up.
    async fn ask_one(&self, place: &Place, filter: &Filter) -> Asked {
        let started = Instant::now();
        let mut asked = Asked::nothing(place.url.clone());
        let (mut until, mut bytes) = (None, 0_usize);
        for page in 1.. {
            let left = self.deadline.saturating_sub(started.elapsed());
            let (events, outcome) = place.page(filter.to_json(until), left).await;
            let count = events.len();
            bytes = bytes.saturating_add(events.iter().map(String::len).sum());
            let mut taken = self.take(events, filter.clone()).await;
            let (known, cut) = (asked.ids.len(), outcome == QueryOutcome::Cut);
            asked.ids.append(&mut taken.ids);
            asked.invalid = asked.invalid.saturating_add(taken.invalid);
            asked.unwanted = asked.unwanted.saturating_add(taken.unwanted);
            // Each page takes a connection, for which there may have been no time left.
            let late = page > 1 && started.elapsed() >= self.deadline;
            asked.outcome = if cut {
                QueryOutcome::Complete
            } else if late && outcome != QueryOutcome::Complete {
                QueryOutcome::Late
            } else {
                outcome
            };
            asked.answered |= asked.outcome == QueryOutcome::Complete || !asked.ids.is_empty();
            let new = asked.ids.len() > known;
            let held_back = cut || count >= CAP;
            // A full page that brings nothing new hides what else there is of its oldest second.
            asked.capped |= held_back && (!new || asked.outcome != QueryOutcome::Complete);
            if asked.outcome != QueryOutcome::Complete || !held_back {
                break;
            }
            if page == PAGES || bytes >= BYTES {
                asked.capped = true;
                break;
            }
            let next = taken.next(until, new, self.horizon);
            if next.is_none() {
                break;
            }
            until = next;
        }
        asked.took = started.elapsed();
        asked
    }

    /// Verifies a page away from the tasks that serve sockets.
    async fn take(&self, events: Vec<String>, filter: Filter) -> Page {
        if events.is_empty() {
            return Page::default();
        }
        let verified = self.verified.clone();
        let taking = tokio::task::spawn_blocking(move || {
            let mut page = Page::default();
            for json in events {
                page.note(&json);
                take_one(&json, &filter, &verified, &mut page);
            }
            page
        });
        // A task that panicked has said so itself.
        taking.await.unwrap_or_default()
    }
}

fn take_one(json: &str, filter: &Filter, verified: &Verified, page: &mut Page) {
    let Some(event) = filter.read(json) else {
        page.invalid += 1;
        return;
    };
    if !filter.admits(&event) {
        page.unwanted += 1;
        return;
    }
    match verified.take(event) {
        Some(id) => _ = page.ids.insert(id),
        None => page.invalid += 1,
    }
}
