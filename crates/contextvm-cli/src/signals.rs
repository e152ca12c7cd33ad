//! Signals that end a long-running command.
use contextvm_bridge::CancellationToken;

use crate::problem::{Code, Problem};

/// How often it is looked whether the parent is still there.
#[cfg(unix)]
const PARENT: std::time::Duration = std::time::Duration::from_secs(1);

/// Returns a token that is cancelled on SIGINT, SIGTERM or SIGHUP.
pub(crate) fn stop_on_signals() -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        signalled().await;
        stop.cancel();
    });
    token
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
async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let streams =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()));
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = streams else {
        // Without handlers the signals end the process as they always do.
        return core::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

#[cfg(not(unix))]
async fn signalled() {
    if tokio::signal::ctrl_c().await.is_err() {
        core::future::pending::<()>().await;
    }
}
