//! The lists of the MCP application: asked page by page, and again when they change.
use alloc::string::String;
use core::time::Duration;

use contextvm_core::{Mono, Now};

use super::pages::{Next, Pages};
use super::pause::{Backoff, Quiet};
use super::{AnnounceError, AnnounceWake, Announcer, Answer};
use crate::DocumentKind;

/// How long the MCP application has for one page.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// JSON-RPC: method not found.
pub(super) const NOT_FOUND: i64 = -32601;

/// What the MCP application offers of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It has not said yet.
    Unknown,
    /// It has no such list.
    Absent,
    /// The whole list, as JSON text.
    Listed(String),
}

#[derive(Debug)]
struct Asking {
    ask: u64,
    until: Mono,
    pages: Pages,
}

/// One list.
#[derive(Debug)]
pub(super) struct Listing {
    document: DocumentKind,
    /// The application says that it has such things.
    declared: bool,
    offer: Offer,
    asking: Option<Asking>,
    quiet: Quiet,
    backoff: Backoff,
}

impl Listing {
    pub(super) fn new(document: DocumentKind) -> Self {
        let (quiet, backoff) = (Quiet::default(), Backoff::default());
        Self { document, declared: false, offer: Offer::Unknown, asking: None, quiet, backoff }
    }

    pub(super) const fn document(&self) -> DocumentKind {
        self.document
    }

    pub(super) const fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Forgets what was asked; the next greeting asks again.
    pub(super) fn pause(&mut self) {
        self.declared = false;
        (self.asking, self.quiet, self.backoff) = (None, Quiet::default(), Backoff::default());
    }

    /// Notes that the list changed.
    pub(super) fn changed(&mut self, now: Mono) {
        if self.declared {
            self.quiet.poke(now);
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.asking.is_some() || self.quiet.is_pressing()
    }

    pub(super) fn timeout(&self) -> Option<(Mono, AnnounceWake)> {
        if let Some(asking) = &self.asking {
            return Some((asking.until, AnnounceWake::Answer));
        }
        let quiet = self.quiet.at().map(|at| (at, AnnounceWake::Quiet));
        let retry = self.backoff.at().map(|at| (at, AnnounceWake::Retry));
        quiet.into_iter().chain(retry).min_by_key(|(at, _why)| *at)
    }
}

impl Announcer {
    /// Notes whether the application says that it has a list, and asks for it if so.
    pub(super) fn declare(&mut self, document: DocumentKind, declared: bool, now: Now) {
        let Some(listing) = self.listings.get_mut(&document) else { return };
        listing.pause();
        listing.declared = declared;
        if declared {
            self.ask_page(document, None, Pages::default(), now);
        } else {
            listing.offer = Offer::Absent;
        }
    }

    /// Gives up on pages that are late, and asks for lists that are due.
    pub(super) fn advance_lists(&mut self, now: Now) {
        for document in DocumentKind::ALL {
            let Some(listing) = self.listings.get_mut(&document) else { continue };
            let is_late = listing.asking.as_ref().is_some_and(|asking| now.mono >= asking.until);
            if is_late {
                listing.asking = None;
                listing.backoff.fail(now.mono);
            }
            let mut is_due = false;
            if listing.asking.is_none() {
                let (changed, retry) = (listing.quiet.take_due(now.mono), listing.backoff.take_due(now.mono));
                is_due = changed || retry;
            }
            if is_late {
                self.fail(AnnounceError::NoAnswer { method: document.method() });
            }
            if is_due {
                self.ask_page(document, None, Pages::default(), now);
            }
        }
    }

    /// Takes the answer to a question about a list, if it is one.
    pub(super) fn on_page(&mut self, ask: u64, answer: Answer, now: Now) {
        let limit = self.config.event_bytes;
        let asked = |listing: &&mut Listing| listing.asking.as_ref().is_some_and(|asking| asking.ask == ask);
        let Some(listing) = self.listings.values_mut().find(asked) else { return };
        let Some(Asking { mut pages, .. }) = listing.asking.take() else { return };
        let document = listing.document;
        let offer = match answer {
            Answer::Result(page) => match pages.take(document, page, limit) {
                Ok(Next::Page(cursor)) => return self.ask_page(document, Some(&cursor), pages, now),
                Ok(Next::Whole(list)) => Ok(Offer::Listed(list)),
                Err(error) => Err(error),
            },
            Answer::Error(NOT_FOUND) => Ok(Offer::Absent),
            Answer::Error(code) => Err(AnnounceError::Refused { method: document.method(), code }),
            Answer::Silence => Err(AnnounceError::NoAnswer { method: document.method() }),
        };
        match offer {
            Ok(offer) => {
                (listing.offer, listing.backoff) = (offer, Backoff::default());
                self.compose();
            }
            Err(error) => {
                listing.backoff.fail(now.mono);
                self.fail(error);
            }
        }
    }

    fn ask_page(&mut self, document: DocumentKind, cursor: Option<&str>, pages: Pages, now: Now) {
        let params = match cursor {
            Some(cursor) => self.greeting.params(&[("cursor", cursor)]),
            None => self.greeting.params(&[]),
        };
        let ask = self.ask(document.method(), params);
        if let Some(listing) = self.listings.get_mut(&document) {
            listing.asking = Some(Asking { ask, until: now.mono.after(ANSWER_TIME), pages });
        }
    }
}
