//! The relays that a key names for itself: kind 10002 (NIP-65 form, CEP-17).
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use contextvm_core::{Fault, kind};
use nostr::event::Tag;

use crate::Signed;

/// Name of the tag.
pub const RELAY: &str = "r";

/// Why an event is no relay list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayListError {
    /// The event has another kind.
    #[error("kind {0} is not a relay list")]
    Kind(u16),
}

impl RelayListError {
    /// Says who misbehaved: the relay that answered with it.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Relay
    }
}

/// What a relay is for; ContextVM uses every selected relay for both directions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Marker {
    /// No marker, or an empty one: for everything.
    Both,
    /// `read`.
    Read,
    /// `write`.
    Write,
    /// Another word, which selects nothing.
    Other(String),
}

/// One relay of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelayEntry {
    /// The address as it was written; not checked, so nothing may connect to it before it was.
    pub url: String,
    /// What it is for.
    pub marker: Marker,
}

/// A relay list as its author wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayList {
    /// The relays in order, at most [`RelayList::ENTRIES`].
    pub entries: Vec<RelayEntry>,
    /// How many `r` tags were left out: without an address, too long, or beyond the bound.
    pub skipped: usize,
}

impl RelayList {
    /// Most relays that are read: 64.
    pub const ENTRIES: usize = 64;
    /// Longest address that is read, bytes: 512.
    pub const URL_BYTES: usize = 512;

    /// Reads a relay list.
    ///
    /// # Errors
    /// Refuses other kinds.
    pub fn read(event: &Signed) -> Result<Self, RelayListError> {
        match event.kind.as_u16() {
            kind::RELAY_LIST => Ok(Self::from_tags(event.tags.iter())),
            other => Err(RelayListError::Kind(other)),
        }
    }

    /// Reads the `r` tags.
    pub fn from_tags<'a>(tags: impl IntoIterator<Item = &'a Tag>) -> Self {
        let mut list = Self::default();
        for tag in tags.into_iter().filter(|tag| tag.kind() == RELAY) {
            match tag.content().map(str::trim) {
                Some(url)
                    if (1..=Self::URL_BYTES).contains(&url.len()) && list.entries.len() < Self::ENTRIES =>
                {
                    let marker = marker(tag.as_slice().get(2).map_or("", String::as_str));
                    list.entries.push(RelayEntry { url: url.to_string(), marker });
                }
                _ => list.skipped += 1,
            }
        }
        list.entries.shrink_to_fit();
        list
    }

    /// Selects the addresses to use: those without a marker if there is any, else `read`, then `write`; each once.
    #[must_use]
    pub fn selection(&self) -> Vec<&str> {
        let marked = |marker: Marker| self.entries.iter().filter(move |entry| entry.marker == marker);
        let unmarked: Vec<_> = marked(Marker::Both).collect();
        let chosen = if unmarked.is_empty() {
            marked(Marker::Read).chain(marked(Marker::Write)).collect()
        } else {
            unmarked
        };
        let mut urls: Vec<&str> = Vec::new();
        for entry in chosen {
            if !urls.contains(&entry.url.as_str()) {
                urls.push(&entry.url);
            }
        }
        urls
    }
}

/// Makes the tags of a relay list: one unmarked `r` per address, in order, each once.
#[must_use]
pub fn relay_list_tags<S: AsRef<str>>(urls: &[S]) -> Vec<Tag> {
    let mut tags: Vec<Tag> = Vec::new();
    for url in urls.iter().map(AsRef::as_ref) {
        if !tags.iter().any(|tag| tag.content() == Some(url)) {
            tags.push(Tag::custom(RELAY, [url]));
        }
    }
    tags
}

fn marker(word: &str) -> Marker {
    match word {
        "" => Marker::Both,
        "read" => Marker::Read,
        "write" => Marker::Write,
        // The word is never shown, only told apart.
        other => Marker::Other(other.chars().take(16).collect()),
    }
}
