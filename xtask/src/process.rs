//! Programs that speak JSON lines on standard output.
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::shell::command;

/// A running part, killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Box<dyn BufRead>,
}

impl Process {
    /// Starts a program whose standard output is JSON lines.
    pub(crate) fn start(program: &str, args: &[&str]) -> Result<Self, Vec<String>> {
        Self::spawn(program, args, Stdio::null())
    }

    /// Starts a program as [`Self::start`] does and keeps its standard error in a file.
    pub(crate) fn start_logged(program: &str, args: &[&str], log: &Path) -> Result<Self, Vec<String>> {
        let directory = log.parent().unwrap_or(log);
        let file = fs::create_dir_all(directory).and_then(|()| File::create(log));
        Self::spawn(program, args, file.map_err(|error| vec![format!("{}: {error}", log.display())])?.into())
    }

    fn spawn(program: &str, args: &[&str], errors: Stdio) -> Result<Self, Vec<String>> {
        let mut command: Command = command(program, args);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn();
        let mut child = spawned.map_err(|error| vec![format!("{program}: {error}")])?;
        let output = child.stdout.take().ok_or_else(|| vec![format!("{program}: no output")])?;
        Ok(Self { child, lines: Box::new(BufReader::new(output)) })
    }

    /// Waits for one line of JSON and takes a text out of it.
    pub(crate) fn text(&mut self, name: &str) -> Result<String, Vec<String>> {
        let line = self.line()?;
        let found = line.get(name).and_then(Value::as_str);
        found.map(str::to_owned).ok_or_else(|| vec![format!("no {name} in {line}")])
    }

    /// Waits for one line of JSON.
    pub(crate) fn line(&mut self) -> Result<Value, Vec<String>> {
        let mut line = String::new();
        self.lines.read_line(&mut line).map_err(|error| vec![error.to_string()])?;
        serde_json::from_str(&line).map_err(|error| vec![format!("{error} in {line:?}")])
    }

    /// Writes one line to its standard input.
    pub(crate) fn say(&mut self, line: &str) -> Result<(), Vec<String>> {
        let input = self.child.stdin.as_mut().ok_or_else(|| vec!["no input".to_owned()])?;
        writeln!(input, "{line}").and_then(|()| input.flush()).map_err(|error| vec![error.to_string()])
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // Already gone is as good as killed.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// User and system time so far, microseconds.
    pub(crate) fn cpu_us(&self) -> Result<u64, Vec<String>> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(&path).map_err(|error| vec![format!("{path}: {error}")])?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        // Clock ticks are hundredths of a second on Linux.
        Ok((ticks(11) + ticks(12)) * 10_000)
    }

    /// Resident memory, MB.
    pub(crate) fn rss_mb(&self) -> f64 {
        self.memory_mb("VmRSS:")
    }

    /// The most resident memory so far, MB.
    pub(crate) fn peak_mb(&self) -> f64 {
        self.memory_mb("VmHWM:")
    }

    fn memory_mb(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
