//! Progress that is a frame of a transfer or of a stream.
use alloc::borrow::ToOwned;

use contextvm_core::envelope::Envelope;
use contextvm_core::{Now, Protection};
use contextvm_stream::StreamFrame;
use contextvm_transfer::{FrameBody, TransferFrame};
use nostr::event::{Event, EventId};

use super::ClientMachine;
use super::incoming::Names;
use crate::DropReason;

impl ClientMachine {
    /// Takes a notification if it is a frame; `false` when it is anything else.
    ///
    /// A frame is found by its token: some peers send it without an `e` tag, or with one that names nothing.
    pub(super) fn take_frame(
        &mut self,
        (event, protection): (&Event, Protection),
        envelope: &Envelope<'_>,
        names: &Names,
        now: Now,
    ) -> Result<bool, DropReason> {
        if envelope.param("cvm").is_none() {
            return Ok(false);
        }
        if let Some(frame) = TransferFrame::read(envelope).map_err(|_| DropReason::Malformed)? {
            let call = if matches!(frame.body, FrameBody::Accept) {
                // It answers the start frame: whether the request itself arrived is not known yet.
                let call = self.call_with(&frame.token, names)?.ok_or(DropReason::Uncorrelated)?;
                self.extend(&call, now);
                call
            } else {
                self.call_of_frame(&frame.token, names, now)?
            };
            self.show_frame(event, envelope, &call, now);
            self.on_transfer_frame(&call, frame, (event, protection), now);
            return Ok(true);
        }
        let Some(frame) = StreamFrame::read(envelope).map_err(|_| DropReason::Malformed)? else {
            return Ok(false);
        };
        let call = self.call_of_frame(&frame.token, names, now)?;
        self.show_frame(event, envelope, &call, now);
        self.on_stream_frame(&call, frame, now);
        Ok(true)
    }

    fn call_of_frame(&mut self, token: &str, names: &Names, now: Now) -> Result<EventId, DropReason> {
        let call = self.call_with(token, names)?.ok_or(DropReason::Uncorrelated)?;
        self.sign_of_life(&call, now);
        Ok(call)
    }

    /// Hands a frame to the application that wants to see it, once.
    fn show_frame(&mut self, event: &Event, envelope: &Envelope<'_>, call: &EventId, now: Now) {
        if self.config.show_frames && self.heard.first_time(event.id, now.mono) {
            let message = self.with_own_token(&event.content, envelope, call);
            self.deliver(message.unwrap_or_else(|| event.content.to_owned()));
        }
    }
}
