//! Taking announcements back (CEP-6, NIP-09).
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contextvm_announce::{Deletion, Signed};
use contextvm_core::kind;
use contextvm_crypto::Keys;
use contextvm_relay::{Post, Query, QueryOutcome};
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;
use nostr::types::RelayUrl;

use super::{ALL_KINDS, AnnounceTargets, AnnouncingError, DEADLINE, RelayWord, sign, status};

/// What is deleted, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Why, for readers; "Service offline".
    pub reason: String,
    /// Whether the relay list (10002) is deleted too; `false`.
    pub relay_list: bool,
    /// Whether the profile (0) is deleted too; `false`.
    pub profile: bool,
    /// Events that are known to have been published, with their kinds: they are deleted even where no relay shows them.
    pub known: Vec<(u16, EventId)>,
    /// Whether the requests are only signed and shown; `false`. The relays are asked all the same.
    pub dry_run: bool,
    /// Longest wait for the relays: to say what they hold, and again to take the deletion; 10 s each.
    pub deadline: Duration,
}

impl Default for DeleteOptions {
    fn default() -> Self {
        let (reason, known) = ("Service offline".to_owned(), Vec::new());
        Self { reason, relay_list: false, profile: false, known, dry_run: false, deadline: DEADLINE }
    }
}

/// What was deleted of one kind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Deleted {
    /// The kind.
    pub kind: u16,
    /// The events that are named by id.
    pub ids: Vec<EventId>,
    /// The request (kind 5).
    pub request: Event,
    /// What each relay said to it; nothing on a dry run.
    pub per_relay: Vec<RelayWord>,
}

impl Deleted {
    /// Whether at least one relay took the request.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.per_relay.iter().any(|word| word.outcome.is_success())
    }
}

/// What became of a deletion.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeleteReport {
    /// How each relay answered what it holds. Where an answer is missing, events may be left that nobody knows.
    pub asked: Vec<(RelayUrl, QueryOutcome)>,
    /// What was deleted, in order of the kinds; empty when nothing was found.
    pub deleted: Vec<Deleted>,
}

impl DeleteReport {
    /// Whether every relay said in full what it holds and took every deletion.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let answered = self.asked.iter().all(|(_, outcome)| *outcome == QueryOutcome::Complete);
        let mut words = self.deleted.iter().flat_map(|deleted| &deleted.per_relay);
        answered && words.all(|word| word.outcome.is_success())
    }

    /// Publishes the requests as they stand, such as those of a dry run that somebody has agreed to, and notes what each
    /// relay says.
    ///
    /// # Errors
    /// Fails when nothing could be sent from this host. Relays that fail are in the report.
    pub async fn send(
        mut self,
        keys: &Arc<Keys>,
        targets: &AnnounceTargets,
        deadline: Duration,
    ) -> Result<Self, AnnouncingError> {
        if self.deleted.is_empty() {
            return Ok(self);
        }
        let requests = self.deleted.iter().map(|deleted| sign::print(&deleted.request)).collect();
        let post = Post::new(requests).with_signer(keys.clone()).with_deadline(deadline);
        let words = status::words(post.to(&targets.all()).await?);
        for (deleted, (_, per_relay)) in self.deleted.iter_mut().zip(words) {
            deleted.per_relay = per_relay;
        }
        Ok(self)
    }
}

/// Deletes the announcements of a key: asks every relay what it holds, waits for all of them, and publishes one request for
/// each kind that was found or is known, with every id, the address and the kind.
///
/// # Errors
/// Fails when nothing could be sent from this host. Relays that fail are in the report.
pub async fn delete(
    keys: &Arc<Keys>,
    targets: &AnnounceTargets,
    options: DeleteOptions,
) -> Result<DeleteReport, AnnouncingError> {
    let (me, urls) = (keys.public_key(), targets.all());
    let kinds: Vec<u16> = ALL_KINDS.into_iter().filter(|kind| options.includes(*kind)).collect();
    let query = Query::new(super::own_filter(&me, &kinds))
        .with_signer(keys.clone())
        .with_deadline(options.deadline)
        .with_settle(options.deadline);
    let report = query.ask(&urls).await?;
    let (mut found, unix) = (Found::default(), contextvm_runtime::clock::unix_now());
    for (kind, id) in options.known.iter().filter(|(kind, _)| kinds.contains(kind)) {
        found.add(*kind, *id, 0);
    }
    let events = report.events().filter_map(|(_, json)| Signed::read(json).ok());
    for event in events.filter(|event| event.pubkey == me && kinds.contains(&event.kind.as_u16())) {
        // A request that is stamped as far ahead as what it deletes by its id would not be read.
        let stamp = event.stamp();
        found.add(event.kind.as_u16(), stamp.id, if stamp.is_future(unix) { 0 } else { stamp.created_at });
    }
    let asked = report.per_relay.into_iter().map(|answer| (answer.url, answer.outcome)).collect();
    let deleted = found.requests(keys, &me, unix, &options.reason)?;
    let report = DeleteReport { asked, deleted };
    if options.dry_run { Ok(report) } else { report.send(keys, targets, options.deadline).await }
}

impl DeleteOptions {
    const fn includes(&self, kind: u16) -> bool {
        match kind {
            kind::RELAY_LIST => self.relay_list,
            kind::PROFILE => self.profile,
            _ => true,
        }
    }
}

/// Own events by kind: their ids, and the newest stamp.
#[derive(Default)]
struct Found(BTreeMap<u16, (Vec<EventId>, u64)>);

impl Found {
    fn add(&mut self, kind: u16, id: EventId, created_at: u64) {
        let (ids, newest) = self.0.entry(kind).or_default();
        *newest = created_at.max(*newest);
        if !ids.contains(&id) {
            ids.push(id);
        }
    }

    fn requests(
        self,
        keys: &Keys,
        me: &PublicKey,
        unix: u64,
        reason: &str,
    ) -> Result<Vec<Deleted>, AnnouncingError> {
        let requests = self.0.into_iter().map(|(kind, (ids, newest))| {
            let deletion = Deletion { author: *me, kind, ids: ids.clone(), reason: reason.to_owned() };
            let request = sign::sign(keys, deletion.draft(unix.max(newest)))?;
            Ok(Deleted { kind, ids, request, per_relay: Vec::new() })
        });
        requests.collect()
    }
}
