//! The check of one conversation: decisions only, without any input or output of their own.
//!
//! A call waits until the server's whole list of tools is known; if no host has listed it, the checker asks for it under
//! an id of its own. Every page of a list is judged before the host sees it, whoever asked for it and in whatever order.
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use contextvm_core::Limits;
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::{self, Edit, Object, quote};
use contextvm_core::rewrite;
use serde_json::value::RawValue;

use super::{Judgement, ToolCheck, ToolsRefused};
use crate::answer::{FAILED, Failure, raw};
use crate::proxy::conversation::{Heard, Said, WRAPPED};

/// Most lists that a host may ask for at once, and most messages that wait for the complete list.
const OPEN: usize = 256;
/// Bytes of all messages that wait for the complete list.
const HELD: usize = 8 * 1024 * 1024;
/// Most pages of the complete list, and their bytes.
const PAGES: (usize, usize) = (256, 8 * 1024 * 1024);
/// Most names that an error tells.
const NAMED: usize = 64;
/// Members of `_meta` that a request must have in the revision of 2026-07-28.
const ERA: &str = "io.modelcontextprotocol/";

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Act {
    /// Say something to the server.
    Server(Said),
    /// Send a message to the host.
    Host(Heard),
}

/// A list that a host asked for.
#[derive(Debug)]
struct Listing {
    /// Whether it begins at the beginning.
    is_first: bool,
    /// What the errand needs to say about the revision, if this list makes one necessary.
    meta: Option<String>,
}

/// What waits for the complete list.
#[derive(Debug)]
enum Held {
    /// A call on its way to the server.
    Call { id: Box<RawValue>, tool: String, text: String },
    /// A part of the list on its way to the host.
    Page { id: Box<RawValue>, heard: Heard },
}

impl Held {
    fn id(&self) -> &RawValue {
        match self {
            Self::Call { id, .. } | Self::Page { id, .. } => id,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Call { text, .. } => text.len(),
            Self::Page { heard, .. } => heard.text.len(),
        }
    }
}

/// The complete list on its way.
#[derive(Debug)]
struct Errand {
    /// Its id, as JSON.
    id: String,
    meta: Option<String>,
    pages: Vec<String>,
    /// Pages and bytes of them that came in all.
    came: (usize, usize),
    /// The list has changed since the first page was asked for.
    outdated: bool,
}

/// The memory of one conversation.
#[derive(Debug)]
pub(super) struct Checker {
    check: Arc<dyn ToolCheck>,
    limits: Limits,
    /// By the host's id.
    listings: BTreeMap<String, Listing>,
    held: VecDeque<Held>,
    errand: Option<Errand>,
    next: u64,
    acts: VecDeque<Act>,
}

impl Checker {
    pub(super) fn new(check: Arc<dyn ToolCheck>, limits: Limits) -> Self {
        Self {
            check,
            limits,
            listings: BTreeMap::new(),
            held: VecDeque::new(),
            errand: None,
            next: 0,
            acts: VecDeque::new(),
        }
    }

    /// Returns what is to be done next; to be called until `None`.
    pub(super) fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// Takes one message of the host.
    pub(super) fn host_said(&mut self, text: String) {
        let limits = self.limits.clone();
        let Ok(message) = Envelope::parse(&text, &limits) else { return self.pass(text) };
        match (message.kind, message.method.as_deref(), message.id) {
            (MessageKind::Request, Some("tools/list"), Some(id)) => {
                if self.listings.len() >= OPEN {
                    return self.answer(id, &busy());
                }
                let is_first = message.param("cursor").is_none_or(|cursor| cursor.get() == "null");
                let listing = Listing { is_first, meta: era(&message) };
                self.listings.insert(id.get().to_owned(), listing);
            }
            (MessageKind::Request, Some("tools/call"), Some(id)) => {
                // A call without a name is the server's to refuse.
                let Some(tool) = message.param("name").and_then(object::string) else {
                    return self.pass(text);
                };
                match self.check.judge_call(&tool) {
                    Judgement::Fine => {}
                    Judgement::Refused(why) => return self.answer(id, &changed(&why)),
                    Judgement::Unknown => {
                        let (id, tool, meta) = (id.to_owned(), tool.into_owned(), era(&message));
                        return self.hold(Held::Call { id, tool, text }, meta);
                    }
                }
            }
            (MessageKind::Notification, Some("notifications/cancelled"), _)
                if rewrite::cancelled_request_id(message.params).is_some_and(|id| self.withdraw(id)) =>
            {
                return;
            }
            _ => {}
        }
        self.pass(text);
    }

