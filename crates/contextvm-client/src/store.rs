//! The file of a memory: one line per entry, held by one process at a time, replaced as a whole.
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use contextvm_announce::Signed;
use contextvm_core::{event, kind};

use crate::memory::{Held, MemoryError};

/// First line of the file.
const HEADER: &str = "contextvm newest 1";
/// Largest file that is read, bytes.
const LARGEST: u64 = 16 * 1024 * 1024;
/// How long another process may hold the file.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two attempts to hold it.
const PAUSE: Duration = Duration::from_millis(10);
/// Names tried for a damaged file.
const ASIDES: usize = 1_000;

/// Reads a memory from the file, as far as it is legible, and says what was wrong with it; no file is an empty memory.
pub(crate) fn load(path: &Path) -> (Held, Option<MemoryError>) {
    // The file is replaced as a whole, so that only who puts a damaged one aside must be alone with it.
    let held = match look(path) {
        Ok((held, false)) => held,
        Ok((held, true)) => return (held, None),
        Err(error) => return (Held::default(), Some(error)),
    };
    match hold(path).and_then(|_lock| read(path)) {
        Ok(read) => read,
        Err(error) => (held, Some(error)),
    }
}

/// Merges a memory with the file, both ways; returns damage that was found in the file and put aside.
///
/// # Errors
/// Fails when the file cannot be held, read or written.
pub(crate) fn merge(path: &Path, memory: &mut Held) -> Result<Option<MemoryError>, MemoryError> {
    let _lock = hold(path)?;
    let (others, damage) = read(path)?;
    memory.absorb(&others);
    write(path, memory).map_err(|error| unwritable(path, &error))?;
    Ok(damage)
}

/// Locks a file beside the file, because the file itself is replaced. The lock ends with the handle.
fn hold(path: &Path) -> Result<File, MemoryError> {
    let beside = beside(path, ".lock");
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|error| unwritable(path, &error))?;
    }
    let lock = private().truncate(false).open(beside).map_err(|error| unwritable(path, &error))?;
    let until = Instant::now() + PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(MemoryError::Held { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(unwritable(path, &error)),
        }
    }
}

/// Reads what is legible; a file that is not all legible is renamed.
fn read(path: &Path) -> Result<(Held, Option<MemoryError>), MemoryError> {
    let (held, whole) = look(path)?;
    if whole {
        return Ok((held, None));
    }
    let aside = put_aside(path).map_err(|error| unreadable(path, &error))?;
    let kept = held.newest.len();
    Ok((held, Some(MemoryError::Damaged { path: path.to_owned(), aside, kept })))
}

/// Reads what is legible and says whether that was all; no file is whole.
fn look(path: &Path) -> Result<(Held, bool), MemoryError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok((Held::default(), true));
        }
        Err(error) => return Err(unreadable(path, &error)),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    Ok(take(&bytes))
}

/// Takes all legible lines and says whether they were all.
fn take(bytes: &[u8]) -> (Held, bool) {
    let mut held = Held::default();
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) || bytes.len() as u64 > LARGEST {
        return (held, false);
    }
    let mut whole = text.ends_with('\n');
    for line in lines {
        whole &= if line.starts_with('{') {
            take_list(line, &mut held)
        } else {
            // What was not from the future when it was learned is not from the future now, whatever our clock does.
            held.newest.read_lines(line, u64::MAX) == 0
        };
    }
    (held, whole)
}

fn take_list(line: &str, held: &mut Held) -> bool {
    let Ok(list) = Signed::read(line) else { return false };
    let listed = list.kind.as_u16() == kind::RELAY_LIST;
    if listed {
        held.remember(&list);
    }
    listed
}

/// Renames a file to the first name with a number that is free.
fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let free = (1..=ASIDES).map(|number| beside(path, &format!(".damaged-{number}")));
    let aside = free.into_iter().find(|name| !name.exists()).ok_or(ErrorKind::AlreadyExists)?;
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Writes a new file and puts it in the place of the old one.
fn write(path: &Path, memory: &Held) -> io::Result<()> {
    let new = beside(path, ".new");
    let mut text = format!("{HEADER}\n{}", memory.newest.to_lines());
    for list in memory.lists.iter() {
        text.push_str(&event::print(list));
        text.push('\n');
    }
    let mut file = private().truncate(true).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// Files tell whom their owner talks to: nobody else may read them.
fn private() -> std::fs::OpenOptions {
    let mut options = File::options();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn unreadable(path: &Path, error: &io::Error) -> MemoryError {
    MemoryError::Unreadable { path: path.to_owned(), kind: error.kind() }
}

fn unwritable(path: &Path, error: &io::Error) -> MemoryError {
    MemoryError::Unwritable { path: path.to_owned(), kind: error.kind() }
}
