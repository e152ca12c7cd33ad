//! Finding servers by what they announce, over several relays at once, with honest partial answers.
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use contextvm_announce::{Directory, RelayList, SchemaHash, Signed};
use contextvm_core::{Fault, Limits, ServerIdentity};
use contextvm_relay::{Addresses, AuthSigner, QueryOutcome};
use contextvm_runtime::clock::unix_now;
use nostr::event::EventId;
use nostr::key::PublicKey;
use nostr::types::RelayUrl;

use crate::admission::Admission;
use crate::asking::Filter;
use crate::memory::Memory;
use crate::resolve::{DISCOVERY_RELAYS, parse_all};
use crate::round::{AUTHORS, MOST_AUTHORS, Round, all_reviews, everything, reviews_by};

/// How long one relay may take over all questions of a round by default: 5 s.
pub const RELAY_DEADLINE: Duration = Duration::from_secs(5);
/// Most relays that are asked in one round.
pub const MOST_RELAYS: usize = 16;

/// Why a search could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoverError {
    /// No relay to ask is known.
    #[error("no relay to ask is known")]
    NoRelays,
    /// The relay at this place does not parse.
    #[error("relay {0} in the configuration is not a websocket url")]
    RelayUrl(usize),
    /// No relay answered, so that nothing is known: not even that there is nothing.
    #[error("none of {} relays answered", .0.len())]
    NoneAnswered(Vec<RelayAnswer>),
}

impl DiscoverError {
    /// Says who misbehaved.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::NoRelays | Self::RelayUrl(_) => Fault::Local,
            Self::NoneAnswered(_) => Fault::Relay,
        }
    }

    /// Whether the same search may succeed later without any change.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::NoneAnswered(_))
    }
}

/// Why a relay was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The application named it.
    Discovery,
    /// The name of the server brought it.
    Hint,
    /// The server's own relay list named it.
    Listed,
}

/// What one relay answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayAnswer {
    /// The relay.
    pub url: RelayUrl,
    /// Why it was asked.
    pub role: Role,
    /// How it went with all questions together; a reason is printable.
    pub outcome: QueryOutcome,
    /// Whether one of the questions was answered: in full, or a part of it in time.
    pub answered: bool,
    /// Valid events that were asked for.
    pub events: usize,
    /// Events that do not parse, are too large, or whose id or signature is wrong.
    pub invalid: usize,
    /// Events that were not asked for.
    pub unwanted: usize,
    /// Events older than the newest ever seen of their author and kind, or deleted: this relay is behind, or goes back.
    pub stale: usize,
    /// Events stamped more than 15 minutes ahead of our clock.
    pub future: usize,
    /// It may have more than was taken, or than it was asked for.
    pub capped: bool,
    /// How long it took.
    pub took: Duration,
}

impl RelayAnswer {
    /// Whether it answered in full.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.outcome == QueryOutcome::Complete && !self.capped
    }

    /// Whether it answered at all: one of the questions in full, or a part of it in time.
    #[must_use]
    pub const fn has_answered(&self) -> bool {
        self.answered
    }
}

/// Which servers are looked for. The default is everybody, without reviews and profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only these servers; empty means any. At most 250 are asked for; beyond them the answer is partial.
    pub authors: Vec<PublicKey>,
    /// Only servers that say they have a tool of this schema (CEP-15).
    pub schema: Option<SchemaHash>,
    /// Only servers that say they have a tool of some common schema.
    pub common_schemas: bool,
    /// Only servers that say they are of this category.
    pub category: Option<String>,
    /// Only what was announced since, Unix seconds.
    pub since: Option<u64>,
    /// Also ask for reviews.
    pub reviews: bool,
    /// Also ask for the reviews of these people by themselves, so that others cannot crowd them out. Of more than 1,000 the
    /// rest is left to `reviews`.
    pub reviewers: Vec<PublicKey>,
    /// Also ask for profiles, relay lists and deletions of the servers that were found, of 1,000 at most.
    pub profiles: bool,
}

/// What was found, and who answered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Found {
    /// The servers.
    pub directory: Directory,
    /// Every relay that was asked; one that was asked in two rounds is there once.
    pub per_relay: Vec<RelayAnswer>,
    /// How long it took.
    pub took: Duration,
}

impl Found {
    /// Returns how many relays answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.per_relay.iter().filter(|answer| answer.has_answered()).count()
    }

    /// Whether a relay did not answer in full, or what it said found no room: there may be more.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.directory.refused().full > 0 || !self.per_relay.iter().all(RelayAnswer::is_complete)
    }
}

/// Asks relays what is announced; clones share the memory.
///
/// Worst case while it asks: 13 MiB of events per relay and question, of which there are ten at most.
#[derive(Clone)]
pub struct Discovery {
    relays: Vec<RelayUrl>,
    pub(crate) memory: Memory,
    pub(crate) deadline: Duration,
    local: bool,
    pub(crate) signer: Option<Arc<dyn AuthSigner>>,
    now: Option<u64>,
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery")
            .field("relays", &self.relays)
            .field("memory", &self.memory)
            .field("deadline", &self.deadline)
            .field("local", &self.local)
            .field("signer", &self.signer.is_some())
            .finish_non_exhaustive()
    }
}

