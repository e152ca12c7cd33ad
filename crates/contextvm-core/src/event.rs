//! Events on their way in and out: read within budget, and drafted with an id before a signature exists.
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use nostr::event::{Event, EventId, Kind, Tag, Tags};
use nostr::key::PublicKey;
use nostr::types::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::object::Printer;
use crate::text::{is_hex, push_quoted};
use crate::{Limits, kind, scan};

/// Most JSON values in the tags of an event: the list, its tags and their elements. A tag of five bytes takes more than a
/// hundred in memory.
pub const TAG_VALUES: usize = 2_048;

/// Which gift wrap carries an inner event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WrapKind {
    /// Kind 1059 (CEP-4).
    Persistent,
    /// Kind 21059 (CEP-19).
    Ephemeral,
}

impl WrapKind {
    /// Returns the outer event kind.
    #[must_use]
    pub const fn kind(self) -> u16 {
        match self {
            Self::Persistent => kind::GIFT_WRAP,
            Self::Ephemeral => kind::EPHEMERAL_GIFT_WRAP,
        }
    }

    /// Returns the wrap of an outer event kind, if it is one.
    #[must_use]
    pub const fn from_kind(kind: u16) -> Option<Self> {
        match kind {
            kind::GIFT_WRAP => Some(Self::Persistent),
            kind::EPHEMERAL_GIFT_WRAP => Some(Self::Ephemeral),
            _ => None,
        }
    }
}

/// How an inner event travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// In clear, as kind 25910.
    Plain,
    /// Inside a gift wrap.
    Wrapped(WrapKind),
}

impl Protection {
    /// Whether the content is encrypted.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Wrapped(_))
    }
}

/// An unsigned kind 25910 event with its id already computed (NIP-01).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Hash of the unsigned event: the correlation id of everything that answers it.
    pub id: EventId,
    /// The author, who will sign.
    pub author: PublicKey,
    /// Unix seconds.
    pub created_at: u64,
    /// Tags in wire order, `p` first.
    pub tags: Tags,
    /// Exactly one JSON-RPC message.
    pub content: String,
}

impl Draft {
    /// Hashes the event and keeps it for signing.
    #[must_use]
    pub fn new(author: PublicKey, created_at: u64, tags: Tags, content: String) -> Self {
        let stamp = Timestamp::from_secs(created_at);
        let id = id_of(&author, stamp, Kind::from_u16(kind::MESSAGE), &tags, &content);
        Self { id, author, created_at, tags, content }
    }
}

/// Reads a signed event (NIP-01) and checks nothing; unknown members are ignored.
///
/// Returns `None` when the text is no event or has more than [`TAG_VALUES`] values in its tags. Memory: at most four times
/// the text, and a quarter of a mebibyte for tags.
#[must_use]
pub fn read(json: &str) -> Option<Event> {
    read_within(json, TAG_VALUES)
}

/// Does what [`read`] does with another bound on the values in the tags.
#[must_use]
pub fn read_within(json: &str, tag_values: usize) -> Option<Event> {
    let parts: Parts<'_> = serde_json::from_str(json).ok()?;
    let (id, pubkey, sig) = (hex(parts.id, 64)?, hex(parts.pubkey, 64)?, hex(parts.sig, 128)?);
    let (created_at, kind): (_, Kind) = (short(parts.created_at)?, short(parts.kind)?);
    Some(Event::new(id, pubkey, created_at, kind, tags(parts.tags, tag_values)?, parts.content, sig))
}

/// The parts of an event as text, so that nothing long is given to a parser that would quote it in its error.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    pubkey: &'a RawValue,
    #[serde(borrow)]
    created_at: &'a RawValue,
    #[serde(borrow)]
    kind: &'a RawValue,
    #[serde(borrow)]
    tags: &'a RawValue,
    content: String,
    #[serde(borrow)]
    sig: &'a RawValue,
}

/// Reads an event id as NIP-01 writes it: 64 hex digits, lowercase.
#[must_use]
pub fn read_id(hex: &str) -> Option<EventId> {
    if is_hex(hex, 64) { EventId::from_hex(hex).ok() } else { None }
}

/// Reads a public key as NIP-01 writes it: 64 hex digits, lowercase. Whether it is on the curve is not checked.
#[must_use]
pub fn read_key(hex: &str) -> Option<PublicKey> {
    if is_hex(hex, 64) { PublicKey::from_hex(hex).ok() } else { None }
}

/// Reads a string of so many hex digits, written without escapes.
fn hex<T: DeserializeOwned>(json: &RawValue, digits: usize) -> Option<T> {
    let inside = json.get().strip_prefix('"')?.strip_suffix('"')?;
    if is_hex(inside, digits) { serde_json::from_str(json.get()).ok() } else { None }
}

/// Reads what is no longer than a signature.
fn short<T: DeserializeOwned>(json: &RawValue) -> Option<T> {
    let text = Some(json.get()).filter(|text| text.len() <= 2 * 64 + 2)?;
    serde_json::from_str(text).ok()
}

fn tags(json: &RawValue, values: usize) -> Option<Tags> {
    let limits = Limits { event: usize::MAX, json_nodes: values, json_depth: 2, ..Limits::default() };
    scan::check(json.get(), &limits).ok()?;
    let tags = list::<Vec<&RawValue>>(json)?.into_iter().map(list::<Tag>);
    tags.collect::<Option<Vec<_>>>().map(Tags::from_list)
}

fn list<'a, T: Deserialize<'a>>(json: &'a RawValue) -> Option<T> {
    let text = Some(json.get()).filter(|text| text.starts_with('['))?;
    serde_json::from_str(text).ok()
}

