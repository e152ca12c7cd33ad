//! A call whose stream is read (CEP-41): chunks in order, one end, and the answer.
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use contextvm_core::{Limits, Mono};
use contextvm_engine::{StreamEnd, StreamError, StreamNews};
use futures_util::Stream;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::desk::{Answer, Signals};
use crate::queue::Weighed;
use crate::{Answered, CallError};

/// The least that a chunk costs in the account of what was not taken, bytes.
const LEAST_COST: usize = 64;
/// How long a reader who is behind may hold up what comes after, until it has caught up.
const PATIENCE: Duration = Duration::from_secs(1);

/// One piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamChunk {
    /// 0, 1, 2 ... without a gap.
    pub index: u64,
    /// The text, as the server wrote it; print it through [`contextvm_core::Printable`].
    pub data: Box<str>,
}

/// Why a stream ended before its writer closed it; the chunks before are the beginning of what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("the stream failed: {error}")]
pub struct StreamFailure {
    /// Why.
    pub error: StreamError,
    /// What the server said, if it was the one who aborted; print it through [`contextvm_core::Printable`].
    pub reason: Option<String>,
}

/// A call under way whose stream is read, from [`Client::call_stream`](crate::Client::call_stream).
///
/// It is a [`Stream`] of the chunks in order, of which the last item may be a failure; it ends with `None`, at the latest soon after
/// the answer. [`Self::answer`] then gives the result of the call.
///
/// What was not read counts against `Limits::stream_buffer`. While it is more than half of that, the client takes nothing from its
/// relays, for one second at most until the reader has caught up; who reads more slowly gets [`StreamError::TooSlow`] and nothing
/// more of this stream.
///
/// Dropping it aborts the stream and cancels the call.
///
/// ```no_run
/// # async fn read(client: contextvm_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut call = client.call_stream("tools/call", None).await?;
/// while let Some(chunk) = call.chunk().await {
///     print!("{}", contextvm_core::Printable(&chunk?.data));
/// }
/// let answered = call.answer().await?;
/// println!("{}", answered.result);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct StreamedCall {
    news: mpsc::Receiver<StreamNews>,
    flow: Arc<Flow>,
    signals: Arc<Signals>,
    answer: oneshot::Receiver<Weighed<Answer>>,
    is_answered: bool,
    is_over: bool,
}

impl StreamedCall {
    /// Waits for the next chunk; `None` when the stream is over, also after a failure. Cancel-safe.
    ///
    /// The same as `next` of a [`Stream`].
    pub async fn chunk(&mut self) -> Option<Result<StreamChunk, StreamFailure>> {
        core::future::poll_fn(|context| self.poll_chunk(context)).await
    }

    /// Waits for the answer of the call; chunks that come until then are thrown away.
    ///
    /// Dropping the future cancels the call.
    ///
    /// # Errors
    /// As [`Client::request`](crate::Client::request). After a stream that failed the answer is usually an error of the server.
    pub async fn answer(mut self) -> Result<Answered, CallError> {
        let answer = core::future::poll_fn(|context| {
            // A chunk that nobody takes would fail the stream, and with it the answer.
            while let Poll::Ready(Some(_unread)) = self.poll_chunk(context) {}
            Pin::new(&mut self.answer).poll(context)
        });
        let answer = answer.await;
        self.is_answered = true;
        answer.map_or(Err(CallError::Closed), Weighed::open)
    }

    /// Gives the stream up and tells the server why, in at most 256 bytes. The call goes on.
    ///
    /// What has arrived can still be read; behind it, [`StreamError::Cancelled`] follows.
    pub fn abort(&mut self, reason: Option<&str>) {
        self.flow.stop(reason, &self.signals);
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<StreamChunk, StreamFailure>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let Poll::Ready(news) = self.news.poll_recv(context) else { return Poll::Pending };
        let end = match news {
            Some(StreamNews::Chunk { index, data }) => {
                self.flow.take(&data, &self.signals);
                return Poll::Ready(Some(Ok(StreamChunk { index, data })));
            }
            Some(StreamNews::Ended(end)) => end,
            // The client is gone.
            None => StreamEnd::Failed { error: StreamError::Cancelled, reason: None },
        };
        self.is_over = true;
        Poll::Ready(match end {
            StreamEnd::Closed { .. } | StreamEnd::Answered { .. } => None,
            StreamEnd::Failed { error, reason } => Some(Err(StreamFailure { error, reason })),
        })
    }
}

