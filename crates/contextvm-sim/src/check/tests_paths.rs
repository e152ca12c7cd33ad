//! The checkers of honest paths, of what excuses a loss, and of the time that calls take, each shown to fail.
use super::*;

/// Takes a request's execution and answer out, and lets it be lost.
fn lose(life: &mut Vec<(Host, What)>, call: u64, ending: Ending) {
    let place = at(life, ended(call));
    life[place].1 = What::Ended { call: Call(call), ending };
    life.retain(|(_, what)| match what {
        What::Executed { args: of, .. } | What::Returned { args: of, .. } => *of != args(call),
        _ => true,
    });
}

const NO_REPLY: Ending = Ending::Lost(Lost::NoReply);

#[test]
fn c6_sees_whatever_ends_a_call_without_its_answer_on_an_honest_path() {
    for ending in
        [NO_REPLY, Ending::Lost(Lost::NotSent), Ending::Lost(Lost::Transfer), Ending::Error(-32_000)]
    {
        plant(Check::C6, |life| lose(life, 2, ending));
    }
    for ending in [Lost::Busy, Lost::Closed, Lost::Malformed, Lost::TooLarge].map(Ending::Lost) {
        plant(Check::C6, |life| lose(life, 2, ending));
    }
    let mut unlucky = life();
    lose(&mut unlucky, 2, NO_REPLY);
    unlucky.insert(8, (SERVER, What::Path { client: 1, server: 0, good: false, clocks: true }));
    assert_eq!(judge(&unlucky, &Expect::default()), [], "without a path a call may be lost");
    let complete = Expect { complete: true, ..Expect::default() };
    assert_eq!(judge(&unlucky, &complete), [Check::C6], "but not where every call is to be answered");
}

#[test]
fn c6_excuses_an_application_without_room_only_by_the_error_that_says_so() {
    for (ending, verdict) in [(Ending::Error(-32_000), vec![]), (NO_REPLY, vec![Check::C6])] {
        let mut life = life();
        unread(&mut life, 2);
        lose(&mut life, 2, ending);
        assert_eq!(judge(&life, &Expect::default()), verdict, "{ending:?}");
    }
}

#[test]
fn c6_excuses_a_loss_by_what_was_in_its_way_at_that_time_only() {
    let limits = Expect::default().limits;
    let full = What::Load(load(|load| load.in_flight = limits.in_flight));
    let troubles = [
        (SERVER, What::Crashed),
        (SERVER, What::SignerFailed),
        (BOB, What::SignerFailed),
        (SERVER, What::Jumped { by: 3 }),
        (SERVER, What::Left { caller: Some(key(BOB)) }),
        (SERVER, full.clone()),
    ];
    for (host, trouble) in troubles {
        let mut life = life();
        lose(&mut life, 2, NO_REPLY);
        let during = at(&life, ended(2));
        life.insert(during, (host, trouble.clone()));
        assert_eq!(judge(&life, &Expect::default()), [], "{trouble:?}");
        let before = at(&life, |what| matches!(what, What::Issued { call: Call(2), .. }));
        let moved = life.remove(at(&life, |what| *what == trouble));
        life.insert(before, moved);
        if trouble == full {
            assert_eq!(judge(&life, &Expect::default()), [], "it is full still");
            continue;
        }
        assert_eq!(judge(&life, &Expect::default()), [Check::C6], "{trouble:?} was over");
    }
}

/// A call that was answered.
fn met(client: Host) -> Vec<(Host, What)> {
    [asked(1, client), answered(1, client)].concat()
}

#[test]
fn c6_sees_a_loss_on_a_path_that_came_up_late_or_was_away_for_a_moment() {
    let lost_after = |path_at: u64, client: Host, life_before: &[(Host, What)]| {
        let Host::Client(number) = client else { unreachable!() };
        let path = |good| What::Path { client: number, server: 0, good, clocks: true };
        let join = |host| What::Joined { key: key(host), honest: true, encrypted: host == ALICE };
        let mut life = vec![(0, client, join(client)), (0, SERVER, join(SERVER)), (0, SERVER, path(true))];
        life.extend(life_before.iter().map(|(host, what)| (SECOND / 2, *host, what.clone())));
        life.extend([
            (SECOND, client, issued(4, true)),
            (path_at - 1_000, SERVER, path(false)),
            (path_at, SERVER, path(true)),
            (60 * SECOND, client, What::Ended { call: Call(4), ending: NO_REPLY }),
            (60 * SECOND, client, What::StreamEnded { call: Call(4), complete: false }),
        ]);
        judge_timed(life.into_iter(), &Expect::default())
    };
    assert_eq!(lost_after(10 * SECOND, ALICE, &met(ALICE)), [Check::C6], "a millisecond excuses nothing");
    assert_eq!(lost_after(30 * SECOND, ALICE, &met(ALICE)), [], "half a minute may be too short");
    assert_eq!(
        lost_after(10 * SECOND, BOB, &met(BOB)),
        [],
        "what went out in plaintext is not wrapped again"
    );
    assert_eq!(lost_after(10 * SECOND, ALICE, &[]), [], "who was never answered does not know its server");
    let again = [(ALICE, What::Crashed), (ALICE, What::Restarted { journal: true })];
    assert_eq!(
        lost_after(10 * SECOND, ALICE, &[met(ALICE), again.to_vec()].concat()),
        [],
        "nor who began anew"
    );
}

