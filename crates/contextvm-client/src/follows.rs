//! Whom a key follows (NIP-02), so that its word and theirs can count for more than that of strangers.
use std::collections::BTreeSet;

use contextvm_announce::Signed;
use contextvm_announce::deletion::address;
use contextvm_core::{ServerIdentity, kind};
use nostr::event::Tag;
use nostr::key::PublicKey;

use crate::asking::Filter;
use crate::discover::{DiscoverError, Discovery, RelayAnswer};
use crate::round::Round;

/// Most entries of a follow list that are read, in its order.
pub const MOST_FOLLOWS: usize = 5_000;

/// The newest follow list of a key, and who answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Follows {
    /// Whom it follows, at most [`MOST_FOLLOWS`]; itself is never among them.
    pub keys: BTreeSet<PublicKey>,
    /// When the list was signed, Unix seconds; `None` when none was found that counts: one that is older than the newest ever
    /// seen, deleted or from the future does not, and [`Follows::per_relay`] tells of it.
    pub created_at: Option<u64>,
    /// Every relay that was asked.
    pub per_relay: Vec<RelayAnswer>,
}

impl Discovery {
    /// Looks for the follow list of a person (kind 3, NIP-02), who is named as servers are.
    ///
    /// The relays are asked as by [`Discovery::server`]: those of discovery and of the name, then those of the person's own
    /// relay list, under the rule for strangers' lists. Of several lists the newest counts, and the memory lets none go back
    /// behind it; the person is preferred there from now on. A list of more than [`Signed::FOLLOWS_BYTES`] is not read.
    ///
    /// # Errors
    /// As [`Discovery::servers`]; that no list was found is none.
    pub async fn follows(&self, person: &ServerIdentity) -> Result<Follows, DiscoverError> {
        let key = person.key;
        let authors = BTreeSet::from([key]);
        let ended = [kind::FOLLOWS, kind::RELAY_LIST].map(|kind| address(kind, &key));
        let questions = [
            Filter {
                kinds: vec![kind::FOLLOWS, kind::RELAY_LIST],
                authors: authors.clone(),
                ..Filter::default()
            },
            Filter {
                kinds: vec![kind::DELETION],
                authors,
                tags: vec![("a", BTreeSet::from(ended))],
                ..Filter::default()
            },
        ];
        let mut round = Round::new(self);
        self.ask_about(person, &mut round, &questions).await;
        let list = round.newest(&key, kind::FOLLOWS);
        let found = round.finish(vec![key]).await?;
        Ok(Follows {
            keys: list.as_ref().map(followed).unwrap_or_default(),
            created_at: list.map(|list| list.created_at.as_secs()),
            per_relay: found.per_relay,
        })
    }
}

/// Reads the keys of a follow list.
fn followed(list: &Signed) -> BTreeSet<PublicKey> {
    let entries = list.tags.iter().filter(|tag| tag.kind() == "p").take(MOST_FOLLOWS);
    let keys = entries.filter_map(Tag::content).filter_map(contextvm_core::event::read_key);
    keys.filter(|key| *key != list.pubkey).collect()
}
