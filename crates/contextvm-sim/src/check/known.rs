//! What every checker may look up: who is who, which calls were issued, and what went wrong around them.
use std::collections::{BTreeMap, BTreeSet};

use contextvm_core::Limits;
use contextvm_engine::DropReason;
use nostr::key::PublicKey;

use super::crowding::Crowding;
use super::troubles::Troubles;
use super::{Excuse, Expect, LARGE};
use crate::trace::{Call, Digest, Ending, Entry, Host, What};

/// A client or a server as it introduced itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Person {
    pub(super) key: PublicKey,
    pub(super) honest: bool,
    pub(super) encrypted: bool,
}

/// A call as its application gave it away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Issue {
    pub(super) by: Host,
    pub(super) to: PublicKey,
    pub(super) args: Digest,
    pub(super) bytes: u64,
    pub(super) at: u64,
    pub(super) simple: bool,
}

/// How much a client has open: calls, large ones, and those that read streams.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    calls: usize,
    large: usize,
    streams: usize,
}

/// Facts that entries established.
#[derive(Debug, Default)]
pub(super) struct Known {
    limits: Limits,
    people: BTreeMap<Host, Person>,
    hosts: BTreeMap<PublicKey, Host>,
    issues: BTreeMap<Call, Issue>,
    by_args: BTreeMap<(Host, Digest), Call>,
    open: BTreeSet<(Host, Call)>,
    counts: BTreeMap<Host, Open>,
    /// Requests of each client that its server's application works on; those that it stopped have a place for a while yet,
    /// and so have those of which it never heard and which nobody waits for.
    working: BTreeMap<Host, BTreeMap<Digest, Option<u64>>>,
    /// Open calls of which the application at the other end has heard.
    heard: BTreeSet<(Host, Digest)>,
    lives: BTreeMap<Host, u32>,
    denied: BTreeSet<(Host, PublicKey)>,
    /// Clients that closed themselves.
    gone: BTreeSet<Host>,
    /// How long a host slept: since when, microseconds.
    slept: Vec<(Host, u64, u64)>,
    /// When a host was last asked something, or answered it.
    asked_at: BTreeMap<Host, u64>,
    /// What each server has to publish again until a relay takes it.
    publications: BTreeMap<Host, u64>,
    pub(super) crowding: Crowding,
    pub(super) troubles: Troubles,
}

impl Known {
    pub(super) fn new(expect: &Expect) -> Self {
        Self { limits: expect.limits.clone(), ..Self::default() }
    }

    /// Takes an entry before the checkers see it; ends are taken by [`Self::after`].
    pub(super) fn before(&mut self, entry: &Entry) {
        let Entry { at, host, what } = entry;
        match what {
            What::Joined { key, honest, encrypted } => {
                self.people.insert(*host, Person { key: *key, honest: *honest, encrypted: *encrypted });
                self.hosts.insert(*key, *host);
            }
            What::Issued { call, to, args, bytes, simple, .. } if !self.issues.contains_key(call) => {
                let simple = *simple;
                let issue = Issue { by: *host, to: *to, args: *args, bytes: *bytes, at: *at, simple };
                self.issues.insert(*call, issue);
                self.by_args.insert((*host, *args), *call);
                self.open.insert((*host, *call));
                let counts = self.counts.entry(*host).or_default();
                counts.calls += 1;
                counts.large += usize::from(!simple || *bytes >= LARGE);
                counts.streams += usize::from(!simple);
                self.crowd(*host, *at);
            }
            What::Executed { caller, args, .. } => self.executed(*host, caller, *args, *at),
            What::Signed { to, .. } => self.said(*host, to, *at),
            What::Returned { caller, args, bytes, .. } => {
                self.returned(*host, caller, args, *at);
                // A large answer keeps its place until relays have said that they took all of it.
                if *bytes >= LARGE {
                    self.works_until(caller, args, self.patience(*at));
                }
            }
            What::Unread { caller, args, .. } => {
                self.executed(*host, caller, *args, *at);
                self.returned(*host, caller, args, *at);
            }
            What::Stopped { caller, args } => {
                self.asked_at.insert(*host, *at);
                self.works_until(caller, args, self.patience(*at));
            }
            What::Denied { caller } => drop(self.denied.insert((*host, *caller))),
            What::Slept { lasts } => self.slept.push((*host, *at, *lasts)),
            What::Stalled { lasts } => self.troubles.stalled(*host, *at, *lasts),
            What::Jumped { .. } => self.troubles.note(*host, Excuse::Clock, *at),
            What::SignerFailed => self.troubles.note(*host, Excuse::Signer, *at),
            What::Left { caller: None } => drop(self.gone.insert(*host)),
            What::Left { caller } => {
                let who = caller.and_then(|caller| self.hosts.get(&caller).copied()).unwrap_or(*host);
                self.crowding.forgotten(*host, Some(who));
                self.troubles.note(who, Excuse::Left, *at);
            }
            What::Crashed | What::Restarted { .. } => {
                self.gone.remove(host);
                self.crowding.forgotten(*host, None);
                self.stops_working(*host);
                self.troubles.note(*host, Excuse::Crash, *at);
            }
            What::Load(load) => {
                self.publications.insert(*host, load.publications as u64);
                self.troubles.load(*host, load, &self.limits, *at);
                for caller in self.crowding.load(*host, load, *at, &self.limits) {
                    self.troubles.note(caller, Excuse::Room, *at);
                }
            }
            _ => {}
        }
    }

