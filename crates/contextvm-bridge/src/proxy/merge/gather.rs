//! One answer from the answers of several servers.
use std::collections::BTreeMap;
use std::time::Duration;

use contextvm_core::Printable;
use contextvm_core::envelope::Envelope;
use contextvm_core::object::{self, Edit, Object, quote};
use contextvm_core::rewrite::{PROGRESS_TOKEN, Rewrite};
use serde_json::value::RawValue;

use super::merger::{Call, Merger, Session, Work, is_modern};
use super::names::Named;
use super::union;
use crate::answer::{FAILED, Failure, METHOD_NOT_FOUND};

/// How long others may keep a host waiting once one server has answered.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Pages of one list that are asked of one server.
const PAGES: usize = 256;

/// A list that every server has one of.
#[derive(Debug)]
pub(super) struct List {
    pub(super) method: &'static str,
    /// Where the list is in the result.
    pub(super) member: &'static str,
    /// The capability it belongs to.
    pub(super) part: &'static str,
    /// Whether the names in it are those that hosts use.
    pub(super) is_named: bool,
}

const TOOLS: List = List { method: "tools/list", member: "tools", part: "tools", is_named: true };
const PROMPTS: List = List { method: "prompts/list", member: "prompts", part: "prompts", is_named: true };

/// The lists that are put together.
pub(super) const LISTS: [List; 5] = [
    TOOLS,
    PROMPTS,
    List { method: "resources/list", member: "resources", part: "resources", is_named: false },
    List {
        method: "resources/templates/list",
        member: "resourceTemplates",
        part: "resources",
        is_named: false,
    },
    List { method: "tasks/list", member: "tasks", part: "tasks", is_named: false },
];

/// What is put together.
#[derive(Debug)]
pub(super) enum What {
    Initialize,
    Discover,
    Level,
    List(&'static List),
    /// What a shortened name stands for; then the request that uses it goes on.
    Name {
        request: String,
        exposed: String,
        list: &'static List,
    },
}

impl What {
    const fn list(&self) -> Option<&'static List> {
        match self {
            Self::List(list) | Self::Name { list, .. } => Some(list),
            Self::Initialize | Self::Discover | Self::Level => None,
        }
    }
}

/// A request to several servers and what they have answered.
#[derive(Debug)]
pub(super) struct Collect {
    what: What,
    request: String,
    found: BTreeMap<usize, Found>,
    bytes: usize,
}

/// What one server has answered.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) waits: bool,
    pub(super) results: Vec<Box<RawValue>>,
    /// The whole message.
    error: Option<String>,
    /// Why there is not all of it.
    cut: Option<&'static str>,
}

impl Found {
    pub(super) fn refused(message: &Envelope<'_>) -> Self {
        Self { error: Some(message.text().to_owned()), ..Self::default() }
    }
}

impl Collect {
    /// Whether it opens the host's session.
    pub(super) const fn opens(&self) -> bool {
        matches!(self.what, What::Initialize)
    }
}

impl Merger {
    /// Asks all servers that can be asked and are not known to lack the capability.
    pub(super) fn collect(
        &mut self,
        number: u64,
        what: What,
        message: &Envelope<'_>,
        capability: Option<&str>,
    ) {
        let modern = is_modern(message);
        let servers: Vec<usize> = (0..self.sessions.len())
            .filter(|server| self.can_ask(*server, modern))
            .filter(|server| {
                capability.is_none_or(|part| self.directory.offers(*server, part) != Some(false))
            })
            .collect();
        if what.list().is_some() && message.param("cursor").is_some() {
            let failure = Failure::new(-32602, "unknown_cursor", "lists of several servers have one page");
            return self.failure_for(number, &failure);
        }
        self.collect_of(number, what, message.text().to_owned(), &servers);
    }

    pub(super) fn collect_of(&mut self, number: u64, what: What, request: String, servers: &[usize]) {
        if servers.is_empty() {
            let method = what.list().map_or("logging/setLevel", |list| list.method);
            return self.not_offered(number, method);
        }
        let found =
            servers.iter().map(|server| (*server, Found { waits: true, ..Found::default() })).collect();
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.since = self.now;
        call.work = Work::Collect(Collect { what, request: request.clone(), found, bytes: 0 });
        for server in servers {
            self.ask_text(number, *server, &request);
        }
    }

