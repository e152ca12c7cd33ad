//! What is kept comes back, until it is too old; what is forgotten is behind the barrier.
use contextvm_core::Limits;
use contextvm_engine::Record;
use contextvm_store::{Store, StoreError};

use crate::world::{NOW, accepted, answered, me, open, place};

#[test]
fn everything_comes_back_in_the_order_of_writing_and_the_barrier_stays() {
    let (_directory, path) = place();
    let (store, restored) = open(&path, NOW).unwrap();
    assert!((restored.is_new, restored.since, restored.records.len()) == (true, NOW + 1, 0));
    store.commit(&[accepted(2, NOW + 9), accepted(1, NOW + 5), answered(1, NOW + 6, 10)], NOW + 9).unwrap();
    store.commit(&[], NOW + 9).unwrap();
    assert_eq!(store.path(), path);
    drop(store);
    let (_store, restored) = open(&path, NOW + 100).unwrap();
    let records = [accepted(2, NOW + 9), accepted(1, NOW + 5), answered(1, NOW + 6, 10)];
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
    let (store, restored) = open(&path, NOW + 700).unwrap();
    let left = [accepted(2, NOW + 400), accepted(3, NOW + 700), answered(2, NOW + 400, 10)];
    assert_eq!((restored.records, restored.since), (left.to_vec(), NOW + 1));
    drop(store);
    for now in [NOW + 1_200, NOW + 400] {
        let (_store, restored) = open(&path, now).unwrap();
        let left = vec![accepted(3, NOW + 700)];
        assert_eq!((restored.records, restored.since), (left, NOW + 401), "also when the clock goes back");
    }
}

#[test]
fn answers_beyond_their_room_go_the_oldest_first() {
    let (_directory, path) = place();
    let limits = Limits { ledger_bytes: 20_000, ..Limits::default() };
    let open = || Store::open(&path, &me(), &limits, || NOW).unwrap();
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

#[test]
fn large_answers_and_small_ones_make_room_by_age() {
    let (_directory, path) = place();
    let limits = Limits { ledger_bytes: 100_000, ..Limits::default() };
    let (store, _) = Store::open(&path, &me(), &limits, || NOW).unwrap();
    for n in 0..40 {
        let at = NOW + u64::from(n);
        let bytes = if n % 2 == 0 { 10_000 } else { 3_000 };
        store.commit(&[accepted(n, at), answered(n, at, bytes)], NOW).unwrap();
    }
    drop(store);
    let records = Store::open(&path, &me(), &limits, || NOW).unwrap().1.records;
    let stamp = |record: &Record| match record {
        Record::Answered { draft, .. } => Some(draft.created_at - NOW),
        Record::Accepted { .. } => None,
    };
    let mut kept: Vec<_> = records.iter().filter_map(stamp).collect();
    kept.sort_unstable();
    assert_eq!(records.len() - kept.len(), 40);
    let first = kept[0];
    assert!((26..30).contains(&first), "{kept:?}");
    assert_eq!(kept, (first..40).collect::<Vec<_>>(), "the newest, without a gap");
}

#[test]
fn answers_make_room_after_the_clock_was_set_back_too() {
    let (_directory, path) = place();
    let limits = Limits { ledger_bytes: 20_000, ..Limits::default() };
    let (store, _) = Store::open(&path, &me(), &limits, || NOW).unwrap();
    for n in 0..100 {
        let at = if n < 50 { NOW + 300 } else { NOW };
        store.commit(&[accepted(n, at), answered(n, at, 1_000)], at).unwrap();
    }
    drop(store);
    let records = Store::open(&path, &me(), &limits, || NOW).unwrap().1.records;
    let answers = records.iter().filter(|record| matches!(record, Record::Answered { .. })).count();
    assert_eq!(records.len() - answers, 100);
    assert!((10..20).contains(&answers), "{answers}");
}

#[test]
fn a_batch_larger_than_a_row_comes_back_whole() {
    let (_directory, path) = place();
    let (store, _) = open(&path, NOW).unwrap();
    let batch: Vec<_> = (0..2_000).map(|n| accepted(n, NOW)).collect();
    store.commit(&batch, NOW).unwrap();
    drop(store);
    assert_eq!(open(&path, NOW).unwrap().1.records, batch);
}
