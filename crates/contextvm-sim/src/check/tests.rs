//! Every checker is shown to fail: an honest life breaks nothing, and with one fault planted it breaks that promise alone.
use std::sync::Arc;

use contextvm_engine::client::{ClientLoad, Lost};
use contextvm_engine::{DropReason, ServerLoad};
use nostr::event::EventId;
use nostr::key::PublicKey;

use super::{Check, Checks, Excuse, Expect};
use crate::trace::{Call, Digest, Ending, Entry, Host, PortLoad, What};

#[path = "tests_crowding.rs"]
mod crowding;
#[path = "tests_floors.rs"]
mod floors;
#[path = "tests_paths.rs"]
mod paths;
#[path = "tests_timers.rs"]
mod timers;

const ALICE: Host = Host::Client(0);
const BOB: Host = Host::Client(1);
const SERVER: Host = Host::Server(0);
const OTHER: Host = Host::Server(1);
const SECOND: u64 = 1_000_000;
/// What every clock shows.
const UNIX: u64 = 1_800_000_000;

fn key(host: Host) -> PublicKey {
    let number = match host {
        Host::Client(number) => 10 + number,
        Host::Server(number) => 100 + number,
        Host::Relay(number) => 200 + number,
    };
    PublicKey::from_byte_array([number as u8; 32])
}

fn id(number: u8) -> EventId {
    EventId::from_byte_array([number; 32])
}

fn args(call: u64) -> Digest {
    Digest(1_000 + call)
}

fn result(call: u64) -> Digest {
    Digest(2_000 + call)
}

/// The length of what a call asks, and of its answer: the third call is large.
fn length(call: u64) -> u64 {
    if call == 3 { 100_000 } else { 100 + call }
}

/// An honest life, one entry every tenth of a second.
fn life() -> Vec<(Host, What)> {
    let join = |host| (host, What::Joined { key: key(host), honest: true, encrypted: host != BOB });
    let mut life: Vec<(Host, What)> = [ALICE, BOB, SERVER, OTHER].map(join).into();
    life[2].1 = What::Joined { key: key(SERVER), honest: true, encrypted: false };
    life[3].1 = What::Joined { key: key(OTHER), honest: true, encrypted: false };
    let path = |client| (SERVER, What::Path { client, server: 0, good: true, clocks: true });
    life.extend([path(0), path(1)]);
    life.extend(asked(1, ALICE));
    life.extend(asked(2, BOB));
    life.extend(asked(3, ALICE));
    life.extend(answered(2, BOB));
    let (caller, stream) = (key(ALICE), args(3));
    let wrote = |data: &str| (SERVER, What::Wrote { caller, args: stream, data: data.into() });
    let chunk = |index, data: &str| (ALICE, What::Chunk { call: Call(3), index, data: Arc::from(data) });
    life.extend([wrote("one two "), wrote("three"), chunk(0, "one "), chunk(1, "two three")]);
    life.push((SERVER, What::Closed { caller, args: stream }));
    life.push((ALICE, What::StreamEnded { call: Call(3), complete: true }));
    life.extend(answered(3, ALICE));
    life.extend(answered(1, ALICE));
    let heard = |said| What::Heard { from: key(SERVER), said };
    life.push((SERVER, What::Told { to: Some(key(ALICE)), said: Digest(7) }));
    life.push((SERVER, What::Told { to: None, said: Digest(8) }));
    life.extend([(ALICE, heard(Digest(7))), (ALICE, heard(Digest(8))), (BOB, heard(Digest(8)))]);
    life.push((SERVER, What::Load(ServerLoad::default())));
    life.extend([(SERVER, What::Timer { due: 100 * SECOND }), (SERVER, What::Woke)]);
    life
}

fn issued(call: u64, reads: bool) -> What {
    let (args, bytes) = (args(call), length(call));
    What::Issued { call: Call(call), to: key(SERVER), args, bytes, reads, simple: !reads }
}

fn signed(id: EventId, to: Host, encrypted: bool) -> What {
    What::Signed { id, to: key(to), encrypted, stamp: UNIX, about: None, answer: None }
}

/// The answer to one call, said to be to another, sealed for somebody.
fn answering(call: u64, about: u64, to: Host) -> What {
    What::Signed {
        id: id(100 + call as u8),
        to: key(to),
        encrypted: to != BOB,
        stamp: UNIX,
        about: Some(id(about as u8)),
        answer: Some(result(call)),
    }
}

