//! What every checker may look up: who is who, and which calls were issued.
use std::collections::{BTreeMap, BTreeSet};

use nostr::key::PublicKey;

use crate::trace::{Call, Digest, Entry, Host, What};

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
}

/// Facts that entries established.
#[derive(Debug, Default)]
pub(super) struct Known {
    people: BTreeMap<Host, Person>,
    hosts: BTreeMap<PublicKey, Host>,
    issues: BTreeMap<Call, Issue>,
    by_args: BTreeMap<(Host, Digest), Call>,
    open: BTreeSet<(Host, Call)>,
    lives: BTreeMap<Host, u32>,
}

impl Known {
    /// Takes an entry before the checkers see it; ends are taken by [`Self::after`].
    pub(super) fn before(&mut self, entry: &Entry) {
        let Entry { at, host, what } = entry;
        match what {
            What::Joined { key, honest, encrypted } => {
                self.people.insert(*host, Person { key: *key, honest: *honest, encrypted: *encrypted });
                self.hosts.insert(*key, *host);
            }
            What::Issued { call, to, args, bytes, .. } if !self.issues.contains_key(call) => {
                let issue = Issue { by: *host, to: *to, args: *args, bytes: *bytes, at: *at };
                self.issues.insert(*call, issue);
                self.by_args.insert((*host, *args), *call);
                self.open.insert((*host, *call));
            }
            _ => {}
        }
    }

    /// Takes the ends of calls, once the checkers have seen them.
    pub(super) fn after(&mut self, entry: &Entry) {
        match entry.what {
            What::Ended { call, .. } => {
                self.open.remove(&(entry.host, call));
            }
            What::Crashed => {
                let gone: Vec<Call> = self.open_at(entry.host).collect();
                *self.lives.entry(entry.host).or_default() += 1;
                for call in gone {
                    self.open.remove(&(entry.host, call));
                }
            }
            _ => {}
        }
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

    /// Lists the calls of a host that have not ended.
    pub(super) fn open_at(&self, host: Host) -> impl Iterator<Item = Call> + '_ {
        self.open.range((host, Call(0))..=(host, Call(u64::MAX))).map(|(_, call)| *call)
    }

    /// Lists all calls that have not ended.
    pub(super) fn open(&self) -> impl Iterator<Item = (Host, Call)> + '_ {
        self.open.iter().copied()
    }
}
