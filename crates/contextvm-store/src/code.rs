//! How records are written: fixed fields first, then texts behind their lengths; a row holds those of one batch.
use contextvm_core::{Draft, Protection, WrapKind};
use contextvm_engine::{Origin, Record, RequestKey};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;

/// What a record is about: seconds, then the inner id.
pub(crate) type Key = [u8; KEY];

const KEY: usize = 40;

const PLAIN: u8 = 0;
const PERSISTENT: u8 = 1;
const EPHEMERAL: u8 = 2;

const NOTE: u8 = 0;
const REQUEST: u8 = 1;
const TRANSFER: u8 = 2;

/// Makes the key of a record.
pub(crate) fn key(seconds: u64, id: &EventId) -> Key {
    let mut key = [0; 40];
    let (time, rest) = key.split_at_mut(8);
    time.copy_from_slice(&seconds.to_be_bytes());
    rest.copy_from_slice(id.as_bytes());
    key
}

/// Returns the seconds of a key.
pub(crate) fn seconds(key: &Key) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// One record in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) is_answer: bool,
    pub(crate) key: &'a Key,
    pub(crate) value: &'a [u8],
}

/// Adds a record to a row.
pub(crate) fn push(row: &mut Vec<u8>, entry: Entry<'_>) {
    row.push(u8::from(entry.is_answer));
    row.extend(count(entry.value.len()));
    row.extend_from_slice(entry.key);
    row.extend_from_slice(entry.value);
}

/// Returns the records of a row; `None` in place of what was not written by [`push`].
pub(crate) fn entries(row: &[u8]) -> impl Iterator<Item = Option<Entry<'_>>> {
    let mut row = Reader(row);
    core::iter::from_fn(move || {
        if row.0.is_empty() {
            return None;
        }
        let record = row.entry();
        if record.is_none() {
            row = Reader(&[]);
        }
        Some(record)
    })
}

/// Returns the inner id of a key.
pub(crate) fn id(key: &Key) -> [u8; 32] {
    key.last_chunk().map_or([0; 32], |bytes| *bytes)
}

/// Writes the value of an acceptance.
pub(crate) fn accepted(caller: &PublicKey, protection: Protection, origin: &Origin) -> Vec<u8> {
    let mut out = head(caller, protection);
    match origin {
        Origin::Note => out.push(NOTE),
        Origin::Request => out.push(REQUEST),
        Origin::Transfer(id) => {
            out.push(TRANSFER);
            out.extend_from_slice(id.as_bytes());
        }
    }
    out
}

/// Reads an acceptance; `None` when it was not written by [`accepted`].
pub(crate) fn read_accepted(key: &Key, value: &[u8]) -> Option<Record> {
    let mut value = Reader(value);
    let (key, stamp, protection) = value.head(key)?;
    let origin = match value.byte()? {
        NOTE => Origin::Note,
        REQUEST => Origin::Request,
        TRANSFER => Origin::Transfer(str::from_utf8(value.0).ok()?.to_owned()),
        _ => return None,
    };
    Some(Record::Accepted { key, stamp, protection, origin })
}

/// Writes the value of an answer.
pub(crate) fn answered(caller: &PublicKey, protection: Protection, draft: &Draft) -> Vec<u8> {
    let mut out = head(caller, protection);
    out.extend(count(draft.tags.len()));
    for tag in draft.tags.iter() {
        out.extend(count(tag.as_slice().len()));
        for text in tag.as_slice() {
            out.extend(count(text.len()));
            out.extend_from_slice(text.as_bytes());
        }
    }
    out.extend_from_slice(draft.content.as_bytes());
    out
}

/// Reads an answer of a server; `None` when it was not written by [`answered`].
pub(crate) fn read_answered(server: PublicKey, key: &Key, value: &[u8]) -> Option<Record> {
    let mut value = Reader(value);
    let (key, created_at, protection) = value.head(key)?;
    let mut tags = Vec::new();
    for _ in 0..value.count()? {
        let mut texts = Vec::new();
        for _ in 0..value.count()? {
            let length = value.count()?;
            texts.push(str::from_utf8(value.take(length)?).ok()?);
        }
        tags.push(Tag::parse(texts).ok()?);
    }
    let content = str::from_utf8(value.0).ok()?.to_owned();
    let draft = Draft::new(server, created_at, Tags::from_list(tags), content);
    Some(Record::Answered { key, draft, protection })
}

