//! The control socket of a running `cvm serve`: only its owner can open it, and it answers one question per connection.
use std::path::{Path, PathBuf};
use std::time::Duration;

use contextvm::core::Printable;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::board::{Board, Named};
use crate::keys;
use crate::problem::{Code, Problem};

/// Longest question and answer, bytes.
const LONGEST: u64 = 1024 * 1024;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(2);

/// The answer to `status`.
#[derive(Serialize)]
struct Status<'a> {
    pid: u32,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    units: Vec<Named>,
}

/// A listening control socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        // A file that is left behind is removed by whoever finds nobody there.
        let _left = std::fs::remove_file(&self.path);
    }
}

impl Control {
    /// Opens the socket of this process.
    pub(crate) fn open() -> Result<Self, Problem> {
        let fail = |path: &Path, error: &std::io::Error| {
            let shown = Printable(&path.to_string_lossy()).to_string();
            Problem::new(
                Code::ConfigInvalid,
                format!("the control socket {shown} could not be made: {error}"),
            )
        };
        let directory = directory()?;
        private(&directory).map_err(|error| fail(&directory, &error))?;
        let path = directory.join(format!("{}.sock", std::process::id()));
        // One of that name was left by an earlier process with our number.
        let _left = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(|error| fail(&path, &error))?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .map_err(|error| fail(&path, &error))?;
        Ok(Self { listener, path })
    }

    /// Answers questions for ever, one after another.
    pub(crate) async fn answer(self, board: Board, file: Option<String>) {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of descriptors, perhaps; it gets better or it does not.
                tokio::time::sleep(PATIENCE).await;
                continue;
            };
            // Whoever asks slowly or badly gets no answer.
            let _unanswered = timeout(PATIENCE, answer_one(stream, &board, file.as_deref())).await;
        }
    }
}

async fn answer_one(stream: UnixStream, board: &Board, file: Option<&str>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut question = String::new();
    BufReader::new(reader.take(LONGEST)).read_line(&mut question).await?;
    let answer = match question.trim() {
        "status" => {
            let version = env!("CARGO_PKG_VERSION");
            serde_json::to_string(&Status { pid: std::process::id(), version, file, units: board.units() })
        }
        _ => Ok(r#"{"error":"unknown_question"}"#.to_owned()),
    };
    writer.write_all(answer.unwrap_or_default().as_bytes()).await?;
    writer.write_all(b"\n").await
}

/// Asks every running `cvm serve` of this user for its status; sockets that nobody answers any more are removed.
pub(crate) async fn ask_all() -> Result<Vec<Value>, Problem> {
    let directory = directory()?;
    let Ok(files) = std::fs::read_dir(&directory) else { return Ok(Vec::new()) };
    let mut paths: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "sock"));
    paths.sort();
    let mut answers = Vec::new();
    for path in paths {
        match timeout(PATIENCE, ask(&path)).await {
            Ok(Ok(answer)) => answers.push(answer),
            Ok(Err(_)) if !is_running(&path) => {
                // Somebody else may have removed it already.
                let _left = std::fs::remove_file(&path);
            }
            Ok(Err(_)) | Err(_) => {
                let shown = Printable(&path.to_string_lossy()).to_string();
                answers.push(serde_json::json!({ "socket": shown, "error": "no answer" }));
            }
        }
    }
    Ok(answers)
}

/// Whether the process that a socket is named after still runs; one that has just begun may not listen yet.
fn is_running(path: &Path) -> bool {
    let number = path.file_stem().and_then(|name| name.to_str()?.parse().ok());
    let pid = number.and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

async fn ask(path: &Path) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(b"status\n").await?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer).await?;
    serde_json::from_str(&answer).map_err(std::io::Error::other)
}

/// Where control sockets lie: the runtime directory of the login, else the state directory.
fn directory() -> Result<PathBuf, Problem> {
    match keys::directory_of("XDG_RUNTIME_DIR") {
        Some(runtime) => Ok(runtime.join("cvm")),
        None => keys::state_directory().map(|state| state.join("run")),
    }
}

fn private(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let data = std::fs::metadata(directory)?;
    if data.uid() != rustix::process::geteuid().as_raw() {
        return Err(std::io::Error::other("it belongs to another user"));
    }
    if data.mode() & 0o077 != 0 {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}