fn asked(call: u64, by: Host) -> Vec<(Host, What)> {
    let (id, args, bytes) = (id(call as u8), args(call), length(call));
    vec![
        (by, issued(call, call == 3)),
        (by, signed(id, SERVER, by != BOB)),
        (SERVER, What::Executed { caller: key(by), id: Some(id), args, bytes, unix: UNIX }),
    ]
}

fn answered(call: u64, by: Host) -> Vec<(Host, What)> {
    let (result, bytes) = (result(call), length(call));
    vec![
        (SERVER, What::Returned { caller: key(by), args: args(call), result, bytes }),
        (SERVER, answering(call, call, by)),
        (by, What::Ended { call: Call(call), ending: Ending::Answer { result, bytes } }),
    ]
}

fn load(set: impl FnOnce(&mut ServerLoad)) -> ServerLoad {
    let mut load = ServerLoad::default();
    set(&mut load);
    load
}

/// Judges a life of entries a tenth of a second apart.
fn judge(life: &[(Host, What)], expect: &Expect) -> Vec<Check> {
    let timed =
        life.iter().enumerate().map(|(nth, (host, what))| (nth as u64 * SECOND / 10, *host, what.clone()));
    judge_timed(timed, expect)
}

fn judge_timed(life: impl Iterator<Item = (u64, Host, What)>, expect: &Expect) -> Vec<Check> {
    let mut checks = Checks::new(expect);
    let mut last = 0;
    for (at, host, what) in life {
        last = at;
        checks.see(&Entry { at, host, what });
    }
    checks.finish(last);
    let mut broken: Vec<Check> = checks.violations().iter().map(|violation| violation.check).collect();
    broken.dedup();
    broken
}

fn at(life: &[(Host, What)], wanted: impl Fn(&What) -> bool) -> usize {
    life.iter().position(|(_, what)| wanted(what)).expect("the life has it")
}

/// Plants a fault and demands that it is found, as what it is and as nothing else.
#[track_caller]
fn plant(expected: Check, fault: impl FnOnce(&mut Vec<(Host, What)>)) {
    let mut life = life();
    fault(&mut life);
    assert_eq!(judge(&life, &Expect::default()), [expected]);
}

fn ended(call: u64) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Ended { call: Call(number), .. } if *number == call)
}

fn executed(call: u64) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Executed { args: asked, .. } if *asked == args(call))
}

/// Lets a request find no room where it was executed.
fn unread(life: &mut [(Host, What)], call: u64) {
    let place = at(life, executed(call));
    let (_, what) = &mut life[place];
    let What::Executed { caller, id, args, bytes, unix } = *what else { unreachable!() };
    *what = What::Unread { caller, id, args, bytes, unix };
}

fn chunk(nth: u64) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Chunk { index, .. } if *index == nth)
}

#[test]
fn an_honest_life_breaks_nothing() {
    assert_eq!(judge(&life(), &Expect { complete: true, ..Expect::default() }), []);
}

#[test]
fn c1_sees_a_call_that_never_ends_and_one_that_ends_twice() {
    plant(Check::C1, |life| drop(life.remove(at(life, ended(1)))));
    plant(Check::C1, |life| life.push(life[at(life, ended(1))].clone()));
    plant(Check::C1, |life| life.push((ALICE, What::Ended { call: Call(1), ending: Ending::Cancelled })));
    plant(Check::C1, |life| life.push((BOB, What::Ended { call: Call(77), ending: Ending::Error(-32_000) })));
    plant(Check::C1, |life| {
        life.insert(at(life, ended(1)), (ALICE, What::Ended { call: Call(2), ending: Ending::Cancelled }));
    });
}

#[test]
fn c1_lets_the_calls_of_a_dead_client_go() {
    let mut life = life();
    let end = at(&life, ended(1));
    life[end] = (ALICE, What::Crashed);
    assert_eq!(judge(&life, &Expect::default()), []);
    life.push((ALICE, What::Ended { call: Call(1), ending: Ending::Cancelled }));
    assert_eq!(judge(&life, &Expect::default()), [Check::C1], "a dead client ends nothing");
}