/// Whether the signature (BIP-340) over the id is the author's; whether the id is the event's is another question.
#[must_use]
pub fn is_signed(event: &Event) -> bool {
    #[cfg(contextvm_fake_crypto)]
    return crate::fake::is_signed(event);
    #[cfg(not(contextvm_fake_crypto))]
    event.verify_signature()
}

/// Returns the id that an event has (NIP-01): the hash of everything in it but the signature.
#[must_use]
pub fn id_of(author: &PublicKey, created_at: Timestamp, kind: Kind, tags: &Tags, content: &str) -> EventId {
    #[cfg(contextvm_fake_hashes)]
    return crate::fake::id(author, created_at, kind, tags, content);
    #[cfg(not(contextvm_fake_hashes))]
    EventId::compute(author, &created_at, &kind, tags, content)
}

/// Whether the id of an event is the hash of the rest of it.
#[must_use]
pub fn is_id_true(event: &Event) -> bool {
    event.id == id_of(&event.pubkey, event.created_at, event.kind, &event.tags, &event.content)
}

/// Returns what the texts of an event take in memory, bytes: its content, and its tags with their places in the lists.
#[must_use]
pub fn weight(event: &Event) -> usize {
    let texts = event.tags.iter().flat_map(|tag| tag.as_slice()).map(|text| text.len() + size_of::<String>());
    event.content.len() + texts.sum::<usize>() + event.tags.len() * size_of::<Tag>()
}

/// Prints a signed event as one line of JSON, members in the order of NIP-01.
#[must_use]
pub fn print(event: &Event) -> String {
    let mut tags = String::from("[");
    for (nth, tag) in event.tags.iter().enumerate() {
        tags.push_str(if nth > 0 { ",[" } else { "[" });
        for (nth, element) in tag.as_slice().iter().enumerate() {
            if nth > 0 {
                tags.push(',');
            }
            push_quoted(&mut tags, element);
        }
        tags.push(']');
    }
    tags.push(']');
    // The other members take some 370 bytes, and JSON inside JSON a backslash per quote.
    let mut out = Printer::new(event.content.len() / 8 * 9 + tags.len() + 400);
    out.string("id", &event.id.to_hex()).string("pubkey", &event.pubkey.to_hex());
    out.json("created_at", &event.created_at.as_secs().to_string());
    out.json("kind", &event.kind.as_u16().to_string()).json("tags", &tags);
    out.string("content", &event.content).string("sig", &event.sig.to_hex());
    out.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn event(tags: &str) -> String {
        let (id, key, sig) = ("0a".repeat(32), "0b".repeat(32), "0c".repeat(64));
        format!(
            r#"{{"x":[{{}}],"id":"{id}","pubkey":"{key}","created_at":1,"kind":1059,"tags":{tags},"content":"a\"\u00e9","sig":"{sig}"}}"#
        )
    }

    #[test]
    fn an_event_is_read_as_nostr_reads_it() {
        for tags in ["[]", r#"[["p","a"],["x"],["","\ud83d\ude00"]]"#, " [ ] "] {
            let text = event(tags);
            assert_eq!(read(&text), Event::from_json(&text).ok(), "{tags}");
            let event = read(&text).unwrap();
            assert_eq!(event.content, "a\"é");
            assert_eq!(print(&event), event.as_json());
        }
        for tags in ["{}", "[[]]", "[[1]]", "[[[]]]", "null", "[\"a\"]", r#"[["\ud800"]]"#] {
            let text = event(tags);
            assert_eq!(read(&text), None, "{tags}");
            assert!(Event::from_json(&text).is_err(), "{tags}");
        }
        let text = event("[]");
        for bad in [text.replacen('{', r#"{"kind":1,"#, 1), format!("{text} {{}}"), "[]".to_string()] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }

    #[test]
    fn hex_has_one_spelling() {
        let text = event("[]");
        let (id, key, sig) = ("0a".repeat(32), "0b".repeat(32), "0c".repeat(64));
        for right in [&id, &key, &sig] {
            for wrong in [
                right.to_uppercase(),
                format!("{right}00"),
                right.repeat(2),
                format!("\\u0030{}", &right[1..]),
            ] {
                let bad = text.replace(&format!("\"{right}\""), &format!("\"{wrong}\""));
                assert_ne!(bad, text);
                assert_eq!(read(&bad), None, "{wrong}");
            }
        }
        assert_eq!(read_id(&id).map(|id| id.to_hex()), Some(id.clone()));
        assert_eq!(read_key(&key).map(|key| key.to_hex()), Some(key.clone()));
        for bad in
            [id.to_uppercase(), format!("{id}0"), format!("{id}00"), id[1..].to_string(), String::new()]
        {
            assert_eq!((read_id(&bad), read_key(&bad)), (None, None), "{bad}");
        }
    }

    #[test]
    fn an_event_has_a_bounded_number_of_tags() {
        let list = |tags: usize| event(&format!("[{}[\"\"]]", "[\"\"],".repeat(tags - 1)));
        assert!(read(&list((TAG_VALUES - 1) / 2)).is_some());
        assert_eq!(read(&list(TAG_VALUES / 2)), None);
        assert_eq!(read(&event(&format!("[[{}\"\"]]", "\"\",".repeat(TAG_VALUES)))), None);
    }

    #[test]
    fn a_wrap_is_known_by_its_kind() {
        for wrap in [WrapKind::Persistent, WrapKind::Ephemeral] {
            assert_eq!(WrapKind::from_kind(wrap.kind()), Some(wrap));
            assert!(Protection::Wrapped(wrap).is_encrypted());
        }
        assert_eq!(WrapKind::from_kind(kind::MESSAGE), None);
        assert!(!Protection::Plain.is_encrypted());
    }
}
