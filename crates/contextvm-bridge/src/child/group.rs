//! A process group that ends with this process, even when this process is killed outright.
//!
//! Linux' parent-death signal would need code that runs between fork and exec, which safe Rust does not offer, and it
//! reaches neither grandchildren nor other systems. So each group is led by a guard: a shell that waits for the end of a
//! pipe whose other end only this process holds, and then kills the group it leads. As the leader it keeps the group's
//! number from being given to others for as long as anybody may use it.
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

const SHELL: &str = "/bin/sh";
/// Signals that are meant for the child do not move the guard.
const GUARD: &str = "trap '' HUP INT QUIT TERM; read -r _; kill -KILL 0";

/// A process group; whatever is in it dies with this value, and with this process.
#[derive(Debug)]
pub(super) struct Group {
    guard: Option<Child>,
    id: Option<Pid>,
}

impl Group {
    /// Starts a guard. On a system without a shell the child leads the group itself, unguarded.
    pub(super) fn begin() -> Self {
        let mut command = Command::new(SHELL);
        command.args(["-c", GUARD]).env_clear().current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = command.spawn();
        if let Err(error) = &guard {
            tracing::warn!("a child runs without a guard, because {SHELL} could not be started: {error}");
        }
        let guard = guard.ok();
        let id = guard.as_ref().and_then(Child::id).and_then(pid);
        Self { guard, id }
    }

    /// Starts a program in the group.
    pub(super) fn spawn(&mut self, mut command: Command) -> std::io::Result<Child> {
        let child = command.process_group(self.id.map_or(0, Pid::as_raw_pid)).kill_on_drop(true).spawn()?;
        if self.id.is_none() {
            self.id = child.id().and_then(pid);
        }
        Ok(child)
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // An error means that nobody is left in the group.
            let _gone = kill_process_group(id, signal);
        }
    }

    /// Kills everybody in the group, the guard too, and returns once the guard is gone.
    pub(super) async fn end(&mut self) {
        self.kill();
        if let Some(mut guard) = self.guard.take() {
            let _status = guard.wait().await;
        }
    }

    /// Kills the group, once: later its number may belong to others.
    fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.id = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}