#[test]
fn c2_sees_a_second_execution_of_an_event_and_of_a_request() {
    // Another request under the id of the first; the same request under another id; both.
    plant(Check::C2, |life| {
        let (place, again) = (at(life, executed(1)), args(9));
        let fresh = What::Issued {
            call: Call(9),
            to: key(SERVER),
            args: again,
            bytes: 9,
            reads: false,
            simple: true,
        };
        life.insert(place, (ALICE, fresh));
        let (caller, id) = (key(ALICE), Some(id(1)));
        let twice = What::Executed { caller, id, args: again, bytes: 9, unix: UNIX };
        life.insert(place + 2, (SERVER, twice));
        life.push((ALICE, What::Ended { call: Call(9), ending: Ending::Cancelled }));
    });
    plant(Check::C2, |life| {
        life.push((ALICE, signed(id(50), SERVER, true)));
        let (args, bytes, unix) = (args(1), length(1), UNIX);
        life.push((SERVER, What::Executed { caller: key(ALICE), id: Some(id(50)), args, bytes, unix }));
    });
    plant(Check::C2, |life| life.push(life[at(life, executed(2))].clone()));
    // What was refused unread is not executed later.
    let mut late = life();
    let execution = late[at(&late, executed(2))].clone();
    unread(&mut late, 2);
    let end = at(&late, ended(2));
    late[end].1 = What::Ended { call: Call(2), ending: Ending::Error(-32_000) };
    late.push(execution);
    assert_eq!(judge(&late, &Expect::default()), [Check::C2]);
    plant(Check::C2, |life| {
        let restart = [(SERVER, What::Crashed), (SERVER, What::Restarted { journal: true })];
        life.extend(restart);
        life.push(life[at(life, executed(2))].clone());
    });
    plant(Check::C2, |life| life.push((BOB, What::Heard { from: key(SERVER), said: Digest(8) })));
}

#[test]
fn c2_counts_for_a_server_over_all_its_lives_and_for_a_client_in_each() {
    let again = |host: Host| {
        let mut life = life();
        let heard =
            (host, What::Heard { from: key(if host == BOB { SERVER } else { BOB }), said: Digest(9) });
        let told =
            (if host == BOB { SERVER } else { BOB }, What::Told { to: Some(key(host)), said: Digest(9) });
        life.extend([told, heard.clone(), (host, What::Crashed), heard]);
        judge(&life, &Expect::default())
    };
    assert_eq!((again(BOB), again(SERVER)), (vec![], vec![Check::C2]));
}

#[test]
fn c3_sees_what_nobody_asked() {
    let of = |call: u8| move |what: &What| matches!(what, What::Signed { id: of, .. } if *of == id(call));
    plant(Check::C3, |life| drop(life.remove(at(life, of(1)))));
    plant(Check::C3, |life| {
        let place = at(life, of(1));
        life[place] = (BOB, signed(id(1), SERVER, false));
        let answer = at(life, |what| matches!(what, What::Signed { about: Some(of), .. } if *of == id(1)));
        life.remove(answer);
    });
    plant(Check::C3, |life| {
        let place = at(life, of(2));
        life[place].1 = signed(id(2), OTHER, false);
    });
    plant(Check::C3, |life| {
        let place = at(life, executed(1));
        let What::Executed { args, .. } = &mut life[place].1 else { unreachable!() };
        *args = Digest(666);
    });
    plant(Check::C3, |life| {
        let place = at(life, executed(2));
        let What::Executed { caller, .. } = &mut life[place].1 else { unreachable!() };
        *caller = PublicKey::from_byte_array([99; 32]);
    });
    plant(Check::C3, |life| life.push((ALICE, What::Heard { from: key(SERVER), said: Digest(66) })));
}

#[test]
fn c3_sees_what_is_older_than_ids_are_remembered_for() {
    let older = |seconds: u64| {
        move |life: &mut Vec<(Host, What)>| {
            let place = at(life, executed(1));
            let What::Executed { unix, .. } = &mut life[place].1 else { unreachable!() };
            *unix += seconds;
        }
    };
    plant(Check::C3, older(2_000));
    let mut held = life();
    older(650)(&mut held);
    assert_eq!(judge(&held, &Expect::default()), [], "it was taken in time and waited");
}

