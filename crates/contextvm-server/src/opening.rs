//! The store of a server: opened beside the loop, with patience for an earlier life that is about to end.
use std::path::Path;
use std::time::Duration;

use contextvm_core::Limits;
use contextvm_store::{Restored, Store, StoreError};
use nostr::key::PublicKey;
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
    let begun = Instant::now();
    loop {
        let (path, limits) = (path.to_owned(), limits.clone());
        let now = contextvm_runtime::clock::unix_now();
        let opening = tokio::task::spawn_blocking(move || Store::open(&path, &server, &limits, now));
        match opening.await {
            Ok(Err(StoreError::InUse(_))) if begun.elapsed() < patience => tokio::time::sleep(AGAIN).await,
            Ok(opened) => return Ok(opened?),
            // The runtime is shutting down.
            Err(_) => return Err(Error::Closed),
        }
    }
}
