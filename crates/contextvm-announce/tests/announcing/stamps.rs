//! `created_at` of each kind only ever rises.
use std::collections::BTreeMap;

use contextvm_announce::{AnnounceError, AnnouncerInput, Unsigned};

use crate::stage::{App, BEGIN, Stage, announcing, kinds, of_kind};

fn app(tool: usize) -> App {
    App::legacy(r#"{"tools":{}}"#).with("tools/list", &[&format!(r#"{{"tools":[{{"name":"t{tool}"}}]}}"#)])
}

#[test]
fn several_changes_within_a_second_and_a_clock_that_steps_back_still_rise() {
    let (mut stage, mut all) = Stage::started(announcing(), app(0));
    for step in 1..20 {
        stage.app = app(step);
        stage.heard("tools");
        all.extend(stage.wait_secs(200));
        stage.now.unix = if step % 5 == 0 { BEGIN - 100 } else { BEGIN };
    }
    let mut stamps: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    for Unsigned { kind, created_at, .. } in all {
        stamps.entry(kind).or_default().push(created_at);
    }
    assert_eq!(stamps[&11317].len(), 20);
    assert!(stamps.values().all(|stamps| stamps.is_sorted_by(|a, b| a < b)), "{stamps:?}");
}

#[test]
fn a_new_run_stamps_higher_than_what_relays_hold_and_than_what_was_deleted() {
    let mut stage = Stage::new(announcing(), app(0));
    stage.tell(AnnouncerInput::Known { kind: 11317, created_at: BEGIN + 30, id: None });
    stage.tell(AnnouncerInput::Known { kind: 11317, created_at: BEGIN + 10, id: None });
    stage.tell(AnnouncerInput::Known { kind: 30_000, created_at: BEGIN + 99, id: None });
    let published = stage.tell(AnnouncerInput::Start);
    assert_eq!(of_kind(&published, 11317).created_at, BEGIN + 31);
    assert_eq!(of_kind(&published, 11316).created_at, BEGIN);
    assert!(stage.failed.is_empty());
}

#[test]
fn a_stamp_that_readers_will_ignore_is_said() {
    let mut stage = Stage::new(announcing(), app(0));
    stage.tell(AnnouncerInput::Known { kind: 11316, created_at: BEGIN + 15 * 60, id: None });
    stage.tell(AnnouncerInput::Known { kind: 11317, created_at: BEGIN + 15 * 60 - 1, id: None });
    let published = stage.tell(AnnouncerInput::Start);
    assert_eq!(kinds(&published), [11316, 11317]);
    assert_eq!(stage.failed, [AnnounceError::Ahead { kind: 11316, seconds: 15 * 60 + 1 }]);
}
