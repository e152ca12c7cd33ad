//! The whole system in miniature, under every checker of the simulator.
//!
//! Bytes set the knobs of a small world and then say what happens in it, one thing after the other.
use contextvm_sim::hostile::{self, Chances};
use contextvm_sim::knobs::Knobs;
use contextvm_sim::plan::{Acts, CallPlan, Happening, Plan, Reach};
use contextvm_sim::time::{MS, SEC};
use contextvm_sim::trace::{Call, Host};
use contextvm_sim::world::{Outcome, Setup, World};

use crate::bytes::Bytes;
use crate::seeds::Seed;

/// Most things that happen in one world.
const TRANSITIONS: usize = 40;
/// After so long everything that was begun has ended: a call, an access decision, a transfer, a stream.
const CALM: u64 = 400 * SEC;

/// A small world: whatever happens in it, no checker may find anything.
pub fn whole_system(data: &[u8]) {
    let outcome = lived(data);
    let violations = outcome.trace.checks.violations();
    assert!(violations.is_empty(), "{violations:#?}\nknobs: {:?}", outcome.knobs);
}

fn lived(data: &[u8]) -> Outcome {
    let mut bytes = Bytes(data);
    let seed = u64::from(bytes.short());
    let knobs = knobs(&mut bytes);
    let sizes = [knobs.clients, knobs.servers, knobs.relays + knobs.hostile_relays];
    let setup = Setup { calls: 0, chances: chances(&mut bytes), ..Setup::default() };
    let mut world = World::with(seed, setup, knobs, Plan::default());
    for nth in 0..TRANSITIONS {
        if bytes.is_empty() {
            break;
        }
        transition(&mut world, nth as u64, sizes, &mut bytes);
    }
    world.pass(CALM);
    world.finish()
}

/// A calm small world, and a few knobs that are turned.
fn knobs(bytes: &mut Bytes<'_>) -> Knobs {
    let mut knobs = Knobs::calm();
    knobs.clients = 1 + bytes.below(3);
    knobs.servers = 1 + bytes.below(2);
    knobs.relays = 1 + bytes.below(3);
    knobs.hostile_relays = bytes.below(3);
    knobs.hostile_clients = bytes.below(2);
    knobs.hostile_servers = bytes.below(2);
    for _ in 0..bytes.below(12) {
        turn(&mut knobs, bytes);
    }
    knobs
}

/// Turns one knob.
fn turn(knobs: &mut Knobs, bytes: &mut Bytes<'_>) {
    let (which, how) = (bytes.below(24), u32::from(bytes.byte()));
    let part = |most: u32| how * most / 255;
    match which {
        0 => knobs.lose_up = part(300),
        1 => knobs.lose_down = part(300),
        2 => knobs.double = part(500),
        3 => knobs.double_late = part(100),
        4 => knobs.delay = [MS, 10 * MS, 200 * MS, SEC][how as usize % 4],
        5 => knobs.reorder = how % 2 == 1,
        6 => knobs.ok_none = part(200),
        7 => knobs.ok_late = part(200),
        8 => knobs.ok_false = part(200),
        9 => knobs.ok_lie = part(200),
        10 => knobs.auth = part(1_000),
        11 => knobs.notice = part(100),
        12 => knobs.size_limit = part(1_000),
        13 => knobs.size_said = part(1_000),
        14 => knobs.rate_limit = part(1_000),
        15 => knobs.keeps_ephemeral = part(1_000),
        16 => knobs.journal = if how % 2 == 0 { 0 } else { 1_000 },
        17 => knobs.skew = u64::from(part(900)),
        18 => knobs.strict_age = part(1_000),
        19 => knobs.disk_fails = part(100),
        20 => knobs.work.streams = part(100),
        21 => knobs.work.server_requests = part(100),
        22 => knobs.work.plain = part(1_000),
        _ => knobs.work.stateless = part(1_000),
    }
}

/// What the hostile of this world do: a few deeds, each with its chance.
fn chances(bytes: &mut Bytes<'_>) -> Option<Chances> {
    let mut chances = Chances::default();
    for _ in 0..bytes.below(8) {
        let deed = hostile::ALL[bytes.below(hostile::ALL.len())];
        chances = chances.with(deed, u16::from(bytes.byte()) * 4);
    }
    Some(chances)
}

