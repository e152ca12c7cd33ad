//! Records to keep, and a place for them.
use std::path::{Path, PathBuf};

use contextvm_core::{Draft, Limits, Protection, WrapKind};
use contextvm_engine::{Origin, Record, RequestKey};
use contextvm_store::{Restored, Store, StoreError};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;

pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) fn me() -> PublicKey {
    PublicKey::parse("466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27").unwrap()
}

pub(crate) fn other() -> PublicKey {
    PublicKey::parse("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap()
}

pub(crate) fn key(n: u16) -> RequestKey {
    let mut id = [7; 32];
    id[..2].copy_from_slice(&n.to_be_bytes());
    RequestKey { caller: other(), id: EventId::from_byte_array(id) }
}

pub(crate) fn accepted(n: u16, stamp: u64) -> Record {
    Record::Accepted { key: key(n), stamp, protection: Protection::Plain, origin: Origin::Request }
}

pub(crate) fn answered(n: u16, at: u64, bytes: usize) -> Record {
    let tags = Tags::from_list(vec![Tag::public_key(other()), Tag::event(key(n).id)]);
    let draft = Draft::new(me(), at, tags, "x".repeat(bytes));
    Record::Answered { key: key(n), draft, protection: Protection::Wrapped(WrapKind::Ephemeral) }
}

pub(crate) fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/er/store");
    (directory, path)
}

pub(crate) fn open(path: &Path, now: u64) -> Result<(Store, Restored), StoreError> {
    Store::open(path, &me(), &Limits::default(), || now)
}
