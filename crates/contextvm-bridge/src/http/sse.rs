//! The text of event streams (`text/event-stream`): written by the front, parsed by the upstream client.
use std::fmt::Write as _;
use std::time::Duration;

/// A comment: keeps a connection open, means nothing.
pub(crate) const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// Prints an event with one JSON-RPC message, which must be one line.
pub(crate) fn message(id: Option<&str>, line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 64);
    if let Some(id) = id {
        push_field(&mut out, "id", id);
    }
    push_field(&mut out, "event", "message");
    push_field(&mut out, "data", line);
    out.push('\n');
    out
}

/// Prints an event without data, which tells a client from where and when to resume.
pub(crate) fn priming(id: &str, retry: Duration) -> String {
    let mut out = String::with_capacity(64);
    push_field(&mut out, "id", id);
    // Writing to a string does not fail.
    let _written = writeln!(out, "retry: {}", retry.as_millis());
    out.push_str("data: \n\n");
    out
}

fn push_field(out: &mut String, name: &str, value: &str) {
    for part in [name, ": ", value, "\n"] {
        out.push_str(part);
    }
}

/// One event of a stream. Events without data are handed on too: their id counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its type; `None` means `message`.
    pub(crate) name: Option<String>,
    /// Its data, lines joined by line feeds.
    pub(crate) data: String,
    /// What to resume from once this event was read, if it says so.
    pub(crate) id: Option<String>,
    /// How long to wait before resuming, if it says so.
    pub(crate) retry: Option<Duration>,
}

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// An event, or a line of one, is longer than the limit.
    #[error("an event is longer than {0} bytes")]
    TooLong(usize),
    /// A line is not UTF-8.
    #[error("an event is not utf-8")]
    NotUtf8,
}

/// Makes events of the bytes of a stream, in whatever pieces they come; holds at most two limits of bytes.
#[derive(Debug)]
pub(crate) struct Parser {
    limit: usize,
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    /// The last byte was a carriage return: a line feed after it belongs to the same line end.
    after_return: bool,
    is_first: bool,
}

impl Parser {
    /// Makes a parser of events of at most `limit` bytes of data.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            event: Event::default(),
            has_data: false,
            after_return: false,
            is_first: true,
        }
    }

    /// Returns how many bytes of an unfinished event are held.
    pub(crate) fn held(&self) -> usize {
        self.line.len() + self.event.data.len()
    }

    /// Takes the next bytes and returns the events that they complete.
    ///
    /// # Errors
    /// Refuses what is too long or not UTF-8; the stream is of no use afterwards.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Event>, Broken> {
        let mut events = Vec::new();
        if core::mem::take(&mut self.after_return) {
            match bytes {
                [b'\n', rest @ ..] => bytes = rest,
                [] => self.after_return = true,
                _ => {}
            }
        }
        while let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, rest) = bytes.split_at(at);
            self.extend(line)?;
            self.end_line(&mut events)?;
            bytes = match rest {
                [b'\r', b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.after_return = true;
                    &[]
                }
                [_, rest @ ..] => rest,
                [] => &[],
            };
        }
        self.extend(bytes)?;
        Ok(events)
    }

    fn extend(&mut self, part: &[u8]) -> Result<(), Broken> {
        // Room for the name of the field.
        if self.line.len() + part.len() > self.limit.saturating_add(64) {
            return Err(Broken::TooLong(self.limit));
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<(), Broken> {
        let bytes = core::mem::take(&mut self.line);
        let line = core::str::from_utf8(&bytes).map_err(|_| Broken::NotUtf8)?;
        let line = match core::mem::take(&mut self.is_first) {
            true => line.strip_prefix('\u{feff}').unwrap_or(line),
            false => line,
        };
        if line.is_empty() {
            let event = core::mem::take(&mut self.event);
            if core::mem::take(&mut self.has_data) || event.id.is_some() || event.retry.is_some() {
                events.push(event);
            }
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        self.field(field, value.strip_prefix(' ').unwrap_or(value))
    }

    fn field(&mut self, field: &str, value: &str) -> Result<(), Broken> {
        match field {
            "data" => {
                if self.event.data.len() + value.len() >= self.limit.saturating_add(1) {
                    return Err(Broken::TooLong(self.limit));
                }
                if core::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => self.event.name = Some(value.to_owned()).filter(|name| !name.is_empty()),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.event.retry = value.parse().ok().map(Duration::from_millis);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Event {
        Event { data: text.to_owned(), ..Event::default() }
    }

    fn all(pieces: &[&[u8]], limit: usize) -> Result<Vec<Event>, Broken> {
        let mut parser = Parser::new(limit);
        let mut events = Vec::new();
        for piece in pieces {
            events.extend(parser.push(piece)?);
        }
        Ok(events)
    }

    #[test]
    fn what_is_written_is_read_back_in_pieces_of_any_size() {
        let mut text = priming("3-0", Duration::from_millis(500));
        text.push_str(KEEP_ALIVE);
        text.push_str(&message(Some("3-1"), r#"{"a":"é: b"}"#));
        text.push_str(&message(None, "{}"));
        let named = |event: Event| Event { name: Some("message".to_owned()), ..event };
        let expected = [
            Event { id: Some("3-0".to_owned()), retry: Some(Duration::from_millis(500)), ..Event::default() },
            named(Event { id: Some("3-1".to_owned()), ..data(r#"{"a":"é: b"}"#) }),
            named(data("{}")),
        ];
        for size in 1..text.len() {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(all(&pieces, 100).unwrap(), expected, "{size}");
        }
    }

    #[test]
    fn every_line_end_and_field_form_is_understood() {
        let text = b"\xef\xbb\xbfdata:a\r\ndata: b\r\rdata\r\n\r\n:c\nunknown: x\nid: a\0b\nretry: 1x\ndata:  d\n\nevent\n\nid: 7\n\n";
        let expected =
            [data("a\nb"), data(""), data(" d"), Event { id: Some("7".to_owned()), ..Event::default() }];
        assert_eq!(all(&[text], 100).unwrap(), expected);
        let pieces: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(all(&pieces, 100).unwrap(), expected);
        assert_eq!(all(&[b"data: x\r", b"", b"\n\r", b"\ndata: y\n\n"], 9).unwrap(), [data("x"), data("y")]);
    }

    #[test]
    fn an_unfinished_event_is_none() {
        assert_eq!(all(&[b"data: a\n"], 100), Ok(Vec::new()));
    }

    #[test]
    fn long_events_and_lines_and_bad_text_break_the_stream() {
        let long = [b"data: ", "x".repeat(101).as_bytes(), b"\n\n"].concat();
        assert_eq!(all(&[&long], 100), Err(Broken::TooLong(100)));
        assert_eq!(all(&[&long], 101).unwrap().len(), 1);
        let lines = "data: xxxxxxxxxx\n".repeat(11);
        assert_eq!(all(&[lines.as_bytes()], 100), Err(Broken::TooLong(100)));
        let endless: Vec<&[u8]> = vec![b"xxxxxxxxxx"; 100];
        assert_eq!(all(&endless, 100), Err(Broken::TooLong(100)));
        assert_eq!(all(&[b"data: \xff\n\n"], 100), Err(Broken::NotUtf8));
    }
}
