//! `cvm serve` before a server that streams by itself, and `cvm call`, with large messages and streams.
use std::fs;
use std::process::Stdio;

use serde_json::Value;

use super::super::{CVM, absolute};
use crate::process::Process;
use crate::shell::command;

/// The server behind `cvm serve`.
const CHILD: [&str; 2] = ["node", "interop/ts/stdio-server.mjs"];
/// Where an argument of 8 MiB is kept meanwhile.
const FILES: &str = "target/interop";
/// Sizes of arguments and results, bytes.
const SIZES: [usize; 3] = [100_000, 1 << 20, 8 << 20];
const CHUNKS: usize = 1_000;

/// Starts a gateway; returns its key too.
pub(super) fn serve(url: &str, wire: &str) -> Result<(Process, String), Vec<String>> {
    let serve = ["serve", "--ephemeral", "--open", "--json", "-q", "--relay", url];
    let mut server = Process::start(CVM, &[&serve, wires(wire), &["--"], &CHILD].concat())?;
    let key = server.text("server")?;
    Ok((server, key))
}

/// How `cvm` is told the wire.
fn wires(wire: &str) -> &'static [&'static str] {
    match wire {
        "persistent" => &["--encryption", "required", "--gift-wrap", "persistent"],
        "ephemeral" => &["--encryption", "required", "--gift-wrap", "ephemeral"],
        _ => &["--encryption", "disabled"],
    }
}

/// Calls a server with `cvm call`: arguments and results of all sizes, as far as the server can answer, then a stream.
pub(super) fn call(key: &str, url: &str, wire: &str, streams: bool) -> Result<String, Vec<String>> {
    let caller = Caller { key, url, wire };
    if streams {
        return caller.reads();
    }
    for bytes in SIZES {
        caller.sends(bytes)?;
        caller.receives(bytes)?;
    }
    Ok(format!("{} calls", 2 * SIZES.len()))
}

struct Caller<'a> {
    key: &'a str,
    url: &'a str,
    wire: &'a str,
}

impl Caller<'_> {
    fn sends(&self, bytes: usize) -> Result<(), Vec<String>> {
        let (path, text) = (absolute(&format!("{FILES}/{}-{bytes}.txt", self.wire)), text_of(bytes));
        let written = fs::create_dir_all(absolute(FILES)).and_then(|()| fs::write(&path, &text));
        written.map_err(|error| vec![format!("{path}: {error}")])?;
        let summed = command("sha256sum", &[&path]).output().map_err(|error| vec![error.to_string()])?;
        let sum = String::from_utf8_lossy(&summed.stdout);
        let expected = format!("{} {}", text.len(), sum.split_whitespace().next().unwrap_or_default());
        let heard = self.text(&["sha", &format!("text=@{path}")])?;
        // Of no use to anybody any more.
        let _gone = fs::remove_file(&path);
        let same = heard == expected;
        if same { Ok(()) } else { Err(vec![format!("the server has {heard}, not {expected}")]) }
    }

    fn receives(&self, bytes: usize) -> Result<(), Vec<String>> {
        let (heard, expected) = (self.text(&["blow", &format!("bytes:={bytes}")])?, text_of(bytes));
        let same = heard == expected;
        if same { Ok(()) } else { Err(vec![format!("{} bytes came of {}", heard.len(), expected.len())]) }
    }

    fn reads(&self) -> Result<String, Vec<String>> {
        let lines = self.run(&["--stream", "stream", &format!("chunks:={CHUNKS}")])?;
        let Some((last, chunks)) = lines.split_last() else { return Err(vec!["nothing printed".to_owned()]) };
        let is_due = |(index, chunk): (usize, &Value)| {
            chunk.get("index").and_then(Value::as_u64) == u64::try_from(index).ok()
                && chunk.get("data").and_then(Value::as_str) == Some(&line(index))
        };
        let wrong = chunks.iter().enumerate().find(|(index, chunk)| !is_due((*index, chunk)));
        match (wrong, chunks.len(), text_in(last)) {
            (None, CHUNKS, Some("1000 chunks")) => Ok(format!("{CHUNKS} chunks")),
            (wrong, count, answer) => Err(vec![format!("{count} chunks, {wrong:?}, {answer:?}")]),
        }
    }

    fn text(&self, words: &[&str]) -> Result<String, Vec<String>> {
        let lines = self.run(words)?;
        let text = lines.last().and_then(text_in);
        text.map(str::to_owned).ok_or_else(|| vec![format!("cvm call {words:?}: no text")])
    }

    fn run(&self, words: &[&str]) -> Result<Vec<Value>, Vec<String>> {
        let flags = ["--json", "--key", "ephemeral", "--timeout", "180s", "--relay", self.url];
        let (tool, options) = words.split_at(usize::from(words.first() == Some(&"--stream")));
        let args = [&["call"], tool, &flags, wires(self.wire), &[self.key], options].concat();
        let output = command(CVM, &args)
            // No memory of other runs, and none of this one.
            .env_remove("HOME")
            .env_remove("XDG_STATE_HOME")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| vec![error.to_string()])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if output.status.success() {
            return Ok(lines);
        }
        let said: String = String::from_utf8_lossy(&output.stderr).chars().take(600).collect();
        Err(vec![format!("cvm call {}: {} {said}", words.join(" "), output.status)])
    }
}

fn text_in(document: &Value) -> Option<&str> {
    document.pointer("/result/content/0/text").and_then(Value::as_str)
}

/// One line of the text that all programs make alike.
fn line(index: usize) -> String {
    format!(
        "{index}: the \"quick\" \\brown\\ fox\tsaid zażółć gęślą jaźń \u{1F980} and \u{1}\u{7f} twice\r\n"
    )
}

/// Whole lines, at least that many bytes of UTF-8.
fn text_of(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes.saturating_add(128));
    let mut index = 0;
    while text.len() < bytes {
        text.push_str(&line(index));
        index += 1;
    }
    text
}
