//! Streams that a tool writes while its call runs (CEP-41).
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use contextvm_engine::{RequestKey, StreamError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::desk::Command;

/// Most text of one write that is handed over at once, bytes: so much may wait of each writer beside what the machine holds.
const PIECE: usize = 64 * 1024;

/// How far a stream has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Life {
    /// It can be written, or its close is on its way.
    #[default]
    Open,
    /// Everything was published, or nothing was written by the time of the answer.
    Closed,
    Failed(StreamError),
}

impl Life {
    const fn of(failure: Option<StreamError>) -> Self {
        match failure {
            Some(error) => Self::Failed(error),
            None => Self::Closed,
        }
    }
}

/// The streams that requests under way may have, as the application sees them.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<BTreeMap<RequestKey, watch::Sender<Life>>>);

impl Streams {
    /// Adds a request that may have a stream.
    pub(crate) fn open(&self, key: RequestKey) {
        self.table().insert(key, watch::Sender::default());
    }

    /// Ends a stream for whoever writes it.
    pub(crate) fn end(&self, key: &RequestKey, failure: Option<StreamError>) {
        if let Some(life) = self.table().remove(key) {
            life.send_replace(Life::of(failure));
        }
    }

    /// Ends all of them: the loop has ended.
    pub(crate) fn end_all(&self) {
        self.table().clear();
    }

    fn life(&self, key: &RequestKey) -> watch::Receiver<Life> {
        match self.table().get(key) {
            Some(life) => life.subscribe(),
            None => watch::Sender::new(Life::Closed).subscribe(),
        }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<RequestKey, watch::Sender<Life>>> {
        // What is inside is consistent at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a writer wants.
#[derive(Debug)]
pub(crate) enum Ask {
    Start(Option<String>),
    Write(String),
    Close,
    Abort(Option<String>),
}

/// What became of it.
pub(crate) type Reply = oneshot::Sender<Result<(), StreamError>>;

/// Writes the stream of one request, from [`stream_writer`](crate::rmcp::stream_writer) or
/// [`SessionSender::stream`](crate::SessionSender::stream).
///
/// The text reaches the caller in chunks and in order while the call runs. The answer of the call follows the end of the stream:
/// a stream that was not closed is closed by the answer. After an abort the caller gets an error in place of the answer. A writer that
/// was never used leaves no trace; dropping one does nothing.
///
/// ```no_run
/// # async fn tool(mut writer: contextvm_server::StreamWriter) -> Result<(), contextvm_server::StreamError> {
/// for line in ["one\n", "two\n"] {
///     writer.write(line).await?;
/// }
/// writer.close().await
/// # }
/// ```
pub struct StreamWriter {
    key: RequestKey,
    /// Absent when there is nothing to write to.
    commands: Option<mpsc::Sender<Command>>,
    life: watch::Receiver<Life>,
    /// What was asked for last, if its future was dropped before it was done.
    pending: Option<oneshot::Receiver<Result<(), StreamError>>>,
    is_closed: bool,
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWriter")
            .field("key", &self.key)
            .field("life", &*self.life.borrow())
            .finish_non_exhaustive()
    }
}

impl StreamWriter {
    pub(crate) fn new(key: RequestKey, commands: mpsc::Sender<Command>, streams: &Streams) -> Self {
        let life = streams.life(&key);
        Self { key, commands: Some(commands), life, pending: None, is_closed: false }
    }

    /// Makes a writer of a request that has no stream.
    pub(crate) fn of_nothing(key: RequestKey) -> Self {
        let life = watch::Sender::new(Life::Closed).subscribe();
        Self { key, commands: None, life, pending: None, is_closed: false }
    }

    /// Begins the stream before there is anything to write, and says what it carries. Without this the first write begins it.
    ///
    /// # Errors
    /// Fails when the stream is over, or when too many are open.
    pub async fn start(&mut self, content_type: Option<&str>) -> Result<(), StreamError> {
        self.ask(Ask::Start(content_type.map(str::to_owned))).await
    }

    /// Writes a text, and waits until all of it has its place: while the caller's relays are behind and `Limits::stream_buffer` of
    /// this stream waits for them, it waits too.
    ///
    /// When the future is dropped, the beginning of the text may have been written.
    ///
    /// # Errors
    /// Says why the stream is over: the caller aborted it, the call was cancelled, nobody answered for it, or it was closed.
    /// [`StreamError::Busy`] when too many streams are open, or another writer of the same stream waits.
    pub async fn write(&mut self, text: &str) -> Result<(), StreamError> {
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
            self.ask(Ask::Write(piece.to_owned())).await?;
            rest = after;
        }
        Ok(())
    }

    /// Closes the stream behind everything that was written; [`Self::ended`] says when the caller's relays have it all.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn close(&mut self) -> Result<(), StreamError> {
        self.ask(Ask::Close).await?;
        self.is_closed = true;
        Ok(())
    }

    /// Gives the stream up: what has not gone out is lost, and the caller is told why in at most 256 bytes. The answer of the call
    /// becomes an error, if it is none.
    ///
    /// # Errors
    /// Fails when the stream is over, or its close has gone out.
    pub async fn abort(&mut self, reason: Option<&str>) -> Result<(), StreamError> {
        // What waits for room would wait for nothing.
        self.pending = None;
        self.ask(Ask::Abort(reason.map(str::to_owned))).await
    }

