//! Names that look like another server's name, and names as they may be shown (T72, UTS 39).
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use contextvm_core::Printable;
use nostr::key::PublicKey;
use unicode_normalization::UnicodeNormalization;

/// Most characters of a name that are shown: 64.
pub const NAME_CHARS: usize = 64;

/// Returns a name as it may be shown: NFC, without what is invisible or reorders, whitespace as single spaces, at most
/// [`NAME_CHARS`] characters. It may be empty; the key stands beside it always.
#[must_use]
pub fn shown_name(name: &str) -> String {
    // Bytes are bounded first: a character may take a thousand marks to itself.
    let visible = name.chars().take(16 * NAME_CHARS).filter(|c| !is_invisible(*c));
    let mut shown = String::new();
    let mut count = 0;
    let mut space = false;
    for c in visible.nfc() {
        if c.is_whitespace() {
            space = count > 0;
            continue;
        }
        if count + usize::from(space) >= NAME_CHARS {
            break;
        }
        if core::mem::take(&mut space) {
            shown.push(' ');
            count += 1;
        }
        shown.push(c);
        count += 1;
    }
    shown
}

/// Returns what names that look alike have in common: the confusable skeleton of UTS 39 of the shown name, in lowercase and
/// without whitespace.
#[must_use]
pub fn skeleton(name: &str) -> String {
    folded(&shown_name(name))
}

/// A known name that another key's name looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookalike<'a> {
    /// Whose name it is.
    pub key: &'a PublicKey,
    /// The known name, as it is shown.
    pub name: &'a str,
    /// Whether the names are the same to the last character, so that no look could tell them apart.
    pub same: bool,
}

/// Known names, to compare others with.
#[derive(Clone, Debug, Default)]
pub struct Lookalikes {
    /// By form and name: the first two keys that have it, of which one is another's.
    known: BTreeMap<(String, String), (PublicKey, Option<PublicKey>)>,
    names: usize,
}

impl Lookalikes {
    /// Most names that are known: 16,384; some 4 MiB, at worst 24.
    pub const NAMES: usize = 16_384;

    /// Adds a known name; one that shows nothing, or goes beyond [`NAMES`](Self::NAMES), has no effect.
    pub fn know(&mut self, key: PublicKey, name: &str) {
        let shown = shown_name(name);
        if shown.is_empty() || self.names >= Self::NAMES {
            return;
        }
        self.names += 1;
        for form in forms(&shown) {
            let (first, second) = self.known.entry((form, shown.clone())).or_insert((key, None));
            if *first != key {
                second.get_or_insert(key);
            }
        }
    }

    /// Returns a known name of another key that this name looks like; one that is the same comes first.
    #[must_use]
    pub fn of(&self, key: &PublicKey, name: &str) -> Option<Lookalike<'_>> {
        let shown = shown_name(name);
        let forms = forms(&shown);
        let same = forms.iter().filter_map(|form| self.known.get_key_value(&(form.clone(), shown.clone())));
        let alike = forms.iter().flat_map(|form| {
            let from = self.known.range((form.clone(), String::new())..);
            from.take_while(move |((known, _), _)| known == form)
        });
        same.chain(alike).find_map(|((_, name), (first, second))| {
            let key = core::iter::once(first).chain(second).find(|known| *known != key)?;
            Some(Lookalike { key, name, same: *name == shown })
        })
    }
}

/// The two keys of a name: letters that look alike in the case they have, and in lowercase.
fn forms(shown: &str) -> Vec<String> {
    let mut forms = alloc::vec![folded(shown), folded(&shown.to_lowercase())];
    forms.dedup();
    forms
}

fn folded(name: &str) -> String {
    // One character may look like eighteen.
    let skeleton: String = unicode_security::skeleton(name).take(4 * NAME_CHARS).collect();
    skeleton.chars().flat_map(char::to_lowercase).filter(|c| !c.is_whitespace()).collect()
}

/// Whether a character shows nothing of its own: what would be escaped, and what is ignorable by default, which is exactly what
/// a skeleton leaves out.
fn is_invisible(c: char) -> bool {
    if c.is_whitespace() || matches!(c, ' '..='~') {
        return false;
    }
    let mut bytes = [0; 4];
    let text = c.encode_utf8(&mut bytes);
    Printable(text).to_string().starts_with('\\') || unicode_security::skeleton(text).next().is_none()
}
