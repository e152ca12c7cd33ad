//! Worlds that several stories live in.
use contextvm_sim::knobs::{Knobs, Mix};
use contextvm_sim::omit::Omit;
use contextvm_sim::plan::{Acts, CallPlan, Happening, Plan, Planned};
use contextvm_sim::time::MS;
use contextvm_sim::trace::Call;
use contextvm_sim::world::{Outcome, Setup, World};

/// Plans so many small calls of these clients, one every fifth of a second, from the third second on.
pub(crate) fn calls(count: u64, clients: u16) -> Plan {
    let planned = (0..count).map(|nth| Planned { at: 3_000 * MS + nth * 200 * MS, what: call(nth, clients) });
    Plan { planned: planned.collect(), ends: 3_000 * MS + count * 200 * MS }
}

/// One small call.
pub(crate) fn call(nth: u64, clients: u16) -> Happening {
    Happening::Call(plain_call(nth, (nth % u64::from(clients)) as u16))
}

/// The same, to be changed.
pub(crate) fn plain_call(nth: u64, client: u16) -> CallPlan {
    CallPlan {
        call: Call(nth),
        client,
        harmless: nth.is_multiple_of(3),
        asks: 100,
        answers: 200,
        takes: Some(5 * MS),
        acts: Acts::default(),
        cancels: None,
        reads: false,
        stops: None,
    }
}

/// Runs a calm world with large messages, streams and several clients.
pub(crate) fn rich(seed: u64, setup: Setup) -> Outcome {
    let knobs = Knobs { work: Mix { streams: 100, ..Mix::small() }, ..Knobs::calm() };
    let mut plan = calls(setup.calls, 3);
    for (nth, planned) in plan.planned.iter_mut().enumerate() {
        let Happening::Call(call) = &mut planned.what else { continue };
        match nth % 10 {
            2 => call.asks = 90_000,
            5 => call.answers = 90_000,
            8 => (call.harmless, call.acts.progress) = (false, 3),
            7 => {
                call.harmless = false;
                (call.acts.streams, call.reads, call.takes) = (50_000, true, Some(2_000 * MS));
            }
            _ => {}
        }
    }
    World::with(seed, setup, knobs, plan).run()
}

/// Leaves hostile clients and servers out: of these nothing is promised.
pub(crate) fn no_hostile_peers() -> Omit {
    let knobs = ["hostile_clients", "hostile_servers"].map(str::to_owned).into();
    Omit { knobs, ..Omit::default() }
}
