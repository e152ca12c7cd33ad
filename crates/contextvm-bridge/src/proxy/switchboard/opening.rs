//! How a host's session begins: its `initialize` comes first, and shows whether its messages need translation.
use contextvm_core::envelope::{Envelope, MessageKind};

use super::calls::{Path, renamed};
use super::texts::{modern_params, shows_modern};
use super::{Purpose, Switchboard};

/// What one host may say before its `initialize` is answered: messages, and bytes of those that are no requests.
const HELD: (usize, usize) = (256, 1024 * 1024);

/// An `initialize` that a host waits for.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) own: String,
    pub(super) text: String,
    /// What the server answered, while it is asked whether it can do without.
    pub(super) refusal: Option<String>,
}

impl Switchboard {
    /// Sends a host's `initialize`; what it had before is over.
    pub(super) fn open_session(&mut self, host: u64, own: &str, message: &Envelope<'_>) {
        let state = self.hosts.entry(host).or_default();
        state.opening = Some(Opening { own: own.to_owned(), text: message.text().to_owned(), refusal: None });
        state.uris.clear();
        if state.upgrade.take().is_some() {
            self.stop_listening(host);
        }
        self.send_call(own, Path::Straight, renamed(message, own).to_text());
    }

    /// Keeps a message of a host whose `initialize` is not answered; `false` when there is no such.
    pub(super) fn hold(&mut self, host: u64, own: Option<&str>, message: &Envelope<'_>) -> bool {
        let Some(state) = self.hosts.get_mut(&host).filter(|state| state.opening.is_some()) else {
            return false;
        };
        let others = state.held.iter().filter(|(own, _)| own.is_none());
        let (count, bytes) =
            others.fold((0, message.text().len()), |(n, sum), (_, text)| (n + 1, sum + text.len()));
        // Requests are bounded as all open calls are.
        if own.is_some() || (count < HELD.0 && bytes <= HELD.1) {
            state.held.push((own.map(ToOwned::to_owned), message.text().to_owned()));
        }
        true
    }

    /// A host's `initialize` is over, however it ended.
    pub(super) fn opening_over(&mut self, host: u64, own: &str) {
        let Some(state) = self.hosts.get_mut(&host) else { return };
        state.opening.take_if(|opening| opening.own == own);
        if state.opening.is_none() && !state.held.is_empty() {
            self.resuming.push(host);
        }
    }

    /// Goes on with what hosts said while their `initialize` was open.
    pub(super) fn resume(&mut self) {
        let limits = self.limits.clone();
        while let Some(host) = self.resuming.pop() {
            let Some(state) = self.hosts.get_mut(&host) else { continue };
            for (own, text) in core::mem::take(&mut state.held) {
                let Ok(message) = Envelope::parse(&text, &limits) else { continue };
                match own {
                    Some(own) if self.calls.get(&own).is_some() => self.session_request(host, &own, &message),
                    Some(_) => {}
                    None => self.host_says(host, &message),
                }
            }
        }
    }

    /// A server that refuses `initialize` may be one that does not need it.
    pub(super) fn initialize_answered(&mut self, own: &str, message: &Envelope<'_>) {
        let Some(host) = self.calls.get(own).map(|call| call.host) else { return };
        let opening = self.hosts.get_mut(&host).and_then(|state| state.opening.as_mut());
        if let Some(opening) = opening.filter(|opening| opening.own == own)
            && message.kind == MessageKind::Error
            && shows_modern(message).is_some()
        {
            opening.refusal = Some(message.text().to_owned());
            self.own_request(Purpose::Discover { host }, "server/discover", &modern_params(""));
            return;
        }
        self.answer_host(own, message);
    }
}