impl Stream for StreamedCall {
    type Item = Result<StreamChunk, StreamFailure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(context)
    }
}

impl Drop for StreamedCall {
    fn drop(&mut self) {
        self.news.close();
        self.flow.stop(None, &self.signals);
        if !self.is_answered {
            self.answer.close();
            self.signals.abandoned.notify_one();
        }
    }
}

/// What the reader of one stream tells the desk, however full the desk's inbox is.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Chunks taken since the desk asked.
    taken: AtomicUsize,
    /// What they cost, bytes.
    freed: AtomicUsize,
    /// Nothing more is wanted; with what the server is told.
    stopped: OnceLock<Option<String>>,
}

impl Flow {
    fn take(&self, data: &str, signals: &Signals) {
        self.freed.fetch_add(cost(data), Ordering::AcqRel);
        self.taken.fetch_add(1, Ordering::AcqRel);
        signals.flow.notify_one();
    }

    fn stop(&self, reason: Option<&str>, signals: &Signals) {
        // The first word counts.
        if self.stopped.set(reason.map(str::to_owned)).is_ok() {
            signals.flow.notify_one();
        }
    }
}

/// The desk's end of one stream that is read.
#[derive(Debug)]
pub(crate) struct Reading {
    news: mpsc::Sender<StreamNews>,
    flow: Arc<Flow>,
    /// Chunks handed on that the machine still holds against the stream.
    untaken: usize,
    /// What they cost, bytes.
    waiting: usize,
    is_over: bool,
    is_stopped: bool,
}

/// How long what comes after is held up for readers who are behind, however many they are.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    until: Option<Mono>,
}

impl Patience {
    /// Returns until when readers are waited for: as long as one has not taken half of what may be held for it, and only once
    /// until all have taken almost everything.
    pub(crate) fn until<'a>(
        &mut self,
        streams: impl Iterator<Item = &'a Reading>,
        buffer: usize,
        now: Mono,
    ) -> Option<Mono> {
        let behind = streams.map(Reading::behind).max().unwrap_or(0);
        if behind <= buffer / 16 {
            self.until = None;
        }
        (behind > buffer / 2).then(|| *self.until.get_or_insert(now.after(PATIENCE)))
    }
}

/// What a chunk costs, bytes.
fn cost(data: &str) -> usize {
    data.len().saturating_add(LEAST_COST)
}

/// What the machine is to be told of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Taken(usize),
    Stop(Option<String>),
}

impl Reading {
    /// Makes both ends of a stream.
    pub(crate) fn new(
        limits: &Limits,
        answer: oneshot::Receiver<Weighed<Answer>>,
        signals: Arc<Signals>,
    ) -> (Self, StreamedCall) {
        // The machine holds a stream to as many chunks that were not taken; one place more for the end.
        let chunks = limits.stream_buffer / LEAST_COST;
        let (news, receiver) = mpsc::channel(chunks.saturating_add(1).min(Semaphore::MAX_PERMITS));
        let flow = Arc::new(Flow::default());
        let call = StreamedCall {
            news: receiver,
            flow: Arc::clone(&flow),
            signals,
            answer,
            is_answered: false,
            is_over: false,
        };
        (Self { news, flow, untaken: 0, waiting: 0, is_over: false, is_stopped: false }, call)
    }

    /// Hands news on without waiting. A reader that is gone has said so.
    pub(crate) fn tell(&mut self, news: StreamNews) {
        let (chunks, bytes) = match &news {
            StreamNews::Chunk { data, .. } => (1, cost(data)),
            StreamNews::Ended(_) => (0, 0),
        };
        self.is_over |= chunks == 0;
        match self.news.try_send(news) {
            Ok(()) => {
                self.untaken = self.untaken.saturating_add(chunks);
                self.waiting = self.waiting.saturating_add(bytes);
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::error!("the machine gave out more than it may")
            }
        }
    }

