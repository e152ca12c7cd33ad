//! The file of a store: made whole or not at all, for its owner alone, and locked while somebody uses it.
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::StoreError;

const FILE: u32 = 0o600;
const DIRECTORY: u32 = 0o700;
const OTHERS: u32 = 0o077;

/// The lock on a store, held as long as this lives. It lies beside the store, so that it covers the making of it, too.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the directory if need be, and takes the lock.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        let directory = directory(path);
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY)
            .create(directory)
            .map_err(|error| io_error(directory, &error))?;
        let beside = with_suffix(path, ".lock");
        let file = options().create(true).truncate(false).open(&beside);
        let file = file.map_err(|error| io_error(&beside, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(io_error(&beside, &error)),
        }
    }
}

/// Opens the file of a store; `None` when there is none.
pub(crate) fn open(path: &Path) -> Result<Option<File>, StoreError> {
    let file = match options().open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path, &error)),
    };
    let facts = file.metadata().map_err(|error| io_error(path, &error))?;
    if facts.mode() & OTHERS != 0 {
        return Err(StoreError::Exposed(path.to_owned()));
    }
    // The database would take an empty file for a new one. Ours never has that form.
    if facts.len() == 0 { Err(StoreError::Damaged(path.to_owned())) } else { Ok(Some(file)) }
}

/// Makes a new file, has it filled, and gives it its name only then.
pub(crate) fn make(path: &Path, fill: impl FnOnce(File) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let new = with_suffix(path, ".new");
    let failed = |error: io::Error| io_error(path, &error);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&new, &error)),
        // A leftover of somebody who did not come to the end.
        Ok(()) | Err(_) => {}
    }
    fill(options().create_new(true).open(&new).map_err(failed)?)?;
    std::fs::rename(&new, path).map_err(failed)?;
    File::open(directory(path)).and_then(|directory| directory.sync_all()).map_err(failed)
}

/// Says in our words what the host said.
pub(crate) fn io_error(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), kind: error.kind() }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE);
    options
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
