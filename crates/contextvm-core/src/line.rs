//! Lines out of the chunks of a stream, each bounded: one that is too long or not UTF-8 is skipped and reported.
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// What one line turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Its text, without the line end and without a byte order mark.
    Text(String),
    /// It was longer than the limit; so many bytes were skipped.
    TooLong(u64),
    /// It was not UTF-8; so many bytes were skipped.
    NotUtf8(u64),
}

/// Puts lines together and never holds more than the limit.
#[derive(Clone, Debug)]
pub struct Lines {
    line: Vec<u8>,
    skipped: u64,
    limit: usize,
}

impl Lines {
    /// Makes one for lines of at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { line: Vec::new(), skipped: 0, limit }
    }

    /// Returns how many bytes of the line it will hold after this chunk, none if it skips them.
    #[must_use]
    pub fn held_after(&self, chunk: &[u8]) -> usize {
        let (part, _) = cut(chunk);
        let held = self.line.len() + part.len();
        if self.skipped > 0 || held > self.limit { 0 } else { held }
    }

    /// Takes a chunk up to its first line end; returns how many bytes it took, and the line if it is complete.
    ///
    /// Every chunk that is not empty gives at least one byte; what is left of it belongs to the next lines.
    pub fn take(&mut self, chunk: &[u8]) -> (usize, Option<Line>) {
        let (part, ended) = cut(chunk);
        if self.skipped > 0 || self.line.len() + part.len() > self.limit {
            let held = core::mem::take(&mut self.line).len() + part.len();
            self.skipped = self.skipped.saturating_add(u64::try_from(held).unwrap_or(u64::MAX)).max(1);
        } else {
            self.line.extend_from_slice(part);
        }
        if ended { (part.len() + 1, Some(self.line())) } else { (part.len(), None) }
    }

    /// Returns the unfinished last line when the stream has ended, if there is one.
    pub fn finish(&mut self) -> Option<Line> {
        let is_nothing = self.line.is_empty() && self.skipped == 0;
        (!is_nothing).then(|| self.line())
    }

    fn line(&mut self) -> Line {
        let skipped = core::mem::take(&mut self.skipped);
        if skipped > 0 {
            return Line::TooLong(skipped);
        }
        let mut bytes = core::mem::take(&mut self.line);
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match String::from_utf8(bytes) {
            Ok(text) => Line::Text(match text.strip_prefix('\u{feff}') {
                Some(rest) => rest.to_owned(),
                None => text,
            }),
            Err(_) => Line::NotUtf8(length),
        }
    }
}

/// The chunk up to its first line end, and whether there is one.
fn cut(chunk: &[u8]) -> (&[u8], bool) {
    match chunk.iter().position(|byte| *byte == b'\n') {
        Some(at) => (chunk.get(..at).unwrap_or_default(), true),
        None => (chunk, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn lines(chunks: &[&[u8]], limit: usize) -> Vec<Line> {
        let (mut lines, mut out) = (Lines::new(limit), Vec::new());
        for chunk in chunks {
            let mut rest = *chunk;
            while !rest.is_empty() {
                let (used, line) = lines.take(rest);
                rest = &rest[used..];
                out.extend(line);
            }
        }
        out.extend(lines.finish());
        out
    }

    #[test]
    fn lines_do_not_depend_on_the_chunks_they_came_in() {
        let expected = [Line::Text("ab".to_string()), Line::TooLong(6), Line::Text("c".to_string())];
        assert_eq!(lines(&[b"ab\r\n123456\nc"], 5), expected);
        assert_eq!(lines(&[b"a", b"b\r", b"\n12345", b"6", b"\n", b"c"], 5), expected);
    }

    #[test]
    fn what_will_be_held_is_known_beforehand() {
        let mut lines = Lines::new(5);
        assert_eq!(lines.held_after(b"123\n456789"), 3);
        assert_eq!(lines.take(b"123"), (3, None));
        assert_eq!((lines.held_after(b"45"), lines.held_after(b"456")), (5, 0));
        assert_eq!(lines.take(b"456"), (3, None));
        assert_eq!(lines.held_after(b"7"), 0, "the rest of a line that is too long is skipped");
        assert_eq!(lines.finish(), Some(Line::TooLong(6)));
        assert_eq!(lines.finish(), None);
    }
}
