//! What relays and their clients say to each other (NIP-01, NIP-42, NIP-45), borrowed from the text of the frame.
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use nostr::event::EventId;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::Fault;
use crate::event::read_id;
use crate::object;
use crate::text::push_quoted;

/// Most filters of one subscription; a frame with more is refused.
pub const MAX_FILTERS: usize = 256;

/// Why a frame was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The text is not a JSON array.
    #[error("frame is not a json array")]
    NotAnArray,
    /// The first element is absent, not a string, or no word of the protocol.
    #[error("frame starts with an unknown word")]
    Word,
    /// An element is absent or of the wrong type.
    #[error("frame has no valid {0}")]
    Element(&'static str),
}

impl FrameError {
    /// Says who misbehaved; a relay that reads clients' frames knows better.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Relay
    }
}

/// What a relay says.
#[derive(Clone, Debug)]
pub enum RelayFrame<'a> {
    /// An event for a subscription.
    Event {
        /// The subscription.
        subscription: Cow<'a, str>,
        /// The event as it came, unchecked.
        event: &'a RawValue,
    },
    /// The fate of an event that was sent.
    Ok {
        /// Which event.
        id: EventId,
        /// Whether the relay took it.
        accepted: bool,
        /// Why, often with a machine-readable prefix.
        message: Cow<'a, str>,
    },
    /// All stored events of a subscription were sent.
    EndOfStored {
        /// The subscription.
        subscription: Cow<'a, str>,
    },
    /// The relay ended a subscription.
    Closed {
        /// The subscription.
        subscription: Cow<'a, str>,
        /// Why, often with a machine-readable prefix.
        message: Cow<'a, str>,
    },
    /// Words for a person.
    Notice {
        /// The words.
        message: Cow<'a, str>,
    },
    /// A challenge to authenticate (NIP-42).
    Auth {
        /// The challenge.
        challenge: Cow<'a, str>,
    },
    /// The answer to a count (NIP-45).
    Count {
        /// The subscription.
        subscription: Cow<'a, str>,
        /// An object with `count`.
        count: &'a RawValue,
    },
}

impl<'a> RelayFrame<'a> {
    /// Parses one frame; elements after the known ones are ignored. A few kilobytes are allocated, however many there are.
    ///
    /// # Errors
    /// Says which element is wrong.
    ///
    /// ```
    /// use contextvm_core::frame::RelayFrame;
    /// let frame = RelayFrame::parse(r#"["EOSE","a"]"#)?;
    /// assert!(matches!(frame, RelayFrame::EndOfStored { subscription } if subscription == "a"));
    /// # Ok::<(), contextvm_core::frame::FrameError>(())
    /// ```
    pub fn parse(text: &'a str) -> Result<Self, FrameError> {
        let elements = Elements::parse(text)?;
        Ok(match elements.word()?.as_ref() {
            "EVENT" => Self::Event {
                subscription: elements.string(1, "subscription")?,
                event: elements.object(2, "event")?,
            },
            "OK" => Self::Ok {
                id: elements.event_id(1)?,
                accepted: elements.boolean(2, "verdict")?,
                message: elements.optional_string(3, "message")?,
            },
            "EOSE" => Self::EndOfStored { subscription: elements.string(1, "subscription")? },
            "CLOSED" => Self::Closed {
                subscription: elements.string(1, "subscription")?,
                message: elements.optional_string(2, "message")?,
            },
            "NOTICE" => Self::Notice { message: elements.string(1, "message")? },
            "AUTH" => Self::Auth { challenge: elements.string(1, "challenge")? },
            "COUNT" => Self::Count {
                subscription: elements.string(1, "subscription")?,
                count: elements.object(2, "count")?,
            },
            _ => return Err(FrameError::Word),
        })
    }
}

