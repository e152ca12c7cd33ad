//! Whose word counts: people who were named, and those whom they follow (NIP-02).
use std::collections::BTreeSet;

use contextvm::ServerIdentity;
use contextvm::client::discover::{Discovery, RelayAnswer};
use futures_util::future::join_all;
use nostr::key::PublicKey;
use serde::Serialize;

use super::told;
use super::words::{ago, count, now, short_npub};
use crate::args::Global;
use crate::keys::npub;
use crate::names;
use crate::output::Talk;
use crate::problem::Problem;

/// People who were named, with everybody they follow.
#[derive(Debug, Default)]
pub(crate) struct Circle {
    named: Vec<Person>,
    followed: BTreeSet<PublicKey>,
}

/// Somebody whose word counts.
#[derive(Debug)]
struct Person {
    key: PublicKey,
    /// How many keys the list holds, and when it was signed; `None` when none was found that counts.
    list: Option<(usize, u64)>,
}

/// Somebody whose word counts, for programs.
#[derive(Debug, Serialize)]
pub(crate) struct PersonDocument {
    key: String,
    /// Keys in the follow list; `null` when none was found that counts.
    follows: Option<usize>,
    #[serde(rename = "listedAt")]
    listed_at: Option<u64>,
}

impl Circle {
    /// Looks for the follow lists of people under any of their names.
    pub(crate) async fn of_names(
        people: &[String],
        discovery: &Discovery,
        global: &Global,
        talk: &Talk,
    ) -> Result<Self, Problem> {
        let mut named = Vec::new();
        for name in people {
            named.push(Box::pin(names::resolve(name, global, talk)).await?.server);
        }
        Self::of(named, discovery, talk).await
    }

    /// Looks for the follow lists of keys, all at once, and says whose was not found.
    pub(crate) async fn of(
        mut people: Vec<ServerIdentity>,
        discovery: &Discovery,
        talk: &Talk,
    ) -> Result<Self, Problem> {
        people.sort_by_key(|person| person.key);
        people.dedup_by_key(|person| person.key);
        let mut circle = Self::default();
        let lists = join_all(people.iter().map(|person| discovery.follows(person))).await;
        for (person, list) in people.iter().zip(lists) {
            let list = list.map_err(|error| super::failed(&error))?;
            let found = list.created_at.map(|signed| (list.keys.len(), signed));
            say(&person.key, found, &list.per_relay, talk);
            circle.followed.extend(list.keys);
            circle.named.push(Person { key: person.key, list: found });
        }
        Ok(circle)
    }

    /// Whether one of the people follows this key.
    pub(crate) fn follows(&self, key: &PublicKey) -> bool {
        self.followed.contains(key)
    }

    /// Whether this key was named, or is followed by one that was.
    pub(crate) fn holds(&self, key: &PublicKey) -> bool {
        self.follows(key) || self.named.iter().any(|person| person.key == *key)
    }

    /// Lists everybody, those who were named first.
    pub(crate) fn everybody(&self) -> Vec<PublicKey> {
        let named = self.named.iter().map(|person| person.key);
        let followed = self.followed.iter().filter(|key| self.named.iter().all(|named| named.key != **key));
        named.chain(followed.copied()).collect()
    }

    pub(crate) fn documents(&self) -> Vec<PersonDocument> {
        let document = |person: &Person| PersonDocument {
            key: npub(&person.key),
            follows: person.list.map(|(keys, _)| keys),
            listed_at: person.list.map(|(_, signed)| signed),
        };
        self.named.iter().map(document).collect()
    }
}

/// Says whom a key follows, or why that is not known.
fn say(key: &PublicKey, found: Option<(usize, u64)>, answers: &[RelayAnswer], talk: &Talk) {
    let who = short_npub(key);
    match found {
        Some((keys, signed)) => {
            talk.say(&format!("{who} follows {}   (list signed {})", count(keys, "key"), ago(signed, now())));
        }
        None => {
            let answered = answers.iter().filter(|answer| answer.has_answered()).count();
            let refused: usize =
                answers.iter().map(|answer| answer.stale + answer.future + answer.invalid).sum();
            let what = if refused > 0 {
                "no follow list (kind 3) that can be believed"
            } else {
                "no follow list (kind 3)"
            };
            let relays = answers.len();
            talk.say(&format!(
                "note: {what} of {who} was found   relays {answered}/{relays} answered: it is taken to follow nobody"
            ));
        }
    }
    for answer in answers {
        let line = format!("  {}", told::relay(answer));
        // A relay that was silent may have the only list.
        if found.is_some() || answer.is_complete() { talk.detail(&line) } else { talk.say(&line) }
    }
}
