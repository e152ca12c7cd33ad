//! What peers and relays say to each other (NIP-01, NIP-42), as values instead of text; events stay the JSON that they are.
use std::rc::Rc;

use contextvm_core::event;
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;

/// An event on its way, with what a relay reads in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The event as JSON, or anything else that a liar sends.
    pub json: Rc<str>,
    /// The id it claims.
    pub id: EventId,
    /// Its author.
    pub author: PublicKey,
    /// Its kind.
    pub kind: u16,
    /// Unix seconds.
    pub created_at: u64,
    /// The first `p` tag.
    pub to: Option<PublicKey>,
    /// Id and signature are true.
    pub is_true: bool,
}

impl Carried {
    /// Takes an event that its own maker just signed.
    #[must_use]
    pub fn made(event: &Event) -> Rc<Self> {
        Rc::new(Self::of(event, event::print(event).into(), true))
    }

    /// Takes any text; it is read and checked as an honest relay would.
    #[must_use]
    pub fn checked(json: Rc<str>) -> Rc<Self> {
        let Some(event) = event::read(&json) else { return Self::unread(json) };
        let is_true = event.verify_id() && event::is_signed(&event);
        Rc::new(Self::of(&event, json, is_true))
    }

    /// Takes any text that no relay will look at again.
    #[must_use]
    pub fn unread(json: Rc<str>) -> Rc<Self> {
        let nothing = EventId::from_byte_array([0; 32]);
        let nobody = PublicKey::from_byte_array([0; 32]);
        Rc::new(Self { json, id: nothing, author: nobody, kind: 0, created_at: 0, to: None, is_true: false })
    }

    fn of(event: &Event, json: Rc<str>, is_true: bool) -> Self {
        let to = event.tags.iter().find(|tag| tag.kind() == "p");
        Self {
            json,
            id: event.id,
            author: event.pubkey,
            kind: event.kind.as_u16(),
            created_at: event.created_at.as_secs(),
            to: to.and_then(|tag| PublicKey::from_hex(tag.content()?).ok()),
            is_true,
        }
    }
}

/// What a subscription asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Whose events: what the `p` tag names; `None`: everybody's.
    pub to: Option<PublicKey>,
    /// Kinds.
    pub kinds: Vec<u16>,
    /// Unix seconds.
    pub since: u64,
}

impl Filter {
    /// Whether an event is asked for.
    #[must_use]
    pub fn takes(&self, event: &Carried) -> bool {
        self.kinds.contains(&event.kind)
            && event.created_at >= self.since
            && (self.to.is_none() || self.to == event.to)
    }
}

/// What a peer says to a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Publish this.
    Event(Rc<Carried>),
    /// Open the one subscription of this connection, or open it anew.
    Req(Filter),
    /// The answer to a challenge.
    Auth {
        /// The event that is the answer.
        id: EventId,
        /// Who signed it.
        key: PublicKey,
        /// What it answers.
        challenge: Rc<str>,
    },
    /// Are you there?
    Ping,
}

/// What a relay says to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Event {
        /// The event.
        event: Rc<Carried>,
        /// It names the subscription of this connection.
        is_ours: bool,
    },
    /// The fate of an event that was sent.
    Ok {
        /// Which event.
        id: EventId,
        /// Taken.
        accepted: bool,
        /// Why, often with a machine-readable prefix.
        text: &'static str,
    },
    /// All stored events were sent.
    Eose,
    /// The subscription is over.
    Closed(&'static str),
    /// Words for a person.
    Notice(&'static str),
    /// A challenge.
    Auth(Rc<str>),
    /// Yes.
    Pong,
    /// What is no frame at all.
    Rubbish,
}
