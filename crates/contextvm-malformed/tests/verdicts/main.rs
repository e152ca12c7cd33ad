//! Every malformed input through the pure crates, against the tables.
#![cfg(test)]
use std::collections::{BTreeMap, BTreeSet};

use contextvm_malformed::table::{self, NOW};
use contextvm_malformed::world::{Role, World};
use contextvm_malformed::{Family, judge};

/// Runs a family through the pure crates.
fn check(family: Family, least: usize) {
    let world = World::new(NOW);
    let mut wrong = Vec::new();
    for role in family.roles() {
        let cases = family.cases(&world, *role);
        assert!(cases.len() >= least, "{} cases of {}", cases.len(), family.name());
        let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), cases.len(), "every name stands for one case");
        let mut inputs = BTreeMap::new();
        for case in &cases {
            let other = inputs.insert(&case.input, &case.name);
            assert_eq!(other, None, "{} is the same input", case.name);
        }
        for case in cases {
            let verdict = judge::verdict(family, &case, &world, *role);
            if verdict != case.want {
                wrong.push(format!("{role:?} {}: wanted {:?}, is {verdict:?}", case.name, case.want));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), family.name(), wrong.join("\n"));
    let path = table::path(family);
    if std::env::var_os("CVM_TABLES").is_some() {
        std::fs::write(&path, table::print(family)).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == table::print(family),
        "{} is not what the cases say: CVM_TABLES=1 writes it anew",
        path.display()
    );
}

#[test]
fn events() {
    check(Family::Events, 3_000);
}

#[test]
fn wraps() {
    check(Family::Wraps, 1_500);
}

#[test]
fn messages() {
    check(Family::Messages, 2_000);
}

#[test]
fn transfers() {
    check(Family::Transfers, 1_200);
}

#[test]
fn streams() {
    check(Family::Streams, 1_200);
}

#[test]
fn relays() {
    check(Family::Relays, 600);
}

#[test]
fn documents() {
    check(Family::Documents, 500);
}

/// A caller that is not let in learns and causes nothing, whatever it sends; what is malformed is told apart before that.
#[test]
fn strangers() {
    let world = World::new(NOW);
    let mut wrong = Vec::new();
    for family in [Family::Events, Family::Wraps, Family::Messages] {
        // Here the other one is let in.
        for case in family.cases(&world, Role::Server).into_iter().filter(|case| case.name != "author/other")
        {
            let words: Vec<_> = case.want.split(' ').collect();
            let want = match words.as_slice() {
                ["gate" | "open", ..] => case.want.clone(),
                ["drop", reason @ ("malformed" | "budget"), ..] => format!("drop {reason}"),
                _ => "drop not_allowed".to_owned(),
            };
            let verdict = judge::stranger(family, &case, &world);
            if verdict != want {
                wrong.push(format!("{}: wanted {want:?}, is {verdict:?}", case.name));
            }
        }
    }
    for family in [Family::Transfers, Family::Streams] {
        for case in family.cases(&world, Role::Server) {
            let verdict = judge::stranger(family, &case, &world);
            if !matches!(
                verdict.as_str(),
                "drop not_allowed"
                    | "drop malformed"
                    | "drop not_allowed, drop malformed"
                    | "drop malformed, drop not_allowed"
            ) {
                wrong.push(format!("{}: {verdict:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// The judge says something else as soon as a case is another one.
#[test]
fn a_verdict_that_does_not_fit_is_noticed() {
    let world = World::new(NOW);
    for family in Family::ALL {
        let role = family.roles()[0];
        let cases = family.cases(&world, role);
        let verdicts: BTreeSet<_> =
            cases.iter().map(|case| judge::verdict(family, case, &world, role)).collect();
        assert!(verdicts.len() > 3, "{} has only {verdicts:?}", family.name());
        // Each case with the input of the one that stands a hundred places before it.
        let strange = cases.iter().skip(100).zip(&cases).step_by(9).filter(|(case, other)| {
            let planted = contextvm_malformed::Case { input: other.input.clone(), ..(*case).clone() };
            judge::verdict(family, &planted, &world, role) != case.want
        });
        assert!(strange.count() > 10, "{}", family.name());
    }
}
