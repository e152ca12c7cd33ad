//! Reviews of servers (CEP-24): found by id, signed so that they can be shown first, and published with every relay's word.
use std::sync::Arc;
use std::time::Duration;

use contextvm_announce::{Review, Unsigned};
use contextvm_core::{Fault, event};
use contextvm_crypto::Keys;
use contextvm_relay::{PostReport, PublishEvent, RelayError, RelayOutcome};
use nostr::event::{Event, EventId};
use nostr::types::RelayUrl;

use crate::discover::{DiscoverError, Discovery};

/// How long relays may take over a review by default: 10 s.
pub const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);

/// Why a review was not sent to any relay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The host gave no randomness.
    #[error("no random bytes from the operating system")]
    NoEntropy,
    /// No relay was named.
    #[error("no relay to publish to was named")]
    NoRelays,
    /// Nothing could be begun on this side.
    #[error(transparent)]
    Relay(#[from] RelayError),
}

impl PublishError {
    /// Says who misbehaved: this host.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::NoEntropy | Self::NoRelays => Fault::Local,
            Self::Relay(error) => error.fault(),
        }
    }
}

/// What became of a review.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// What every relay said.
    pub report: PostReport,
}

impl Published {
    /// Lists the relays that have it.
    pub fn accepted(&self) -> impl Iterator<Item = &RelayUrl> {
        self.report.events.iter().flat_map(|posted| posted.accepted())
    }

    /// Lists the relays that said no, with their (printable) words.
    pub fn refused(&self) -> impl Iterator<Item = (&RelayUrl, &str)> {
        let answers = self.report.events.iter().flat_map(|posted| &posted.per_relay);
        answers.filter_map(|answer| {
            let RelayOutcome::Refused(reason) = &answer.outcome else { return None };
            Some((&answer.url, reason.as_str()))
        })
    }

    /// Lists the relays whose words say that they take no comments (kind 1111) at all: reviews need other ones.
    pub fn refusing_kind(&self) -> impl Iterator<Item = &RelayUrl> {
        self.refused().filter(|(_, reason)| reason.to_ascii_lowercase().contains("kind")).map(|(url, _)| url)
    }
}

/// Signs a draft, so that it can be shown before it is published.
///
/// # Errors
/// Fails when the host gives no randomness.
pub fn sign(draft: Unsigned, keys: &Keys) -> Result<Event, PublishError> {
    let aux = contextvm_runtime::random().map_err(|_| PublishError::NoEntropy)?;
    Ok(keys.sign_event(draft.kind, draft.created_at, draft.tags, draft.content, aux))
}

/// Publishes a signed review or reply and waits for each relay's word; `keys` answer relays that ask who we are.
///
/// The relays are the application's own choice and may be anywhere: those of a stranger's list do not belong here.
///
/// # Errors
/// Fails when no relay is named or nothing could be begun here. Relays that fail or refuse are in the report.
pub async fn publish(
    review: &Event,
    keys: Arc<Keys>,
    relays: &[RelayUrl],
    deadline: Duration,
) -> Result<Published, PublishError> {
    if relays.is_empty() {
        return Err(PublishError::NoRelays);
    }
    let event = PublishEvent { id: review.id, json: event::print(review).into() };
    let post = contextvm_relay::Post::new(vec![event]).with_signer(keys).with_deadline(deadline);
    Ok(Published { report: post.to(relays).await? })
}

impl Discovery {
    /// Looks for one review or reply by its id; `None` when every relay that answered does not have it.
    ///
    /// # Errors
    /// As [`Discovery::servers`].
    pub async fn review(&self, id: EventId) -> Result<Option<Review>, DiscoverError> {
        let found = self.event(id, contextvm_core::kind::COMMENT).await?;
        Ok(found.and_then(|event| Review::read(&event).ok()))
    }
}
