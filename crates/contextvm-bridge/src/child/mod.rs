//! One supervised stdio child: its own process group, bounded lines both ways, started again when it dies.
//!
//! A child never outlives its supervisor: the whole group is killed when the supervisor stops or is dropped, and by a
//! guard process when this process is killed outright.
use std::fmt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

mod command;
mod group;
mod restart;
mod run;
mod said;

pub use command::{ChildCommand, INHERITED};
pub(crate) use restart::Restarts;
pub use restart::{RestartPolicy, RestartWhen};

use crate::notice::Reporter;
use crate::passes::{Pass, Passes};

/// Lines that may wait for the child to read them.
const QUEUE: usize = 1_024;
/// Events that may wait for whoever reads them; few, because a line may be long.
const EVENTS: usize = 4;

/// How a child is kept.
#[derive(Clone, Debug)]
pub struct ChildOptions {
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Longest line taken from the child, bytes.
    pub line: usize,
    /// Bytes that may wait for the child to read them.
    pub queued: usize,
    /// Time between TERM and KILL.
    pub grace: Duration,
    /// Takes the child's standard error.
    pub reporter: Reporter,
    /// Where it gets passes for long lines, with all others that are kept with a clone of these options.
    pub(crate) passes: Passes,
}

impl Default for ChildOptions {
    fn default() -> Self {
        Self {
            restart: RestartPolicy::default(),
            line: contextvm_core::Limits::default().child_line,
            queued: 32 * 1024 * 1024,
            grace: Duration::from_secs(2),
            reporter: Reporter::default(),
            passes: Passes::default(),
        }
    }
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It closed its standard output and was killed for it.
    Output,
    /// It never ran.
    NotStarted(String),
    /// The operating system did not say.
    Unknown,
}

impl Exit {
    fn of(status: ExitStatus) -> Self {
        #[cfg(unix)]
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        #[cfg(not(unix))]
        let signal = None;
        match (status.code(), signal) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(out, "exited {code}"),
            Self::Signal(signal) => write!(out, "was killed by signal {signal}"),
            Self::Output => out.write_str("closed its output"),
            Self::NotStarted(why) => write!(out, "could not be started: {why}"),
            Self::Unknown => out.write_str("ended"),
        }
    }
}

/// What happens to a child. Each start of it is a generation of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildEvent {
    /// It runs.
    Up {
        /// Which start.
        generation: u64,
        /// Process id.
        pid: u32,
    },
    /// It wrote a line.
    Line {
        /// Which start.
        generation: u64,
        /// The line.
        text: String,
    },
    /// It wrote a line that cannot be text of a message.
    Bad {
        /// What is wrong with it.
        what: String,
    },
    /// It ended.
    Down {
        /// Which start.
        generation: u64,
        /// How.
        exit: Exit,
        /// When it starts again, and the how manieth time; `None` means never.
        restart: Option<(Duration, usize)>,
    },
}

/// Why a line was not taken for the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The child does not read its input fast enough.
    #[error("the child is busy")]
    Busy,
    /// The line holds a line break or a NUL: the child would read another message than was checked.
    #[error("the message is more than one line")]
    NotOneLine,
    /// The child is gone for good.
    #[error("the child is gone")]
    Gone,
}

/// A line on its way to one generation of the child.
#[derive(Debug)]
struct Input {
    generation: u64,
    line: String,
}

/// A handle on a supervised child; dropping it kills the child.
#[derive(Debug)]
pub struct Child {
    input: mpsc::Sender<Input>,
    queued: Arc<AtomicUsize>,
    most: usize,
    kick: Arc<Notify>,
    stop: CancellationToken,
    ended: CancellationToken,
}

/// What happens to a child, in order.
#[derive(Debug)]
pub struct ChildEvents {
    events: mpsc::Receiver<Event>,
    /// That of the last event.
    pass: Option<Pass>,
}

/// An event with the pass of a long line.
type Event = (ChildEvent, Option<Pass>);

impl ChildEvents {
    /// Waits for the next event; `None` once the child is gone for good. Cancel-safe. The event before it is done with.
    pub async fn recv(&mut self) -> Option<ChildEvent> {
        self.pass = None;
        let (event, pass) = self.events.recv().await?;
        self.pass = pass;
        Some(event)
    }
}

impl Child {
    /// Starts a child and its supervision on the current tokio runtime.
    #[must_use]
    pub fn start(command: ChildCommand, options: ChildOptions) -> (Self, ChildEvents) {
        let (input, lines) = mpsc::channel(QUEUE);
        let (events, happenings) = mpsc::channel(EVENTS);
        let queued = Arc::new(AtomicUsize::new(0));
        let child = Self {
            input,
            queued: Arc::clone(&queued),
            most: options.queued,
            kick: Arc::new(Notify::new()),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        let supervisor = run::Supervisor {
            command,
            options,
            lines,
            queued,
            events,
            kick: Arc::clone(&child.kick),
            stop: child.stop.clone(),
        };
        let ended = child.ended.clone().drop_guard();
        tokio::spawn(async move {
            let _ended = ended;
            Box::pin(supervisor.supervise()).await;
        });
        (child, ChildEvents { events: happenings, pass: None })
    }

    /// Queues one line for one generation of the child; it is thrown away if that one has ended.
    ///
    /// # Errors
    /// Refuses what is not one line, and lines that the child has no room for.
    pub fn send(&self, generation: u64, line: String) -> Result<(), Refused> {
        if line.bytes().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
            return Err(Refused::NotOneLine);
        }
        let length = line.len();
        if self.queued.fetch_add(length, Ordering::AcqRel).saturating_add(length) > self.most {
            self.queued.fetch_sub(length, Ordering::AcqRel);
            return Err(Refused::Busy);
        }
        self.input.try_send(Input { generation, line }).map_err(|error| {
            self.queued.fetch_sub(length, Ordering::AcqRel);
            match error {
                mpsc::error::TrySendError::Full(_) => Refused::Busy,
                mpsc::error::TrySendError::Closed(_) => Refused::Gone,
            }
        })
    }

    /// Ends the running generation, as if it had died.
    pub fn kick(&self) {
        self.kick.notify_one();
    }

    /// Closes the child's input, then TERM, then KILL to the whole group; returns when it is gone.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