#[test]
fn c6_sees_a_stream_that_breaks_off_behind_its_end_on_an_honest_path() {
    let stream_end = |what: &What| matches!(what, What::StreamEnded { .. });
    plant(Check::C6, |life| {
        let end = at(life, stream_end);
        life[end].1 = What::StreamEnded { call: Call(3), complete: false };
    });
    let mut life = life();
    let end = at(&life, stream_end);
    life[end].1 = What::StreamEnded { call: Call(3), complete: false };
    life.insert(end, (ALICE, What::HadEnough { call: Call(3) }));
    assert_eq!(judge(&life, &Expect::default()), [], "its reader had enough");
}

#[test]
fn c6_sees_a_stream_that_breaks_off_before_its_end_unless_its_tool_gave_it_up() {
    let stream_end = |what: &What| matches!(what, What::StreamEnded { .. });
    let is_close = |what: &What| matches!(what, What::Closed { .. });
    let broken = |life: &mut Vec<(Host, What)>| {
        let end = at(life, stream_end);
        life[end].1 = What::StreamEnded { call: Call(3), complete: false };
        life.remove(at(life, is_close))
    };
    plant(Check::C6, |life| drop(broken(life)));
    let refused = |life: &mut Vec<(Host, What)>| {
        let end = at(life, ended(3));
        life[end].1 = What::Ended { call: Call(3), ending: Ending::Error(-32_000) };
        life.retain(|(_, what)| !matches!(what, What::Returned { args: of, .. } if *of == args(3)));
    };
    let mut endpoint = life();
    broken(&mut endpoint);
    refused(&mut endpoint);
    let mut checks = Checks::new(&complete());
    for (nth, (host, what)) in endpoint.into_iter().enumerate() {
        checks.see(&Entry { at: nth as u64 * SECOND / 10, host, what });
    }
    assert_eq!(checks.broken(), 2, "its stream and its answer: {:?}", checks.violations());

    let mut tool = life();
    let end = at(&tool, stream_end);
    let (host, closed) = broken(&mut tool);
    refused(&mut tool);
    let What::Closed { caller, args } = closed else { unreachable!() };
    tool.insert(end - 1, (host, What::GaveUp { caller, args }));
    assert_eq!(judge(&tool, &complete()), [], "the tool gave it up");
}

fn complete() -> Expect {
    Expect { complete: true, ..Expect::default() }
}

#[test]
fn c6_lets_a_reader_break_off_what_is_more_than_it_holds_by_its_own_count() {
    let broken = |chunk| {
        let mut life = life();
        let end = at(&life, |what| matches!(what, What::StreamEnded { .. }));
        life[end].1 = What::StreamEnded { call: Call(3), complete: false };
        let mut expect = Expect::default();
        let written = life.iter().map(|(_, what)| match what {
            What::Wrote { data, .. } => data.len(),
            _ => 0,
        });
        expect.limits.stream_buffer = written.sum::<usize>() + 300;
        expect.limits.stream_chunk = chunk;
        judge(&life, &expect)
    };
    assert_eq!(broken(8_000), [Check::C6], "it has room for the text and a few pieces");
    assert_eq!(broken(1), [], "every piece costs a little beside its text");
}

