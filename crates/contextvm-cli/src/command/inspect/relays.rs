//! The relays of a server's own list: how each of them answered, and how quick it is.
use std::time::Duration;

use contextvm::announce::{Marker, RelayEntry, ServerEntry};
use contextvm::client::discover::{RELAY_DEADLINE, RelayAnswer, Role};
use contextvm::core::Printable;
use contextvm::relay::{Addresses, Probe};
use futures_util::future::join_all;
use nostr::types::RelayUrl;
use serde_json::{Value, json};

use crate::args::Global;
use crate::finding::told;
use crate::finding::words::millis;

/// One relay of the server's list.
pub(super) struct Listed {
    pub(super) url: String,
    marker: &'static str,
    /// How it answered; `None` when it was not asked.
    pub(super) answer: Option<RelayAnswer>,
    /// How quick it is; `None` when it did not answer, or only the first time.
    times: Option<Times>,
}

/// How quick a relay is.
#[derive(Clone, Copy)]
struct Times {
    connected: Duration,
    /// From a request to its answer over the open connection; `None` when that did not come.
    round_trip: Option<Duration>,
}

/// Finds the answer of every relay of the list, and measures those that answered, all at once and once each. Takes as long as
/// one relay may take in a search.
pub(super) async fn listed(
    entry: Option<&ServerEntry>,
    answers: &[RelayAnswer],
    global: &Global,
) -> Vec<Listed> {
    let list = entry.and_then(ServerEntry::relay_list);
    let entries = list.map(|part| part.document.entries.as_slice()).unwrap_or_default();
    let urls: Vec<Option<RelayUrl>> = entries.iter().map(|relay| RelayUrl::parse(&relay.url).ok()).collect();
    let own = answers.iter().filter(|answer| urls.contains(&Some(answer.url.clone())));
    let times = own.map(|answer| async move { (answer, times(answer, global).await) });
    let measured = join_all(times).await;
    let one = |(relay, url): (&RelayEntry, Option<RelayUrl>)| {
        let known = measured.iter().find(|(answer, _)| url.as_ref() == Some(&answer.url));
        let answer = known.map(|(answer, _)| (*answer).clone());
        let times = known.and_then(|(_, times)| *times);
        Listed { url: relay.url.clone(), marker: marker(&relay.marker), answer, times }
    };
    entries.iter().zip(urls).map(one).collect()
}

const fn marker(marker: &Marker) -> &'static str {
    match marker {
        Marker::Both => "",
        Marker::Read => "read",
        Marker::Write => "write",
        Marker::Other(_) => "other",
    }
}

/// Measures a relay that answered; one that was silent would only cost its deadline once more.
async fn times(answer: &RelayAnswer, global: &Global) -> Option<Times> {
    if !answer.has_answered() {
        return None;
    }
    // A person names the relays of discovery; the others come from strangers.
    let addresses = match answer.role {
        Role::Discovery => Addresses::Any,
        Role::Hint | Role::Listed | _ if global.local_relays => Addresses::Any,
        Role::Hint | Role::Listed | _ => Addresses::Public,
    };
    // It connects in the first step, and asks in the second one.
    let step = global.timeout.unwrap_or(RELAY_DEADLINE) / 2;
    let probe = Probe::new(answer.url.clone()).with_addresses(addresses).with_step(step).passive();
    let report = probe.run().await.ok()?;
    let reached = report.reached.ok()?;
    Some(Times { connected: reached.total(), round_trip: report.request.ok() })
}

impl Listed {
    /// Shows the address, what it is for, and how it answered.
    pub(super) fn row(&self) -> [String; 3] {
        let connected = |times: Times| format!("connected in {} ms", millis(times.connected));
        let how = match &self.answer {
            None => "not asked: not wss:// to a public address, or one too many".to_owned(),
            Some(answer) => match (told::reason(answer), self.times) {
                (None, Some(times)) => match times.round_trip {
                    Some(took) => format!("ok {} ms, {}", millis(took), connected(times)),
                    None => format!("ok once, then silent; {}", connected(times)),
                },
                (None, None) => "ok once, then not reached".to_owned(),
                (Some(why), Some(times)) => format!("{why}   {}", connected(times)),
                (Some(why), None) => why,
            },
        };
        [Printable::short(&self.url, 200).to_string(), self.marker.to_owned(), how]
    }

    pub(super) fn document(&self) -> Value {
        let answer = self.answer.as_ref();
        json!({
            "url": self.url,
            "marker": self.marker,
            "asked": answer.is_some(),
            "answered": answer.is_some_and(RelayAnswer::has_answered),
            "ms": self.times.and_then(|times| times.round_trip).map(millis),
            "connectMs": self.times.map(|times| millis(times.connected)),
            "reason": answer.and_then(told::reason),
        })
    }
}
