//! The checkers of tables at rest, each shown to fail.
use super::*;

#[test]
fn c7_sees_what_is_still_held_at_rest() {
    let rest = |host: Host, held: What, deep: bool| {
        let mut life = life();
        life.extend([(host, held), (host, What::Rest { busy: 0, deep, records: 0 })]);
        judge(&life, &Expect::default())
    };
    let client = |set: fn(&mut ClientLoad)| {
        let mut load = ClientLoad::default();
        set(&mut load);
        What::ClientLoad(load)
    };
    let kept = What::PortLoad(PortLoad { kept: 1, ..PortLoad::default() });
    assert_eq!(rest(ALICE, kept, false), [Check::C7], "a ticket that was never forgotten");
    assert_eq!(rest(ALICE, client(|load| load.pending = 1), false), [Check::C7]);
    assert_eq!(rest(ALICE, client(|load| load.asked = 1), false), [Check::C7]);
    let server = |set: fn(&mut ServerLoad)| What::Load(load(set));
    assert_eq!(rest(SERVER, server(|load| load.in_flight = 1), false), [Check::C7]);
    for set in [(|load| (load.in_flight, load.streams) = (2, 1)) as fn(&mut ServerLoad), |load| {
        (load.in_flight, load.held) = (2, 1)
    }] {
        assert_eq!(
            rest(SERVER, server(set), false),
            [Check::C7],
            "one of two waits for neither reader nor disk"
        );
    }
    for set in [
        (|load| (load.in_flight, load.streams) = (1, 1)) as fn(&mut ServerLoad),
        |load| (load.in_flight, load.held) = (1, 1),
        |load| load.publications = 1,
        |load| load.transfers_out = 1,
        |load| load.streams = 1,
        |load| load.held = 1,
        |load| load.seen_ids = 3,
        |load| load.sessions = 3,
        |load| load.ledger_bytes = 10_000,
    ] {
        assert_eq!(
            (rest(SERVER, server(set), false), rest(SERVER, server(set), true)),
            (vec![], vec![Check::C7])
        );
    }
    let idle = (SERVER, What::Rest { busy: 0, deep: true, records: 9 });
    plant(Check::C7, |life| life.push(idle));
    let mut busy = life();
    busy.extend([
        (SERVER, server(|load| load.in_flight = 1)),
        (SERVER, What::Rest { busy: 1, deep: false, records: 0 }),
    ]);
    assert_eq!(judge(&busy, &Expect::default()), [], "its tool is at work");
}

#[test]
fn c7_sees_timers_that_pile_up_night_by_night() {
    let nights = |each: usize| {
        let world = Host::Relay(u16::MAX);
        let rest = |night: u64| What::Rest { busy: 0, deep: true, records: 100 + each * night as usize };
        judge_timed((0..9).map(|night| (night * 86_400 * SECOND, world, rest(night))), &Expect::default())
    };
    assert_eq!((nights(1), nights(4)), (vec![], vec![Check::C7]));
}
