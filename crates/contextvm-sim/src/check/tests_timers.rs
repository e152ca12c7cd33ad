//! The checker of timers, shown to fail.
use super::*;

#[test]
fn c12_sees_wakes_in_the_past_and_without_end() {
    plant(Check::C12, |life| life.push((SERVER, What::Timer { due: SECOND })));
    let woken = |times: u64| {
        let wakes = (0..times).map(|nth| (nth * 50, SERVER, What::Woke));
        judge_timed(wakes, &Expect::default())
    };
    assert_eq!((woken(50), woken(51)), (vec![], vec![Check::C12]));
    let publishes = |times: u64| {
        let load = |open: u64| What::Load(load(|load| load.publications = open as usize));
        let ended =
            |nth: u64| [(nth * 50, SERVER, What::Woke), (nth * 50, SERVER, load(9_u64.saturating_sub(nth)))];
        let wakes = (0..times).flat_map(ended);
        judge_timed(std::iter::once((0, SERVER, load(9))).chain(wakes), &Expect::default())
    };
    assert_eq!((publishes(59), publishes(60)), (vec![], vec![Check::C12]));
    let waits = |times: u64, later: u64| {
        let said = (0, ALICE, signed(id(1), SERVER, true));
        let wakes = (0..times).map(|nth| (later * SECOND + nth * 50, ALICE, What::Woke));
        judge_timed(std::iter::once(said).chain(wakes), &Expect::default())
    };
    assert_eq!((waits(58, 11), waits(59, 11), waits(51, 12)), (vec![], vec![Check::C12], vec![Check::C12]));
    let gives_up = |times: u64| {
        let ended = (0, ALICE, What::Ended { call: Call(1), ending: Ending::Lost(Lost::NoReply) });
        let wakes = (0..times).map(|nth| (nth * 50, ALICE, What::Woke));
        judge_timed(std::iter::once(ended).chain(wakes), &Expect::default())
    };
    assert_eq!((gives_up(70), gives_up(71)), (vec![], vec![Check::C12]));
}

#[test]
fn c12_sees_connections_that_are_woken_for_nothing() {
    let woken = |wakes: u64, stirs: u64| {
        let mut checks = Checks::default();
        (0..stirs).for_each(|_| checks.stirred(SECOND, SERVER, false));
        (0..wakes).for_each(|_| checks.stirred(SECOND, SERVER, true));
        checks.violations().iter().map(|violation| violation.check).collect::<Vec<_>>()
    };
    assert_eq!((woken(90, 2), woken(91, 2)), (vec![], vec![Check::C12]));
}
