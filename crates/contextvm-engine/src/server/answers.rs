//! Answers that are transferred (CEP-22): cut into frames, and kept for a while so that a repeated request gets them again.
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use contextvm_core::{Draft, Limits, Mono, Now, Protection};
use contextvm_transfer::{FrameType, Handshake, Sender, SenderInput, SenderOutput, TransferError};
use nostr::event::{EventId, Tag};
use nostr::key::PublicKey;

use super::frames::{Owner, Telling, frame_tags};
use super::ledger::Pace;
use super::outbound::{INTERNAL, Unsent, error_text};
use super::{RequestKey, ServerMachine, ServerOutput};
use crate::DropReason;
use crate::flight::Landing;
use crate::size::event_len;

/// What an answer costs beside its text: cuts, frames, its place in the table.
const OVERHEAD: usize = 4_096;

/// Answers under way to a caller beyond which no kept one is transferred to it again.
const RESUMED: usize = 4;

/// How far an answer has come.
#[derive(Debug)]
enum Stage {
    Running(Box<Sender>),
    /// Every frame was taken by a relay; it is forgotten at this time.
    Lingering(String, Mono),
}

/// One answer that was cut into frames.
#[derive(Debug)]
struct Transferred {
    stage: Stage,
    /// The client's own id and progress token: the one as it wrote it, the other as text.
    id: String,
    token: String,
    protection: Protection,
    /// Tags for the end frame.
    further: Vec<Tag>,
    content_limit: usize,
    telling: Telling,
    /// It counts as an open request of its session.
    is_counted: bool,
    pace: Pace,
    bytes: usize,
}

/// Answers under way and answers kept, bounded together in bytes and count; kept ones make room, the oldest first.
#[derive(Debug)]
pub(super) struct Answers {
    map: BTreeMap<RequestKey, Transferred>,
    lingering: BTreeSet<(Mono, RequestKey)>,
    bytes: usize,
    most: usize,
    most_bytes: usize,
    ttl: Duration,
}

/// An answer that is about to be transferred.
pub(super) struct Parcel<'a> {
    pub(super) key: RequestKey,
    /// The client's own id as it wrote it.
    pub(super) id: &'a str,
    /// The client's own progress token in its text form.
    pub(super) token: String,
    pub(super) protection: Protection,
    /// Tags for the end frame.
    pub(super) further: Vec<Tag>,
}

