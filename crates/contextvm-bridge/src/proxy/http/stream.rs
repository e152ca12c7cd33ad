//! One stream of events: what is kept of it for its reader, or for a host that lost its connection.
use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

/// One message of a stream.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Its place in the stream; the first one is 1.
    pub(super) number: u64,
    /// One JSON-RPC message in one line.
    pub(super) line: Arc<str>,
    /// It answers the request that the stream belongs to, and is the last one.
    pub(super) is_answer: bool,
}

/// A stream that is written without waiting and read by at most one reader, the latest.
#[derive(Debug)]
pub(super) struct Stream(watch::Sender<Kept>);

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Event>,
    bytes: usize,
    /// The number of the last event.
    last: u64,
    /// The number of the last event that a reader took.
    read: u64,
    has_ended: bool,
    /// How many readers there were; only the latest may read.
    turn: u64,
    has_reader: bool,
    /// Whether events are kept when they were read.
    is_resumable: bool,
}

impl Kept {
    /// Returns the first event after this one that is kept.
    fn after(&self, number: u64) -> Option<&Event> {
        let first = self.events.front()?.number;
        self.events.get(usize::try_from((number + 1).saturating_sub(first)).ok()?)
    }

    fn forget(&mut self) -> Option<Event> {
        let oldest = self.events.pop_front()?;
        self.bytes -= oldest.line.len();
        Some(oldest)
    }
}

impl Stream {
    /// Makes a stream that keeps nothing for a second reader.
    pub(super) fn once() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Kept::default())))
    }

    /// Makes a stream that keeps what was read for a reader that asks for it again.
    pub(super) fn resumable() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Kept { is_resumable: true, ..Kept::default() })))
    }

    /// Adds a message; an answer ends the stream. When more than `limit` bytes are kept beside it the oldest messages go.
    /// Returns how many went that nobody had read.
    pub(super) fn push(&self, line: String, is_answer: bool, limit: usize) -> usize {
        let mut lost = 0;
        self.0.send_if_modified(|kept| {
            if kept.has_ended {
                return false;
            }
            kept.last += 1;
            let newest = line.len();
            kept.bytes += newest;
            kept.events.push_back(Event { number: kept.last, line: line.into(), is_answer });
            kept.has_ended = is_answer;
            while kept.bytes - newest > limit
                && let Some(oldest) = kept.events.pop_front()
            {
                kept.bytes -= oldest.line.len();
                lost += usize::from(oldest.number > kept.read);
            }
            true
        });
        lost
    }

    /// Ends the stream without an answer.
    pub(super) fn end(&self) {
        self.0.send_modify(|kept| kept.has_ended = true);
    }

    /// Makes the reader that reads from now on, after this event or after the last one that was read.
    pub(super) fn read(self: &Arc<Self>, after: Option<u64>) -> Reader {
        let (mut turn, mut last) = (0, 0);
        self.0.send_modify(|kept| {
            kept.turn += 1;
            kept.has_reader = true;
            turn = kept.turn;
            last = after.map_or(kept.read, |after| after.min(kept.last));
        });
        Reader { changes: self.0.subscribe(), stream: Arc::clone(self), turn, last }
    }

    /// Waits until nobody reads it.
    pub(super) async fn deserted(&self) {
        // The sender lives as long as `self`.
        let _open = self.0.subscribe().wait_for(|kept| !kept.has_reader).await.is_ok();
    }

    /// Waits until it has ended and returns the answer, if there is one.
    pub(super) async fn answer(&self) -> Option<Arc<str>> {
        let mut changes = self.0.subscribe();
        let kept = changes.wait_for(|kept| kept.has_ended).await.ok()?;
        kept.events.back().filter(|event| event.is_answer).map(|event| Arc::clone(&event.line))
    }

    /// Whether somebody reads it.
    pub(super) fn has_reader(&self) -> bool {
        self.0.borrow().has_reader
    }

    /// How many bytes are kept of it.
    pub(super) fn bytes(&self) -> usize {
        self.0.borrow().bytes
    }
}

/// Reads a stream until it ends or somebody else reads it. Dropping it leaves the stream as it is.
#[derive(Debug)]
pub(super) struct Reader {
    stream: Arc<Stream>,
    changes: watch::Receiver<Kept>,
    turn: u64,
    last: u64,
}

