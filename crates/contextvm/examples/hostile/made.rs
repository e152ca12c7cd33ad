//! What the attacking relay sends, made ahead by several threads.
mod memory;
mod replays;
mod rubbish;

use std::collections::BTreeSet;
use std::sync::Arc;

use contextvm::core::{Draft, WrapKind, event};
use contextvm::crypto::{Entropy, Keys, seal};
use contextvm::runtime::clock::unix_now;
use nostr::event::{Event, Tag};

use crate::{ALLOWED, Failure, SERVER, public_key};

/// Threads that prepare; the attack comes from somewhere else, so it may take all there is before it begins.
const THREADS: usize = 2;
/// Callers that attack as [`pool`].
pub(crate) const POOL: usize = 1_000;

/// Events as JSON, ready to be sent.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) events: Vec<String>,
    /// Signed requests, which replays are made of.
    firsts: Vec<Event>,
    /// Those that were to be executed.
    originals: Vec<Event>,
}

impl Made {
    /// Replaces what there is by `number` events of one sort; `size` means what that sort says:
    ///
    /// | sort | events | size |
    /// |---|---|---|
    /// | `rubbish` | wraps that nobody can open | bytes inside |
    /// | `strangers`, `pool` | first messages of new keys, of known ones | - |
    /// | `starts` | declared transfers | bytes declared |
    /// | `chunks` | chunks of transfers that never end | bytes of each |
    /// | `streams` | requests for streams that nobody reads | chunks |
    /// | `first`, `others` | requests of an allowed caller, of many | - |
    /// | `stale`, `elsewhere` | requests that are too old, or for another server | - |
    /// | `wrapped`, `plain` | the last requests again | - |
    /// | `originals` | those of `first` again, wrapped | - |
    pub(crate) fn prepare(mut self, what: &str, number: usize, size: usize) -> Result<Self, Failure> {
        let template = Arc::new(rubbish::template(if what == "rubbish" { size } else { 0 })?);
        let firsts = Arc::new(std::mem::take(&mut self.firsts));
        let make: Make = match what {
            "rubbish" => Arc::new(move |_| rubbish::wrap(&template)),
            "strangers" => Arc::new(|_| wrap(&hello(&contextvm::new_keys()?)?)),
            "pool" => Arc::new(|nth| wrap(&hello(&pool(nth)?)?)),
            "starts" => Arc::new(move |nth| wrap(&memory::start(nth, size)?)),
            "chunks" => Arc::new(move |nth| wrap(&memory::chunk(nth, size)?)),
            "streams" => Arc::new(move |nth| wrap(&memory::stream(nth, size)?)),
            "first" | "others" | "stale" | "elsewhere" | "originals" => {
                self.firsts = match what {
                    "originals" => self.originals.clone(),
                    _ => lanes(number, replays::first(what)?)?,
                };
                if what == "first" {
                    self.originals = self.firsts.clone();
                }
                self.events = lanes(number, replays::again("wrapped", Arc::new(self.firsts.clone()))?)?;
                return Ok(self);
            }
            _ => replays::again(what, Arc::clone(&firsts))?,
        };
        self.events = Vec::new();
        self.events = lanes(number, make)?;
        self.firsts = firsts.to_vec();
        Ok(self)
    }
}

/// Makes the nth event of a sort.
pub(crate) type Make<T = String> = Arc<dyn Fn(usize) -> Result<T, Failure> + Send + Sync>;

/// Makes so many on all threads, in order.
fn lanes<T: Send + 'static>(number: usize, make: Make<T>) -> Result<Vec<T>, Failure> {
    let each = number.div_ceil(THREADS);
    let lanes: Vec<_> = (0..THREADS)
        .map(|lane| {
            let (make, mine) = (Arc::clone(&make), lane * each..number.min((lane + 1) * each));
            std::thread::spawn(move || mine.map(|nth| make(nth)).collect::<Result<Vec<_>, _>>())
        })
        .collect();
    let mut made = Vec::with_capacity(number);
    for lane in lanes {
        made.extend(lane.join().map_err(|_| "a thread panicked")??);
    }
    Ok(made)
}

/// Signs a message for the server.
pub(crate) fn signed(keys: &Keys, content: String, flags: &[&str]) -> Result<Event, Failure> {
    let mut tags = vec![Tag::public_key(public_key(SERVER)?)];
    for flag in flags {
        tags.push(Tag::parse([*flag])?);
    }
    let draft = Draft::new(keys.public_key(), unix_now(), tags.into_iter().collect(), content);
    Ok(keys.sign_draft(&draft, [7; 32]))
}

/// Wraps a signed event for the server.
pub(crate) fn wrap(inner: &Event) -> Result<String, Failure> {
    let entropy = Entropy::gather(getrandom::fill)?;
    Ok(event::print(&seal(inner, &public_key(SERVER)?, WrapKind::Ephemeral, unix_now(), &entropy)?))
}

fn hello(keys: &Keys) -> Result<Event, Failure> {
    let content = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    signed(keys, content.to_owned(), &[])
}

/// Keys of callers that are known by the time they attack.
pub(crate) fn pool(nth: usize) -> Result<Keys, Failure> {
    let mut secret = [0x55; 32];
    if let Some(last) = secret.last_chunk_mut() {
        *last = u32::try_from(nth % POOL)?.to_be_bytes();
    }
    Ok(Keys::from_secret_bytes(secret)?)
}

/// The keys of honest callers, to tell answers to them from what strangers made the server publish.
#[derive(Default)]
pub(crate) struct Known(BTreeSet<String>);

impl Known {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self(
            (1..=ALLOWED).map(|number| Ok(public_key(number)?.to_hex())).collect::<Result<_, Failure>>()?,
        ))
    }

    /// Returns an event's id, and whether it is for one of them.
    pub(crate) fn look(&self, json: &str) -> (String, bool) {
        event::read(json).map_or((String::new(), false), |event| {
            let known = event.tags.public_keys().any(|key| self.0.contains(&key.to_hex()));
            (event.id.to_hex(), known)
        })
    }
}
