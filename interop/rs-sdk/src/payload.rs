//! Text that every program makes alike, and a program that stops itself for a while.
use std::process::{Command, Stdio};

use nostr_sdk::hashes::{Hash, sha256};

/// Makes one line of it: quotes, backslashes, control characters, multi-byte text.
pub fn line(index: usize) -> String {
    format!(
        "{index}: the \"quick\" \\brown\\ fox\tsaid zażółć gęślą jaźń \u{1F980} and \u{1}\u{7f} twice\r\n"
    )
}

/// Makes whole lines, at least that many bytes of UTF-8.
pub fn text_of(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 128);
    for index in 0.. {
        if text.len() >= bytes {
            break;
        }
        text.push_str(&line(index));
    }
    text
}

/// Says how long a text is and its SHA-256.
pub fn digest(text: &str) -> String {
    format!("{} {}", text.len(), sha256::Hash::hash(text.as_bytes()))
}

/// Stops this whole program for a while: it answers nothing, not even a ping.
pub fn freeze(seconds: u32) {
    let id = std::process::id();
    let script = format!("kill -STOP {id}; sleep {seconds}; kill -CONT {id}");
    let shell = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    // Without a shell nothing stops, and the step fails.
    drop(shell);
}
