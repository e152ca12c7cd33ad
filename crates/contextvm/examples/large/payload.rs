//! Text that every program of the interoperability cells makes alike, and a program that stops itself for a while.
use std::process::{Command, Stdio};

use bitcoin_hashes::sha256;

/// Makes one line of it: quotes, backslashes, control characters, multi-byte text.
pub(crate) fn line(index: usize) -> String {
    format!(
        "{index}: the \"quick\" \\brown\\ fox\tsaid zażółć gęślą jaźń \u{1F980} and \u{1}\u{7f} twice\r\n"
    )
}

/// Makes whole lines, at least that many bytes of UTF-8.
pub(crate) fn text_of(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes.saturating_add(128));
    let mut index = 0;
    while text.len() < bytes {
        text.push_str(&line(index));
        index += 1;
    }
    text
}

/// Says how long a text is and its SHA-256.
pub(crate) fn digest(text: &str) -> String {
    format!("{} {}", text.len(), sha256::Hash::hash(text.as_bytes()))
}

/// Stops this whole program for a while: it answers nothing, not even a ping.
pub(crate) fn freeze(seconds: u32) {
    let id = std::process::id();
    let script = format!("kill -STOP {id}; sleep {seconds}; kill -CONT {id}");
    let shell = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    // Without a shell nothing stops, and the step fails.
    drop(shell);
}
