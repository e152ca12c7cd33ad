//! Requests that go out as transfers, until their end frame stands for them.
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Bound;

use contextvm_core::printable::Printable;
use contextvm_core::{Draft, Mono, Now, tags};
use contextvm_transfer::{FrameBody, FrameType, Handshake, Sender, SenderInput, SenderOutput, TransferError};
use nostr::event::{EventId, Tag, Tags};

use super::ending::Ending;
use super::pending::Pending;
use super::{ClientMachine, ClientOutput, Direction, Transferred};
use crate::flight::{Flights, Landing};
use crate::size::{RelayLimit, event_len};
use crate::{DropReason, Outbound, Outcome, Reach, Ticket};

/// Longest reason of a server in an error, characters.
const REASON: usize = 200;

/// Why a server of ours refuses a transfer of somebody whom it does not know (any more).
pub(super) const STRANGER: &str = "transfers need an established session";

/// One request on its way.
#[derive(Debug)]
struct Upload {
    sender: Sender,
    /// What relays were thought to take when the message was cut.
    cut_for: RelayLimit,
    /// What the start frame carries.
    tags: Vec<Tag>,
    /// Bytes of the message.
    total: u64,
    /// The server did not know us the first time.
    is_second: bool,
}

/// All of them, under the place holders of their calls, and their frames on their way.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    open: BTreeMap<EventId, Upload>,
    flights: Flights<EventId>,
    /// Whose frame went out last.
    turn: Option<EventId>,
}

impl Uploads {
    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn next_due(&self) -> Option<Mono> {
        let senders = self.open.values().filter_map(|upload| upload.sender.poll_timeout());
        senders.map(|(at, _)| at).chain(self.flights.next_due()).min()
    }

    /// Returns whose turn it is to give out a frame, if one more may be on its way.
    fn next_ready(&mut self) -> Option<EventId> {
        if self.open.is_empty() || self.flights.room() == 0 {
            return None;
        }
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.open.range((after, Bound::Unbounded));
        let found = behind.chain(&self.open).find(|(_, upload)| upload.sender.wants_credit());
        let found = found.map(|(call, _)| *call);
        self.turn = found.or(self.turn);
        found
    }

    fn tell(&mut self, call: &EventId, input: SenderInput, now: Now) {
        if let Some(upload) = self.open.get_mut(call) {
            upload.sender.handle(input, now);
        }
    }
}

impl ClientMachine {
    /// Whether a server takes transfers: it said so, or it was not heard yet and is asked.
    pub(super) const fn handshake(&self) -> Option<Handshake> {
        match (self.session.tags.oversized, &self.facts.first_tagged) {
            (true, _) => Some(Handshake::Skip),
            (false, None) => Some(Handshake::Ask),
            (false, Some(_)) => None,
        }
    }

    /// Registers a call whose request is too large for one event.
    ///
    /// A server that was never heard is greeted first.
    pub(super) fn begin_upload(
        &mut self,
        mut pending: Pending,
        (message, handshake): (String, Handshake),
        tags: Vec<Tag>,
        now: Now,
    ) {
        let call = place_holder(pending.ticket);
        pending.uploading = true;
        self.enter(call, pending);
        if self.session.heard {
            self.start_upload(call, (message, handshake), tags, false, now);
        } else {
            self.greet_first(call, (message, tags), false, now);
        }
    }

    /// Begins the transfer of a call that is in the table; [`Self::pump_uploads`] gives the frames out.
    pub(super) fn start_upload(
        &mut self,
        call: EventId,
        (message, handshake): (String, Handshake),
        tags: Vec<Tag>,
        is_second: bool,
        now: Now,
    ) {
        let Some(pending) = self.pending.get(&call) else { return };
        let (size, limits) = (message.len(), &self.config.limits);
        let room = self.chunk_room(now);
        match Sender::new(&pending.wire.text, message, room, handshake, limits, now) {
            Ok(sender) => {
                let upload = Upload { sender, cut_for: self.relay, tags, total: size as u64, is_second };
                self.uploads.open.insert(call, upload);
            }
            Err(TransferError::TooManyBytes { .. }) => {
                let limit = limits.transfer_bytes;
                if let Some(pending) = self.pending.take(&call) {
                    self.end(&call, &pending, &Ending::TooLarge { size, limit }, now);
                }
            }
            Err(error) => self.fail_call(&call, &error.to_string(), now),
        }
    }