    /// Whether text is still taken, as far as is known here.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.is_closed && self.over().is_ok()
    }

    /// Waits until the stream is over, whether or not it was used: `None` when it was closed and everything is published, or when the
    /// call was answered without it; otherwise why. The signal to stop working when the caller aborts, cancels, or is gone.
    ///
    /// The future does not borrow the writer.
    pub fn ended(&self) -> impl Future<Output = Option<StreamError>> + Send + 'static + use<> {
        let mut life = self.life.clone();
        async move {
            match life.wait_for(|life| *life != Life::Open).await.as_deref() {
                Ok(Life::Failed(error)) => Some(*error),
                Ok(Life::Closed | Life::Open) => None,
                // The server is gone.
                Err(_) => Some(StreamError::Cancelled),
            }
        }
    }

    fn over(&self) -> Result<(), StreamError> {
        match *self.life.borrow() {
            Life::Failed(error) => Err(error),
            Life::Closed => Err(StreamError::Ended),
            Life::Open if self.life.has_changed().is_err() => Err(StreamError::Cancelled),
            Life::Open => Ok(()),
        }
    }

    async fn ask(&mut self, ask: Ask) -> Result<(), StreamError> {
        self.settle().await?;
        self.over()?;
        let Some(commands) = &self.commands else { return Err(StreamError::Ended) };
        let (reply, answer) = oneshot::channel();
        let command = Command::Stream { key: self.key, ask, reply };
        commands.send(command).await.map_err(|_closed| StreamError::Cancelled)?;
        self.pending = Some(answer);
        self.settle().await
    }

    /// Waits for what was asked for last.
    async fn settle(&mut self) -> Result<(), StreamError> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        let result = pending.await;
        self.pending = None;
        // A loop that ended says nothing, and the stream may have ended before it came to this.
        result.unwrap_or(Err(StreamError::Cancelled)).map_err(|error| self.over().err().unwrap_or(error))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use nostr::event::EventId;
    use nostr::key::PublicKey;

    use super::*;

    const KEY: RequestKey =
        RequestKey { caller: PublicKey::from_byte_array([7; 32]), id: EventId::from_byte_array([1; 32]) };

    fn both() -> (StreamWriter, mpsc::Receiver<Command>, Streams) {
        let (commands, inbox) = mpsc::channel(8);
        let streams = Streams::default();
        streams.open(KEY);
        (StreamWriter::new(KEY, commands, &streams), inbox, streams)
    }

    fn asked(inbox: &mut mpsc::Receiver<Command>) -> (Ask, Reply) {
        match inbox.try_recv() {
            Ok(Command::Stream { key, ask, reply }) if key == KEY => (ask, reply),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_long_text_is_handed_over_piece_by_piece_between_characters() {
        let (mut writer, mut inbox, _streams) = both();
        let text = format!("a{}", "é".repeat(PIECE));
        let sent = text.clone();
        let writing = tokio::spawn(async move { writer.write(&sent).await });
        let mut whole = String::new();
        while whole.len() < text.len() {
            let Some(Command::Stream { ask: Ask::Write(piece), reply, .. }) = inbox.recv().await else {
                panic!("no piece")
            };
            assert!(piece.len() <= PIECE);
            assert!(inbox.try_recv().is_err(), "one at a time");
            whole.push_str(&piece);
            reply.send(Ok(())).unwrap();
        }
        assert!(whole == text);
        assert_eq!(writing.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_write_that_was_not_waited_for_is_before_the_next() {
        let (mut writer, mut inbox, _streams) = both();
        assert!(writer.write("one").now_or_never().is_none());
        let (_, first) = asked(&mut inbox);
        assert!(writer.write("two").now_or_never().is_none());
        assert!(inbox.try_recv().is_err(), "the first waits for room");
        first.send(Ok(())).unwrap();
        assert!(writer.write("two").now_or_never().is_none());
        assert!(matches!(asked(&mut inbox), (Ask::Write(text), _) if text == "two"));
        assert!(writer.abort(None).now_or_never().is_none());
        assert!(matches!(asked(&mut inbox), (Ask::Abort(None), _)), "what waits is given up");
    }

    #[tokio::test]
    async fn an_end_is_known_at_once_and_for_good() {
        let (mut writer, mut inbox, streams) = both();
        let ended = writer.ended();
        assert!(writer.is_open() && writer.ended().now_or_never().is_none());
        streams.end(&KEY, Some(StreamError::Aborted));
        assert_eq!(ended.await, Some(StreamError::Aborted));
        assert!(!writer.is_open());
        assert_eq!(writer.write("x").await, Err(StreamError::Aborted));
        assert!(inbox.try_recv().is_err(), "nobody is asked");
        let (commands, _inbox) = mpsc::channel(1);
        let late = StreamWriter::new(KEY, commands, &streams);
        assert!(!late.is_open());
        assert_eq!(late.ended().await, None);
    }

    #[tokio::test]
    async fn the_end_of_the_loop_is_the_end_of_its_streams() {
        let (mut writer, inbox, streams) = both();
        streams.end_all();
        assert!(!writer.is_open());
        assert_eq!(writer.ended().await, Some(StreamError::Cancelled));
        drop(inbox);
        assert_eq!(writer.close().await, Err(StreamError::Cancelled));
        let mut nothing = StreamWriter::of_nothing(KEY);
        assert_eq!(nothing.write("x").await, Err(StreamError::Ended));
        assert_eq!((nothing.is_open(), nothing.ended().await), (false, None));
    }
}
