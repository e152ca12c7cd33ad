//! The child's standard error: line by line, bounded, made printable.
use std::time::Duration;

use contextvm_core::Printable;
use tokio::io::AsyncRead;
use tokio::time::Instant;

use crate::line::{Line, LineReader};
use crate::notice::{Notice, Reporter};

/// Longest line of standard error that is read, bytes.
const LINE: usize = 8 * 1024;
/// Longest line that is shown, characters.
const SHOWN: usize = 2_000;
/// Most lines shown per [`PERIOD`].
const LINES: u32 = 200;
const PERIOD: Duration = Duration::from_secs(1);

/// Reads until the end; what comes too fast is counted and not shown, and never blocks the child.
pub(crate) async fn forward(stderr: impl AsyncRead + Unpin, reporter: Reporter) {
    let mut reader = LineReader::new(stderr, LINE);
    let mut since = Instant::now();
    let (mut shown, mut hidden) = (0_u32, 0_u64);
    loop {
        let line = reader.next().await;
        if since.elapsed() >= PERIOD {
            since = Instant::now();
            shown = 0;
            tell_hidden(&reporter, &mut hidden);
        }
        let text = match line {
            Ok(Some(line)) => shown_text(&line),
            Ok(None) | Err(_) => break,
        };
        if shown < LINES {
            shown += 1;
            reporter.tell(&Notice::ChildSaid(text));
        } else {
            hidden = hidden.saturating_add(1);
        }
    }
    tell_hidden(&reporter, &mut hidden);
}

fn tell_hidden(reporter: &Reporter, hidden: &mut u64) {
    if *hidden > 0 {
        reporter.tell(&Notice::ChildSaidMore(core::mem::take(hidden)));
    }
}

fn shown_text(line: &Line) -> String {
    match line {
        Line::Text(text) => Printable::short(text, SHOWN).to_string(),
        Line::TooLong(bytes) => format!("({bytes} bytes in one line)"),
        Line::NotUtf8(bytes) => format!("({bytes} bytes that are not text)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    async fn told(input: &[u8]) -> Vec<Notice> {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&notices);
        forward(input, Reporter::new(move |notice| sink.lock().unwrap().push(notice.clone()))).await;
        let told = notices.lock().unwrap();
        told.clone()
    }

    #[tokio::test]
    async fn what_the_child_says_cannot_move_the_cursor() {
        let said = told("\u{1b}[2Jhello\u{202e}\n".as_bytes()).await;
        let [Notice::ChildSaid(line)] = said.as_slice() else { panic!("{said:?}") };
        assert!(line.contains("hello") && !line.contains('\u{1b}') && !line.contains('\u{202e}'), "{line}");
    }

    #[tokio::test]
    async fn a_flood_is_counted() {
        let said = told("x\n".repeat(10_000).as_bytes()).await;
        assert!(said.len() <= 1_000, "{}", said.len());
        let hidden =
            said.iter().map(|notice| if let Notice::ChildSaidMore(count) = notice { *count } else { 0 });
        let shown = said.iter().filter(|notice| matches!(notice, Notice::ChildSaid(_))).count();
        assert_eq!(hidden.sum::<u64>() + u64::try_from(shown).unwrap(), 10_000);
    }
}
