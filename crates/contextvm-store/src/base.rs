//! The database of a store: a row for each batch in the order of time, large answers apart, and whose they are.
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use contextvm_core::Limits;
use contextvm_engine::Record;
use nostr::key::PublicKey;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable as _, StorageBackend,
    StorageError, Table, TableDefinition, WriteTransaction,
};

use crate::code::{self, Entry};
use crate::file::io_error;
use crate::overlay::Overlay;
use crate::{Restored, StoreError};

/// Changes whenever another version would read a store wrongly.
const FORMAT: u64 = 2;
/// Memory for pages, bytes: what is written is hardly ever read.
const CACHE: usize = 4 * 1024 * 1024;
/// What an answer is taken to need beside its text, as in the machine's ledger.
const OVERHEAD: u64 = 512;
/// An answer up to this size lies in the row of its batch, bytes.
const SMALL: usize = 4 * 1024;
/// From this size on a row is full, and its batch goes on in another one, bytes.
const ROW: usize = 64 * 1024;
/// Rows that are taken out at once, in somebody's call.
const PIECE: usize = 128;

/// Where a row lies: the second of the newest record in it, then the order of writing.
type Place = [u8; 16];
type Rows<'t> = Table<'t, &'static Place, &'static [u8]>;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const ROWS: TableDefinition<'_, &Place, &[u8]> = TableDefinition::new("rows");
const LARGE: TableDefinition<'_, &Place, &[u8]> = TableDefinition::new("large");

const FORMAT_NAME: &str = "format";
const SERVER: &str = "public_key";
const SINCE: &str = "since";

/// How long and how much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    accepted: u64,
    answered: u64,
    answered_bytes: u64,
}

impl Kept {
    pub(crate) const fn new(limits: &Limits) -> Self {
        Self {
            accepted: limits.age_window.saturating_add(limits.age_skew),
            answered: limits.ledger_ttl.as_secs(),
            answered_bytes: limits.ledger_bytes as u64,
        }
    }

    /// The first second at which nothing in a row is needed any more.
    fn end(self, newest: u64) -> u64 {
        newest.saturating_add(self.accepted.max(self.answered)).saturating_add(1)
    }
}

/// What is known of a database that is open, so that it needs not be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    /// The number of the next row.
    next: u64,
    /// The weight of all answers.
    answered_bytes: u64,
    /// No row up to this one holds an answer.
    stripped: Place,
    /// From when on something is too old, if there is anything; never too late.
    pub(crate) due: Option<u64>,
}

impl Tally {
    pub(crate) const EMPTY: Self = Self { next: 0, answered_bytes: 0, stripped: [0; 16], due: None };

    fn place(&mut self, newest: u64, kept: Kept, has_answers: bool) -> Place {
        let place = place(newest, self.next);
        self.next = self.next.saturating_add(1);
        if has_answers {
            // After a clock was set back.
            self.stripped = self.stripped.min(before(&place));
        }
        let end = kept.end(newest);
        self.due = Some(self.due.map_or(end, |due| due.min(end)));
        place
    }
}

/// Why a transaction failed; what the database says is put into few words at once.
pub(crate) enum Failed {
    Storage(StorageError),
    Panic,
    Damaged,
    OtherServer,
    Format(u64),
}

impl<E: Into<redb::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        let error = error.into();
        if let redb::Error::Io(error) = error {
            Self::Storage(StorageError::Io(error))
        } else if let redb::Error::PreviousIo = error {
            Self::Storage(StorageError::PreviousIo)
        } else {
            // Corrupt, or with tables of another kind: somebody else's database.
            Self::Damaged
        }
    }
}

