//! C11: who reads a stream sees a prefix of what was written, piece by piece in order, and one end.
use std::collections::BTreeMap;
use std::sync::Arc;

use nostr::key::PublicKey;

use super::known::{Issue, Known};
use super::{Check, Checker, Verdict};
use crate::trace::{Call, Digest, Entry, Host, What};

/// What an application wrote.
#[derive(Debug, Default)]
struct Written {
    text: String,
    closed: bool,
}

/// How far a reader is.
#[derive(Debug, Default)]
struct Reading {
    chunks: u64,
    bytes: usize,
    ended: bool,
}

/// Both sides of every stream.
#[derive(Debug, Default)]
pub(super) struct Streams {
    written: BTreeMap<(Host, PublicKey, Digest), Written>,
    reading: BTreeMap<Call, Reading>,
    orphans: Vec<Call>,
}

impl Checker for Streams {
    fn see(&mut self, entry: &Entry, known: &Known, verdict: &mut Verdict) {
        match &entry.what {
            What::Wrote { caller, args, data } => {
                let written = self.written.entry((entry.host, *caller, *args)).or_default();
                if written.closed {
                    verdict.broken(Check::C11, entry, "a closed stream took text".to_owned());
                }
                written.text.push_str(data);
            }
            What::Closed { caller, args } => {
                self.written.entry((entry.host, *caller, *args)).or_default().closed = true;
            }
            What::Issued { call, reads: true, .. } => {
                self.reading.insert(*call, Reading::default());
            }
            What::Chunk { call, index, data } if known.is_honest(entry.host) => {
                self.chunk(entry, *call, *index, data, known, verdict);
            }
            What::StreamEnded { call, complete } if known.is_honest(entry.host) => {
                self.ended(entry, *call, *complete, known, verdict);
            }
            What::Crashed => self.orphans.extend(
                self.reading
                    .iter()
                    .filter(|(call, reading)| {
                        !reading.ended && known.issue(**call).is_some_and(|issue| issue.by == entry.host)
                    })
                    .map(|(call, _)| *call),
            ),
            _ => {}
        }
        if matches!(entry.what, What::Crashed) {
            for call in self.orphans.drain(..) {
                self.reading.remove(&call);
            }
        }
    }

    fn finish(&mut self, at: u64, known: &Known, verdict: &mut Verdict) {
        for (call, reading) in &self.reading {
            let Some(issue) = known.issue(*call) else { continue };
            if !reading.ended && known.is_honest(issue.by) {
                let why = format!("the stream of {call:?} never ended");
                verdict.broken_at(Check::C11, at, issue.by, why);
            }
        }
    }
}

impl Streams {
    fn writer(&self, issue: &Issue, known: &Known) -> Option<&Written> {
        let server = known.host(&issue.to)?;
        self.written.get(&(server, known.key(issue.by)?, issue.args))
    }

    fn chunk(
        &mut self,
        entry: &Entry,
        call: Call,
        index: u64,
        data: &Arc<str>,
        known: &Known,
        verdict: &mut Verdict,
    ) {
        let Some(reading) = self.reading.get(&call) else {
            verdict.broken(Check::C11, entry, format!("a chunk of {call:?}, which reads no stream"));
            return;
        };
        let end = reading.bytes.saturating_add(data.len());
        if reading.ended {
            verdict.broken(Check::C11, entry, format!("a chunk of {call:?} after its end"));
        } else if reading.chunks != index {
            let why = format!("chunk {index} of {call:?} came where {} was due", reading.chunks);
            verdict.broken(Check::C11, entry, why);
        } else if let Some(issue) = known.issue(call).filter(|issue| is_from_honest(issue, known)) {
            let written = self.writer(issue, known).and_then(|written| written.text.get(reading.bytes..end));
            if written != Some(&**data) {
                let why = format!("chunk {index} of {call:?} is not what was written there");
                verdict.broken(Check::C11, entry, why);
            }
        }
        if let Some(reading) = self.reading.get_mut(&call) {
            reading.chunks = index.saturating_add(1);
            reading.bytes = end;
        }
    }

    fn ended(&mut self, entry: &Entry, call: Call, complete: bool, known: &Known, verdict: &mut Verdict) {
        let Some(reading) = self.reading.get(&call) else {
            verdict.broken(Check::C11, entry, format!("an end of a stream of {call:?}, which reads none"));
            return;
        };
        if reading.ended {
            verdict.broken(Check::C11, entry, format!("the stream of {call:?} ended twice"));
        }
        let issue = known.issue(call).filter(|issue| is_from_honest(issue, known));
        let written = issue.and_then(|issue| self.writer(issue, known));
        let whole = written
            .map_or(reading.bytes == 0, |written| written.closed && written.text.len() == reading.bytes);
        if complete && issue.is_some() && !whole {
            let (read, all) = (reading.bytes, written.map_or(0, |written| written.text.len()));
            let why = format!("the stream of {call:?} is called complete at {read} bytes of {all}");
            verdict.broken(Check::C11, entry, why);
        }
        if let Some(reading) = self.reading.get_mut(&call) {
            reading.ended = true;
        }
    }
}

fn is_from_honest(issue: &Issue, known: &Known) -> bool {
    known.host(&issue.to).is_some_and(|server| known.is_honest(server))
}
