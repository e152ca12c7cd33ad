//! A seed is a world: the same once more, and with a part left out the rest is the same.
use contextvm_sim::omit::Omit;
use contextvm_sim::run::run;
use contextvm_sim::trace::{Call, Digest, What};
use contextvm_sim::world::{Setup, World};

fn setup(omit: Omit) -> Setup {
    Setup { calls: 40, keep: true, omit, ..Setup::default() }
}

#[test]
fn the_same_seed_leaves_the_same_trace_and_another_seed_another() {
    let reports: Vec<_> = (0..4).map(|seed| run(seed, &setup(Omit::default()), true)).collect();
    for report in &reports {
        assert_eq!(report.violations, []);
        assert!(reports.iter().filter(|other| other.hash == report.hash).count() == 1, "{reports:?}");
    }
}

#[test]
fn what_is_left_out_changes_no_other_call() {
    let issued = |omit: Omit| -> Vec<(Call, Digest)> {
        let outcome = World::new(3, setup(omit)).run();
        let issued = outcome.trace.kept.iter().filter_map(|entry| {
            let What::Issued { call, args, .. } = &entry.what else { return None };
            (call.0 < 1_000).then_some((*call, *args))
        });
        issued.collect()
    };
    let without = Omit { calls: [7, 8].into(), ..Omit::default() };
    let (all, most) = (issued(Omit::default()), issued(without));
    assert!(all.len() > 20, "{} calls", all.len());
    for (call, args) in &most {
        assert!(![7, 8].contains(&call.0), "{call:?} is left out");
        assert!(all.contains(&(*call, *args)), "{call:?} was the same before");
    }
}

#[test]
fn a_knob_that_is_left_out_takes_its_own_events_and_moves_no_other() {
    for name in ["notes", "closed", "lose_up", "large_requests", "hostile_relays"] {
        let omit = Omit { knobs: [name.to_owned()].into(), ..Omit::default() };
        let [all, most] = [Omit::default(), omit].map(|omit| World::draw(3, &setup(omit)).1);
        assert_eq!(all.planned.len(), most.planned.len(), "{name}");
        for (before, after) in all.planned.iter().zip(&most.planned) {
            if before.what.knob().is_some() {
                assert_eq!(before, after, "{name}");
            }
            assert_eq!(before.at, after.at, "{name}");
        }
    }
}