impl Failed {
    pub(crate) fn at(self, path: &Path) -> StoreError {
        use std::io::ErrorKind::{InvalidData, Other, UnexpectedEof};
        let path = path.to_owned();
        match self {
            // What is cut short ends too early.
            Self::Storage(StorageError::Io(error))
                if !matches!(error.kind(), InvalidData | UnexpectedEof) =>
            {
                io_error(&path, &error)
            }
            Self::Storage(StorageError::PreviousIo) => StoreError::Io { path, kind: Other },
            Self::Storage(_) | Self::Panic | Self::Damaged => StoreError::Damaged(path),
            Self::OtherServer => StoreError::OtherServer(path),
            Self::Format(found) => StoreError::Format { path, found },
        }
    }
}

/// Runs what the database does; where it finds its own pages impossible, it panics, and that is damage to us.
pub(crate) fn guarded<T>(act: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(Err(Failed::Panic))
}

/// Makes an empty database.
pub(crate) fn made(path: &Path, backend: impl StorageBackend) -> Result<Database, StoreError> {
    database(path, backend, false)
}

/// Opens a database to be read, with every page of it checked. Nothing of the file is changed: its repair would write over the
/// last state that the disk is known to have with one that it may not have, after a sync that failed.
pub(crate) fn opened(path: &Path, backend: impl StorageBackend) -> Result<Database, StoreError> {
    let over = Overlay::new(backend).map_err(|error| io_error(path, &error))?;
    database(path, over, true)
}

fn database(path: &Path, backend: impl StorageBackend, is_checked: bool) -> Result<Database, StoreError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(is_checked);
    let opened = catch_unwind(AssertUnwindSafe(|| builder.create_with_backend(backend)));
    let Ok(opened) = opened else { return Err(StoreError::Damaged(path.to_owned())) };
    opened.map_err(|error| refused(path, error))
}

pub(crate) fn refused(path: &Path, error: DatabaseError) -> StoreError {
    if let DatabaseError::Storage(error) = error {
        Failed::Storage(error).at(path)
    } else if matches!(error, DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch) {
        StoreError::InUse(path.to_owned())
    } else {
        StoreError::Damaged(path.to_owned())
    }
}

/// Writes what a new store says of itself.
pub(crate) fn begin(database: &Database, server: &PublicKey, since: u64) -> Result<(), Failed> {
    let transaction = transaction(database)?;
    introduce(&transaction, server, since)?;
    transaction.commit()?;
    Ok(())
}

fn introduce(transaction: &WriteTransaction, server: &PublicKey, since: u64) -> Result<(), Failed> {
    let mut meta = transaction.open_table(META)?;
    meta.insert(FORMAT_NAME, FORMAT.to_be_bytes().as_slice())?;
    meta.insert(SERVER, server.as_bytes().as_slice())?;
    meta.insert(SINCE, since.to_be_bytes().as_slice())?;
    transaction.open_table(ROWS)?;
    transaction.open_table(LARGE)?;
    Ok(())
}

fn transaction(database: &Database) -> Result<WriteTransaction, Failed> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

/// Returns the barrier of a store, if it is one of ours and of this server.
pub(crate) fn since(database: &Database, server: &PublicKey) -> Result<u64, Failed> {
    let meta = database.begin_read()?.open_table(META)?;
    match meta.get(FORMAT_NAME)?.and_then(|value| number(value.value())) {
        Some(FORMAT) => {}
        Some(found) => return Err(Failed::Format(found)),
        None => return Err(Failed::Damaged),
    }
    if meta.get(SERVER)?.is_none_or(|value| value.value() != server.as_bytes()) {
        return Err(Failed::OtherServer);
    }
    meta.get(SINCE)?.and_then(|value| number(value.value())).ok_or(Failed::Damaged)
}

