//! The target of the announcing machine: any order of application, relays, configuration and clock.
use std::collections::{BTreeMap, BTreeSet};

use contextvm_announce::announcer::MOST_PAGES;
use contextvm_announce::{
    Announcer, AnnouncerConfig, AnnouncerInput, AnnouncerOutput, Answer, DocumentKind, ListDocument, Price,
    Profile, Unsigned,
};
use contextvm_core::{Now, kind};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use crate::bytes::Bytes;
use crate::operations::{OUTPUTS, WAKES, each, moment};
use crate::people::keys;
use crate::seeds::Seed;

/// What an application says, for all the questions that there are.
const ANSWERS: [&str; 12] = [
    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"resources":{},"prompts":{}},"serverInfo":{"name":"n","version":"1"}}"#,
    r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"n","version":"1"}}"#,
    r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"listChanged":true},"prompts":{}},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"d","version":"2"}}}"#,
    r#"{"tools":[{"name":"a","inputSchema":{"type":"object"}},{"name":"b","inputSchema":{"$ref":"x"}}]}"#,
    r#"{"tools":[{"name":"a","inputSchema":{"type":"object","x":1}}],"nextCursor":"c"}"#,
    r#"{"resources":[{"uri":"u:1","name":"one"}]}"#,
    r#"{"resourceTemplates":[{"uriTemplate":"u:{x}","name":"t"}]}"#,
    r#"{"prompts":[{"name":"p"}],"nextCursor":"p"}"#,
    r#"{"prompts":[]}"#,
    r#"{"tools":7}"#,
    "{}",
    "[]",
];

/// How long an answer is awaited, milliseconds; after that the question may be asked again.
const ANSWER_TIME: u64 = 30_000;

