//! The first words with the MCP application, in whichever era it speaks.
use alloc::string::{String, ToString};

use core::time::Duration;

use contextvm_core::object::{self, Edit, member};
use contextvm_core::rewrite::PROTOCOL_VERSION;
use contextvm_core::{Mono, Now};
use nostr::event::Tags;
use serde_json::value::RawValue;

use super::listing::{Listing, NOT_FOUND};
use super::pause::Backoff;
use super::{AnnounceError, AnnounceWake, Announcer, AnnouncerOutput, Answer};
use crate::{DocumentKind, ServerDocument};

/// How long the MCP application has to say who it is, in each era; it may have to be started first.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// The newest revision of MCP with `initialize`.
const LEGACY: &str = "2025-11-25";
/// The revision of MCP without.
const MODERN: &str = "2026-07-28";
const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";

const INITIALIZE: &str = "initialize";
const DISCOVER: &str = "server/discover";
const LISTEN: &str = "subscriptions/listen";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Silent,
    Initialize {
        ask: u64,
        until: Mono,
    },
    Discover {
        /// The first question, whose answer is still welcome.
        initialize: u64,
        ask: u64,
        until: Mono,
    },
    /// Since then.
    Known(Mono),
    /// Nothing could be learned; another attempt follows.
    Resting,
}

/// What is known of the MCP application as a whole.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    stage: Stage,
    modern: bool,
    /// Its answer, as JSON text.
    content: Option<String>,
    backoff: Backoff,
    listen: Listen,
}

/// The subscription that tells of changed lists in the modern era.
#[derive(Debug, Default)]
struct Listen {
    ask: Option<u64>,
    /// What is wanted, as JSON text; `None` when the application tells of nothing.
    wanted: Option<String>,
    backoff: Backoff,
}

impl Greeting {
    /// Returns what the application said of itself, as JSON text on one line.
    pub(super) fn content(&self) -> Option<&str> {
        self.content.as_deref()
    }

    pub(super) const fn is_busy(&self) -> bool {
        matches!(self.stage, Stage::Initialize { .. } | Stage::Discover { .. })
    }

    pub(super) fn timeout(&self) -> Option<(Mono, AnnounceWake)> {
        let own = match self.stage {
            Stage::Initialize { until, .. } | Stage::Discover { until, .. } => {
                Some((until, AnnounceWake::Answer))
            }
            Stage::Resting => self.backoff.at().map(|at| (at, AnnounceWake::Retry)),
            Stage::Silent | Stage::Known(_) => None,
        };
        let listen = self.listen.backoff.at().map(|at| (at, AnnounceWake::Retry));
        own.into_iter().chain(listen).min_by_key(|(at, _why)| *at)
    }