impl Answers {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            map: BTreeMap::new(),
            lingering: BTreeSet::new(),
            bytes: 0,
            most: limits.transfers,
            most_bytes: limits.transfers_bytes,
            ttl: limits.ledger_ttl,
        }
    }

    /// Returns how many answers are held, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.map.len(), self.bytes)
    }

    /// Whether an answer is under way, or kept.
    pub(super) fn holds(&self, key: &RequestKey) -> bool {
        self.map.contains_key(key)
    }

    pub(super) fn telling(&self, key: &RequestKey) -> Telling {
        self.map.get(key)?.telling
    }

    pub(super) fn next_end(&self) -> Option<Mono> {
        self.lingering.first().map(|(until, _)| *until)
    }

    /// Forgets what is over its time.
    pub(super) fn forget(&mut self, now: Mono) {
        while let Some((until, key)) = self.lingering.first().copied() {
            if until > now {
                break;
            }
            self.remove(&key);
        }
    }

    /// Makes room for an answer. One caller may have three quarters of all bytes under way, and one answer in any case.
    fn make_room(&mut self, caller: PublicKey, bytes: usize) -> bool {
        let of_caller = self.of(caller).filter(|(_, answer)| matches!(answer.stage, Stage::Running(_)));
        let of_caller: usize = of_caller.map(|(_, answer)| answer.bytes).sum();
        if of_caller > 0 && of_caller + bytes > self.most_bytes / 4 * 3 {
            return false;
        }
        while self.bytes.saturating_add(bytes) > self.most_bytes || self.map.len() >= self.most {
            let Some((_, oldest)) = self.lingering.first().copied() else { return false };
            self.remove(&oldest);
        }
        true
    }

    /// Whether a kept answer may go out again: what is under way cannot make room for new answers, and anybody can publish
    /// an old request again.
    fn may_resume(&self, caller: PublicKey) -> bool {
        let is_running = |answer: &&Transferred| matches!(answer.stage, Stage::Running(_));
        let of_caller = self.of(caller).map(|(_, answer)| answer).filter(is_running).count();
        let running = self.map.len() - self.lingering.len();
        of_caller < RESUMED && running < self.most.div_ceil(2)
    }

    fn insert(&mut self, key: RequestKey, answer: Transferred) {
        self.remove(&key);
        self.bytes += answer.bytes;
        self.map.insert(key, answer);
    }

    fn remove(&mut self, key: &RequestKey) -> Option<Transferred> {
        let answer = self.map.remove(key)?;
        self.bytes = self.bytes.saturating_sub(answer.bytes);
        if let Stage::Lingering(_, until) = &answer.stage {
            self.lingering.remove(&(*until, *key));
        }
        Some(answer)
    }

    fn sender(&mut self, key: &RequestKey) -> Option<&mut Sender> {
        match &mut self.map.get_mut(key)?.stage {
            Stage::Running(sender) => Some(sender),
            Stage::Lingering(..) => None,
        }
    }

    /// Returns an answer that is under way to this caller.
    fn running(&self, caller: PublicKey, is_it: impl Fn(&Transferred) -> bool) -> Option<RequestKey> {
        let mut running = self.of(caller).filter(|(_, answer)| matches!(answer.stage, Stage::Running(_)));
        running.find(|(_, answer)| is_it(answer)).map(|(key, _)| *key)
    }

    fn of(&self, caller: PublicKey) -> impl Iterator<Item = (&RequestKey, &Transferred)> {
        let first = RequestKey { caller, id: EventId::from_byte_array([0; 32]) };
        let last = RequestKey { caller, id: EventId::from_byte_array([u8::MAX; 32]) };
        self.map.range(first..=last)
    }
}

impl ServerMachine {
    /// Begins to transfer an answer.
    pub(super) fn transfer(&mut self, parcel: Parcel<'_>, text: String, now: Now) -> Result<(), Unsent> {
        let Parcel { key, id, token, protection, further } = parcel;
        let limits = &self.config.limits;
        if text.len() > limits.transfer_bytes {
            return Err(Unsent::TooLarge(text));
        }
        let bytes = text.len() + token.len() + OVERHEAD;
        if !self.answers.make_room(key.caller, bytes) {
            return Err(Unsent::Busy);
        }
        let content_limit = self.content_room(key, protection, now);
        let sender = Sender::new(&token, text, content_limit, Handshake::Skip, &self.config.limits, now);
        // What cannot be cut is far too large for one event as well.
        let sender = sender.map_err(|_| Unsent::TooLarge(String::new()))?;
        let answer = Transferred {
            stage: Stage::Running(Box::new(sender)),
            id: id.into(),
            token,
            protection,
            further,
            content_limit,
            telling: None,
            is_counted: false,
            pace: Pace::of_transfer(now.mono),
            bytes,
        };
        self.answers.insert(key, answer);
        self.begin_answer(key, now);
        self.establish_answered(&key.caller);
        Ok(())
    }

    /// Transfers a kept answer again for a caller that asked again; says whether it was due.
    pub(super) fn transfer_again(&mut self, key: &RequestKey, now: Now) -> bool {
        let Some(kept) = self.answers.map.get_mut(key) else { return false };
        let protection = kept.protection;
        if matches!(kept.stage, Stage::Running(_)) || !kept.pace.take(now.mono) {
            return false;
        }
        if !self.answers.may_resume(key.caller) {
            return false;
        }
        let room = self.content_room(*key, protection, now);
        let Some(mut kept) = self.answers.remove(key) else { return false };
        let Stage::Lingering(message, _) = kept.stage else { return false };
        kept.content_limit = kept.content_limit.min(room);
        let limits = &self.config.limits;
        let sender = Sender::new(&kept.token, message, kept.content_limit, Handshake::Skip, limits, now);
        let Ok(sender) = sender else { return false };
        kept.stage = Stage::Running(Box::new(sender));
        self.answers.insert(*key, kept);
        self.begin_answer(*key, now);
        true
    }

