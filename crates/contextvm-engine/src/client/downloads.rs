//! Answers that come as transfers.
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::{Limits, Mono, Now, Protection};
use contextvm_transfer::{
    FrameBody, Receiver, ReceiverInput, ReceiverOutput, TransferError, TransferFrame, TransferKey,
};
use nostr::event::{Event, EventId};

use super::uploads::STRANGER;
use super::uploads::aborted;
use super::{ClientMachine, ClientOutput, Direction, Transferred};
use crate::DropReason;

/// The receiver, and the end frames that came before the last of their chunks.
#[derive(Debug)]
pub(super) struct Downloads {
    receiver: Receiver,
    /// By call: the event that stands for the answer. One for each open transfer at most.
    ends: BTreeMap<EventId, Box<(Event, Protection)>>,
}

impl Downloads {
    pub(super) fn new(limits: &Limits) -> Self {
        // There is one peer, and it sends nothing but what was asked for; what its relays lose is not its fault.
        let limits =
            Limits { transfers_per_peer: limits.transfers, transfer_waste: usize::MAX, ..limits.clone() };
        Self { receiver: Receiver::for_responses(&limits), ends: BTreeMap::new() }
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns how many bytes are held for them.
    pub(super) fn bytes(&self) -> usize {
        self.receiver.load().bytes
    }

    pub(super) fn next_due(&self) -> Option<Mono> {
        self.receiver.poll_timeout().map(|(at, _)| at)
    }
}

impl ClientMachine {
    /// Takes a frame of an answer, or one about a request that is on its way.
    pub(super) fn on_transfer_frame(
        &mut self,
        call: &EventId,
        frame: TransferFrame<'_>,
        (event, protection): (&Event, Protection),
        now: Now,
    ) {
        match self.pending.get(call) {
            Some(pending) if pending.uploading => return self.hear_of_upload(call, &frame.body, now),
            Some(_) => {}
            None => return self.drop_because(DropReason::Uncorrelated),
        }
        if matches!(&frame.body, FrameBody::Abort(reason) if reason.as_deref() == Some(STRANGER)) {
            // It forgot us before the end frame came: nothing was executed, and the next transfer greets it first.
            self.session.meet_anew();
            self.pending.change(call, |pending| pending.harmless = true);
        }
        let key = self.transfer_key(call, &frame.token);
        let is_end = matches!(frame.body, FrameBody::End);
        let reason = if let FrameBody::Abort(reason) = &frame.body {
            aborted(reason.as_deref())
        } else {
            String::new()
        };
        let (peer, request) = (key.peer, key.request);
        let input = ReceiverInput::Frame { peer, request, frame, event: event.id };
        self.downloads.receiver.handle(input, now);
        let outputs: Vec<_> = core::iter::from_fn(|| self.downloads.receiver.poll_output()).collect();
        if !outputs.iter().any(|output| matches!(output, ReceiverOutput::Drop(_))) {
            if is_end {
                self.downloads.ends.insert(*call, Box::new((event.clone(), protection)));
            }
            if let Some(progress) = self.downloads.receiver.received(&key) {
                self.tell_received(call, progress);
            }
        }
        self.obey_receiver(outputs, &reason, now);
    }

    /// Gives up what is open of the answer to a call that is over.
    pub(super) fn stop_download(&mut self, call: &EventId, token: &str, now: Now) {
        self.downloads.ends.remove(call);
        if self.downloads.receiver.load().transfers > 0 {
            let key = self.transfer_key(call, token);
            self.downloads.receiver.handle(ReceiverInput::Cancel(key), now);
            self.drain_receiver(now);
        }
    }

    pub(super) fn wake_downloads(&mut self, now: Now) {
        if self.downloads.next_due().is_some_and(|at| at <= now.mono) {
            self.downloads.receiver.handle(ReceiverInput::Wake, now);
            self.drain_receiver(now);
        }
    }

    fn drain_receiver(&mut self, now: Now) {
        let outputs: Vec<_> = core::iter::from_fn(|| self.downloads.receiver.poll_output()).collect();
        self.obey_receiver(outputs, "", now);
    }

    /// Does what the receiver wants; `abort` is what to say if the server aborted.
    fn obey_receiver(&mut self, outputs: Vec<ReceiverOutput>, abort: &str, now: Now) {
        for output in outputs {
            match output {
                ReceiverOutput::Send { content, .. } => self.publish_control(content, now),
                ReceiverOutput::Complete { key, message, .. } => {
                    if let Some(call) = key.request {
                        self.take_assembled(&call, message, now);
                    }
                }
                ReceiverOutput::Failed { key, error } => {
                    let Some(call) = key.request else { continue };
                    if error == TransferError::Aborted {
                        self.fail_call(&call, abort, now);
                    } else {
                        self.fail_call(&call, &error.to_string(), now);
                    }
                }
                ReceiverOutput::Drop(reason) => self.drop_because(reason.into()),
            }
        }
    }

    /// Takes a message that is complete as the answer that it must be.
    fn take_assembled(&mut self, call: &EventId, message: String, now: Now) {
        // The receiver completes nothing before it took the end frame, which is kept then.
        let Some(end) = self.downloads.ends.remove(call) else { return };
        let (event, protection) = *end;
        let bytes = message.len() as u64;
        self.tell_received(call, (bytes, bytes));
        let envelope = Envelope::parse(&message, &self.config.limits);
        let is_answer =
            |envelope: &Envelope<'_>| matches!(envelope.kind, MessageKind::Response | MessageKind::Error);
        let Some(envelope) = envelope.ok().filter(is_answer) else {
            return self.fail_call(call, "the assembled message is no answer", now);
        };
        let same_id = |id: &str| envelope.id.is_some_and(|own| own.get() == id);
        let is_exact = self.pending.get(call).is_some_and(|pending| same_id(pending.id.get()));
        let Some(taken) = self.take_answered(call, now) else { return };
        self.learn_answer(&taken, &event, &envelope);
        let restored = (!is_exact).then(|| contextvm_core::rewrite::with_id(&envelope, taken.id.get()));
        self.deliver_answer(restored.unwrap_or(message), (*call, event.id), protection);
        self.leave(call, &taken, true, now);
    }

    fn tell_received(&mut self, call: &EventId, (bytes, total): (u64, u64)) {
        let Some(pending) = self.pending.get(call) else { return };
        let moved = Transferred { id: pending.id.clone(), direction: Direction::Received, bytes, total };
        self.outputs.push_back(ClientOutput::Moved(moved));
    }

    fn transfer_key(&self, call: &EventId, token: &str) -> TransferKey {
        TransferKey { peer: self.config.server, request: Some(*call), token: token.to_owned() }
    }
}
