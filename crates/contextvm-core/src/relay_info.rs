//! What a relay says about itself (NIP-11): hints, read leniently and within bounds.
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::value::RawValue;

use crate::object::{self, Object};
use crate::scan::{self, ScanError};
use crate::{Fault, Limits};

/// Largest document that is read, bytes.
pub const DOCUMENT: usize = 64 * 1024;
/// Most JSON values in a document.
const NODES: usize = 8_192;
/// Longest text that is kept, characters.
const TEXT: usize = 1_024;
/// Most NIP numbers that are kept.
const NIPS: usize = 256;

/// Why a relay's document was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayInfoError {
    /// It is larger than [`DOCUMENT`].
    #[error("relay information has {0} bytes, more than {DOCUMENT}")]
    TooLong(usize),
    /// It is not JSON within budget.
    #[error("relay information is bad json: {0}")]
    Json(#[from] ScanError),
    /// It is JSON and not an object.
    #[error("relay information is not an object")]
    NotAnObject,
}

impl RelayInfoError {
    /// Says who misbehaved: the relay.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Relay
    }
}

/// A relay's description of itself. A member that is absent or of a wrong type is `None` or empty.
///
/// Texts are a stranger's: at most 1,024 characters each, and printed through [`Printable`](crate::Printable) only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayInfo {
    /// What the relay is called.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Whom to write to: an address of the web or of mail.
    pub contact: Option<String>,
    /// The program that it runs, mostly the address of its source.
    pub software: Option<String>,
    /// The version of that program.
    pub version: Option<String>,
    /// The NIPs that it implements, at most 256.
    pub supported_nips: Vec<u16>,
    /// Its limits; all of them are hints.
    pub limitation: Limitation,
}

/// The limits that a relay declares. They may lower ours and never raise them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limitation {
    /// Largest websocket message, bytes.
    pub max_message_length: Option<u64>,
    /// Most subscriptions of one connection.
    pub max_subscriptions: Option<u64>,
    /// Most filters of one subscription.
    pub max_filters: Option<u64>,
    /// Highest `limit` of a filter that is honoured.
    pub max_limit: Option<u64>,
    /// Longest subscription id.
    pub max_subid_length: Option<u64>,
    /// Most tags of an event.
    pub max_event_tags: Option<u64>,
    /// Longest content of an event, characters.
    pub max_content_length: Option<u64>,
    /// Least proof of work of an event, bits.
    pub min_pow_difficulty: Option<u64>,
    /// Whether everything needs authentication (NIP-42).
    pub auth_required: Option<bool>,
    /// Whether somebody has to pay first.
    pub payment_required: Option<bool>,
    /// Whether writing needs something that not everybody has.
    pub restricted_writes: Option<bool>,
    /// How far `created_at` may lie in the past, seconds.
    pub created_at_lower_limit: Option<u64>,
    /// How far `created_at` may lie in the future, seconds.
    pub created_at_upper_limit: Option<u64>,
}

impl RelayInfo {
    /// Reads a document.
    ///
    /// # Errors
    /// Refuses a document that is too long, no JSON, or no object; single members are never fatal.
    ///
    /// ```
    /// use contextvm_core::relay_info::RelayInfo;
    /// let info = RelayInfo::parse(r#"{"name":"r","supported_nips":[1,"x"],"limitation":{"auth_required":true}}"#)?;
    /// assert_eq!((info.name.as_deref(), &info.supported_nips[..]), (Some("r"), &[1][..]));
    /// assert_eq!((info.limitation.auth_required, info.limitation.max_limit), (Some(true), None));
    /// # Ok::<(), contextvm_core::relay_info::RelayInfoError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, RelayInfoError> {
        if text.len() > DOCUMENT {
            return Err(RelayInfoError::TooLong(text.len()));
        }
        let limits = Limits { json_nodes: NODES, ..Limits::default() };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        scan::check(text, &limits)?;
        let object = Object::parse(text).map_err(|_| RelayInfoError::NotAnObject)?;
        let words = |key: &str| object.get(key).and_then(words);
        Ok(Self {
            name: words("name"),
            description: words("description"),
            contact: words("contact"),
            software: words("software"),
            version: words("version"),
            supported_nips: object.get("supported_nips").map(nips).unwrap_or_default(),
            limitation: object.get("limitation").map(Limitation::read).unwrap_or_default(),
        })
    }
}

