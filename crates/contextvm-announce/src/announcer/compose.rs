//! The words of each event, from what the MCP application offers and what the operator says.
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use contextvm_core::event::TAG_VALUES;
use contextvm_core::kind;
use contextvm_core::object::quote;
use nostr::event::Tag;
use serde_json::value::RawValue;

use super::listing::Offer;
use super::slot::Words;
use super::{AnnounceError, Announcer, AnnouncerOutput};
use crate::{DocumentKind, Price, relay_list_tags};

/// Bytes of an event without its tags and its content, at most.
const FRAME: usize = 384;

/// Prints the `cap` tags that belong on a document: all prices on the server's own, else those of what is listed.
///
/// Prices of resources stand on both lists of resources, because a URI may come from a template.
#[must_use]
pub fn caps_for(document: DocumentKind, prices: &[Price]) -> Vec<Tag> {
    let belongs = |price: &&Price| document == DocumentKind::Server || document.prices(price);
    prices.iter().filter(belongs).map(Price::to_tag).collect()
}

impl Announcer {
    /// Words every event anew; what says the same as before is not published again.
    pub(super) fn compose(&mut self) {
        let server = self.greeting.content().map(|content| {
            let caps = caps_for(DocumentKind::Server, &self.config.prices);
            let tags = self.config.discovery.iter().cloned().chain(caps).collect();
            Words::Document { tags, content: content.to_string() }
        });
        self.word(kind::SERVER_ANNOUNCEMENT, server, !self.config.announce);
        for document in DocumentKind::ALL {
            let Some(listing) = self.listings.get(&document) else { continue };
            let offer = listing.offer().clone();
            let gone = offer == Offer::Absent || !self.config.announce;
            let words = match offer {
                Offer::Listed(list) => Some(self.word_list(document, list)),
                Offer::Absent | Offer::Unknown => None,
            };
            self.word(document.kind(), words, gone);
        }
        let relays = self.config.relay_list.as_deref().map(relay_list_tags);
        let relays = relays.map(|tags| Words::Document { tags, content: String::new() });
        self.word(kind::RELAY_LIST, relays, true);
        let profile = self.config.profile.as_ref();
        let profile =
            profile.map(|profile| Words::Document { tags: Vec::new(), content: profile.to_content() });
        self.word(kind::PROFILE, profile, true);
    }

    fn word_list(&mut self, document: DocumentKind, list: String) -> Words {
        let mut tags = caps_for(document, &self.config.prices);
        if document != DocumentKind::Tools {
            return Words::Document { tags, content: list };
        }
        let annotated = serde_json::from_str::<&RawValue>(&list)
            .map_err(|_| AnnounceError::Unreadable { method: document.method() })
            .and_then(|list| self.config.schemas.annotate(list).map_err(AnnounceError::Schema));
        match annotated {
            Ok(annotated) => {
                tags.extend(annotated.tags);
                if annotated.notes != self.notes {
                    self.notes.clone_from(&annotated.notes);
                    self.out.extend(annotated.notes.into_iter().map(AnnouncerOutput::Noted));
                }
                Words::Document { tags, content: annotated.text }
            }
            Err(error) => {
                self.fail(error);
                Words::Document { tags, content: list }
            }
        }
    }

    /// Sets what a kind should say; without words it is deleted, if it is `gone` and was published.
    ///
    /// Of a list also what an earlier run published is deleted: it is not true any more. A relay list and a profile may be
    /// somebody else's doing under the same key.
    fn word(&mut self, kind: u16, words: Option<Words>, gone: bool) {
        let limit = self.config.event_bytes;
        let is_list = self.listings.keys().any(|document| document.kind() == kind);
        let Some(slot) = self.slots.get_mut(&kind) else { return };
        let deletes = gone && (slot.is_published() || (is_list && self.config.announce && slot.may_exist()));
        let Some(words) = words.or_else(|| deletes.then_some(Words::Deleted)) else { return };
        match fits(kind, &words, limit) {
            Ok(()) => slot.want(words),
            Err(error) if slot.complain(&error) => self.fail(error),
            Err(_) => {}
        }
    }
}

/// Checks that readers take the event.
fn fits(kind: u16, words: &Words, limit: usize) -> Result<(), AnnounceError> {
    let Words::Document { tags, content } = words else { return Ok(()) };
    let elements = || tags.iter().flat_map(Tag::as_slice);
    let values = 1 + tags.len() + elements().count();
    if values > TAG_VALUES {
        return Err(AnnounceError::TooManyTags { kind, values, limit: TAG_VALUES });
    }
    let text = quote(content).len() + elements().map(|element| quote(element).len() + 1).sum::<usize>();
    let bytes = FRAME + text + tags.len() * 3;
    if bytes > limit { Err(AnnounceError::TooLarge { kind, bytes, limit }) } else { Ok(()) }
}
