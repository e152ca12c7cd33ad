//! Reviews in the order in which people read them: each followed by its replies.
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use nostr::event::EventId;
use nostr::key::PublicKey;

use super::{Parent, Review};
use crate::FUTURE;

/// Why a comment stands where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A review of the server.
    Review,
    /// A reply to the last comment above it with a smaller depth.
    Reply,
    /// A reply to a comment that lies deeper than shown; the last comment above it with a smaller depth is an ancestor.
    Deeper,
    /// A reply to a comment that is not known; it stands at the top.
    Orphan,
}

/// One comment and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The comment.
    pub review: Review,
    /// How far it is indented; zero at the top.
    pub depth: usize,
    /// Why it stands here.
    pub standing: Standing,
}

/// The comments on one server, in reading order.
///
/// At the top the newest comes first; replies stand below what they answer, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Threads {
    /// The comments.
    pub placed: Vec<Placed>,
    /// Comments on this server that were left out: from the future, or because there were more than [`Threads::MOST`].
    pub left_out: usize,
}

impl Threads {
    /// Most comments; of more, the newest are shown.
    pub const MOST: usize = 500;
    /// Greatest depth; deeper replies stand at it.
    pub const DEEPEST: usize = 8;

    /// Builds the threads about one server, as seen at `unix`. Comments on others, and those that come twice, are passed over;
    /// those stamped more than [`FUTURE`] ahead are left out.
    #[must_use]
    pub fn build(server: &PublicKey, reviews: impl IntoIterator<Item = Review>, unix: u64) -> Self {
        // By time, so that the oldest makes room; the id settles ties.
        let mut known = BTreeMap::new();
        let (mut seen, mut left_out) = (BTreeSet::new(), 0);
        for review in reviews.into_iter().filter(|review| review.server == *server) {
            if !seen.insert(review.id) {
                continue;
            }
            if review.created_at > unix.saturating_add(FUTURE.as_secs()) {
                left_out += 1;
                continue;
            }
            known.insert((review.created_at, review.id), review);
            if known.len() > Self::MOST {
                known.pop_first();
                left_out += 1;
            }
        }
        Self { placed: place(known.into_values().collect()), left_out }
    }
}

/// Sorts comments, the oldest first, into reading order.
fn place(oldest_first: Vec<Review>) -> Vec<Placed> {
    let ids: BTreeSet<EventId> = oldest_first.iter().map(|review| review.id).collect();
    let mut top = Vec::new();
    let mut replies: BTreeMap<EventId, Vec<Review>> = BTreeMap::new();
    for review in oldest_first {
        match review.parent {
            Parent::Comment(parent) if ids.contains(&parent) => {
                replies.entry(parent).or_default().push(review);
            }
            Parent::Announcement => top.push((review, Standing::Review)),
            Parent::Comment(_) | Parent::Unreadable => top.push((review, Standing::Orphan)),
        }
    }
    // What is next to be shown lies at the end.
    let mut waiting: Vec<(Review, usize, Standing)> =
        top.into_iter().map(|(review, standing)| (review, 0, standing)).collect();
    let mut placed = Vec::with_capacity(ids.len());
    while let Some((review, depth, standing)) = waiting.pop() {
        let (below, as_what) = match depth {
            depth if depth < Threads::DEEPEST => (depth + 1, Standing::Reply),
            depth => (depth, Standing::Deeper),
        };
        let answers = replies.remove(&review.id).unwrap_or_default();
        waiting.extend(answers.into_iter().rev().map(|reply| (reply, below, as_what)));
        placed.push(Placed { review, depth, standing });
    }
    placed
}
