//! One memory file, several processes.
use std::process::{Command, Stdio};

use contextvm_announce::Signed;
use contextvm_client::Memory;

use crate::support::*;

/// Where the children of the test find their file and their number.
const PLACE: &str = "CONTEXTVM_TEST_MEMORY";

/// Sees several events one after another and saves after each, as a child.
async fn see(place: &str) {
    let (number, path) = place.split_once(' ').unwrap();
    let number: u8 = number.parse().unwrap();
    let memory = Memory::open(path);
    for turn in 0..10_u8 {
        let event = announcement(&keys(number * 10 + turn), NOW + u64::from(number), "s");
        memory.learn(&Signed::verify(event).unwrap(), NOW);
        // All of them see the servers of the first one as well, each at another time.
        let event = announcement(&keys(200 + turn), NOW + u64::from(number), "shared");
        memory.learn(&Signed::verify(event).unwrap(), NOW);
        // Under load the others may hold the file for longer than one attempt waits.
        while memory.save().await.is_err() {}
    }
}

#[tokio::test]
async fn several_processes_that_share_a_file_lose_nothing_and_never_go_back() {
    if let Ok(place) = std::env::var(PLACE) {
        return see(&place).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("newest");
    let children = (1..=4_u8).map(|number| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([
            "--exact",
            "processes::several_processes_that_share_a_file_lose_nothing_and_never_go_back",
        ]);
        child.env(PLACE, format!("{number} {}", path.display())).stdout(Stdio::null()).spawn().unwrap()
    });
    for mut child in children.collect::<Vec<_>>() {
        assert!(child.wait().unwrap().success());
    }
    let memory = Memory::open(&path);
    assert_eq!(memory.warnings(), []);
    let seen = |byte| memory.newest(&keys(byte).public_key(), 11316).map(|stamp| stamp.created_at);
    for number in 1..=4_u8 {
        for turn in 0..10 {
            assert_eq!(seen(number * 10 + turn), Some(NOW + u64::from(number)));
        }
    }
    for turn in 0..10 {
        assert_eq!(seen(200 + turn), Some(NOW + 4), "the newest of all");
    }
}