    /// Prints the params of a request in the application's era.
    pub(super) fn params(&self, members: &[(&'static str, &str)]) -> String {
        let mut params = Edit::new();
        for (name, json) in members {
            params.set(*name, *json);
        }
        if self.modern {
            let mut meta = Edit::new();
            meta.set_string(PROTOCOL_VERSION, MODERN).set(CLIENT_INFO, info());
            params.set("_meta", meta.set(CLIENT_CAPABILITIES, "{}").to_text());
        }
        params.to_text()
    }
}

impl Announcer {
    /// Asks the application who it is, in a session of its own; what is published stays until it has answered.
    pub(super) fn greet(&mut self, now: Now) {
        let (content, backoff) = (self.greeting.content.take(), self.greeting.backoff);
        self.listings.values_mut().for_each(Listing::pause);
        self.out.push_back(AnnouncerOutput::Open);
        let mut params = Edit::new();
        params.set_string("protocolVersion", LEGACY).set("capabilities", "{}").set("clientInfo", info());
        let ask = self.ask(INITIALIZE, params.to_text());
        let stage = Stage::Initialize { ask, until: now.mono.after(ANSWER_TIME) };
        self.greeting = Greeting { stage, content, backoff, ..Greeting::default() };
    }

    /// The session is over: there will be another one after a while.
    pub(super) fn on_ended(&mut self, now: Now) {
        if self.greeting.stage != Stage::Silent {
            let since = if let Stage::Known(since) = self.greeting.stage { Some(since) } else { None };
            self.greeting.stage = Stage::Resting;
            self.greeting.backoff.end(since, now.mono);
            self.greeting.listen = Listen::default();
            self.listings.values_mut().for_each(Listing::pause);
        }
    }

    /// Takes an answer from the application; one that nobody waits for is passed over.
    pub(super) fn on_answer(&mut self, ask: u64, answer: Answer, now: Now) {
        match self.greeting.stage {
            Stage::Initialize { ask: asked, .. } if ask == asked => match answer {
                Answer::Result(result) => self.met(INITIALIZE, &result, now),
                Answer::Error(_) | Answer::Silence => self.discover(asked, now),
            },
            Stage::Discover { initialize, .. } if ask == initialize => {
                if let Answer::Result(result) = answer {
                    self.greeting.modern = false;
                    self.met(INITIALIZE, &result, now);
                }
            }
            Stage::Discover { ask: asked, .. } if ask == asked => match answer {
                Answer::Result(result) => self.met(DISCOVER, &result, now),
                Answer::Error(code) => self.rest(AnnounceError::Refused { method: DISCOVER, code }, now),
                Answer::Silence => self.rest(AnnounceError::NoAnswer { method: DISCOVER }, now),
            },
            _ if self.greeting.listen.ask == Some(ask) => {
                let listen = &mut self.greeting.listen;
                listen.ask = None;
                match answer {
                    Answer::Error(NOT_FOUND) => listen.wanted = None,
                    // However long it lasted: an application that is let go when it is idle must come to rest.
                    Answer::Error(_) | Answer::Result(_) | Answer::Silence => listen.backoff.fail(now.mono),
                }
            }
            Stage::Silent
            | Stage::Initialize { .. }
            | Stage::Discover { .. }
            | Stage::Known(_)
            | Stage::Resting => self.on_page(ask, answer, now),
        }
    }

    /// Does what is due.
    pub(super) fn advance_greeting(&mut self, now: Now) {
        match self.greeting.stage {
            Stage::Initialize { ask, until } if now.mono >= until => self.discover(ask, now),
            Stage::Discover { until, .. } if now.mono >= until => {
                self.rest(AnnounceError::NoAnswer { method: DISCOVER }, now);
            }
            Stage::Resting if self.greeting.backoff.take_due(now.mono) => self.greet(now),
            Stage::Known(_) if self.greeting.listen.backoff.take_due(now.mono) => {
                self.listen();
                // Nobody told what changed in between.
                self.listings.values_mut().for_each(|listing| listing.changed(now.mono));
            }
            Stage::Silent
            | Stage::Initialize { .. }
            | Stage::Discover { .. }
            | Stage::Known(_)
            | Stage::Resting => {}
        }
    }

    fn discover(&mut self, initialize: u64, now: Now) {
        self.greeting.modern = true;
        let ask = self.ask(DISCOVER, self.greeting.params(&[]));
        self.greeting.stage = Stage::Discover { initialize, ask, until: now.mono.after(ANSWER_TIME) };
    }

    fn rest(&mut self, error: AnnounceError, now: Now) {
        self.greeting.stage = Stage::Resting;
        self.greeting.backoff.fail(now.mono);
        self.fail(error);
    }

    /// The application has said who it is: asks for the lists that it has.
    fn met(&mut self, method: &'static str, result: &RawValue, now: Now) {
        let readable = ServerDocument::from_result(result.get(), &Tags::default()).is_ok();
        let capabilities = member(result, "capabilities").filter(|value| value.get().starts_with('{'));
        let Some(capabilities) = capabilities.filter(|_| readable) else {
            return self.rest(AnnounceError::Unreadable { method }, now);
        };
        self.greeting.stage = Stage::Known(now.mono);
        self.greeting.content = Some(object::compact(result.get()));
        if self.greeting.modern {
            self.greeting.listen.wanted = wishes(capabilities);
            self.listen();
        } else {
            self.out.push_back(AnnouncerOutput::Tell("notifications/initialized"));
        }
        for document in DocumentKind::ALL {
            if let Some(capability) = capability(document) {
                self.declare(document, declared(capabilities, capability).is_some(), now);
            }
        }
        self.compose();
    }

    fn listen(&mut self) {
        if let Some(wanted) = &self.greeting.listen.wanted {
            let params = self.greeting.params(&[("notifications", wanted)]);
            self.greeting.listen.ask = Some(self.ask(LISTEN, params));
        }
    }
}

/// The capability that stands for a list; `None` for the server itself.
const fn capability(document: DocumentKind) -> Option<&'static str> {
    match document {
        DocumentKind::Server => None,
        DocumentKind::Tools => Some("tools"),
        DocumentKind::Resources | DocumentKind::ResourceTemplates => Some("resources"),
        DocumentKind::Prompts => Some("prompts"),
    }
}

fn declared<'a>(capabilities: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    member(capabilities, name).filter(|capability| capability.get() != "null")
}

/// Prints which changes to listen for: those that the application says it tells of.
fn wishes(capabilities: &RawValue) -> Option<String> {
    let named = [
        ("tools", "toolsListChanged"),
        ("prompts", "promptsListChanged"),
        ("resources", "resourcesListChanged"),
    ];
    let mut wanted = Edit::new();
    let mut any = false;
    for (name, wish) in named {
        let tells = declared(capabilities, name).and_then(|capability| member(capability, "listChanged"));
        if tells.is_some_and(|tells| tells.get() == "true") {
            wanted.set(wish, "true");
            any = true;
        }
    }
    any.then(|| wanted.to_text())
}

/// What we call ourselves towards the application.
fn info() -> String {
    let mut info = Edit::new();
    info.set_string("name", "contextvm-announcer").set_string("version", env!("CARGO_PKG_VERSION"));
    info.to_text().to_string()
}