#[test]
fn c6_excuses_a_call_that_was_stamped_while_clocks_disagreed_however_long_it_repeats() {
    let lost = |clocks: bool| {
        let join = |host| What::Joined { key: key(host), honest: true, encrypted: true };
        let path = |good, clocks| What::Path { client: 0, server: 0, good, clocks };
        let mut life = vec![(0, ALICE, join(ALICE)), (0, SERVER, join(SERVER))];
        life.extend(met(ALICE).into_iter().map(|(host, what)| (0, host, what)));
        life.extend([
            (0, SERVER, path(false, clocks)),
            (SECOND, ALICE, issued(4, false)),
            (4 * SECOND, SERVER, path(true, true)),
            (60 * SECOND, ALICE, What::Ended { call: Call(4), ending: NO_REPLY }),
        ]);
        judge_timed(life.into_iter(), &Expect::default())
    };
    assert_eq!((lost(true), lost(false)), (vec![Check::C6], vec![]));
}

#[test]
fn c6_excuses_by_a_disk_only_what_is_not_executed_while_it_stands_still_for_most_of_a_callers_patience() {
    let patience = Expect::default().limits.request_timeout.as_micros() as u64;
    let end = SECOND + patience;
    let lost = |ending, is_executed: bool, (host, at, lasts): (Host, u64, u64)| {
        let join = |host| (0, host, What::Joined { key: key(host), honest: true, encrypted: true });
        let mut life = vec![join(ALICE), join(SERVER), join(OTHER)];
        life.push((0, SERVER, What::Path { client: 0, server: 0, good: true, clocks: true }));
        life.push((SECOND, ALICE, issued(4, false)));
        if is_executed {
            let (caller, args, bytes) = (key(ALICE), args(4), length(4));
            let work = What::Executed { caller, id: None, args, bytes, unix: UNIX };
            life.push((2 * SECOND, SERVER, work));
            life.push((2 * SECOND, SERVER, What::Returned { caller, args, result: result(4), bytes }));
        }
        life.push((at, host, What::Stalled { lasts }));
        life.push((end, ALICE, What::Ended { call: Call(4), ending }));
        life.sort_by_key(|(at, _, _)| *at);
        judge_timed(life.into_iter(), &Expect::default()).contains(&Check::C6)
    };
    let most = (SERVER, 2 * SECOND, patience / 2 + 1);
    assert!(!lost(NO_REPLY, false, most));
    assert!(!lost(Ending::Error(-32_000), false, most), "it may be told that the disk is too slow");
    assert!(!lost(NO_REPLY, false, (SERVER, 0, patience)), "it stood still before");
    assert!(!lost(NO_REPLY, false, (SERVER, 2 * SECOND, 10 * patience)), "and does so still");
    assert!(lost(NO_REPLY, false, (SERVER, 2 * SECOND, patience / 2)), "for not long enough");
    assert!(lost(NO_REPLY, false, (SERVER, end - SECOND, 10 * patience)), "too late to be the reason");
    assert!(lost(NO_REPLY, false, (SERVER, 0, SECOND)), "that was over");
    assert!(lost(NO_REPLY, false, (OTHER, 2 * SECOND, patience)), "that is another server's");
    assert!(lost(NO_REPLY, true, (SERVER, 3 * SECOND, patience)), "it was executed before");
    for ending in [Ending::Lost(Lost::NotSent), Ending::Lost(Lost::Transfer), Ending::Error(-32_603)] {
        assert!(lost(ending, false, most), "no disk says so: {ending:?}");
    }
}

#[test]
fn c6_counts_what_a_caller_waits_for_a_disk_from_when_its_signer_is_done() {
    let patience = Expect::default().limits.request_timeout.as_micros() as u64;
    let (begun, end) = (SECOND, SECOND + patience);
    let lost = |signed_at: u64, from: u64| {
        let join = |host| (0, host, What::Joined { key: key(host), honest: true, encrypted: true });
        let mut life = vec![join(ALICE), join(SERVER)];
        life.push((0, SERVER, What::Path { client: 0, server: 0, good: true, clocks: true }));
        life.push((begun, ALICE, issued(4, false)));
        life.push((signed_at, ALICE, signed(id(50), SERVER, true)));
        life.push((from, SERVER, What::Stalled { lasts: patience }));
        life.push((end, ALICE, What::Ended { call: Call(4), ending: NO_REPLY }));
        judge_timed(life.into_iter(), &Expect::default()).contains(&Check::C6)
    };
    let (half, third) = (begun + patience / 2, end - patience / 3);
    assert!(!lost(half, third), "two thirds of the half that was left");
    assert!(lost(begun, third), "its signer was done at once");
    assert!(lost(half, end - patience / 5), "less than half of what was left");
}

