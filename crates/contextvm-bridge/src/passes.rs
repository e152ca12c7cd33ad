//! Passes for long messages: how many of them a gateway reads from its servers at once.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// A message of more bytes needs a pass.
pub(crate) const LONG: usize = 128 * 1024;
/// Long messages that are read or handed on at once: callers decide how many are asked for.
const PASSES: usize = 4;
/// How long one waits for a pass: a server that stops in the middle of a message holds nobody up for longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the servers of one gateway get their passes.
#[derive(Clone, Debug)]
pub(crate) struct Passes(Arc<Semaphore>);

impl Default for Passes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PASSES)))
    }
}

/// A pass, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Passes {
    /// Waits for a pass. Cancel-safe.
    pub(crate) async fn take(&self) -> Pass {
        let permit = timeout(PATIENCE, Arc::clone(&self.0).acquire_owned()).await;
        Pass { _permit: permit.ok().and_then(Result::ok) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test(start_paused = true)]
    async fn the_last_pass_is_waited_for_and_not_for_ever() {
        let passes = Passes::default();
        let mut taken = Vec::new();
        for _ in 0..PASSES {
            taken.push(passes.take().await);
        }
        assert!(passes.take().now_or_never().is_none());
        taken.pop();
        taken.push(passes.take().now_or_never().expect("one came back"));
        let before = tokio::time::Instant::now();
        passes.take().await;
        assert_eq!(before.elapsed(), PATIENCE);
    }
}