/// Reads everything that is not too old.
pub(crate) fn read(
    database: &Database,
    server: &PublicKey,
    kept: Kept,
    now: u64,
) -> Result<Restored, Failed> {
    let mut restored = Restored { since: since(database, server)?, records: Vec::new(), is_new: false };
    let transaction = database.begin_read()?;
    let mut answers = BTreeMap::new();
    for table in [ROWS, LARGE] {
        for row in transaction.open_table(table)?.iter()? {
            let (_, row) = row?;
            for entry in code::entries(row.value()) {
                let Entry { is_answer, key, value } = entry.ok_or(Failed::Damaged)?;
                let seconds = code::seconds(key);
                let keep = if is_answer { kept.answered } else { kept.accepted };
                let is_young = seconds.saturating_add(keep) >= now;
                if !is_answer && !is_young {
                    restored.since = restored.since.max(seconds.saturating_add(1));
                }
                if is_young && is_answer {
                    let record = code::read_answered(*server, key, value).ok_or(Failed::Damaged)?;
                    // One that was given anew takes the place of the other.
                    let id = code::id(key);
                    if answers.get(&id).is_none_or(|(other, _)| *other <= seconds) {
                        answers.insert(id, (seconds, record));
                    }
                } else if is_young {
                    restored.records.push(code::read_accepted(key, value).ok_or(Failed::Damaged)?);
                }
            }
        }
    }
    restored.records.extend(answers.into_values().map(|(_, record)| record));
    Ok(restored)
}

/// Writes into an empty database what another one holds and is not too old.
pub(crate) fn copy(
    from: &Database,
    into: &Database,
    server: &PublicKey,
    kept: Kept,
    now: u64,
) -> Result<Tally, Failed> {
    let mut since = since(from, server)?;
    let mut tally = Tally::EMPTY;
    let (reading, writing) = (from.begin_read()?, transaction(into)?);
    for table in [ROWS, LARGE] {
        let mut copied = writing.open_table(table)?;
        for row in reading.open_table(table)?.iter()? {
            let (place, row) = row?;
            let newest = newest(place.value());
            if kept.end(newest) <= now {
                since = since.max(newest.saturating_add(1));
                continue;
            }
            let bytes = weight(row.value());
            tally.answered_bytes = tally.answered_bytes.saturating_add(bytes);
            copied.insert(&tally.place(newest, kept, bytes > 0), row.value())?;
        }
    }
    introduce(&writing, server, since)?;
    writing.commit()?;
    Ok(tally)
}

/// Writes a batch in one transaction, and takes out what is too old if that is asked for.
pub(crate) fn write(
    database: &Database,
    batch: &[Record],
    mut tally: Tally,
    (kept, now): (Kept, u64),
    prunes: bool,
) -> Result<Tally, Failed> {
    let transaction = transaction(database)?;
    {
        let mut rows = transaction.open_table(ROWS)?;
        let (mut row, mut newest, mut has_answers) = (Vec::new(), 0, false);
        for record in batch {
            let (is_answer, key, value) = match record {
                Record::Accepted { key, stamp, protection, origin } => {
                    let value = code::accepted(&key.caller, *protection, origin);
                    (false, code::key(*stamp, &key.id), value)
                }
                Record::Answered { key, draft, protection } => {
                    let value = code::answered(&key.caller, *protection, draft);
                    tally.answered_bytes = tally.answered_bytes.saturating_add(weight_of(&value));
                    (true, code::key(draft.created_at, &key.id), value)
                }
            };
            let entry = Entry { is_answer, key: &key, value: &value };
            if is_answer && value.len() > SMALL {
                let mut alone = Vec::with_capacity(value.len() + SMALL);
                code::push(&mut alone, entry);
                // It lies apart, where nothing is looked through.
                let place = tally.place(code::seconds(&key), kept, false);
                transaction.open_table(LARGE)?.insert(&place, alone.as_slice())?;
                continue;
            }
            code::push(&mut row, entry);
            (newest, has_answers) = (newest.max(code::seconds(&key)), has_answers || is_answer);
            if row.len() >= ROW {
                rows.insert(&tally.place(newest, kept, has_answers), row.as_slice())?;
                (row, newest, has_answers) = (Vec::new(), 0, false);
            }
        }
        if !row.is_empty() {
            rows.insert(&tally.place(newest, kept, has_answers), row.as_slice())?;
        }
        if tally.answered_bytes > kept.answered_bytes {
            make_room(&transaction, &mut rows, &mut tally, kept)?;
        }
        if prunes {
            prune(&transaction, &mut rows, &mut tally, (kept, now))?;
        }
    }
    transaction.commit()?;
    Ok(tally)
}

