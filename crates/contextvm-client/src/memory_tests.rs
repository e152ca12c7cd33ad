//! Tests of memories on disk: restarts, several processes, damage.
use contextvm_announce::Signed;
use contextvm_crypto::Keys;
use nostr::event::{Tag, Tags};

use super::*;

const NOW: u64 = 1_700_000_000;

fn keys(byte: u8) -> Keys {
    Keys::from_secret_bytes([byte; 32]).unwrap()
}

fn event(author: u8, kind: u16, created_at: u64) -> Signed {
    let tags = Tags::from_list(vec![Tag::custom("r", [format!("wss://at-{created_at}.example")])]);
    Signed::verify(keys(author).sign_event(kind, created_at, tags, String::new(), [0; 32])).unwrap()
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state").join("newest");
    (directory, path)
}

fn files(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_was_seen_survives_a_restart() {
    let (_directory, path) = place();
    let first = Memory::open(&path);
    assert_eq!(first.warnings(), []);
    let (server, list) = (event(1, 11316, NOW), event(1, kind::RELAY_LIST, NOW));
    first.prefer(server.pubkey);
    assert_eq!((first.learn(&server, NOW), first.learn(&list, NOW)), (Freshness::Newer, Freshness::Newer));
    first.save().await.unwrap();

    let second = Memory::open(&path);
    assert_eq!(second.warnings(), []);
    assert_eq!(second.judge(&event(1, 11316, NOW - 1), NOW), Freshness::Older(server.stamp()));
    assert_eq!(second.judge(&server, NOW), Freshness::Same);
    assert_eq!(second.relay_list(&server.pubkey), Some(list));
    assert_eq!(files(&path), ["newest", "newest.lock"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn two_that_share_a_file_know_what_each_has_seen() {
    let (_directory, path) = place();
    let (one, other) = (Memory::open(&path), Memory::open(&path));
    let (newer, older) = (event(1, 11316, NOW), event(1, 11316, NOW - 100));
    one.learn(&newer, NOW);
    one.save().await.unwrap();
    // It has not read the file since, and must not take it back to what itself knows.
    other.learn(&older, NOW);
    other.learn(&event(2, 11317, NOW), NOW);
    other.save().await.unwrap();
    assert_eq!(other.judge(&older, NOW), Freshness::Older(newer.stamp()));
    let both = Memory::open(&path);
    assert_eq!(both.newest(&newer.pubkey, 11316), Some(newer.stamp()));
    assert!(both.newest(&keys(2).public_key(), 11317).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_save_at_once_lose_nothing() {
    let (_directory, path) = place();
    let savers = (1..=8_u8).map(|author| {
        let memory = Memory::open(&path);
        memory.learn(&event(author, 11316, NOW), NOW);
        tokio::spawn(async move { memory.save().await })
    });
    for saver in savers.collect::<Vec<_>>() {
        saver.await.unwrap().unwrap();
    }
    let memory = Memory::open(&path);
    assert_eq!(memory.held().newest.len(), 8);
    assert_eq!(memory.warnings(), []);
}

#[tokio::test]
async fn a_damaged_file_is_put_aside_and_its_legible_lines_are_kept() {
    let (_directory, path) = place();
    let server = event(1, 11316, NOW);
    let memory = Memory::open(&path);
    memory.learn(&server, NOW);
    memory.save().await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let damaged = [
        (format!("{text}0000 1"), 1),
        (format!("{text}{{\"id\":1}}\n"), 1),
        ("something else entirely".to_owned(), 0),
        (String::new(), 0),
    ];
    for (number, (content, kept)) in damaged.into_iter().enumerate() {
        std::fs::write(&path, &content).unwrap();
        let memory = Memory::open(&path);
        let aside = store_aside(&path, number + 1);
        let told = MemoryError::Damaged { path: path.clone(), aside: aside.clone(), kept };
        assert_eq!(memory.warnings(), [told]);
        assert_eq!(std::fs::read_to_string(aside).unwrap(), content);
        assert!(!path.exists());
        assert_eq!(memory.newest(&server.pubkey, 11316), (kept == 1).then(|| server.stamp()));
    }
}

fn store_aside(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{number}"));
    name.into()
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_told_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let memory = Memory::open(file.join("newest"));
    let server = event(1, 11316, NOW);
    memory.learn(&server, NOW);
    assert!(matches!(memory.save().await, Err(MemoryError::Unwritable { .. })));
    memory.try_save().await;
    assert_eq!(memory.warnings().len(), 1);
    assert_eq!(memory.judge(&server, NOW), Freshness::Same);
}

#[tokio::test]
async fn a_file_that_another_process_holds_costs_two_seconds() {
    let (_directory, path) = place();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "").unwrap();
    let mut beside = path.clone().into_os_string();
    beside.push(".lock");
    let lock = std::fs::File::create(beside).unwrap();
    lock.lock().unwrap();
    let started = std::time::Instant::now();
    let memory = Memory::open(&path);
    assert_eq!(memory.warnings(), [MemoryError::Held { path }]);
    let took = started.elapsed().as_millis();
    assert!((1_900..5_000).contains(&took), "{took}");
}

#[tokio::test]
async fn reading_waits_for_nobody_and_leaves_no_trace() {
    let (_directory, path) = place();
    let server = event(1, 11316, NOW);
    let writer = Memory::open(&path);
    writer.learn(&server, NOW);
    writer.save().await.unwrap();
    let mut beside = path.clone().into_os_string();
    beside.push(".lock");
    std::fs::remove_file(&beside).unwrap();
    let reader = Memory::open(&path);
    assert_eq!(files(&path), ["newest"], "whoever only reads may be unable to write");
    let lock = std::fs::File::create(beside).unwrap();
    lock.lock().unwrap();
    for memory in [reader, Memory::open(&path)] {
        assert_eq!((memory.warnings(), memory.judge(&server, NOW)), (vec![], Freshness::Same));
    }
}

#[tokio::test]
async fn what_is_legible_counts_even_when_a_damaged_file_cannot_be_put_aside() {
    let (_directory, path) = place();
    let server = event(1, 11316, NOW);
    let writer = Memory::open(&path);
    writer.learn(&server, NOW);
    writer.save().await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}0000 1")).unwrap();
    let mut beside = path.clone().into_os_string();
    beside.push(".lock");
    let lock = std::fs::File::create(beside).unwrap();
    lock.lock().unwrap();
    let memory = Memory::open(&path);
    assert_eq!(memory.warnings(), [MemoryError::Held { path }]);
    assert_eq!(memory.judge(&server, NOW), Freshness::Same);
}

#[test]
fn reviews_replace_nothing_and_only_their_time_is_judged() {
    let memory = Memory::volatile();
    for created_at in [NOW, NOW - 1, NOW] {
        assert_eq!(memory.learn(&event(1, kind::COMMENT, created_at), NOW), Freshness::Newer);
    }
    assert_eq!(memory.learn(&event(1, kind::COMMENT, NOW + 901), NOW), Freshness::Future);
    assert!(memory.held().newest.is_empty());
}

#[test]
fn a_relay_list_that_its_author_deleted_is_not_used_any_more() {
    let memory = Memory::volatile();
    let list = event(1, kind::RELAY_LIST, NOW);
    memory.prefer(list.pubkey);
    memory.learn(&list, NOW);
    assert_eq!(memory.relay_list(&list.pubkey).as_ref(), Some(&list));
    let place = Tag::custom("a", [format!("10002:{}:", list.pubkey.to_hex())]);
    let deletion =
        keys(1).sign_event(kind::DELETION, NOW, Tags::from_list(vec![place]), String::new(), [0; 32]);
    memory.learn(&Signed::verify(deletion).unwrap(), NOW);
    assert_eq!(memory.relay_list(&list.pubkey), None);
}

#[test]
fn lists_are_kept_of_preferred_keys_alone_and_the_longest_known_goes_first() {
    let memory = Memory::volatile();
    let stranger = event(9, kind::RELAY_LIST, NOW);
    memory.learn(&stranger, NOW);
    assert_eq!(memory.relay_list(&stranger.pubkey), None);
    let key = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let mut secret = [7; 32];
        (secret[0], secret[1]) = (high, low);
        Keys::from_secret_bytes(secret).unwrap()
    };
    for number in 0..=256_u16 {
        let event = key(number).sign_event(kind::RELAY_LIST, NOW, Tags::new(), String::new(), [0; 32]);
        memory.prefer(event.pubkey);
        memory.learn(&Signed::verify(event).unwrap(), NOW);
    }
    assert!(memory.relay_list(&key(0).public_key()).is_none());
    assert!(memory.relay_list(&key(1).public_key()).is_some());
    assert!(memory.relay_list(&key(256).public_key()).is_some());
}

#[test]
fn a_list_at_hand_counts_even_where_there_is_no_room_to_remember_it() {
    let memory = Memory::volatile();
    // Of a stranger nothing is kept as a whole.
    let (older, newer) = (event(1, kind::RELAY_LIST, NOW - 1), event(1, kind::RELAY_LIST, NOW));
    let (future, other) = (event(1, kind::RELAY_LIST, NOW + 901), event(2, kind::RELAY_LIST, NOW + 1));
    let best = |lists: &[&Signed]| memory.best_list(&older.pubkey, lists.iter().copied(), NOW);
    assert_eq!(best(&[&older, &newer, &future, &other]).as_ref(), Some(&newer));
    assert_eq!(best(&[&older, &future]), None);
    assert_eq!(best(&[&newer]).as_ref(), Some(&newer));
}
