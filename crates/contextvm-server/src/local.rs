//! A caller inside the process: a session with the same application that needs no relay.
//!
//! [`ServerHandle::open_local`](crate::ServerHandle::open_local) opens one; [`Listener::accept`](crate::Listener::accept)
//! yields it like any other session. Nobody can be that caller on the wire, because the secret of its key is forgotten at
//! once: what the process does for itself is told apart by where it comes from, never by what it says.
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::envelope;
use serde_json::value::RawValue;
use tokio::time::Instant;

mod heard;
mod line;
mod locals;

pub(crate) use line::Line;
pub(crate) use locals::Locals;

/// How long the application may take over a request by default.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Why a request of a local caller has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The session is over: the application ended it, or the server is shut down.
    #[error("the session inside the process is over")]
    Closed,
    /// The application has too many messages of this caller to work on.
    #[error("the application does not keep up")]
    Busy,
    /// The application did not answer in time.
    #[error("the application did not answer within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// The application ended a subscription (MCP 2026-07-28) without an answer.
    #[error("the application cancelled the request")]
    Cancelled,
    /// The application answered with an error.
    #[error("the application answered with error {code}")]
    Refused {
        /// JSON-RPC error code.
        code: i64,
        /// What the application says about it; to be printed through [`contextvm_core::Printable`].
        message: String,
    },
    /// The `params` are not an object, or hold what no message may hold.
    #[error("the request does not have the form of one")]
    Invalid,
    /// The answer does not have the form of one.
    #[error("the application gave an invalid answer")]
    Unreadable,
}

/// A caller inside the process. Dropping it ends the session.
///
/// Requests that the application sends are answered with "method not found", a ping with an empty result.
#[derive(Debug)]
pub struct LocalCaller(LocalSender);

impl LocalCaller {
    pub(crate) const fn new(line: Arc<Line>) -> Self {
        Self(LocalSender(line))
    }

    /// Returns the way to the application, which may be cloned and used from several tasks.
    #[must_use]
    pub fn sender(&self) -> LocalSender {
        self.0.clone()
    }

    /// As [`LocalSender::request`].
    ///
    /// # Errors
    /// As [`LocalSender::request`].
    pub async fn request(
        &self,
        method: &str,
        params: Option<&RawValue>,
    ) -> Result<Box<RawValue>, LocalError> {
        self.0.request(method, params).await
    }

    /// As [`LocalSender::request_within`].
    ///
    /// # Errors
    /// As [`LocalSender::request_within`].
    pub async fn request_within(
        &self,
        method: &str,
        params: Option<&RawValue>,
        deadline: Option<Duration>,
    ) -> Result<Box<RawValue>, LocalError> {
        self.0.request_within(method, params, deadline).await
    }

    /// As [`LocalSender::notify`].
    ///
    /// # Errors
    /// As [`LocalSender::notify`].
    pub fn notify(&self, method: &str, params: Option<&RawValue>) -> Result<(), LocalError> {
        self.0.notify(method, params)
    }

    /// Waits for the next notification of the application, as JSON-RPC text; `None` once the session is over.
    ///
    /// Up to 256 wait. Beyond that the newest is left out and counted, except that one `list_changed` of each list always
    /// finds its place; a second one that waits adds nothing. Cancel-safe.
    pub async fn recv(&mut self) -> Option<String> {
        self.0.0.heard().next().await
    }
}

impl Drop for LocalCaller {
    fn drop(&mut self) {
        self.0.0.end();
    }
}

/// The way of a local caller to the application; cloning gives another handle to the same session.
#[derive(Clone, Debug)]
pub struct LocalSender(Arc<Line>);

impl LocalSender {
    /// Sends a request and waits for its result, [`DEADLINE`] at most.
    ///
    /// `params` must be an object. A progress token in it comes back in progress notifications. When this future is
    /// dropped or the time is over, the application is sent a cancellation.
    ///
    /// # Errors
    /// See [`LocalError`].
    pub async fn request(
        &self,
        method: &str,
        params: Option<&RawValue>,
    ) -> Result<Box<RawValue>, LocalError> {
        self.request_within(method, params, Some(DEADLINE)).await
    }

    /// As [`LocalSender::request`] with a deadline of its own; `None` waits as long as the session lasts, as
    /// `subscriptions/listen` does.
    ///
    /// # Errors
    /// See [`LocalError`].
    pub async fn request_within(
        &self,
        method: &str,
        params: Option<&RawValue>,
        deadline: Option<Duration>,
    ) -> Result<Box<RawValue>, LocalError> {
        let asked = self.0.ask(method, params)?;
        let Some(wait) = deadline else { return asked.answer().await };
        // A time beyond what the clock can count is none.
        match Instant::now().checked_add(wait) {
            Some(end) => {
                tokio::time::timeout_at(end, asked.answer()).await.unwrap_or(Err(LocalError::TimedOut(wait)))
            }
            None => asked.answer().await,
        }
    }

    /// Sends a notification.
    ///
    /// # Errors
    /// See [`LocalError`].
    pub fn notify(&self, method: &str, params: Option<&RawValue>) -> Result<(), LocalError> {
        self.0.notify(method, envelope::notification(method, params))
    }

    /// Waits until the session is over.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}