#[test]
fn c6_counts_what_it_judged_and_why_it_did_not() {
    let mut life = life();
    lose(&mut life, 2, NO_REPLY);
    life.insert(8, (SERVER, What::Path { client: 1, server: 0, good: false, clocks: true }));
    let mut checks = Checks::new(&Expect::default());
    for (nth, (host, what)) in life.into_iter().enumerate() {
        checks.see(&Entry { at: nth as u64 * SECOND / 10, host, what });
    }
    let figures = checks.figures();
    assert_eq!((figures.pairs_armed, figures.judged, figures.fair), (2, 2, 3));
    assert_eq!((figures.fair_answered, figures.excused.get(&Excuse::Path)), (2, Some(&1)));
    assert!(figures.is_answered(666) && !figures.is_answered(667));
}

#[test]
fn c6_sees_an_answer_that_takes_longer_than_its_tool_and_the_way() {
    let prompt = |prompt| Expect { complete: true, prompt: Some(prompt), ..Expect::default() };
    // The first call takes two seconds and its tool none of them.
    assert_eq!(judge(&life(), &prompt(4 * SECOND)), []);
    assert_eq!(judge(&life(), &prompt(SECOND / 10)), [Check::C6]);
}

#[test]
fn c1_sees_a_call_that_ends_long_after_its_time() {
    let took = |seconds: u64, reads: bool, between: Option<What>| {
        let join = |host| What::Joined { key: key(host), honest: true, encrypted: true };
        let mut life = vec![
            (0, ALICE, join(ALICE)),
            (0, SERVER, join(SERVER)),
            (0, ALICE, issued(4, reads)),
            (seconds * SECOND, ALICE, What::Ended { call: Call(4), ending: NO_REPLY }),
        ];
        life.extend(reads.then_some((
            seconds * SECOND,
            ALICE,
            What::StreamEnded { call: Call(4), complete: false },
        )));
        life.extend(between.map(|what| (SECOND, ALICE, what)));
        life.sort_by_key(|(at, _, _)| *at);
        judge_timed(life.into_iter(), &Expect::default())
    };
    let timeout = Expect::default().limits.request_timeout.as_secs();
    assert_eq!((took(timeout + 1, false, None), took(timeout + 2, false, None)), (vec![], vec![Check::C1]));
    assert_eq!(took(timeout * 5, true, None), [], "progress and streams lengthen a call");
    assert_eq!(took(timeout * 100, true, None), [Check::C1], "but not for ever");
    assert_eq!(took(timeout + 100, false, Some(What::Slept { lasts: 100 * SECOND })), []);
    let asked = What::Executed { caller: key(SERVER), id: None, args: args(9), bytes: 9, unix: UNIX };
    assert!(!took(timeout * 2, false, Some(asked)).contains(&Check::C1), "it waits while it is asked");
}

/// Lets the large call of a life end with an error although its tool answered it, and a trouble come first.
fn refused(code: i64, bytes: u64, trouble: Option<(Host, What)>, expect: &Expect) -> Vec<Check> {
    let mut life = life();
    let end = at(&life, ended(3));
    life[end].1 = What::Ended { call: Call(3), ending: Ending::Error(code) };
    for (_, what) in &mut life {
        match what {
            What::Returned { args: of, bytes: long, .. } if *of == args(3) => *long = bytes,
            _ => {}
        }
    }
    // Its stream is not what this is about.
    life.retain(|(_, what)| {
        !matches!(
            what,
            What::Wrote { .. } | What::Chunk { .. } | What::Closed { .. } | What::StreamEnded { .. }
        )
    });
    if let Some(trouble) = trouble {
        let place = at(&life, |what| matches!(what, What::Issued { call: Call(3), .. }));
        life.insert(place, trouble);
    }
    judge(&life, expect)
}

#[test]
fn c6_excuses_a_large_answer_only_to_whom_a_server_may_have_forgotten() {
    let usual = Expect::default();
    let crashed = || Some((SERVER, What::Crashed));
    let left = || Some((SERVER, What::Left { caller: Some(key(ALICE)) }));
    let (internal, large) = (-32_603, 100_000);
    assert!(refused(internal, large, None, &usual).contains(&Check::C6), "nobody forgot anybody");
    assert!(!refused(internal, large, crashed(), &usual).contains(&Check::C6));
    assert!(!refused(internal, large, left(), &usual).contains(&Check::C6));
    assert!(refused(internal, 1_000, crashed(), &usual).contains(&Check::C6), "that needs no transfer");
    assert!(refused(-32_001, large, crashed(), &usual).contains(&Check::C6), "that is another error");
    let other = Some((BOB, What::Crashed));
    assert!(refused(internal, large, other, &usual).contains(&Check::C6), "that is somebody else");
}

