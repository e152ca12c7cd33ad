//! What is known about one server, and where each part of it came from.
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use contextvm_core::PeerTags;
use nostr::event::EventId;
use nostr::key::PublicKey;

use crate::document::{DocumentKind, ListDocument, ServerDocument};
use crate::newest::Stamp;
use crate::price::Price;
use crate::profile::Profile;
use crate::relay_list::RelayList;
use crate::{Review, shown_name};

/// Where a part came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// An event that the key published.
    Announced,
    /// A live session with the server.
    Direct,
}

/// One part of the view.
#[derive(Clone, Debug)]
pub struct Part<T> {
    /// What it says.
    pub document: T,
    /// Where it came from.
    pub origin: Origin,
    /// The event's id.
    pub id: EventId,
    /// When it was signed, Unix seconds.
    pub created_at: u64,
}

impl<T> Part<T> {
    pub(super) const fn new(document: T, stamp: Stamp, origin: Origin) -> Self {
        Self { document, origin, id: stamp.id, created_at: stamp.created_at }
    }

    /// Returns its place in time.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        Stamp { created_at: self.created_at, id: self.id }
    }

    /// Returns its age in seconds at `unix`; zero when it is stamped ahead.
    #[must_use]
    pub const fn age(&self, unix: u64) -> u64 {
        unix.saturating_sub(self.created_at)
    }
}

/// The same document as it was announced and as a live session heard it.
#[derive(Clone, Debug)]
pub struct Sources<T> {
    /// As announced.
    pub announced: Option<Box<Part<T>>>,
    /// As heard directly.
    pub direct: Option<Box<Part<T>>>,
}

impl<T> Sources<T> {
    pub(super) const NONE: Self = Self { announced: None, direct: None };

    /// Returns the newer one; of the same second the one that was heard directly.
    #[must_use]
    pub fn newest(&self) -> Option<&Part<T>> {
        match (&self.announced, &self.direct) {
            (Some(announced), Some(direct)) if announced.created_at > direct.created_at => Some(announced),
            (announced, direct) => direct.as_deref().or(announced.as_deref()),
        }
    }

    /// Lists both.
    fn iter(&self) -> impl Iterator<Item = &Part<T>> {
        self.announced.iter().chain(&self.direct).map(AsRef::as_ref)
    }

    pub(super) const fn place(&mut self, origin: Origin) -> &mut Option<Box<Part<T>>> {
        match origin {
            Origin::Announced => &mut self.announced,
            Origin::Direct => &mut self.direct,
        }
    }

    pub(super) fn at(&self, origin: Origin) -> Option<&Part<T>> {
        match origin {
            Origin::Announced => self.announced.as_deref(),
            Origin::Direct => self.direct.as_deref(),
        }
    }
}

/// Everything known about one key as a server. All of it is foreign text: show it through
/// [`Printable`](contextvm_core::Printable), with the key beside the name.
#[derive(Clone, Debug)]
pub struct ServerEntry {
    pub(super) key: PublicKey,
    pub(super) server: Sources<ServerDocument>,
    pub(super) lists: [Sources<ListDocument>; 4],
    pub(super) relay_list: Option<Part<RelayList>>,
    pub(super) profile: Option<Part<Profile>>,
    pub(super) peer: PeerTags,
    pub(super) heard: Option<Stamp>,
    pub(super) reviews: Vec<Review>,
    pub(super) bytes: usize,
    pub(super) review_bytes: usize,
}

impl ServerEntry {
    /// Returns the key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Returns what it says it is, the newer of announced and direct.
    #[must_use]
    pub fn server(&self) -> Option<&Part<ServerDocument>> {
        self.server.newest()
    }

    /// Returns one of its lists, the newer of announced and direct; `None` also for [`DocumentKind::Server`].
    #[must_use]
    pub fn list(&self, kind: DocumentKind) -> Option<&Part<ListDocument>> {
        self.list_sources(kind)?.newest()
    }

    /// Returns what it says it is, as announced and as heard directly.
    #[must_use]
    pub const fn server_sources(&self) -> &Sources<ServerDocument> {
        &self.server
    }

    /// Returns one of its lists, as announced and as heard directly.
    #[must_use]
    pub const fn list_sources(&self, kind: DocumentKind) -> Option<&Sources<ListDocument>> {
        let [tools, resources, templates, prompts] = &self.lists;
        match kind {
            DocumentKind::Server => None,
            DocumentKind::Tools => Some(tools),
            DocumentKind::Resources => Some(resources),
            DocumentKind::ResourceTemplates => Some(templates),
            DocumentKind::Prompts => Some(prompts),
        }
    }

    /// Returns its tools.
    #[must_use]
    pub fn tools(&self) -> Option<&ListDocument> {
        self.list(DocumentKind::Tools).map(|part| &part.document)
    }

    /// Returns its relay list.
    #[must_use]
    pub const fn relay_list(&self) -> Option<&Part<RelayList>> {
        self.relay_list.as_ref()
    }

    /// Returns its profile.
    #[must_use]
    pub const fn profile(&self) -> Option<&Part<Profile>> {
        self.profile.as_ref()
    }