fn head(caller: &PublicKey, protection: Protection) -> Vec<u8> {
    let mut out = caller.to_bytes().to_vec();
    out.push(match protection {
        Protection::Plain => PLAIN,
        Protection::Wrapped(WrapKind::Persistent) => PERSISTENT,
        Protection::Wrapped(WrapKind::Ephemeral) => EPHEMERAL,
    });
    out
}

/// Prints a length; what a server keeps is far below 4 GiB.
fn count(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

/// What is left of a value.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn count(&mut self) -> Option<usize> {
        let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let is_answer = match self.byte()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let length = self.count()?;
        let key = self.take(KEY)?.first_chunk()?;
        Some(Entry { is_answer, key, value: self.take(length)? })
    }

    fn head(&mut self, key: &Key) -> Option<(RequestKey, u64, Protection)> {
        let caller = PublicKey::from_slice(self.take(32)?).ok()?;
        let id = EventId::from_byte_array(*key.last_chunk()?);
        let protection = match self.byte()? {
            PLAIN => Protection::Plain,
            PERSISTENT => Protection::Wrapped(WrapKind::Persistent),
            EPHEMERAL => Protection::Wrapped(WrapKind::Ephemeral),
            _ => return None,
        };
        Some((RequestKey { caller, id }, seconds(key), protection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> PublicKey {
        PublicKey::parse("466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27").unwrap()
    }

    fn all() -> impl Iterator<Item = Protection> {
        let wraps = [WrapKind::Persistent, WrapKind::Ephemeral].map(Protection::Wrapped);
        [Protection::Plain].into_iter().chain(wraps)
    }

    #[test]
    fn what_is_written_is_read() {
        let id = EventId::from_byte_array([7; 32]);
        let request = RequestKey { caller: me(), id };
        for protection in all() {
            for origin in [Origin::Note, Origin::Request, Origin::Transfer("\"\u{e4}\"".to_owned())] {
                let value = accepted(&me(), protection, &origin);
                let record = Record::Accepted { key: request, stamp: 9, protection, origin };
                assert_eq!(read_accepted(&key(9, &id), &value), Some(record));
            }
            let tags = [Tag::public_key(me()), Tag::parse(["a", "", "\u{1f600}"]).unwrap()];
            let draft = Draft::new(me(), 9, Tags::from_list(tags.to_vec()), "{\"x\":\"\u{e4}\"}".to_owned());
            let value = answered(&me(), protection, &draft);
            let record = Record::Answered { key: request, draft, protection };
            assert_eq!(read_answered(me(), &key(9, &id), &value), Some(record));
        }
    }

    #[test]
    fn what_was_cut_short_is_no_record() {
        let id = EventId::from_byte_array([7; 32]);
        let draft = Draft::new(me(), 9, Tags::from_list(vec![Tag::public_key(me())]), String::new());
        let value = answered(&me(), Protection::Plain, &draft);
        for length in 0..value.len() {
            assert_eq!(read_answered(me(), &key(9, &id), &value[..length]), None, "{length}");
        }
        for length in 0..34 {
            let value = accepted(&me(), Protection::Plain, &Origin::Request);
            assert_eq!(read_accepted(&key(9, &id), &value[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_row_holds_what_was_put_into_it_and_says_when_it_is_none() {
        let keys = [1, 2, 3].map(|n| key(n, &EventId::from_byte_array([n as u8; 32])));
        let values = [vec![], vec![7; 10], vec![7; 20]];
        let put: Vec<_> = keys
            .iter()
            .zip(&values)
            .map(|(key, value)| Entry { is_answer: value.len() == 10, key, value })
            .collect();
        let mut row = Vec::new();
        put.iter().for_each(|entry| push(&mut row, *entry));
        assert_eq!(entries(&row).collect::<Option<Vec<_>>>(), Some(put));
        for length in 0..row.len() {
            let read: Option<Vec<_>> = entries(&row[..length]).collect();
            assert_eq!(read.is_some(), [0, 45, 100].contains(&length), "{length}");
        }
    }
}