struct Model {
    machine: Announcer,
    me: PublicKey,
    now: Now,
    /// Questions that were not answered, and when they were asked.
    asked: BTreeMap<u64, (&'static str, u64)>,
    under_way: BTreeSet<u64>,
    numbers: BTreeSet<u64>,
    /// What was published last of each kind, and under which id.
    last: BTreeMap<u16, (u64, EventId)>,
    event_bytes: usize,
    started: bool,
}

/// A list of operations: numbers are used once, stamps of a kind only rise, what is published can be read, and once everybody
/// answers and every relay takes what it gets, there is nothing left to do.
pub fn announcer(data: &[u8]) {
    let mut bytes = Bytes(data);
    let me = keys(0x11).public_key();
    let config = config(&mut bytes);
    let event_bytes = config.event_bytes;
    let mut model = Model {
        machine: Announcer::new(me, config),
        me,
        now: moment(0),
        asked: BTreeMap::new(),
        under_way: BTreeSet::new(),
        numbers: BTreeSet::new(),
        last: BTreeMap::new(),
        event_bytes,
        started: false,
    };
    each(&mut bytes, |bytes| model.operation(bytes));
    model.finish();
}

fn config(bytes: &mut Bytes<'_>) -> AnnouncerConfig {
    let flags = bytes.byte();
    let name = bytes.pick(&["", "n", "a longer name"]);
    let relays = || (0..flags % 3).map(|nth| format!("wss://relay{nth}")).collect();
    AnnouncerConfig {
        announce: flags & 1 != 0,
        discovery: vec![Tag::custom("name", [name]), Tag::custom("support_encryption", [""; 0])],
        prices: Price::parse(&Tag::custom("cap", ["tool:a", "1-9", "sats"])).into_iter().collect(),
        schemas: if flags & 2 != 0 {
            contextvm_announce::CommonSchemas::default().with_tool("a").with_tool("b")
        } else {
            contextvm_announce::CommonSchemas::default()
        },
        relay_list: (flags & 4 != 0).then(relays),
        profile: (flags & 8 != 0)
            .then(|| Profile::parse(&format!(r#"{{"name":"{name}"}}"#)).expect("a profile is json")),
        event_bytes: if flags & 16 != 0 { 700 } else { AnnouncerConfig::default().event_bytes },
    }
}

impl Model {
    fn operation(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.below(12) {
            0 => {
                self.started = true;
                self.tell(AnnouncerInput::Start);
            }
            1 => {
                self.asked.clear();
                self.tell(AnnouncerInput::Ended);
            }
            2..5 => self.answer(bytes),
            5 => {
                let method = bytes.pick(&[
                    "notifications/tools/list_changed",
                    "notifications/resources/list_changed",
                    "notifications/prompts/list_changed",
                    "x",
                ]);
                self.tell(AnnouncerInput::Heard(method.to_owned()));
            }
            6 => {
                let config = config(bytes);
                self.event_bytes = self.event_bytes.max(config.event_bytes);
                self.tell(AnnouncerInput::Configure(Box::new(config)));
            }
            7 => self.tell(AnnouncerInput::Repeat),
            8 | 9 => {
                let at = bytes.below(self.under_way.len().max(1));
                let ticket = self.under_way.iter().nth(at).copied().unwrap_or(u64::from(bytes.byte()));
                self.under_way.remove(&ticket);
                self.tell(AnnouncerInput::Published { ticket, taken: bytes.flag() });
            }
            10 => match bytes.below(3) {
                0 => {
                    let ms = u64::from(bytes.byte()) * bytes.pick(&[1, 100, 10_000]);
                    self.now = moment(self.now.mono.0 + ms);
                }
                _ => self.wake(),
            },
            _ => {
                let kind = bytes.pick(&[kind::SERVER_ANNOUNCEMENT, kind::TOOLS_LIST, kind::PROFILE, 1]);
                let created_at = self.now.unix + u64::from(bytes.short()) - 30_000;
                let id = bytes.flag().then(|| EventId::from_byte_array([bytes.byte(); 32]));
                self.tell(AnnouncerInput::Known { kind, created_at, id });
            }
        }
    }

    fn answer(&mut self, bytes: &mut Bytes<'_>) {
        let at = bytes.below(self.asked.len().max(1));
        let ask = self.asked.keys().nth(at).copied().unwrap_or(u64::from(bytes.byte()));
        let answer = match bytes.below(16) {
            0 => Answer::Silence,
            1 => Answer::Error(-32601),
            2 => Answer::Error(-32000),
            3 => RawValue::from_string(bytes.text()).map_or(Answer::Silence, Answer::Result),
            which => result(ANSWERS[which - 4]),
        };
        self.asked.remove(&ask);
        self.tell(AnnouncerInput::Answered { ask, answer });
    }

    fn tell(&mut self, input: AnnouncerInput) {
        self.machine.handle(input, self.now);
        for count in 0.. {
            assert!(count < OUTPUTS, "outputs come to an end");
            let Some(output) = self.machine.poll_output() else { break };
            match output {
                AnnouncerOutput::Open => self.asked.clear(),
                AnnouncerOutput::Ask { ask, method, params } => {
                    assert!(self.numbers.insert(ask), "a number is used once");
                    assert!(params.starts_with('{') && serde_json::from_str::<&RawValue>(&params).is_ok());
                    let now = self.now.mono.0;
                    self.asked.insert(ask, (method, now));
                    let awaited = self.asked.values().filter(|(_, at)| now - at < ANSWER_TIME);
                    assert!(awaited.count() <= 2 * MOST_PAGES, "few answers are awaited");
                }
                AnnouncerOutput::Publish { ticket, event } => {
                    assert!(self.numbers.insert(ticket), "a number is used once");
                    self.published(&event);
                    self.under_way.insert(ticket);
                }
                AnnouncerOutput::Settled => assert!(self.machine.is_settled()),
                AnnouncerOutput::Tell(_) | AnnouncerOutput::Failed(_) | AnnouncerOutput::Noted(_) => {}
            }
        }
    }

    fn published(&mut self, event: &Unsigned) {
        assert!(self.started, "nothing is published before the start");
        let id = event.id(&self.me);
        let about = match event.kind {
            kind::DELETION => {
                let named = |tag: &Tag| (tag.kind() == "k").then(|| tag.content()?.parse().ok()).flatten();
                event.tags.iter().find_map(named).expect("a deletion names a kind")
            }
            kind => kind,
        };
        if let Some((stamp, last)) = self.last.insert(about, (event.created_at, id)) {
            assert!(last == id || event.created_at > stamp, "what differs is stamped higher");
        }
        if let Some(list) = DocumentKind::LISTS.into_iter().find(|list| list.kind() == event.kind) {
            let document = ListDocument::from_result(list, &event.content, &event.tags);
            assert!(document.is_ok(), "a list that is published can be read: {document:?}");
        }
        assert!(Tags::parse(event.tags.iter().map(|tag| tag.as_slice().to_vec())).is_ok());
        // Around content and tags stand key, id and signature.
        assert!(event.kind == kind::DELETION || event.content.len() <= self.event_bytes);
    }

    fn wake(&mut self) {
        if let Some((at, _)) = self.machine.poll_timeout() {
            self.now = moment(at.0.max(self.now.mono.0));
            self.tell(AnnouncerInput::Wake);
            let next = self.machine.poll_timeout();
            let now = self.now.mono;
            assert!(next.is_none_or(|(at, _)| at > now), "a wake leaves nothing due: {next:?} at {now:?}");
        }
    }

    /// From now on all goes well.
    fn finish(mut self) {
        for count in 0.. {
            assert!(count < WAKES, "it comes to rest");
            let open = self.asked.iter().find(|(_, (method, _))| *method != "subscriptions/listen");
            if let Some((&ask, &(method, _))) = open {
                self.asked.remove(&ask);
                self.tell(AnnouncerInput::Answered { ask, answer: good(method) });
            } else if let Some(ticket) = self.under_way.pop_first() {
                self.tell(AnnouncerInput::Published { ticket, taken: true });
            } else if self.machine.poll_timeout().is_some() {
                self.wake();
            } else {
                break;
            }
        }
        assert_eq!(self.machine.is_settled(), self.started);
    }
}

fn good(method: &str) -> Answer {
    result(match method {
        "initialize" => ANSWERS[0],
        "server/discover" => ANSWERS[2],
        "tools/list" => ANSWERS[3],
        "resources/list" => ANSWERS[5],
        "resources/templates/list" => ANSWERS[6],
        _ => ANSWERS[8],
    })
}

fn result(text: &str) -> Answer {
    Answer::Result(RawValue::from_string(text.to_owned()).expect("it is json"))
}

/// The inputs of `corpus/announcer`.
pub(crate) fn seeds() -> Vec<Seed> {
    let (all, start) = ([15, 1], [0]);
    // The first open question, and which answer.
    let say = |which: u8| [2, 0, which];
    let taken = [8, 0, 1];
    let refused = [8, 0, 0];
    let wake = [10, 1];
    let legacy = [say(4), say(7), say(9), say(10), say(12)].concat();
    let modern = [say(1), say(6), say(7), say(9), say(10), say(12)].concat();
    [
        ("legacy", [&all[..], &start, &legacy, &taken, &taken, &taken].concat()),
        ("modern", [&all[..], &start, &modern, &taken, &taken].concat()),
        ("pages", [&all[..], &start, &say(4), &say(8), &say(7), &say(9)].concat()),
        ("silent", [&all[..], &start, &wake, &wake, &wake, &say(0), &wake].concat()),
        ("refused_by_relays", [&all[..], &start, &refused, &wake, &refused, &wake].concat()),
        ("changed", [&all[..], &start, &legacy, &[5, 0], &wake, &say(8), &wake].concat()),
        // A list changed while a page of it was late: the change stayed overdue after the wake.
        ("changed_while_asked", [&all[..], &start, &say(4), &[5, 0], &wake, &wake].concat()),
        ("list_is_gone", [&all[..], &start, &legacy, &taken, &taken, &[5, 0], &wake, &say(1)].concat()),
        ("reworded", [&all[..], &start, &legacy, &[6, 15, 2], &wake, &[6, 0, 0], &wake].concat()),
        ("ended", [&all[..], &start, &legacy, &[1], &wake, &legacy].concat()),
        ("known", [&all[..], &[11, 0, 0xff, 0xff, 1, 7], &start, &legacy].concat()),
        ("repeated", [&all[..], &start, &legacy, &taken, &[7], &taken, &[7]].concat()),
        ("too_large", [&[31, 2][..], &start, &legacy].concat()),
        ("unreadable", [&all[..], &start, &say(14), &wake, &say(4), &say(13), &wake].concat()),
        ("anything", [&all[..], &start, &[2, 0, 3, 2], b"{}", &wake].concat()),
    ]
    .map(|(name, bytes)| ("announcer", name, bytes))
    .into()
}
