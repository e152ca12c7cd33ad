//! What excuses a refusal for want of room, each shown with its neighbour that is not excused.
use super::*;
use crate::check::LARGE;

/// Lets a call of Alice be refused after the given entries, and says whether anybody is to blame.
fn is_blamed(expect: &Expect, before: Vec<(u64, Host, What)>, at: u64) -> bool {
    let join = |host| (0, host, What::Joined { key: key(host), honest: true, encrypted: true });
    let path = |client| (0, SERVER, What::Path { client, server: 0, good: true, clocks: true });
    let mut life = vec![join(ALICE), join(BOB), join(SERVER), path(0), path(1)];
    life.extend(before);
    life.extend([
        (at, ALICE, issued(50, false)),
        (at, ALICE, signed(id(50), SERVER, true)),
        (at + 1, ALICE, What::Ended { call: Call(50), ending: Ending::Error(-32_000) }),
    ]);
    judge_timed(life.into_iter(), expect).contains(&Check::C6)
}

fn executed(call: u64) -> What {
    What::Executed { caller: key(ALICE), id: None, args: args(call), bytes: 9, unix: UNIX }
}

fn returned(call: u64) -> What {
    What::Returned { caller: key(ALICE), args: args(call), result: result(call), bytes: 9 }
}

fn cancelled(call: u64) -> What {
    What::Ended { call: Call(call), ending: Ending::Cancelled }
}

#[test]
fn c6_counts_what_a_caller_cancelled_before_its_server_began_with_it() {
    let mut expect = Expect::default();
    expect.limits.in_flight_per_caller = 2;
    let timeout = expect.limits.request_timeout.as_micros() as u64;
    let blamed = |calls: &[u64], works: &[What], pause: u64| {
        let of = |call: &u64| {
            let mut life = vec![(1, ALICE, issued(*call, false))];
            life.extend(works.iter().map(|work| match work {
                What::Executed { .. } => (2, SERVER, executed(*call)),
                _ => (2, SERVER, returned(*call)),
            }));
            life.push((3, ALICE, cancelled(*call)));
            life
        };
        let mut before: Vec<_> = calls.iter().flat_map(of).collect();
        before.sort_by_key(|(at, _, _)| *at);
        is_blamed(&expect, before, 3 + pause)
    };
    assert_eq!((blamed(&[4, 6], &[], timeout - 1), blamed(&[4, 6], &[], timeout)), (false, true));
    assert!(blamed(&[4], &[], 1), "one place is left");
    let (began, ended) = (executed(4), returned(4));
    assert!(!blamed(&[4, 6], std::slice::from_ref(&began), 1), "it works on both");
    assert!(blamed(&[4, 6], &[began, ended], 1), "it has answered both");
}

#[test]
fn c6_counts_what_a_caller_waits_for_together_with_what_it_cancelled() {
    let mut expect = Expect::default();
    expect.limits.in_flight_per_caller = 3;
    let blamed = |waits: &[u64]| {
        let issue = |call: &u64| (1, ALICE, issued(*call, false));
        let mut before: Vec<_> = [4, 6].iter().chain(waits).map(issue).collect();
        before.extend([4, 6].map(|call| (2, SERVER, executed(call))));
        before.extend([4, 6].map(|call| (3, ALICE, cancelled(call))));
        is_blamed(&expect, before, 4)
    };
    assert_eq!((blamed(&[]), blamed(&[7])), (true, false));
}

#[test]
fn c6_counts_large_answers_that_relays_may_not_have_taken_yet() {
    let mut expect = Expect::default();
    expect.limits.in_flight_per_caller = 2;
    let timeout = expect.limits.request_timeout.as_micros() as u64;
    let blamed = |bytes: u64, pause: u64| {
        let of = |call: u64| {
            let (caller, args, result) = (key(ALICE), args(call), result(call));
            [
                (1, ALICE, issued(call, false)),
                (2, SERVER, executed(call)),
                (3, SERVER, What::Returned { caller, args, result, bytes }),
                (4, ALICE, What::Ended { call: Call(call), ending: Ending::Answer { result, bytes } }),
            ]
        };
        let mut before: Vec<_> = [4, 6].into_iter().flat_map(of).collect();
        before.sort_by_key(|(at, _, _)| *at);
        is_blamed(&expect, before, 3 + pause)
    };
    assert_eq!((blamed(LARGE, 2), blamed(LARGE, timeout)), (false, true));
    assert!(blamed(LARGE - 1, 2), "a small one is one event");
}

