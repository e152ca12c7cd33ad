//! Who and what is in a world at its beginning.
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use contextvm_core::{Limits, kind};
use contextvm_crypto::Keys;
use contextvm_engine::server::Access;
use contextvm_engine::{ClientConfig, EncryptionMode, GiftWrapMode, ServerConfig};

use nostr::key::PublicKey;

use crate::days;
use crate::guest;
use crate::hostile::{Chances, HostileRelay};
use crate::journal::Journal;
use crate::knobs::Knobs;
use crate::minds;
use crate::peer::{Config, Peer};
use crate::port::Me;
use crate::relay::{Manner, Relay};
use crate::rng::Rng;
use crate::time::START;
use crate::trace::Host;
use crate::world::{Scene, Setup};

/// Draws which relays faults leave alone.
pub(crate) fn quiet(seed: u64, scene: Scene, knobs: &Knobs) -> Vec<bool> {
    let mut rng = Rng::of(seed, "quiet", 0);
    let first = match scene {
        Scene::HostileRelays | Scene::Calm | Scene::Days(_) => true,
        Scene::Swarm => rng.chance(700),
    };
    (0..knobs.relays + knobs.hostile_relays).map(|nth| nth == 0 && first).collect()
}

/// Draws the limits that every endpoint of a world is given.
pub(crate) fn limits(scene: Scene, knobs: &Knobs) -> Limits {
    let short = Duration::from_secs(120);
    let request_timeout = Duration::from_secs(knobs.timeout);
    let usual = Limits { stream_total: short, transfer_total: short, request_timeout, ..Limits::default() };
    if scene != Scene::Swarm || knobs.small == 0 {
        return usual;
    }
    let mut rng = Rng::of(knobs.small, "limits", 0);
    let mut some = |usual: usize, small: &[usize]| {
        let small = rng.pick(small, usual);
        if rng.chance(300) { small } else { usual }
    };
    Limits {
        in_flight_per_caller: some(usual.in_flight_per_caller, &[8, 16]),
        in_flight: some(usual.in_flight, &[32, 64]),
        pending: some(usual.pending, &[16, 64]),
        seen_ids: some(usual.seen_ids, &[500, 1_000]),
        ledger_bytes: some(usual.ledger_bytes, &[0, 2_000, 50_000]),
        ledger_answer: some(usual.ledger_answer, &[0, 500]),
        sessions: some(usual.sessions, &[8, 12]),
        stranger_sessions: some(usual.stranger_sessions, &[1, 8]),
        transfers_per_peer: some(usual.transfers_per_peer, &[1]),
        transfers: some(usual.transfers, &[1, 3]),
        streams_per_peer: some(usual.streams_per_peer, &[1]),
        streams: some(usual.streams, &[1, 3]),
        stream_buffer: some(usual.stream_buffer, &[50_000]),
        open_queue: some(usual.open_queue, &[64, 128]),
        ..usual
    }
}

/// Makes the relays: the honest ones first.
pub(crate) fn relays(seed: u64, setup: &Setup, knobs: &Knobs, quiet: &[bool]) -> Vec<Relay> {
    let relay = |(nth, quiet): (usize, &bool)| {
        let mut rng = Rng::of(seed, "manner", nth as u64);
        let size_limit = rng.chance(knobs.size_limit).then(|| rng.between(16, 128) as usize * 1_024);
        let drawn = Manner {
            largest: size_limit,
            says_largest: rng.chance(knobs.size_said),
            rate: rate(&mut rng, knobs, nth),
            auth: rng.chance(knobs.auth),
            keeps_ephemeral: rng.chance(knobs.keeps_ephemeral),
            strict_age: rng.chance(knobs.strict_age),
            ok: [knobs.ok_none, knobs.ok_late, knobs.ok_false, knobs.ok_lie],
            notice: knobs.notice,
        };
        // A quiet relay may keep what it could forget: that is no fault.
        let kind = Manner { keeps_ephemeral: drawn.keeps_ephemeral, ..Manner::default() };
        let mut relay = Relay::new(seed, nth as u16, if *quiet { kind } else { drawn });
        if setup.omit.host(Host::Relay(nth as u16)) {
            relay.refuses_until = u64::MAX;
        }
        if nth >= knobs.relays {
            let most = if setup.scene == Scene::HostileRelays { 400 } else { 100 };
            let chances = minds::chances(seed, setup, "relay", nth as u64, most);
            relay.mind = Some(HostileRelay::new(chances, rng.any()));
        }
        relay
    };
    quiet.iter().enumerate().map(relay).collect()
}

