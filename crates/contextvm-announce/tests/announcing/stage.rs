//! A stage: the announcing machine, an MCP application that answers from a table, and relays that take everything or nothing.
use std::collections::BTreeMap;
use std::time::Duration;

use contextvm_announce::{
    AnnounceError, Announcer, AnnouncerConfig, AnnouncerInput, AnnouncerOutput, Answer, Unsigned,
};
use contextvm_core::{Mono, Now};
use nostr::key::PublicKey;
use serde_json::value::RawValue;

/// When the stories begin, Unix seconds.
pub(crate) const BEGIN: u64 = 1_700_000_000;

pub(crate) fn me() -> PublicKey {
    PublicKey::from_byte_array([7; 32])
}

pub(crate) fn announcing() -> AnnouncerConfig {
    AnnouncerConfig { announce: true, ..AnnouncerConfig::default() }
}

pub(crate) fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

/// What an MCP application answers: per method its pages, or an error code; nothing at all for `silent` methods.
#[derive(Clone, Default)]
pub(crate) struct App {
    pub(crate) results: BTreeMap<String, Vec<String>>,
    pub(crate) errors: BTreeMap<String, i64>,
    pub(crate) silent: Vec<String>,
    /// It says that a list has changed whenever it is asked for it.
    pub(crate) chatty: bool,
}

impl App {
    /// An application of the older era with these capabilities.
    pub(crate) fn legacy(capabilities: &str) -> Self {
        let result = format!(
            r#"{{ "protocolVersion":"2025-11-25", "capabilities":{capabilities},"serverInfo":{{"name":"s","version":"1"}}}}"#
        );
        Self::default().with("initialize", &[&result])
    }

    /// An application of the newer era, which refuses `initialize`.
    pub(crate) fn modern(capabilities: &str) -> Self {
        let result = format!(
            r#"{{"supportedVersions":["2026-07-28"],"capabilities":{capabilities},"resultType":"complete"}}"#
        );
        Self::default().with("server/discover", &[&result])
    }

    pub(crate) fn with(mut self, method: &str, pages: &[&str]) -> Self {
        self.errors.remove(method);
        self.results.insert(method.to_owned(), pages.iter().map(ToString::to_string).collect());
        self
    }

    pub(crate) fn refusing(mut self, method: &str, code: i64) -> Self {
        self.results.remove(method);
        self.errors.insert(method.to_owned(), code);
        self
    }

    fn answer(&self, method: &str, params: &str) -> Option<Answer> {
        if self.silent.iter().any(|silent| silent == method) {
            return None;
        }
        let Some(pages) = self.results.get(method) else {
            return Some(Answer::Error(self.errors.get(method).copied().unwrap_or(-32601)));
        };
        let params: serde_json::Value = serde_json::from_str(params).unwrap();
        let page = params["cursor"].as_str().map_or(0, |cursor| cursor.parse().unwrap());
        pages.get::<usize>(page).map(|page| Answer::Result(raw(page)))
    }
}

pub(crate) struct Stage {
    pub(crate) machine: Announcer,
    pub(crate) now: Now,
    pub(crate) app: App,
    /// Whether relays take what is published.
    pub(crate) taken: bool,
    /// Whether they say at once what became of it.
    pub(crate) outcomes: bool,
    /// Publications that are under way.
    flying: Vec<u64>,
    /// What the application was asked and told: method and params.
    pub(crate) asked: Vec<(String, String)>,
    /// All questions by number.
    asks: Vec<(String, u64)>,
    pub(crate) failed: Vec<AnnounceError>,
    pub(crate) notes: usize,
    /// Sessions that were opened with the application.
    pub(crate) opened: usize,
    pub(crate) settled: usize,
}

impl Stage {
    pub(crate) fn new(config: AnnouncerConfig, app: App) -> Self {
        let now = Now { mono: Mono(5), unix: BEGIN };
        let machine = Announcer::new(me(), config);
        let (asked, asks, failed) = (Vec::new(), Vec::new(), Vec::new());
        let (taken, outcomes, flying) = (true, true, Vec::new());
        Self {
            machine,
            now,
            app,
            taken,
            outcomes,
            flying,
            asked,
            asks,
            failed,
            notes: 0,
            opened: 0,
            settled: 0,
        }
    }