    /// Lists the reviews of it and their replies, in no order.
    #[must_use]
    pub fn reviews(&self) -> &[Review] {
        &self.reviews
    }

    /// Returns what a live session heard in discovery tags.
    #[must_use]
    pub const fn heard_tags(&self) -> &PeerTags {
        &self.peer
    }

    /// Returns when a live session last heard from it, Unix seconds by the server's clock.
    #[must_use]
    pub fn last_heard(&self) -> Option<u64> {
        self.heard.map(|stamp| stamp.created_at)
    }

    /// Returns flags and identity over all sources: a flag counts wherever it was, of the identity the direct one wins.
    #[must_use]
    pub fn tags(&self) -> PeerTags {
        let raw = self.all_tags().find(|tags| !tags.raw.is_empty());
        PeerTags {
            encryption: self.claims(|tags| tags.encryption),
            ephemeral: self.claims(|tags| tags.ephemeral),
            oversized: self.claims(|tags| tags.oversized),
            open_stream: self.claims(|tags| tags.open_stream),
            unordered_streams: self.claims(|tags| tags.unordered_streams),
            server_requests: self.claims(|tags| tags.server_requests),
            repeats: self.claims(|tags| tags.repeats),
            name: self.said(|tags| tags.name.as_ref()).cloned(),
            about: self.said(|tags| tags.about.as_ref()).cloned(),
            website: self.said(|tags| tags.website.as_ref()).cloned(),
            picture: self.said(|tags| tags.picture.as_ref()).cloned(),
            raw: raw.map(|tags| tags.raw.clone()).unwrap_or_default(),
        }
    }

    /// Returns its name as it may be shown ([`shown_name`]): of its tags, its profile, or the MCP server behind it; empty when
    /// it has none.
    #[must_use]
    pub fn name(&self) -> String {
        self.names().map(|name| shown_name(name)).find(|name| !name.is_empty()).unwrap_or_default()
    }

    /// Returns what it says it is for, as written.
    #[must_use]
    pub fn about(&self) -> Option<String> {
        let profile = self.profile.as_ref().and_then(|part| part.document.about.as_ref());
        self.said(|tags| tags.about.as_ref()).or(profile).cloned()
    }

    /// Whether it says so anywhere, announced or directly.
    #[must_use]
    pub fn claims(&self, flag: impl Fn(&PeerTags) -> bool) -> bool {
        self.all_tags().any(flag)
    }

    /// Lists the prices of one kind of things, or of everything when there is no such list.
    #[must_use]
    pub fn prices(&self, kind: DocumentKind) -> Vec<&Price> {
        let server = self.server().map(|part| &part.document.prices);
        let list = self.list(kind).map(|part| &part.document.prices);
        let prices = list.filter(|prices| prices.iter().any(|price| kind.prices(price))).or(server);
        prices.into_iter().flatten().filter(|price| kind.prices(price)).collect()
    }

    /// Returns the newest `created_at` of all parts, Unix seconds: when it was last seen alive.
    #[must_use]
    pub fn last_seen(&self) -> Option<u64> {
        let server = self.server.iter().map(|part| part.created_at);
        let lists = self.lists.iter().flat_map(Sources::iter).map(|part| part.created_at);
        let relay_list = self.relay_list.iter().map(|part| part.created_at);
        server.chain(lists).chain(relay_list).chain(self.last_heard()).max()
    }

    /// Whether the key ever announced, answered or listed something.
    #[must_use]
    pub fn is_server(&self) -> bool {
        self.heard.is_some()
            || self.server.newest().is_some()
            || self.lists.iter().any(|list| list.newest().is_some())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        let profile = self.profile.as_ref().map(|part| &part.document);
        let server = self.server().map(|part| &part.document);
        let names = [
            self.said(|tags| tags.name.as_ref()),
            profile.and_then(|profile| profile.display_name.as_ref()),
            profile.and_then(|profile| profile.name.as_ref()),
            server.and_then(|server| server.title.as_ref()),
            server.and_then(|server| server.name.as_ref()),
        ];
        names.into_iter().flatten()
    }

    /// Lists all tags that it said things in: the direct ones, then those of the newer document, then those of both.
    fn all_tags(&self) -> impl Iterator<Item = &PeerTags> {
        let documents = self.server.newest().into_iter().chain(self.server.iter());
        core::iter::once(&self.peer).chain(documents.map(|part| &part.document.tags))
    }

    fn said<'a>(&'a self, member: impl Fn(&'a PeerTags) -> Option<&'a String>) -> Option<&'a String> {
        self.all_tags().find_map(member)
    }

    /// What an entry takes before anything is in it, its place in the view included.
    pub(super) const EMPTY_BYTES: usize =
        size_of::<Self>() + 2 * (size_of::<PublicKey>() + size_of::<usize>());

    pub(super) fn new(key: PublicKey) -> Self {
        Self {
            key,
            server: Sources::NONE,
            lists: [const { Sources::NONE }; 4],
            relay_list: None,
            profile: None,
            peer: PeerTags::default(),
            heard: None,
            reviews: Vec::new(),
            bytes: Self::EMPTY_BYTES,
            review_bytes: 0,
        }
    }
}
