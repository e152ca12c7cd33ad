//! What can go wrong with a store.
use std::io::ErrorKind;
use std::path::PathBuf;

/// Why a store cannot be used, or a batch could not be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process serves with this store.
    #[error("{} is in use by another process that serves with the same identity", .0.display())]
    InUse(PathBuf),
    /// The file is not what was written last; it is not overwritten.
    #[error("{} is damaged, or is no store; move it away to begin anew", .0.display())]
    Damaged(PathBuf),
    /// The store belongs to another server.
    #[error("{} belongs to a server with another key", .0.display())]
    OtherServer(PathBuf),
    /// Another version wrote the store.
    #[error("{} has format {found}, which this version does not know; move it away to begin anew", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that it says it has.
        found: u64,
    },
    /// Others than the owner may read or write the file.
    #[error("{} may be read or written by others; run: chmod 600 {}", .0.display(), .0.display())]
    Exposed(PathBuf),
    /// The store is older than the clock says it can be.
    #[error("{} was last written {ahead} seconds in the future; set the clock, or move it away", .path.display())]
    Clock {
        /// The file.
        path: PathBuf,
        /// By how much, seconds.
        ahead: u64,
    },
    /// The host refuses to read or write.
    #[error("{}: {kind}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the host says.
        kind: ErrorKind,
    },
}
