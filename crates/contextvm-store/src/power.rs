//! The power goes off at every write, and syncs fail: whatever was acknowledged is there, and a batch is there whole or not at all.
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use contextvm_core::{Draft, Limits, Protection};
use contextvm_engine::{Origin, Record, RequestKey};
use nostr::event::{EventId, Tag, Tags};
use nostr::key::PublicKey;
use redb::{Database, StorageBackend};

use crate::base::{Tally, made, opened};
use crate::store::{Fill, Place, Store, fill_new};
use crate::{Restored, StoreError};

const NOW: u64 = 1_700_000_000;

#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<u8>),
    SetLen(usize),
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

#[derive(Clone, Debug, Default)]
struct File {
    /// What the process sees, and what would be there after a power cut at worst.
    seen: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Op>,
}

impl File {
    fn change(&mut self, op: Op) {
        apply(&mut self.seen, &op);
        self.unsynced.push(op);
    }
}

#[derive(Debug, Default)]
struct Inner {
    files: Vec<File>,
    /// Which of them has the name, and which has it after a power cut at worst.
    named: Option<usize>,
    synced_name: Option<usize>,
    /// Writes and syncs that still succeed.
    left: Option<usize>,
    done: usize,
    syncs: usize,
    /// So many syncs fail, and what they were to write is never written: the host takes it for clean.
    failing: usize,
    /// Syncs are acknowledged and not done.
    lies: bool,
    /// A file whose sync has failed is opened again and written on.
    trusts: bool,
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
        let names = self.with(|inner| [inner.named, inner.synced_name]);
        let name = names[if all_is_there { 0 } else { chance(2) as usize }];
        let file = name.map_or_else(File::default, |name| self.with(|inner| inner.files[name].clone()));
        let mut left = file.synced;
        for op in file.unsynced {
            match (if all_is_there { 2 } else { chance(3) }, op) {
                (0, _) => {}
                (1, Op::Write(at, bytes)) => {
                    let torn = chance(bytes.len() as u64 + 1) as usize;
                    apply(&mut left, &Op::Write(at, bytes[..torn].to_vec()));
                }
                (_, op) => apply(&mut left, &op),
            }
        }
        Self::holding(name.map(|_| left))
    }

    fn holding(bytes: Option<Vec<u8>>) -> Self {
        let named = bytes.as_ref().map(|_| 0);
        let file = |bytes: Vec<u8>| File { seen: bytes.clone(), synced: bytes, unsynced: Vec::new() };
        let files = bytes.map(file).into_iter().collect();
        Self(Arc::new(Mutex::new(Inner { files, named, synced_name: named, ..Inner::default() })))
    }
}

impl Place for Disk {
    fn open(&self) -> Result<Option<Database>, StoreError> {
        let named = self.with(|inner| inner.named);
        let open = |file| opened(Path::new("disk"), Handle { disk: self.clone(), file });
        named.map(open).transpose()
    }

    fn replace(&self, fill: Fill<'_>) -> Result<(Database, Tally), StoreError> {
        let failed = |error: io::Error| StoreError::Io { path: "disk".into(), kind: error.kind() };
        if self.with(|inner| inner.trusts && inner.named.is_some()) {
            drop(fill);
            let file = self.with(|inner| inner.named).unwrap();
            return made(Path::new("disk"), Handle { disk: self.clone(), file })
                .map(|open| (open, Tally::EMPTY));
        }
        let file = self.with(|inner| {
            inner.step().map_err(failed)?;
            inner.files.push(File::default());
            Ok(inner.files.len() - 1)
        })?;
        let new = made(Path::new("disk"), Handle { disk: self.clone(), file })?;
        let filled = fill_new(Path::new("disk"), new, fill)?;
        self.with(|inner| {
            inner.step().map_err(failed)?;
            inner.named = Some(file);
            inner.step().map_err(failed)?;
            inner.synced_name = Some(file);
            Ok::<_, StoreError>(())
        })?;
        Ok(filled)
    }
}

