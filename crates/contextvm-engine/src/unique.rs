//! Inner ids that never repeat: equal messages of one second get different stamps, then different white space.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use contextvm_core::Draft;
use nostr::event::{EventId, Tags};
use nostr::key::PublicKey;

/// Most ids remembered; the oldest stamps are forgotten first.
const MOST: usize = 65_536;
/// How far into the future an equal message may be stamped, seconds. Far inside every age window.
const FURTHEST: u32 = 60;

/// The ids that went out with a stamp which the clock has not passed yet.
#[derive(Debug, Default)]
pub(crate) struct Unique {
    /// Id, and the first step that was still free when this id was last found taken.
    used: BTreeMap<EventId, u32>,
    by_stamp: BTreeSet<(u64, EventId)>,
}

impl Unique {
    /// Hashes the message under an id that was not used before.
    pub(crate) fn draft(&mut self, author: PublicKey, now: u64, tags: Tags, content: String) -> Draft {
        self.forget_before(now);
        let mut draft = Draft::new(author, now, tags, content);
        let first = draft.id;
        let known = self.used.get(&first).copied();
        if let Some(mut step) = known {
            loop {
                draft = at_step(draft, now, step);
                step = step.saturating_add(1);
                if !self.used.contains_key(&draft.id) || step == u32::MAX {
                    break;
                }
            }
            self.used.insert(first, step);
        }
        self.used.entry(draft.id).or_insert(1);
        self.by_stamp.insert((draft.created_at, draft.id));
        draft
    }

    /// An id can only come again while its stamp is not in the past.
    fn forget_before(&mut self, now: u64) {
        while let Some(&(stamp, id)) = self.by_stamp.first() {
            if stamp >= now && self.by_stamp.len() < MOST {
                break;
            }
            self.by_stamp.remove(&(stamp, id));
            self.used.remove(&id);
        }
    }
}

/// Step n is stamped n seconds later; after the furthest stamp, one blank is added and the stamps start again.
fn at_step(draft: Draft, now: u64, step: u32) -> Draft {
    let Draft { author, tags, mut content, .. } = draft;
    let later = step % (FURTHEST + 1);
    let blanks = step / (FURTHEST + 1);
    let text = content.trim_end_matches(' ').len();
    content.truncate(text);
    content.extend(core::iter::repeat_n(' ', usize::try_from(blanks).unwrap_or(0)));
    Draft::new(author, now.saturating_add(u64::from(later)), tags, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> PublicKey {
        PublicKey::parse("466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27").unwrap()
    }

    #[test]
    fn equal_messages_of_one_second_get_different_ids_close_to_now() {
        let mut unique = Unique::default();
        let mut ids = BTreeSet::new();
        for second in 0..3 {
            for _ in 0..1_000 {
                let draft = unique.draft(me(), 1_000 + second, Tags::new(), String::from("{\"a\":1}"));
                assert!(draft.created_at - (1_000 + second) <= u64::from(FURTHEST));
                assert_eq!(draft.content.trim_end(), "{\"a\":1}");
                assert!(ids.insert(draft.id));
            }
        }
    }

    #[test]
    fn the_second_equal_message_is_one_second_ahead() {
        let mut unique = Unique::default();
        let one = unique.draft(me(), 5, Tags::new(), String::from("{}"));
        let two = unique.draft(me(), 5, Tags::new(), String::from("{}"));
        assert_eq!((one.created_at, two.created_at), (5, 6));
        assert_eq!(one.content, two.content);
    }

    #[test]
    fn ids_whose_second_has_passed_are_forgotten() {
        let mut unique = Unique::default();
        for second in 0..10_000 {
            drop(unique.draft(me(), second, Tags::new(), String::from("{}")));
        }
        assert_eq!(unique.used.len(), 1);
        assert_eq!(unique.by_stamp.len(), 1);
    }
}
