//! What a server's tools were when somebody last agreed to them, so that a change is seen and not taken silently.
//!
//! A pin covers the *whole* tool, title and description included: they are what a model acts on.
mod diff;
mod file;

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt::{self, Write};

use contextvm_core::{Fault, ScanError};
use serde_json::value::RawValue;

pub use self::diff::{MemberChange, PinnedText, ToolChange, ToolsDiff};
use crate::json::{self, Tree};

/// Most bytes of one member's text that are kept, to be shown when it changes.
pub const MAX_PINNED_TEXT: usize = 4 * 1024;
/// Most bytes of text that are kept of one list; members beyond it are kept as hashes.
const MAX_TEXTS: usize = 1024 * 1024;
/// Most bytes that the pins of one list may print.
const MAX_PINS: usize = 8 * 1024 * 1024;
/// What a tool or a member costs in print beside its name and text, bytes.
const OVERHEAD: usize = 256;

/// The hash of one tool or of a list of tools: SHA-256 of the canonical form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinHash([u8; 32]);

impl PinHash {
    fn of(text: &str) -> Self {
        Self(json::sha256(text))
    }
}

impl fmt::Display for PinHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        json::print_hex(&self.0, out)
    }
}

impl fmt::Debug for PinHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        json::print_hex(&self.0, out)
    }
}

/// Why tools cannot be pinned, or pins not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The value is not an object with a name.
    #[error("not a tool with a name")]
    NotATool,
    /// Two tools have one name, so that nobody knows which of them is called.
    #[error("two tools have one name")]
    Twice {
        /// The name.
        name: String,
    },
    /// There is too much to remember.
    #[error("pins of more than {limit} bytes")]
    TooLarge {
        /// Most that the pins may print, bytes.
        limit: usize,
    },
    /// The text costs too much or reads two ways.
    #[error(transparent)]
    Text(#[from] ScanError),
    /// The pins were printed in another format.
    #[error("pins of format {found}")]
    Version {
        /// The number of that format.
        found: u64,
    },
    /// The text is not what was printed.
    #[error("damaged pins")]
    Damaged,
}

impl PinError {
    /// Says who misbehaved: the server that listed the tools, or this host where the pins were kept.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Version { .. } | Self::Damaged => Fault::Local,
            Self::NotATool | Self::Twice { .. } | Self::TooLarge { .. } | Self::Text(_) => Fault::Peer,
        }
    }
}

/// The tools of one server, each with its hash and the beginnings of its members.
///
/// The order of the list does not count. Worst case: 8 MiB in print, of which 1 MiB is text of members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolPins {
    tools: BTreeMap<String, Pin>,
}

/// One tool.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pin {
    hash: PinHash,
    members: BTreeMap<String, Member>,
}

/// One member of a tool: its canonical text, or the beginning of it, and the hash of all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    hash: PinHash,
    text: PinnedText,
}

impl ToolPins {
    /// Pins tools, for instance those of all pages of a list.
    ///
    /// # Errors
    /// Refuses what is no tool, two tools of one name, a tool of more than 256 KiB, text that reads two ways, and pins that
    /// would print more than 8 MiB.
    pub fn of<'a>(tools: impl IntoIterator<Item = &'a RawValue>) -> Result<Self, PinError> {
        let mut pins = Self::default();
        let mut budget = Budget { print: MAX_PINS, texts: MAX_TEXTS };
        for tool in tools {
            let Tree::Object(members) = Tree::read_plain(tool.get())? else { return Err(PinError::NotATool) };
            let Some(Tree::String(name)) = members.get("name") else { return Err(PinError::NotATool) };
            let name = name.clone();
            budget.spend(&name, 0)?;
            let mut pinned = BTreeMap::new();
            for (key, value) in &members {
                let text = value.canonical()?;
                let kept = budget.keep(key, &text)?;
                pinned.insert(key.clone(), Member { hash: PinHash::of(&text), text: kept });
            }
            let hash = PinHash::of(&Tree::Object(members).canonical()?);
            if pins.tools.contains_key(&name) {
                return Err(PinError::Twice { name });
            }
            pins.tools.insert(name, Pin { hash, members: pinned });
        }
        Ok(pins)
    }

    /// Returns the hash of the whole list.
    #[must_use]
    pub fn list_hash(&self) -> PinHash {
        let mut text = String::with_capacity(self.tools.len() * 65);
        for pin in self.tools.values() {
            // A name is part of its tool, and a `String` takes everything.
            _ = writeln!(text, "{}", pin.hash);
        }
        PinHash::of(&text)
    }

    /// Lists the tools by name, each with the hash of all of it.
    pub fn tools(&self) -> impl Iterator<Item = (&str, PinHash)> {
        self.tools.iter().map(|(name, pin)| (name.as_str(), pin.hash))
    }

    /// Returns the hash of a tool.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<PinHash> {
        self.tools.get(name).map(|pin| pin.hash)
    }
}

/// What may still be remembered, bytes.
struct Budget {
    print: usize,
    texts: usize,
}

impl Budget {
    /// Counts a name and a text in their longest print: six bytes for a control character, two for a quote in JSON text.
    fn spend(&mut self, name: &str, text: usize) -> Result<(), PinError> {
        let cost = OVERHEAD + 6 * name.len() + 2 * text;
        self.print = self.print.checked_sub(cost).ok_or(PinError::TooLarge { limit: MAX_PINS })?;
        Ok(())
    }

    /// Returns what is kept of a text.
    fn keep(&mut self, name: &str, text: &str) -> Result<PinnedText, PinError> {
        let end = text.floor_char_boundary(MAX_PINNED_TEXT.min(self.texts));
        let kept = text.get(..end).unwrap_or_default();
        self.texts -= end;
        self.spend(name, end)?;
        Ok(PinnedText { text: kept.into(), cut: end < text.len() })
    }
}
