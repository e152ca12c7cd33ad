//! Reviews of servers: comments on announcements (CEP-24, NIP-22), read, threaded and drafted.
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use contextvm_core::object::quote;
use contextvm_core::{Fault, event, kind};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;

use crate::deletion::address;
use crate::{Signed, Unsigned};

mod thread;

pub use thread::{Placed, Standing, Threads};

/// Longest text of a review, bytes, read or drafted.
pub const REVIEW_BYTES: usize = 16 * 1024;
/// Longest relay hint that is kept or drafted, bytes.
const HINT_BYTES: usize = 512;

/// Why an event is no review, or a text cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// The event has another kind.
    #[error("an event of kind {0} is no comment")]
    Kind(u16),
    /// The comment is about something else than a server announcement.
    #[error("the comment is not about a server announcement")]
    Root,
    /// The text is too long.
    #[error("the text has {bytes} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes found.
        bytes: usize,
        /// Most bytes allowed.
        limit: usize,
    },
    /// There is no text.
    #[error("the text is empty")]
    Empty,
    /// The relay hint is too long.
    #[error("the relay url has {bytes} bytes, at most {limit} are allowed")]
    Hint {
        /// Bytes found.
        bytes: usize,
        /// Most bytes allowed.
        limit: usize,
    },
    /// The comment that is answered belongs to another server.
    #[error("the comment that is answered is about another server")]
    OtherServer,
}

impl ReviewError {
    /// Says who misbehaved. Reading: the author; drafting: this host, by the same words.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Kind(_) | Self::Root | Self::TooLong { .. } => Fault::Peer,
            Self::Empty | Self::Hint { .. } | Self::OtherServer => Fault::Local,
        }
    }
}

/// What a review is a comment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The announcement itself.
    Announcement,
    /// Another comment.
    Comment(EventId),
    /// Another comment, which the tags do not name in a readable way.
    Unreadable,
}

/// One comment in the reviews of a server. The text is foreign: print it through `contextvm_core::Printable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// The event.
    pub id: EventId,
    /// Who wrote it.
    pub author: PublicKey,
    /// Unix seconds, as the author says.
    pub created_at: u64,
    /// The server that the thread is about.
    pub server: PublicKey,
    /// What it comments on.
    pub parent: Parent,
    /// The relay where the author says the announcement is, if said.
    pub relay: Option<String>,
    /// What it says, at most [`REVIEW_BYTES`]. Plain text; no rating is defined.
    pub content: String,
}

impl Review {
    /// Reads a comment whose root tags `A` and `K` name the announcement of a server.
    ///
    /// Everything else about its tags is taken as it comes: a reply without a readable parent is still a review.
    ///
    /// # Errors
    /// Refuses other kinds, other roots and long texts.
    pub fn read(event: &Signed) -> Result<Self, ReviewError> {
        let event = event.event();
        if event.kind.as_u16() != kind::COMMENT {
            return Err(ReviewError::Kind(event.kind.as_u16()));
        }
        let root = event.tags.iter().find(|tag| tag.kind() == "A").ok_or(ReviewError::Root)?;
        let server = root.content().and_then(announced).ok_or(ReviewError::Root)?;
        if value(&event.tags, "K") != Some(&*kind::SERVER_ANNOUNCEMENT.to_string()) {
            return Err(ReviewError::Root);
        }
        check_length(&event.content)?;
        let relay = root.as_slice().get(2).filter(|hint| !hint.is_empty() && hint.len() <= HINT_BYTES);
        Ok(Self {
            id: event.id,
            author: event.pubkey,
            created_at: event.created_at.as_secs(),
            server,
            parent: parent(&event.tags),
            relay: relay.cloned(),
            content: event.content.clone(),
        })
    }

    /// Drafts a reply to this comment.
    ///
    /// # Errors
    /// Refuses an empty or long text and a long relay URL.
    pub fn reply(&self, words: &Words<'_>, created_at: u64) -> Result<Unsigned, ReviewError> {
        let relay = words.check()?;
        let mut tags = root_tags(&self.server, relay);
        let author = self.author.to_hex();
        tags.push(Tag::custom(
            "e",
            [self.id.to_hex(), relay.unwrap_or_default().to_string(), author.clone()],
        ));
        tags.push(Tag::custom("k", [kind::COMMENT.to_string()]));
        tags.push(hinted("p", author, relay));
        Ok(words.draft(tags, created_at))
    }
}

/// What somebody wants to say about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words<'a> {
    /// The text.
    pub content: &'a str,
    /// A relay where the announcement and the comments are, as a hint for readers.
    pub relay: Option<&'a str>,
}