#[test]
fn c6_counts_nothing_that_a_server_worked_on_before_it_died() {
    let mut expect = Expect::default();
    expect.limits.in_flight_per_caller = 2;
    let blamed = |end: What| {
        let mut before: Vec<_> = [4, 6].map(|call| (1, ALICE, issued(call, false))).into();
        before.extend([4, 6].map(|call| (2, SERVER, executed(call))));
        before.extend([4, 6].map(|call| (3, ALICE, cancelled(call))));
        before.push((4, SERVER, end));
        is_blamed(&expect, before, 5)
    };
    assert_eq!((blamed(What::Crashed), blamed(What::Woke)), (true, false));
}

#[test]
fn c6_excuses_a_long_line_of_a_caller_only_to_who_said_as_much_and_while_it_is_there() {
    let mut expect = Expect::default();
    expect.limits.in_flight_per_caller = 3;
    let patience = expect.limits.request_timeout.as_micros() as u64;
    let blamed = |waiting: usize, who: Host, events: u8, pause: u64| {
        let mut before: Vec<_> = (0..events).map(|nth| (1, who, signed(id(nth), SERVER, true))).collect();
        before.push((2, SERVER, What::Load(load(|load| load.waiting = waiting))));
        is_blamed(&expect, before, 1 + pause)
    };
    assert!(!blamed(3, ALICE, 2, 2), "two messages and this one");
    assert!(blamed(2, ALICE, 2, 2), "nobody's line is full");
    assert!(blamed(3, ALICE, 1, 2), "the line is not hers alone");
    assert!(blamed(3, BOB, 3, 2), "it is somebody else's line");
    assert_eq!((blamed(3, ALICE, 2, patience), blamed(3, ALICE, 2, patience + 1)), (false, true));
}

#[test]
fn c6_excuses_scarce_ids_only_to_callers_who_have_no_part_in_the_last_quarter() {
    let mut expect = Expect::default();
    expect.limits.seen_ids = 64;
    let blamed = |ids: usize, events: u8, last: Option<What>| {
        let mut before = vec![(1, ALICE, issued(4, false)), (2, SERVER, executed(4))];
        before.extend((0..events).map(|nth| (2, ALICE, signed(id(nth), SERVER, true))));
        before.push((3, SERVER, returned(4)));
        before.extend(last.map(|what| (4, SERVER, what)));
        before.push((5, SERVER, What::Load(load(|load| load.seen_ids = ids))));
        is_blamed(&expect, before, 6)
    };
    assert_eq!((blamed(47, 3, None), blamed(48, 3, None)), (true, false), "she has said much");
    assert_eq!((blamed(62, 2, None), blamed(63, 2, None)), (true, false), "the last is for refusals");
    for forgets in [What::Crashed, What::Left { caller: Some(key(ALICE)) }] {
        assert_eq!((blamed(47, 0, Some(forgets.clone())), blamed(48, 0, Some(forgets))), (true, false));
    }
    assert!(blamed(48, 0, Some(What::Left { caller: Some(key(BOB)) })), "that is somebody else");
}

#[test]
fn c6_excuses_a_server_that_is_half_full_only_to_callers_that_it_does_not_know() {
    let mut expect = Expect::default();
    expect.limits.in_flight = 64;
    let blamed = |in_flight: usize, was_answered: bool| {
        let mut before = vec![(1, ALICE, issued(4, false)), (2, SERVER, executed(4))];
        before.extend(was_answered.then(|| (3, SERVER, returned(4))));
        before.push((5, SERVER, What::Load(load(|load| load.in_flight = in_flight))));
        is_blamed(&expect, before, 6)
    };
    assert_eq!((blamed(31, false), blamed(32, false)), (true, false), "half is for strangers");
    assert_eq!(
        (blamed(47, true), blamed(48, true)),
        (true, false),
        "the last quarter is for callers that have few"
    );
}

#[test]
fn c6_counts_transfers_that_a_relay_played_back_to_a_server_that_died_with_what_its_caller_said() {
    let mut expect = Expect::default();
    expect.limits.in_flight_per_caller = 3;
    let blamed = |end: What, events: u8, transfers: usize| {
        let mut before = vec![(1, SERVER, end)];
        before.extend((0..events).map(|nth| (2, ALICE, signed(id(nth), SERVER, true))));
        before.push((3, SERVER, What::Load(load(|load| load.transfers_in = transfers))));
        is_blamed(&expect, before, 4)
    };
    assert!(!blamed(What::Crashed, 2, 1), "two messages, this one and a transfer of before");
    assert!(blamed(What::Crashed, 2, 0), "nothing was played back");
    assert!(blamed(What::Crashed, 1, 1), "one place is left");
    assert!(blamed(What::Woke, 2, 1), "the server never died");
}
