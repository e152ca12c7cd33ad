//! The rounds of one search: who was asked what, and what is put together from the answers.
use std::collections::{BTreeMap, BTreeSet};

use contextvm_announce::deletion::address;
use contextvm_announce::{COMMON_SCHEMA, Directory, DocumentKind, FUTURE, Freshness, Newest, Signed};
use contextvm_core::kind;
use contextvm_relay::{Addresses, QueryOutcome};
use futures_util::future::join_all;
use nostr::event::EventId;
use nostr::key::PublicKey;
use nostr::types::RelayUrl;
use tokio::time::Instant;

use crate::asking::{Asked, Asking, Filter, Place, Verified};
use crate::discover::{DiscoverError, Discovery, Found, RelayAnswer, Role, Scope};
use crate::turns::in_turns;

/// Authors per question, as relays bound their filters.
pub(crate) const AUTHORS: usize = 250;
/// Most authors that a second round asks about.
pub(crate) const MOST_AUTHORS: usize = 1_000;

/// Asks for everything that one key publishes as a server.
pub(crate) fn everything(server: PublicKey) -> Filter {
    let kinds = announced().chain([kind::PROFILE, kind::DELETION, kind::RELAY_LIST]).collect();
    Filter { kinds, authors: BTreeSet::from([server]), ..Filter::default() }
}

/// Asks for reviews of these servers, or of any.
pub(crate) fn all_reviews<'a>(servers: impl Iterator<Item = &'a PublicKey>) -> Filter {
    let root = BTreeSet::from([kind::SERVER_ANNOUNCEMENT.to_string()]);
    let addresses: BTreeSet<_> =
        servers.take(AUTHORS).map(|server| address(kind::SERVER_ANNOUNCEMENT, server)).collect();
    let mut tags = vec![("K", root)];
    if !addresses.is_empty() {
        tags.push(("A", addresses));
    }
    Filter { kinds: vec![kind::COMMENT], tags, ..Filter::default() }
}

/// Asks for reviews by these people, whatever server they are of.
pub(crate) fn reviews_by(people: &[PublicKey]) -> impl Iterator<Item = Filter> {
    let asked = people.get(..MOST_AUTHORS).unwrap_or(people);
    asked.chunks(AUTHORS).map(|authors| Filter {
        authors: authors.iter().copied().collect(),
        ..all_reviews(std::iter::empty())
    })
}

fn announced() -> impl Iterator<Item = u16> {
    DocumentKind::ALL.into_iter().map(DocumentKind::kind)
}

impl Scope {
    /// Asks for announcements, or for the tool lists that carry the tag.
    pub(crate) fn announcements(&self) -> Filter {
        let one = |value: &str| BTreeSet::from([value.to_owned()]);
        let mut tags = Vec::new();
        if let Some(schema) = &self.schema {
            tags.push(("i", one(&schema.to_string())));
        }
        if self.common_schemas {
            tags.push(("k", one(COMMON_SCHEMA)));
        }
        if let Some(category) = &self.category {
            tags.push(("t", one(category.trim())));
        }
        let kinds = if tags.is_empty() { announced().collect() } else { vec![kind::TOOLS_LIST] };
        let authors = self.authors.iter().take(AUTHORS).copied().collect();
        Filter { kinds, authors, tags, since: self.since, ..Filter::default() }
    }

    /// Asks for the rest about those that were found, or nothing.
    pub(crate) fn second_round(&self, found: &[PublicKey]) -> Vec<Filter> {
        let mut kinds = Vec::new();
        if self.schema.is_some() || self.common_schemas || self.category.is_some() {
            kinds.extend(announced().filter(|kind| *kind != kind::TOOLS_LIST));
        }
        if self.profiles {
            kinds.extend([kind::PROFILE, kind::DELETION, kind::RELAY_LIST]);
        }
        if kinds.is_empty() {
            return Vec::new();
        }
        let found = found.get(..MOST_AUTHORS).unwrap_or(found);
        let about = |authors: &[PublicKey]| Filter {
            kinds: kinds.clone(),
            authors: authors.iter().copied().collect(),
            ..Filter::default()
        };
        found.chunks(AUTHORS).map(about).collect()
    }
}

