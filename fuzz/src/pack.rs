//! A whole corpus in one file: inputs sorted by length and then by their bytes, each behind its length.
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What every such file begins with.
const MARK: &[u8] = b"fuzz corpus 1\n";

/// Returns the packed corpus of a target.
#[must_use]
pub fn path(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{target}.pack"))
}

/// Reads the packed inputs of a target; a target without such a file has none.
///
/// # Errors
/// Fails when the file cannot be read or is none of ours.
pub fn read(target: &str) -> io::Result<Vec<Vec<u8>>> {
    match fs::read(path(target)) {
        Ok(bytes) => inputs(&bytes).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Packs inputs, each once.
///
/// # Errors
/// Fails when the file cannot be written, or an input is longer than four gigabytes.
pub fn write(target: &str, mut inputs: Vec<Vec<u8>>) -> io::Result<()> {
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    inputs.dedup();
    let mut out = MARK.to_vec();
    for input in inputs {
        let length = u32::try_from(input.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        out.extend(length.to_be_bytes());
        out.extend(input);
    }
    fs::write(path(target), out)
}

fn inputs(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = bytes.strip_prefix(MARK)?;
    let mut inputs = Vec::new();
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (input, behind) = behind.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        inputs.push(input.to_vec());
        rest = behind;
    }
    Some(inputs)
}

/// Reads every file of a folder; without the folder there is none.
///
/// # Errors
/// Fails when a file cannot be read.
pub fn folder(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    paths.sort();
    paths.iter().map(fs::read).collect()
}