impl Reader {
    /// The number of the event that was read last.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Waits for the next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            {
                let kept = self.changes.borrow_and_update();
                if kept.turn != self.turn {
                    return None;
                }
                if let Some(event) = kept.after(self.last).cloned() {
                    drop(kept);
                    self.last = event.number;
                    // Nobody waits for this.
                    self.stream.0.send_if_modified(|kept| {
                        kept.read = kept.read.max(event.number);
                        while !kept.is_resumable
                            && kept.events.front().is_some_and(|oldest| oldest.number <= kept.read)
                        {
                            kept.forget();
                        }
                        false
                    });
                    return Some(event);
                }
                if kept.has_ended {
                    return None;
                }
            }
            self.changes.changed().await.ok()?;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.0.send_if_modified(|kept| {
            let was_reading = kept.turn == self.turn;
            kept.has_reader &= !was_reading;
            was_reading
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn lines(reader: &mut Reader) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(Some(event)) = reader.next().now_or_never() {
            lines.push(format!("{} {}", event.number, event.line));
        }
        lines
    }

    #[tokio::test]
    async fn a_reader_goes_on_where_the_last_one_stopped_or_where_it_says() {
        let stream = Stream::resumable();
        stream.push("a".to_owned(), false, 100);
        stream.push("b".to_owned(), false, 100);
        let mut first = stream.read(None);
        assert_eq!(first.next().await.unwrap().number, 1);
        let mut second = stream.read(None);
        assert!(first.next().await.is_none());
        assert_eq!(lines(&mut second), ["2 b"]);
        drop(first);
        assert!(stream.has_reader());
        assert_eq!(lines(&mut stream.read(Some(0))), ["1 a", "2 b"]);
        assert_eq!(lines(&mut stream.read(Some(1))), ["2 b"]);
        assert_eq!(lines(&mut stream.read(Some(99))), [""; 0]);
        assert!(second.next().await.is_none());
        stream.deserted().await;
    }

    #[tokio::test]
    async fn an_answer_is_the_last_event_and_wakes_who_waits() {
        let stream = Stream::resumable();
        let (answer, event, ()) =
            tokio::join!(stream.answer(), async { stream.read(None).next().await }, async {
                tokio::task::yield_now().await;
                stream.push("answer".to_owned(), true, 1);
                stream.push("late".to_owned(), false, 100);
            });
        assert_eq!(answer.as_deref(), Some("answer"));
        assert!(event.unwrap().is_answer);
        let mut reader = stream.read(Some(0));
        assert_eq!(reader.next().await.unwrap().number, 1);
        assert!(reader.next().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_that_ended_without_an_answer_has_none() {
        let stream = Stream::resumable();
        stream.push("a".to_owned(), false, 100);
        stream.end();
        assert_eq!(stream.answer().await, None);
    }

    #[tokio::test]
    async fn a_stream_that_is_read_once_keeps_only_what_was_not_read() {
        let stream = Stream::once();
        stream.push("a".to_owned(), false, 100);
        stream.push("b".to_owned(), false, 100);
        assert_eq!(stream.read(None).next().await.unwrap().number, 1);
        assert_eq!(stream.bytes(), 1);
        assert_eq!(stream.push("c".repeat(100), true, 0), 1);
        assert_eq!(lines(&mut stream.read(Some(0))).len(), 1);
        assert_eq!(stream.bytes(), 0);
    }

    #[tokio::test]
    async fn the_oldest_messages_go_first_and_what_was_not_read_is_counted() {
        let stream = Stream::resumable();
        assert_eq!(stream.push("aaaa".to_owned(), false, 10), 0);
        assert_eq!(stream.read(None).next().await.unwrap().number, 1);
        assert_eq!(stream.push("bbbb".to_owned(), false, 10), 0);
        assert_eq!(stream.push("cccc".to_owned(), false, 10), 0);
        assert_eq!(stream.push("dddd".to_owned(), false, 10), 0);
        assert_eq!(stream.bytes(), 12);
        assert_eq!(stream.push("e".repeat(1_000), true, 10), 1, "a long one costs no other its place");
        let mut reader = stream.read(Some(1));
        assert_eq!(reader.next().await.unwrap().number, 3);
        assert_eq!(reader.next().await.unwrap().number, 4);
        assert_eq!(reader.next().await.unwrap().number, 5);
        assert!(reader.next().await.is_none());
    }
}
