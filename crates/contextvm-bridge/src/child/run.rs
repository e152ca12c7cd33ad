//! The supervision loop: start, move lines, notice the end, clean up the group, start again.
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::command::ChildCommand;
use super::group::Group;
use super::restart::Restarts;
use super::{ChildEvent, ChildOptions, Event, Exit, Input, said};
use crate::line::{Line, LineReader};

/// How long lines that a dead child left in the pipe are read; calls in flight wait for it.
const DRAIN: Duration = Duration::from_millis(50);
/// How long the last words of a dead child are listened to; nobody waits for them.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long a child may live on without its output.
const DEAF: Duration = Duration::from_millis(500);
/// How long a child may take to end after its input was closed, before it is told to.
const POLITE: Duration = Duration::from_millis(250);
/// How long a killed child may take to be gone.
const BURIAL: Duration = Duration::from_secs(5);

/// Everything that keeps one child alive.
pub(super) struct Supervisor {
    pub(super) command: ChildCommand,
    pub(super) options: ChildOptions,
    pub(super) lines: mpsc::Receiver<Input>,
    pub(super) queued: Arc<AtomicUsize>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) kick: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

/// Why a generation is over.
enum End {
    Exited(Option<std::process::ExitStatus>),
    Output,
    Asked,
}

impl Supervisor {
    pub(super) async fn supervise(mut self) {
        let mut restarts = Restarts::new(self.options.restart);
        let stop = self.stop.clone();
        for generation in 1_u64.. {
            let born = Instant::now();
            let exit = self.run(generation).await;
            let restart = if stop.is_cancelled() {
                None
            } else {
                restarts.after(exit == Exit::Code(0), born.elapsed(), Instant::now(), chance())
            };
            let down = ChildEvent::Down { generation, exit, restart };
            tokio::select! {
                sent = self.events.send((down, None)) => if sent.is_err() { return },
                () = stop.cancelled() => return,
            }
            let Some((wait, _)) = restart else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Runs one generation to its end.
    async fn run(&mut self, generation: u64) -> Exit {
        let mut group = Group::begin();
        let mut child = match self.spawn(&mut group) {
            Ok(child) => child,
            Err(error) => {
                group.end().await;
                return Exit::NotStarted(error.to_string());
            }
        };
        let Some(pid) = child.id() else { return Exit::Unknown };
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else { return Exit::Unknown };
        let said = AbortOnDropHandle::new(tokio::spawn(said::forward(stderr, self.options.reporter.clone())));
        let reader = LineReader::new(stdout, self.options.line).with_passes(self.options.passes.clone());
        let mut reading = Box::pin(read(reader, &self.events, generation));
        let mut writing = Box::pin(write(stdin, &mut self.lines, &self.queued, generation));
        let mut wrote = false;
        let up = self.events.send((ChildEvent::Up { generation, pid }, None));
        let mut announcing = Box::pin(up);
        let mut announced = false;
        // Whoever was to be ended before is gone.
        std::pin::pin!(self.kick.notified()).as_mut().enable();
        let end = loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break End::Asked,
                _sent = &mut announcing, if !announced => announced = true,
                () = self.kick.notified() => break End::Asked,
                () = &mut reading, if announced => break End::Output,
                status = child.wait() => break End::Exited(status.ok()),
                () = &mut writing, if !wrote => wrote = true,
            }
        };
        // The end of its input is how a stdio server is asked to end.
        drop(writing);
        let exit = match end {
            End::Exited(status) => {
                group.end().await;
                let _rest = timeout(DRAIN, &mut reading).await;
                status.map_or(Exit::Unknown, Exit::of)
            }
            End::Output => match timeout(DEAF, child.wait()).await {
                Ok(Ok(status)) => Exit::of(status),
                Ok(Err(_)) | Err(_) => {
                    let _status = bury(&mut child, &mut group, self.options.grace).await;
                    Exit::Output
                }
            },
            End::Asked => tokio::select! {
                status = bury(&mut child, &mut group, self.options.grace) => status.map_or(Exit::Unknown, Exit::of),
                () = forever(&mut reading) => Exit::Unknown,
            },
        };
        group.end().await;
        let last_words = timeout(LAST_WORDS, said);
        if self.stop.is_cancelled() {
            let _ended = last_words.await;
        } else {
            tokio::spawn(last_words);
        }
        exit
    }

    fn spawn(&self, group: &mut Group) -> std::io::Result<Child> {
        let mut command = self.command.to_tokio();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        group.spawn(command)
    }
}

/// Waits a little, then TERM, then KILL, to the whole group.
async fn bury(child: &mut Child, group: &mut Group, grace: Duration) -> Option<std::process::ExitStatus> {
    if let Ok(status) = timeout(POLITE, child.wait()).await {
        return status.ok();
    }
    group.signal(Signal::TERM);
    if let Ok(status) = timeout(grace, child.wait()).await {
        return status.ok();
    }
    group.end().await;
    timeout(BURIAL, child.wait()).await.ok()?.ok()
}

/// Keeps reading, so that a child that still writes can end; itself it never ends.
async fn forever(reading: &mut Pin<Box<impl Future<Output = ()>>>) {
    reading.await;
    core::future::pending::<()>().await;
}

/// Moves lines from the child to the events until its output ends.
async fn read(mut reader: LineReader<impl AsyncRead + Unpin>, events: &mpsc::Sender<Event>, generation: u64) {
    while let Ok(Some(line)) = reader.next().await {
        let event = match line {
            Line::Text(text) if text.trim().is_empty() => continue,
            Line::Text(text) => ChildEvent::Line { generation, text },
            Line::TooLong(bytes) => ChildEvent::Bad { what: format!("{bytes} bytes in one line") },
            Line::NotUtf8(bytes) => ChildEvent::Bad { what: format!("{bytes} bytes that are not UTF-8") },
        };
        if events.send((event, reader.take_pass())).await.is_err() {
            return;
        }
    }
}

/// Moves lines to the child; ends when the child stops reading.
async fn write(
    mut stdin: impl AsyncWrite + Unpin,
    lines: &mut mpsc::Receiver<Input>,
    queued: &AtomicUsize,
    generation: u64,
) {
    while let Some(input) = lines.recv().await {
        queued.fetch_sub(input.line.len(), Ordering::AcqRel);
        if input.generation != generation {
            continue;
        }
        let mut line = input.line;
        line.push('\n');
        if stdin.write_all(line.as_bytes()).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}

/// A number from 0 to 1 that differs from process to process; good enough for jitter.
fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    let high = u32::try_from(random >> 32).unwrap_or(u32::MAX);
    f64::from(high) / f64::from(u32::MAX)
}
