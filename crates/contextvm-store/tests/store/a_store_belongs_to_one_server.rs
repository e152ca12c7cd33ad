//! A store belongs to one key and one process, and nobody else may read it.
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use contextvm_core::Limits;
use contextvm_store::{Store, StoreError};

use crate::world::{NOW, accepted, me, open, other, place};

#[test]
fn another_key_is_refused_and_changes_nothing() {
    let (_directory, path) = place();
    let (store, _) = open(&path, NOW).unwrap();
    store.commit(&[accepted(1, NOW)], NOW).unwrap();
    drop(store);
    let refused = Store::open(&path, &other(), &Limits::default(), NOW).unwrap_err();
    assert_eq!(refused, StoreError::OtherServer(path.clone()));
    assert!(refused.to_string().contains(path.to_str().unwrap()));
    assert_eq!(open(&path, NOW).unwrap().1.records.len(), 1);
}

#[test]
fn a_second_user_is_refused_until_the_first_is_gone() {
    let (_directory, path) = place();
    let (store, _) = open(&path, NOW).unwrap();
    assert_eq!(open(&path, NOW).unwrap_err(), StoreError::InUse(path.clone()));
    store.commit(&[accepted(1, NOW)], NOW).unwrap();
    drop(store);
    assert!(open(&path, NOW).is_ok());
}

/// Run by the test below in a process of its own: holds a store until it is killed.
#[test]
fn holder() {
    let Some(path) = std::env::var_os("STORE_TO_HOLD") else { return };
    let (store, _) = open(path.as_ref(), NOW).unwrap();
    for n in 0..u16::MAX {
        store.commit(&[accepted(n, NOW)], NOW).unwrap();
        std::fs::write(std::path::Path::new(&path).with_extension("held"), n.to_string()).unwrap();
    }
}

#[test]
fn a_process_that_is_killed_leaves_everything_it_had_acknowledged_and_no_lock() {
    let (_directory, path) = place();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_store_belongs_to_one_server::holder"])
        .env("STORE_TO_HOLD", &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let held = path.with_extension("held");
    let count = || std::fs::read_to_string(&held).ok().and_then(|text| text.parse::<u16>().ok());
    while count().is_none_or(|count| count < 20) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(open(&path, NOW).unwrap_err(), StoreError::InUse(path.clone()));
    child.kill().unwrap();
    child.wait().unwrap();
    let acknowledged = usize::from(count().unwrap()) + 1;
    let (_store, restored) = open(&path, NOW).unwrap();
    assert!(restored.records.len() >= acknowledged, "{} {acknowledged}", restored.records.len());
    assert!(restored.records.contains(&accepted(0, NOW)));
}

#[test]
fn only_the_owner_may_read_it() {
    let (directory, path) = place();
    drop(open(&path, NOW).unwrap());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(mode(&directory.path().join("deep")), 0o700);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(open(&path, NOW).unwrap_err(), StoreError::Exposed(path.clone()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Store::open(&path, &me(), &Limits::default(), NOW).is_ok());
}

#[test]
fn a_place_that_cannot_be_is_named() {
    let (directory, _) = place();
    std::fs::write(directory.path().join("file"), "").unwrap();
    let path = directory.path().join("file/store");
    assert!(matches!(open(&path, NOW), Err(StoreError::Io { .. })));
}
