//! Whose is it: names of tools and prompts as hosts see them, and which server has a resource or a task.
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use contextvm_core::object;
use serde_json::value::RawValue;

/// Most characters of a name that a host sees.
const LONGEST: usize = 60;
/// What stands between a server's name and that of its tool.
const BETWEEN: &str = "__";
/// Hexadecimal digits at the end of a shortened name.
const DIGITS: usize = 10;
/// Bytes that are remembered of one server, for each of the tables below.
const REMEMBERED: usize = 1024 * 1024;
/// What one entry of a table costs beside its text.
const ENTRY: usize = 64;
/// Resource templates that are remembered of one server, and the longest of them.
const TEMPLATES: (usize, usize) = (256, 1_024);
/// Longest description of a server's capabilities that is remembered, bytes.
const OFFERS: usize = 64 * 1024;

/// What a name stands for that a host uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// The server, and the name that it knows.
    Of(usize, String),
    /// A shortened name that was not listed yet, of one of these servers.
    Shortened(Vec<usize>),
    /// No server has such names.
    Nobody,
}

/// What all conversations know of the servers: these are the same for every host.
#[derive(Debug)]
pub(super) struct Directory {
    names: Vec<String>,
    known: Mutex<Vec<Known>>,
}

/// What is known of one server.
#[derive(Debug, Default)]
struct Known {
    /// Shortened names and what they stand for.
    shortened: Table,
    uris: Table,
    tasks: Table,
    templates: Vec<String>,
    offers: Option<Box<RawValue>>,
}

/// Texts under texts, bounded.
#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<String, String>,
    bytes: usize,
}

impl Table {
    /// Adds an entry; says whether there was room.
    fn insert(&mut self, key: String, value: String) -> bool {
        let weight = key.len() + value.len() + ENTRY;
        if self.entries.contains_key(&key) {
            return true;
        }
        if self.bytes + weight > REMEMBERED {
            return false;
        }
        self.bytes += weight;
        self.entries.insert(key, value);
        true
    }

    /// Adds an entry; a full table begins anew.
    fn remember(&mut self, key: String, value: String) {
        if !self.insert(key.clone(), value.clone()) {
            *self = Self::default();
            self.insert(key, value);
        }
    }

    fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }
}

impl Directory {
    pub(super) fn new(names: Vec<String>) -> Self {
        let known = names.iter().map(|_| Known::default()).collect();
        Self { names, known: Mutex::new(known) }
    }

    /// How many servers there are.
    pub(super) const fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn name(&self, server: usize) -> &str {
        self.names.get(server).map_or("", String::as_str)
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T: Default>(&self, server: usize, act: impl FnOnce(&mut Known) -> T) -> T {
        self.known().get_mut(server).map(act).unwrap_or_default()
    }

    /// Returns the name under which hosts see a tool or prompt: the same one in every run.
    ///
    /// A name is shortened when it is too long, when it would be taken for one of another server, and when it looks like a
    /// shortened one.
    pub(super) fn exposed(&self, server: usize, name: &str) -> String {
        let whole = [self.name(server), BETWEEN, name].concat();
        if whole.chars().count() <= LONGEST
            && !looks_shortened(&whole)
            && self.by_prefix(&whole).is_some_and(|(owner, _)| owner == server)
        {
            return whole;
        }
        let begin: String = whole.chars().take(LONGEST - DIGITS - 1).collect();
        let shortened = format!("{begin}_{}", digest(self.name(server), name));
        self.with(server, |known| known.shortened.remember(shortened.clone(), name.to_owned()));
        shortened
    }

    /// Finds out what a name stands for that a host uses.
    pub(super) fn resolve(&self, exposed: &str) -> Named {
        if !looks_shortened(exposed) {
            let found = self.by_prefix(exposed);
            return found.map_or(Named::Nobody, |(server, name)| Named::Of(server, name.to_owned()));
        }
        let known = self.known();
        let mut listed = known.iter().enumerate();
        if let Some((server, name)) =
            listed.find_map(|(at, known)| Some((at, known.shortened.entries.get(exposed)?.clone())))
        {
            return Named::Of(server, name);
        }
        drop(known);
        let servers: Vec<usize> =
            (0..self.len()).filter(|server| rest_after(exposed, self.name(*server)).is_some()).collect();
        if servers.is_empty() { Named::Nobody } else { Named::Shortened(servers) }
    }

    /// The server with the longest name that fits before this one.
    fn by_prefix<'a>(&self, exposed: &'a str) -> Option<(usize, &'a str)> {
        let fitting = self.names.iter().enumerate();
        let fitting =
            fitting.filter_map(|(at, server)| Some((server.len(), at, rest_after(exposed, server)?)));
        fitting.max_by_key(|(length, _, _)| *length).map(|(_, at, rest)| (at, rest))
    }

