//! Nothing is executed a second time after a restart: what was done is stamped before it, and that is refused (T08).
use std::collections::BTreeMap;

use contextvm_core::{Limits, Mono, Now};
use contextvm_engine::{Record, ServerConfig, ServerInput, ServerMachine, ServerOutput};
use nostr::event::EventId;

use crate::world::{PLAIN, START, WRAP, World, call, event, machine, opened, told};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

fn started_at(unix: u64) -> ServerConfig {
    ServerConfig { accept_from: unix + 1, ..ServerConfig::default() }
}

#[test]
fn what_was_stamped_before_the_start_is_not_taken() {
    let mut world = World::new(started_at(START));
    assert_eq!(world.from(1, PLAIN, PING), ["drop BeforeStart"]);
    world.pass(1);
    assert_eq!(world.from(1, PLAIN, PING).len(), 1);
}

#[test]
fn what_is_stamped_ahead_waits_for_its_second_once() {
    let mut world = World::new(started_at(START - 9));
    for protection in [PLAIN, WRAP] {
        let (n, early) = (world.events.len(), event(1, world.now.unix + 3, PING, &[]));
        assert!(world.arrives(1, protection, early).is_empty());
        assert_eq!(world.again(n, protection), ["drop Duplicate"]);
        assert_eq!(world.machine.load().waiting, 1);
        assert!(world.pass(2).is_empty());
        assert_eq!(world.pass(1), [format!(r#"deliver c1 {{"jsonrpc":"2.0","id":"${n}","method":"ping"}}"#)]);
        assert_eq!(world.again(n, protection), ["drop Duplicate"]);
        assert_eq!(world.machine.load().waiting, 0);
    }
}

#[test]
fn a_clock_that_is_slow_by_a_blink_costs_a_blink() {
    let mut world = World::new(started_at(START - 9));
    world.now = Now { mono: Mono(980), unix: START };
    assert!(world.arrives(1, PLAIN, event(1, START + 1, PING, &[])).is_empty());
    let (at, _) = world.machine.poll_timeout().unwrap();
    assert!(at <= Mono(1_100));
    world.now = Now { mono: at, unix: START + 1 };
    assert_eq!(world.handle(ServerInput::Wake).len(), 1);
}

#[test]
fn those_who_stamp_ahead_leave_room_for_others_who_do() {
    let limits = Limits { in_flight: 64, in_flight_per_caller: 8, ..Limits::default() };
    let mut world = World::new(ServerConfig { limits, ..started_at(START - 9) });
    for n in 1..10 {
        world.from(n, PLAIN, &call(0, "ping"));
        world.done(n as usize - 1);
    }
    let held = |world: &mut World, n: u32, id: u32| {
        world.arrives(n, PLAIN, event(n, START + 50, &call(id, "ping"), &[])).is_empty()
    };
    let crowd =
        (1..9).flat_map(|n| (1..9).map(move |id| (n, id))).filter(|(n, id)| held(&mut world, *n, *id));
    assert_eq!(crowd.count(), 48 + 2, "three quarters, and one each of those who have none");
    assert!(held(&mut world, 9, 1));
}

#[test]
fn what_is_stamped_further_ahead_than_anybody_waits_is_dropped() {
    let mut world = World::new(started_at(START - 9));
    for (ahead, lines) in [(60, &[][..]), (61, &["drop Stale"])] {
        assert_eq!(world.arrives(1, PLAIN, event(1, START + ahead, PING, &[])), lines);
    }
}

#[test]
fn without_a_barrier_nobody_waits() {
    let mut world = World::new(ServerConfig::default());
    assert_eq!(world.arrives(1, PLAIN, event(1, START + 500, PING, &[])).len(), 1);
}

#[test]
fn what_waits_is_decided_about_first_and_bounded() {
    let limits = Limits { in_flight: 8, ..Limits::default() };
    let mut config = ServerConfig { limits, ..started_at(START - 9) };
    config.access.allowed = Some((1..20).map(crate::world::public).collect());
    let mut world = World::new(config);
    let early = |n: u32| event(n, START + 5, PING, &[]);
    assert_eq!(world.arrives(30, PLAIN, early(30)), ["drop NotAllowed"]);
    for n in 1..5 {
        assert!(world.arrives(n, PLAIN, early(n)).is_empty());
    }
    assert_eq!(world.arrives(5, PLAIN, early(5)), ["drop Busy"]);
    assert_eq!(world.pass(5).len(), 4);
}

#[test]
fn a_clock_that_is_set_back_makes_nobody_wait_in_circles() {
    let mut world = World::new(started_at(START - 9));
    world.arrives(1, PLAIN, event(1, START + 2, PING, &[]));
    world.now = Now { mono: Mono(2_000), unix: START - 1 };
    assert!(world.handle(ServerInput::Wake).is_empty());
    assert_eq!(world.machine.poll_timeout().map(|(at, _)| at), Some(Mono(4_100)));
    assert_eq!(world.pass(3).len(), 1);
}

/// One life of a server after the other, on one wall clock.
struct Lives {
    machine: ServerMachine,
    now: Now,
    executed: BTreeMap<EventId, u32>,
}

impl Lives {
    fn take(&mut self, input: ServerInput) {
        for output in told(&mut self.machine, input, self.now) {
            if let ServerOutput::Deliver { event, .. } = output {
                *self.executed.entry(event.id).or_default() += 1;
            }
        }
    }

    fn restart(&mut self) {
        let started = self.now.unix;
        self.machine = machine(started_at(started));
        self.now = Now { mono: Mono(0), unix: started + 1 };
    }
}

#[test]
fn a_thousand_restarts_and_a_thousand_replays_after_each() {
    let now = Now { mono: Mono(0), unix: START };
    let mut lives = Lives { machine: machine(started_at(START - 700)), now, executed: BTreeMap::new() };
    let note = |n: u32| format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{{"n":{n}}}}}"#);
    let mut replayed: Vec<_> = (0..1_000)
        .map(|n| {
            // From ten minutes ago to one minute ahead.
            let stamp = START - 600 + u64::from(n) * 660 / 1_000;
            let (caller, protection) = (1 + n % 8, if n % 2 == 0 { PLAIN } else { WRAP });
            opened(event(caller, stamp, &note(n), &[]), protection, START)
        })
        .collect();
    for opened in &replayed {
        lives.take(ServerInput::Opened(Box::new(opened.clone())));
    }
    assert!(lives.executed.len() > 900);
    for life in 0..1_000 {
        lives.restart();
        for opened in &replayed {
            lives.take(ServerInput::Opened(Box::new(opened.clone())));
        }
        let now = lives.now.unix;
        for (ahead, place) in [(0, life), (u64::from(life) % 4, life + 500)] {
            let honest = opened(event(9, now + ahead, &call(place, "ping"), &[]), WRAP, now);
            let id = honest.event().id;
            lives.take(ServerInput::Opened(Box::new(honest.clone())));
            assert_eq!(lives.executed.contains_key(&id), ahead == 0, "restart {life}");
            replayed[place as usize % 1_000] = honest;
        }
    }
    assert!(lives.executed.len() > 2_500, "{}", lives.executed.len());
    assert!(lives.executed.values().all(|times| *times == 1), "{:?}", lives.executed);
}

/// One life after the other with a store, which has what was synced, and perhaps some of what was not.
struct Kept {
    machine: ServerMachine,
    now: Now,
    executed: BTreeMap<EventId, u32>,
    /// What is on disk, and what is on its way there.
    disk: Vec<Record>,
    unsynced: Vec<(u64, Record)>,
    /// Nothing stamped before it is taken: what was may be forgotten.
    since: u64,
    answered: u32,
    interrupted: u32,
}

impl Kept {
    fn config(since: u64) -> ServerConfig {
        ServerConfig { accept_from: since, durable: true, ..ServerConfig::default() }
    }

    fn take(&mut self, input: ServerInput) {
        for output in told(&mut self.machine, input, self.now) {
            if let ServerOutput::Remember { number, record } = output {
                self.unsynced.push((number, record));
            } else if let ServerOutput::Deliver { event, .. } = output {
                *self.executed.entry(event.id).or_default() += 1;
            } else if let ServerOutput::Publish(sent) = output {
                self.interrupted += u32::from(sent.draft.content.contains("interrupted"));
                self.answered += u32::from(sent.draft.content.contains("result"));
            }
        }
    }

    fn sync(&mut self) {
        let Some((through, _)) = self.unsynced.last() else { return };
        let input = ServerInput::Remembered { through: *through };
        self.disk.extend(self.unsynced.drain(..).map(|(_, record)| record));
        self.take(input);
    }

    /// The power goes off when so many unsynced records have reached the disk; old ones are pruned at the start.
    fn restart(&mut self, lucky: usize) {
        self.disk.extend(self.unsynced.drain(..).map(|(_, record)| record).take(lucky));
        self.now = Now { mono: Mono(0), unix: self.now.unix + 8 };
        let young = self.now.unix - 660;
        let since = &mut self.since;
        self.disk.retain(|record| match record {
            Record::Accepted { stamp, .. } if *stamp < young => {
                *since = (*since).max(stamp + 1);
                false
            }
            Record::Accepted { .. } => true,
            Record::Answered { draft, .. } => draft.created_at >= young,
        });
        self.machine = machine(Self::config(self.since));
        self.machine.restore(self.disk.clone(), self.now);
    }
}

#[test]
fn a_thousand_restarts_with_a_store_and_replays_after_each() {
    let now = Now { mono: Mono(0), unix: START };
    let (executed, disk, unsynced) = (BTreeMap::new(), Vec::new(), Vec::new());
    let since = START - 700;
    let machine = machine(Kept::config(since));
    let mut lives = Kept { machine, now, executed, disk, unsynced, since, answered: 0, interrupted: 0 };
    let mut said = Vec::new();
    for life in 0..1_000_u32 {
        for n in 0..4 {
            let stamp = lives.now.unix - u64::from(n) * 90;
            let honest = opened(event(1 + n, stamp, &call(life, "ping"), &[]), WRAP, lives.now.unix);
            said.push(honest.clone());
            lives.take(ServerInput::Opened(Box::new(honest)));
            if (life + n) % 3 != 0 {
                lives.sync();
            }
        }
        let executed = said.iter().rev().take(4).map(|opened| opened.event());
        let answered: Vec<_> = executed.filter(|event| lives.executed.contains_key(&event.id)).collect();
        for (nth, event) in answered.into_iter().enumerate() {
            if nth % 2 == 0 {
                let message = format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{}}}}"#, event.id.to_hex());
                lives.take(ServerInput::Send { to: event.pubkey, message });
            }
        }
        lives.restart(life as usize % 4);
        for replay in said.iter().rev().take(1_000).step_by(2 + life as usize % 5) {
            let again = ServerInput::Opened(Box::new(replay.clone()));
            lives.take(again);
        }
        if life % 2 == 0 {
            lives.sync();
        }
    }
    assert!(lives.executed.values().all(|times| *times == 1), "{:?}", lives.executed);
    assert!(
        lives.executed.len() > 3_500,
        "{}: what was not executed before is not lost",
        lives.executed.len()
    );
    assert!(lives.answered > 1_000 && lives.interrupted > 1_000, "{} {}", lives.answered, lives.interrupted);
}
