//! The client machine under any order of application, server, relay and clock.
mod pieces;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::{Draft, Limits, Now, Opened, Protection};
use contextvm_crypto::Keys;
use contextvm_engine::{
    ClientConfig, ClientInput, ClientMachine, ClientOutput, EncryptionMode, Outbound, StreamNews, Ticket,
};
use nostr::event::{EventId, Tag};
use serde_json::Value;

use crate::bytes::Bytes;
use crate::operations::{self, OUTPUTS, SMALLEST_RELAY, WAKES, moment, request_id};
use crate::people::{PROTECTIONS, keys, message, opened, tags};

/// One run: the machine, everybody around it, and what was counted.
struct Run {
    machine: ClientMachine,
    config: ClientConfig,
    limits: Limits,
    now: Now,
    me: Keys,
    server: Keys,
    stranger: Keys,
    /// Inner ids of what was published, in order.
    asked: Vec<EventId>,
    tickets: Vec<Ticket>,
    kept: BTreeSet<Ticket>,
    heard: Vec<Opened>,
    /// Under each JSON-RPC id: calls begun, calls ended by a delivery, calls taken back by the application.
    begun: BTreeMap<String, usize>,
    ended: BTreeMap<String, usize>,
    taken_back: BTreeMap<String, usize>,
    /// Events out of which something was delivered.
    delivered: BTreeSet<EventId>,
    /// Streams that are read, under each JSON-RPC id: begun and ended.
    read: BTreeMap<String, usize>,
    read_ended: BTreeMap<String, usize>,
    /// What was published, by id.
    drafts: BTreeMap<EventId, Draft>,
    republished: usize,
}

/// What the machine did in answer to one input.
#[derive(Default)]
struct Step {
    delivered: Vec<String>,
}

/// Decodes a list of operations and carries it out; every call must end exactly once.
pub fn client_engine(data: &[u8]) {
    let _ = counted(data);
}

/// What happened in one run, so that a seed can be shown to do what its name says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Calls begun, ended by a delivery, and taken back.
    pub(crate) calls: [usize; 3],
    /// Messages delivered in answer to an event.
    pub(crate) heard: usize,
    /// Publications, and repetitions of them.
    pub(crate) published: [usize; 2],
}

fn counted(data: &[u8]) -> Counts {
    let mut bytes = Bytes(data);
    let mut run = Run::new(&mut bytes);
    operations::each(&mut bytes, |bytes| run.operation(bytes));
    run.finish()
}

