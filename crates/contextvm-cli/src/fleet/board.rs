//! What every unit of this process is doing, for whoever asks.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use contextvm::server::ServerStatus;
use serde::Serialize;

/// What a unit is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Its server is being started.
    Starting,
    /// It takes calls.
    Ready,
    /// Its server runs, and no relay listens.
    Degraded,
    /// It ended and is started again after a while.
    Backoff,
    /// It is not started again until its entry changes.
    Failed,
    /// It ended by itself, or its entry says that it is off.
    Stopped,
}

impl State {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// One unit, as it is shown, too.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Unit {
    pub(crate) state: State,
    #[serde(rename = "sinceMs", serialize_with = "elapsed_ms")]
    pub(crate) since: Instant,
    pub(crate) server: String,
    pub(crate) target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
    pub(crate) restarts: usize,
    /// The file that remembers across restarts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<String>,
    /// Records that it failed to keep.
    pub(crate) unstored: u64,
    /// Events that relays sent too fast, and that newer ones pushed out.
    pub(crate) dropped: u64,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
    pub(crate) relays: Vec<Relay>,
}

/// A relay, and whether it listens.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Relay {
    pub(crate) url: String,
    pub(crate) up: bool,
}

fn elapsed_ms<S: serde::Serializer>(since: &Instant, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u64(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// A unit with its name.
#[derive(Serialize)]
pub(crate) struct Named {
    name: String,
    #[serde(flatten)]
    unit: Unit,
}

/// All units; cloning gives another handle to the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<String, Unit>>>);

impl Board {
    /// Adds a unit.
    pub(crate) fn add(&self, name: &str, target: String) {
        let unit = Unit {
            state: State::Starting,
            since: Instant::now(),
            server: String::new(),
            target,
            pid: None,
            restarts: 0,
            store: None,
            unstored: 0,
            dropped: 0,
            why: None,
            relays: Vec::new(),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), unit);
    }

    /// Changes a unit if it is there; says whether its state is another one now.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Unit)) -> bool {
        let mut units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(unit) = units.get_mut(name) else { return false };
        let before = unit.state;
        change(unit);
        let changed = before != unit.state;
        if changed {
            unit.since = Instant::now();
        }
        if unit.state == State::Ready {
            unit.why = None;
        }
        changed
    }

    /// Notes how a server is, and which relays listen for it; one that is ready is degraded without any. Says whether that has
    /// changed.
    pub(crate) fn watched(&self, name: &str, status: ServerStatus) -> bool {
        let listening = status.relays.iter().any(|(_, up)| *up);
        self.change(name, |unit| {
            (unit.unstored, unit.dropped) = (status.stats.unstored, status.dropped);
            unit.relays = status.relays.into_iter().map(|(url, up)| Relay { url, up }).collect();
            if unit.state == State::Ready && !listening {
                unit.state = State::Degraded;
                unit.why = Some("no relay listens".to_owned());
            } else if unit.state == State::Degraded && listening {
                unit.state = State::Ready;
            }
        })
    }

    pub(crate) fn remove(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(crate) fn units(&self) -> Vec<Named> {
        let units = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        units.iter().map(|(name, unit)| Named { name: name.clone(), unit: unit.clone() }).collect()
    }
}
