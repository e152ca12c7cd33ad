//! Asked: requests of the application that a client was sent and may answer.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use contextvm_core::Mono;
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::RequestKey;

/// One request of ours.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The application's own id as it wrote it.
    pub(super) id: String,
    /// The application's progress token, as plain text.
    pub(super) token: Option<String>,
    until: Mono,
}

/// Requests of ours by whom we asked and under which event, bounded in count and time.
#[derive(Debug, Default)]
pub(super) struct Asked {
    open: BTreeMap<RequestKey, Question>,
    by_end: BTreeSet<(Mono, RequestKey)>,
}

impl Asked {
    pub(super) fn insert(&mut self, key: RequestKey, id: String, token: Option<String>, until: Mono) {
        self.by_end.insert((until, key));
        self.open.insert(key, Question { id, token, until });
    }

    pub(super) fn take(&mut self, key: &RequestKey) -> Option<Question> {
        let question = self.open.remove(key)?;
        self.by_end.remove(&(question.until, *key));
        Some(question)
    }

    pub(super) fn contains(&self, key: &RequestKey) -> bool {
        self.open.contains_key(key)
    }

    /// Drops the questions to one client: nobody waits for their answers any more.
    pub(super) fn forget_client(&mut self, client: PublicKey) {
        self.forget_where(client, |_| true);
    }

    /// Drops the questions to one client that satisfy a condition.
    pub(super) fn forget_where(&mut self, client: PublicKey, condition: impl Fn(&Question) -> bool) {
        let gone: Vec<_> =
            self.of(client).filter(|(_, question)| condition(question)).map(|(key, _)| *key).collect();
        for key in gone {
            self.take(&key);
        }
    }

    /// Whether this client was asked something under this progress token.
    pub(super) fn has_token(&self, client: PublicKey, token: &str) -> bool {
        self.of(client).any(|(_, question)| question.token.as_deref() == Some(token))
    }

    pub(super) fn count_of(&self, client: PublicKey) -> usize {
        self.of(client).count()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn forget(&mut self, now: Mono) {
        while let Some((until, key)) = self.by_end.first().copied() {
            if until > now {
                break;
            }
            self.take(&key);
        }
    }

    pub(super) fn next_end(&self) -> Option<Mono> {
        self.by_end.first().map(|(until, _)| *until)
    }

    fn of(&self, client: PublicKey) -> impl Iterator<Item = (&RequestKey, &Question)> {
        let first = RequestKey { caller: client, id: EventId::from_byte_array([0; 32]) };
        let last = RequestKey { caller: client, id: EventId::from_byte_array([u8::MAX; 32]) };
        self.open.range(first..=last)
    }
}
