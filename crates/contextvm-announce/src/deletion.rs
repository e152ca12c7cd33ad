//! Requests to delete one's own replaceable events (NIP-09), as announcements are withdrawn (CEP-6).
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use contextvm_core::{event, kind};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;

use crate::newest::OURS;
use crate::{Signed, Stamp, Unsigned};

/// Most event ids that one request names; what an `a` tag names is deleted anyway.
pub const MOST_IDS: usize = 128;

/// A request to delete every event of one replaceable kind of one author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Whose events: the author of the request.
    pub author: PublicKey,
    /// Which kind.
    pub kind: u16,
    /// Events known by id, at most [`MOST_IDS`]. Relays that do not understand the address still delete these.
    pub ids: Vec<EventId>,
    /// Why, for people.
    pub reason: String,
}

impl Deletion {
    /// Drafts the request: `e` for each id, then the address in `a` and the kind in `k`.
    ///
    /// A relay deletes what is stamped up to `created_at`, so it must not be earlier than the newest event of the kind, and
    /// whatever is published again must be stamped later.
    ///
    /// ```
    /// use contextvm_announce::Deletion;
    /// # let author = nostr::key::PublicKey::from_byte_array([7; 32]);
    /// let deletion = Deletion { author, kind: 11317, ids: Vec::new(), reason: "moved".into() };
    /// let draft = deletion.draft(1_700_000_000);
    /// assert_eq!(draft.kind, 5);
    /// assert_eq!(draft.tags[0].content(), Some(format!("11317:{}:", author.to_hex()).as_str()));
    /// ```
    #[must_use]
    pub fn draft(&self, created_at: u64) -> Unsigned {
        let ids = self.ids.iter().take(MOST_IDS).map(|id| Tag::custom("e", [id.to_hex()]));
        let address = Tag::custom("a", [address(self.kind, &self.author)]);
        let tags = ids.chain([address, Tag::custom("k", [self.kind.to_string()])]).collect();
        Unsigned {
            kind: kind::DELETION,
            created_at,
            tags: Tags::from_list(tags),
            content: self.reason.clone(),
        }
    }
}

/// What somebody asked to have deleted of their own; as long as the event's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Unix seconds: events with an address are deleted up to here.
    pub created_at: u64,
    /// Events named by id.
    pub ids: BTreeSet<EventId>,
    /// Replaceable kinds of the author that are named by an address, of those that a key publishes about itself as a server:
    /// others are none of ours, and would let one request take much room.
    pub kinds: BTreeSet<u16>,
}

impl Withdrawal {
    /// Reads a deletion request; `None` when the event is of another kind.
    ///
    /// What cannot be read, and addresses of other authors, are left out.
    #[must_use]
    pub fn read(event: &Signed) -> Option<Self> {
        if event.kind.as_u16() != kind::DELETION {
            return None;
        }
        let values = |name: &'static str| {
            event.tags.iter().filter(move |tag| tag.kind() == name).filter_map(Tag::content)
        };
        Some(Self {
            created_at: event.created_at.as_secs(),
            ids: values("e").filter_map(event::read_id).collect(),
            kinds: values("a").filter_map(|address| named_kind(address, &event.pubkey)).collect(),
        })
    }

    /// Whether an event of the author, of this kind and stamp, is deleted.
    #[must_use]
    pub fn ends(&self, kind: u16, stamp: Stamp) -> bool {
        self.ids.contains(&stamp.id) || (self.kinds.contains(&kind) && stamp.created_at <= self.created_at)
    }
}

/// Prints the address of a replaceable event: `<kind>:<author>:`, with an empty identifier at the end.
#[must_use]
pub fn address(kind: u16, author: &PublicKey) -> String {
    format!("{kind}:{}:", author.to_hex())
}

fn named_kind(address: &str, author: &PublicKey) -> Option<u16> {
    let mut parts = address.splitn(3, ':');
    let (kind, key, identifier) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
    let own = identifier.is_empty() && key == author.to_hex();
    own.then(|| kind.parse().ok()).flatten().filter(|kind| OURS.contains(kind))
}
