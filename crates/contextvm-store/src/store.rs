//! The store itself: opened once, written batch by batch, and begun anew in a fresh file where the old one cannot be trusted.
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use contextvm_core::Limits;
use contextvm_engine::Record;
use nostr::key::PublicKey;
use redb::Database;
use redb::backends::FileBackend;

use crate::StoreError;
use crate::base::{self, Failed, Kept, Tally, guarded};
use crate::file::{self, Lock};

/// How often what is too old is taken out, seconds.
const PRUNE_EVERY: u64 = 10;
/// How far ahead of our clock the start of a store may be, seconds.
const AHEAD: u64 = 60;
/// Longest time for which a disk that fails is left alone, seconds.
const LONGEST_PAUSE: u64 = 30;

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

/// Fills a database that was made.
pub(crate) type Fill<'a> = Box<dyn FnOnce(&Database) -> Result<Tally, Failed> + 'a>;

/// Where the file of a store lies.
pub(crate) trait Place: Send + Sync {
    /// Opens what is there, every page of it checked; `None` when there is nothing.
    fn open(&self) -> Result<Option<Database>, StoreError>;
    /// Makes a fresh file, has it filled, and puts it in the place of what was there, for good.
    fn replace(&self, fill: Fill<'_>) -> Result<(Database, Tally), StoreError>;
}

/// An open store. It stays locked until it is dropped.
pub struct Store {
    path: PathBuf,
    place: Box<dyn Place>,
    server: PublicKey,
    kept: Kept,
    state: Mutex<State>,
    _lock: Option<Lock>,
}

struct State {
    /// Absent after a failure: then nothing of it is trusted, and its records go into a fresh file.
    database: Option<Database>,
    tally: Tally,
    pruned: u64,
    failure: Option<Failure>,
}

/// The last failure, unless something was kept since.
struct Failure {
    error: StoreError,
    at: u64,
    /// How long the disk is left alone, seconds.
    pause: u64,
}

/// A place whose store was removed, and which nobody else can use until this is dropped.
#[derive(Debug)]
pub struct Discarded {
    _lock: Lock,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store of a server, or makes one. Missing directories are made (mode 0700).
    ///
    /// `now` tells the Unix second. It is asked behind the lock: until then another process may have executed something.
    ///
    /// What is young enough is copied into a fresh file, which takes the place of the old one: no write of an earlier run that
    /// the disk may have lost is built upon. `limits` must be those of the machine: what it would have forgotten is
    /// forgotten here, too.
    ///
    /// # Errors
    /// Refuses a store that another process uses, that belongs to another key or has another format, that is damaged or in the
    /// future, or that others may read. Such a one is never overwritten, and nothing is begun anew in its place.
    pub fn open(
        path: &Path,
        server: &PublicKey,
        limits: &Limits,
        now: impl FnOnce() -> u64,
    ) -> Result<(Self, Restored), StoreError> {
        let path = &file::followed(path)?;
        let lock = Lock::take(path)?;
        file::check_owner(path)?;
        let place = Box::new(OnDisk(path.clone()));
        Self::with(path, place, Some(lock), server, limits, now())
    }

    pub(crate) fn with(
        path: &Path,
        place: Box<dyn Place>,
        lock: Option<Lock>,
        server: &PublicKey,
        limits: &Limits,
        now: u64,
    ) -> Result<(Self, Restored), StoreError> {
        let (kept, server) = (Kept::new(limits), *server);
        let (restored, fill): (_, Fill<'_>) = if let Some(old) = place.open()? {
            let read = guarded(|| base::read(&old, &server, kept, now)).map_err(|failed| failed.at(path));
            let restored = match read.and_then(|restored| check_clock(path, restored, now)) {
                Ok(restored) => restored,
                Err(error) => {
                    close(old);
                    return Err(error);
                }
            };
            (restored, Box::new(move |new| copied(old, new, &server, kept, now)))
        } else {
            let since = now.saturating_add(1);
            let fill: Fill<'_> = Box::new(move |new| base::begin(new, &server, since).map(|()| Tally::EMPTY));
            (Restored { since, records: Vec::new(), is_new: true }, fill)
        };
        let (database, tally) = place.replace(fill)?;
        let state = State { database: Some(database), tally, pruned: 0, failure: None };
        let path = path.to_owned();
        Ok((Self { path, place, server, kept, state: Mutex::new(state), _lock: lock }, restored))
    }

    /// Removes the store of a server that is about to serve without one, and holds its place.
    ///
    /// What such a server executes is in no store. One that was made before would let it be executed again; the next one
    /// begins after it. What cannot be read as a store is put aside, as `PATH.damaged`. Missing directories are made.
    ///
    /// # Errors
    /// Refuses a store that another process uses, and one of another key. Fails when the host does.
    pub fn discard(path: &Path, server: &PublicKey) -> Result<Discarded, StoreError> {
        let path = &file::followed(path)?;
        let lock = Lock::take(path)?;
        let found = OnDisk(path.clone()).open().and_then(|old| match old {
            Some(old) => {
                let since = guarded(|| base::since(&old, server)).map_err(|failed| failed.at(path));
                close(old);
                since.map(|_| ())
            }
            None => Ok(()),
        });
        match found {
            Ok(()) => file::remove_for_good(path)?,
            Err(error @ (StoreError::OtherServer(_) | StoreError::InUse(_))) => return Err(error),
            Err(_) => file::put_aside(path)?,
        }
        Ok(Discarded { _lock: lock })
    }