    /// Gives frames out, one of each upload in turn, while more may be on their way.
    pub(super) fn pump_uploads(&mut self, now: Now) {
        while let Some(call) = self.uploads.next_ready() {
            self.uploads.tell(&call, SenderInput::Credit(1), now);
            self.serve_upload(&call, now);
        }
    }

    /// Takes the outcome of a frame; `false` when the ticket belongs to none.
    pub(super) fn on_frame_published(&mut self, ticket: Ticket, outcome: &Outcome, now: Now) -> bool {
        let Some((call, progress, landing)) = self.uploads.flights.land(ticket, outcome, now.mono) else {
            return false;
        };
        // What is published again is signed again.
        self.outputs.push_back(ClientOutput::Forget(ticket));
        match landing {
            None => {
                self.repeat_frames(now);
                return true;
            }
            Some(Landing::Taken) => {
                self.uploads.tell(&call, SenderInput::Published(progress), now);
                self.sign_of_life(&call, now);
                self.tell_sent(&call);
            }
            Some(Landing::Lost) => self.uploads.tell(&call, SenderInput::Unpublished(progress), now),
            Some(Landing::TooLarge) => self.on_too_large(&call, progress, now),
        }
        self.serve_upload(&call, now);
        true
    }

    /// Tells an upload what the server says of it.
    pub(super) fn hear_of_upload(&mut self, call: &EventId, body: &FrameBody<'_>, now: Now) {
        match body {
            FrameBody::Accept => self.uploads.tell(call, SenderInput::Accepted, now),
            FrameBody::Abort(reason) => {
                // It knows; nothing more is said about the transfer.
                let upload = self.uploads.open.remove(call);
                self.forget_frames(call);
                match upload.filter(|upload| !upload.is_second && reason.as_deref() == Some(STRANGER)) {
                    Some(upload) => self.begin_again(*call, upload, now),
                    None => self.fail_call(call, &aborted(reason.as_deref()), now),
                }
            }
            FrameBody::Start(_) | FrameBody::Chunk(_) | FrameBody::End => {
                self.drop_because(DropReason::Uncorrelated);
            }
        }
    }

    /// Makes itself known to a server that takes transfers of those only whom it knows, and begins once more.
    fn begin_again(&mut self, call: EventId, upload: Upload, now: Now) {
        self.session.unannounce();
        self.pending.change(&call, |pending| pending.flagged = true);
        let tags = self.request_tags(true);
        self.greet_first(call, (upload.sender.into_message(), tags), true, now);
    }

    /// Gives up an upload whose call is over.
    pub(super) fn stop_upload(&mut self, call: &EventId, now: Now) {
        self.greeting.forget(call);
        let Some(mut upload) = self.uploads.open.remove(call) else { return };
        self.forget_frames(call);
        upload.sender.handle(SenderInput::Cancel, now);
        while let Some(output) = upload.sender.poll_output() {
            if let SenderOutput::Frame { content, .. } = output {
                self.publish_control(content, now);
            }
        }
    }

    pub(super) fn wake_uploads(&mut self, now: Now) {
        let is_due = |upload: &Upload| upload.sender.poll_timeout().is_some_and(|(at, _)| at <= now.mono);
        let due = self.uploads.open.iter().filter(|(_, upload)| is_due(upload));
        let due: Vec<EventId> = due.map(|(call, _)| *call).collect();
        for call in due {
            self.uploads.tell(&call, SenderInput::Wake, now);
            self.serve_upload(&call, now);
        }
        self.repeat_frames(now);
    }

    /// Frames that wait for a relay go to the one that came up.
    pub(super) fn uploads_relay_up(&mut self, now: Now) {
        self.uploads.flights.relay_up(now.mono);
        self.repeat_frames(now);
    }

    fn repeat_frames(&mut self, now: Now) {
        let (flights, next) = (&mut self.uploads.flights, &mut self.next_ticket);
        let mut ticket = || {
            *next += 1;
            Ticket(*next)
        };
        while let Some(outbound) = flights.due(now.mono, &mut ticket) {
            self.outputs.push_back(ClientOutput::Publish(outbound));
        }
    }

    /// Does what a sender wants.
    fn serve_upload(&mut self, call: &EventId, now: Now) {
        loop {
            let Some(upload) = self.uploads.open.get_mut(call) else { return };
            match upload.sender.poll_output() {
                None => return,
                Some(SenderOutput::Frame { frame_type: FrameType::End, content, .. }) => {
                    return self.ask(call, content, now);
                }
                Some(SenderOutput::Frame { frame_type, progress, content }) => {
                    self.put_frame(call, (frame_type, progress), content, now);
                }
                Some(SenderOutput::Finished) => {}
                Some(SenderOutput::Failed(error)) => {
                    self.uploads.open.remove(call);
                    self.forget_frames(call);
                    return self.fail_call(call, &error.to_string(), now);
                }
            }
        }
    }

