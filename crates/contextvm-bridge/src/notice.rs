//! What a bridge tells whoever runs it: one short line per change, safe to print.
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A change worth a line in a log. Foreign text in it is already made printable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The child runs under this process id.
    ChildStarted {
        /// Process id.
        pid: u32,
    },
    /// The child answered `initialize` and takes calls.
    ChildReady,
    /// The child ended.
    ChildExited {
        /// How.
        how: String,
        /// Requests that were answered with an error for it.
        failed: usize,
        /// When it is started again, and the how manieth time.
        restart: Option<(Duration, usize)>,
    },
    /// A line of the child's standard error.
    ChildSaid(String),
    /// Lines of the child's standard error that were left out.
    ChildSaidMore(u64),
    /// A line of the child that is no message; only the first is shown, later ones are counted.
    ChildNoise {
        /// Why it is none, with its beginning.
        what: String,
        /// How many there were, this one included.
        count: u64,
    },
    /// A message from the host is no message.
    HostNoise(String),
    /// The proxy reached the server.
    Connected,
    /// The proxy did not reach the server.
    NotConnected {
        /// Why.
        why: String,
        /// When it tries again.
        again: Duration,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChildStarted { pid } => write!(out, "child started, pid {pid}"),
            Self::ChildReady => out.write_str("child ready"),
            Self::ChildExited { how, failed, restart } => {
                write!(out, "child {how}")?;
                if let Some((wait, count)) = restart {
                    write!(out, ", restart {count} in {:.1} s", wait.as_secs_f32())?;
                }
                if *failed > 0 {
                    write!(out, ", {failed} requests answered with an error")?;
                }
                Ok(())
            }
            Self::ChildSaid(line) => write!(out, "child: {line}"),
            Self::ChildSaidMore(count) => write!(out, "child: ({count} more lines left out)"),
            Self::ChildNoise { what, count } if *count == 1 => {
                write!(out, "child wrote a line that is no message ({what}); later ones are counted")
            }
            Self::ChildNoise { what: _, count } => {
                write!(out, "child wrote {count} lines that are no messages")
            }
            Self::HostNoise(what) => write!(out, "the host sent a line that is no message ({what})"),
            Self::Connected => out.write_str("connected"),
            Self::NotConnected { why, again } => {
                write!(out, "not connected: {why}; again in {:.1} s", again.as_secs_f32())
            }
        }
    }
}

/// Takes notices; called from several tasks, must not block for long.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(&Notice) + Send + Sync>);

impl Reporter {
    /// Makes a reporter of a function.
    pub fn new(report: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    pub(crate) fn tell(&self, notice: &Notice) {
        (self.0)(notice);
    }
}

impl Default for Reporter {
    /// Reports to the log of this process.
    fn default() -> Self {
        Self::new(|notice| tracing::info!("{notice}"))
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Reporter")
    }
}
