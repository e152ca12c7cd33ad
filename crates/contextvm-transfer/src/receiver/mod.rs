//! The receiving machine: the transfers of all peers, within one table of limits.
mod incoming;
mod peers;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use contextvm_core::envelope::MAX_SAFE_INTEGER;
use contextvm_core::{Fault, Limits, Mono, Now};
use nostr::event::EventId;
use nostr::key::PublicKey;

use self::incoming::{Declared, Incoming, Taken};
use self::peers::{Peers, Proven};
use crate::frame::{FrameBody, FrameType, Start, TransferFrame};
use crate::{RESTART, TransferDrop, TransferError, TransferWake};

/// How long chunks may come after the end frame; frames of one sender overtake each other between relays.
const STRAGGLERS: Duration = Duration::from_secs(10);
/// What an open transfer costs beside its chunks and its token.
const OPEN_COST: usize = 512;
/// Most ended transfers remembered, so that what is left of them opens nothing.
const MOST_ENDED: usize = 256;

/// Names one transfer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferKey {
    /// Who sends it: the author of every frame.
    pub peer: PublicKey,
    /// The request that the message answers, if it is an answer: the same for every frame, whatever `e` tags they carry.
    pub request: Option<EventId>,
    /// The progress token in its text form.
    pub token: String,
}

/// What a [`Receiver`] is told.
#[derive(Clone, Debug)]
pub enum ReceiverInput<'a> {
    /// A frame came from a peer that may have transfers.
    Frame {
        /// Its author.
        peer: PublicKey,
        /// As in [`TransferKey`].
        request: Option<EventId>,
        /// What it says.
        frame: TransferFrame<'a>,
        /// The inner id of its event.
        event: EventId,
    },
    /// The message of this transfer is not wanted any more.
    Cancel(TransferKey),
    /// Nothing more is wanted from this peer.
    Leave(PublicKey),
    /// A time that [`Receiver::poll_timeout`] named has come.
    Wake,
}

/// What a [`Receiver`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum ReceiverOutput {
    /// Publish a frame to the peer of a transfer.
    Send {
        /// To whom, and about what.
        key: TransferKey,
        /// An accept or an abort.
        frame_type: FrameType,
        /// The JSON-RPC text.
        content: String,
    },
    /// A message is complete, and its count, length and SHA-256 are as declared. It is not known to be JSON.
    Complete {
        /// Which transfer carried it.
        key: TransferKey,
        /// The text.
        message: String,
        /// The event of the end frame, whose inner id stands for the whole message.
        end: EventId,
    },
    /// A transfer failed, and its message will not come. At most one for each time that it was begun.
    Failed {
        /// Which transfer.
        key: TransferKey,
        /// Why.
        error: TransferError,
    },
    /// A frame was not acted on.
    Drop(TransferDrop),
}

/// What a [`Receiver`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverLoad {
    /// Open transfers.
    pub transfers: usize,
    /// Bytes leased for them.
    pub bytes: usize,
}

/// A transfer that is over.
#[derive(Debug)]
struct Ended {
    key: TransferKey,
    /// The event of its start frame, which begins nothing a second time.
    start: Option<EventId>,
    /// When it is forgotten.
    until: Mono,
}

/// Puts messages together from chunks that come in any order (CEP-22).
///
/// Chunks may be numbered from the first or the second place after the start, and may come before it or after the end. Memory
/// is leased as chunks arrive, never for what was declared: at most `limits.transfers_bytes`, and one message more while it is
/// put together. Besides, 256 keys of ended transfers, 1,024 small accounts of peers and 1,024 keys of peers are remembered.
///
/// The last quarter of `limits.transfers` of a server is for peers who have none open and had one come whole before, so that
/// those who begin transfers and end none do not keep them out.
///
/// A transfer that does not grow is aborted after `limits.transfer_idle`, ten seconds after its end frame, and in any case after
/// `limits.transfer_total`.
#[derive(Debug)]
pub struct Receiver {
    limits: Limits,
    accepts: bool,
    open: BTreeMap<TransferKey, Incoming>,
    /// Oldest first.
    ended: VecDeque<Ended>,
    peers: Peers,
    proven: Proven,
    leased: usize,
    out: VecDeque<ReceiverOutput>,
}