    /// The host does not wait any more for the request with this id.
    pub(super) fn host_abandons(&mut self, id: Box<RawValue>) {
        if !self.withdraw(&id) {
            self.acts.push_back(Act::Server(Said::Abandon(id)));
        }
    }

    /// Takes one message of the server.
    pub(super) fn server_said(&mut self, heard: Heard) {
        // It was measured when it came from a relay, and may have been put into another message since.
        let json_depth = self.limits.json_depth.saturating_add(WRAPPED);
        let limits = Limits { json_nodes: usize::MAX, event: usize::MAX, json_depth, ..self.limits.clone() };
        let Ok(message) = Envelope::parse(&heard.text, &limits) else { return };
        match (message.kind, message.id) {
            (MessageKind::Response | MessageKind::Error, Some(id)) => {
                if self.errand.as_ref().is_some_and(|errand| errand.id == id.get()) {
                    return self.errand_answered(&message);
                }
                if let (Some(listing), Some(result)) = (self.listings.remove(id.get()), message.result) {
                    let id = id.to_owned();
                    let result = result.to_owned();
                    return self.listed(&listing, id, &result, heard);
                }
            }
            (MessageKind::Notification, _)
                if message.method.as_deref() == Some("notifications/tools/list_changed") =>
            {
                self.check.forget();
                if let Some(errand) = &mut self.errand {
                    errand.outdated = true;
                }
            }
            _ => {}
        }
        self.acts.push_back(Act::Host(heard));
    }

    /// The conversation ends; what still waits is answered.
    pub(super) fn end(&mut self) {
        let closed = Failure::new(FAILED, "closed", "the conversation ended before the tools were checked");
        for held in core::mem::take(&mut self.held) {
            self.answer(held.id(), &closed);
        }
    }

    fn pass(&mut self, text: String) {
        self.acts.push_back(Act::Server(Said::Message(text)));
    }

    fn answer(&mut self, id: &RawValue, failure: &Failure) {
        let heard = Heard { text: failure.answer(id), about: Some(id.to_owned()) };
        self.acts.push_back(Act::Host(heard));
    }

    /// A list that the host asked for has come.
    fn listed(&mut self, listing: &Listing, id: Box<RawValue>, result: &RawValue, heard: Heard) {
        let Some(tools) = tools_of(result) else { return self.acts.push_back(Act::Host(heard)) };
        if listing.is_first && cursor_of(result).is_none() {
            self.check.learn(&tools);
        }
        match self.check.judge_shown(&tools) {
            Judgement::Fine => self.acts.push_back(Act::Host(heard)),
            Judgement::Refused(why) => self.answer(&id, &changed(&why)),
            Judgement::Unknown => self.hold(Held::Page { id, heard }, listing.meta.clone()),
        }
    }

    /// Keeps a message until the complete list is known.
    fn hold(&mut self, held: Held, meta: Option<String>) {
        let bytes: usize = self.held.iter().map(Held::bytes).sum();
        if self.held.len() >= OPEN || bytes.saturating_add(held.bytes()) > HELD {
            return self.answer(held.id(), &busy());
        }
        self.held.push_back(held);
        if self.errand.is_none() {
            self.next += 1;
            let id = quote(&format!("cvm-tools-{}", self.next));
            self.errand = Some(Errand { id, meta, pages: Vec::new(), came: (0, 0), outdated: false });
            self.ask(None);
        }
    }