/// What a client says to a relay.
#[derive(Clone, Debug)]
pub enum ClientFrame<'a> {
    /// An event to publish.
    Event {
        /// The event, unchecked.
        event: &'a RawValue,
    },
    /// A subscription.
    Req {
        /// Its name.
        subscription: Cow<'a, str>,
        /// What it asks for, at least one filter and at most [`MAX_FILTERS`].
        filters: Vec<&'a RawValue>,
    },
    /// The end of a subscription.
    Close {
        /// Its name.
        subscription: Cow<'a, str>,
    },
    /// The signed answer to a challenge (NIP-42).
    Auth {
        /// The event, unchecked.
        event: &'a RawValue,
    },
    /// A count (NIP-45).
    Count {
        /// Its name.
        subscription: Cow<'a, str>,
        /// What is counted, at least one filter and at most [`MAX_FILTERS`].
        filters: Vec<&'a RawValue>,
    },
}

impl<'a> ClientFrame<'a> {
    /// Parses one frame.
    ///
    /// # Errors
    /// Says which element is wrong.
    pub fn parse(text: &'a str) -> Result<Self, FrameError> {
        let elements = Elements::parse(text)?;
        Ok(match elements.word()?.as_ref() {
            "EVENT" => Self::Event { event: elements.object(1, "event")? },
            "REQ" => {
                Self::Req { subscription: elements.string(1, "subscription")?, filters: elements.filters()? }
            }
            "CLOSE" => Self::Close { subscription: elements.string(1, "subscription")? },
            "AUTH" => Self::Auth { event: elements.object(1, "event")? },
            "COUNT" => Self::Count {
                subscription: elements.string(1, "subscription")?,
                filters: elements.filters()?,
            },
            _ => return Err(FrameError::Word),
        })
    }
}

/// Prints `["EVENT",event]`, from a client to a relay.
#[must_use]
pub fn event(event_json: &str) -> String {
    print("EVENT", &[Part::Json(event_json)])
}

/// Prints `["REQ",subscription,filter...]`.
#[must_use]
pub fn req<S: AsRef<str>>(subscription: &str, filters_json: &[S]) -> String {
    let mut parts = Vec::with_capacity(filters_json.len() + 1);
    parts.push(Part::Text(subscription));
    parts.extend(filters_json.iter().map(|filter| Part::Json(filter.as_ref())));
    print("REQ", &parts)
}

/// Prints `["CLOSE",subscription]`.
#[must_use]
pub fn close(subscription: &str) -> String {
    print("CLOSE", &[Part::Text(subscription)])
}

/// Prints `["AUTH",event]`, from a client to a relay (NIP-42).
#[must_use]
pub fn auth(event_json: &str) -> String {
    print("AUTH", &[Part::Json(event_json)])
}

/// Prints `["AUTH",challenge]`, from a relay to a client (NIP-42).
#[must_use]
pub fn challenge(challenge: &str) -> String {
    print("AUTH", &[Part::Text(challenge)])
}

/// Prints `["OK",id,accepted,message]`; the id is whatever the client called its event.
#[must_use]
pub fn ok(id: &str, accepted: bool, message: &str) -> String {
    let verdict = if accepted { "true" } else { "false" };
    print("OK", &[Part::Text(id), Part::Json(verdict), Part::Text(message)])
}

/// Prints `["EOSE",subscription]`.
#[must_use]
pub fn eose(subscription: &str) -> String {
    print("EOSE", &[Part::Text(subscription)])
}

/// Prints `["CLOSED",subscription,message]`.
#[must_use]
pub fn closed(subscription: &str, message: &str) -> String {
    print("CLOSED", &[Part::Text(subscription), Part::Text(message)])
}

/// Prints `["NOTICE",message]`.
#[must_use]
pub fn notice(message: &str) -> String {
    print("NOTICE", &[Part::Text(message)])
}

/// Prints `["EVENT",subscription,event]`, from a relay to a client.
#[must_use]
pub fn relay_event(subscription: &str, event_json: &str) -> String {
    print("EVENT", &[Part::Text(subscription), Part::Json(event_json)])
}