impl Receiver {
    /// Makes the receiver of a server: every start frame is answered with an accept.
    #[must_use]
    pub fn for_requests(limits: &Limits) -> Self {
        Self::new(limits, true)
    }

    /// Makes the receiver of a client: answers need no accept.
    #[must_use]
    pub fn for_responses(limits: &Limits) -> Self {
        Self::new(limits, false)
    }

    fn new(limits: &Limits, accepts: bool) -> Self {
        Self {
            limits: limits.clone(),
            accepts,
            open: BTreeMap::new(),
            ended: VecDeque::new(),
            peers: Peers::default(),
            proven: Proven::default(),
            leased: 0,
            out: VecDeque::new(),
        }
    }

    /// Takes one input; drain the outputs afterwards.
    pub fn handle(&mut self, input: ReceiverInput<'_>, now: Now) {
        while self.ended.front().is_some_and(|ended| ended.until <= now.mono) {
            self.ended.pop_front();
        }
        match input {
            ReceiverInput::Frame { peer, request, frame, event } => {
                let TransferFrame { token, progress, body } = frame;
                let key = TransferKey { peer, request, token: token.into_owned() };
                match body {
                    FrameBody::Start(start) => self.on_start(key, progress, &start, event, now),
                    FrameBody::Accept => self.refuse(TransferDrop::Misplaced),
                    FrameBody::Chunk(data) => {
                        self.on_frame(key, now, |open, limits| open.chunk(progress, data, limits, now.mono));
                    }
                    FrameBody::End => self.on_frame(key, now, |open, _| open.end(progress, event, now.mono)),
                    FrameBody::Abort(reason) => {
                        self.on_abort(key, progress, reason.as_deref() == Some(RESTART), now);
                    }
                }
            }
            ReceiverInput::Cancel(key) => {
                if let Some(open) = self.close(&key, now) {
                    self.abort(key, open.highest(), TransferError::Cancelled, now);
                }
            }
            ReceiverInput::Leave(peer) => {
                let keys: Vec<_> = self.open.keys().filter(|key| key.peer == peer).cloned().collect();
                for key in keys {
                    self.close(&key, now);
                }
            }
            ReceiverInput::Wake => self.on_wake(now),
        }
    }

    /// Returns the next thing to do.
    pub fn poll_output(&mut self) -> Option<ReceiverOutput> {
        self.out.pop_front()
    }