/// Makes the honest peers: clients first, then servers.
pub(crate) fn peers(seed: u64, setup: &Setup, knobs: &Knobs, relays: &[Relay]) -> Vec<Peer> {
    let keys = |nth: usize| keys(seed, (knobs.clients + nth) as u64);
    let servers: Vec<Keys> = (0..knobs.servers).filter_map(keys).collect();
    let wraps =
        [GiftWrapMode::Optional, GiftWrapMode::Optional, GiftWrapMode::Ephemeral, GiftWrapMode::Persistent];
    let gift_wrap = Rng::of(seed, "gift wrap", 0).pick(&wraps, GiftWrapMode::Optional);
    let common = Common { seed, setup, knobs, relays, gift_wrap, limits: limits(setup.scene, knobs) };
    let mut peers = common.clients(&servers);
    peers.extend(common.servers(servers));
    peers
}

/// What all peers of a world have in common.
struct Common<'a> {
    seed: u64,
    setup: &'a Setup,
    knobs: &'a Knobs,
    relays: &'a [Relay],
    gift_wrap: GiftWrapMode,
    limits: Limits,
}

impl Common<'_> {
    fn clients(&self, servers: &[Keys]) -> Vec<Peer> {
        let Self { seed, knobs, gift_wrap, limits, .. } = self;
        let hostile_servers = guest::servers(*seed, knobs);
        let client = |nth: usize| {
            let mut rng = Rng::of(*seed, "a client", nth as u64);
            let hostile = !hostile_servers.is_empty() && rng.chance(300);
            let among = if hostile { &hostile_servers[..] } else { servers };
            let server = among.get(rng.index(among.len()))?;
            let plain = rng.chance(knobs.work.plain);
            let config = ClientConfig {
                encryption: if plain { EncryptionMode::Disabled } else { EncryptionMode::Optional },
                gift_wrap: *gift_wrap,
                stateless: rng.chance(knobs.work.stateless),
                answer_server_requests: knobs.work.server_requests > 0 && rng.chance(800),
                open_streams: knobs.work.streams > 0,
                limits: limits.clone(),
                ..ClientConfig::new(server.public_key())
            };
            let me = self.me(nth, Host::Client(nth as u16), keys(*seed, nth as u64)?, BTreeSet::new());
            let comes = comes(self.setup.scene, knobs, nth);
            Some(Peer { comes, ..self.peer(nth, me, Config::Client(config)) })
        };
        (0..knobs.clients).filter_map(client).collect()
    }

    fn servers(&self, servers: Vec<Keys>) -> Vec<Peer> {
        let Self { seed, setup, knobs, gift_wrap, limits, .. } = self;
        let calm = setup.scene == Scene::Calm;
        let has_journal = Rng::of(*seed, "has a journal", 0).chance(knobs.journal) || calm;
        let server = |(nth, keys): (usize, Keys)| {
            let (access, denied) = access(*seed, knobs, nth);
            let (gift_wrap, limits) = (*gift_wrap, limits.clone());
            let config = ServerConfig { gift_wrap, access, limits, ..ServerConfig::default() };
            let peer = knobs.clients + nth;
            let me = self.me(peer, Host::Server(nth as u16), keys, denied);
            // A disk that stands still for seconds is a fault like another: who waits behind it is told that we are busy.
            let slow = if setup.scene == Scene::Swarm { 20 } else { 0 };
            let mut disk = Rng::of(*seed, "journal", nth as u64);
            // Most servers were there before, and take what was signed before this world began.
            let since = disk.chance(800).then_some(START - 1_000);
            let journal = has_journal.then(|| Journal::new(disk, knobs.disk_fails, slow, since));
            Peer {
                // A key that nobody had before is served once: it dies with its process.
                is_fresh: knobs.fresh > 0 && knobs.crash == 0,
                app: minds::apps(*seed, setup, knobs, nth as u64),
                keeps_journal: journal.is_some(),
                journal,
                ..self.peer(peer, me, Config::Server(config))
            }
        };
        servers.into_iter().enumerate().map(server).collect()
    }

    /// Returns a peer that was never alive, keeps nothing and is there from the beginning.
    fn peer(&self, nth: usize, me: Rc<Me>, config: Config) -> Peer {
        Peer {
            me,
            comes: 0,
            config,
            is_fresh: false,
            life: 0,
            skew: skew(self.seed, self.knobs, nth),
            slow: self.knobs.app_slow,
            app: Chances::default(),
            journal: None,
            keeps_journal: false,
            barrier: 0,
            has_barrier: false,
            barrier_at: 0,
            alive: None,
        }
    }

    fn me(&self, peer: usize, host: Host, keys: Keys, denied: BTreeSet<PublicKey>) -> Rc<Me> {
        let signer = minds::signers(self.seed, self.setup, self.knobs, peer as u64);
        let keeps = matches!(host, Host::Client(_));
        me(self.seed, peer, host, keys, self.gift_wrap, signer, self.relays, &self.limits, keeps, denied)
    }
}

