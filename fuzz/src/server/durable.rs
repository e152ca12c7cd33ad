//! A store beside the server machine, and restarts from what it holds.
use std::collections::BTreeSet;

use contextvm_engine::record::Record;
use contextvm_engine::{RequestKey, ServerInput};

use super::{Run, machine};
use crate::bytes::Bytes;

/// What a store was given, and what it has said about it.
#[derive(Debug, Default)]
pub(super) struct Store {
    records: Vec<Record>,
    /// The store has spoken about so many records, and how many of those it holds.
    spoken: usize,
    held: Vec<Record>,
    /// Everything is held at once.
    pub(super) is_quick: bool,
}

impl Store {
    pub(super) fn remember(&mut self, number: u64, record: Record) {
        self.records.push(record);
        assert_eq!(usize::try_from(number).ok(), Some(self.records.len()), "records are numbered in order");
    }

    pub(super) fn holds(&self, key: &RequestKey) -> bool {
        self.held.iter().any(|record| matches!(record, Record::Accepted { key: held, .. } if held == key))
    }

    /// Takes some of what waits, and returns through which number.
    fn speak(&mut self, count: usize, is_held: bool) -> u64 {
        let until = (self.spoken + count).min(self.records.len());
        if is_held {
            self.held.extend_from_slice(&self.records[self.spoken..until]);
        }
        self.spoken = until;
        u64::try_from(until).expect("there are few")
    }
}

impl Run {
    /// The store is done with some records, or has failed.
    pub(super) fn store_speaks(&mut self, bytes: &mut Bytes<'_>) {
        let (count, is_held) = (bytes.below(5), bytes.byte() % 4 != 3);
        let through = self.store.speak(count, is_held);
        self.input(if is_held {
            ServerInput::Remembered { through }
        } else {
            ServerInput::Unstored { through }
        });
    }

    /// Nothing waits for the store any more.
    pub(super) fn settle(&mut self) {
        while self.store.is_quick && self.store.spoken < self.store.records.len() {
            let through = self.store.speak(usize::MAX / 2, true);
            self.machine.handle(ServerInput::Remembered { through }, self.now);
            self.drain_once();
        }
    }

    /// The process dies and starts again from what was held, and perhaps from what was written and never confirmed.
    pub(super) fn restarts(&mut self, bytes: &mut Bytes<'_>) {
        if !self.config.durable {
            return;
        }
        let mut held = core::mem::take(&mut self.store.held);
        if bytes.flag() {
            held.extend_from_slice(&self.store.records[self.store.spoken..]);
        }
        self.machine = machine(&self.config, self.me);
        self.machine.restore(held.clone(), self.now);
        // What was not answered, or not known to be, is told of the restart when it comes again.
        let kept = held.iter().filter_map(|record| match record {
            Record::Answered { key, .. } => Some(*key),
            Record::Accepted { .. } => None,
        });
        let kept: BTreeSet<RequestKey> = kept.collect();
        self.answers.retain(|key, _| kept.contains(key));
        // Another run may hear again what says nothing to it, where the store has not kept that it came.
        let accepted = held.iter().filter_map(|record| match record {
            Record::Accepted { key, .. } => Some(*key),
            Record::Answered { .. } => None,
        });
        let accepted: BTreeSet<RequestKey> = accepted.collect();
        self.delivered.retain(|key| accepted.contains(key) || !self.harmless.contains(key));
        self.harmless.retain(|key| accepted.contains(key));
        self.requests.clear();
        self.cancelled.clear();
        self.tickets.clear();
        self.questions.clear();
        self.asked.clear();
        self.parts.clear();
        self.offered.clear();
        self.ended.clear();
        self.store = Store { held, ..Store::default() };
    }
}
