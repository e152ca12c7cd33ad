//! When relays were away, and how long it took to be served again once they were back.
use std::time::{Duration, Instant};

/// One relay that was killed and came back.
#[derive(Clone, Copy, Debug)]
struct Outage {
    down: Instant,
    back: Option<Instant>,
}

/// All outages, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outages(Vec<Outage>);

impl Outages {
    pub(crate) fn down(&mut self, now: Instant) {
        self.0.push(Outage { down: now, back: None });
    }

    pub(crate) fn back(&mut self, now: Instant) {
        if let Some(last) = self.0.last_mut() {
            last.back = Some(now);
        }
    }

    /// How long after the relay was back a call ended that met an outage; `None` where it met none or did not need the relay.
    ///
    /// A call that met several counts from the first: it should have ended before the second.
    pub(crate) fn recovery(&self, begun: Instant, ended: Instant) -> Option<Duration> {
        let first = self.0.partition_point(|outage| outage.back.is_some_and(|back| back <= begun));
        let Outage { down, back } = *self.0.get(first)?;
        if ended < down { None } else { ended.checked_duration_since(back?) }
    }
}
