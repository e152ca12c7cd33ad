//! The power goes off at every write: whatever was acknowledged is there, and a batch is there whole or not at all.
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use contextvm_core::{Draft, Limits, Protection};
use contextvm_engine::{Origin, Record, RequestKey};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;
use redb::StorageBackend;

use crate::store::{Store, begin, database};
use crate::{Restored, StoreError};

const NOW: u64 = 1_700_000_000;

#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

#[derive(Debug, Default)]
struct Inner {
    /// What the process sees, and what would be there after a power cut at worst.
    seen: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Op>,
    /// Writes and syncs that still succeed.
    left: Option<usize>,
    done: usize,
    /// One sync fails, then the disk is well again.
    fails_once: bool,
    syncs: usize,
}

impl Inner {
    fn step(&mut self) -> io::Result<()> {
        self.done += 1;
        match &mut self.left {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn apply(file: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(at, bytes) => {
            file.resize(file.len().max(at + bytes.len()), 0);
            file[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Op::SetLen(len) => file.resize(*len, 0),
    }
}

/// A disk that a power cut leaves as badly as a disk may.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Inner>>);

impl Disk {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    /// Of what was not synced some is there, some is not, and some is torn.
    fn after_the_cut(&self, mut seed: u64) -> Self {
        let all_is_there = seed.is_multiple_of(6);
        let mut chance = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut file = self.with(|inner| inner.synced.clone());
        for op in self.with(|inner| inner.unsynced.clone()) {
            match (if all_is_there { 2 } else { chance(3) }, op) {
                (0, _) => {}
                (1, Op::Write(at, bytes)) => {
                    let torn = chance(bytes.len() as u64 + 1) as usize;
                    apply(&mut file, &Op::Write(at, bytes[..torn].to_vec()));
                }
                (_, op) => apply(&mut file, &op),
            }
        }
        let inner = Inner { seen: file.clone(), synced: file, ..Inner::default() };
        Self(Arc::new(Mutex::new(inner)))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|inner| inner.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|inner| {
            let at = offset as usize;
            let bytes = inner.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|inner| {
            inner.step()?;
            let op = Op::SetLen(len as usize);
            apply(&mut inner.seen, &op);
            inner.unsynced.push(op);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|inner| {
            inner.step()?;
            if std::mem::take(&mut inner.fails_once) {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            inner.syncs += 1;
            inner.unsynced.clear();
            inner.synced = inner.seen.clone();
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|inner| {
            inner.step()?;
            let op = Op::Write(offset as usize, data.to_vec());
            apply(&mut inner.seen, &op);
            inner.unsynced.push(op);
            Ok(())
        })
    }
}

fn me() -> PublicKey {
    PublicKey::parse("466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27").unwrap()
}

fn open(disk: &Disk, now: u64) -> Result<(Store, Restored), StoreError> {
    let disk = disk.clone();
    let opening = Box::new(move || database(Path::new("disk"), disk.clone()));
    let limits = Limits { ledger_bytes: 16 * 1024, ..Limits::default() };
    Store::with(Path::new("disk"), opening, &me(), &limits, now)
}

/// A disk with a new store on it.
fn made() -> Disk {
    let disk = Disk::default();
    let database = database(Path::new("disk"), disk.clone()).unwrap();
    assert!(begin(&database, &me(), NOW).is_ok());
    drop(database);
    disk
}

/// Batch `n`: some acceptances, and an answer of a few hundred to a few thousand bytes.
fn batch(n: u64) -> Vec<Record> {
    let key = |part: u8| {
        let mut id = [part; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        RequestKey { caller: me(), id: EventId::from_byte_array(id) }
    };
    let protection = Protection::Plain;
    let mut records: Vec<_> = (0..1 + n as u8 % 5)
        .map(|part| Record::Accepted { key: key(part), stamp: now(n), protection, origin: Origin::Request })
        .collect();
    let tags = Tags::from_list(vec![Tag::public_key(me())]);
    let draft = Draft::new(me(), now(n), tags, "x".repeat(300 * (1 + n as usize % 9)));
    records.push(Record::Answered { key: key(0), draft, protection });
    records
}

/// Batches are 20 seconds apart, so that much is pruned after the thirty-third.
const fn now(n: u64) -> u64 {
    NOW + n * 20
}

fn ids(records: &[Record]) -> BTreeSet<EventId> {
    let id = |record: &Record| match record {
        Record::Accepted { key, .. } => Some(key.id),
        Record::Answered { .. } => None,
    };
    records.iter().filter_map(id).collect()
}

/// Runs batches until the power goes off after so many steps; returns how many were acknowledged.
fn run(disk: &Disk, left: Option<usize>, batches: std::ops::Range<u64>) -> u64 {
    let Ok((store, _)) = open(disk, now(batches.start)) else { return batches.start };
    disk.with(|inner| inner.left = left);
    for n in batches.clone() {
        if store.commit(&batch(n), now(n)).is_err() {
            // It may be tried again, and that must not make it worse.
            assert!(store.commit(&batch(n), now(n)).is_err());
            return n;
        }
    }
    batches.end
}

#[test]
fn whatever_was_acknowledged_is_there_whenever_the_power_goes_off() {
    let grown = made();
    assert_eq!(run(&grown, None, 0..30), 30);
    let before = grown.with(|inner| inner.synced.clone());
    let again = |bytes: &Vec<u8>| {
        let inner = Inner { seen: bytes.clone(), synced: bytes.clone(), ..Inner::default() };
        Disk(Arc::new(Mutex::new(inner)))
    };
    let (mut cuts, mut torn_batches) = (0, 0);
    for left in 0.. {
        let disk = again(&before);
        let acknowledged = run(&disk, Some(left), 30..40);
        if acknowledged == 40 {
            break;
        }
        for seed in 0..6 {
            let disk = disk.after_the_cut(6 * left as u64 + seed);
            let at = now(acknowledged.max(39));
            let (store, restored) = open(&disk, at).expect("a power cut damages nothing");
            let found = ids(&restored.records);
            let young = |n: &u64| now(*n) + 660 >= at;
            for n in (0..acknowledged).filter(young) {
                assert!(ids(&batch(n)).is_subset(&found), "batch {n} after {left} steps, seed {seed}");
            }
            let last = ids(&batch(acknowledged));
            let part = last.intersection(&found).count();
            assert!(part == 0 || part == last.len(), "a batch is whole or not there");
            torn_batches += u32::from(part > 0);
            let expected: usize = (0..acknowledged).filter(young).map(|n| ids(&batch(n)).len()).sum();
            assert_eq!(found.len(), expected + part, "and nothing else is");
            for n in 0..acknowledged {
                assert!(young(&n) || restored.since > now(n), "what is forgotten is behind the barrier");
            }
            store.commit(&batch(50), at).expect("and it goes on");
            cuts += 1;
        }
    }
    assert!(cuts > 300 && torn_batches > 0, "{cuts} {torn_batches}");
}

#[test]
fn a_disk_that_was_full_once_is_used_again() {
    let disk = made();
    let (store, _) = open(&disk, NOW).unwrap();
    store.commit(&batch(0), NOW).unwrap();
    disk.with(|inner| inner.fails_once = true);
    let failed = store.commit(&batch(1), NOW);
    assert!(matches!(failed, Err(StoreError::Io { kind: io::ErrorKind::StorageFull, .. })), "{failed:?}");
    store.commit(&batch(2), NOW).unwrap();
    drop(store);
    let found = ids(&open(&disk, NOW).unwrap().1.records);
    assert!(ids(&batch(0)).union(&ids(&batch(2))).all(|id| found.contains(id)));
}

#[test]
fn a_batch_costs_one_sync() {
    let disk = made();
    let (store, _) = open(&disk, NOW).unwrap();
    store.commit(&batch(0), NOW).unwrap();
    let before = disk.with(|inner| inner.syncs);
    store.commit(&batch(1), NOW).unwrap();
    assert_eq!(disk.with(|inner| inner.syncs) - before, 1);
}
