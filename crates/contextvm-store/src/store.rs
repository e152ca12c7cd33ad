//! The store itself: two tables in the order of time, and a few words about whose they are.
use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use contextvm_core::Limits;
use contextvm_engine::Record;
use nostr::key::PublicKey;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable as _, StorageBackend,
    StorageError, Table, TableDefinition, WriteTransaction,
};

use crate::StoreError;
use crate::code::{self, Key};
use crate::file::{self, Lock, io_error};

/// Changes whenever an older version would read a store wrongly.
const FORMAT: u64 = 1;
/// Memory for pages, bytes: what is written is hardly ever read.
const CACHE: usize = 4 * 1024 * 1024;
/// How often what is too old is taken out, seconds.
const PRUNE_EVERY: u64 = 10;
/// What an answer is taken to need beside its text, as in the machine's ledger.
const OVERHEAD: u64 = 512;
/// How far ahead of our clock the start of a store may be, seconds.
const AHEAD: u64 = 60;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const ACCEPTED: TableDefinition<'_, &Key, &[u8]> = TableDefinition::new("accepted");
const ANSWERED: TableDefinition<'_, &Key, &[u8]> = TableDefinition::new("answered");

const FORMAT_NAME: &str = "format";
const SERVER: &str = "public_key";
const SINCE: &str = "since";

/// What an earlier run left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Nothing stamped before this Unix second may be accepted: the replay barrier. For a new store it is the next second,
    /// for which its server has to wait; later it only moves behind what was forgotten.
    pub since: u64,
    /// What was kept and is not too old, for `ServerMachine::restore`.
    pub records: Vec<Record>,
    /// There was no store.
    pub is_new: bool,
}

type Opening = Box<dyn Fn() -> Result<Database, StoreError> + Send + Sync>;

/// An open store. It stays locked until it is dropped.
pub struct Store {
    path: PathBuf,
    opening: Opening,
    limits: Kept,
    state: Mutex<State>,
    _lock: Option<Lock>,
}

/// How long and how much is kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    accepted: u64,
    answered: u64,
    answered_bytes: u64,
}

impl Kept {
    const fn new(limits: &Limits) -> Self {
        Self {
            accepted: limits.age_window.saturating_add(limits.age_skew),
            answered: limits.ledger_ttl.as_secs(),
            answered_bytes: limits.ledger_bytes as u64,
        }
    }
}

struct State {
    /// Absent after a failure: it is opened again for the next batch.
    database: Option<Database>,
    answered_bytes: u64,
    pruned: u64,
}

/// Why a transaction failed; what the database says is put into few words at once.
pub(crate) enum Failed {
    Storage(StorageError),
    Panic,
    Damaged,
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

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store of a server, or makes one; `now` is the Unix second. Missing directories are made (mode 0700).
    ///
    /// `limits` must be those of the machine: what it would have forgotten is forgotten here, too.
    ///
    /// # Errors
    /// Refuses a store that another process uses, that belongs to another key, that is damaged or in the future, or that
    /// others may read. Nothing is ever overwritten or begun anew in its place.
    pub fn open(
        path: &Path,
        server: &PublicKey,
        limits: &Limits,
        now: u64,
    ) -> Result<(Self, Restored), StoreError> {
        let lock = Lock::take(path)?;
        let is_new = file::open(path)?.is_none();
        if is_new {
            file::make(path, |file| {
                let database = database(path, backend(path, file)?)?;
                begin(&database, server, now.saturating_add(1)).map_err(|failed| failed.at(path))
            })?;
        }
        let name = path.to_owned();
        let opening = Box::new(move || {
            let file = file::open(&name)?.ok_or_else(|| StoreError::Damaged(name.clone()))?;
            database(&name, backend(&name, file)?)
        });
        let (mut store, mut restored) = Self::with(path, opening, server, limits, now)?;
        store._lock = Some(lock);
        restored.is_new = is_new;
        Ok((store, restored))
    }