    /// Asks servers for their lists, to learn what a shortened name stands for.
    pub(super) fn find(
        &mut self,
        number: u64,
        message: &Envelope<'_>,
        exposed: String,
        candidates: &[usize],
    ) {
        let modern = is_modern(message);
        let servers: Vec<usize> =
            candidates.iter().copied().filter(|server| self.can_ask(*server, modern)).collect();
        if let (true, Some(server)) = (servers.is_empty(), candidates.first()) {
            return self.failure_for(number, &self.left_out(*server));
        }
        let list = if message.method.as_deref() == Some("tools/call") { &TOOLS } else { &PROMPTS };
        let mut params = Edit::new();
        if let Some(Ok(meta)) = message.meta().map(|meta| Object::parse(meta.get())) {
            let mut meta = meta.into_edit();
            meta.remove(PROGRESS_TOKEN);
            params.set("_meta", meta.to_text());
        }
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":0,"method":"{}","params":{}}}"#, list.method, params.to_text());
        let what = What::Name { request: message.text().to_owned(), exposed, list };
        self.collect_of(number, what, text, &servers);
    }

    /// Takes what one server answered.
    pub(super) fn collected(&mut self, number: u64, server: usize, message: &Envelope<'_>) {
        let most = self.limits.child_line;
        let Some(Call { work: Work::Collect(collect), .. }) = self.calls.get_mut(&number) else { return };
        let Some(found) = collect.found.get_mut(&server) else { return };
        found.waits = false;
        let mut next = None;
        match message.result {
            None => found.error = Some(message.text().to_owned()),
            Some(result) => {
                let cursor = collect.what.list().and_then(|_| object::member(result, "nextCursor"));
                let cursor = cursor.filter(|cursor| cursor.get() != "null");
                collect.bytes = collect.bytes.saturating_add(result.get().len());
                if collect.bytes > most {
                    found.cut = Some("its list is too long for one answer");
                } else {
                    found.results.push(result.to_owned());
                    match cursor {
                        Some(_) if found.results.len() >= PAGES => {
                            found.cut = Some("its list has too many pages")
                        }
                        Some(cursor) => {
                            found.waits = true;
                            next = Some((collect.request.clone(), cursor));
                        }
                        None => {}
                    }
                }
            }
        }
        if let Some((request, cursor)) = next {
            let limits = self.limits.clone();
            if let Ok(request) = Envelope::parse(&request, &limits) {
                self.ask(number, server, Rewrite::of(&request).param("cursor", cursor.get()));
            }
        } else if collect.found.values().all(|found| !found.waits) {
            self.gathered(number);
        }
    }

    /// Goes on without servers that let a host wait although others have answered.
    pub(super) fn gather_sweep(&mut self) {
        let due = |call: &Call| match &call.work {
            Work::Collect(collect) => {
                self.now.duration_since(call.since) >= PATIENCE
                    && collect.found.values().any(|found| !found.results.is_empty())
            }
            Work::Straight | Work::Seek(_) | Work::Listen(_) | Work::Open => false,
        };
        let due: Vec<u64> =
            self.calls.iter().filter(|(_, call)| due(call)).map(|(number, _)| *number).collect();
        for number in due {
            if let Some(Call { work: Work::Collect(Collect { what: What::Initialize, .. }), parts, .. }) =
                self.calls.get_mut(&number)
            {
                // A session that opens late is welcome all the same.
                for (own, server) in core::mem::take(parts) {
                    let late = self.errand(Work::Open);
                    self.parts.insert(own.clone(), late);
                    if let Some(late) = self.calls.get_mut(&late) {
                        late.parts.insert(own, server);
                    }
                }
            } else {
                self.take_back(number);
            }
            self.gathered(number);
        }
    }

    /// All that can be waited for is there.
    fn gathered(&mut self, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        let Work::Collect(collect) = core::mem::replace(&mut call.work, Work::Straight) else { return };
        let answered = collect.found.values().any(|found| !found.results.is_empty());
        match collect.what {
            What::Initialize => self.sessions_opened(number, &collect.found),
            What::Name { request, exposed, list } => {
                for (server, found) in &collect.found {
                    self.learn(*server, list, found);
                }
                let limits = self.limits.clone();
                let found = matches!(self.directory.resolve(&exposed), Named::Of(..));
                match Envelope::parse(&request, &limits) {
                    Ok(request) if found => self.route(number, &request),
                    _ if answered => self.unknown_name(number, &exposed),
                    _ => self.refuse_as_servers(number, &collect.found),
                }
            }
            _ if !answered => self.refuse_as_servers(number, &collect.found),
            What::Level => {
                self.level = Some(collect.request);
                self.result_for(number, "{}");
            }
            What::Discover => {
                for (server, found) in &collect.found {
                    found.results.iter().for_each(|result| self.directory.introduced(*server, result));
                }
                let united = union::discovered(&self.introductions(&collect.found));
                self.result_for(number, &united.to_text());
            }
            What::List(list) => {
                for (server, found) in &collect.found {
                    self.learn(*server, list, found);
                }
                let text = self.joined(list, &collect.found);
                self.result_for(number, &text);
            }
        }
    }

