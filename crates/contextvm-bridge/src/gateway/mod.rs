//! The gateway: an MCP server on Nostr, unchanged; one child for all callers, or a backend for each of them.
use std::time::Duration;

use contextvm_core::Limits;
use contextvm_core::object::{compact, quote};
use contextvm_core::scan::{self, ScanError};
use contextvm_server::Listener;
use tokio_util::sync::CancellationToken;

mod levels;
mod private;
mod shared;
mod subscriptions;
mod switch;
#[cfg(feature = "http")]
mod upstream;
mod welcome;

#[cfg(feature = "http")]
pub use upstream::HttpTarget;
pub use welcome::Welcome;

use crate::Error;
use crate::child::{ChildCommand, ChildOptions, RestartPolicy};
use crate::notice::Reporter;
use private::Private;
use shared::Shared;

/// Longest time that is waited for anything.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Beginning of the ids that the gateway gives.
const OWN: &str = "cvm-";

/// The server that is put on Nostr.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Target {
    /// A process that speaks over its standard streams.
    Child(ChildCommand),
    /// A server that speaks Streamable HTTP, of either era.
    #[cfg(feature = "http")]
    Http(HttpTarget),
}

impl From<ChildCommand> for Target {
    fn from(command: ChildCommand) -> Self {
        Self::Child(command)
    }
}

#[cfg(feature = "http")]
impl From<HttpTarget> for Target {
    fn from(target: HttpTarget) -> Self {
        Self::Http(target)
    }
}

/// Whether callers share a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// One child for all callers, which keeps apart what belongs to whom. What the child says by itself reaches a
    /// caller only if it can concern no other.
    #[default]
    Shared,
    /// A child of its own for each session of each caller that was let in. HTTP servers are always used like this.
    PerCaller,
}

/// Everything a gateway is told but its target.
#[derive(Clone, Debug)]
struct Options {
    child: ChildOptions,
    limits: Limits,
    opening_timeout: Duration,
    request_timeout: Duration,
    idle: Duration,
    backends: usize,
}

/// Collects what a [`Gateway`] is told.
#[derive(Clone, Debug)]
#[must_use]
pub struct GatewayBuilder {
    target: Target,
    isolation: Isolation,
    options: Options,
}

impl GatewayBuilder {
    /// Sets whether callers share a child; by default they do. Without effect on an HTTP server.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Sets how long a caller's backend is kept without a request; 10 minutes by default.
    ///
    /// The next request starts another one, initialised as the caller once did. A backend with an open request or a
    /// subscribed resource is kept as long as its session.
    pub fn idle_expiry(mut self, idle: Duration) -> Self {
        self.options.idle = idle;
        self
    }

    /// Sets how many backends run at once at most, 64 by default; at least one.
    ///
    /// Beyond it the one that is idle for the longest time makes room. If all have open requests, a new caller is
    /// refused with `data.reason` `busy`. What the process itself asks takes only a free place, and makes room first.
    pub fn most_backends(mut self, backends: usize) -> Self {
        self.options.backends = backends.max(1);
        self
    }

    /// Sets when a child that died is started again.
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.options.child.restart = policy;
        self
    }

    /// Sets who hears of changes and of the child's standard error.
    pub fn reporter(mut self, reporter: Reporter) -> Self {
        self.options.child.reporter = reporter;
        self
    }

    /// Sets the bounds.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.child.line = limits.child_line;
        self.options.limits = limits;
        self
    }

    /// Sets how long the server may take to answer `initialize`; 60 seconds by default, a year at most.
    pub fn opening_timeout(mut self, timeout: Duration) -> Self {
        self.options.opening_timeout = timeout.min(YEAR);
        self
    }

    /// Sets how long the server may take over a request without any progress; 300 seconds by default, a year at most.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.options.request_timeout = timeout.min(YEAR);
        self
    }

    /// Starts a shared child and initialises it. Backends of single callers are started when those call.
    ///
    /// # Errors
    /// Fails when the shared child cannot be started, ends or stays silent; it is not tried a second time.
    pub async fn start(self) -> Result<Gateway, Error> {
        let shared = match (self.target, self.isolation) {
            (Target::Child(command), Isolation::Shared) => {
                Kind::Shared(Box::new(Shared::start(command, self.options).await?))
            }
            (target, _) => Kind::Private(Private::new(target, self.options)),
        };
        Ok(Gateway(shared))
    }
}

/// An MCP server, ready to be put on Nostr.
#[derive(Debug)]
pub struct Gateway(Kind);

#[derive(Debug)]
enum Kind {
    Shared(Box<Shared>),
    Private(Private),
}

impl Gateway {
    /// Starts collecting options for a gateway to a command or an HTTP server.
    pub fn builder(target: impl Into<Target>) -> GatewayBuilder {
        let limits = Limits::default();
        let options = Options {
            child: ChildOptions::default(),
            limits,
            opening_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(300),
            idle: Duration::from_secs(600),
            backends: 64,
        };
        GatewayBuilder { target: target.into(), isolation: Isolation::default(), options }
    }

    /// Returns what a shared child said about itself.
    #[must_use]
    pub fn welcome(&self) -> Option<&Welcome> {
        match &self.0 {
            Kind::Shared(shared) => shared.welcome(),
            Kind::Private(_) => None,
        }
    }

    /// Returns the process id of a shared child.
    #[must_use]
    pub const fn pid(&self) -> Option<u32> {
        match &self.0 {
            Kind::Shared(shared) => Some(shared.pid()),
            Kind::Private(_) => None,
        }
    }

    /// Moves messages between the callers and the server until `stop`, the end of the listener, or a shared child that
    /// is not started again. Afterwards the listener is shut down and no child is left.
    ///
    /// # Errors
    /// Fails when a shared child is not started again.
    pub async fn run(self, listener: Listener, stop: CancellationToken) -> Result<(), Error> {
        match self.0 {
            Kind::Shared(shared) => shared.run(listener, stop).await,
            Kind::Private(private) => {
                private.run(listener, stop).await;
                Ok(())
            }
        }
    }
}

/// Refuses a long message that no caller would read, because it holds more values than peers take in so many bytes.
fn check_dense(text: &str, limits: &Limits) -> Result<(), ScanError> {
    // The white space goes on the way.
    if text.len() > limits.event { scan::check(&compact(text), limits).map(drop) } else { Ok(()) }
}

/// Prints the cancellation of a request; the id is given as plain text.
fn cancelled(id: &str, reason: &str) -> String {
    let (id, reason) = (quote(id), quote(reason));
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":{reason}}}}}"#
    )
}
