//! A store belongs to one key and one process, and nobody else may read it.
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
    let refused = Store::open(&path, &other(), &Limits::default(), || NOW).unwrap_err();
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

/// Run by the tests below in a process of its own: uses a store until it is killed.
#[test]
fn holder() {
    let Some(path) = std::env::var_os("STORE_TO_HOLD") else { return };
    let lies = std::env::var_os("STORE_LIES").is_some();
    let (store, _) = open(path.as_ref(), NOW).unwrap();
    for n in 0..u16::MAX {
        if !lies {
            store.commit(&[accepted(n, NOW)], NOW).unwrap();
        }
        std::fs::write(std::path::Path::new(&path).with_extension("held"), n.to_string()).unwrap();
    }
}

/// Kills a process that uses a store; returns how many records it has acknowledged, and how many are there.
fn killed(lies: bool) -> (usize, usize) {
    let (_directory, path) = place();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_store_belongs_to_one_server::holder"]).env("STORE_TO_HOLD", &path);
    if lies {
        command.env("STORE_LIES", "1");
    }
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let held = path.with_extension("held");
    let count = || std::fs::read_to_string(&held).ok().and_then(|text| text.parse::<u16>().ok());
    while count().is_none_or(|count| count < 20) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(open(&path, NOW).unwrap_err(), StoreError::InUse(path.clone()));
    assert_eq!(Store::discard(&path, &me()).unwrap_err(), StoreError::InUse(path.clone()));
    child.kill().unwrap();
    child.wait().unwrap();
    // The kill may have come between the emptying and the writing of the count.
    let acknowledged = count().map_or(21, |count| usize::from(count) + 1);
    let (_store, restored) = open(&path, NOW).unwrap();
    assert!(lies || restored.records.contains(&accepted(0, NOW)));
    (acknowledged, restored.records.len())
}

#[test]
fn a_process_that_is_killed_leaves_everything_it_had_acknowledged_and_no_lock() {
    let (acknowledged, found) = killed(false);
    assert!(found >= acknowledged, "{found} {acknowledged}");
}

#[test]
fn a_store_that_acknowledges_what_it_does_not_keep_is_found_out() {
    let (acknowledged, found) = killed(true);
    assert!(found < acknowledged, "{found} {acknowledged}");
}

#[test]
fn a_store_that_is_discarded_is_gone_and_its_place_is_held() {
    let (_directory, path) = place();
    // There need be none.
    drop(Store::discard(&path, &me()).unwrap());
    let (store, _) = open(&path, NOW).unwrap();
    store.commit(&[accepted(1, NOW)], NOW).unwrap();
    drop(store);
    assert_eq!(Store::discard(&path, &other()).unwrap_err(), StoreError::OtherServer(path.clone()));
    assert!(path.exists(), "it is not ours to remove");
    let held = Store::discard(&path, &me()).unwrap();
    assert!(!path.exists());
    assert_eq!(open(&path, NOW + 5).unwrap_err(), StoreError::InUse(path.clone()));
    drop(held);
    let (_store, restored) = open(&path, NOW + 5).unwrap();
    assert_eq!((restored.is_new, restored.since, restored.records.len()), (true, NOW + 6, 0));
}

#[test]
fn what_cannot_be_read_is_put_aside_and_not_removed() {
    let (_directory, path) = place();
    drop(open(&path, NOW).unwrap());
    for content in [&b"somebody's letters"[..], b""] {
        std::fs::write(&path, content).unwrap();
        drop(Store::discard(&path, &me()).unwrap());
        let aside = format!("{}.damaged", path.display());
        assert_eq!((path.exists(), &*std::fs::read(aside).unwrap()), (false, content));
    }
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let (directory, path) = place();
    drop(open(&path, NOW).unwrap());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(mode(&directory.path().join("deep")), 0o700);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(open(&path, NOW).unwrap_err(), StoreError::Exposed(path.clone()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Store::open(&path, &me(), &Limits::default(), || NOW).is_ok());
}

#[test]
fn a_place_that_cannot_be_is_named() {
    let (directory, _) = place();
    std::fs::write(directory.path().join("file"), "").unwrap();
    let path = directory.path().join("file/store");
    assert!(matches!(open(&path, NOW), Err(StoreError::Io { .. })));
}

/// Who comes by a link and who comes by the name use one store under one lock.
#[cfg(unix)]
#[test]
fn a_link_to_a_store_is_that_store() {
    let directory = tempfile::tempdir().unwrap();
    let (path, link) = (directory.path().join("real/store"), directory.path().join("link"));
    drop(open(&path, NOW).unwrap());
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let (store, _) = open(&link, NOW).unwrap();
    store.commit(&[accepted(1, NOW)], NOW).unwrap();
    assert!(matches!(open(&path, NOW), Err(StoreError::InUse(_))));
    drop(store);
    assert!(link.is_symlink());
    assert_eq!(open(&path, NOW).unwrap().1.records, [accepted(1, NOW)]);
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(open(&link, NOW), Err(StoreError::Io { .. })), "it leads nowhere");
}
