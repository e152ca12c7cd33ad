//! The line between a local caller and the application: the part that relays and the machine have for everybody else.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contextvm_core::envelope::{self, Envelope, MessageKind};
use contextvm_core::object::{self, Object, quote};
use contextvm_core::rewrite::{self, CLIENT_PUBKEY, PROGRESS_TOKEN, REQUEST_EVENT_ID, Rewrite};
use contextvm_core::{Limits, PeerTags};
use contextvm_engine::ServerConfig;
use contextvm_engine::server::{Delivery, RequestKey};
use contextvm_runtime::{Counters, StartError};
use nostr::event::EventId;
use nostr::key::PublicKey;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::LocalError;
use super::heard::Heard;
use crate::answer;
use crate::session::{Inbound, Letter};

/// Longest error message that is kept, characters.
const MESSAGE: usize = 1_000;

type Outcome = Result<Box<RawValue>, LocalError>;

/// One session between a local caller and the application.
#[derive(Debug)]
pub(crate) struct Line {
    caller: PublicKey,
    /// Random; ids are made of it by counting.
    base: [u8; 32],
    limits: Limits,
    inject_client_pubkey: bool,
    inject_request_event_id: bool,
    tags: Arc<PeerTags>,
    state: Mutex<State>,
    heard: Heard,
    over: CancellationToken,
    counters: Counters,
}

#[derive(Debug)]
struct State {
    next: u64,
    open: BTreeMap<EventId, Open>,
    /// Absent once the session is over.
    to_application: Option<mpsc::Sender<Letter>>,
}

/// A request that the application works on.
#[derive(Debug)]
struct Open {
    tell: oneshot::Sender<Outcome>,
    /// The progress token as it was given.
    token: Option<String>,
}

/// Limits for what our own process says: form counts, cost does not.
pub(super) fn own_limits(limits: &Limits) -> Limits {
    Limits { json_nodes: usize::MAX, ..limits.clone() }
}

impl Line {
    /// Makes a line of a new caller, whose secret key is forgotten at once.
    pub(crate) fn new(
        config: &ServerConfig,
        to_application: mpsc::Sender<Letter>,
        counters: Counters,
    ) -> Result<Arc<Self>, StartError> {
        Ok(Arc::new(Self {
            caller: contextvm_runtime::new_keys()?.public_key(),
            base: contextvm_runtime::random()?,
            limits: own_limits(&config.limits),
            inject_client_pubkey: config.inject_client_pubkey,
            inject_request_event_id: config.inject_request_event_id,
            tags: Arc::default(),
            state: Mutex::new(State { next: 0, open: BTreeMap::new(), to_application: Some(to_application) }),
            heard: Heard::default(),
            over: CancellationToken::new(),
            counters,
        }))
    }

    pub(crate) const fn caller(&self) -> PublicKey {
        self.caller
    }

    pub(super) const fn heard(&self) -> &Heard {
        &self.heard
    }

    pub(super) async fn closed(&self) {
        self.over.cancelled().await;
    }