    /// Answers with the first error that says more than that a server does not know the method.
    pub(super) fn refuse_as_servers(&mut self, number: u64, found: &BTreeMap<usize, Found>) {
        let errors = || found.values().filter_map(|found| found.error.as_deref());
        let limits = self.answer_limits();
        let says_more = |text: &&str| {
            Envelope::parse(text, &limits).is_ok_and(|error| error.error_code() != Some(METHOD_NOT_FOUND))
        };
        match errors().find(says_more).or_else(|| errors().next()) {
            Some(text) => self.answer_text(number, text),
            None => self.failure_for(number, &Failure::new(FAILED, "too_long", "the servers say too much")),
        }
    }

    /// Why a server has no part in what was gathered, or not its full part. Not to know the method is no reason.
    pub(super) fn why_left_out(&self, found: &Found) -> Option<String> {
        let Some(text) = &found.error else {
            let late = found.results.is_empty() || found.waits;
            return found.cut.or(late.then_some("it did not answer in time")).map(str::to_owned);
        };
        let limits = self.answer_limits();
        let error = Envelope::parse(text, &limits).ok()?;
        if error.error_code() == Some(METHOD_NOT_FOUND) && found.results.is_empty() {
            return None;
        }
        let said = error.error.and_then(|error| object::member(error, "message")).and_then(object::string);
        Some(Printable::short(&said.unwrap_or_default(), 300).to_string())
    }

    /// Remembers what a list says of who has what.
    fn learn(&self, server: usize, list: &List, found: &Found) {
        if found.results.is_empty() {
            return;
        }
        let member = match list.method {
            _ if list.is_named => "name",
            "resources/list" => "uri",
            "resources/templates/list" => "uriTemplate",
            _ => "taskId",
        };
        let items = found.results.iter().flat_map(|result| items(result, list.member));
        let texts =
            items.filter_map(|item| Some(object::string(object::member(item, member)?)?.into_owned()));
        match list.method {
            _ if list.is_named => texts.for_each(|name| drop(self.directory.exposed(server, &name))),
            "resources/list" => self.directory.lists_resources(server, texts),
            "resources/templates/list" => self.directory.lists_templates(server, texts),
            _ => texts.for_each(|task| self.directory.has_task(server, &task)),
        }
    }

    /// Puts the lists of all servers one behind the other.
    fn joined(&self, list: &List, found: &BTreeMap<usize, Found>) -> String {
        let results =
            || found.iter().flat_map(|(server, found)| found.results.iter().map(|result| (*server, result)));
        let mut all = String::from("[");
        for (server, item) in
            results().flat_map(|(server, result)| items(result, list.member).map(move |item| (server, item)))
        {
            if all.len() > 1 {
                all.push(',');
            }
            match self.under_its_servers_name(server, item).filter(|_| list.is_named) {
                Some(renamed) => all.push_str(&renamed),
                None => all.push_str(item.get()),
            }
        }
        all.push(']');
        let mut first = results()
            .next()
            .and_then(|(_, result)| Object::parse(result.get()).ok())
            .unwrap_or_default()
            .into_edit();
        first.remove("nextCursor");
        first.remove("_meta");
        first.set(list.member, all);
        let left_out = self.left_out_of(found);
        union::cache(&mut first, results().map(|(_, result)| &**result), left_out.is_some());
        if let Some(left_out) = left_out {
            first.set("_meta", format!(r#"{{"{}":{left_out}}}"#, union::LEFT_OUT));
        }
        first.to_text()
    }

    fn under_its_servers_name(&self, server: usize, item: &RawValue) -> Option<String> {
        let object = Object::parse(item.get()).ok()?;
        let name = object.get("name").and_then(object::string)?;
        let exposed = self.directory.exposed(server, &name);
        let mut edit = object.into_edit();
        edit.set("name", quote(&exposed));
        Some(edit.to_text())
    }

    /// The servers that are missing from a list, with the reasons, as JSON.
    fn left_out_of(&self, found: &BTreeMap<usize, Found>) -> Option<String> {
        let mut all = Edit::new();
        for (server, session) in self.sessions.iter().enumerate() {
            let why = match (found.get(&server), session) {
                (Some(found), _) => self.why_left_out(found),
                (None, Session::Out { why, .. }) => Some(why.clone()),
                (None, Session::Late) => Some("it has not answered yet".to_owned()),
                (None, Session::Gone) => Some("its connection has ended".to_owned()),
                (None, Session::Fresh | Session::Opening | Session::Open) => None,
            };
            if let Some(why) = why {
                all.set_string(self.directory.name(server), &why);
            }
        }
        let text = all.to_text();
        (text != "{}").then_some(text)
    }
}

/// The elements of an array that is a member of a result.
fn items<'a>(result: &'a RawValue, member: &str) -> impl Iterator<Item = &'a RawValue> + use<'a> {
    let list = object::member(result, member);
    let items: Vec<&RawValue> =
        list.and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default();
    items.into_iter()
}