    fn executed(&mut self, host: Host, caller: &PublicKey, args: Digest, at: u64) {
        self.asked_at.insert(host, at);
        let Some(caller) = self.hosts.get(caller).copied() else { return };
        if matches!(host, Host::Server(_)) {
            self.heard.insert((caller, args));
            self.working.entry(caller).or_default().insert(args, None);
            self.crowd(caller, at);
        }
    }

    /// Until when whoever asks at this time waits.
    const fn patience(&self, at: u64) -> u64 {
        at.saturating_add(self.limits.request_timeout.as_micros() as u64)
    }

    fn returned(&mut self, host: Host, caller: &PublicKey, args: &Digest, at: u64) {
        self.asked_at.insert(host, at);
        if let Some(caller) = self.hosts.get(caller) {
            self.crowding.answered(*caller, host, at);
        }
        self.works_until(caller, args, 0);
    }

    /// An application works on a request no more; its endpoint keeps the place of one that was cancelled until then.
    fn works_until(&mut self, caller: &PublicKey, args: &Digest, until: u64) {
        let working = self.hosts.get(caller).and_then(|caller| self.working.get_mut(caller));
        if let Some(end) = working.and_then(|working| working.get_mut(args)) {
            *end = Some(until);
        }
    }

    /// A server works on nothing any more; what is under way to it may still come.
    fn stops_working(&mut self, server: Host) {
        let Self { working, by_args, issues, hosts, .. } = self;
        for (caller, working) in working {
            let asked = |args: &Digest| issues.get(by_args.get(&(*caller, *args))?);
            let is_its = |args: &Digest| asked(args).and_then(|issue| hosts.get(&issue.to)) == Some(&server);
            working.retain(|args, end| end.is_some() || !is_its(args));
        }
    }

    /// A client said something to a server, which may keep its last room for others.
    fn said(&mut self, host: Host, to: &PublicKey, at: u64) {
        let Some(server) = self.hosts.get(to).copied().filter(|_| matches!(host, Host::Client(_))) else {
            return;
        };
        self.crowding.said(host, server, at, &self.limits);
        if self.crowding.is_kept_out(host, server, at, &self.limits) {
            self.troubles.note(host, Excuse::Room, at);
        }
    }

    /// Counts the requests of a caller that may have a place at its server: those that it waits for, and others.
    fn places(&self, caller: Host) -> usize {
        let Some(working) = self.working.get(&caller) else { return self.open_at(caller).count() };
        let waits = self.open_at(caller).filter_map(|call| self.issues.get(&call));
        working.len() + waits.filter(|issue| !working.contains_key(&issue.args)).count()
    }

    /// Notes whether a caller has as much open as it may.
    fn crowd(&mut self, caller: Host, at: u64) {
        let Open { calls, large, streams } = self.counts.get(&caller).copied().unwrap_or_default();
        let working = self.working.get_mut(&caller).map_or(0, |working| {
            working.retain(|_, end| end.is_none_or(|end| end > at));
            working.len()
        });
        let limits = &self.limits;
        let most = limits.in_flight_per_caller;
        if calls.max(working) >= most.min(limits.pending)
            || (calls + working > most && self.places(caller) > most)
            || large >= limits.transfers_per_peer
            || streams >= limits.streams_per_peer
        {
            self.troubles.note(caller, Excuse::Room, at);
        }
    }

    /// Takes the reason for which something was not acted on.
    pub(super) fn dropped(&mut self, at: u64, host: Host, reason: DropReason) {
        if reason == DropReason::Unstored {
            self.troubles.note(host, Excuse::Disk, at);
        }
    }