impl Discovery {
    /// Prepares to ask these relays, which may be anywhere: the application names them.
    ///
    /// # Errors
    /// Fails when one of them does not parse. At most [`MOST_RELAYS`] are asked; the rest is left out.
    pub fn new<S: AsRef<str>>(relays: &[S]) -> Result<Self, DiscoverError> {
        let mut urls = Vec::new();
        for url in parse_all(relays).map_err(DiscoverError::RelayUrl)? {
            if !urls.contains(&url) && urls.len() < MOST_RELAYS {
                urls.push(url);
            }
        }
        Ok(Self {
            relays: urls,
            memory: Memory::volatile(),
            deadline: RELAY_DEADLINE,
            local: false,
            signer: None,
            now: None,
        })
    }

    /// Prepares to ask the six public relays where servers announce themselves by default.
    ///
    /// # Errors
    /// As [`Discovery::new`].
    pub fn of_public_relays() -> Result<Self, DiscoverError> {
        Self::new(&DISCOVERY_RELAYS)
    }

    /// Sets what remembers the newest event of each key and kind.
    #[must_use]
    pub fn with_memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// Sets how long one relay may take in one round.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Takes `ws://` and private addresses from relay lists and names. Dangerous outside development.
    #[must_use]
    pub const fn with_local_relays(mut self, local: bool) -> Self {
        self.local = local;
        self
    }

    /// Sets who answers the challenge (NIP-42) of a relay that the application named; others never learn who asks.
    #[must_use]
    pub fn with_signer(mut self, signer: Arc<dyn AuthSigner>) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Takes this time, Unix seconds, in place of the clock's.
    #[must_use]
    pub const fn at(mut self, now: u64) -> Self {
        self.now = Some(now);
        self
    }

    /// Looks for servers, in one or two rounds; each takes one deadline at most, and saving what was learned up to 2 s.
    ///
    /// # Errors
    /// Fails when no relay is known or none answered; that is never the same as finding nothing.
    pub async fn servers(&self, scope: &Scope) -> Result<Found, DiscoverError> {
        let mut round = Round::new(self);
        let mut first = vec![scope.announcements()];
        if scope.reviews {
            first.push(all_reviews(scope.authors.iter()));
        }
        first.extend(reviews_by(&scope.reviewers));
        round.ask(&self.own(), Addresses::Any, &first).await;
        let announcers = round.announcers();
        let second = scope.second_round(&announcers);
        if !second.is_empty() {
            // Those that were silent would only cost their deadline once more.
            round.ask(&round.answering(), Addresses::Any, &second).await;
        }
        if scope.authors.len() > AUTHORS || (!second.is_empty() && announcers.len() > MOST_AUTHORS) {
            round.leave_out();
        }
        round.finish([scope.authors.as_slice(), &scope.reviewers].concat()).await
    }

    /// Looks for everything about one server: announcement, lists, profile, relay list, reviews and deletions.
    ///
    /// After the discovery relays, and those that came with the name, the relays of the server's own list are asked, under the
    /// rule for strangers' lists: two rounds. The server is preferred in the memory from now on.
    ///
    /// # Errors
    /// As [`Discovery::servers`].
    pub async fn server(&self, server: &ServerIdentity) -> Result<Found, DiscoverError> {
        let mut round = Round::new(self);
        let questions = [everything(server.key), all_reviews([&server.key].into_iter())];
        self.ask_about(server, &mut round, &questions).await;
        round.finish(vec![server.key]).await
    }

    /// Asks about one key where it was named and then, if the answers hold its relay list, on the relays of that.
    pub(crate) async fn ask_about(
        &self,
        about: &ServerIdentity,
        round: &mut Round<'_>,
        questions: &[Filter],
    ) {
        self.memory.prefer(about.key);
        let admission = Admission::new(self.local, &Limits::default());
        let hints = admission.take(about.relays.iter().map(String::as_str));
        let mut urls = self.own();
        for hint in hints {
            if !self.relays.contains(&hint) {
                urls.push((hint, Role::Hint));
            }
        }
        round.ask(&urls, admission.addresses, questions).await;
        let list = round.relay_list(&about.key).and_then(|list| RelayList::read(&list).ok());
        let listed = list.map(|list| admission.take(list.selection().into_iter())).unwrap_or_default();
        let listed = listed.into_iter().filter(|url| !urls.iter().any(|(known, _)| known == url));
        let listed: Vec<_> = listed.map(|url| (url, Role::Listed)).collect();
        round.ask(&listed, admission.addresses, questions).await;
    }

    /// Looks for one event of a kind.
    pub(crate) async fn event(&self, id: EventId, kind: u16) -> Result<Option<Signed>, DiscoverError> {
        let mut round = Round::new(self);
        let question = Filter { kinds: vec![kind], ids: BTreeSet::from([id]), ..Filter::default() };
        round.ask(&self.own(), Addresses::Any, &[question]).await;
        let event = round.found(&id);
        round.finish(Vec::new()).await.map(|_found| event)
    }

    fn own(&self) -> Vec<(RelayUrl, Role)> {
        self.relays.iter().map(|url| (url.clone(), Role::Discovery)).collect()
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.unwrap_or_else(unix_now)
    }
}