    /// Ends the session for both sides. The application still reads what waits for it.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.to_application = None;
        let open = core::mem::take(&mut state.open);
        drop(state);
        for request in open.into_values() {
            // Whoever asked may have gone.
            let _gone = request.tell.send(Err(LocalError::Closed));
        }
        self.heard.end();
        self.over.cancel();
    }

    /// Sends a request to the application.
    pub(super) fn ask(
        self: &Arc<Self>,
        method: &str,
        params: Option<&RawValue>,
    ) -> Result<Asked, LocalError> {
        let mut state = self.state();
        if state.open.len() >= self.limits.in_flight_per_caller {
            return Err(LocalError::Busy);
        }
        state.next = state.next.wrapping_add(1);
        let id = self.id(state.next);
        let (message, token) = self.words(id, method, params)?;
        let key = RequestKey { caller: self.caller, id };
        self.pass(&state, Delivery::Request { key, method: method.to_owned(), streams: false }, message)?;
        let (tell, answer) = oneshot::channel();
        state.open.insert(id, Open { tell, token });
        Ok(Asked { line: Arc::clone(self), id, answer })
    }

    /// Prints a request as the machine would deliver it, and returns the progress token that was given.
    fn words(
        &self,
        id: EventId,
        method: &str,
        params: Option<&RawValue>,
    ) -> Result<(String, Option<String>), LocalError> {
        let hex = quote(&id.to_hex());
        let json_id = serde_json::from_str::<&RawValue>(&hex).map_err(|_| LocalError::Invalid)?;
        let plain = envelope::request(json_id, method, params);
        let message = Envelope::parse(&plain, &self.limits).map_err(|_| LocalError::Invalid)?;
        let token = message.progress_token().map(|token| token.get().to_owned());
        if token.is_none() && !self.inject_client_pubkey && !self.inject_request_event_id {
            return Ok((plain, None));
        }
        let mut edit = Rewrite::of(&message);
        if token.is_some() {
            edit = edit.meta(PROGRESS_TOKEN, hex.as_str());
        }
        if self.inject_request_event_id {
            edit = edit.meta(REQUEST_EVENT_ID, hex.as_str());
        }
        if self.inject_client_pubkey {
            edit = edit.meta(CLIENT_PUBKEY, quote(&self.caller.to_hex()));
        }
        Ok((edit.to_text(), token))
    }

    /// Sends a notification to the application.
    pub(super) fn notify(&self, method: &str, message: String) -> Result<(), LocalError> {
        self.pass(&self.state(), Delivery::Notification { method: method.to_owned() }, message)
    }

    /// Takes a message that the application sends to this caller.
    pub(crate) fn take(&self, text: &str) {
        let message = match Envelope::parse(text, &self.limits) {
            Ok(message) => message,
            Err(_) => return self.rescue(text),
        };
        match message.kind {
            MessageKind::Response | MessageKind::Error => {
                let asked = message.id.and_then(event_id).and_then(|id| self.state().open.remove(&id));
                if let Some(asked) = asked {
                    let _gone = asked.tell.send(outcome(&message));
                }
            }
            MessageKind::Request => self.refuse(&message),
            MessageKind::Notification if message.method.as_deref() == Some("notifications/cancelled") => {
                let id = rewrite::cancelled_request_id(message.params).and_then(event_id);
                if let Some(asked) = id.and_then(|id| self.state().open.remove(&id)) {
                    let _gone = asked.tell.send(Err(LocalError::Cancelled));
                }
            }
            MessageKind::Notification => {
                self.cast(&message);
            }
        }
    }

    /// Passes on a notification that this caller may hear. Says whether it belongs to one of its requests.
    pub(super) fn cast(&self, message: &Envelope<'_>) -> bool {
        let method = message.method.as_deref().unwrap_or_default();
        let (text, is_own) = if method == "notifications/progress" {
            let id = rewrite::notified_token(message.params).and_then(event_id);
            let state = self.state();
            let token = id.and_then(|id| state.open.get(&id)).and_then(|open| open.token.as_deref());
            let Some(token) = token else { return false };
            (rewrite::with_notified_token(message, token), true)
        } else {
            let subscription = rewrite::subscription_id(message.params).and_then(event_id);
            if subscription.is_some_and(|id| !self.state().open.contains_key(&id)) {
                return false;
            }
            (message.text().to_owned(), subscription.is_some())
        };
        if !self.heard.push(method, text) {
            self.counters.unread();
        }
        is_own
    }

    /// Answers a question of the application: nobody is here who could.
    fn refuse(&self, question: &Envelope<'_>) {
        let Some(id) = question.id else { return };
        let answer = match question.method.as_deref() {
            Some("ping") => answer::empty(id),
            _ => answer::no_such_method(id),
        };
        // An application that reads nothing asked for nothing.
        let _full = self.pass(&self.state(), Delivery::Response, answer);
    }

    /// The application wrote nonsense where an answer was due.
    fn rescue(&self, text: &str) {
        let Ok(members) = Object::parse(text) else { return };
        let id = members.get("id").filter(|_| members.get("method").is_none()).and_then(event_id);
        if let Some(asked) = id.and_then(|id| self.state().open.remove(&id)) {
            let _gone = asked.tell.send(Err(LocalError::Unreadable));
        }
    }

    fn pass(&self, state: &State, delivery: Delivery, message: String) -> Result<(), LocalError> {
        let to_application = state.to_application.as_ref().ok_or(LocalError::Closed)?;
        let inbound = Inbound { delivery, message, event: None, tags: Arc::clone(&self.tags) };
        to_application.try_send(Letter::uncounted(inbound)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LocalError::Busy,
            mpsc::error::TrySendError::Closed(_) => LocalError::Closed,
        })
    }

    /// Makes the nth id; nobody can guess another's.
    fn id(&self, number: u64) -> EventId {
        let mut bytes = self.base;
        for (byte, count) in bytes.iter_mut().rev().zip(number.to_le_bytes()) {
            *byte ^= count;
        }
        EventId::from_byte_array(bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is inside is consistent at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits for its answer; dropping it cancels the request.
#[derive(Debug)]
pub(super) struct Asked {
    line: Arc<Line>,
    id: EventId,
    answer: oneshot::Receiver<Outcome>,
}

impl Asked {
    pub(super) async fn answer(mut self) -> Outcome {
        (&mut self.answer).await.unwrap_or(Err(LocalError::Closed))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.line.state().open.remove(&self.id).is_some() {
            let message = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":"{}"}}}}"#,
                self.id.to_hex()
            );
            // An application that does not keep up hears of it by the answer that nobody takes.
            let _full = self.line.notify("notifications/cancelled", message);
        }
    }
}

fn outcome(message: &Envelope<'_>) -> Outcome {
    match (message.result, message.error) {
        (Some(result), _) => Ok(result.to_owned()),
        (None, Some(error)) => {
            let text = object::member(error, "message").and_then(object::string).unwrap_or_default();
            let message_text = text.chars().take(MESSAGE).collect();
            Err(match message.error_code() {
                Some(code) => LocalError::Refused { code, message: message_text },
                None => LocalError::Unreadable,
            })
        }
        (None, None) => Err(LocalError::Unreadable),
    }
}

/// Reads an id or token of ours.
fn event_id(json: &RawValue) -> Option<EventId> {
    contextvm_core::event::read_id(object::string(json)?.as_ref())
}
