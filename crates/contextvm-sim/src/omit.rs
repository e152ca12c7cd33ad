//! What is left out of a world so that the same seed shows its fault with less around it.
use std::collections::BTreeSet;

use crate::trace::{Call, Host};

/// Parts of a world that do not happen. Leaving something out changes no other draw of the seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Omit {
    /// Calls that are not issued.
    pub calls: BTreeSet<u64>,
    /// Faults and other planned events (restarts, partitions, crashes, jumps), by their number in the plan.
    pub events: BTreeSet<u64>,
    /// Hosts that stay away.
    pub hosts: BTreeSet<Host>,
    /// Knobs that are set to their harmless value, by name.
    pub knobs: BTreeSet<String>,
}

impl Omit {
    /// Whether a call is not issued.
    #[must_use]
    pub fn call(&self, call: Call) -> bool {
        self.calls.contains(&call.0)
    }

    /// Whether a planned event does not happen.
    #[must_use]
    pub fn event(&self, number: u64) -> bool {
        self.events.contains(&number)
    }

    /// Whether a host stays away.
    #[must_use]
    pub fn host(&self, host: Host) -> bool {
        self.hosts.contains(&host)
    }

    /// Whether a knob has its harmless value.
    #[must_use]
    pub fn knob(&self, name: &str) -> bool {
        self.knobs.contains(name)
    }

    /// Returns how much is left out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len() + self.events.len() + self.hosts.len() + self.knobs.len()
    }

    /// Whether nothing is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