    /// Remembers all resources that a server lists.
    pub(super) fn lists_resources(&self, server: usize, uris: impl Iterator<Item = String>) {
        self.with(server, |known| {
            known.uris = Table::default();
            for uri in uris {
                if !known.uris.insert(uri, String::new()) {
                    break;
                }
            }
        });
    }

    /// Remembers all templates that a server lists.
    pub(super) fn lists_templates(&self, server: usize, templates: impl Iterator<Item = String>) {
        let templates = templates.filter(|template| template.len() <= TEMPLATES.1).take(TEMPLATES.0);
        self.with(server, |known| known.templates = templates.collect());
    }

    /// Remembers a resource that a server has shown.
    pub(super) fn has_resource(&self, server: usize, uri: &str) {
        if !self.known().iter().any(|known| known.uris.has(uri)) {
            self.with(server, |known| known.uris.remember(uri.to_owned(), String::new()));
        }
    }

    /// The servers that a resource may be of, likely ones first; only one when it was listed.
    pub(super) fn of_resource(&self, uri: &str) -> Vec<usize> {
        let known = self.known();
        if let Some(server) = known.iter().position(|known| known.uris.has(uri)) {
            return vec![server];
        }
        let best = |known: &Known| known.templates.iter().filter_map(|template| fits(template, uri)).max();
        let mut servers: Vec<(Option<usize>, usize)> =
            known.iter().enumerate().map(|(server, known)| (best(known), server)).collect();
        servers.sort_by_key(|(fit, server)| (core::cmp::Reverse(*fit), *server));
        servers.into_iter().map(|(_, server)| server).collect()
    }

    /// Whether one server is known to have a resource, or to have a template for it.
    pub(super) fn is_claimed(&self, server: usize, uri: &str) -> bool {
        self.with(server, |known| {
            known.uris.has(uri) || known.templates.iter().any(|template| fits(template, uri).is_some())
        })
    }

    pub(super) fn has_task(&self, server: usize, task: &str) {
        self.with(server, |known| known.tasks.remember(task.to_owned(), String::new()));
    }

    pub(super) fn of_task(&self, task: &str) -> Option<usize> {
        self.known().iter().position(|known| known.tasks.has(task))
    }

    /// Remembers what a server offers, from its answer to `initialize` or `server/discover`.
    pub(super) fn introduced(&self, server: usize, result: &RawValue) {
        let offers = object::member(result, "capabilities").filter(|offers| offers.get().len() <= OFFERS);
        self.with(server, |known| known.offers = offers.map(ToOwned::to_owned));
    }

    /// Whether a server offers a capability, also as an extension; `None` when it has not said yet.
    pub(super) fn offers(&self, server: usize, capability: &str) -> Option<bool> {
        self.with(server, |known| {
            let offers = known.offers.as_deref()?;
            let further = ["extensions", "experimental"].into_iter().any(|kind| {
                let members =
                    object::member(offers, kind).and_then(|all| object::Object::parse(all.get()).ok());
                members.is_some_and(|all| {
                    all.iter().any(|(key, _)| key.rsplit('/').next().is_some_and(|last| last == capability))
                })
            });
            Some(further || object::member(offers, capability).is_some())
        })
    }
}

fn rest_after<'a>(exposed: &'a str, server: &str) -> Option<&'a str> {
    exposed.strip_prefix(server)?.strip_prefix(BETWEEN)
}

fn looks_shortened(exposed: &str) -> bool {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    exposed.rsplit_once('_').is_some_and(|(_, end)| end.len() == DIGITS && end.bytes().all(digit))
}