#[test]
fn c6_excuses_a_lost_transfer_only_of_whom_its_server_had_forgotten() {
    let lost = |ending: Ending, call: u64, trouble: (Host, What), answers_again: bool| {
        let join = |host| (host, What::Joined { key: key(host), honest: true, encrypted: true });
        let path = What::Path { client: 0, server: 0, good: true, clocks: true };
        let mut life: Vec<(Host, What)> = [ALICE, BOB, SERVER].map(join).into();
        life.push((SERVER, path));
        life.extend(asked(1, ALICE));
        life.extend(answered(1, ALICE));
        life.push(trouble);
        if answers_again {
            life.extend(asked(4, ALICE));
            life.extend(answered(4, ALICE));
        }
        life.push((ALICE, issued(call, false)));
        life.push((ALICE, What::Ended { call: Call(call), ending }));
        judge(&life, &Expect::default()).contains(&Check::C6)
    };
    let transfer = Ending::Lost(Lost::Transfer);
    let crashed = || (SERVER, What::Crashed);
    let left = |caller| (SERVER, What::Left { caller: Some(key(caller)) });
    assert!(!lost(transfer, 3, crashed(), false));
    assert!(!lost(transfer, 3, left(ALICE), false));
    assert!(lost(transfer, 3, crashed(), true), "it knows the caller again");
    let transfers = |places: usize, server: Host| {
        let load = What::Load(load(|load| load.transfers_in = places));
        let mut life = life();
        life.insert(
            at(&life, |what| matches!(what, What::Issued { call: Call(1), .. })),
            (server, What::Crashed),
        );
        life.insert(at(&life, |what| matches!(what, What::Issued { call: Call(3), .. })), (SERVER, load));
        lose(&mut life, 3, transfer);
        judge(&life, &Expect::default()).contains(&Check::C6)
    };
    assert!(!transfers(4, SERVER), "all places may be held by what was played back");
    assert!(transfers(3, SERVER), "one is left");
    assert!(transfers(4, OTHER), "its server never died");
    assert!(lost(transfer, 3, left(BOB), false), "it forgot somebody else");
    assert!(lost(transfer, 2, crashed(), false), "that needs no transfer");
    assert!(lost(NO_REPLY, 3, crashed(), false), "that is another end");
}

#[test]
fn c6_excuses_an_answer_that_is_not_kept_only_where_a_ledger_has_no_room_for_it() {
    let usual = Expect::default();
    let kept = usual.limits.ledger_answer as u64;
    let mut small = Expect::default();
    small.limits.ledger_bytes = 99_999;
    assert!(refused(-32_000, kept, None, &usual).contains(&Check::C6), "it is kept");
    assert!(!refused(-32_000, kept + 1, None, &usual).contains(&Check::C6), "it is too large");
    assert!(!refused(-32_000, 1_000, None, &small).contains(&Check::C6), "the ledger is small");
    assert!(refused(-32_001, kept + 1, None, &usual).contains(&Check::C6), "that is another error");
}

#[test]
fn c6_counts_what_a_caller_cancelled_until_its_endpoint_has_forgotten_it() {
    let mut expect = Expect::default();
    expect.limits.in_flight_per_caller = 2;
    let timeout = expect.limits.request_timeout.as_micros() as u64;
    let is_broken = |pause: u64| {
        let join = |host| What::Joined { key: key(host), honest: true, encrypted: true };
        let (caller, at) = (key(ALICE), 4 + pause);
        let executed = |call| What::Executed { caller, id: None, args: args(call), bytes: 9, unix: UNIX };
        let stopped = |call| What::Stopped { caller, args: args(call) };
        let cancelled = |call| What::Ended { call: Call(call), ending: Ending::Cancelled };
        let refused = What::Ended { call: Call(5), ending: Ending::Error(-32_000) };
        let life = vec![
            (0, ALICE, join(ALICE)),
            (0, SERVER, join(SERVER)),
            (0, SERVER, What::Path { client: 0, server: 0, good: true, clocks: true }),
            (1, ALICE, issued(4, false)),
            (2, SERVER, executed(4)),
            (3, ALICE, cancelled(4)),
            (4, SERVER, stopped(4)),
            (4, ALICE, issued(6, false)),
            (4, SERVER, executed(6)),
            (4, ALICE, cancelled(6)),
            (4, SERVER, stopped(6)),
            (at, ALICE, issued(5, false)),
            (at + 1, ALICE, refused),
        ];
        judge_timed(life.into_iter(), &expect).contains(&Check::C6)
    };
    assert_eq!((is_broken(timeout - 1), is_broken(timeout)), (false, true));
}