impl Words<'_> {
    /// Drafts a review of a server, naming the very announcement that was read if there was one.
    ///
    /// # Errors
    /// Refuses an empty or long text and a long relay URL.
    ///
    /// ```
    /// use contextvm_announce::Words;
    /// # let server = nostr::key::PublicKey::from_byte_array([7; 32]);
    /// let words = Words { content: "Quick and honest.", relay: Some("wss://relay.example") };
    /// let draft = words.review(&server, None, 1_700_000_000)?;
    /// assert_eq!((draft.kind, draft.content.as_str()), (1111, "Quick and honest."));
    /// # Ok::<(), contextvm_announce::ReviewError>(())
    /// ```
    pub fn review(
        &self,
        server: &PublicKey,
        announcement: Option<EventId>,
        created_at: u64,
    ) -> Result<Unsigned, ReviewError> {
        let relay = self.check()?;
        let mut tags = root_tags(server, relay);
        tags.push(hinted("a", address(kind::SERVER_ANNOUNCEMENT, server), relay));
        if let Some(id) = announcement {
            let hint = relay.unwrap_or_default().to_string();
            tags.push(Tag::custom("e", [id.to_hex(), hint, server.to_hex()]));
        }
        tags.push(Tag::custom("k", [kind::SERVER_ANNOUNCEMENT.to_string()]));
        tags.push(hinted("p", server.to_hex(), relay));
        Ok(self.draft(tags, created_at))
    }

    fn check(&self) -> Result<Option<&str>, ReviewError> {
        if self.content.trim().is_empty() {
            return Err(ReviewError::Empty);
        }
        check_length(self.content)?;
        match self.relay {
            Some(relay) if relay.len() > HINT_BYTES => {
                Err(ReviewError::Hint { bytes: relay.len(), limit: HINT_BYTES })
            }
            relay => Ok(relay.filter(|relay| !relay.is_empty())),
        }
    }

    fn draft(&self, tags: Vec<Tag>, created_at: u64) -> Unsigned {
        let (tags, content) = (Tags::from_list(tags), self.content.to_string());
        Unsigned { kind: kind::COMMENT, created_at, tags, content }
    }
}

/// Prints the filter that asks relays for the reviews of a server, at most so many.
#[must_use]
pub fn review_filter(server: &PublicKey, limit: usize) -> String {
    let address = quote(&address(kind::SERVER_ANNOUNCEMENT, server));
    let (comment, root) = (kind::COMMENT, kind::SERVER_ANNOUNCEMENT);
    format!(r##"{{"kinds":[{comment}],"#K":["{root}"],"#A":[{address}],"limit":{limit}}}"##)
}

/// The tags that name the root of a thread.
fn root_tags(server: &PublicKey, relay: Option<&str>) -> Vec<Tag> {
    vec![
        hinted("A", address(kind::SERVER_ANNOUNCEMENT, server), relay),
        Tag::custom("K", [kind::SERVER_ANNOUNCEMENT.to_string()]),
        hinted("P", server.to_hex(), relay),
    ]
}

fn hinted(name: &str, value: String, relay: Option<&str>) -> Tag {
    Tag::custom(name, core::iter::once(value).chain(relay.map(ToString::to_string)))
}

fn check_length(text: &str) -> Result<(), ReviewError> {
    let (bytes, limit) = (text.len(), REVIEW_BYTES);
    if bytes > limit { Err(ReviewError::TooLong { bytes, limit }) } else { Ok(()) }
}

fn value<'a>(tags: &'a Tags, name: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.kind() == name).and_then(Tag::content)
}

/// Returns the server whose announcement has this address; the last colon may be missing.
fn announced(address: &str) -> Option<PublicKey> {
    let (kind, rest) = address.split_once(':')?;
    let key = rest.strip_suffix(':').unwrap_or(rest);
    let announcement = kind == kind::SERVER_ANNOUNCEMENT.to_string();
    announcement.then(|| event::read_key(key)).flatten()
}

/// The kind of the parent decides, where it is said.
fn parent(tags: &Tags) -> Parent {
    let named = tags.iter().filter(|tag| tag.kind() == "e").filter_map(Tag::content);
    let comment = || {
        let id = named.clone().find_map(event::read_id);
        id.map_or(Parent::Unreadable, Parent::Comment)
    };
    match value(tags, "k") {
        Some("11316") => Parent::Announcement,
        Some(_) => comment(),
        None if value(tags, "a").is_some() || value(tags, "e").is_none() => Parent::Announcement,
        None => comment(),
    }
}