    pub(crate) fn with(
        path: &Path,
        opening: Opening,
        server: &PublicKey,
        limits: &Limits,
        now: u64,
    ) -> Result<(Self, Restored), StoreError> {
        let database = opening()?;
        let limits = Kept::new(limits);
        let read = guarded(|| read(&database, server, limits, now)).map_err(|failed| failed.at(path))?;
        let read = read.map_err(|refusal| refusal.at(path))?;
        if let Some(ahead) = read.restored.since.checked_sub(now).filter(|ahead| *ahead > AHEAD) {
            return Err(StoreError::Clock { path: path.to_owned(), ahead });
        }
        let state = State { database: Some(database), answered_bytes: read.answered_bytes, pruned: 0 };
        let store = Self { path: path.to_owned(), opening, limits, state: Mutex::new(state), _lock: None };
        Ok((store, read.restored))
    }

    /// Returns the path of the store.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a batch; when this returns, it survives a power cut. Now and then takes out what is too old at `now`.
    ///
    /// # Errors
    /// Nothing of the batch can be relied on then. The next batch finds the file opened again, so a disk that has room
    /// again is used again.
    pub fn commit(&self, batch: &[Record], now: u64) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { database, answered_bytes, pruned } = &mut *state;
        let open = match database.take() {
            Some(open) => open,
            None => (self.opening)()?,
        };
        let is_due = now.abs_diff(*pruned) >= PRUNE_EVERY;
        let written = guarded(|| write(&open, batch, *answered_bytes, (self.limits, now), is_due));
        *answered_bytes = written.map_err(|failed| failed.at(&self.path))?;
        if is_due {
            *pruned = now;
        }
        *database = Some(open);
        Ok(())
    }
}

fn backend(path: &Path, file: File) -> Result<FileBackend, StoreError> {
    FileBackend::new(file).map_err(|error| refused(path, error))
}

/// Opens a database, every page of it checked.
pub(crate) fn database(path: &Path, backend: impl StorageBackend) -> Result<Database, StoreError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    let opened = catch_unwind(AssertUnwindSafe(|| builder.create_with_backend(backend)));
    let Ok(opened) = opened else { return Err(StoreError::Damaged(path.to_owned())) };
    opened.map_err(|error| refused(path, error))
}

fn refused(path: &Path, error: DatabaseError) -> StoreError {
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
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT_NAME, FORMAT.to_be_bytes().as_slice())?;
        meta.insert(SERVER, server.as_bytes().as_slice())?;
        meta.insert(SINCE, since.to_be_bytes().as_slice())?;
        transaction.open_table(ACCEPTED)?;
        transaction.open_table(ANSWERED)?;
    }
    transaction.commit()?;
    Ok(())
}

fn transaction(database: &Database) -> Result<WriteTransaction, Failed> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    Ok(transaction)
}

struct Read {
    restored: Restored,
    answered_bytes: u64,
}

/// A store that is in order, and not ours to use.
enum Refusal {
    OtherServer,
    Format(u64),
    Damaged,
}

impl Refusal {
    fn at(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::OtherServer => StoreError::OtherServer(path),
            Self::Format(found) => StoreError::Format { path, found },
            Self::Damaged => StoreError::Damaged(path),
        }
    }
}

fn read(
    database: &Database,
    server: &PublicKey,
    limits: Kept,
    now: u64,
) -> Result<Result<Read, Refusal>, Failed> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    match meta.get(FORMAT_NAME)?.and_then(|value| number(value.value())) {
        Some(FORMAT) => {}
        Some(found) => return Ok(Err(Refusal::Format(found))),
        None => return Ok(Err(Refusal::Damaged)),
    }
    if meta.get(SERVER)?.is_none_or(|value| value.value() != server.as_bytes()) {
        return Ok(Err(Refusal::OtherServer));
    }
    let Some(since) = meta.get(SINCE)?.and_then(|value| number(value.value())) else {
        return Ok(Err(Refusal::Damaged));
    };
    let mut restored = Restored { since, records: Vec::new(), is_new: false };
    for entry in transaction.open_table(ACCEPTED)?.iter()? {
        let (key, value) = entry?;
        let seconds = code::seconds(key.value());
        if seconds.saturating_add(limits.accepted) < now {
            restored.since = restored.since.max(seconds.saturating_add(1));
            continue;
        }
        let Some(record) = code::read_accepted(key.value(), value.value()) else {
            return Ok(Err(Refusal::Damaged));
        };
        restored.records.push(record);
    }
    let mut answered_bytes: u64 = 0;
    for entry in transaction.open_table(ANSWERED)?.iter()? {
        let (key, value) = entry?;
        answered_bytes = answered_bytes.saturating_add(weight(value.value()));
        if code::seconds(key.value()).saturating_add(limits.answered) < now {
            continue;
        }
        let Some(record) = code::read_answered(*server, key.value(), value.value()) else {
            return Ok(Err(Refusal::Damaged));
        };
        restored.records.push(record);
    }
    Ok(Ok(Read { restored, answered_bytes }))
}

