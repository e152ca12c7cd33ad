//! The store of a server: opened or removed beside the loop, with patience for an earlier life that is about to end.
use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
use std::path::Path;
use std::time::Duration;

use contextvm_core::Limits;
use contextvm_store::{Discarded, Restored, Store, StoreError};
use nostr::key::PublicKey;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::Error;

/// How often a store that is in use is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// Opens the store of a server, or makes it.
pub(crate) async fn open(
    path: &Path,
    server: PublicKey,
    limits: &Limits,
    patience: Duration,
) -> Result<(Store, Restored), Error> {
    let act = || {
        let (path, limits) = (path.to_owned(), limits.clone());
        move || Store::open(&path, &server, &limits, contextvm_runtime::clock::unix_now)
    };
    patiently(patience, act).await
}

/// Removes the store of a server that serves without it, and holds its place, so that nobody serves with one meanwhile.
pub(crate) async fn discard(
    path: &Path,
    server: PublicKey,
    patience: Duration,
) -> Result<Option<Discarded>, Error> {
    let act = || {
        let path = path.to_owned();
        move || match Store::discard(&path, &server) {
            // Where nothing can be written there is no store, and none will be.
            Err(StoreError::Io { path: refused, kind: PermissionDenied | ReadOnlyFilesystem })
                if path.try_exists().is_ok_and(|exists| !exists) =>
            {
                let at = refused.display();
                tracing::warn!(%at, "another process under this key would go unnoticed: no lock can be made");
                Ok(None)
            }
            discarded => discarded.map(Some),
        }
    };
    patiently(patience, act).await
}

/// Acts on a thread of its own, again while another process uses the store.
async fn patiently<T, A>(patience: Duration, act: impl Fn() -> A) -> Result<T, Error>
where
    T: Send + 'static,
    A: FnOnce() -> Result<T, StoreError> + Send + 'static,
{
    let begun = Instant::now();
    loop {
        match beside(act()).await {
            Some(Err(StoreError::InUse(_))) if begun.elapsed() < patience => {
                tokio::time::sleep(AGAIN).await;
            }
            Some(done) => return Ok(done?),
            // It met a bug, which is shown, or the host gives no thread.
            None => return Err(Error::Closed),
        }
    }
}

/// Runs what may block on a thread that nobody waits for at the end: a disk that hangs would not let the process end.
async fn beside<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, waiting) = oneshot::channel();
    let work = move || {
        // Whoever asked may be gone.
        let _gone = done.send(act());
    };
    let _thread = std::thread::Builder::new().name("store".to_owned()).spawn(work).ok()?;
    waiting.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_is_an_error() {
        assert_eq!(beside(|| 1).await, Some(1));
        assert_eq!(beside(|| -> u8 { panic!("a bug") }).await, None);
    }
}
