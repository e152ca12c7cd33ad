//! What must hold of everything that the machine does.
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::{Limits, rewrite};
use contextvm_engine::server::Delivery;
use contextvm_engine::{EncryptionMode, Outbound, RequestKey};
use contextvm_transfer::{Receiver, ReceiverInput, ReceiverOutput, TransferFrame};
use nostr::event::{Event, EventId};
use nostr::key::PublicKey;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Run;

/// What the machine says when it could not transfer an answer.
const UNSENT: &str = "Answer could not be sent";
/// What the machine says when no relay took an answer, for its size.
const TOO_LARGE: &str = "larger than relays take";
/// What the machine says to a caller that is not let in. It may say so again, and let the caller in later.
const UNAUTHORIZED: &str = "Unauthorized";
/// What the machine says about a request whose answer it does not have: one of an earlier run, or answered long ago.
const LOST: &str = "its answer is not kept";

impl Run {
    pub(super) fn check_load(&self) {
        let (load, limits) = (self.machine.load(), &self.limits);
        assert!(load.in_flight <= limits.in_flight, "{load:?}");
        assert!(load.in_flight_bytes <= limits.in_flight_bytes, "{load:?}");
        assert!(load.sessions <= limits.sessions, "{load:?}");
        assert!(load.stranger_sessions <= limits.stranger_sessions, "{load:?}");
        assert!(load.seen_ids <= limits.seen_ids, "{load:?}");
        assert!(load.ledger_bytes <= limits.ledger_bytes, "{load:?}");
        assert!(load.asked <= limits.in_flight, "{load:?}");
        assert!(load.transfers_in <= limits.transfers && load.transfers_out <= limits.transfers, "{load:?}");
        assert!(load.transfers_in_bytes <= limits.transfers_bytes, "{load:?}");
        assert!(load.transfers_out_bytes <= limits.transfers_bytes, "{load:?}");
        assert!(load.streams <= limits.streams, "{load:?}");
        // What the pieces of one text cost beside it comes on top.
        let pieces = limits.stream_buffer.div_ceil(limits.stream_chunk) + 1;
        assert!(load.streams_bytes <= limits.streams_bytes + 32 * pieces, "{load:?}");
    }

    pub(super) fn deliver(&mut self, caller: PublicKey, delivery: &Delivery, message: &str, event: &Event) {
        assert_eq!(event.pubkey, caller, "a message is its author's");
        assert_eq!(self.events.get(&event.id), Some(event), "only what came in is delivered");
        let key = RequestKey { caller, id: event.id };
        let needs_record = match delivery {
            Delivery::Request { .. } => true,
            // What means nothing to another run, or does no harm there.
            Delivery::Notification { method } => !matches!(
                method.as_str(),
                "notifications/cancelled" | "notifications/progress" | "notifications/initialized"
            ),
            Delivery::Response => false,
        };
        assert!(self.delivered.insert(key), "one event is delivered once, whatever restarts come between");
        if !needs_record {
            self.harmless.insert(key);
        }
        let is_remembered = !self.config.durable || !needs_record || self.store.holds(&key);
        assert!(is_remembered, "what is acted on was remembered before");
        let parsed = Envelope::parse(message, &self.limits).expect("what is delivered is JSON-RPC");
        let hex = format!("\"{}\"", event.id.to_hex());
        match delivery {
            Delivery::Request { key: named, method, streams } => {
                if *streams {
                    self.offered.insert(key);
                }
                assert_eq!((*named, parsed.kind), (key, MessageKind::Request));
                assert_eq!(parsed.method.as_deref(), Some(method.as_str()));
                assert_eq!(parsed.id.map(|id| id.get()), Some(hex.as_str()));
                let said = rewrite::meta_member(parsed.params, "clientPubkey").map(|said| said.get());
                assert!(said.is_none_or(|said| said.contains(&caller.to_hex())), "nobody names himself");
                self.requests.push(key);
            }
            Delivery::Notification { method } => {
                assert_eq!(parsed.kind, MessageKind::Notification);
                if method == "notifications/cancelled" {
                    let named = rewrite::cancelled_request_id(parsed.params).expect("it names a request");
                    let id = serde_json::from_str::<EventId>(named.get()).expect("by its inner event id");
                    let key = RequestKey { caller, id };
                    assert!(
                        self.requests.contains(&key),
                        "a caller takes back what is its own, and was delivered"
                    );
                    assert!(self.cancelled.insert(key), "and does so once");
                }
            }
            Delivery::Response => {
                assert!(matches!(parsed.kind, MessageKind::Response | MessageKind::Error));
            }
        }
    }