    /// Asks for the next page of the complete list.
    fn ask(&mut self, cursor: Option<&str>) {
        let Some(errand) = &self.errand else { return };
        let mut params = Edit::new();
        if let Some(cursor) = cursor {
            params.set("cursor", cursor);
        }
        if let Some(meta) = &errand.meta {
            params.set("_meta", meta.as_str());
        }
        let (id, params) = (&errand.id, params.to_text());
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{params}}}"#);
        self.pass(text);
    }

    /// A page of the complete list has come, or an error in its place, which then is the answer to all that waits.
    fn errand_answered(&mut self, message: &Envelope<'_>) {
        let Some(errand) = &mut self.errand else { return };
        let Some(result) = message.result else {
            self.errand = None;
            for held in core::mem::take(&mut self.held) {
                let id = held.id();
                let heard = Heard { text: rewrite::with_id(message, id.get()), about: Some(id.to_owned()) };
                self.acts.push_back(Act::Host(heard));
            }
            return;
        };
        errand.came = (errand.came.0 + 1, errand.came.1.saturating_add(result.get().len()));
        if errand.came.0 > PAGES.0 || errand.came.1 > PAGES.1 {
            return self.unchecked("the server's list of tools is too long to be checked");
        }
        if tools_of(result).is_none() {
            return self.unchecked("the server's list of tools is not understood");
        }
        let cursor = cursor_of(result);
        if core::mem::take(&mut errand.outdated) {
            // What has come is partly of the old list and partly of the new one.
            errand.pages.clear();
            return self.ask(None);
        }
        errand.pages.push(result.get().to_owned());
        match cursor {
            Some(cursor) => self.ask(Some(cursor)),
            None => self.learned(),
        }
    }

    /// The complete list cannot be had: what waits is not let through.
    fn unchecked(&mut self, why: &str) {
        self.errand = None;
        let failure = Failure::new(FAILED, "tools_unchecked", why);
        for held in core::mem::take(&mut self.held) {
            self.answer(held.id(), &failure);
        }
    }

    /// The complete list is known: what waited is judged.
    fn learned(&mut self) {
        let Some(errand) = self.errand.take() else { return };
        let pages: Vec<Box<RawValue>> = errand.pages.into_iter().filter_map(raw).collect();
        let tools: Vec<&RawValue> = pages.iter().filter_map(|page| tools_of(page)).flatten().collect();
        self.check.learn(&tools);
        for held in core::mem::take(&mut self.held) {
            let judgement = match &held {
                Held::Call { tool, .. } => self.check.judge_call(tool),
                Held::Page { heard, .. } => {
                    let shape = Object::parse(&heard.text).ok();
                    let result = shape.as_ref().and_then(|message| message.get("result"));
                    self.check.judge_shown(&result.and_then(tools_of).unwrap_or_default())
                }
            };
            match (judgement, held) {
                (Judgement::Fine, Held::Call { text, .. }) => self.pass(text),
                (Judgement::Fine, Held::Page { heard, .. }) => self.acts.push_back(Act::Host(heard)),
                (Judgement::Refused(why), held) => self.answer(held.id(), &changed(&why)),
                (Judgement::Unknown, held) => {
                    let why = "the server's list of tools changed while it was checked";
                    self.answer(held.id(), &Failure::new(FAILED, "tools_unchecked", why));
                }
            }
        }
    }

    /// Forgets a request that the host gave up; says whether the server never heard of it.
    fn withdraw(&mut self, id: &RawValue) -> bool {
        self.listings.remove(id.get());
        let before = self.held.len();
        self.held.retain(|held| held.id().get() != id.get());
        self.held.len() < before
    }
}

fn busy() -> Failure {
    Failure::new(FAILED, "busy", "too many messages wait for the list of tools")
}

fn changed(why: &ToolsRefused) -> Failure {
    let tools: Vec<String> = why.tools.iter().take(NAMED).map(|tool| quote(tool)).collect();
    Failure::new(FAILED, "tools_changed", why.message.as_str())
        .with_json("tools", format!("[{}]", tools.join(",")))
        .with_text("hint", &why.hint)
}

/// The tools of a result of `tools/list`; none if it is no such result.
fn tools_of(result: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(object::member(result, "tools")?.get()).ok()
}

/// Where the list goes on, as JSON.
fn cursor_of(result: &RawValue) -> Option<&str> {
    object::member(result, "nextCursor").map(RawValue::get).filter(|cursor| *cursor != "null")
}

/// What a request of the host's revision has to say in `_meta`; none in revisions with sessions.
fn era(message: &Envelope<'_>) -> Option<String> {
    let meta = Object::parse(message.meta()?.get()).ok()?;
    let mut said = Edit::new();
    for (key, value) in meta.iter().filter(|(key, _)| key.starts_with(ERA)) {
        said.set(key.to_owned(), value.get());
    }
    let is_said = meta.iter().any(|(key, _)| key.starts_with(ERA));
    is_said.then(|| said.to_text())
}
