//! Requests that callers transfer (CEP-22): their frames, and what becomes of the message that they make.
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::String;

use contextvm_core::envelope::{Envelope, MAX_SAFE_INTEGER};
use contextvm_core::{Fault, Limits, Mono, Now, Protection, event, tags};
use contextvm_stream::{StreamBody, StreamFrame};
use contextvm_transfer::{
    FrameBody, RESTART, Receiver, ReceiverInput, ReceiverOutput, TransferError, TransferFrame, TransferKey,
};
use nostr::event::{Event, EventId, Tags};

use super::access::Verdict;
use super::waiting::{Held, Letter};
use super::{RequestKey, ServerMachine};
use crate::DropReason;

/// Largest content and tags of an end frame, bytes: it is kept until nothing is missing.
const END_BYTES: usize = 16 * 1024;

/// The event that stands for a whole message.
#[derive(Debug)]
struct End {
    event: Event,
    protection: Protection,
    /// A relay had it before it was asked for.
    stored: bool,
}

/// The start frame of a transfer, as far as it is remembered: under another end frame it would make the same message again.
#[derive(Clone, Copy, Debug)]
struct StartFrame {
    id: EventId,
    stamp: u64,
    protection: Protection,
}

/// What came of one transfer beside its chunks.
#[derive(Debug, Default)]
struct Ends {
    start: Option<StartFrame>,
    end: Option<End>,
}

/// Transfers that callers have begun; each counts as an open request of its session.
#[derive(Debug)]
pub(super) struct Uploads {
    receiver: Receiver,
    open: BTreeMap<TransferKey, Ends>,
}

impl Uploads {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { receiver: Receiver::for_requests(limits), open: BTreeMap::new() }
    }

    /// Returns how many transfers are open, and the bytes that they hold.
    pub(super) fn size(&self) -> (usize, usize) {
        let load = self.receiver.load();
        let ends: usize =
            self.open.values().filter_map(|ends| Some(event::weight(&ends.end.as_ref()?.event))).sum();
        (load.transfers, load.bytes + ends)
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.receiver.poll_timeout().map(|(at, _)| at)
    }
}

/// What became of a frame.
#[derive(Debug, Default)]
struct Taken {
    refused: Option<DropReason>,
    is_over: bool,
    /// The message, and the event of its end frame.
    message: Option<(String, EventId)>,
}

impl ServerMachine {
    /// Takes a frame of a transfer, or of a stream that we write; `None` when the notification is neither.
    pub(super) fn take_frame(
        &mut self,
        event: &Event,
        message: &Envelope<'_>,
        (protection, stored): (Protection, bool),
        now: Now,
    ) -> Option<Result<(), DropReason>> {
        match TransferFrame::read(message) {
            Ok(Some(frame)) => {
                let is_abort = matches!(frame.body, FrameBody::Abort(_));
                let taken = self.take_transfer_frame(event, frame, (protection, stored), now);
                return Some(self.aborted_once(event, is_abort, taken, now));
            }
            Err(_) => return Some(Err(DropReason::Malformed)),
            Ok(None) => {}
        }
        if self.streams.is_empty() {
            return None;
        }
        match StreamFrame::read(message) {
            Ok(Some(frame)) => {
                let is_abort = matches!(frame.body, StreamBody::Abort(_));
                let heard = self.hear_control(event.pubkey, frame, now);
                heard.then(|| self.aborted_once(event, is_abort, Ok(()), now))
            }
            Ok(None) => None,
            Err(_) => Some(Err(DropReason::Malformed)),
        }
    }

    /// Remembers the event of an abort that was taken: played back, it ends nothing else that has the same token.
    fn aborted_once(
        &mut self,
        event: &Event,
        is_abort: bool,
        taken: Result<(), DropReason>,
        now: Now,
    ) -> Result<(), DropReason> {
        if is_abort && taken.is_ok() && self.has_room_to_remember(&event.pubkey, now) {
            self.remember_id(event, now);
        }
        taken
    }

