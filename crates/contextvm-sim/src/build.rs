//! Who and what is in a world at its beginning.
use std::rc::Rc;
use std::time::Duration;

use contextvm_core::{Limits, kind};
use contextvm_crypto::Keys;
use contextvm_engine::{ClientConfig, EncryptionMode, GiftWrapMode, ServerConfig};

use nostr::key::PublicKey;

use crate::guest;
use crate::hostile::{Chances, HostileRelay};
use crate::journal::Journal;
use crate::knobs::Knobs;
use crate::minds;
use crate::peer::{Config, Peer};
use crate::port::Me;
use crate::relay::{Manner, Relay};
use crate::rng::Rng;
use crate::time::SEC;
use crate::trace::Host;
use crate::world::{Scene, Setup};

/// Draws which relays faults leave alone.
pub(crate) fn quiet(seed: u64, scene: Scene, knobs: &Knobs) -> Vec<bool> {
    let mut rng = Rng::of(seed, "quiet", 0);
    let first = match scene {
        Scene::HostileRelays | Scene::Calm | Scene::Days(_) => true,
        Scene::Swarm => rng.chance(500),
    };
    (0..knobs.relays + knobs.hostile_relays).map(|nth| nth == 0 && first).collect()
}

/// Returns how long a call may take on an honest path, microseconds.
pub(crate) fn ends_within(limits: &Limits, knobs: &Knobs) -> u64 {
    let timeout = limits.request_timeout.as_micros() as u64;
    let late = knobs.app > 0 || knobs.app_slow > 0 || knobs.app_silent > 0;
    timeout + if late { 240 * SEC } else { 20 * SEC }
}

/// Draws the limits that every endpoint of a world is given.
pub(crate) fn limits(seed: u64, scene: Scene) -> Limits {
    let short = Duration::from_secs(120);
    let usual = Limits { stream_total: short, transfer_total: short, ..Limits::default() };
    if scene != Scene::Swarm {
        return usual;
    }
    let mut rng = Rng::of(seed, "limits", 0);
    let mut some =
        |usual: usize, small: &[usize]| if rng.chance(700) { usual } else { rng.pick(small, usual) };
    Limits {
        request_timeout: Duration::from_secs(some(60, &[10, 20, 30]) as u64),
        in_flight_per_caller: some(usual.in_flight_per_caller, &[2, 8]),
        in_flight: some(usual.in_flight, &[4, 32]),
        pending: some(usual.pending, &[4, 16]),
        seen_ids: some(usual.seen_ids, &[100, 1_000]),
        ledger_bytes: some(usual.ledger_bytes, &[0, 2_000, 50_000]),
        ledger_answer: some(usual.ledger_answer, &[0, 500]),
        sessions: some(usual.sessions, &[1, 3]),
        stranger_sessions: some(usual.stranger_sessions, &[1, 8]),
        transfers_per_peer: some(usual.transfers_per_peer, &[1]),
        transfers: some(usual.transfers, &[1, 3]),
        streams_per_peer: some(usual.streams_per_peer, &[1]),
        streams: some(usual.streams, &[1, 3]),
        stream_buffer: some(usual.stream_buffer, &[50_000]),
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
            rate: rng.chance(knobs.rate_limit).then(|| rng.pick(&[1, 5, 20, 100, 1_000], 5)),
            auth: rng.chance(knobs.auth),
            keeps_ephemeral: rng.chance(knobs.keeps_ephemeral),
            strict_age: rng.chance(knobs.strict_age),
            ok: [knobs.ok_none, knobs.ok_late, knobs.ok_false, knobs.ok_lie],
            notice: knobs.notice,
        };
        let mut relay = Relay::new(seed, nth as u16, if *quiet { Manner::default() } else { drawn });
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
    let mut peers = Vec::new();
    let servers: Vec<Keys> =
        (0..knobs.servers).filter_map(|nth| keys(seed, (knobs.clients + nth) as u64)).collect();
    let hostile_servers = guest::servers(seed, knobs);
    let wraps =
        [GiftWrapMode::Optional, GiftWrapMode::Optional, GiftWrapMode::Ephemeral, GiftWrapMode::Persistent];
    let gift_wrap = Rng::of(seed, "gift wrap", 0).pick(&wraps, GiftWrapMode::Optional);
    let limits = limits(seed, setup.scene);
    let signer = |nth: usize| minds::signers(seed, setup, knobs, nth as u64);
    for nth in 0..knobs.clients {
        let mut rng = Rng::of(seed, "a client", nth as u64);
        let hostile = !hostile_servers.is_empty() && rng.chance(300);
        let among = if hostile { &hostile_servers } else { &servers };
        let Some(server) = among.get(rng.index(among.len())) else { continue };
        let Some(keys) = keys(seed, nth as u64) else { continue };
        let plain = rng.chance(knobs.work.plain);
        let config = ClientConfig {
            encryption: if plain { EncryptionMode::Disabled } else { EncryptionMode::Optional },
            gift_wrap,
            stateless: rng.chance(knobs.work.stateless),
            answer_server_requests: knobs.work.server_requests > 0 && rng.chance(800),
            open_streams: knobs.work.streams > 0,
            limits: limits.clone(),
            ..ClientConfig::new(server.public_key())
        };
        let me = me(seed, nth, Host::Client(nth as u16), keys, gift_wrap, signer(nth), relays, &limits, true);
        let skew = skew(seed, knobs, nth);
        peers.push(Peer {
            me,
            config: Config::Client(config),
            life: 0,
            skew,
            slow: knobs.app_slow,
            app: Chances::default(),
            journal: None,
            keeps_journal: false,
            barrier: 0,
            has_barrier: false,
            barrier_at: 0,
            alive: None,
        });
    }
    let has_journal = Rng::of(seed, "has a journal", 0).chance(knobs.journal) || setup.scene == Scene::Calm;
    for (nth, keys) in servers.into_iter().enumerate() {
        let config = ServerConfig { gift_wrap, limits: limits.clone(), ..ServerConfig::default() };
        let peer = knobs.clients + nth;
        let me =
            me(seed, peer, Host::Server(nth as u16), keys, gift_wrap, signer(peer), relays, &limits, false);
        // A disk that stands still for seconds is a fault like another: who waits behind it is told that we are busy.
        let slow = if setup.scene == Scene::Swarm { 20 } else { 0 };
        let disk = Rng::of(seed, "journal", nth as u64);
        let journal = has_journal.then(|| Journal::new(disk, knobs.disk_fails, slow));
        let skew = skew(seed, knobs, peer);
        peers.push(Peer {
            me,
            config: Config::Server(config),
            life: 0,
            skew,
            slow: knobs.app_slow,
            app: minds::apps(seed, setup, knobs, nth as u64),
            keeps_journal: journal.is_some(),
            journal,
            barrier: 0,
            has_barrier: false,
            barrier_at: 0,
            alive: None,
        });
    }
    peers
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
pub(crate) fn paths(peers: &[Peer]) -> Vec<(u16, u16, bool)> {
    let server_of = |peer: &Peer| {
        let Config::Client(config) = &peer.config else { return None };
        let server = peers.iter().find(|other| {
            matches!(other.me.host, Host::Server(_)) && other.me.keys.public_key() == config.server
        })?;
        Some((peer.me.peer, server.me.peer, false))
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
    let most = match rng.below(10) {
        0 => knobs.skew,
        1..4 => knobs.skew.min(30),
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
        seed,
    })
}