#[test]
fn c3_sees_a_request_that_is_stopped_while_its_caller_waits() {
    let stopped = What::Stopped { caller: key(ALICE), args: args(1) };
    plant(Check::C3, |life| life.insert(at(life, ended(1)), (SERVER, stopped.clone())));
    let mut late = life();
    late.push((SERVER, stopped));
    assert_eq!(judge(&late, &Expect::default()), []);
}

#[test]
fn c3_sees_an_execution_for_whom_the_application_does_not_serve() {
    let denied = What::Denied { caller: key(ALICE) };
    plant(Check::C3, |life| {
        life.insert(4, (SERVER, denied));
        life.truncate(at(life, executed(1)) + 1);
        life.push((ALICE, What::Ended { call: Call(1), ending: Ending::Cancelled }));
    });
}

#[test]
fn c4_sees_an_answer_that_was_changed_or_belongs_to_another_call() {
    let change = |to: Digest| {
        move |life: &mut Vec<(Host, What)>| {
            let place = at(life, ended(1));
            let ending = Ending::Answer { result: to, bytes: length(1) };
            life[place].1 = What::Ended { call: Call(1), ending };
        }
    };
    plant(Check::C4, change(Digest(666)));
    plant(Check::C4, change(result(3)));
    plant(Check::C4, |life| {
        let place = at(life, |what| matches!(what, What::Returned { args: of, .. } if *of == args(1)));
        life.remove(place);
    });
}

#[test]
fn c5_sees_what_reaches_another_key() {
    plant(Check::C5, |life| {
        let place = at(life, ended(1));
        let ending = Ending::Answer { result: result(2), bytes: length(2) };
        life[place].1 = What::Ended { call: Call(1), ending };
    });
    plant(Check::C5, |life| life.push((BOB, What::Heard { from: key(SERVER), said: Digest(7) })));
}

#[test]
fn c5_sees_what_is_sealed_for_another_key() {
    let sealed = |of: u64| move |what: &What| matches!(what, What::Signed { answer: Some(answer), .. } if *answer == result(of));
    // The right answer, under the right request, for somebody else.
    plant(Check::C5, |life| {
        let place = at(life, sealed(1));
        life[place].1 = answering(1, 1, BOB);
    });
    // Another one's answer, for him who asked.
    plant(Check::C5, |life| {
        let place = at(life, sealed(1));
        life[place].1 = answering(2, 1, ALICE);
    });
    // What it answers says that it was not he who asked.
    plant(Check::C5, |life| {
        let place = at(life, sealed(1));
        life[place].1 = answering(1, 2, ALICE);
    });
}

#[test]
fn c5_holds_for_hostile_readers_as_well() {
    let mut life = life();
    life[1].1 = What::Joined { key: key(BOB), honest: false, encrypted: false };
    assert_eq!(judge(&life, &Expect::default()), []);
    life.push((BOB, What::Heard { from: key(SERVER), said: Digest(7) }));
    assert_eq!(judge(&life, &Expect::default()), [Check::C5]);
}

#[test]
fn c7_sees_a_table_over_its_limit_and_one_that_grows() {
    let limits = Expect::default().limits;
    let over = [
        load(|load| load.seen_ids = limits.seen_ids + 1),
        load(|load| load.in_flight = limits.in_flight + 1),
        load(|load| load.ledger_bytes = limits.ledger_bytes + 1),
        load(|load| load.streams = limits.streams + 1),
        load(|load| load.unremembered = 100_000),
    ];
    for load in over {
        plant(Check::C7, |life| life.push((SERVER, What::Load(load))));
    }
    let month = |size: fn(u64) -> usize| {
        let joined = What::Joined { key: key(SERVER), honest: true, encrypted: false };
        let days = (0..30).map(move |day| {
            let load = load(|load| load.publications = size(day));
            (day * 86_400 * SECOND, SERVER, What::Load(load))
        });
        judge_timed([(0, SERVER, joined)].into_iter().chain(days), &Expect::default())
    };
    assert_eq!(month(|day| 20 + (day as usize * 7) % 13), []);
    assert_eq!(month(|day| 20 + day as usize * 3), [Check::C7]);
}