    /// Stops the answer that is under way to a caller under a token; says whether there was one.
    pub(super) fn abort_answer(&mut self, caller: PublicKey, token: &str, now: Now) -> bool {
        let key = self.answers.running(caller, |answer| answer.token == token);
        if let Some(key) = key {
            self.tell_sender(&key, SenderInput::Aborted, now);
        }
        key.is_some()
    }

    /// Stops the answer that is under way to a caller whose request it took back.
    pub(super) fn stop_answer(&mut self, caller: PublicKey, is_it: impl Fn(&str) -> bool, now: Now) {
        if let Some(key) = self.answers.running(caller, |answer| is_it(&answer.id)) {
            self.tell_sender(&key, SenderInput::Aborted, now);
        }
    }

    /// Lets an answer give out one frame; says whether it did.
    pub(super) fn answer_turn(&mut self, key: &RequestKey, now: Now) -> bool {
        let Some(sender) = self.answers.sender(key).filter(|sender| sender.wants_credit()) else {
            return false;
        };
        sender.handle(SenderInput::Credit(1), now);
        self.drain_answer(key, now)
    }

    pub(super) fn wake_answer(&mut self, key: &RequestKey, now: Now) {
        self.tell_sender(key, SenderInput::Wake, now);
    }

    pub(super) fn answer_landed(&mut self, key: &RequestKey, progress: u64, landing: Landing, now: Now) {
        let input = match landing {
            Landing::Taken => SenderInput::Published(progress),
            Landing::Lost => SenderInput::Unpublished(progress),
            Landing::TooLarge => {
                let Some(protection) = self.answers.map.get(key).map(|answer| answer.protection) else {
                    return;
                };
                // Other frames of the old size come back as well; they say nothing new.
                self.frames.recall(Owner::Answer(*key));
                self.relay_limit.shrink();
                let content_limit = self.content_room(*key, protection, now);
                if let Some(answer) = self.answers.map.get_mut(key) {
                    answer.content_limit = content_limit;
                }
                SenderInput::TooLarge { progress, content_limit }
            }
        };
        self.tell_sender(key, input, now);
    }

    fn begin_answer(&mut self, key: RequestKey, now: Now) {
        let is_counted = self.sessions.open(&key.caller);
        if let Some(answer) = self.answers.map.get_mut(&key) {
            answer.is_counted = is_counted;
        }
        self.frames.call(Owner::Answer(key));
        self.drain_answer(&key, now);
    }

    fn tell_sender(&mut self, key: &RequestKey, input: SenderInput, now: Now) {
        if let Some(sender) = self.answers.sender(key) {
            sender.handle(input, now);
            self.drain_answer(key, now);
        }
    }

    /// Does what a sender wants; says whether it gave out a frame.
    fn drain_answer(&mut self, key: &RequestKey, now: Now) -> bool {
        let mut gave = false;
        while let Some(output) = self.answers.sender(key).and_then(Sender::poll_output) {
            match output {
                SenderOutput::Frame { frame_type, progress, content } => {
                    gave = true;
                    self.send_frame_of_answer(key, frame_type, progress, content, now);
                }
                SenderOutput::Finished => self.finish_answer(key, now),
                SenderOutput::Failed(error) => self.fail_answer(key, error, now),
            }
        }
        if let Some(sender) = self.answers.sender(key) {
            let wake = sender.poll_timeout().map(|(at, _)| at);
            self.frames.wake_at(Owner::Answer(*key), wake);
        }
        gave
    }