    /// Takes the ends of calls, once the checkers have seen them.
    pub(super) fn after(&mut self, entry: &Entry) {
        match entry.what {
            What::Ended { call, ending } => {
                if self.open.contains(&(entry.host, call)) {
                    self.crowd(entry.host, entry.at);
                    if ending == Ending::Cancelled {
                        self.abandon(entry.host, call, entry.at);
                    }
                }
                self.close(entry.host, call);
            }
            What::Crashed => {
                let gone: Vec<Call> = self.open_at(entry.host).collect();
                *self.lives.entry(entry.host).or_default() += 1;
                for call in gone {
                    self.abandon(entry.host, call, entry.at);
                    self.close(entry.host, call);
                }
            }
            _ => {}
        }
    }

    /// Nobody waits for a call any more. Its server may hold it for access or for its disk, and its place with it.
    fn abandon(&mut self, host: Host, call: Call, at: u64) {
        let Some(issue) = self.issues.get(&call).filter(|_| matches!(host, Host::Client(_))) else { return };
        if self.heard.contains(&(host, issue.args)) {
            return;
        }
        let end = at.saturating_add(self.limits.request_timeout.as_micros() as u64);
        self.working.entry(host).or_default().insert(issue.args, Some(end));
    }

    fn close(&mut self, host: Host, call: Call) {
        let (true, Some(issue)) = (self.open.remove(&(host, call)), self.issues.get(&call)) else { return };
        self.heard.remove(&(host, issue.args));
        let Some(counts) = self.counts.get_mut(&host) else { return };
        counts.calls = counts.calls.saturating_sub(1);
        counts.large = counts.large.saturating_sub(usize::from(!issue.simple || issue.bytes >= LARGE));
        counts.streams = counts.streams.saturating_sub(usize::from(!issue.simple));
    }

    pub(super) fn person(&self, host: Host) -> Option<&Person> {
        self.people.get(&host)
    }

    pub(super) fn is_honest(&self, host: Host) -> bool {
        self.person(host).is_some_and(|person| person.honest)
    }

    pub(super) fn key(&self, host: Host) -> Option<PublicKey> {
        self.person(host).map(|person| person.key)
    }

    /// Returns how often a client has died. A server is one and the same for ever, and remembers; a client does not.
    pub(super) fn life(&self, host: Host) -> u32 {
        let is_client = matches!(host, Host::Client(_));
        self.lives.get(&host).copied().filter(|_| is_client).unwrap_or_default()
    }

    pub(super) fn host(&self, key: &PublicKey) -> Option<Host> {
        self.hosts.get(key).copied()
    }

    pub(super) fn issue(&self, call: Call) -> Option<&Issue> {
        self.issues.get(&call)
    }

    /// Finds the call in which a host asked exactly this.
    pub(super) fn asked(&self, by: Host, args: Digest) -> Option<(Call, &Issue)> {
        let call = self.by_args.get(&(by, args))?;
        Some((*call, self.issues.get(call)?))
    }

    pub(super) fn is_open(&self, host: Host, call: Call) -> bool {
        self.open.contains(&(host, call))
    }

    /// Whether a client has closed itself in this life.
    pub(super) fn is_gone(&self, client: Host) -> bool {
        self.gone.contains(&client)
    }

    /// Whether a server's application said that it will not serve this key.
    pub(super) fn is_denied(&self, server: Host, caller: PublicKey) -> bool {
        self.denied.contains(&(server, caller))
    }

    /// Whether a host was asked something, or answered it, at some time since.
    pub(super) fn was_asked(&self, host: Host, since: u64) -> bool {
        self.asked_at.get(&host).is_some_and(|at| *at >= since)
    }

    /// Returns how long a host slept since then, microseconds.
    pub(super) fn slept(&self, host: Host, since: u64) -> u64 {
        let naps = self.slept.iter().filter(|(who, at, lasts)| *who == host && at + lasts >= since);
        naps.map(|(_, _, lasts)| lasts).sum()
    }

    /// Returns how much a host has to publish until a relay takes it.
    pub(super) fn publications(&self, host: Host) -> u64 {
        self.publications.get(&host).copied().unwrap_or_default()
    }

    /// Lists the calls of a host that have not ended.
    pub(super) fn open_at(&self, host: Host) -> impl Iterator<Item = Call> + '_ {
        self.open.range((host, Call(0))..=(host, Call(u64::MAX))).map(|(_, call)| *call)
    }

    /// Lists all calls that have not ended.
    pub(super) fn open(&self) -> impl Iterator<Item = (Host, Call)> + '_ {
        self.open.iter().copied()
    }
}
