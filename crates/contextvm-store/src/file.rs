//! The file of a store: made whole or not at all, for its owner alone, and locked while somebody uses it.
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::StoreError;

#[cfg(unix)]
const FILE: u32 = 0o600;
#[cfg(unix)]
const DIRECTORY: u32 = 0o700;
#[cfg(unix)]
const OTHERS: u32 = 0o077;

/// The lock on a store, held as long as this lives. It lies beside the store, so that it covers the making of it, too.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the directory if need be, and takes the lock.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        make_directories(directory(path))?;
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

/// Returns where a store lies whose path may be a link: it is locked there, and what replaces it takes its place there.
pub(crate) fn followed(path: &Path) -> Result<PathBuf, StoreError> {
    match std::fs::symlink_metadata(path) {
        Ok(facts) if facts.is_symlink() => {
            std::fs::canonicalize(path).map_err(|error| io_error(path, &error))
        }
        // Whoever opens it says what is wrong.
        Ok(_) | Err(_) => Ok(path.to_owned()),
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
    // The database would take an empty file for a new one. Ours never has that form.
    if facts.len() == 0 { Err(StoreError::Damaged(path.to_owned())) } else { Ok(Some(file)) }
}

/// Refuses a file that others than its owner may read or write.
#[cfg(unix)]
pub(crate) fn check_owner(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::MetadataExt as _;
    match std::fs::metadata(path) {
        Ok(facts) if facts.mode() & OTHERS != 0 => Err(StoreError::Exposed(path.to_owned())),
        // Whoever opens it says what is wrong.
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(not(unix))]
pub(crate) fn check_owner(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// Makes a new file, has it filled, and gives it its name only then. What had the name before is gone.
pub(crate) fn replace<T>(
    path: &Path,
    fill: impl FnOnce(File) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let new = with_suffix(path, ".new");
    // A leftover of somebody who did not come to the end.
    remove(&new)?;
    let file = options().create_new(true).open(&new).map_err(|error| io_error(path, &error))?;
    let filled = fill(file).and_then(|filled| {
        std::fs::rename(&new, path).map_err(|error| io_error(path, &error))?;
        sync_directory(directory(path))?;
        Ok(filled)
    });
    if filled.is_err() {
        // It may be what fills the disk. Left behind, it is removed the next time.
        let _left = remove(&new);
    }
    filled
}

/// Removes a file, if it is there; after a power cut, too, it is gone.
pub(crate) fn remove_for_good(path: &Path) -> Result<(), StoreError> {
    remove(path)?;
    sync_directory(directory(path))
}

/// Gives a file another name beside it, for good.
pub(crate) fn put_aside(path: &Path) -> Result<(), StoreError> {
    std::fs::rename(path, with_suffix(path, ".damaged")).map_err(|error| io_error(path, &error))?;
    sync_directory(directory(path))
}

/// Says in our words what the host said.
pub(crate) fn io_error(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), kind: error.kind() }
}

/// Makes a directory and what is missing above it, each of them entered for good where it lies.
fn make_directories(wanted: &Path) -> Result<(), StoreError> {
    let missing: Vec<_> =
        wanted.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.is_dir()).collect();
    for at in missing.into_iter().rev() {
        match directory_builder().create(at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(at, &error)),
            Ok(()) | Err(_) => sync_directory(directory(at))?,
        }
    }
    Ok(())
}

/// What was made, renamed or removed in a directory survives a power cut once this has returned.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| io_error(directory, &error))
}

/// Elsewhere a directory cannot be opened as a file, and its entries are the file system's care.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(unix)]
fn directory_builder() -> DirBuilder {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = DirBuilder::new();
    builder.mode(DIRECTORY);
    builder
}

#[cfg(not(unix))]
fn directory_builder() -> DirBuilder {
    DirBuilder::new()
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, FILE);
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