/// FNV-1a of a server's name and one of its names. It need not withstand attacks: a shortened name stays under the name of
/// its server, which could only confuse itself.
fn digest(server: &str, name: &str) -> String {
    let bytes = server.bytes().chain([0xff]).chain(name.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{:010x}", hash >> 24)
}

/// Whether a URI may come from a template (RFC 6570, every expression taken for any text): how much of it is literal.
fn fits(template: &str, uri: &str) -> Option<usize> {
    let (first, mut left) = template.split_once('{').unwrap_or((template, ""));
    let mut rest = uri.strip_prefix(first)?;
    let mut literal = first.len();
    if first.len() == template.len() {
        return rest.is_empty().then_some(literal);
    }
    loop {
        let (_, after) = left.split_once('}')?;
        match after.split_once('{') {
            Some((between, next)) => {
                let at = rest.find(between)?;
                rest = rest.get(at + between.len()..)?;
                literal += between.len();
                left = next;
            }
            None => return rest.ends_with(after).then_some(literal + after.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(names: &[&str]) -> Directory {
        Directory::new(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn names_are_short_unique_and_lead_back() {
        let names = ["a", "a__b", &"s".repeat(32)];
        let all = directory(&names);
        let long = "t".repeat(128);
        let tools = ["c", "b__c", "", "x_0123456789", "ünïcödé", &long, &long[1..]];
        let mut seen = std::collections::BTreeSet::new();
        for (server, tool) in (0..3).flat_map(|server| tools.map(|tool| (server, tool))) {
            let exposed = all.exposed(server, tool);
            assert!(exposed.chars().count() <= 60, "{exposed}");
            assert_eq!(all.resolve(&exposed), Named::Of(server, tool.to_owned()), "{exposed}");
            assert!(seen.insert(exposed.clone()), "{exposed}");
            assert_eq!(directory(&names).exposed(server, tool), exposed, "the same in every run");
        }
        assert_eq!(all.exposed(0, "c"), "a__c");
        assert_eq!(all.exposed(0, &long), format!("a__{}_172028af4f", "t".repeat(46)));
    }

    #[test]
    fn a_name_that_was_never_listed_is_known_by_its_prefix() {
        let all = directory(&["a", "a__b"]);
        let table = [
            ("a__x", Named::Of(0, "x".to_owned())),
            ("a__b__x", Named::Of(1, "x".to_owned())),
            ("a_x", Named::Nobody),
            ("c__x_0123456789", Named::Nobody),
            ("a__b__x_0123456789", Named::Shortened(vec![0, 1])),
        ];
        for (name, expected) in table {
            assert_eq!(all.resolve(name), expected, "{name}");
        }
    }

    #[test]
    fn a_uri_fits_a_template_with_any_text_for_each_expression() {
        let table = [
            ("a://x", "a://x", Some(5)),
            ("a://x", "a://xy", None),
            ("a://{id}", "a://", Some(4)),
            ("a://{id}/end", "a://1/2/end", Some(8)),
            ("a://{id}/end", "a://1/2", None),
            ("a://{x}/{y}{?q}", "a://1/2?q=3", Some(5)),
            ("{+any}", "b://", Some(0)),
            ("a://{open", "a://1", None),
        ];
        for (template, uri, expected) in table {
            assert_eq!(fits(template, uri), expected, "{template} {uri}");
        }
    }

    #[test]
    fn a_listed_resource_is_of_one_server_and_others_may_be_of_all() {
        let all = directory(&["a", "b", "c"]);
        all.lists_templates(1, ["t://{x}".to_owned()].into_iter());
        all.lists_templates(2, ["t://y/{x}".to_owned()].into_iter());
        all.lists_resources(1, ["r://1".to_owned()].into_iter());
        assert_eq!(all.of_resource("r://1"), [1]);
        assert_eq!(all.of_resource("t://y/1"), [2, 1, 0]);
        assert_eq!(all.of_resource("t://1"), [1, 0, 2]);
        all.has_resource(2, "r://1");
        all.has_resource(2, "r://2");
        assert_eq!((all.of_resource("r://1"), all.of_resource("r://2")), (vec![1], vec![2]));
        all.lists_resources(1, core::iter::empty());
        assert_eq!(all.of_resource("r://1"), [0, 1, 2], "not listed any more");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut table = Table::default();
        let fill = |table: &mut Table| {
            (0..100_000).take_while(|number| table.insert(format!("uri://{number}"), String::new())).count()
        };
        assert!((10_000..20_000).contains(&fill(&mut table)) && table.bytes <= REMEMBERED);
        table.remember("new".to_owned(), String::new());
        assert!(table.has("new") && table.entries.len() == 1);
    }
}