/// Draws how many events per second a relay takes; the first takes any number.
fn rate(rng: &mut Rng, knobs: &Knobs, nth: usize) -> Option<u64> {
    let is_limited = rng.chance(knobs.rate_limit);
    let rate = rng.pick(&[50, 200, 1_000], 200);
    let rate = if rng.chance(100) { 5 } else { rate };
    (is_limited && nth > 0).then_some(rate)
}

/// Draws who may call a server, and returns it with those clients who may not.
fn access(seed: u64, knobs: &Knobs, nth: usize) -> (Access, BTreeSet<PublicKey>) {
    let may_not = |client: &usize| Rng::of(seed, "denied", *client as u64).chance(knobs.denied);
    let key = |client: usize| keys(seed, client as u64).map(|keys| keys.public_key());
    let denied: BTreeSet<_> = (0..knobs.clients).filter(may_not).filter_map(key).collect();
    let mut rng = Rng::of(seed, "access", nth as u64);
    let asks = rng.chance(knobs.asks);
    let announced = rng.chance(500);
    let mut access = Access { ask_key: asks, announced, ..Access::default() };
    if !asks && !denied.is_empty() {
        let strangers = guest::clients(seed, knobs).into_iter().filter(|_| rng.chance(500));
        let members = (0..knobs.clients).filter_map(key).chain(strangers);
        access.allowed = Some(members.filter(|key| !denied.contains(key)).collect());
    }
    (access, denied)
}

/// When a client is there for the first time, microseconds: visitors share the days of a world of days.
fn comes(scene: Scene, knobs: &Knobs, nth: usize) -> u64 {
    let Scene::Days(_) = scene else { return 0 };
    let residents = knobs.clients - knobs.visitors.min(knobs.clients);
    match nth.checked_sub(residents) {
        Some(visitor) => days::visit(visitor as u64).0,
        None => 0,
    }
}

/// Returns the keys of the honest servers.
pub(crate) fn servers(peers: &[Peer]) -> Vec<PublicKey> {
    let servers = peers.iter().filter(|peer| matches!(peer.config, Config::Server(_)));
    servers.map(|peer| peer.me.keys.public_key()).collect()
}

/// Whether a peer never speaks plaintext.
pub(crate) fn is_encrypted(config: &Config) -> bool {
    match config {
        Config::Client(config) => config.encryption != EncryptionMode::Disabled,
        // It answers everybody as he asked.
        Config::Server(_) => false,
    }
}

/// Returns the pairs of a client and the server that it calls.
pub(crate) fn paths(peers: &[Peer]) -> Vec<(u16, u16, (bool, bool))> {
    let server_of = |peer: &Peer| {
        let Config::Client(config) = &peer.config else { return None };
        let server = peers.iter().find(|other| {
            matches!(other.me.host, Host::Server(_)) && other.me.keys.public_key() == config.server
        })?;
        Some((peer.me.peer, server.me.peer, (false, false)))
    };
    peers.iter().filter_map(server_of).collect()
}

fn keys(seed: u64, peer: u64) -> Option<Keys> {
    let mut rng = Rng::of(seed, "keys", peer);
    Keys::from_entropy(rng.bytes()).or_else(|_| Keys::from_entropy(rng.bytes())).ok()
}

fn skew(seed: u64, knobs: &Knobs, peer: usize) -> i64 {
    let mut rng = Rng::of(seed, "skew", peer as u64);
    // Most clocks are right, some a little wrong, few as wrong as they may be.
    let most = match rng.below(100) {
        0..3 => knobs.skew,
        3..10 => knobs.skew.min(60),
        10..25 => knobs.skew.min(3),
        _ => 0,
    };
    let skew = rng.below(most + 1) as i64;
    if rng.chance(500) { skew } else { -skew }
}

#[expect(clippy::too_many_arguments, reason = "what a peer consists of")]
fn me(
    seed: u64,
    peer: usize,
    host: Host,
    keys: Keys,
    gift_wrap: GiftWrapMode,
    signer: Chances,
    relays: &[Relay],
    limits: &Limits,
    keeps: bool,
    denied: BTreeSet<PublicKey>,
) -> Rc<Me> {
    let (persistent, ephemeral) = (kind::GIFT_WRAP, kind::EPHEMERAL_GIFT_WRAP);
    let kinds = match gift_wrap {
        GiftWrapMode::Optional => vec![kind::MESSAGE, persistent, ephemeral],
        GiftWrapMode::Ephemeral => vec![kind::MESSAGE, ephemeral],
        GiftWrapMode::Persistent => vec![kind::MESSAGE, persistent],
    };
    let said = |relay: &Relay| relay.manner.largest.filter(|_| relay.manner.says_largest);
    Rc::new(Me {
        peer: peer as u16,
        host,
        keys,
        limits: limits.clone(),
        kinds,
        signer,
        largest: relays.iter().map(said).collect(),
        keeps,
        denied,
        seed,
    })
}