    /// Returns when to come back, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Mono, TransferWake)> {
        let deadlines = self.open.values().map(|open| open.deadline(&self.limits).0);
        deadlines.min().map(|at| (at, TransferWake::Deadline))
    }

    /// Returns what it holds.
    #[must_use]
    pub fn load(&self) -> ReceiverLoad {
        ReceiverLoad { transfers: self.open.len(), bytes: self.leased }
    }

    /// Returns how many bytes of an open transfer are here, and how many were declared: zero before its start frame.
    #[must_use]
    pub fn received(&self, key: &TransferKey) -> Option<(u64, u64)> {
        self.open.get(key).map(Incoming::received)
    }

    fn on_start(&mut self, key: TransferKey, progress: u64, start: &Start<'_>, event: EventId, now: Now) {
        if self.ended.iter().any(|ended| ended.key == key && ended.start == Some(event)) {
            return self.refuse(TransferDrop::Duplicate);
        }
        let declared = match Declared::check(start, progress, event, &self.limits) {
            Ok(declared) => declared,
            Err(error) => return self.fail(key, progress, Some(event), error, now),
        };
        if self.is_wasteful(key.peer, now) {
            return self.fail(key, progress, Some(event), TransferError::Wasteful, now);
        }
        match self.open.get(&key) {
            Some(open) if open.declared().is_some_and(|open| open.is_same(&declared)) => {
                return self.refuse(TransferDrop::Duplicate);
            }
            Some(open) if open.declared().is_some() => {
                self.reset(&key, 0, now);
                self.refuse(TransferDrop::Replaced);
            }
            Some(open) if open.is_late(progress) => return self.refuse(TransferDrop::Late),
            Some(_) => {}
            None => {
                if let Err(error) = self.open(&key, now) {
                    return self.fail(key, progress, Some(event), error, now);
                }
            }
        }
        let accept = self.accepts.then(|| key.clone());
        self.update(key, now, |open, _| open.start(declared, now.mono).map(|()| Taken::Yes));
        if let Some(key) = accept.filter(|key| self.open.contains_key(key)) {
            self.send(key, progress, FrameBody::Accept);
        }
    }

    /// Takes a chunk or an end frame, which may come before its start frame.
    fn on_frame(
        &mut self,
        key: TransferKey,
        now: Now,
        take: impl FnOnce(&mut Incoming, &Limits) -> Result<Taken, TransferError>,
    ) {
        if !self.open.contains_key(&key) {
            if self.has_ended(&key) {
                return self.refuse(TransferDrop::Late);
            }
            if self.is_wasteful(key.peer, now) {
                return self.refuse(TransferDrop::Wasteful);
            }
            if self.open(&key, now).is_err() {
                return self.refuse(TransferDrop::Busy);
            }
        }
        self.update(key, now, take);
    }

    fn on_abort(&mut self, key: TransferKey, progress: u64, is_restart: bool, now: Now) {
        let is_late = match self.open.get(&key) {
            Some(open) => open.is_late(progress),
            None => is_restart || self.has_ended(&key),
        };
        if is_late {
            self.refuse(TransferDrop::Late);
        } else if is_restart {
            self.reset(&key, progress, now);
            self.refuse(TransferDrop::Replaced);
        } else {
            self.fail(key, progress, None, TransferError::Aborted, now);
        }
    }

    fn on_wake(&mut self, now: Now) {
        let due = |(key, open): (&TransferKey, &Incoming)| {
            let (at, error) = open.deadline(&self.limits);
            (at <= now.mono).then(|| (key.clone(), error))
        };
        let due: Vec<_> = self.open.iter().filter_map(due).collect();
        for (key, error) in due {
            self.fail(key, 0, None, error, now);
        }
    }

    /// Makes room for a transfer.
    fn open(&mut self, key: &TransferKey, now: Now) -> Result<(), TransferError> {
        let is_full = |this: &Self| {
            let of_peer = this.open.keys().filter(|open| open.peer == key.peer).count();
            let is_free_to_all = || {
                let places = this.limits.transfers;
                !this.accepts || this.open.len() < places - places / 4
            };
            of_peer >= this.limits.transfers_per_peer
                || this.open.len() >= this.limits.transfers
                || !(is_free_to_all() || (of_peer == 0 && this.proven.contains(&key.peer)))
        };
        if is_full(self) {
            // A chunk that a relay plays back long after its transfer must not stand in the way of the peer's next one.
            self.give_up_ghost(key.peer, now);
        }
        if is_full(self) {
            return Err(TransferError::Busy);
        }
        let cost = OPEN_COST + key.token.len();
        if self.leased + cost > self.limits.transfers_bytes {
            return Err(TransferError::Memory);
        }
        self.leased += cost;
        self.open.insert(key.clone(), Incoming::new(0, now.mono));
        Ok(())
    }

    /// Gives up the oldest transfer of a peer of which nothing but chunks has come.
    fn give_up_ghost(&mut self, peer: PublicKey, now: Now) {
        let ghosts = self.open.iter().filter(|(key, open)| key.peer == peer && open.is_ghost());
        let oldest = ghosts.min_by_key(|(_, open)| open.since()).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.fail(key, 0, None, TransferError::Idle, now);
        }
    }

    /// Whether a peer holds more than its share: one transfer may take what is free, several of one peer together no more
    /// than three quarters of all.
    fn is_greedy(&self, peer: PublicKey) -> bool {
        let own = || self.open.iter().filter(|(key, _)| key.peer == peer).map(|(_, open)| open.lease());
        self.accepts && own().count() > 1 && own().sum::<usize>() > self.limits.transfers_bytes / 4 * 3
    }

    /// Changes an open transfer, keeps account of what it holds, and ends it when it is complete or broken.
    fn update(
        &mut self,
        key: TransferKey,
        now: Now,
        change: impl FnOnce(&mut Incoming, &Limits) -> Result<Taken, TransferError>,
    ) {
        let Some(open) = self.open.get_mut(&key) else { return };
        let before = open.lease();
        let taken = change(open, &self.limits);
        self.leased = self.leased - before + open.lease();
        let complete = match taken {
            Ok(Taken::Yes) if self.leased > self.limits.transfers_bytes || self.is_greedy(key.peer) => {
                Some(Err(TransferError::Memory))
            }
            Ok(Taken::Yes) => self.open.get_mut(&key).and_then(Incoming::assemble),
            Ok(Taken::Duplicate) => return self.refuse(TransferDrop::Duplicate),
            Ok(Taken::Late) => return self.refuse(TransferDrop::Late),
            Ok(Taken::Early) => return self.refuse(TransferDrop::Early),
            Err(error) => Some(Err(error)),
        };
        match complete {
            None => {}
            Some(Err(error)) => self.fail(key, 0, None, error, now),
            Some(Ok((message, end))) => {
                self.close(&key, now);
                if self.accepts {
                    self.proven.add(key.peer);
                }
                self.out.push_back(ReceiverOutput::Complete { key, message, end });
            }
        }
    }

    /// Begins an open transfer anew and charges what the first attempt held.
    fn reset(&mut self, key: &TransferKey, floor: u64, now: Now) {
        if let Some(open) = self.open.get_mut(key) {
            let (lease, start) = (open.lease(), open.declared().map(|declared| declared.event));
            *open = Incoming::new(floor, now.mono);
            self.leased -= lease;
            self.peers.charge(key.peer, lease, now);
            if start.is_some() {
                // A late copy of the old start frame begins nothing again.
                self.remember(key, start, now);
            }
        }
    }

    /// Ends a transfer that failed, open or not; `progress` and `start` are what is known of it if it was not.
    fn fail(
        &mut self,
        key: TransferKey,
        progress: u64,
        start: Option<EventId>,
        error: TransferError,
        now: Now,
    ) {
        let mut highest = progress;
        let mut is_ghost = false;
        if let Some(open) = self.close(&key, now) {
            highest = highest.max(open.highest());
            is_ghost = matches!(error, TransferError::Idle | TransferError::TimedOut) && open.is_ghost();
            if error.fault() != Fault::Local && !is_ghost {
                self.peers.charge(key.peer, open.lease(), now);
            }
        }
        if start.is_some() || !self.has_ended(&key) {
            self.remember(&key, start, now);
        }
        // Whoever sent the chunks of a ghost long ago may be using its token for something else by now.
        if error != TransferError::Aborted && !is_ghost {
            self.abort(key.clone(), highest, error, now);
        }
        self.out.push_back(ReceiverOutput::Failed { key, error });
    }

    /// Removes an open transfer and gives its lease back.
    fn close(&mut self, key: &TransferKey, now: Now) -> Option<Incoming> {
        let open = self.open.remove(key)?;
        self.leased -= open.lease() + OPEN_COST + key.token.len();
        self.remember(key, open.declared().map(|declared| declared.event), now);
        Some(open)
    }

    fn remember(&mut self, key: &TransferKey, start: Option<EventId>, now: Now) {
        if self.ended.len() >= MOST_ENDED {
            self.ended.pop_front();
        }
        let until = now.mono.after(self.limits.transfer_idle);
        self.ended.push_back(Ended { key: key.clone(), start, until });
    }

    fn has_ended(&self, key: &TransferKey) -> bool {
        self.ended.iter().any(|ended| ended.key == *key)
    }

    fn abort(&mut self, key: TransferKey, highest: u64, error: TransferError, now: Now) {
        if self.peers.is_told(key.peer, now) {
            let reason = error.to_string();
            self.send(key, highest, FrameBody::Abort(Some(reason.into())));
        }
    }

    /// Sends a frame with the number after the highest that the peer has used.
    fn send(&mut self, key: TransferKey, highest: u64, body: FrameBody<'_>) {
        let frame_type = body.frame_type();
        let progress = (highest + 1).min(MAX_SAFE_INTEGER);
        let content = TransferFrame { token: key.token.as_str().into(), progress, body }.to_text();
        self.out.push_back(ReceiverOutput::Send { key, frame_type, content });
    }

    fn is_wasteful(&self, peer: PublicKey, now: Now) -> bool {
        self.peers.cost(peer, now) >= self.limits.transfer_waste
    }

    fn refuse(&mut self, reason: TransferDrop) {
        self.out.push_back(ReceiverOutput::Drop(reason));
    }
}