/// Writes a batch in one transaction and returns the weight of all answers then.
fn write(
    database: &Database,
    batch: &[Record],
    mut answered_bytes: u64,
    (limits, now): (Kept, u64),
    prunes: bool,
) -> Result<u64, Failed> {
    let transaction = transaction(database)?;
    {
        let mut accepted = transaction.open_table(ACCEPTED)?;
        let mut answered = transaction.open_table(ANSWERED)?;
        for record in batch {
            match record {
                Record::Accepted { key, stamp, protection, origin } => {
                    let value = code::accepted(&key.caller, *protection, origin);
                    accepted.insert(&code::key(*stamp, &key.id), value.as_slice())?;
                }
                Record::Answered { key, draft, protection } => {
                    let value = code::answered(&key.caller, *protection, draft);
                    answered_bytes = answered_bytes.saturating_add(weight(&value));
                    let place = code::key(draft.created_at, &key.id);
                    if let Some(old) = answered.insert(&place, value.as_slice())? {
                        answered_bytes = answered_bytes.saturating_sub(weight(old.value()));
                    }
                }
            }
        }
        while answered_bytes > limits.answered_bytes
            && let Some((_, value)) = answered.pop_first()?
        {
            answered_bytes = answered_bytes.saturating_sub(weight(value.value()));
        }
        if prunes {
            let bytes = prune(&transaction, (&mut accepted, &mut answered), limits, now)?;
            answered_bytes = answered_bytes.saturating_sub(bytes);
        }
    }
    transaction.commit()?;
    Ok(answered_bytes)
}

type Entries<'t> = Table<'t, &'static Key, &'static [u8]>;

/// Takes out what is too old and returns the weight of the answers among it. The barrier moves behind every id that is
/// forgotten, so that a clock that goes back brings none of them back.
fn prune(
    transaction: &WriteTransaction,
    (accepted, answered): (&mut Entries<'_>, &mut Entries<'_>),
    limits: Kept,
    now: u64,
) -> Result<u64, Failed> {
    let mut forgotten = None;
    while let Some(stamp) = first(accepted)? {
        if stamp.saturating_add(limits.accepted) >= now {
            break;
        }
        accepted.pop_first()?;
        forgotten = Some(stamp);
    }
    if let Some(stamp) = forgotten {
        let mut meta = transaction.open_table(META)?;
        let since = meta.get(SINCE)?.and_then(|value| number(value.value())).unwrap_or(0);
        meta.insert(SINCE, since.max(stamp.saturating_add(1)).to_be_bytes().as_slice())?;
    }
    let mut bytes: u64 = 0;
    while let Some(at) = first(answered)? {
        if at.saturating_add(limits.answered) >= now {
            break;
        }
        if let Some((_, value)) = answered.pop_first()? {
            bytes = bytes.saturating_add(weight(value.value()));
        }
    }
    Ok(bytes)
}

/// Returns the seconds of the oldest entry.
fn first(table: &Entries<'_>) -> Result<Option<u64>, Failed> {
    let first = table.first()?;
    Ok(first.map(|(key, _)| code::seconds(key.value())))
}

fn weight(value: &[u8]) -> u64 {
    OVERHEAD.saturating_add(value.len() as u64)
}

fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

/// Runs a transaction; where the database finds its own pages impossible, it panics, and that is damage to us.
fn guarded<T>(act: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or(Err(Failed::Panic))
}

impl Failed {
    fn at(self, path: &Path) -> StoreError {
        use std::io::ErrorKind::{InvalidData, Other, UnexpectedEof};
        match self {
            // What is cut short ends too early.
            Self::Storage(StorageError::Io(error))
                if !matches!(error.kind(), InvalidData | UnexpectedEof) =>
            {
                io_error(path, &error)
            }
            Self::Storage(StorageError::PreviousIo) => StoreError::Io { path: path.to_owned(), kind: Other },
            Self::Storage(_) | Self::Panic | Self::Damaged => StoreError::Damaged(path.to_owned()),
        }
    }
}
