//! What is kept comes back, until it is too old; what is forgotten is behind the barrier.
use contextvm_core::Limits;
use contextvm_engine::Record;
use contextvm_store::{Store, StoreError};

use crate::world::{NOW, accepted, answered, me, open, place};

#[test]
fn everything_comes_back_in_the_order_of_time_and_the_barrier_stays() {
    let (_directory, path) = place();
    let (store, restored) = open(&path, NOW).unwrap();
    assert!((restored.is_new, restored.since, restored.records.len()) == (true, NOW + 1, 0));
    store.commit(&[accepted(2, NOW + 9), accepted(1, NOW + 5), answered(1, NOW + 6, 10)], NOW + 9).unwrap();
    store.commit(&[], NOW + 9).unwrap();
    assert_eq!(store.path(), path);
    drop(store);
    let (_store, restored) = open(&path, NOW + 100).unwrap();
    let records = [accepted(1, NOW + 5), accepted(2, NOW + 9), answered(1, NOW + 6, 10)];
    assert_eq!((restored.records, restored.since, restored.is_new), (records.to_vec(), NOW + 1, false));
}

#[test]
fn what_is_too_old_is_gone_and_cannot_come_back() {
    let (_directory, path) = place();
    let (store, _) = open(&path, NOW).unwrap();
    let first = [accepted(1, NOW), accepted(2, NOW + 400), answered(1, NOW, 10), answered(2, NOW + 400, 10)];
    store.commit(&first, NOW).unwrap();
    store.commit(&[accepted(3, NOW + 700)], NOW + 700).unwrap();
    drop(store);
    for now in [NOW + 700, NOW] {
        let (_store, restored) = open(&path, now).unwrap();
        let left = [accepted(2, NOW + 400), accepted(3, NOW + 700), answered(2, NOW + 400, 10)];
        assert_eq!(
            (restored.records, restored.since),
            (left.to_vec(), NOW + 1),
            "also when the clock goes back"
        );
    }
    let (_store, restored) = open(&path, NOW + 1_200).unwrap();
    assert_eq!((restored.records, restored.since), (vec![accepted(3, NOW + 700)], NOW + 401));
}

#[test]
fn answers_beyond_their_room_go_the_oldest_first() {
    let (_directory, path) = place();
    let limits = Limits { ledger_bytes: 20_000, ..Limits::default() };
    let open = || Store::open(&path, &me(), &limits, NOW).unwrap();
    for n in 0..50 {
        // Opened each time: what is counted survives, too.
        let at = NOW + u64::from(n);
        open().0.commit(&[accepted(n, at), answered(n, at, 1_000)], NOW).unwrap();
    }
    let records = open().1.records;
    let answers: Vec<_> = records.iter().filter(|record| matches!(record, Record::Answered { .. })).collect();
    assert_eq!(records.len() - answers.len(), 50, "ids are never forgotten early");
    assert!((10..14).contains(&answers.len()), "{}", answers.len());
    assert_eq!(answers.last(), Some(&&answered(49, NOW + 49, 1_000)));
}

#[test]
fn an_answer_that_is_given_anew_in_the_same_second_takes_its_place() {
    let (_directory, path) = place();
    let (store, _) = open(&path, NOW).unwrap();
    store.commit(&[answered(1, NOW, 10), answered(1, NOW, 20)], NOW).unwrap();
    drop(store);
    assert_eq!(open(&path, NOW).unwrap().1.records, [answered(1, NOW, 20)]);
}

#[test]
fn a_store_from_the_future_is_refused() {
    let (_directory, path) = place();
    drop(open(&path, NOW).unwrap());
    assert!(open(&path, NOW - 30).is_ok());
    let refused = open(&path, NOW - 3_600).unwrap_err();
    assert_eq!(refused, StoreError::Clock { path: path.clone(), ahead: 3_601 });
    assert!(open(&path, NOW).is_ok());
}

#[test]
fn a_file_that_lives_long_does_not_grow() {
    let (_directory, path) = place();
    let (store, _) = open(&path, NOW).unwrap();
    let mut sizes = Vec::new();
    for n in 0..400_u16 {
        let at = NOW + u64::from(n) * 20;
        store.commit(&[accepted(n, at), answered(n, at, 20_000)], at).unwrap();
        if n % 100 == 99 {
            sizes.push(std::fs::metadata(&path).unwrap().len());
        }
    }
    assert!(sizes[3] <= sizes[0] * 2, "{sizes:?}");
}
