//! Files that are written whole or not at all, one writer after the other.
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use contextvm::core::Printable;

use crate::keys;
use crate::problem::{Code, Problem};

/// How long another process may take to change a file; it takes milliseconds unless it is stopped.
const LOCKED: Duration = Duration::from_secs(5);
/// How often it is looked whether it is done.
const AGAIN: Duration = Duration::from_millis(10);

/// Where this program keeps what people configure.
pub(crate) fn config_directory() -> Result<PathBuf, Problem> {
    let config = keys::directory_of("XDG_CONFIG_HOME");
    let config = config.or_else(|| keys::directory_of("HOME").map(|home| home.join(".config")));
    config.map(|config| config.join("cvm")).ok_or_else(|| {
        Problem::new(Code::ConfigInvalid, "neither XDG_CONFIG_HOME nor HOME is set").hint("set one of them")
    })
}

/// Reads a file of at most `longest` bytes; `None` if there is none.
pub(crate) fn read(path: &Path, longest: u64) -> Result<Option<String>, Problem> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "read", &error)),
    };
    if !file.metadata().is_ok_and(|data| data.is_file()) {
        return Err(failed(path, "read", &std::io::Error::other("it is not a file")));
    }
    let mut text = String::new();
    let read = file.take(longest.saturating_add(1)).read_to_string(&mut text);
    read.map_err(|error| failed(path, "read", &error))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > longest {
        let why = std::io::Error::other(format!("it has more than {longest} bytes"));
        return Err(failed(path, "read", &why));
    }
    Ok(Some(text))
}

/// Writes a file that only we can read: whole or not at all.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Problem> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let next = path.with_file_name(format!("{name}.{}.new", std::process::id()));
    let written = write_to(&next, text).and_then(|()| std::fs::rename(&next, path));
    written.map_err(|error| {
        // What is left of it is of no use.
        let _left = std::fs::remove_file(&next);
        failed(path, "written", &error)
    })
}

fn write_to(path: &Path, text: &str) -> std::io::Result<()> {
    // One of that name was left by an earlier process with our number.
    let _left = std::fs::remove_file(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Waits until nobody else changes a file, 5 s at most, and keeps others waiting while the lock is held. Makes its
/// directory, too.
pub(crate) fn lock(path: &Path) -> Result<File, Problem> {
    let locked = || {
        make_directory(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path.with_file_name(format!(".{name}.lock")))?;
        let until = Instant::now() + LOCKED;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(AGAIN),
                Err(TryLockError::WouldBlock) => {
                    return Err(std::io::Error::other("another process has been changing it all the time"));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    };
    locked().map_err(|error: std::io::Error| failed(path, "locked", &error))
}

/// Makes a directory that only we can look into, unless it is there.
fn make_directory(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> Problem {
    let shown = Printable(&path.to_string_lossy()).to_string();
    Problem::new(Code::ConfigInvalid, format!("{shown} could not be {what}: {error}"))
        .hint("look at the permissions of its directory")
}
