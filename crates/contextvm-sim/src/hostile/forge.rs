//! What the hostile make: events true and forged, gift wraps of both, and copies with one field changed.
use contextvm_core::{Draft, Protection, WrapKind, event, kind, tags};
use contextvm_crypto::nip44::{ExtendedLength, conversation_key, encrypt};
use contextvm_crypto::{Entropy, Keys, seal};
use nostr::event::{Event, EventId, Kind, Signature, Tag, Tags};
use nostr::key::PublicKey;
use nostr::types::Timestamp;

/// One field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `id`.
    Id,
    /// `pubkey`.
    Author,
    /// `created_at`.
    Stamp,
    /// `kind`.
    Kind,
    /// `tags`.
    Tags,
    /// `content`.
    Content,
    /// `sig`.
    Signature,
}

/// A source of keys, signatures and forgeries; the same seed makes the same ones.
#[derive(Clone, Debug)]
pub struct Forge(pub fastrand::Rng);

impl Forge {
    /// Makes a forge.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Makes random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }

    /// Makes a key.
    pub fn keys(&mut self) -> Keys {
        loop {
            if let Ok(keys) = Keys::from_entropy(self.bytes()) {
                return keys;
            }
        }
    }

    /// Signs a message to `to`, with further tags behind the first.
    pub fn message(
        &mut self,
        author: &Keys,
        to: &PublicKey,
        unix: u64,
        more: impl IntoIterator<Item = Tag>,
        content: impl Into<String>,
    ) -> Event {
        let mut list = vec![tags::recipient(to)];
        list.extend(more);
        self.message_with(author, unix, list, content)
    }

    /// Signs a message with exactly these tags.
    pub fn message_with(
        &mut self,
        author: &Keys,
        unix: u64,
        list: Vec<Tag>,
        content: impl Into<String>,
    ) -> Event {
        let draft = Draft::new(author.public_key(), unix, Tags::from_list(list), content.into());
        author.sign_draft(&draft, self.bytes())
    }

    /// Puts an event, true or not, on its way; what cannot be sealed goes nowhere.
    pub fn protect(
        &mut self,
        inner: &Event,
        to: &PublicKey,
        protection: Protection,
        unix: u64,
    ) -> Option<Event> {
        match protection {
            Protection::Plain => Some(inner.clone()),
            Protection::Wrapped(wrap) => seal(inner, to, wrap, unix, &Entropy::from_bytes(self.bytes())).ok(),
        }
    }

    /// Draws a way to travel.
    pub fn protection(&mut self) -> Protection {
        match self.0.u8(..4) {
            0 => Protection::Plain,
            1 => Protection::Wrapped(WrapKind::Persistent),
            _ => Protection::Wrapped(WrapKind::Ephemeral),
        }
    }

    /// Makes a gift wrap whose own signature is true and whose content is rubbish of several kinds.
    pub fn rubbish(&mut self, to: &PublicKey, unix: u64) -> Event {
        let one_time = self.keys();
        let content = self.rubbish_content(&one_time, to);
        let wrap = if self.0.bool() { kind::GIFT_WRAP } else { kind::EPHEMERAL_GIFT_WRAP };
        let list = Tags::from_list(vec![tags::recipient(to)]);
        one_time.sign_event(wrap, unix, list, content, self.bytes())
    }

    fn rubbish_content(&mut self, one_time: &Keys, to: &PublicKey) -> String {
        let mut plaintext = match self.0.u8(..4) {
            0 => return (0..self.0.usize(..400)).map(|_| self.0.alphanumeric()).collect(),
            1 => r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.to_owned(),
            2 => {
                r#"{"id":"00","pubkey":"00","created_at":-1,"kind":25910,"tags":[[]],"content":7,"sig":null}"#
                    .to_owned()
            }
            _ => "[".repeat(self.0.usize(1..200)),
        };
        plaintext.push(' ');
        let sealed = conversation_key(one_time, to)
            .ok()
            .and_then(|key| encrypt(&key, plaintext.as_bytes(), &self.bytes(), ExtendedLength::Refuse).ok());
        let mut content = sealed.unwrap_or_default();
        // Half of them do not authenticate, the others open to what is no event.
        if self.0.bool() {
            let cut = content.len().saturating_sub(8);
            content.truncate(cut);
            content.push_str("AAAAAAA=");
        }
        content
    }

    /// Signs nothing: an event that claims to be `author`'s, under its true id and with a made-up signature.
    pub fn forged(&mut self, author: &PublicKey, to: &PublicKey, unix: u64, content: &str) -> Event {
        let list = Tags::from_list(vec![tags::recipient(to)]);
        let draft = Draft::new(*author, unix, list, content.to_owned());
        Event::new(
            draft.id,
            draft.author,
            Timestamp::from_secs(unix),
            Kind::from_u16(kind::MESSAGE),
            draft.tags,
            draft.content,
            Signature::from_byte_array(self.bytes()),
        )
    }