    /// Returns the path of the store.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a batch; when this returns, it survives a power cut. Now and then takes out what is too old at `now`, a bounded
    /// piece at once; an empty batch does only that.
    ///
    /// # Errors
    /// Nothing of the batch can be relied on then, nor of the file: the next batch begins with a fresh one, into which goes
    /// what the old one holds. If that fails as well, the disk is left alone for a while, a second at first and thirty in the
    /// end; until then every batch fails at once with the same error.
    pub fn commit(&self, batch: &[Record], now: u64) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Failure { error, at, pause }) = &state.failure
            && now.abs_diff(*at) < *pause
        {
            return Err(error.clone());
        }
        let kept = self.keep(&mut state, batch, now);
        state.failure = kept.as_ref().err().map(|error| {
            let pause = state.failure.as_ref().map_or(0, |last| (last.pause * 2).clamp(1, LONGEST_PAUSE));
            Failure { error: error.clone(), at: now, pause }
        });
        kept
    }

    /// Returns the Unix second from which on something is to be taken out, if there is anything: for a server that nobody
    /// calls, and that has an empty batch kept then.
    #[must_use]
    pub fn next_prune(&self) -> Option<u64> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tally.due.map(|due| due.max(state.pruned.saturating_add(PRUNE_EVERY)))
    }

    fn keep(&self, state: &mut State, batch: &[Record], now: u64) -> Result<(), StoreError> {
        let database = match state.database.take() {
            Some(open) => open,
            None => self.begin_anew(&mut state.tally, now)?,
        };
        let is_old = state.tally.due.is_some_and(|due| due <= now);
        let prunes = is_old && now.abs_diff(state.pruned) >= PRUNE_EVERY;
        let (tally, kept) = (state.tally, (self.kept, now));
        let written = guarded(|| base::write(&database, batch, tally, kept, prunes));
        let (database, tally) = or_close(database, written).map_err(|failed| failed.at(&self.path))?;
        (state.database, state.tally) = (Some(database), tally);
        if prunes && tally.due.is_none_or(|due| due > now) {
            state.pruned = now;
        }
        Ok(())
    }

    /// Copies what was kept into a fresh file: of what a failed sync was to write, nobody knows what the disk has, though
    /// it can still be read.
    fn begin_anew(&self, tally: &mut Tally, now: u64) -> Result<Database, StoreError> {
        let old = self.place.open()?.ok_or_else(|| StoreError::Damaged(self.path.clone()))?;
        let (server, kept) = (&self.server, self.kept);
        let replaced = self.place.replace(Box::new(move |new| copied(old, new, server, kept, now)));
        let (database, copied) = replaced?;
        *tally = copied;
        Ok(database)
    }
}

fn check_clock(path: &Path, restored: Restored, now: u64) -> Result<Restored, StoreError> {
    match restored.since.checked_sub(now) {
        Some(ahead) if ahead > AHEAD => Err(StoreError::Clock { path: path.to_owned(), ahead }),
        Some(_) | None => Ok(restored),
    }
}

/// A place in the file system.
struct OnDisk(PathBuf);

impl Place for OnDisk {
    fn open(&self) -> Result<Option<Database>, StoreError> {
        let Some(file) = file::open(&self.0)? else { return Ok(None) };
        let backend = FileBackend::new(file).map_err(|error| base::refused(&self.0, error))?;
        base::opened(&self.0, backend).map(Some)
    }

    fn replace(&self, fill: Fill<'_>) -> Result<(Database, Tally), StoreError> {
        file::replace(&self.0, |file| {
            let backend = FileBackend::new(file).map_err(|error| base::refused(&self.0, error))?;
            fill_new(&self.0, base::made(&self.0, backend)?, fill)
        })
    }
}

/// Fills a database that was just made.
pub(crate) fn fill_new(
    path: &Path,
    database: Database,
    fill: Fill<'_>,
) -> Result<(Database, Tally), StoreError> {
    let filled = guarded(|| fill(&database));
    or_close(database, filled).map_err(|failed| failed.at(path))
}

/// Fills a database with what another one holds, and closes that.
fn copied(old: Database, new: &Database, server: &PublicKey, kept: Kept, now: u64) -> Result<Tally, Failed> {
    let copied = guarded(|| base::copy(&old, new, server, kept, now));
    close(old);
    copied
}

/// Keeps a database open with which all went well.
fn or_close<T>(database: Database, outcome: Result<T, Failed>) -> Result<(Database, T), Failed> {
    match outcome {
        Ok(outcome) => Ok((database, outcome)),
        Err(failed) => {
            close(database);
            Err(failed)
        }
    }
}

/// Closes a database. That writes, too, and may panic like everything else.
fn close(database: Database) {
    let _lost = guarded(|| {
        drop(database);
        Ok(())
    });
}
