//! What peers and relays say to each other (NIP-01, NIP-42), as values instead of text; events stay the JSON that they are.
use std::cell::OnceCell;
use std::rc::Rc;

use contextvm_core::event;
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;

use crate::hash::short;
use crate::net::Freight;

/// An event on its way, with what a relay reads in it.
#[derive(Clone, Debug)]
pub struct Carried {
    event: Rc<Event>,
    /// The event as JSON, printed when somebody asks.
    json: OnceCell<Box<str>>,
    /// How long that is.
    pub bytes: usize,
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

impl PartialEq for Carried {
    fn eq(&self, other: &Self) -> bool {
        self.event == other.event && self.is_true == other.is_true
    }
}

impl Eq for Carried {}

impl Carried {
    /// Takes an event that its own maker just signed.
    #[must_use]
    pub fn made(event: Rc<Event>) -> Rc<Self> {
        Rc::new(Self::of(event, true))
    }

    /// Takes an event that nobody vouches for; it is checked as an honest relay would.
    #[must_use]
    pub fn checked(event: Event) -> Rc<Self> {
        let is_true = event::is_id_true(&event) && event::is_signed(&event);
        Rc::new(Self::of(event.into(), is_true))
    }

    /// Takes an event that is a lie, and that no relay will look at again.
    #[must_use]
    pub fn lie(event: Event) -> Rc<Self> {
        Rc::new(Self::of(event.into(), false))
    }

    /// Returns the event.
    #[must_use]
    pub const fn event(&self) -> &Rc<Event> {
        &self.event
    }

    /// Returns the event as JSON.
    #[must_use]
    pub fn json(&self) -> &str {
        self.json.get_or_init(|| event::print(&self.event).into())
    }

    fn freight(&self) -> Freight {
        let key = short(self.id.as_bytes());
        Freight { key, bytes: self.bytes as u64, may_vanish: true, may_double: true }
    }

    fn of(event: Rc<Event>, is_true: bool) -> Self {
        let to = event.tags.iter().find(|tag| tag.kind() == "p");
        Self {
            json: OnceCell::new(),
            bytes: printed_len(&event),
            id: event.id,
            author: event.pubkey,
            kind: event.kind.as_u16(),
            created_at: event.created_at.as_secs(),
            to: to.and_then(|tag| PublicKey::from_hex(tag.content()?).ok()),
            is_true,
            event,
        }
    }
}

/// How long an event is as JSON, without printing it.
fn printed_len(event: &Event) -> usize {
    let tags = event.tags.iter().map(|tag| {
        let elements = tag.as_slice();
        elements.iter().map(|element| quoted_len(element) + 1).sum::<usize>() + 3
            - usize::from(!elements.is_empty())
    });
    let tags = tags.sum::<usize>() + 2 - usize::from(!event.tags.is_empty());
    let numbers = digits(event.created_at.as_secs()) + digits(u64::from(event.kind.as_u16()));
    AROUND + numbers + tags + quoted_len(&event.content)
}

/// Names of members, id, key and signature with their quotes, and everything between them.
const AROUND: usize =
    r#"{"id":"","pubkey":"","created_at":,"kind":,"tags":,"content":,"sig":""}"#.len() + 64 + 64 + 128;

const fn digits(number: u64) -> usize {
    match number.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

/// How long a text is as a JSON string.
fn quoted_len(text: &str) -> usize {
    let special = text.bytes().filter(|byte| *byte == b'"' || *byte == b'\\' || *byte < 32).count();
    let is_long = |byte: &u8| *byte < 32 && !matches!(byte, b'\n' | b'\r' | b'\t' | 8 | 12);
    let long = if special > 0 { text.bytes().filter(is_long).count() } else { 0 };
    text.len() + 2 + special + 4 * long
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

impl Said {
    /// Returns what the net makes of it: only events are lost and doubled.
    pub(crate) fn freight(&self) -> Freight {
        match self {
            Self::Event(event) => event.freight(),
            Self::Req(_) | Self::Auth { .. } | Self::Ping => Freight::small(0, false),
        }
    }
}

impl Heard {
    /// Returns what the net makes of it: events and what became of them are lost, events are doubled.
    pub(crate) fn freight(&self) -> Freight {
        match self {
            Self::Event { event, .. } => event.freight(),
            Self::Ok { id, .. } => Freight::small(short(id.as_bytes()), true),
            Self::Eose | Self::Closed(_) | Self::Notice(_) | Self::Auth(_) | Self::Pong | Self::Rubbish => {
                Freight::small(0, false)
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::Forge;
    use nostr::event::{Tag, Tags};

    #[test]
    fn an_event_is_as_long_as_it_is_when_it_is_printed() {
        let mut forge = Forge::new(1);
        let keys = forge.keys();
        let texts = ["", "plain", "\"quoted\" \\ \n\r\t\u{8}\u{c}", "\u{1}\u{1f}\u{7f}", "é😀\u{2028}"];
        for (nth, text) in texts.into_iter().enumerate() {
            let tag = Tag::custom("p", vec![text; nth]);
            let list = Tags::from_list(vec![tag; nth]);
            for stamp in [0, 9, 1_700_000_000] {
                let event =
                    keys.sign_event(nth as u16 * 999, stamp, list.clone(), text.to_owned(), forge.bytes());
                let carried = Carried::made(event.into());
                assert_eq!(carried.bytes, carried.json().len(), "{}", carried.json());
            }
        }
    }
}