impl Limitation {
    fn read(value: &RawValue) -> Self {
        let Ok(object) = Object::parse(value.get()) else {
            return Self::default();
        };
        let number = |key: &str| object.get(key).and_then(|value| value.get().parse().ok());
        let flag = |key: &str| object.get(key).and_then(|value| value.get().parse().ok());
        Self {
            max_message_length: number("max_message_length"),
            max_subscriptions: number("max_subscriptions"),
            max_filters: number("max_filters"),
            max_limit: number("max_limit"),
            max_subid_length: number("max_subid_length"),
            max_event_tags: number("max_event_tags"),
            max_content_length: number("max_content_length"),
            min_pow_difficulty: number("min_pow_difficulty"),
            auth_required: flag("auth_required"),
            payment_required: flag("payment_required"),
            restricted_writes: flag("restricted_writes"),
            created_at_lower_limit: number("created_at_lower_limit"),
            created_at_upper_limit: number("created_at_upper_limit"),
        }
    }
}

/// Returns the beginning of a text that is not blank.
fn words(value: &RawValue) -> Option<String> {
    let text = object::string(value)?;
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let end = text.char_indices().nth(TEXT).map_or(text.len(), |(at, _)| at);
    text.get(..end).map(ToString::to_string)
}

/// Returns the numbers of a list; some relays mix in texts.
fn nips(value: &RawValue) -> Vec<u16> {
    let items: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
    items.into_iter().filter_map(|item| item.get().parse().ok()).take(NIPS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn what_a_relay_declares_is_read() {
        let info = RelayInfo::parse(
            r#"{"name":" rely ","description":"d","contact":"mailto:a@b","pubkey":"x","software":"s","version":"0.9",
            "supported_nips":[1,11,42],"fees":{"admission":[{"amount":1}]},"limitation":{"max_message_length":524288,
            "max_subscriptions":20,"max_filters":10,"max_limit":500,"max_subid_length":64,"max_event_tags":100,
            "max_content_length":8196,"min_pow_difficulty":0,"auth_required":false,"payment_required":true,
            "restricted_writes":true,"created_at_lower_limit":31536000,"created_at_upper_limit":900}}"#,
        )
        .unwrap();
        assert_eq!((info.name.as_deref(), info.version.as_deref()), (Some("rely"), Some("0.9")));
        assert_eq!(info.supported_nips, [1, 11, 42]);
        let limitation = Limitation {
            max_message_length: Some(524_288),
            max_subscriptions: Some(20),
            max_filters: Some(10),
            max_limit: Some(500),
            max_subid_length: Some(64),
            max_event_tags: Some(100),
            max_content_length: Some(8_196),
            min_pow_difficulty: Some(0),
            auth_required: Some(false),
            payment_required: Some(true),
            restricted_writes: Some(true),
            created_at_lower_limit: Some(31_536_000),
            created_at_upper_limit: Some(900),
        };
        assert_eq!(info.limitation, limitation);
    }

    #[test]
    fn a_member_of_a_wrong_type_costs_only_itself() {
        let info = RelayInfo::parse(
            r#"{"name":7,"version":null,"software":"  ","description":"ok","supported_nips":["01",1,-1,70000,2.5,[],9],
            "limitation":{"max_limit":-1,"max_filters":"9","max_subscriptions":99999999999999999999,"auth_required":1,
            "max_event_tags":1e3,"payment_required":true}}"#,
        )
        .unwrap();
        let expected = RelayInfo {
            description: Some("ok".into()),
            supported_nips: [1, 9].into(),
            limitation: Limitation { payment_required: Some(true), ..Limitation::default() },
            ..RelayInfo::default()
        };
        assert_eq!(info, expected);
        for other in
            [r#"{"supported_nips":{},"limitation":[]}"#, r#"{"supported_nips":1,"limitation":null}"#, "{}"]
        {
            assert_eq!(RelayInfo::parse(other), Ok(RelayInfo::default()), "{other}");
        }
    }

    #[test]
    fn only_a_bounded_object_is_a_document() {
        assert_eq!(RelayInfo::parse("[]"), Err(RelayInfoError::NotAnObject));
        assert!(matches!(RelayInfo::parse("<html>"), Err(RelayInfoError::Json(_))));
        let long = format!(r#"{{"name":"{}"}}"#, "é".repeat(3_000));
        assert_eq!(RelayInfo::parse(&long).unwrap().name.map(|name| name.chars().count()), Some(TEXT));
        let nips = format!(r#"{{"supported_nips":[1{}]}}"#, ",1".repeat(999));
        assert_eq!(RelayInfo::parse(&nips).unwrap().supported_nips.len(), NIPS);
        let nodes = format!(r#"{{"x":[1{}]}}"#, ",1".repeat(NODES));
        assert!(matches!(RelayInfo::parse(&nodes), Err(RelayInfoError::Json(_))));
        let huge = " ".repeat(DOCUMENT + 1);
        assert_eq!(RelayInfo::parse(&huge), Err(RelayInfoError::TooLong(DOCUMENT + 1)));
        assert_eq!(RelayInfoError::NotAnObject.fault(), Fault::Relay);
    }
}