#[derive(Clone, Copy)]
enum Part<'a> {
    /// To be quoted.
    Text(&'a str),
    /// One JSON value.
    Json(&'a str),
}

fn print(word: &str, parts: &[Part<'_>]) -> String {
    let size: usize = parts.iter().map(|(Part::Text(part) | Part::Json(part))| part.len() + 3).sum();
    let mut out = String::with_capacity(size + word.len() + 4);
    out.push('[');
    push_quoted(&mut out, word);
    for part in parts {
        out.push(',');
        match part {
            Part::Text(text) => push_quoted(&mut out, text),
            Part::Json(json) => out.push_str(json),
        }
    }
    out.push(']');
    out
}

/// The first elements of a frame.
#[derive(Default)]
struct Elements<'a> {
    kept: Vec<&'a RawValue>,
    has_more: bool,
}

impl<'a> Elements<'a> {
    /// A word, a subscription and its filters.
    const KEPT: usize = 2 + MAX_FILTERS;

    fn parse(text: &'a str) -> Result<Self, FrameError> {
        // serde would quote a string in full in its error.
        if !text.trim_start_matches(object::is_space).starts_with('[') {
            return Err(FrameError::NotAnArray);
        }
        let mut elements = Self::default();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer
            .deserialize_seq(&mut elements)
            .and_then(|()| deserializer.end())
            .map_err(|_| FrameError::NotAnArray)?;
        Ok(elements)
    }

    fn get(&self, at: usize, what: &'static str) -> Result<&'a RawValue, FrameError> {
        self.kept.get(at).copied().ok_or(FrameError::Element(what))
    }

    fn word(&self) -> Result<Cow<'a, str>, FrameError> {
        let word = self.get(0, "word").map_err(|_| FrameError::Word)?;
        object::string(word).ok_or(FrameError::Word)
    }

    fn string(&self, at: usize, what: &'static str) -> Result<Cow<'a, str>, FrameError> {
        object::string(self.get(at, what)?).ok_or(FrameError::Element(what))
    }

    /// Some relays leave an empty text out.
    fn optional_string(&self, at: usize, what: &'static str) -> Result<Cow<'a, str>, FrameError> {
        if at < self.kept.len() { self.string(at, what) } else { Ok(Cow::Borrowed("")) }
    }

    fn object(&self, at: usize, what: &'static str) -> Result<&'a RawValue, FrameError> {
        let value = self.get(at, what)?;
        if value.get().starts_with('{') { Ok(value) } else { Err(FrameError::Element(what)) }
    }

    fn boolean(&self, at: usize, what: &'static str) -> Result<bool, FrameError> {
        match self.get(at, what)?.get() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(FrameError::Element(what)),
        }
    }

    fn event_id(&self, at: usize) -> Result<EventId, FrameError> {
        let hex = self.string(at, "event id")?;
        read_id(&hex).ok_or(FrameError::Element("event id"))
    }

    /// Everything after the subscription.
    fn filters(&self) -> Result<Vec<&'a RawValue>, FrameError> {
        let filters = self.kept.get(2..).unwrap_or_default();
        if filters.is_empty() || self.has_more || filters.iter().any(|filter| !filter.get().starts_with('{'))
        {
            return Err(FrameError::Element("filter"));
        }
        Ok(filters.to_vec())
    }
}

impl<'de> Visitor<'de> for &mut Elements<'de> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<&'de RawValue>()? {
            if self.kept.len() < Elements::KEPT {
                self.kept.push(element);
            } else {
                self.has_more = true;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, vec};

    const ID: &str = "000000000000000000000000000000000000000000000000000000000000000a";

    #[test]
    fn every_word_of_a_relay_is_read_as_it_was_printed() {
        use RelayFrame as F;
        let event_json = "{\"a\": 1.0}";
        let text = relay_event("s\"", event_json);
        assert!(matches!(F::parse(&text), Ok(F::Event { subscription, event })
            if subscription == "s\"" && event.get() == event_json));
        let text = ok(ID, false, "duplicate: a\nb");
        assert!(matches!(F::parse(&text), Ok(F::Ok { id, accepted: false, message })
            if id.to_hex() == ID && message == "duplicate: a\nb"));
        let text = ok(ID, true, "");
        assert!(matches!(F::parse(&text), Ok(F::Ok { accepted: true, .. })));
        assert!(matches!(F::parse(&eose("s")), Ok(F::EndOfStored { subscription }) if subscription == "s"));
        assert!(matches!(F::parse(&closed("s", "error: x")), Ok(F::Closed { subscription, message })
            if subscription == "s" && message == "error: x"));
        assert!(matches!(F::parse(&notice("n")), Ok(F::Notice { message }) if message == "n"));
        assert!(matches!(F::parse(&challenge("c")), Ok(F::Auth { challenge }) if challenge == "c"));
        assert!(
            matches!(F::parse(r#"["COUNT","s",{"count":7}]"#), Ok(F::Count { count, .. }) if count.get() == "{\"count\":7}")
        );
    }

    #[test]
    fn every_word_of_a_client_is_read_as_it_was_printed() {
        use ClientFrame as F;
        assert!(matches!(F::parse(&event("{}")), Ok(F::Event { event }) if event.get() == "{}"));
        assert!(matches!(F::parse(&req("s", &["{}", "{\"a\":1}"])), Ok(F::Req { subscription, filters })
            if subscription == "s" && filters.len() == 2));
        assert!(matches!(F::parse(&close("s")), Ok(F::Close { subscription }) if subscription == "s"));
        assert!(matches!(F::parse(&auth("{}")), Ok(F::Auth { event }) if event.get() == "{}"));
        assert!(
            matches!(F::parse(r#"["COUNT","s",{}]"#), Ok(F::Count { filters, .. }) if filters.len() == 1)
        );
    }

    #[test]
    fn a_frame_that_lacks_something_says_what() {
        let table: &[(&str, FrameError)] = &[
            ("", FrameError::NotAnArray),
            ("{}", FrameError::NotAnArray),
            ("[1", FrameError::NotAnArray),
            ("[]", FrameError::Word),
            ("[1]", FrameError::Word),
            (r#"["event"]"#, FrameError::Word),
            (r#"["EVENT"]"#, FrameError::Element("subscription")),
            (r#"["EVENT",{}]"#, FrameError::Element("subscription")),
            (r#"["EVENT","s"]"#, FrameError::Element("event")),
            (r#"["EVENT","s",[]]"#, FrameError::Element("event")),
            (r#"["OK","zz",true,""]"#, FrameError::Element("event id")),
            (r#"["NOTICE",null]"#, FrameError::Element("message")),
            (r#"["AUTH"]"#, FrameError::Element("challenge")),
            (r#"["COUNT","s",7]"#, FrameError::Element("count")),
        ];
        for (text, error) in table {
            assert_eq!(RelayFrame::parse(text).err(), Some(*error), "{text}");
            assert_eq!(error.fault(), Fault::Relay);
        }
        let verdict = format!(r#"["OK","{ID}","true",""]"#);
        assert_eq!(RelayFrame::parse(&verdict).err(), Some(FrameError::Element("verdict")));
        let message = format!(r#"["OK","{ID}",true,7]"#);
        assert_eq!(RelayFrame::parse(&message).err(), Some(FrameError::Element("message")));
        for text in [r#"["REQ","s"]"#, r#"["REQ","s","{}"]"#, r#"["COUNT","s",{},1]"#] {
            assert_eq!(ClientFrame::parse(text).err(), Some(FrameError::Element("filter")), "{text}");
        }
        assert_eq!(ClientFrame::parse(r#"["EOSE","s"]"#).err(), Some(FrameError::Word));
    }

    #[test]
    fn relays_may_leave_the_text_out_and_may_add_elements() {
        assert!(
            matches!(RelayFrame::parse(&format!(r#"["OK","{ID}",true]"#)), Ok(RelayFrame::Ok { message, .. })
            if message.is_empty())
        );
        assert!(matches!(RelayFrame::parse(r#"["CLOSED","s"]"#), Ok(RelayFrame::Closed { .. })));
        for more in [",1,{}".into(), ",{}".repeat(2 * MAX_FILTERS)] {
            let text = format!(r#"["EOSE","s"{more}]"#);
            assert!(matches!(RelayFrame::parse(&text), Ok(RelayFrame::EndOfStored { .. })));
        }
    }

    #[test]
    fn a_subscription_has_a_bounded_number_of_filters() {
        let most = vec!["{}"; MAX_FILTERS];
        assert!(matches!(ClientFrame::parse(&req("s", &most)), Ok(ClientFrame::Req { filters, .. })
            if filters.len() == MAX_FILTERS));
        let more = vec!["{}"; MAX_FILTERS + 1];
        assert_eq!(ClientFrame::parse(&req("s", &more)).err(), Some(FrameError::Element("filter")));
    }
}