    /// Returns what the machine is to be told, once.
    pub(crate) fn wishes(&mut self) -> impl Iterator<Item = Wish> + use<> {
        let taken = self.flow.taken.swap(0, Ordering::AcqRel);
        self.untaken = self.untaken.saturating_sub(taken);
        self.waiting = self.waiting.saturating_sub(self.flow.freed.swap(0, Ordering::AcqRel));
        let stop = self.flow.stopped.get().filter(|_| !self.is_stopped).cloned();
        self.is_stopped |= stop.is_some();
        let taken = (taken > 0).then_some(Wish::Taken(taken));
        taken.into_iter().chain(stop.map(Wish::Stop))
    }

    /// Bytes that the reader has not taken, as long as more may come.
    fn behind(&self) -> usize {
        if self.is_over || self.is_stopped { 0 } else { self.waiting }
    }

    /// Whether nothing more can happen on it.
    pub(crate) fn is_done(&self) -> bool {
        self.is_over && (self.untaken == 0 || self.is_stopped)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    fn both() -> (Reading, StreamedCall, oneshot::Sender<Weighed<Answer>>, Arc<Signals>) {
        let (reply, answer) = oneshot::channel();
        let signals = Arc::<Signals>::default();
        let (reading, call) = Reading::new(&Limits::default(), answer, Arc::clone(&signals));
        (reading, call, reply, signals)
    }

    fn chunk(index: u64) -> StreamNews {
        StreamNews::Chunk { index, data: index.to_string().into() }
    }

    fn wishes(reading: &mut Reading) -> Vec<Wish> {
        reading.wishes().collect()
    }

    #[tokio::test]
    async fn a_chunk_counts_as_taken_when_it_is_and_the_end_comes_once() {
        let (mut reading, mut call, _reply, signals) = both();
        for index in 0..3 {
            reading.tell(chunk(index));
        }
        reading.tell(StreamNews::Ended(StreamEnd::Closed { chunks: 3 }));
        assert!(wishes(&mut reading).is_empty() && !reading.is_done());
        for index in 0..2 {
            assert_eq!(call.next().await.unwrap().unwrap().index, index);
        }
        signals.flow.notified().await;
        assert_eq!(wishes(&mut reading), [Wish::Taken(2)]);
        assert!(!reading.is_done(), "one is left");
        assert_eq!(&*call.chunk().await.unwrap().unwrap().data, "2");
        assert!(call.next().await.is_none() && call.next().await.is_none());
        assert_eq!(wishes(&mut reading), [Wish::Taken(1)]);
        assert!(reading.is_done());
    }

    #[tokio::test]
    async fn who_is_behind_is_waited_for_once_until_almost_all_is_taken() {
        let (mut reading, mut call, _reply, _signals) = both();
        let (mut patience, buffer) = (Patience::default(), 32_000);
        let mut until = |reading: &Reading, now| patience.until([reading].into_iter(), buffer, Mono(now));
        let chunk = |index| StreamNews::Chunk { index, data: "x".repeat(936).into() };
        for index in 0..16 {
            reading.tell(chunk(index));
        }
        assert_eq!(until(&reading, 5), None, "half of it may wait");
        reading.tell(chunk(16));
        assert_eq!(until(&reading, 10), Some(Mono(1_010)));
        assert_eq!(until(&reading, 500), Some(Mono(1_010)), "not longer because it lasts");
        for left in (3..=16).rev() {
            assert!(call.next().await.unwrap().is_ok());
            assert_eq!(wishes(&mut reading), [Wish::Taken(1)]);
            assert_eq!(until(&reading, 600), None, "{left} left");
        }
        // Read on, but not up: no new time for that.
        for index in 17..33 {
            reading.tell(chunk(index));
        }
        assert_eq!(until(&reading, 700), Some(Mono(1_010)));
        for _ in 0..17 {
            assert!(call.next().await.unwrap().is_ok());
        }
        assert_eq!(wishes(&mut reading), [Wish::Taken(17)]);
        assert_eq!(until(&reading, 800), None);
        for index in 33..50 {
            reading.tell(chunk(index));
        }
        assert_eq!(until(&reading, 900), Some(Mono(1_900)), "it had caught up");
        call.abort(None);
        assert_eq!(wishes(&mut reading), [Wish::Stop(None)]);
        assert_eq!(until(&reading, 900), None);
    }

    #[tokio::test]
    async fn many_who_are_behind_one_after_the_other_are_waited_for_once() {
        let mut both: Vec<_> = (0..20).map(|_| both()).collect();
        let (mut patience, buffer) = (Patience::default(), 32_000);
        let mut now = 0;
        for at in 0..both.len() {
            both[at].0.tell(StreamNews::Chunk { index: 0, data: "x".repeat(20_000).into() });
            let until = patience.until(both.iter().map(|(reading, ..)| reading), buffer, Mono(now));
            assert_eq!(until, Some(Mono(1_000)));
            now += 1_000;
        }
    }

    #[tokio::test]
    async fn a_failure_comes_behind_the_chunks_and_then_nothing() {
        let (mut reading, mut call, reply, _signals) = both();
        reading.tell(chunk(0));
        call.abort(Some("enough"));
        call.abort(Some("the first word counts"));
        assert_eq!(wishes(&mut reading), [Wish::Stop(Some("enough".into()))]);
        assert!(wishes(&mut reading).is_empty(), "said once");
        let error = StreamError::Cancelled;
        reading.tell(StreamNews::Ended(StreamEnd::Failed { error, reason: None }));
        assert!(reading.is_done(), "the machine holds nothing more");
        assert!(call.next().await.unwrap().is_ok());
        assert_eq!(call.next().await.unwrap().unwrap_err(), StreamFailure { error, reason: None });
        assert!(call.next().await.is_none());
        drop((reading, reply));
        assert!(matches!(call.answer().await, Err(CallError::Closed)));
    }

    #[tokio::test]
    async fn a_client_that_is_gone_is_no_proper_end() {
        let (mut reading, mut call, _reply, _signals) = both();
        reading.tell(chunk(0));
        drop(reading);
        assert!(call.next().await.unwrap().is_ok());
        assert_eq!(call.next().await.unwrap().unwrap_err().error, StreamError::Cancelled);
        assert!(call.next().await.is_none());
    }

    #[tokio::test]
    async fn what_is_dropped_is_stopped_and_cancelled() {
        let (mut reading, call, reply, signals) = both();
        reading.tell(chunk(0));
        drop(call);
        signals.flow.notified().await;
        signals.abandoned.notified().await;
        assert!(reply.is_closed());
        assert_eq!(wishes(&mut reading), [Wish::Stop(None)]);
        reading.tell(chunk(1));
        assert!(!reading.is_done());
        reading.tell(StreamNews::Ended(StreamEnd::Answered { chunks: 2 }));
        assert!(reading.is_done());
    }

    #[tokio::test]
    async fn an_answer_takes_what_is_not_read_and_cancels_nothing() {
        let (mut reading, call, reply, signals) = both();
        let waiting = tokio::spawn(call.answer());
        for index in 0..9 {
            reading.tell(chunk(index));
        }
        let mut taken = 0;
        while taken < 9 {
            signals.flow.notified().await;
            for wish in reading.wishes() {
                let Wish::Taken(chunks) = wish else { panic!("{wish:?}") };
                taken += chunks;
            }
        }
        reply.send(Weighed::new(Err(CallError::Answer), 0, &signals)).unwrap();
        assert!(matches!(waiting.await.unwrap(), Err(CallError::Answer)));
        let gone = signals.abandoned.notified();
        assert!(futures_util::FutureExt::now_or_never(gone).is_none(), "there is nothing to cancel");
    }
}
