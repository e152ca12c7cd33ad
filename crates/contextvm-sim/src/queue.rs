//! What will happen: a queue ordered by time, and by the order of its making where times are equal.
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Something that is due.
#[derive(Debug)]
struct Due<T> {
    at: u64,
    nth: u64,
    what: T,
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.nth) == (other.at, other.nth)
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.nth).cmp(&(self.at, self.nth))
    }
}

/// The queue of a world; its order depends on nothing but what was put in.
#[derive(Debug)]
pub struct Queue<T> {
    heap: BinaryHeap<Due<T>>,
    now: u64,
    made: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), now: 0, made: 0 }
    }
}

impl<T> Queue<T> {
    /// Returns the time of the world, microseconds.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Puts something in, at a time that is not in the past.
    pub fn at(&mut self, at: u64, what: T) {
        self.made += 1;
        self.heap.push(Due { at: at.max(self.now), nth: self.made, what });
    }

    /// Puts something in that happens so many microseconds from now.
    pub fn after(&mut self, wait: u64, what: T) {
        self.at(self.now.saturating_add(wait), what);
    }

    /// Returns when the next thing happens.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|due| due.at)
    }

    /// Takes out the next thing and moves time to it.
    pub fn take(&mut self) -> Option<T> {
        let due = self.heap.pop()?;
        self.now = due.at;
        Some(due.what)
    }

    /// Lets time pass to `at` when nothing happens before it.
    pub fn pass(&mut self, at: u64) {
        self.now = self.now.max(at);
    }

    /// Returns how many things are due.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing will happen any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}
