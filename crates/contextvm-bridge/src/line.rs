//! Lines of a stream, each bounded: one that is too long or not UTF-8 is skipped and reported.
use std::io;

pub use contextvm_core::line::Line;
use contextvm_core::line::Lines;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use crate::passes::{LONG, Pass, Passes};

/// Reads lines and never holds more than the limit.
#[derive(Debug)]
pub struct LineReader<R> {
    reader: BufReader<R>,
    lines: Lines,
    passes: Option<Passes>,
    pass: Option<Pass>,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Makes a reader of lines of at most `limit` bytes.
    pub fn new(reader: R, limit: usize) -> Self {
        let reader = BufReader::with_capacity(64 * 1024, reader);
        Self { reader, lines: Lines::new(limit), passes: None, pass: None }
    }

    /// Waits for a pass before more of a long line is read.
    pub(crate) fn with_passes(mut self, passes: Passes) -> Self {
        self.passes = Some(passes);
        self
    }

    /// Returns the pass of the line that was read last, if it needed one.
    pub(crate) const fn take_pass(&mut self) -> Option<Pass> {
        self.pass.take()
    }

    /// Waits for the next line; `None` at the end. An unfinished last line counts as a line. Cancel-safe.
    ///
    /// # Errors
    /// Fails when the stream does.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                return Ok(self.lines.finish());
            }
            let held = self.lines.held_after(chunk);
            if held == 0 {
                self.pass = None;
            } else if held > LONG
                && self.pass.is_none()
                && let Some(passes) = &self.passes
            {
                self.pass = Some(passes.take().await);
            }
            let (used, line) = self.lines.take(chunk);
            self.reader.consume(used);
            if line.is_some() {
                return Ok(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    async fn lines(input: &[u8], limit: usize) -> Vec<Line> {
        let mut reader = LineReader::new(input, limit);
        let mut out = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            out.push(line);
        }
        out
    }

    fn text(text: &str) -> Line {
        Line::Text(text.to_owned())
    }

    #[tokio::test]
    async fn line_ends_and_byte_order_marks_are_not_part_of_a_line() {
        let read = lines(b"\xef\xbb\xbf{}\r\n\n{\"a\":1}\nhalf", 100).await;
        assert_eq!(read, [text("{}"), text(""), text("{\"a\":1}"), text("half")]);
    }

    #[tokio::test]
    async fn a_long_line_is_skipped_and_the_next_one_is_read() {
        let mut input = vec![b'x'; 300_000];
        input.extend_from_slice(b"\n{}\n");
        assert_eq!(lines(&input, 1_000).await, [Line::TooLong(300_000), text("{}")]);
    }

    #[tokio::test]
    async fn a_line_of_exactly_the_limit_is_taken() {
        assert_eq!(lines(b"12345\n123456\n", 5).await, [text("12345"), Line::TooLong(6)]);
    }

    #[tokio::test]
    async fn a_line_that_is_not_utf8_is_reported_with_its_length() {
        assert_eq!(lines(b"\xff\xfe\n{}\n", 100).await, [Line::NotUtf8(2), text("{}")]);
    }

    #[tokio::test]
    async fn a_long_line_waits_for_a_pass_and_a_short_one_does_not() {
        let passes = Passes::default();
        let (short, long) = ("x\n".to_owned(), format!("{}\n", "x".repeat(LONG + 1)));
        let reader = |text: &str| LineReader::new(std::io::Cursor::new(text.to_owned()), 1_000_000);
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut reader = reader(&long).with_passes(passes.clone());
            reader.next().await.unwrap();
            held.push(reader.take_pass().expect("it took one"));
        }
        let mut waiting = reader(&long).with_passes(passes.clone());
        assert!(waiting.next().now_or_never().is_none());
        let mut quick = reader(&short).with_passes(passes);
        assert_eq!(quick.next().await.unwrap(), Some(text("x")));
        assert!(quick.take_pass().is_none());
        held.pop();
        assert_eq!(waiting.next().await.unwrap(), Some(text(long.trim_end())));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_gives_its_pass_back() {
        let input = [vec![b'x'; LONG * 3], b"\n".to_vec()].concat();
        let mut reader = LineReader::new(&input[..], LONG * 2).with_passes(Passes::default());
        assert!(matches!(reader.next().await.unwrap(), Some(Line::TooLong(_))));
        assert!(reader.take_pass().is_none());
    }

    #[tokio::test]
    async fn a_cut_long_line_at_the_end_is_reported() {
        assert_eq!(lines(b"123456789", 5).await, [Line::TooLong(9)]);
    }
}