/// Takes out the oldest answers until the others have room. Ids stay.
fn make_room(
    transaction: &WriteTransaction,
    rows: &mut Rows<'_>,
    tally: &mut Tally,
    kept: Kept,
) -> Result<(), Failed> {
    let mut large = transaction.open_table(LARGE)?;
    while tally.answered_bytes > kept.answered_bytes {
        let row = rows.range::<&Place>(&after(&tally.stripped)..)?.next().transpose()?;
        let row = row.map(|(place, row)| (*place.value(), row.value().to_vec()));
        let alone = large.first()?.map(|(place, _)| *place.value());
        match (row, alone) {
            (Some((place, row)), alone) if alone.is_none_or(|alone| place < alone) => {
                let bytes = weight(&row);
                tally.stripped = place;
                if bytes > 0 {
                    tally.answered_bytes = tally.answered_bytes.saturating_sub(bytes);
                    rows.insert(&place, without_answers(&row).as_slice())?;
                }
            }
            (_, Some(alone)) => {
                if let Some(row) = large.remove(&alone)? {
                    tally.answered_bytes = tally.answered_bytes.saturating_sub(weight(row.value()));
                }
            }
            (_, None) => return Ok(()),
        }
    }
    Ok(())
}

/// Takes out what is too old, a bounded piece of it at once. The barrier moves behind every id that is forgotten, so that
/// a clock that goes back brings none of them back.
fn prune<'t>(
    transaction: &'t WriteTransaction,
    rows: &mut Rows<'t>,
    tally: &mut Tally,
    (kept, now): (Kept, u64),
) -> Result<(), Failed> {
    let mut large = transaction.open_table(LARGE)?;
    let mut left = PIECE;
    let (mut forgotten, mut due) = (None, None);
    for table in [rows, &mut large] {
        while let Some(first) = first(table)? {
            if left == 0 || kept.end(first) > now {
                let end = kept.end(first);
                due = Some(due.map_or(end, |due: u64| due.min(end)));
                break;
            }
            if let Some((_, row)) = table.pop_first()? {
                tally.answered_bytes = tally.answered_bytes.saturating_sub(weight(row.value()));
            }
            forgotten = forgotten.max(Some(first));
            left -= 1;
        }
    }
    tally.due = due;
    if let Some(newest) = forgotten {
        let mut meta = transaction.open_table(META)?;
        let since = meta.get(SINCE)?.and_then(|value| number(value.value())).unwrap_or(0);
        meta.insert(SINCE, since.max(newest.saturating_add(1)).to_be_bytes().as_slice())?;
    }
    Ok(())
}

/// Returns the second of the oldest row.
fn first(table: &Rows<'_>) -> Result<Option<u64>, Failed> {
    let first = table.first()?;
    Ok(first.map(|(place, _)| newest(place.value())))
}

fn without_answers(row: &[u8]) -> Vec<u8> {
    let mut left = Vec::new();
    for entry in code::entries(row).flatten().filter(|entry| !entry.is_answer) {
        code::push(&mut left, entry);
    }
    left
}

/// What the answers of a row weigh.
fn weight(row: &[u8]) -> u64 {
    code::entries(row).flatten().filter(|entry| entry.is_answer).map(|entry| weight_of(entry.value)).sum()
}

fn weight_of(answer: &[u8]) -> u64 {
    OVERHEAD.saturating_add(answer.len() as u64)
}

fn place(newest: u64, number: u64) -> Place {
    ((u128::from(newest) << 64) | u128::from(number)).to_be_bytes()
}

/// Returns the place behind another one.
fn before(place: &Place) -> Place {
    u128::from_be_bytes(*place).saturating_sub(1).to_be_bytes()
}

fn after(place: &Place) -> Place {
    u128::from_be_bytes(*place).saturating_add(1).to_be_bytes()
}

fn newest(place: &Place) -> u64 {
    place.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}