    fn send_frame_of_answer(
        &mut self,
        key: &RequestKey,
        frame_type: FrameType,
        progress: u64,
        content: String,
        now: Now,
    ) {
        let Some(protection) = self.answers.map.get(key).map(|answer| answer.protection) else { return };
        // Before a new start an abort is a frame like any other; at the end it has no sender that looks after it.
        let is_over = self.answers.sender(key).is_none_or(|sender| sender.poll_timeout().is_none());
        let draft = match frame_type {
            FrameType::Start => {
                let (draft, told) = self.draft(key.caller, Some(key.id), Vec::new(), content, now);
                if let Some(answer) = self.answers.map.get_mut(key) {
                    answer.telling = told.map(|epoch| (progress, epoch));
                }
                draft
            }
            FrameType::Abort if is_over => {
                return self.publish_once((key.caller, Some(key.id)), Some(key.id), protection, content, now);
            }
            FrameType::End => self.end_frame(key, content, now),
            FrameType::Accept | FrameType::Chunk | FrameType::Abort => {
                let tags = frame_tags(key.caller, Some(key.id), Vec::new());
                self.unique.draft(self.me, now.unix, tags, content)
            }
        };
        self.publish_frame((Owner::Answer(*key), progress), draft, protection, now);
    }

    /// The end frame carries what is said about the answer, unless relays would not take it then.
    fn end_frame(&mut self, key: &RequestKey, content: String, now: Now) -> Draft {
        let answer = self.answers.map.get(key);
        let (further, protection) = answer
            .map_or((Vec::new(), Protection::Plain), |answer| (answer.further.clone(), answer.protection));
        let has_further = !further.is_empty();
        let tags = frame_tags(key.caller, Some(key.id), further);
        let draft = self.unique.draft(self.me, now.unix, tags, content);
        if !has_further || self.relay_limit.takes(&draft, protection) {
            return draft;
        }
        let tags = frame_tags(key.caller, Some(key.id), Vec::new());
        self.unique.draft(self.me, now.unix, tags, draft.content)
    }

    /// Takes an answer that does not run any more out of everything that looks after it.
    fn take_running(&mut self, key: &RequestKey, now: Now) -> Option<Transferred> {
        self.frames.forget(Owner::Answer(*key));
        let answer = self.answers.remove(key)?;
        if answer.is_counted {
            self.sessions.close(&key.caller, now.mono);
        }
        Some(answer)
    }

    fn finish_answer(&mut self, key: &RequestKey, now: Now) {
        let until = now.mono.after(self.answers.ttl);
        let Some(mut answer) = self.take_running(key, now) else { return };
        if let Stage::Running(sender) = answer.stage {
            answer.stage = Stage::Lingering(sender.into_message(), until);
            self.answers.insert(*key, answer);
            self.answers.lingering.insert((until, *key));
        }
    }

    /// An answer did not get out: the caller is told so in few words, unless it said itself that it wants no more of it.
    fn fail_answer(&mut self, key: &RequestKey, error: TransferError, now: Now) {
        let Some(answer) = self.take_running(key, now) else { return };
        if error == TransferError::Aborted {
            return;
        }
        let text = error_text(&answer.id, INTERNAL, "Answer could not be sent");
        self.publish_answer(*key, answer.protection, text, now);
        let reason = DropReason::Unpublished;
        self.out.push_back(ServerOutput::Undeliverable { to: key.caller, reason });
    }

    /// Returns what a content may take in a frame to this caller.
    pub(super) fn content_room(&self, key: RequestKey, protection: Protection, now: Now) -> usize {
        let tags = frame_tags(key.caller, Some(key.id), Vec::new());
        let empty = Draft::new(self.me, now.unix, tags, String::new());
        let room = self.relay_limit.content_room(&empty, protection);
        let most = if protection.is_encrypted() { self.config.limits.inner_event } else { usize::MAX };
        room.min(most.saturating_sub(event_len(&empty)))
    }
}