    pub(super) fn publish(&mut self, outbound: &Outbound) {
        let draft = &outbound.draft;
        assert_eq!(draft.author, self.me);
        let recipient = draft.tags.iter().next().and_then(|tag| tag.content().map(str::to_owned));
        assert_eq!(recipient, Some(outbound.recipient.to_hex()), "the first tag names the recipient");
        assert!(
            self.encryption != EncryptionMode::Required || outbound.protection.is_encrypted(),
            "nothing goes out in clear where encryption is required"
        );
        assert!(!self.tickets.contains(&outbound.ticket), "a ticket is used once");
        self.tickets.push(outbound.ticket);
        let limits = Limits { json_nodes: usize::MAX, ..self.limits.clone() };
        let parsed = Envelope::parse(&draft.content, &limits).expect("what is published is JSON-RPC");
        let e = draft.tags.iter().find(|tag| tag.kind() == "e").and_then(|tag| tag.content());
        let Some(id) = e.map(|hex| EventId::from_hex(hex).expect("an e tag names an event")) else {
            assert!(
                !matches!(parsed.kind, MessageKind::Response | MessageKind::Error),
                "an answer names its request"
            );
            if parsed.kind == MessageKind::Request {
                self.asked.push(draft.id);
            }
            return;
        };
        let request = self.events.get(&id).expect("only what came in is answered");
        assert_eq!(request.pubkey, outbound.recipient, "nobody hears what another asked");
        let key = RequestKey { caller: outbound.recipient, id };
        if let Some(frame) = TransferFrame::read(&parsed).expect("a frame of ours is a frame") {
            return self.part(key, draft.id, frame);
        }
        let named = match parsed.kind {
            MessageKind::Response | MessageKind::Error => parsed.id,
            MessageKind::Notification if parsed.method.as_deref() == Some("notifications/cancelled") => {
                rewrite::cancelled_request_id(parsed.params)
            }
            MessageKind::Request | MessageKind::Notification => return,
        };
        let asked = self.whole.get(&id).copied().unwrap_or(&request.content);
        let theirs = Envelope::parse(asked, &self.limits).expect("an answered request was JSON-RPC");
        assert_eq!(json(named), json(theirs.id), "what ends a request carries the caller's own id");
        if draft.content.contains(UNAUTHORIZED) {
            return;
        }
        // An answer that was transferred, and of whose last frame nothing is heard, is followed by this; so is one that no relay
        // took.
        if [UNSENT, TOO_LARGE].iter().any(|why| draft.content.contains(why))
            && self.answers.contains_key(&key)
        {
            return;
        }
        if draft.content.contains(LOST) {
            let is_open = self.requests.contains(&key)
                && !(self.answers.contains_key(&key) || self.cancelled.contains(&key) || self.stops);
            return assert!(!is_open, "what is under way is not called lost");
        }
        let first = !self.answers.contains_key(&key);
        assert!(!(first && self.cancelled.contains(&key)), "what was taken back is not answered");
        let answer = self.answers.entry(key).or_insert_with(|| draft.content.clone());
        assert_eq!(*answer, draft.content, "one request has one answer");
    }
}

impl Run {
    /// Puts an answer together; what comes out is an answer like any other.
    fn part(&mut self, key: RequestKey, event: EventId, frame: TransferFrame<'_>) {
        let peer = self.me;
        let now = self.now;
        let parts = self.parts.entry(key).or_insert_with(|| Receiver::for_responses(&Limits::default()));
        parts.handle(ReceiverInput::Wake, now);
        parts.handle(ReceiverInput::Frame { peer, request: Some(key.id), frame, event }, now);
        while let Some(output) = parts.poll_output() {
            if let ReceiverOutput::Complete { message, .. } = output {
                let answer = self.answers.entry(key).or_insert_with(|| message.clone());
                assert_eq!(*answer, message, "one request has one answer");
                assert!(!self.cancelled.contains(&key), "what was taken back is not answered");
                return;
            }
        }
    }
}

fn json(part: Option<&RawValue>) -> Option<Value> {
    part.map(|part| serde_json::from_str(part.get()).expect("a part is json"))
}