    fn put_frame(
        &mut self,
        call: &EventId,
        (frame_type, progress): (FrameType, u64),
        content: String,
        now: Now,
    ) {
        let Some(upload) = self.uploads.open.get(call) else { return };
        if upload.sender.poll_timeout().is_none() {
            // It failed: nobody waits for the outcome of its abort.
            return self.publish_control(content, now);
        }
        let tags = match frame_type {
            FrameType::Start => upload.tags.clone(),
            FrameType::Accept | FrameType::Chunk | FrameType::End | FrameType::Abort => {
                vec![tags::recipient(&self.config.server)]
            }
        };
        let draft = self.unique.draft(self.me, now.unix, Tags::from_list(tags), content);
        let (ticket, protection) = (self.ticket(), self.session.protection(&self.config));
        let server = self.config.server;
        let frame = (*call, progress);
        let outbound = self.uploads.flights.depart(ticket, frame, draft, server, protection, now.mono);
        self.outputs.push_back(ClientOutput::Publish(outbound));
    }

    /// Publishes the end frame, whose inner id is that of the request, as any other request.
    fn ask(&mut self, call: &EventId, content: String, now: Now) {
        self.uploads.open.remove(call);
        let mut tags = vec![tags::recipient(&self.config.server)];
        tags.extend(self.config.request_tags.iter().cloned());
        let draft = self.unique.draft(self.me, now.unix, Tags::from_list(tags), content);
        let Some(pending) = self.pending.take(call) else { return };
        let size = event_len(&draft);
        self.ask_with(pending, (draft, size), now);
    }

    fn on_too_large(&mut self, call: &EventId, progress: u64, now: Now) {
        let Some(upload) = self.uploads.open.get(call) else { return };
        if upload.cut_for == self.relay {
            self.relay.shrink();
        }
        let content_limit = self.chunk_room(now);
        self.forget_frames(call);
        let relay = self.relay;
        if let Some(upload) = self.uploads.open.get_mut(call) {
            upload.cut_for = relay;
            upload.sender.handle(SenderInput::TooLarge { progress, content_limit }, now);
        }
    }

    fn forget_frames(&mut self, call: &EventId) {
        let tickets = self.uploads.flights.forget(call);
        self.outputs.extend(tickets.into_iter().map(ClientOutput::Forget));
    }

    /// What a chunk frame may take in its event, bytes after escaping.
    fn chunk_room(&self, now: Now) -> usize {
        let tags = Tags::from_list(vec![tags::recipient(&self.config.server)]);
        let empty = Draft::new(self.me, now.unix, tags, String::new());
        self.relay.content_room(&empty, self.session.protection(&self.config))
    }

    fn tell_sent(&mut self, call: &EventId) {
        let (Some(upload), Some(pending)) = (self.uploads.open.get(call), self.pending.get(call)) else {
            return;
        };
        let (bytes, total) = (upload.sender.sent_bytes(), upload.total);
        let moved = Transferred { id: pending.id.clone(), direction: Direction::Sent, bytes, total };
        self.outputs.push_back(ClientOutput::Moved(moved));
    }

    /// Publishes what a request is asked with: one event, or the end frame of its transfer.
    pub(super) fn publish(&mut self, ticket: Ticket, draft: Draft) {
        let protection = self.session.protection(&self.config);
        let recipient = self.config.server;
        self.outputs.push_back(ClientOutput::Publish(Outbound {
            ticket,
            draft,
            recipient,
            protection,
            is_frame: false,
            about: None,
            reach: Reach::All,
        }));
    }
}

/// What to say of a transfer that the server aborted.
pub(super) fn aborted(reason: Option<&str>) -> String {
    let what = TransferError::Aborted.to_string();
    match reason {
        Some(reason) => format!("{what}: {}", Printable::short(reason, REASON)),
        None => what,
    }
}

/// Stands for the id of a request that has no event yet. No hash looks like it.
fn place_holder(ticket: Ticket) -> EventId {
    let mut bytes = [0; 32];
    if let Some(last) = bytes.last_chunk_mut() {
        *last = ticket.0.to_be_bytes();
    }
    EventId::from_byte_array(bytes)
}