/// One open file of a disk.
#[derive(Debug)]
struct Handle {
    disk: Disk,
    file: usize,
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.with(|inner| inner.files[self.file].seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.with(|inner| {
            let at = offset as usize;
            let bytes =
                inner.files[self.file].seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.with(|inner| {
            inner.step()?;
            inner.files[self.file].change(Op::SetLen(len as usize));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.with(|inner| {
            inner.step()?;
            let unsynced = std::mem::take(&mut inner.files[self.file].unsynced);
            if inner.failing > 0 {
                inner.failing -= 1;
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            inner.syncs += 1;
            let lies = inner.lies;
            let file = &mut inner.files[self.file];
            if lies {
                file.unsynced = unsynced;
            } else {
                unsynced.iter().for_each(|op| apply(&mut file.synced, op));
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.with(|inner| {
            inner.step()?;
            inner.files[self.file].change(Op::Write(offset as usize, data.to_vec()));
            Ok(())
        })
    }
}

fn me() -> PublicKey {
    PublicKey::parse("466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f27").unwrap()
}

fn open(disk: &Disk, now: u64) -> Result<(Store, Restored), StoreError> {
    let limits = Limits { ledger_bytes: 16 * 1024, ..Limits::default() };
    Store::with(Path::new("disk"), Box::new(disk.clone()), None, &me(), &limits, now)
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
    let draft = Draft::new(me(), now(n), tags, "x".repeat(600 * (1 + n as usize % 9)));
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

/// What a disk holds on which thirty batches were kept.
fn grown() -> Vec<u8> {
    let disk = Disk::default();
    assert_eq!(run(&disk, None, 0..30), 30);
    disk.with(|inner| inner.files[inner.named.unwrap()].synced.clone())
}

/// Looks at what a power cut has left of so many acknowledged batches; returns how much of the next one is there.
fn look(disk: &Disk, acknowledged: u64, at: u64) -> Result<usize, String> {
    let (store, restored) = open(disk, at).map_err(|error| error.to_string())?;
    let found = ids(&restored.records);
    let young = |n: &u64| now(*n) + 660 >= at;
    for n in 0..acknowledged {
        if young(&n) && !ids(&batch(n)).is_subset(&found) {
            return Err(format!("batch {n} was acknowledged and is gone"));
        }
        if !young(&n) && restored.since <= now(n) {
            return Err(format!("batch {n} is forgotten, and not behind the barrier"));
        }
    }
    let last = ids(&batch(acknowledged));
    let part = last.intersection(&found).count();
    if part != 0 && part != last.len() {
        return Err(format!("{part} of {} of a batch", last.len()));
    }
    let expected: usize = (0..acknowledged).filter(young).map(|n| ids(&batch(n)).len()).sum();
    if found.len() != expected + part {
        return Err(format!("{} ids, and not {}", found.len(), expected + part));
    }
    store.commit(&batch(50), at).map_err(|error| error.to_string())?;
    Ok(part)
}

/// Cuts the power at every step of ten batches; returns how often, and how often an unacknowledged batch was there.
fn cut_everywhere(lies: bool) -> Result<(usize, usize), String> {
    let before = grown();
    let (mut cuts, mut early) = (0, 0);
    for left in 0.. {
        let disk = Disk::holding(Some(before.clone()));
        disk.with(|inner| inner.lies = lies);
        let acknowledged = run(&disk, Some(left), 30..40);
        if acknowledged == 40 {
            return Ok((cuts, early));
        }
        for seed in [0, 2, 4, 5] {
            let disk = disk.after_the_cut(6 * left as u64 + seed);
            let part = look(&disk, acknowledged, now(acknowledged.max(39)));
            early += usize::from(part.map_err(|why| format!("{why}: after {left} steps, seed {seed}"))? > 0);
            cuts += 1;
        }
    }
    Err("it never ends".to_owned())
}

#[test]
fn whatever_was_acknowledged_is_there_whenever_the_power_goes_off() {
    let (cuts, early) = cut_everywhere(false).unwrap();
    assert!(cuts > 300 && early > 0, "{cuts} {early}");
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let outcome = cut_everywhere(true);
    assert!(outcome.is_err(), "{outcome:?}");
}

#[test]
fn the_power_may_go_off_while_a_store_is_opened() {
    let before = grown();
    let mut cuts = 0;
    for left in 0.. {
        let disk = Disk::holding(Some(before.clone()));
        disk.with(|inner| inner.left = Some(left));
        let is_open = open(&disk, now(30)).is_ok();
        for seed in 0..6 {
            let disk = disk.after_the_cut(6 * left as u64 + seed);
            assert_eq!(look(&disk, 30, now(30)), Ok(0), "after {left} steps, seed {seed}");
            cuts += 1;
        }
        if is_open {
            break;
        }
    }
    assert!(cuts > 60, "{cuts}");
}

#[test]
fn the_power_may_go_off_while_a_store_is_made() {
    for left in 0.. {
        let disk = Disk::default();
        disk.with(|inner| inner.left = Some(left));
        let is_open = open(&disk, NOW).is_ok();
        for seed in 0..6 {
            let (_store, restored) = open(&disk.after_the_cut(6 * left as u64 + seed), NOW + 1).unwrap();
            assert!(restored.records.is_empty() && restored.since > NOW);
        }
        if is_open {
            return;
        }
    }
}

/// A sync fails, the disk is well again, and then the power goes off. Returns what became of the batches around it.
fn fail_then_cut(trusts: bool) -> Result<(), String> {
    for (failing, seed) in (1..3).flat_map(|failing| (0..12).map(move |seed| (failing, seed))) {
        let disk = Disk::default();
        let (store, _) = open(&disk, NOW).unwrap();
        store.commit(&batch(0), NOW).unwrap();
        disk.with(|inner| (inner.failing, inner.trusts) = (failing, trusts));
        let failed = store.commit(&batch(1), NOW);
        assert!(matches!(failed, Err(StoreError::Io { kind: io::ErrorKind::StorageFull, .. })), "{failed:?}");
        let mut at = NOW + 1;
        while store.commit(&batch(2), at).is_err() {
            at += 1;
            assert!(at < NOW + 10, "a disk that is well again is used again");
        }
        let left = disk.after_the_cut(seed);
        let (_store, restored) = open(&left, at).map_err(|error| error.to_string())?;
        let found = ids(&restored.records);
        if !ids(&batch(0)).union(&ids(&batch(2))).all(|id| found.contains(id)) {
            return Err("what was acknowledged is gone".to_owned());
        }
    }
    Ok(())
}

/// A sync fails, and the power goes off at every step of what is done about that.
#[test]
fn what_was_acknowledged_outlives_a_cut_while_a_failed_sync_is_dealt_with() {
    let mut cuts = 0;
    for left in 0.. {
        let disk = Disk::default();
        let (store, _) = open(&disk, NOW).unwrap();
        store.commit(&batch(0), NOW).unwrap();
        disk.with(|inner| inner.failing = 1);
        assert!(store.commit(&batch(1), NOW).is_err());
        disk.with(|inner| inner.left = Some(left));
        let is_kept = store.commit(&batch(2), NOW).is_ok();
        for seed in 0..12 {
            let (_store, restored) = open(&disk.after_the_cut(seed), NOW)
                .unwrap_or_else(|error| panic!("after {left} steps, seed {seed}: {error}"));
            let found = ids(&restored.records);
            assert!(ids(&batch(0)).is_subset(&found), "after {left} steps, seed {seed}");
            assert!(!is_kept || ids(&batch(2)).is_subset(&found), "after {left} steps, seed {seed}");
            cuts += 1;
        }
        if is_kept {
            break;
        }
    }
    assert!(cuts > 200, "{cuts}");
}

#[test]
fn nothing_is_built_upon_what_a_failed_sync_was_to_write() {
    assert_eq!(fail_then_cut(false), Ok(()));
    assert!(fail_then_cut(true).is_err(), "who writes on in the same file is found out");
}

#[test]
fn a_disk_that_goes_on_failing_is_left_alone_for_longer_and_longer() {
    let disk = Disk::default();
    let (store, _) = open(&disk, NOW).unwrap();
    disk.with(|inner| inner.left = Some(0));
    let mut tries = Vec::new();
    for at in 0..120 {
        let before = disk.with(|inner| inner.done);
        // A call may come a thousand times a second.
        for _ in 0..20 {
            assert!(store.commit(&batch(0), NOW + at).is_err());
        }
        if disk.with(|inner| inner.done) > before {
            tries.push(at);
        }
    }
    assert_eq!(tries, [0, 1, 3, 7, 15, 31, 61, 91]);
    disk.with(|inner| inner.left = None);
    assert!(store.commit(&batch(0), NOW + 120).is_err());
    store.commit(&batch(0), NOW + 121).unwrap();
    store.commit(&batch(1), NOW + 121).unwrap();
}

#[test]
fn a_batch_costs_one_sync() {
    let disk = Disk::default();
    let (store, _) = open(&disk, NOW).unwrap();
    store.commit(&batch(0), NOW).unwrap();
    let before = disk.with(|inner| inner.syncs);
    store.commit(&batch(1), NOW).unwrap();
    assert_eq!(disk.with(|inner| inner.syncs) - before, 1);
}

#[test]
fn what_is_too_old_is_taken_out_piece_by_piece_and_without_any_call() {
    let disk = Disk::default();
    let (store, _) = open(&disk, NOW).unwrap();
    assert_eq!(store.next_prune(), None);
    for n in 0..300 {
        let records = batch(n).into_iter().filter(|record| matches!(record, Record::Accepted { .. }));
        let young = records.map(|record| match record {
            Record::Accepted { key, protection, origin, .. } => {
                Record::Accepted { key, stamp: NOW, protection, origin }
            }
            answered @ Record::Answered { .. } => answered,
        });
        store.commit(&young.collect::<Vec<_>>(), NOW).unwrap();
    }
    let due = store.next_prune().unwrap();
    assert_eq!(due, NOW + 661);
    store.commit(&[], due - 1).unwrap();
    assert_eq!(store.next_prune(), Some(due));
    let mut pieces = 0;
    while store.next_prune().is_some() {
        store.commit(&[], due).unwrap();
        pieces += 1;
    }
    assert_eq!(pieces, 3);
    drop(store);
    // The clock goes back, and it is gone all the same, behind the barrier.
    let (_store, restored) = open(&disk, NOW).unwrap();
    assert_eq!((restored.records.len(), restored.since), (0, NOW + 1));
}
