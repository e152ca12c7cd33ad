//! A file that is not what was written last is refused by name, and stays as it is.
use contextvm_store::StoreError;
use redb::{Database, TableDefinition};

use crate::world::{NOW, accepted, answered, open, place};

/// The bytes of a store with some records in it.
fn bytes() -> Vec<u8> {
    let (_directory, path) = place();
    let (store, _) = open(&path, NOW).unwrap();
    for n in 0..50 {
        store.commit(&[accepted(n, NOW), answered(n, NOW, 3_000)], NOW).unwrap();
    }
    drop(store);
    std::fs::read(&path).unwrap()
}

/// Writes a file where a store is expected and tells what becomes of it.
fn opened(bytes: &[u8]) -> Result<usize, StoreError> {
    let (_directory, path) = place();
    drop(open(&path, NOW).unwrap());
    std::fs::write(&path, bytes).unwrap();
    let opened = open(&path, NOW).map(|(_, restored)| restored.records.len());
    if let Err(StoreError::Damaged(named)) = &opened {
        assert_eq!((named, &std::fs::read(&path).unwrap()[..]), (&path, bytes));
    }
    opened
}

#[test]
fn files_that_are_no_store() {
    for bytes in [Vec::new(), b"redb".to_vec(), vec![0; 4_096], vec![b'x'; 100_000], b"{\"a\":1}".to_vec()] {
        assert!(matches!(opened(&bytes), Err(StoreError::Damaged(_))), "{} bytes", bytes.len());
    }
}

#[test]
fn a_store_that_was_cut_short() {
    let whole = bytes();
    for part in 1..24 {
        let cut = &whole[..whole.len() * part / 24 + part];
        let opened = opened(cut);
        assert!(matches!(opened, Err(StoreError::Damaged(_))), "{part} of 24: {opened:?}");
    }
    assert_eq!(opened(&whole), Ok(100));
}

#[test]
fn a_store_with_a_false_byte_is_damaged_or_as_it_was() {
    let whole = bytes();
    let mut found = 0;
    for place in (0..whole.len()).step_by(whole.len() / 60) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x55;
        match opened(&bytes) {
            Err(StoreError::Damaged(_)) => found += 1,
            // A page that holds nothing any more, or a second copy of the facts at the head of the file.
            Ok(records) => assert_eq!(records, 100, "byte {place}"),
            Err(error) => assert_eq!(error.to_string(), "", "byte {place}"),
        }
    }
    assert!(found > 4, "{found}");
}

#[test]
fn a_making_that_was_interrupted_is_begun_again() {
    let (_directory, path) = place();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path.with_extension("new"), b"half").unwrap();
    let (_store, restored) = open(&path, NOW).unwrap();
    assert!(restored.is_new && restored.records.is_empty());
    assert!(!path.with_extension("new").exists());
}

#[test]
fn a_store_of_another_format_is_refused_by_number_and_says_what_to_do() {
    const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
    for format in [1, 3] {
        let (_directory, path) = place();
        drop(open(&path, NOW).unwrap());
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let number = u64::to_be_bytes(format);
        transaction.open_table(META).unwrap().insert("format", number.as_slice()).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let refused = open(&path, NOW).unwrap_err();
        assert_eq!(refused, StoreError::Format { path: path.clone(), found: format });
        assert!(refused.to_string().contains("move it away"), "{refused}");
    }
}