fn transition(world: &mut World, nth: u64, [clients, servers, relays]: [usize; 3], bytes: &mut Bytes<'_>) {
    let client = |bytes: &mut Bytes<'_>| bytes.below(clients) as u16;
    let server = |bytes: &mut Bytes<'_>| bytes.below(servers) as u16;
    let relay = |bytes: &mut Bytes<'_>| bytes.below(relays) as u16;
    let host = |bytes: &mut Bytes<'_>| {
        if bytes.flag() { Host::Client(client(bytes)) } else { Host::Server(server(bytes)) }
    };
    let lasts = |bytes: &mut Bytes<'_>| u64::from(bytes.byte()) * 200 * MS;
    let what = match bytes.below(16) {
        0..=4 => Happening::Call(call(nth, client(bytes), bytes)),
        5 => return world.pass(u64::from(bytes.byte()) * MS),
        6 => return world.pass(u64::from(bytes.byte()) * 500 * MS),
        7 => Happening::Note(host(bytes)),
        8 => Happening::RelayRestarts { relay: relay(bytes), forgets: bytes.flag(), down: lasts(bytes) },
        9 => Happening::HalfOpen { peer: host(bytes), relay: relay(bytes) },
        10 => Happening::BlackHole { relay: relay(bytes), lasts: lasts(bytes) },
        11 => Happening::Refuses { relay: relay(bytes), lasts: lasts(bytes) },
        12 => {
            let (reach, up, down) = (Reach::Some(u64::from(bytes.short())), bytes.flag(), bytes.flag());
            Happening::Partition { reach, up, down, lasts: lasts(bytes) }
        }
        13 if bytes.flag() => {
            let reach = match bytes.below(4) {
                0 => Reach::Link(host(bytes), relay(bytes)),
                1 => Reach::Peer(host(bytes)),
                2 => Reach::Relay(relay(bytes)),
                _ => Reach::Some(u64::from(bytes.short())),
            };
            let (up, down, one_by_one) = (bytes.flag(), bytes.flag(), bytes.flag());
            Happening::Clog { reach, up, down, lasts: lasts(bytes), one_by_one }
        }
        13 => Happening::Closes { peer: host(bytes), relay: relay(bytes) },
        14 => Happening::Crash { host: host(bytes), torn: bytes.flag(), down: lasts(bytes) },
        _ => Happening::Jump { host: host(bytes), by: i64::from(bytes.byte()) * 7 - 900 },
    };
    world.happen(what);
}

fn call(nth: u64, client: u16, bytes: &mut Bytes<'_>) -> CallPlan {
    let flags = bytes.byte();
    let flag = |bit: u8| flags & (1 << bit) != 0;
    // One byte is what most messages are made of; a transfer begins at about 48,000.
    let size = |bytes: &mut Bytes<'_>| u64::from(bytes.byte().saturating_sub(200)) * 3_000;
    CallPlan {
        call: Call(nth),
        client,
        harmless: flag(0),
        asks: if flag(1) { size(bytes) } else { 0 },
        answers: if flag(2) { size(bytes) } else { 0 },
        takes: match bytes.byte() {
            255 => None,
            time => Some(u64::from(time) * 100 * MS),
        },
        acts: Acts {
            fails: flag(3) && flag(4),
            panics: flag(3) && !flag(4),
            progress: if flag(5) { 3 } else { 0 },
            asks_back: flag(6),
            streams: if flag(7) { size(bytes) / 4 } else { 0 },
            gives_up: flag(7) && flag(4),
        },
        cancels: flag(4).then(|| u64::from(bytes.byte()) * 100 * MS),
        reads: flag(7),
        stops: (flag(7) && flag(6)).then(|| u64::from(bytes.byte())),
    }
}

/// Worlds made by hand: the size, the knobs that are turned, the deeds, and then what happens.
pub fn seeds() -> Vec<Seed> {
    let calls = [0, 0, 0, 1, 5, 50, 1, 0, 1, 1, 6, 4];
    let world = |name, head: &[u8], happens: &[u8]| ("whole_system", name, [head, happens].concat());
    vec![
        world("calm", &[1, 0, 2, 0, 2, 0, 0, 0, 0, 0], &calls.repeat(4)),
        // Two hostile relays that poison, withhold and replay.
        world("hostile_relays", &[2, 0, 1, 0, 0, 2, 0, 0, 0, 3, 3, 200, 13, 200, 1, 200], &calls.repeat(4)),
        world(
            "hostile_client",
            &[3, 0, 1, 0, 1, 0, 1, 0, 0, 4, 26, 250, 28, 200, 32, 200, 36, 200],
            &calls.repeat(4),
        ),
        world(
            "hostile_server",
            // Three callers, one of which at least calls it.
            &[4, 0, 2, 0, 1, 0, 0, 1, 0, 4, 51, 250, 53, 200, 61, 200, 63, 200],
            &[0, 0, 0, 1, 5, 50, 1, 1, 1, 1, 5, 50, 2, 2, 1, 1, 6, 4].repeat(4),
        ),
        world("loss", &[5, 0, 1, 0, 2, 0, 0, 0, 4, 0, 250, 1, 250, 2, 250, 5, 1, 0], &calls.repeat(4)),
        world(
            "restarts",
            &[6, 0, 1, 0, 1, 0, 0, 0, 1, 16, 1, 0],
            &[&calls[..], &[14, 0, 0, 1, 9, 6, 9, 8, 0, 1, 9, 6, 60], &calls[..]].concat(),
        ),
        // A large request, a large answer and a stream.
        world(
            "large",
            &[7, 0, 0, 0, 1, 0, 0, 0, 1, 20, 255, 0],
            &[&[0, 0, 134, 230, 230, 1, 240, 6, 90], &calls[..]].concat(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeds;

    #[test]
    fn the_seeds_do_what_their_names_say() {
        for (name, actor, deed) in [
            ("hostile_relays", "relay", hostile::Deed::RelayReplays),
            ("hostile_client", "client", hostile::Deed::ClientCalls),
            ("hostile_server", "server", hostile::ALL[51]),
        ] {
            let outcome = lived(&seeds::named("whole_system", name));
            assert!(outcome.trace.checks.tally().issued > 0, "{name}");
            assert!(outcome.deeds.get(deed) > 0, "{name}: {} in {:?}", deed.name(), outcome.deeds);
            assert!(deed.name().starts_with(actor), "the seeds of {name} name deeds by their numbers");
        }
        for name in ["calm", "large", "restarts", "loss"] {
            let tally = lived(&seeds::named("whole_system", name)).trace.checks.tally();
            assert!(tally.issued > 0 && tally.executed > 0, "{name}: {tally:?}");
        }
    }
}