#[test]
fn c7_sees_a_client_and_a_driver_over_their_limits() {
    let limits = Expect::default().limits;
    let mut client = ClientLoad::default();
    client.pending = limits.pending + 1;
    plant(Check::C7, |life| life.push((ALICE, What::ClientLoad(client))));
    let kept = limits.pending + limits.outbound_events + 1;
    let port = PortLoad { kept, ..PortLoad::default() };
    plant(Check::C7, |life| life.push((ALICE, What::PortLoad(port))));
}

#[test]
fn c8_sees_plaintext_from_and_to_those_who_never_use_it() {
    plant(Check::C8, |life| {
        life.push((ALICE, signed(id(60), SERVER, false)));
    });
    plant(Check::C8, |life| {
        life.push((SERVER, signed(id(61), ALICE, false)));
    });
}

#[test]
fn c10_sees_a_large_message_that_is_not_whole() {
    plant(Check::C10, |life| {
        let place = at(life, executed(3));
        let What::Executed { bytes, .. } = &mut life[place].1 else { unreachable!() };
        *bytes -= 1;
    });
    plant(Check::C10, |life| {
        let place = at(life, executed(3));
        let What::Executed { bytes, args, .. } = &mut life[place].1 else { unreachable!() };
        (*bytes, *args) = (*bytes - 1, Digest(3));
    });
    plant(Check::C10, |life| {
        let place = at(life, ended(3));
        let ending = Ending::Answer { result: Digest(3), bytes: length(3) - 1 };
        life[place].1 = What::Ended { call: Call(3), ending };
    });
}

#[test]
fn c11_sees_streams_that_are_no_prefix_or_have_no_end_or_two() {
    let stream_end = |what: &What| matches!(what, What::StreamEnded { .. });
    plant(Check::C11, |life| drop(life.remove(at(life, chunk(0)))));
    plant(Check::C11, |life| {
        let first = at(life, chunk(0));
        life.swap(first, first + 1);
    });
    plant(Check::C11, |life| {
        let place = at(life, chunk(1));
        life[place].1 = What::Chunk { call: Call(3), index: 1, data: "two thr33".into() };
    });
    plant(Check::C11, |life| drop(life.remove(at(life, stream_end))));
    plant(Check::C11, |life| life.push(life[at(life, stream_end)].clone()));
    plant(Check::C11, |life| drop(life.remove(at(life, chunk(1)))));
    plant(Check::C11, |life| drop(life.remove(at(life, |what| matches!(what, What::Closed { .. })))));
    plant(Check::C11, |life| {
        let end = at(life, stream_end);
        life.insert(end + 1, (ALICE, What::Chunk { call: Call(3), index: 2, data: "".into() }));
    });
}

#[test]
fn c11_lets_a_stream_fail_anywhere() {
    let mut life = life();
    life.remove(at(&life, chunk(1)));
    let close = at(&life, |what| matches!(what, What::Closed { .. }));
    life[close].1 = What::GaveUp { caller: key(ALICE), args: args(3) };
    let end = at(&life, |what| matches!(what, What::StreamEnded { .. }));
    life[end].1 = What::StreamEnded { call: Call(3), complete: false };
    assert_eq!(judge(&life, &Expect::default()), [], "its writer gave up");
}

#[test]
fn c13_sees_what_drivers_log_as_an_error() {
    plant(Check::C13, |life| life.push((SERVER, What::Error("opening an event ended in a panic"))));
}

#[test]
fn c13_sees_drops_that_nobody_honest_can_cause() {
    let judged = |honest: bool, drop: fn(&mut Checks)| {
        let mut checks = Checks::new(&Expect { honest, ..Expect::default() });
        drop(&mut checks);
        checks.violations().iter().map(|violation| violation.check).collect::<Vec<_>>()
    };
    for drop in [
        (|checks| checks.dropped(1, SERVER, DropReason::WrongAuthor)) as fn(&mut Checks),
        |checks| checks.dropped(1, SERVER, DropReason::Malformed),
        |checks| checks.unopened(1, SERVER, "signature"),
    ] {
        assert_eq!((judged(true, drop), judged(false, drop)), (vec![Check::C13], vec![]));
    }
    for drop in [(|checks| checks.dropped(1, SERVER, DropReason::Duplicate)) as fn(&mut Checks), |checks| {
        checks.unopened(1, SERVER, "age")
    }] {
        assert_eq!(judged(true, drop), []);
    }
}