    fn take_transfer_frame(
        &mut self,
        event: &Event,
        frame: TransferFrame<'_>,
        (protection, stored): (Protection, bool),
        now: Now,
    ) -> Result<(), DropReason> {
        let is_stop = matches!(&frame.body, FrameBody::Abort(reason) if reason.as_deref() != Some(RESTART));
        if is_stop && self.abort_answer(event.pubkey, &frame.token, now) {
            return Ok(());
        }
        if !self.may_transfer(event, &frame, protection, now) {
            if matches!(frame.body, FrameBody::Start(_)) {
                self.refuse_transfer(event, &frame, protection, now);
            }
            return Err(DropReason::NotAllowed);
        }
        if matches!(frame.body, FrameBody::End) {
            if event::weight(event) > END_BYTES {
                return Err(DropReason::TooLarge);
            }
            if self.is_early(event, now) {
                let letter = Letter { event: event.clone(), protection, text: None };
                let held = self.hold(Held { letter, verdict: Verdict::Pass { member: false } }, now);
                return held.map_err(|refused| refused.reason);
            }
        }
        self.feed(event, frame, (protection, stored), now)
    }

    /// Whether a caller may have us keep what it sends: it is established, and where keys are restricted, let in by its key.
    fn may_transfer(
        &mut self,
        event: &Event,
        frame: &TransferFrame<'_>,
        protection: Protection,
        now: Now,
    ) -> bool {
        let access = &self.config.access;
        let session = self.sessions.get(&event.pubkey);
        let is_let_in =
            session.is_some_and(|session| session.established && (access.is_open() || session.member));
        let is_member =
            !access.is_open() && access.decide_key(&event.pubkey) == Verdict::Pass { member: true };
        if is_let_in && !matches!(frame.body, FrameBody::Start(_)) {
            return true;
        }
        // What the caller says about itself is on its start frame. A key on our list needs no session before it.
        if !(is_let_in || is_member) || self.greet(event, protection, is_member, now).is_err() {
            return false;
        }
        if let Some(session) = self.sessions.get_mut(&event.pubkey) {
            session.floor.hear_frame(event, protection);
        }
        true
    }

    /// Says once to somebody who has no session that it has to begin with less, where strangers are answered at all.
    fn refuse_transfer(
        &mut self,
        event: &Event,
        frame: &TransferFrame<'_>,
        protection: Protection,
        now: Now,
    ) {
        let access = &self.config.access;
        let key = RequestKey { caller: event.pubkey, id: event.id };
        if !(access.is_open() || access.announced) || !self.refusals.take(key, now.mono) {
            return;
        }
        // Who is told so may say that nothing was executed; of what is told to nobody nothing is said.
        if self.has_room_to_remember(&event.pubkey, now) {
            self.remember_id(event, now);
            self.remember_note(key, event.created_at.as_secs(), protection);
        }
        let body = FrameBody::Abort(Some("transfers need an established session".into()));
        let progress = (frame.progress + 1).min(MAX_SAFE_INTEGER);
        let text = TransferFrame { token: Cow::Borrowed(&frame.token), progress, body }.to_text();
        let protection = self.unmet(protection);
        let tags = Tags::from_list(alloc::vec![tags::recipient(&event.pubkey)]);
        let draft = self.unique.draft(self.me, now.unix, tags, text);
        let publication = self.publication(event.pubkey, Some(event.id));
        self.publish(publication, draft, protection);
    }

