//! Whatever the machine is told, in whatever order: stamps rise, one publication of a kind is under way at a time, and it ends.
use std::collections::BTreeMap;
use std::time::Duration;

use contextvm_announce::{
    Announcer, AnnouncerConfig, AnnouncerInput, AnnouncerOutput, Answer, Price, Unsigned,
};
use contextvm_core::{Mono, Now};
use nostr::event::EventId;
use proptest::prelude::*;

use crate::stage::{BEGIN, announcing, me, raw};

#[derive(Clone, Debug)]
enum Step {
    Start,
    Ended,
    Repeat,
    Configure {
        announce: bool,
        price: u8,
        relays: bool,
    },
    Heard(usize),
    Known(u16, u64),
    /// Answers the oldest open question.
    Answer(usize),
    /// Answers a question that may never have been asked.
    Stray(u64),
    /// Says what became of the oldest publication.
    Outcome(bool),
    /// Moves both clocks; the wall clock may step back.
    Wait(u64, i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Start),
        1 => Just(Step::Ended),
        1 => Just(Step::Repeat),
        2 => (any::<bool>(), 0..3_u8, any::<bool>())
            .prop_map(|(announce, price, relays)| Step::Configure { announce, price, relays }),
        3 => (0..4_usize).prop_map(Step::Heard),
        1 => (11_315..11_322_u16, 0..4_000_u64).prop_map(|(kind, ahead)| Step::Known(kind, BEGIN + ahead)),
        12 => (0..ANSWERS.len() + 2).prop_map(Step::Answer),
        1 => (0..50_u64).prop_map(Step::Stray),
        8 => any::<bool>().prop_map(Step::Outcome),
        8 => (0..40_000_u64, -100..100_i64).prop_map(|(millis, drift)| Step::Wait(millis, drift)),
    ]
}

const ANSWERS: [&str; 8] = [
    r#"{"protocolVersion":"x","capabilities":{"tools":{"listChanged":true},"prompts":{},"resources":{}}}"#,
    r#"{"supportedVersions":["x"],"capabilities":{}}"#,
    r#"{"tools":[{"name":"a"}],"prompts":[],"resources":[],"resourceTemplates":[]}"#,
    r#"{"tools":[{"name":"b"}],"prompts":[{"name":"p"}],"resources":[],"resourceTemplates":[]}"#,
    r#"{"tools":[{"name":"c"}],"resources":[{"uri":"u"}],"nextCursor":"x"}"#,
    "[]",
    "7",
    r#"{"tools":"x"}"#,
];

fn answer(which: usize) -> Answer {
    match ANSWERS.get(which) {
        Some(text) => Answer::Result(raw(text)),
        None if which == ANSWERS.len() => Answer::Error(-32601),
        None => Answer::Silence,
    }
}

struct Watch {
    machine: Announcer,
    now: Now,
    open: Vec<u64>,
    flying: Vec<(u64, u16)>,
    /// The newest event of each kind that a publication was about.
    newest: BTreeMap<u16, Unsigned>,
    known: BTreeMap<u16, u64>,
}

impl Watch {
    fn tell(&mut self, input: AnnouncerInput) {
        self.machine.handle(input, self.now);
        while let Some(output) = self.machine.poll_output() {
            match output {
                AnnouncerOutput::Ask { ask, .. } => self.open.push(ask),
                AnnouncerOutput::Publish { ticket, event } => self.publish(ticket, event),
                AnnouncerOutput::Open
                | AnnouncerOutput::Tell(_)
                | AnnouncerOutput::Failed(_)
                | AnnouncerOutput::Noted(_)
                | AnnouncerOutput::Settled => {}
            }
        }
    }

    fn publish(&mut self, ticket: u64, event: Unsigned) {
        let named = event.tags.iter().find(|tag| event.kind == 5 && tag.kind() == "k");
        let about = named.map_or(event.kind, |tag| tag.content().unwrap().parse().unwrap());
        assert!(!self.flying.iter().any(|(_, flying)| *flying == about), "one at a time");
        self.flying.push((ticket, about));
        if let Some(before) = self.newest.get(&about)
            && *before != event
        {
            assert!(event.created_at > before.created_at, "{before:?} {event:?}");
            assert!((&event.tags, &event.content) != (&before.tags, &before.content));
        }
        assert!(self.known.get(&about).is_none_or(|known| event.created_at > *known));
        self.newest.insert(about, event);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Start => self.tell(AnnouncerInput::Start),
            Step::Ended => self.tell(AnnouncerInput::Ended),
            Step::Repeat => self.tell(AnnouncerInput::Repeat),
            Step::Configure { announce, price, relays } => {
                let prices =
                    (0..price).map(|n| Price::new("tool:a", &n.to_string(), "sats").unwrap()).collect();
                let relay_list = relays.then(|| vec!["wss://a.example".to_owned()]);
                let config = AnnouncerConfig { announce, prices, relay_list, ..AnnouncerConfig::default() };
                self.tell(AnnouncerInput::Configure(Box::new(config)));
            }
            Step::Heard(which) => {
                let list = ["tools", "resources", "prompts", "x"][which];
                self.tell(AnnouncerInput::Heard(format!("notifications/{list}/list_changed")));
            }
            Step::Known(kind, created_at) => {
                // Relays are asked before the start.
                if self.newest.is_empty() {
                    let id = Some(EventId::from_byte_array([9; 32]));
                    let known = self.known.entry(kind).or_default();
                    *known = created_at.max(*known);
                    self.tell(AnnouncerInput::Known { kind, created_at, id });
                }
            }
            Step::Answer(which) if !self.open.is_empty() => {
                let ask = self.open.remove(0);
                self.tell(AnnouncerInput::Answered { ask, answer: answer(which) });
            }
            Step::Stray(ask) => {
                self.tell(AnnouncerInput::Answered { ask: ask + 1_000_000, answer: answer(2) })
            }
            Step::Outcome(taken) if !self.flying.is_empty() => {
                let (ticket, _) = self.flying.remove(0);
                self.tell(AnnouncerInput::Published { ticket, taken });
            }
            Step::Answer(_) | Step::Outcome(_) => {}
            Step::Wait(millis, drift) => {
                self.now.mono = self.now.mono.after(Duration::from_millis(millis));
                self.now.unix = self.now.unix.saturating_add_signed(drift);
                self.tell(AnnouncerInput::Wake);
            }
        }
    }

    /// Lets relays take everything and the application say nothing more: the machine must come to rest.
    fn rest(&mut self) {
        for _ in 0..200 {
            while let Some((ticket, _)) = self.flying.pop() {
                self.tell(AnnouncerInput::Published { ticket, taken: true });
            }
            if self.machine.is_settled() {
                return;
            }
            let (at, _why) =
                self.machine.poll_timeout().expect("what is not settled has a time to come back");
            self.now.mono = at.max(self.now.mono);
            self.tell(AnnouncerInput::Wake);
        }
        panic!("it never comes to rest");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn nothing_confuses_it(steps in prop::collection::vec(step(), 0..80)) {
        let mut watch = Watch {
            machine: Announcer::new(me(), announcing()),
            now: Now { mono: Mono(0), unix: BEGIN },
            open: Vec::new(),
            flying: Vec::new(),
            newest: BTreeMap::new(),
            known: BTreeMap::new(),
        };
        for step in steps {
            watch.take(step);
        }
        watch.tell(AnnouncerInput::Start);
        watch.rest();
    }
}
