//! What will happen: a queue ordered by time, and by the order of its making where times are equal.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The queue of a world; its order depends on nothing but what was put in.
#[derive(Debug)]
pub struct Queue<T> {
    /// When, in which order, and where: what is due lies elsewhere, so that little is moved.
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    things: Vec<Option<T>>,
    free: Vec<usize>,
    now: u64,
    made: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), things: Vec::new(), free: Vec::new(), now: 0, made: 0 }
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
        let place = self.free.pop().unwrap_or(self.things.len());
        match self.things.get_mut(place) {
            Some(empty) => *empty = Some(what),
            None => self.things.push(Some(what)),
        }
        self.heap.push(Reverse((at.max(self.now), self.made, place)));
    }

    /// Puts something in that happens so many microseconds from now.
    pub fn after(&mut self, wait: u64, what: T) {
        self.at(self.now.saturating_add(wait), what);
    }

    /// Returns when the next thing happens.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes out the next thing and moves time to it.
    pub fn take(&mut self) -> Option<T> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.now = at;
        self.free.push(place);
        self.things.get_mut(place)?.take()
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