    /// Gives a frame to the receiver, and keeps the event of an end frame until its message is complete.
    fn feed(
        &mut self,
        event: &Event,
        frame: TransferFrame<'_>,
        (protection, stored): (Protection, bool),
        now: Now,
    ) -> Result<(), DropReason> {
        let peer = event.pubkey;
        let key = TransferKey { peer, request: None, token: frame.token.clone().into_owned() };
        let is_end = matches!(frame.body, FrameBody::End);
        let is_start = matches!(frame.body, FrameBody::Start(_));
        let input = ReceiverInput::Frame { peer, request: None, frame, event: event.id };
        self.uploads.receiver.handle(input, now);
        let taken = self.drain_uploads(Some((event.id, protection, &key)), now);
        let mut start = None;
        if is_start && self.has_room_to_remember(&event.pubkey, now) {
            // Played again, it would begin a transfer that never ends, or the same message under another end.
            self.remember_id(event, now);
            start = Some(StartFrame { id: event.id, stamp: event.created_at.as_secs(), protection });
        }
        let mut end = is_end.then(|| End { event: event.clone(), protection, stored });
        if taken.is_over {
            if let Some(kept) = self.uploads.open.remove(&key) {
                self.sessions.close(&peer, now.mono);
                (start, end) = (start.or(kept.start), end.or(kept.end));
            }
        } else if taken.refused.is_none() || (is_start && self.uploads.open.contains_key(&key)) {
            let kept = self.uploads.open.entry(key.clone()).or_insert_with(|| {
                self.sessions.open(&peer);
                Ends::default()
            });
            kept.start = start.or(kept.start);
            if end.is_some() {
                kept.end = end.take();
            }
        }
        if let Some(((message, id), End { event, protection, stored })) = taken.message.zip(end)
            && event.id == id
        {
            if let Some(StartFrame { id, stamp, protection }) = start {
                self.remember_note(RequestKey { caller: peer, id }, stamp, protection);
            }
            self.hush(&event, now);
            return self.admit(Letter { event, protection, text: Some(message) }, stored, now);
        }
        taken.refused.map_or(Ok(()), Err)
    }

    /// Tells a caller that what it transferred is not acted on; `end` is the event of its end frame.
    pub(super) fn turn_away(&mut self, end: &Event, reason: DropReason, now: Now) {
        let Ok(message) = Envelope::parse(&end.content, &self.config.limits) else { return };
        let Ok(Some(TransferFrame { token, progress, .. })) = TransferFrame::read(&message) else { return };
        let reason = alloc::format!("the message is refused: {}", reason.name());
        let progress = progress.saturating_add(1).min(MAX_SAFE_INTEGER);
        let frame = TransferFrame { token, progress, body: FrameBody::Abort(Some(reason.into())) };
        let protection = self.floor(&end.pubkey);
        self.publish_once((end.pubkey, Some(end.id)), None, protection, frame.to_text(), now);
    }

    /// Lets go of transfers that have stood still, or lasted, for too long.
    pub(super) fn expire_uploads(&mut self, now: Now) {
        if self.uploads.next_deadline().is_some_and(|at| at <= now.mono) {
            self.uploads.receiver.handle(ReceiverInput::Wake, now);
            self.drain_uploads(None, now);
        }
    }

    /// Does what the receiver wants, and sums up what became of the transfer of the last frame: the event that it came in,
    /// how that travelled, and its transfer.
    fn drain_uploads(&mut self, asked: Option<(EventId, Protection, &TransferKey)>, now: Now) -> Taken {
        let mut taken = Taken::default();
        while let Some(output) = self.uploads.receiver.poll_output() {
            match output {
                ReceiverOutput::Send { key, content, .. } => {
                    let sealed = asked.filter(|(_, asked, _)| asked.is_encrypted());
                    let protection = match sealed {
                        Some((_, asked, _)) => self.mirrored(&key.peer, asked),
                        None => self.floor(&key.peer),
                    };
                    let about = asked.map(|(frame, ..)| frame);
                    self.publish_once((key.peer, about), None, protection, content, now);
                }
                ReceiverOutput::Complete { message, end, .. } => {
                    (taken.is_over, taken.message) = (true, Some((message, end)));
                }
                ReceiverOutput::Failed { key, error } => {
                    // Another one may have given up its place for this one.
                    if asked.is_some_and(|(_, _, of)| *of == key) {
                        taken.is_over = true;
                        taken.refused = Some(reason(error));
                    }
                    if self.uploads.open.remove(&key).is_some() {
                        self.sessions.close(&key.peer, now.mono);
                    }
                }
                ReceiverOutput::Drop(reason) => taken.refused = Some(reason.into()),
            }
        }
        taken
    }
}

fn reason(error: TransferError) -> DropReason {
    match error.fault() {
        _ if error == TransferError::Aborted => DropReason::UnknownRequest,
        Fault::Peer => DropReason::Malformed,
        Fault::Local => DropReason::Busy,
        Fault::Relay | Fault::Bug | _ => DropReason::Uncorrelated,
    }
}
