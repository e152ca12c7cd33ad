//! The bounded queues of frames to one client, and the loop that writes them.
use crate::faults::CloseAfter;
use crate::room::Room;
use futures_util::{Sink, SinkExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

/// A reordered frame is let go after this time even when nothing overtakes it.
const HELD_AT_MOST: Duration = Duration::from_millis(50);
/// How often a client is asked whether it is still there.
const PING: Duration = Duration::from_secs(30);

/// A frame on its way into a queue.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The text of the frame.
    pub(crate) text: Utf8Bytes,
    /// When it may be written at the earliest.
    pub(crate) due: Option<Instant>,
    /// How many later frames overtake it.
    pub(crate) hold: usize,
    /// Whether it counts for [`CloseAfter::Events`].
    pub(crate) counts: bool,
}

#[derive(Debug)]
struct Queued {
    draft: Draft,
    _bytes: OwnedSemaphorePermit,
}

/// Says that a queue is full or its connection is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The part of the bounds that answers may take: whoever reads them slowly only waits for them.
const ANSWERS: usize = 4;

/// The writing end: live events, and answers to what the client asked, so that a long answer takes no room from what is live.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    live: Queue,
    answers: Queue,
}

/// One queue: bounded in frames and in bytes.
#[derive(Clone, Debug)]
struct Queue {
    frames: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
}

/// The reading end, owned by the write loop.
#[derive(Debug)]
pub(crate) struct Outgoing {
    live: mpsc::Receiver<Queued>,
    answers: mpsc::Receiver<Queued>,
}

/// Makes the queues for one connection; of answers a quarter as many frames and bytes wait.
pub(crate) fn queue(max_frames: usize, max_bytes: usize) -> (Outbox, Outgoing) {
    let (live, from_live) = Queue::new(max_frames, max_bytes);
    let (answers, from_answers) = Queue::new(max_frames / ANSWERS, max_bytes / ANSWERS);
    (Outbox { live, answers }, Outgoing { live: from_live, answers: from_answers })
}

impl Queue {
    fn new(max_frames: usize, max_bytes: usize) -> (Self, mpsc::Receiver<Queued>) {
        let max_bytes = u32::try_from(max_bytes).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 4);
        let (frames, receiver) = mpsc::channel(max_frames.max(1));
        let bytes = Arc::new(Semaphore::new(usize::try_from(max_bytes).unwrap_or(usize::MAX >> 4)));
        (Self { frames, bytes, max_bytes }, receiver)
    }

    fn cost(&self, draft: &Draft) -> u32 {
        u32::try_from(draft.text.len()).unwrap_or(u32::MAX).min(self.max_bytes)
    }
}

impl Outbox {
    /// Queues a live event now or not at all.
    pub(crate) fn offer(&self, draft: Draft) -> Result<(), Full> {
        let Queue { frames, bytes, .. } = &self.live;
        let permit = Arc::clone(bytes).try_acquire_many_owned(self.live.cost(&draft)).map_err(|_| Full)?;
        frames.try_send(Queued { draft, _bytes: permit }).map_err(|_| Full)
    }

    /// Queues an answer as soon as there is room; the client's own frames wait meanwhile.
    pub(crate) async fn push(&self, draft: Draft) -> Result<(), Full> {
        let Queue { frames, bytes, .. } = &self.answers;
        let permit = Arc::clone(bytes).acquire_many_owned(self.answers.cost(&draft)).await;
        frames.send(Queued { draft, _bytes: permit.map_err(|_| Full)? }).await.map_err(|_| Full)
    }
}

impl Outgoing {
    /// Waits for the next frame; what is live comes first. `None` when no more can come. Cancel-safe.
    async fn next(&mut self) -> Option<Queued> {
        tokio::select! {
            biased;
            Some(queued) = self.live.recv() => Some(queued),
            Some(queued) = self.answers.recv() => Some(queued),
            else => None,
        }
    }

    fn is_empty(&self) -> bool {
        self.live.is_empty() && self.answers.is_empty()
    }
}

/// Writes frames until the queue ends, the socket fails or the close-after fault strikes.
pub(crate) async fn write_loop<S>(mut outgoing: Outgoing, mut sink: S, room: &Room)
where
    S: Sink<Message> + Unpin,
{
    let mut held: Vec<Queued> = Vec::new();
    let mut counted = 0_u64;
    let mut ping = Instant::now() + PING;
    loop {
        let now = Instant::now();
        if ping <= now {
            ping = now + PING;
            if sink.send(Message::Ping(Bytes::new())).await.is_err() {
                return;
            }
        }
        let wake = if held.is_empty() { ping } else { ping.min(now + HELD_AT_MOST) };
        let next = match tokio::time::timeout_at(wake, outgoing.next()).await {
            Ok(None) if held.is_empty() => return,
            Ok(next) => next,
            Err(_) => None,
        };
        let mut ready = Vec::new();
        match next {
            None => ready.append(&mut held),
            Some(queued) if queued.draft.hold > 0 => held.push(queued),
            Some(queued) => {
                ready.push(queued);
                for waiting in &mut held {
                    waiting.draft.hold = waiting.draft.hold.saturating_sub(1);
                }
                ready.extend(held.extract_if(.., |waiting| waiting.draft.hold == 0));
            }
        }
        for queued in ready {
            if let Some(due) = queued.draft.due.filter(|due| *due > Instant::now()) {
                if sink.flush().await.is_err() {
                    return;
                }
                tokio::time::sleep_until(due).await;
            }
            counted += u64::from(queued.draft.counts);
            if sink.feed(Message::Text(queued.draft.text)).await.is_err() {
                return;
            }
            if matches!(room.faults().close_after, Some(CloseAfter::Events(most)) if counted >= most) {
                // The cut comes after the last frame counted, so its outcome does not matter.
                let _ = sink.flush().await;
                return;
            }
        }
        if outgoing.is_empty() && sink.flush().await.is_err() {
            return;
        }
    }
}