/// One search under way.
pub(crate) struct Round<'a> {
    of: &'a Discovery,
    asking: Asking,
    answers: Vec<(Asked, Role)>,
    started: Instant,
}

impl<'a> Round<'a> {
    pub(crate) fn new(of: &'a Discovery) -> Self {
        let horizon = of.now().saturating_add(FUTURE.as_secs());
        let asking = Asking { deadline: of.deadline, horizon, verified: Verified::default() };
        Self { of, asking, answers: Vec::new(), started: Instant::now() }
    }

    /// Puts questions to relays, all at once; strangers' relays are dialled under the rule for them, and do not learn who asks.
    pub(crate) async fn ask(
        &mut self,
        relays: &[(RelayUrl, Role)],
        strangers: Addresses,
        questions: &[Filter],
    ) {
        let asked = relays.iter().map(|(url, role)| {
            let (addresses, signer) = match role {
                Role::Discovery => (Addresses::Any, self.of.signer.clone()),
                Role::Hint | Role::Listed => (strangers, None),
            };
            self.asking.ask(Place { url: url.clone(), addresses, signer }, questions)
        });
        let asked = join_all(asked).await;
        for (asked, (_, role)) in asked.into_iter().zip(relays) {
            match self.answers.iter_mut().find(|(known, _)| known.url == asked.url) {
                Some((known, _)) => known.add(asked),
                None => self.answers.push((asked, *role)),
            }
        }
    }

    /// Notes that there are more servers than are asked for.
    pub(crate) fn leave_out(&mut self) {
        self.answers.iter_mut().for_each(|(asked, _)| asked.capped = true);
    }

    /// Lists the relays that answered so far, and not late.
    pub(crate) fn answering(&self) -> Vec<(RelayUrl, Role)> {
        let in_time = |asked: &Asked| asked.answered && asked.outcome != QueryOutcome::Late;
        let answering = self.answers.iter().filter(|(asked, _)| in_time(asked));
        answering.map(|(asked, role)| (asked.url.clone(), *role)).collect()
    }

    /// Returns one of the valid events.
    pub(crate) fn found(&self, id: &EventId) -> Option<Signed> {
        self.asking.verified.all().get(id).cloned()
    }

    /// Lists the authors of announcements: those that matter here first, the others as the relays have their turns.
    pub(crate) fn announcers(&self) -> Vec<PublicKey> {
        let (events, seen) = (self.asking.verified.all(), self.of.memory.snapshot());
        let mut known = BTreeSet::new();
        let mut authors: Vec<_> = in_turns(self.answers.iter().map(|(asked, _)| &asked.ids), &events)
            .into_iter()
            .filter(|event| DocumentKind::from_kind(event.kind.as_u16()).is_some())
            .map(|event| event.pubkey)
            .filter(|author| known.insert(*author))
            .collect();
        authors.sort_by_key(|author| !seen.is_preferred(author));
        authors
    }

    /// Returns the newest relay list of a key that was found or is remembered, unless its author deleted it since.
    pub(crate) fn relay_list(&self, key: &PublicKey) -> Option<Signed> {
        let lists = self.learn(key, kind::RELAY_LIST);
        self.of.memory.best_list(key, lists.iter(), self.of.now())
    }

    /// Returns the newest event of a replaceable kind of a key that was found, unless a newer one was seen before, or its author
    /// deleted it since.
    pub(crate) fn newest(&self, key: &PublicKey, kind: u16) -> Option<Signed> {
        let (memory, now) = (&self.of.memory, self.of.now());
        let current = |event: &Signed| matches!(memory.judge(event, now), Freshness::Newer | Freshness::Same);
        self.learn(key, kind).into_iter().filter(current).max_by_key(Signed::stamp)
    }

    /// Lets the memory learn what was found of one kind of a key, and what the key deleted; returns the former.
    fn learn(&self, key: &PublicKey, kind: u16) -> Vec<Signed> {
        let (memory, now) = (&self.of.memory, self.of.now());
        let events = self.asking.verified.all();
        let own = |kind: u16| {
            let own = move |event: &&Signed| event.pubkey == *key && event.kind.as_u16() == kind;
            events.values().filter(own)
        };
        // Deletions last: one may name an event by its id alone, which says nothing to whoever never saw it.
        for event in own(kind).chain(own(kind::DELETION)) {
            memory.learn(event, now);
        }
        own(kind).cloned().collect()
    }

