//! What changed between two lists of tools, in words that a person can judge.
use alloc::string::String;
use alloc::vec::Vec;

use super::{Member, Pin, ToolPins};

/// What changed between two lists of tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolsDiff {
    /// Names of the tools that are new, sorted.
    pub added: Vec<String>,
    /// Names of the tools that are gone, sorted.
    pub removed: Vec<String>,
    /// The tools that are not what they were, sorted by name.
    pub changed: Vec<ToolChange>,
}

impl ToolsDiff {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// A tool that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolChange {
    /// The tool's name.
    pub name: String,
    /// What changed, sorted by member.
    pub members: Vec<MemberChange>,
}

/// A member of a tool that came, went or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The member's name: `description`, `inputSchema` and so on.
    pub member: String,
    /// What it was; `None` when it is new.
    pub before: Option<PinnedText>,
    /// What it is; `None` when it is gone.
    pub after: Option<PinnedText>,
}

/// The canonical JSON text of a member, or the beginning of it. It is foreign text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinnedText {
    /// The text, at most [`MAX_PINNED_TEXT`](super::MAX_PINNED_TEXT) bytes.
    pub text: String,
    /// Whether the text goes on.
    pub cut: bool,
}

impl ToolPins {
    /// Compares these tools with newer ones.
    #[must_use]
    pub fn diff(&self, new: &Self) -> ToolsDiff {
        let missing = |from: &Self, other: &Self| {
            let names = from.tools.keys().filter(|name| !other.tools.contains_key(*name));
            names.cloned().collect()
        };
        let changed = new.tools.iter().filter_map(|(name, pin)| {
            let old = self.tools.get(name).filter(|old| old.hash != pin.hash)?;
            Some(ToolChange { name: name.clone(), members: members(old, pin) })
        });
        ToolsDiff { added: missing(new, self), removed: missing(self, new), changed: changed.collect() }
    }
}

fn members(old: &Pin, new: &Pin) -> Vec<MemberChange> {
    let gone = old.members.keys().filter(|member| !new.members.contains_key(*member));
    let mut changes: Vec<MemberChange> = gone
        .chain(new.members.keys())
        .filter_map(|member| {
            let (before, after) = (old.members.get(member), new.members.get(member));
            let same = before.map(|old| old.hash) == after.map(|new| new.hash);
            let text = |side: Option<&Member>| side.map(|member| member.text.clone());
            (!same).then(|| MemberChange { member: member.clone(), before: text(before), after: text(after) })
        })
        .collect();
    changes.sort_by(|a, b| a.member.cmp(&b.member));
    changes
}