impl Run {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let (me, server, stranger) = (keys(0x22), keys(0x11), keys(0x33));
        let limits = Limits {
            pending: 1 + bytes.below(8),
            outbound_events: 4,
            in_flight_per_caller: 3,
            in_flight_bytes: 75_000,
            transfers: 3,
            streams: 2,
            request_timeout: Duration::from_secs(60),
            ..Limits::default()
        };
        let (encryption, gift_wrap) = (operations::encryption(bytes), operations::gift_wrap(bytes));
        let stateless = bytes.flag();
        let features = bytes.byte();
        let config = ClientConfig {
            encryption,
            gift_wrap,
            stateless,
            answer_server_requests: features % 2 == 1,
            open_streams: features & 2 != 0,
            show_frames: features & 4 != 0,
            limits: limits.clone(),
            ..ClientConfig::new(server.public_key())
        };
        let mut machine = ClientMachine::new(config.clone(), me.public_key(), [3; 32]);
        // The smallest that is listened to: what is large need not be long then.
        machine.handle(ClientInput::RelayLimit(SMALLEST_RELAY), moment(0));
        Self {
            machine,
            config,
            limits,
            now: moment(0),
            me,
            server,
            stranger,
            asked: Vec::new(),
            tickets: Vec::new(),
            kept: BTreeSet::new(),
            heard: Vec::new(),
            begun: BTreeMap::new(),
            ended: BTreeMap::new(),
            taken_back: BTreeMap::new(),
            delivered: BTreeSet::new(),
            read: BTreeMap::new(),
            read_ended: BTreeMap::new(),
            drafts: BTreeMap::new(),
            republished: 0,
        }
    }

    fn operation(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.below(16) {
            0 | 1 => self.send_request(bytes, false),
            2 => self.send_notification(bytes),
            3 => self.send_anything(bytes.text()),
            4 | 5 => self.server_answers(bytes),
            6 => self.server_speaks(bytes),
            7 => self.repeat(bytes),
            8 | 9 => self.publication_ends(bytes),
            10 => self.time_passes(bytes),
            12 => self.send_request(bytes, true),
            13 => self.server_sends_pieces(bytes),
            14 => self.server_streams(bytes),
            15 => self.application_reads(bytes),
            _ => match bytes.below(16) {
                0 => {
                    let _ = self.input(ClientInput::Close);
                }
                1..8 => self.wake(),
                _ => {
                    let _ = self.input(ClientInput::RelayUp);
                }
            },
        }
    }

    fn send_request(&mut self, bytes: &mut Bytes<'_>, is_read: bool) {
        let id = request_id(bytes);
        let method = bytes.pick(&["tools/call", "initialize", "tools/list", "ping", "resources/read", "x"]);
        let params = match bytes.below(4) {
            0 => String::new(),
            1 => r#","params":{"name":"add"}"#.to_owned(),
            2 => format!(r#","params":{{"_meta":{{"progressToken":{}}}}}"#, request_id(bytes)),
            _ => format!(r#","params":{{"name":"{}"}}"#, "x".repeat(usize::from(bytes.short()) / 2)),
        };
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"{params}}}"#);
        *self.begun.entry(same(id)).or_default() += 1;
        if is_read {
            *self.read.entry(same(id)).or_default() += 1;
            let _ = self.input(ClientInput::SendReading(text));
        } else {
            let _ = self.input(ClientInput::Send(text));
        }
    }

    fn send_notification(&mut self, bytes: &mut Bytes<'_>) {
        if bytes.flag() {
            let method = bytes.pick(&["notifications/initialized", "notifications/roots/list_changed", "x"]);
            let _ = self.input(ClientInput::Send(format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#)));
            return;
        }
        let id = request_id(bytes);
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        );
        let before = self.machine.pending_calls();
        let _ = self.input(ClientInput::Send(text));
        let ended = before - self.machine.pending_calls();
        assert!(ended <= 1, "a cancellation takes back one call");
        *self.taken_back.entry(same(id)).or_default() += ended;
    }

    /// Text of which nothing is known: what it begins is found out by a second reading.
    fn send_anything(&mut self, text: String) {
        match Envelope::parse(&text, &self.limits) {
            Ok(parsed) if parsed.kind == MessageKind::Request => {
                let id = parsed.id.expect("a request has an id");
                *self.begun.entry(same(id.get())).or_default() += 1;
                let _ = self.input(ClientInput::Send(text));
            }
            Ok(parsed) if parsed.kind == MessageKind::Notification => {}
            Ok(_) => {
                let step = self.input(ClientInput::Send(text));
                assert!(step.delivered.is_empty(), "an answer to the server makes nothing");
            }
            Err(_) => {
                let before = self.ended.clone();
                let step = self.input(ClientInput::Send(text));
                assert!(step.delivered.len() <= 1, "one text is refused once");
                self.ended = before;
            }
        }
    }

    fn server_answers(&mut self, bytes: &mut Bytes<'_>) {
        let asked = match self.asked.len() {
            0 => EventId::from_slice(&[9; 32]).expect("32 bytes are an id"),
            count => self.asked[usize::from(bytes.short()) % count],
        };
        let id = request_id(bytes);
        let content = match bytes.below(5) {
            0 => format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":[{{"name":"add","annotations":{{"readOnlyHint":true}}}}]}}}}"#
            ),
            1 => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"no"}}}}"#),
            2 => r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"no"}}"#.to_owned(),
            3 => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":1}}}}"#
            ),
            _ => bytes.text(),
        };
        let mut more = vec![Tag::event(asked)];
        more.extend(said(bytes));
        self.hear(bytes, more, content);
    }

    fn server_speaks(&mut self, bytes: &mut Bytes<'_>) {
        let id = request_id(bytes);
        let content = match bytes.below(5) {
            0 => r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.to_owned(),
            1 => format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#),
            2 => format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
            ),
            3 => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
            _ => bytes.text(),
        };
        let more = said(bytes);
        self.hear(bytes, more, content);
    }

    fn hear(&mut self, bytes: &mut Bytes<'_>, more: Vec<Tag>, content: String) {
        let by_server = bytes.below(8) != 7;
        let author = if by_server { &self.server } else { &self.stranger };
        let event = message(author, self.now.unix, tags(&self.me.public_key(), more), content);
        let protection = bytes.pick(&PROTECTIONS);
        if let Some(opened) = opened(event, protection, &self.me.public_key(), self.now.unix) {
            self.heard.push(opened.clone());
            self.take(opened);
        }
    }

    /// The same inner event once more, perhaps in another wrap or in none.
    fn repeat(&mut self, bytes: &mut Bytes<'_>) {
        if self.heard.is_empty() {
            return;
        }
        let event = self.heard[bytes.below(self.heard.len())].event().clone();
        if let Some(again) = opened(event, bytes.pick(&PROTECTIONS), &self.me.public_key(), self.now.unix) {
            self.take(again);
        }
    }

    fn take(&mut self, opened: Opened) {
        let by_server = opened.event().pubkey == self.server.public_key();
        let plain = opened.protection() == Protection::Plain;
        let id = opened.event().id;
        let step = self.input(ClientInput::Opened(Box::new(opened)));
        assert!(by_server || step.delivered.is_empty(), "strangers are not heard");
        // An answer to a greeting may end every request that waited for it.
        let is_refusal = |text: &String| text.contains(r#""reason":"too_large""#);
        let messages = step.delivered.iter().filter(|text| !is_refusal(text)).count();
        let most = 1 + usize::from(self.config.show_frames);
        assert!(messages <= most, "one event is one message, but for frames that are shown");
        // Calls that end by their time may do so when the event comes.
        let is_heard = step.delivered.iter().any(|text| !text.contains(r#""data":{"reason":""#));
        let is_new = !is_heard || self.delivered.insert(id);
        assert!(is_new || self.config.show_frames, "one event is delivered once");
        let refused = plain && self.config.encryption == EncryptionMode::Required;
        assert!(!refused || step.delivered.is_empty(), "plaintext is not heard where encryption is required");
    }

    fn publication_ends(&mut self, bytes: &mut Bytes<'_>) {
        let ticket = match self.tickets.len() {
            0 => Ticket(u64::from(bytes.byte())),
            count => self.tickets[usize::from(bytes.short()) % count],
        };
        let outcome = operations::outcome(bytes);
        let _ = self.input(ClientInput::Published(ticket, outcome));
    }

    fn time_passes(&mut self, bytes: &mut Bytes<'_>) {
        let ms = u64::from(bytes.byte()) * bytes.pick(&[1, 100, 1_000]);
        self.pass(self.now.mono.0 + ms);
    }

    fn pass(&mut self, to: u64) {
        self.now = moment(to.max(self.now.mono.0));
    }

    fn wake(&mut self) {
        if let Some((at, _)) = self.machine.poll_timeout() {
            self.pass(at.0);
            let _ = self.input(ClientInput::Wake);
            let next = self.machine.poll_timeout();
            assert!(next.is_none_or(|(at, _)| at > self.now.mono), "a wake leaves nothing due: {next:?}");
        }
    }

    fn input(&mut self, input: ClientInput) -> Step {
        self.machine.handle(input, self.now);
        let mut step = Step::default();
        for count in 0.. {
            assert!(count < OUTPUTS, "outputs come to an end");
            let Some(output) = self.machine.poll_output() else {
                break;
            };
            match output {
                ClientOutput::Publish(outbound) => self.publish(&outbound),
                ClientOutput::Republish { ticket, .. } => {
                    assert!(self.kept.contains(&ticket), "only what is kept can be published again");
                    self.republished += 1;
                }
                ClientOutput::Forget(ticket) => {
                    assert!(self.kept.remove(&ticket), "a ticket is forgotten once");
                }
                ClientOutput::Deliver { message: text, exchange } => {
                    let asked = exchange.is_none_or(|exchange| self.asked.contains(&exchange.request));
                    assert!(asked, "an answer names the event that asked");
                    self.deliver(&text);
                    step.delivered.push(text);
                }
                ClientOutput::Stream { id, news: StreamNews::Ended(_) } => {
                    *self.read_ended.entry(same(id.get())).or_default() += 1;
                }
                ClientOutput::Stream { .. } | ClientOutput::Moved(_) => {}
                ClientOutput::Lost(_) | ClientOutput::Learned | ClientOutput::Drop(_) => {}
            }
        }
        self.check_load();
        step
    }

    fn check_load(&self) {
        let (load, limits) = (self.machine.load(), &self.limits);
        assert!(load.pending <= limits.pending && load.uploads <= limits.pending, "{load:?}");
        assert!(load.pending_bytes <= limits.in_flight_bytes, "{load:?}");
        assert!(load.downloads <= limits.transfers, "{load:?}");
        assert!(load.downloads_bytes <= limits.transfers_bytes, "{load:?}");
        // Those of open calls, and those that are still read or not taken though their calls are over.
        assert!(load.streams <= load.pending + limits.streams, "{load:?}");
        assert!(load.streams_bytes <= limits.streams_bytes, "{load:?}");
        assert!(load.asked <= limits.in_flight, "{load:?}");
    }

    fn publish(&mut self, outbound: &Outbound) {
        assert!(self.kept.insert(outbound.ticket), "a ticket is used once");
        assert_eq!(outbound.draft.author, self.me.public_key());
        assert_eq!(outbound.recipient, self.server.public_key());
        let before = self.drafts.insert(outbound.draft.id, outbound.draft.clone());
        assert!(before.is_none_or(|before| before == outbound.draft), "no two drafts have one id");
        let encrypted = self.config.encryption != EncryptionMode::Disabled;
        assert_eq!(outbound.protection.is_encrypted(), encrypted);
        assert!(Envelope::parse(&outbound.draft.content, &self.limits).is_ok());
        self.tickets.push(outbound.ticket);
        self.asked.push(outbound.draft.id);
    }

    fn deliver(&mut self, text: &str) {
        let parsed = Envelope::parse(text, &self.limits).expect("what is delivered is JSON-RPC");
        match parsed.kind {
            MessageKind::Response | MessageKind::Error => {
                let id = parsed.id.expect("an answer that is delivered has an id");
                *self.ended.entry(same(id.get())).or_default() += 1;
            }
            MessageKind::Request => assert!(self.config.answer_server_requests),
            MessageKind::Notification => {}
        }
    }

    /// Lets every deadline pass without an answer: what is still open must end, and the clock must run down.
    fn finish(mut self) -> Counts {
        let published = [self.asked.len(), self.republished];
        for count in 0.. {
            let Some((at, _)) = self.machine.poll_timeout() else {
                break;
            };
            assert!(count < WAKES, "the timers run down");
            self.pass(at.0);
            let _ = self.input(ClientInput::Wake);
        }
        assert_eq!(self.machine.pending_calls(), 0, "every call has a deadline");
        let load = self.machine.load();
        assert_eq!((load.pending_bytes, load.downloads_bytes), (0, 0));
        // What the application did not take waits for it.
        assert!(load.streams > 0 || load.streams_bytes == 0, "{load:?}");
        for (id, begun) in &self.begun {
            let ended = self.ended.get(id).copied().unwrap_or_default();
            let taken_back = self.taken_back.get(id).copied().unwrap_or_default();
            assert_eq!(ended + taken_back, *begun, "calls under the id {id}");
        }
        // A stream that was given out ends when its call is over, also if nobody takes the rest.
        assert_eq!(self.read, self.read_ended, "every stream that is read ends once");
        for id in self.ended.keys() {
            assert!(self.begun.contains_key(id), "nobody asked under the id {id}");
        }
        Counts {
            calls: [&self.begun, &self.ended, &self.taken_back].map(|counts| counts.values().sum()),
            heard: self.delivered.len(),
            published,
        }
    }
}

/// One spelling for ids that are the same JSON value.
fn same(id: &str) -> String {
    serde_json::from_str::<Value>(id).expect("an id is json").to_string()
}

/// Discovery tags of the server.
fn said(bytes: &mut Bytes<'_>) -> Vec<Tag> {
    match bytes.below(6) {
        0 => vec![Tag::custom("support_repeats", [""; 0])],
        1 => vec![Tag::custom("support_encryption_ephemeral", [""; 0]), Tag::custom("name", ["x"])],
        5 => vec![Tag::custom("support_oversized_transfer", [""; 0])],
        2 => vec![Tag::custom("e", [bytes.text()])],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds;

    fn counts(name: &str) -> Counts {
        counted(&seeds::named("client_engine", name))
    }

    #[test]
    fn the_seeds_do_what_their_names_say() {
        let calls = |name| counts(name).calls;
        assert_eq!(counts("answered"), Counts { calls: [1, 1, 0], heard: 1, published: [1, 0] });
        assert_eq!(counts("answered_twice"), Counts { calls: [1, 1, 0], heard: 1, published: [1, 0] });
        assert_eq!(counts("by_a_stranger").heard, 0);
        assert_eq!((calls("unanswered"), counts("unanswered").heard), ([1, 1, 0], 0));
        assert!(counts("refused").published[1] > 0, "what no relay took is published again");
        assert!(counts("repeats_promised").published[1] > 0, "a promise allows repetitions");
        assert_eq!(calls("cancelled"), [1, 0, 1]);
        assert_eq!(counts("progress").heard, 2);
        assert_eq!((calls("same_id_twice"), counts("same_id_twice").heard), ([2, 2, 0], 2));
        assert_eq!((calls("busy"), counts("busy").published[0]), ([3, 3, 0], 1));
        assert_eq!(calls("closed"), [2, 2, 0]);
        assert_eq!(calls("stateless"), [2, 2, 0]);
        assert_eq!(counts("in_clear").heard, 1);
        assert_eq!(counts("server_request"), Counts { calls: [0, 0, 0], heard: 1, published: [1, 0] });
        assert_eq!(counts("forgotten").published[0], 4, "a greeting, a start frame, and both once more");
        assert_eq!(counts("long_silence").published[0], 3, "two calls, and a greeting before the third");
        assert_eq!((calls("too_large"), counts("too_large").published[0]), ([1, 1, 0], 1), "greeted first");
        assert_eq!(counts("in_pieces"), Counts { calls: [1, 1, 0], heard: 1, published: [1, 0] });
        assert_eq!((calls("streamed"), counts("streamed").heard), ([1, 1, 0], 1));
        assert_eq!(counts("read_and_not_taken").published[0], 2);
        let turned = counts("turned_into_events");
        assert_eq!((turned.calls, turned.published[0]), ([3, 3, 0], 3), "a greeting, two calls, and no room");
    }
}