    /// Returns a copy with one field changed. With `rehash` the id fits the copy, so that only the signature is wrong.
    pub fn altered(&mut self, event: &Event, field: Field, rehash: bool) -> Event {
        let mut copy = event.clone();
        match field {
            Field::Id => copy.id = EventId::from_byte_array(self.flipped(*event.id.as_bytes())),
            Field::Author => copy.pubkey = self.keys().public_key(),
            Field::Stamp => {
                let shift = self.0.u64(1..4_000);
                copy.created_at = Timestamp::from_secs(event.created_at.as_secs().saturating_sub(shift));
            }
            Field::Kind => {
                let other = match event.kind.as_u16() {
                    kind::GIFT_WRAP => kind::EPHEMERAL_GIFT_WRAP,
                    kind::EPHEMERAL_GIFT_WRAP => kind::GIFT_WRAP,
                    _ => kind::MESSAGE.saturating_sub(1),
                };
                copy.kind = Kind::from_u16(other);
            }
            Field::Tags => {
                let mut list: Vec<Tag> = event.tags.iter().cloned().collect();
                list.push(tags::answered(&EventId::from_byte_array(self.bytes())));
                copy.tags = Tags::from_list(list);
            }
            Field::Content => {
                copy.content = event.content.replacen(['1', 'a', 'A'], "b", 1);
                copy.content.push(' ');
            }
            Field::Signature => copy.sig = Signature::from_byte_array(self.flipped(*event.sig.as_bytes())),
        }
        if rehash && field != Field::Id {
            copy.id = event::id_of(&copy.pubkey, copy.created_at, copy.kind, &copy.tags, &copy.content);
        }
        copy
    }

    fn flipped<const N: usize>(&mut self, mut bytes: [u8; N]) -> [u8; N] {
        let at = self.0.usize(..N.max(1));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << self.0.u8(..8);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contextvm_core::{Limits, size};
    use contextvm_crypto::nip44::{Nip44Error, decrypt};
    use contextvm_crypto::{open, open_plain};

    const NOW: u64 = 1_700_000_000;
    const FIELDS: [Field; 7] =
        [Field::Id, Field::Author, Field::Stamp, Field::Kind, Field::Tags, Field::Content, Field::Signature];

    #[test]
    fn a_message_is_true_and_nothing_that_was_altered_is() {
        let mut forge = Forge::new(1);
        let (author, server) = (forge.keys(), forge.keys());
        let me = server.public_key();
        let event = forge.message(&author, &me, NOW, [], "{}");
        assert!(open_plain(event.clone(), &me, NOW, &Limits::default()).is_ok());
        for field in FIELDS {
            for rehash in [false, true] {
                let copy = forge.altered(&event, field, rehash);
                assert_ne!(copy, event);
                assert!(open_plain(copy, &me, NOW, &Limits::default()).is_err(), "{field:?}");
            }
        }
    }

    #[test]
    fn a_gift_wrap_opens_and_neither_its_alterations_nor_rubbish_do() {
        let mut forge = Forge::new(2);
        let (author, server) = (forge.keys(), forge.keys());
        let me = server.public_key();
        let inner = forge.message(&author, &me, NOW, [], "{}");
        let wrapped = Protection::Wrapped(WrapKind::Ephemeral);
        let wrap = forge.protect(&inner, &me, wrapped, NOW).unwrap();
        assert_eq!(open(&wrap, &server, NOW, &Limits::default()).unwrap().event(), &inner);
        // The stamp, the kind and the tags of an envelope are its id, and that the gate checks.
        for field in [Field::Content, Field::Author] {
            let copy = forge.altered(&wrap, field, true);
            assert!(open(&copy, &server, NOW, &Limits::default()).is_err(), "{field:?}");
        }
        for _ in 0..50 {
            let rubbish = forge.rubbish(&me, NOW);
            assert!(event::is_id_true(&rubbish));
            assert!(open(&rubbish, &server, NOW, &Limits::default()).is_err());
        }
    }

    /// So it is with curves and ciphers, and so with what stands for them.
    #[test]
    fn a_payload_is_as_long_as_it_should_be_and_whatever_is_wrong_with_it_has_its_name() {
        let mut forge = Forge::new(4);
        let (author, server, other) = (forge.keys(), forge.keys(), forge.keys());
        let (mine, theirs) = (conversation_key(&author, &server.public_key()), author.public_key());
        let (mine, theirs) = (mine.unwrap(), conversation_key(&server, &theirs).unwrap());
        let foreign = conversation_key(&other, &author.public_key()).unwrap();
        for length in [1, 32, 33, 256, 257, 40_000, 65_535, 65_536, 70_000] {
            let text = vec![b'x'; length];
            let sealed = encrypt(&mine, &text, &forge.bytes(), ExtendedLength::Allow).unwrap();
            let prefix = if length < 65_536 { 2 } else { 6 };
            assert_eq!(sealed.len(), (65 + prefix + size::padded_len(length)).div_ceil(3) * 4, "{length}");
            assert!(!sealed.contains("eHh4eHh4"), "the text is not to be read");
            assert_eq!(decrypt(&theirs, &sealed, usize::MAX), Ok(text));
            assert_eq!(decrypt(&foreign, &sealed, usize::MAX), Err(Nip44Error::Mac));
            for place in [3, 44, 60, sealed.len() / 2, sealed.len() - 5] {
                let mut damaged = sealed.clone().into_bytes();
                damaged[place] = if damaged[place] == b'A' { b'B' } else { b'A' };
                let damaged = String::from_utf8(damaged).unwrap();
                assert_eq!(decrypt(&theirs, &damaged, usize::MAX), Err(Nip44Error::Mac), "{place}");
            }
            let other = format!("B{}", &sealed[1..]);
            assert_eq!(decrypt(&theirs, &other, usize::MAX), Err(Nip44Error::Version(6)));
            let cut = &sealed[..sealed.len() - 4];
            assert!(
                decrypt(&theirs, cut, usize::MAX).is_err_and(|error| !matches!(error, Nip44Error::Padding))
            );
        }
    }

    #[test]
    fn a_forged_message_has_a_true_id_and_is_not_believed() {
        let mut forge = Forge::new(3);
        let (victim, server) = (forge.keys(), forge.keys());
        let event = forge.forged(&victim.public_key(), &server.public_key(), NOW, "{}");
        assert!(event::is_id_true(&event));
        assert!(open_plain(event, &server.public_key(), NOW, &Limits::default()).is_err());
    }
}
