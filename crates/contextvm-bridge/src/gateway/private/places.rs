//! How many backends may run, and which of them makes room.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long a newcomer waits for a backend that was told to end.
const MOVING: Duration = Duration::from_secs(5);

/// All places for backends.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// Backends that may go, in the order in which they make room; those with open work of a caller are not here.
    resting: BTreeMap<Rest, CancellationToken>,
}

/// What makes room first: a guest, then the backend that is idle for the longest time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rest {
    is_tenant: bool,
    since: Instant,
    number: u64,
}

/// A place that a backend has. Dropping it makes it free.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    is_guest: bool,
    rest: Option<Rest>,
    leave: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(most)), taken: Mutex::default() })
    }

    /// Takes a place for a backend with open work, at the cost of the one that is idle for the longest time if need be;
    /// `None` when all have open work.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Place> {
        let free = Arc::clone(&self.free);
        let permit = match Arc::clone(&free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let (_rest, leave) = self.taken().resting.pop_first()?;
                leave.cancel();
                tokio::time::timeout(MOVING, free.acquire_owned()).await.ok()?.ok()?
            }
        };
        Some(self.place(permit, false))
    }

    /// Takes a place that is free, for a backend that costs nobody else one: while it rests it is the first to make room.
    pub(super) fn take_free(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(self.place(permit, true))
    }

    fn place(self: &Arc<Self>, permit: OwnedSemaphorePermit, is_guest: bool) -> Place {
        let mut taken = self.taken();
        taken.next += 1;
        let number = taken.next;
        drop(taken);
        let leave = CancellationToken::new();
        Place { places: Arc::clone(self), number, is_guest, rest: None, leave, _permit: permit }
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        // What is inside is consistent at every moment.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Notes that the backend has open work; `false` when it was already told to leave.
    pub(super) fn work(&mut self) -> bool {
        match self.rest.take() {
            Some(rest) => self.places.taken().resting.remove(&rest).is_some(),
            None => !self.leave.is_cancelled(),
        }
    }

    /// Notes that the backend may go, unless that is known.
    pub(super) fn rest(&mut self, now: Instant) {
        if self.rest.is_none() && !self.leave.is_cancelled() {
            let rest = Rest { is_tenant: !self.is_guest, since: now, number: self.number };
            self.rest = Some(rest);
            self.places.taken().resting.insert(rest, self.leave.clone());
        }
    }

    /// Since when the backend may go.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.rest.map(|rest| rest.since)
    }

    /// Waits until the backend must make room for another.
    pub(super) async fn told_to_leave(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_idle_makes_room_and_none_at_work_ever_does() {
        let places = Places::new(2);
        let (mut one, mut two) = (places.take().await.unwrap(), places.take().await.unwrap());
        assert!(places.take().await.is_none());
        let now = Instant::now();
        one.rest(now + Duration::from_secs(1));
        two.rest(now);
        let moving = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await.is_some() }
        });
        two.told_to_leave().await;
        assert!(!two.work(), "it must not begin what it cannot end");
        assert!(one.work());
        drop(two);
        assert!(moving.await.unwrap());
    }

    #[tokio::test]
    async fn a_place_is_free_again_once_dropped() {
        let places = Places::new(1);
        for _ in 0..3 {
            let mut place = places.take().await.unwrap();
            place.rest(Instant::now());
        }
        assert!(places.taken().resting.is_empty());
    }

    #[tokio::test]
    async fn a_guest_takes_no_place_from_anybody_and_is_the_first_to_make_room() {
        let places = Places::new(2);
        let now = Instant::now();
        let mut tenant = places.take().await.unwrap();
        tenant.rest(now);
        let mut guest = places.take_free().unwrap();
        assert!(places.take_free().is_none(), "an idle tenant is left alone");
        guest.rest(now + Duration::from_secs(1));
        let moving = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await.is_some() }
        });
        guest.told_to_leave().await;
        drop(guest);
        assert!(moving.await.unwrap());
        assert!(tenant.work(), "although it rests for longer");
    }
}