    /// Puts everything together; what was learned is remembered.
    ///
    /// # Errors
    /// Fails when nobody was asked or nobody answered.
    pub(crate) async fn finish(self, preferred: Vec<PublicKey>) -> Result<Found, DiscoverError> {
        let (now, memory) = (self.of.now(), self.of.memory.clone());
        let (answers, verified) = (self.answers, self.asking.verified);
        let events = std::mem::take(&mut *verified.all());
        let seen = memory.snapshot();
        // Thousands of documents are read here.
        let building = tokio::task::spawn_blocking(move || build(answers, &events, preferred, seen, now));
        // A task that panicked has said so itself.
        let Built { directory, per_relay, lists, vouched } = building.await.unwrap_or_default();
        if per_relay.is_empty() {
            return Err(DiscoverError::NoRelays);
        }
        if !per_relay.iter().any(RelayAnswer::has_answered) {
            return Err(DiscoverError::NoneAnswered(per_relay));
        }
        memory.absorb(directory.newest(), &vouched);
        for list in lists.iter().filter(|list| directory.newest().is_preferred(&list.pubkey)) {
            memory.learn(list, now);
        }
        memory.try_save().await;
        Ok(Found { directory, per_relay, took: self.started.elapsed() })
    }
}

/// What was put together from the answers.
#[derive(Default)]
struct Built {
    directory: Directory,
    per_relay: Vec<RelayAnswer>,
    /// Every relay list that was found.
    lists: Vec<Signed>,
    /// Authors of whom two relays said the same.
    vouched: BTreeSet<PublicKey>,
}

fn build(
    answers: Vec<(Asked, Role)>,
    events: &BTreeMap<EventId, Signed>,
    preferred: Vec<PublicKey>,
    seen: Newest,
    now: u64,
) -> Built {
    let mut directory = Directory::default().with_newest(seen);
    preferred.into_iter().for_each(|key| directory.prefer(key));
    let mut order = in_turns(answers.iter().map(|(asked, _)| &asked.ids), events);
    // Deletions last: one may name an event by its id alone, which says nothing to whoever never saw it.
    order.sort_by_key(|event| {
        (event.kind.as_u16() == kind::DELETION, !directory.newest().is_preferred(&event.pubkey))
    });
    for event in order {
        // Refusals are counted in the directory.
        let _ = directory.add(event, now);
    }
    let (mut once, mut vouched) = (BTreeSet::new(), BTreeSet::new());
    for id in answers.iter().flat_map(|(asked, _)| &asked.ids) {
        if !once.insert(id) {
            vouched.extend(events.get(id).map(|event| event.pubkey));
        }
    }
    let judge = |event: &Signed| directory.newest().judge(event, now);
    let per_relay = answers.into_iter().map(|(asked, role)| answer(asked, role, events, judge)).collect();
    let lists = events.values().filter(|event| event.kind.as_u16() == kind::RELAY_LIST).cloned().collect();
    Built { directory, per_relay, lists, vouched }
}

fn answer(
    asked: Asked,
    role: Role,
    events: &BTreeMap<EventId, Signed>,
    judge: impl Fn(&Signed) -> Freshness,
) -> RelayAnswer {
    let (mut stale, mut future) = (0, 0);
    for event in asked.ids.iter().filter_map(|id| events.get(id)) {
        match judge(event) {
            // Reviews and deletions replace nothing.
            Freshness::Older(_) if event.kind.is_replaceable() => stale += 1,
            Freshness::Future => future += 1,
            Freshness::Older(_) | Freshness::Newer | Freshness::Same => {}
        }
    }
    RelayAnswer {
        url: asked.url,
        role,
        outcome: asked.outcome,
        answered: asked.answered,
        events: asked.ids.len(),
        invalid: asked.invalid,
        unwanted: asked.unwanted,
        stale,
        future,
        capped: asked.capped,
        took: asked.took,
    }
}
