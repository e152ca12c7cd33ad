//! Signals that end a long-running command.
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use contextvm_bridge::CancellationToken;

use crate::problem::{Code, Problem};

/// How long a command that was stopped may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// What shells add to the number of the signal that ended a process.
const SIGNALLED: u8 = 128;
/// The number of the signal that came: first of all an interrupt.
static SIGNAL: AtomicU8 = AtomicU8::new(SIGINT);
const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;
/// How often it is looked whether the parent is still there.
#[cfg(unix)]
const PARENT: Duration = Duration::from_secs(1);

/// Returns a token that is cancelled on SIGINT, SIGTERM or SIGHUP.
pub(crate) fn stop_on_signals() -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        SIGNAL.store(signalled().await, Ordering::Relaxed);
        stop.cancel();
    });
    token
}

/// Does what [`stop_on_signals`] does for a command that does one thing, and ends the process if it does not stop by itself:
/// whoever reads its output may have stopped reading.
pub(crate) fn interrupt_on_signals() -> CancellationToken {
    let token = stop_on_signals();
    let stop = token.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        tokio::time::sleep(GOODBYE).await;
        std::process::exit(exit_code().into());
    });
    token
}

/// The exit code of a command that a signal stopped before it was done.
pub(crate) fn exit_code() -> u8 {
    SIGNALLED + SIGNAL.load(Ordering::Relaxed)
}

/// Says that a command which does one thing was stopped before that was done.
pub(crate) fn interrupted() -> Problem {
    Problem::new(Code::Interrupted, "stopped before it was done")
}

/// Cancels a token once the process that started this one is gone.
///
/// Most hosts close our standard input when they end; it stays open if they gave it to another process, too.
#[cfg(unix)]
pub(crate) fn stop_without_parent(token: CancellationToken) {
    let parent = rustix::process::getppid();
    tokio::spawn(async move {
        while rustix::process::getppid() == parent {
            tokio::time::sleep(PARENT).await;
        }
        token.cancel();
    });
}

/// Does nothing: here only the end of standard input tells.
#[cfg(not(unix))]
pub(crate) fn stop_without_parent(_token: CancellationToken) {}

#[cfg(unix)]
async fn signalled() -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    let streams =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()));
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = streams else {
        // Without handlers the signals end the process as they always do.
        return core::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => SIGINT,
        _ = terminate.recv() => SIGTERM,
        _ = hangup.recv() => SIGHUP,
    }
}

#[cfg(not(unix))]
async fn signalled() -> u8 {
    if tokio::signal::ctrl_c().await.is_err() {
        core::future::pending::<()>().await;
    }
    SIGINT
}
