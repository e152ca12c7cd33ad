//! The plan of a world that goes on for days: a burst of calls each hour, visitors, restarts, sleep, and quiet small hours.
use crate::knobs::Knobs;
use crate::plan::{Acts, CallPlan, Happening, Plan, Planned};
use crate::rng::Rng;
use crate::time::{MS, SEC};
use crate::trace::{Call, Host};
use crate::workload::FIRST;

const HOUR: u64 = 3_600 * SEC;
const DAY: u64 = 24 * HOUR;
/// Nobody does anything in these hours, but for one ping.
const NIGHT: std::ops::Range<u64> = 2..5;
/// When that is, in the day.
const PING: u64 = 4 * HOUR + 50 * 60 * SEC;
/// How long the calls of an hour take.
const BURST: u64 = 10 * SEC;
/// Fewest calls of a day.
const FEWEST: u64 = 500;
/// Clients that are there all the time; the last but one sleeps at night.
pub(crate) const RESIDENTS: usize = 3;
const SLEEPER: u16 = 1;
/// Clients that come on each day, with keys of their own.
pub(crate) const VISITORS: usize = 5;

/// Whether a time of such a world is in its small hours.
pub(crate) const fn is_night(at: u64) -> bool {
    let hour = at % DAY / HOUR;
    NIGHT.start <= hour && hour < NIGHT.end
}

/// When a visitor comes and goes, microseconds.
pub(crate) const fn visit(nth: u64) -> (u64, u64) {
    let morning = (nth / VISITORS as u64) * DAY;
    (morning + 5 * HOUR + nth % VISITORS as u64 * 60 * SEC, morning + 25 * HOUR + HOUR / 2)
}

/// Draws the plan of so many days.
pub(crate) fn draw(seed: u64, knobs: &Knobs, days: u64, calls: u64) -> Plan {
    let mut plan = Plan::default();
    let hours = 24 - (NIGHT.end - NIGHT.start);
    let each = calls.max(days * FEWEST).div_ceil(days.max(1) * hours);
    let mut number = 0;
    for day in 0..days {
        let mut of_day = 0;
        for hour in (0..24).filter(|hour| !NIGHT.contains(hour)) {
            let begins = day * DAY + hour * HOUR + FIRST;
            for nth in 0..each {
                let mut rng = Rng::of(seed, "call", number);
                let at = begins + BURST / each * nth + rng.below(BURST / each);
                let call = call(number, of_day, caller(day, hour, &mut rng), &mut rng);
                plan.planned.push(Planned { at, what: Happening::Call(call) });
                number += 1;
                of_day += 1;
            }
        }
        let mut rng = Rng::of(seed, "call", number);
        let ping = CallPlan { harmless: true, ..call(number, u64::MAX, 0, &mut rng) };
        number += 1;
        let at = |time: u64| day * DAY + time;
        let events = [
            (PING, Happening::Call(ping)),
            // Three days of four it stops as it should be able to at any time.
            (
                13 * HOUR + HOUR / 2,
                Happening::Crash { host: Host::Server(0), torn: day % 3 == 2, down: rng.delay(SEC) },
            ),
            (15 * HOUR, Happening::Jump { host: Host::Server(0), by: if day % 2 == 0 { 30 } else { -30 } }),
            (22 * HOUR, Happening::Sleeps { host: Host::Client(SLEEPER), lasts: 8 * HOUR }),
        ];
        plan.planned.extend(events.map(|(time, what)| Planned { at: at(time), what }));
    }
    for visitor in 0..knobs.visitors as u64 {
        let host = Host::Client(RESIDENTS as u16 + visitor as u16);
        let (_, at) = visit(visitor);
        plan.planned.push(Planned { at, what: Happening::Leaves { host, down: None } });
    }
    plan.ends = days * DAY;
    plan
}

/// Draws who calls in an hour: residents that are awake, and in the day its visitors.
fn caller(day: u64, hour: u64, rng: &mut Rng) -> u16 {
    let visitors = VISITORS as u64;
    if (6..24).contains(&hour) && rng.chance(500) {
        return RESIDENTS as u16 + (day * visitors + rng.below(visitors)) as u16;
    }
    let caller = rng.below(RESIDENTS as u64) as u16;
    let sleeps = !(7..22).contains(&hour) && caller == SLEEPER;
    if sleeps { 0 } else { caller }
}

/// Draws one call; which it is of its day decides what is special about it.
fn call(number: u64, of_day: u64, client: u16, rng: &mut Rng) -> CallPlan {
    let streams = matches!(of_day, 150 | 250 | 350);
    let large = |is_large: bool, small: u64| if is_large { 90_000 } else { small };
    let acts = Acts {
        streams: if streams { 50_000 } else { 0 },
        progress: if of_day % 20 == 7 { 2 } else { 0 },
        ..Acts::default()
    };
    CallPlan {
        call: Call(number),
        client,
        harmless: !streams && rng.chance(300),
        asks: large(of_day == 100, rng.below(400)),
        answers: large(of_day == 200, rng.below(400)),
        takes: Some(if rng.chance(50) { rng.delay(SEC) } else { rng.delay(2 * MS) }),
        acts,
        cancels: matches!(of_day, 50 | 120 | 180 | 260 | 330).then(|| rng.delay(20 * MS)),
        reads: streams,
        stops: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_has_its_bursts_and_its_quiet_hours() {
        let knobs = Knobs { clients: RESIDENTS + 2 * VISITORS, visitors: 2 * VISITORS, ..Knobs::days() };
        let plan = draw(1, &knobs, 2, 300);
        let calls = |from: u64, to: u64| {
            let is_call = |planned: &&Planned| matches!(planned.what, Happening::Call(_));
            plan.planned.iter().filter(is_call).filter(|call| (from..to).contains(&call.at)).count()
        };
        assert!(calls(DAY, 2 * DAY) as u64 >= FEWEST);
        assert_eq!(calls(2 * HOUR, 5 * HOUR), 1, "the ping");
        assert_eq!(calls(9 * HOUR, 9 * HOUR + FIRST + BURST), calls(9 * HOUR, 10 * HOUR));
    }

    #[test]
    fn who_calls_is_there() {
        let knobs = Knobs { clients: RESIDENTS + 3 * VISITORS, visitors: 3 * VISITORS, ..Knobs::days() };
        for planned in draw(2, &knobs, 3, 300).planned {
            let Happening::Call(call) = planned.what else { continue };
            if let Some(visitor) = usize::from(call.client).checked_sub(RESIDENTS) {
                let (comes, goes) = visit(visitor as u64);
                assert!(comes + 10 * 60 * SEC < planned.at && planned.at < goes, "{call:?}");
            }
        }
    }
}