    /// Starts and returns what was published at once.
    pub(crate) fn started(config: AnnouncerConfig, app: App) -> (Self, Vec<Unsigned>) {
        let mut stage = Self::new(config, app);
        let published = stage.tell(AnnouncerInput::Start);
        (stage, published)
    }

    /// Tells the machine something, answers whatever it asks, and returns what it published.
    pub(crate) fn tell(&mut self, input: AnnouncerInput) -> Vec<Unsigned> {
        self.machine.handle(input, self.now);
        let mut published = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            match output {
                AnnouncerOutput::Ask { ask, method, params } => {
                    let answer = self.app.answer(method, &params);
                    self.asked.push((method.to_owned(), params));
                    self.asks.push((method.to_owned(), ask));
                    if let Some(answer) = answer {
                        self.machine.handle(AnnouncerInput::Answered { ask, answer }, self.now);
                    }
                    if let Some(list) = method.strip_suffix("/list").filter(|_| self.app.chatty) {
                        let changed = format!("notifications/{list}/list_changed");
                        self.machine.handle(AnnouncerInput::Heard(changed), self.now);
                    }
                }
                AnnouncerOutput::Open => self.opened += 1,
                AnnouncerOutput::Tell(method) => self.asked.push((method.to_owned(), String::new())),
                AnnouncerOutput::Publish { ticket, event } => {
                    published.push(event);
                    let taken = self.taken;
                    if self.outcomes {
                        self.machine.handle(AnnouncerInput::Published { ticket, taken }, self.now);
                    } else {
                        self.flying.push(ticket);
                    }
                }
                AnnouncerOutput::Failed(error) => self.failed.push(error),
                AnnouncerOutput::Noted(_) => self.notes += 1,
                AnnouncerOutput::Settled => self.settled += 1,
            }
        }
        published
    }

    /// Answers the first question of this method now, whatever was asked since.
    pub(crate) fn answer_late(&mut self, method: &str) -> Vec<Unsigned> {
        let ask = self.asks.iter().find(|(asked, _)| asked == method).map(|(_, ask)| *ask).unwrap();
        let answer = self.app.answer(method, "{}").unwrap();
        self.tell(AnnouncerInput::Answered { ask, answer })
    }

    /// Says what became of the publications that are under way.
    pub(crate) fn land(&mut self, taken: bool) -> Vec<Unsigned> {
        let tickets = std::mem::take(&mut self.flying);
        let outcomes = tickets.into_iter().map(|ticket| AnnouncerInput::Published { ticket, taken });
        outcomes.collect::<Vec<_>>().into_iter().flat_map(|outcome| self.tell(outcome)).collect()
    }

    pub(crate) fn heard(&mut self, list: &str) -> Vec<Unsigned> {
        self.tell(AnnouncerInput::Heard(format!("notifications/{list}/list_changed")))
    }

    pub(crate) fn configure(&mut self, config: AnnouncerConfig) -> Vec<Unsigned> {
        self.tell(AnnouncerInput::Configure(Box::new(config)))
    }

    /// Lets time pass, waking the machine whenever it asked to be, and returns what it published.
    pub(crate) fn wait(&mut self, time: Duration) -> Vec<Unsigned> {
        let (end, unix) = (self.now.mono.after(time), self.now.unix + time.as_secs());
        let mut published = Vec::new();
        while let Some((at, _why)) = self.machine.poll_timeout().filter(|(at, _why)| *at <= end) {
            let passed = at.since(self.now.mono).as_secs();
            self.now = Now { mono: at.max(self.now.mono), unix: self.now.unix + passed };
            published.extend(self.tell(AnnouncerInput::Wake));
        }
        self.now = Now { mono: end, unix };
        published
    }

    pub(crate) fn wait_secs(&mut self, seconds: u64) -> Vec<Unsigned> {
        self.wait(Duration::from_secs(seconds))
    }

    /// Lists the methods that were asked since the last call.
    pub(crate) fn methods(&mut self) -> Vec<String> {
        self.asked.drain(..).map(|(method, _params)| method).collect()
    }
}

pub(crate) fn kinds(events: &[Unsigned]) -> Vec<u16> {
    events.iter().map(|event| event.kind).collect()
}

pub(crate) fn of_kind(events: &[Unsigned], kind: u16) -> &Unsigned {
    events.iter().find(|event| event.kind == kind).unwrap()
}

pub(crate) fn tags(event: &Unsigned) -> Vec<Vec<String>> {
    event.tags.iter().map(|tag| tag.as_slice().to_vec()).collect()
}
