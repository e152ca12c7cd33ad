//! The hostile peers of a world: they hear every relay, reach every relay, and no fault ever touches them.
use std::collections::{BTreeMap, BTreeSet};

use contextvm_crypto::Keys;
use nostr::event::EventId;
use nostr::key::PublicKey;

use crate::frame::Carried;
use crate::hostile::{Act, Chances, Deeds, HostileClient, HostileServer, Issue};
use crate::kernel::{Due, Kernel};
use crate::knobs::Knobs;
use crate::omit::Omit;
use crate::rng::Rng;
use crate::time::{SEC, START};
use crate::trace::{Host, What};

/// First number of guests on connections, and of strangers among the hosts: far behind those of honest peers.
const FIRST: u16 = 1_000;
/// Most events that one guest publishes in one second of the world; a flood is that large.
const MOST: usize = 200;
/// How often in a thousand a hostile client does each of its deeds, per second, at most.
const CLIENT: u16 = 60;
/// How often in a thousand a hostile server does each of its deeds, per request, at most.
const SERVER: u16 = 300;

#[derive(Debug)]
enum Mind {
    Client(Box<HostileClient>),
    Server(Box<HostileServer>),
}

/// All hostile peers of a world.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    minds: Vec<(Host, Mind)>,
    /// Who is who: strangers join with their first message.
    hosts: BTreeMap<PublicKey, Host>,
    strangers: u16,
    /// Events that were heard; every relay tells of them.
    heard: BTreeSet<EventId>,
}

/// Returns the keys of the hostile servers, so that honest clients may call them.
pub(crate) fn servers(seed: u64, knobs: &Knobs) -> Vec<Keys> {
    (0..knobs.hostile_servers).filter_map(|nth| keys(seed, "a hostile server", nth)).collect()
}

/// Returns the keys of the hostile clients.
pub(crate) fn clients(seed: u64, knobs: &Knobs) -> Vec<PublicKey> {
    let all = (0..knobs.hostile_clients).filter_map(|nth| keys(seed, "a hostile client", nth));
    all.map(|keys| keys.public_key()).collect()
}

fn keys(seed: u64, part: &str, nth: usize) -> Option<Keys> {
    let mut rng = Rng::of(seed, part, nth as u64);
    Keys::from_entropy(rng.bytes()).or_else(|_| Keys::from_entropy(rng.bytes())).ok()
}

impl Guests {
    /// Draws the hostile peers; without `chances` each draws its own. `honest` are the keys of the honest servers.
    pub(crate) fn new(
        seed: u64,
        knobs: &Knobs,
        chances: Option<&Chances>,
        honest: &[PublicKey],
        omit: &Omit,
    ) -> Self {
        let mut guests = Self::default();
        let drawn = |actor: &str, nth: usize, most: u16| {
            chances.cloned().unwrap_or_else(|| Chances::draw(seed, actor, nth as u64, most, omit))
        };
        let minds = |nth: usize| Rng::of(seed, "a hostile mind", nth as u64).any();
        let mut add = |host: Host, key: PublicKey, mind: Mind| {
            if !omit.host(host) {
                guests.hosts.insert(key, host);
                guests.minds.push((host, mind));
            }
        };
        for nth in 0..knobs.hostile_clients {
            let Some(keys) = keys(seed, "a hostile client", nth) else { continue };
            let (key, chances) = (keys.public_key(), drawn("client", nth, CLIENT));
            let mind = HostileClient::new(chances, minds(nth), keys, honest.to_vec());
            add(Host::Client((knobs.clients + nth) as u16), key, Mind::Client(Box::new(mind)));
        }
        for (nth, keys) in servers(seed, knobs).into_iter().enumerate() {
            let (key, chances) = (keys.public_key(), drawn("server", nth, SERVER));
            let mind = HostileServer::new(chances, minds(100 + nth), keys, honest.to_vec());
            add(Host::Server((knobs.servers + nth) as u16), key, Mind::Server(Box::new(mind)));
        }
        guests
    }

    /// Returns what the hostile peers did.
    pub(crate) fn deeds(&self) -> Deeds {
        let mut deeds = Deeds::default();
        for (_, mind) in &self.minds {
            deeds.merge(match mind {
                Mind::Client(client) => &client.mood().deeds,
                Mind::Server(server) => &server.mood().deeds,
            });
        }
        deeds
    }

    /// Lets everybody come into the world.
    pub(crate) fn join(&self, kernel: &mut Kernel) {
        for (key, host) in &self.hosts {
            kernel.emit(*host, What::Joined { key: *key, honest: false, encrypted: false });
        }
    }

    /// An event reached some relay: whoever listens there hears it.
    pub(crate) fn hear(&mut self, event: &Carried, kernel: &mut Kernel) {
        if self.minds.is_empty() || !self.heard.insert(event.id) {
            return;
        }
        let unix = START + kernel.now() / SEC;
        let mut acts = Vec::new();
        for (host, mind) in &mut self.minds {
            match mind {
                Mind::Client(client) => client.hears(event.event()),
                Mind::Server(server) if event.to == Some(server.keys().public_key()) => {
                    acts.extend(server.hears(event.event(), unix).into_iter().map(|act| (*host, act)));
                }
                Mind::Server(_) => {}
            }
        }
        self.publish(acts, kernel);
    }

    /// A second has passed.
    pub(crate) fn tick(&mut self, kernel: &mut Kernel) {
        let unix = START + kernel.now() / SEC;
        let mut acts = Vec::new();
        for (host, mind) in &mut self.minds {
            let new = match mind {
                Mind::Client(client) => client.idles(unix),
                Mind::Server(server) => server.idles(unix),
            };
            acts.extend(new.into_iter().take(MOST).map(|act| (*host, act)));
        }
        self.publish(acts, kernel);
    }

    fn publish(&mut self, acts: Vec<(Host, Act)>, kernel: &mut Kernel) {
        for (host, act) in acts {
            if let Some(issue) = act.issue {
                self.vouch(&issue, kernel);
            }
            let (Host::Client(nth) | Host::Server(nth) | Host::Relay(nth)) = host;
            let peer = FIRST.saturating_add(nth);
            let event = Carried::checked(act.event);
            kernel.queue.after(act.after, Due::Publish { peer, event });
        }
    }

    /// Writes down what somebody hostile truly signed.
    pub(crate) fn vouch(&mut self, issue: &Issue, kernel: &mut Kernel) {
        let by = self.host_of(issue.author, kernel);
        let stamp = START + kernel.now() / SEC;
        let (id, to) = (issue.id, issue.server);
        kernel.emit(by, What::Signed { id, to, encrypted: false, stamp, about: None, answer: None });
    }

    fn host_of(&mut self, author: PublicKey, kernel: &mut Kernel) -> Host {
        if let Some(host) = self.hosts.get(&author) {
            return *host;
        }
        self.strangers = self.strangers.saturating_add(1);
        let host = Host::Client(FIRST.saturating_add(self.strangers));
        self.hosts.insert(author, host);
        kernel.emit(host, What::Joined { key: author, honest: false, encrypted: false });
        host
    }
}
