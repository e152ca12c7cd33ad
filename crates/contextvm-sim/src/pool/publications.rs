//! Publications of a peer: sent to every relay, answered, refused, put back, and summed up.
use std::collections::BTreeMap;
use std::rc::Rc;

use nostr::event::EventId;

use super::{
    Audience, Auth, Entry, Fate, Line, News, PUBLISH, Pool, Publication, Published, SLOW, Sent, Subscription,
    Timer, WAITING, draw,
};
use crate::frame::{Carried, Said};
use crate::kernel::{Due, Kernel};

/// Publications that one relay may leave unanswered before the oldest are forgotten.
const UNANSWERED: usize = 8 * WAITING;

impl Publication {
    /// Returns the relays whose word counts.
    fn deciding(&self) -> impl Iterator<Item = &Entry> {
        let by_first = self.decides && self.entries.iter().any(|entry| entry.is_first && entry.was_connected);
        self.entries.iter().filter(move |entry| entry.is_first || !by_first)
    }
}

impl Line {
    /// Forgets what was not answered in its time, and says that the relay is behind: a word about it comes too late.
    fn forget_oldest(&mut self, publications: &BTreeMap<u64, Publication>, now: u64) {
        let is_over =
            |number: &u64| publications.get(number).is_none_or(|known: &Publication| known.deadline <= now);
        while let Some(id) = self.order.front().copied() {
            let waits = |sent: &Sent| !sent.numbers.iter().all(&is_over);
            if self.sent.len() <= UNANSWERED && self.sent.get(&id).is_some_and(waits) {
                break;
            }
            self.order.pop_front();
            // What is not there any more was answered.
            self.lags |= self.sent.remove(&id).is_some();
        }
    }
}

impl Pool {
    /// Publishes at the relays that an event is for; `everywhere` waits for all that keep pace.
    pub(crate) fn publish(
        &mut self,
        event: Rc<Carried>,
        everywhere: bool,
        audience: Audience,
        kernel: &mut Kernel,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        let deadline = kernel.now() + PUBLISH;
        let relays = (0..).zip(&self.lines);
        let is_met = |(relay, line): (u16, &Line)| audience.is_first(relay) && line.open_since.is_some();
        let alone = audience.only && relays.clone().any(is_met);
        let entries = relays.map(|(relay, line)| Entry {
            fate: Fate::NotSent,
            last: alone && !audience.is_first(relay),
            keeps_pace: line.open_since.is_some() && !line.lags,
            is_first: audience.is_first(relay),
            was_connected: line.open_since.is_some(),
        });
        let decides = audience.decides;
        let publication = Publication {
            event,
            deadline,
            everywhere,
            decides,
            entries: entries.collect(),
            is_reported: false,
        };
        self.publications.insert(number, publication);
        if self.deadlines.is_empty() {
            self.timer(deadline, Timer::Deadline, kernel);
        }
        self.deadlines.push_back((deadline, number));
        for relay in 0..self.lines.len() as u16 {
            let is_first = audience.is_first(relay);
            let Some(line) = self.lines.get_mut(usize::from(relay)).filter(|_| is_first || !alone) else {
                continue;
            };
            let most = if is_first && !audience.only { WAITING } else { WAITING / 2 };
            let is_behind = line.lags && !(line.queue.is_empty() && line.sent.is_empty());
            if line.queue.len() >= most || (is_behind && !is_first) {
                self.settle(number, relay, Fate::Refused("queue full"));
                continue;
            }
            line.queue.push_back(number);
            self.flush(relay, kernel);
        }
        number
    }

    /// Sends what waits for a relay.
    pub(super) fn flush(&mut self, relay: u16, kernel: &mut Kernel) {
        let now = kernel.now();
        let Some(line) = self.lines.get_mut(usize::from(relay)).filter(|line| line.open_since.is_some())
        else {
            return;
        };
        line.forget_oldest(&self.publications, now);
        if line.paused_until.is_some_and(|until| until > now) {
            return;
        }
        while let Some(number) = line.queue.pop_front() {
            let Some(publication) = self.publications.get_mut(&number).filter(|known| known.deadline > now)
            else {
                line.lags = true;
                continue;
            };
            let event = Rc::clone(&publication.event);
            if let Some(entry) = publication.entries.get_mut(usize::from(relay)).filter(|entry| !entry.last) {
                entry.fate = Fate::NoAnswer;
                entry.was_connected = true;
            }
            let order = &mut line.order;
            let sent = line.sent.entry(event.id).or_insert_with(|| {
                order.push_back(event.id);
                Sent { at: now, numbers: Vec::new(), parked: false }
            });
            sent.numbers.push(number);
            kernel.say(self.peer, relay, Said::Event(event));
        }
    }

    pub(super) fn answered(
        &mut self,
        relay: u16,
        id: &EventId,
        accepted: bool,
        text: &'static str,
        kernel: &mut Kernel,
    ) {
        let now = kernel.now();
        let Some(line) = self.lines.get_mut(usize::from(relay)) else { return };
        if line.auth == Auth::Sent(*id) {
            self.authenticated(relay, accepted, text, kernel);
            return;
        }
        let Some(sent) = line.sent.get_mut(id) else { return };
        let can = matches!(line.auth, Auth::Idle | Auth::Sent(_));
        if !accepted && text.starts_with("auth-required:") && can {
            sent.parked = true;
            line.auth_wanted = true;
            self.talk(relay, kernel);
            return;
        }
        let took = now - sent.at;
        let Some(sent) = line.sent.remove(id) else { return };
        if !accepted && text.starts_with("rate-limited:") {
            line.lags = true;
            if line.paused_until.is_none_or(|until| until <= now) {
                let until = now + line.pause.next_upper(draw(&mut self.rng)).as_micros() as u64;
                line.paused_until = Some(until);
                let timer = Timer::Resume { relay, connection: line.connection };
                kernel.queue.at(until, Due::Pool { peer: self.peer, life: self.life, timer });
            }
            for number in sent.numbers.iter().rev() {
                line.queue.push_front(*number);
            }
            for number in sent.numbers {
                self.note(number, relay, Fate::Refused(text));
            }
            return;
        }
        let taken = accepted || text.starts_with("duplicate:");
        if taken {
            line.pause.reset();
            line.lags = took > SLOW;
        }
        for number in sent.numbers {
            self.settle(number, relay, if taken { Fate::Taken } else { Fate::Refused(text) });
        }
    }

    pub(super) fn authenticated(
        &mut self,
        relay: u16,
        accepted: bool,
        text: &'static str,
        kernel: &mut Kernel,
    ) {
        let Some(line) = self.lines.get_mut(usize::from(relay)) else { return };
        line.auth_wanted = false;
        line.auth = if accepted { Auth::Accepted } else { Auth::Refused };
        if accepted && matches!(line.subscription, Subscription::Closed { .. }) {
            line.subscription = Subscription::Wanted;
        }
        let parked: Vec<EventId> =
            line.sent.iter().filter(|(_, sent)| sent.parked).map(|(id, _)| *id).collect();
        let mut numbers: Vec<u64> =
            parked.iter().filter_map(|id| line.sent.remove(id)).flat_map(|sent| sent.numbers).collect();
        numbers.sort_unstable();
        if accepted {
            for number in numbers.into_iter().rev() {
                line.queue.push_front(number);
            }
            self.talk(relay, kernel);
            self.flush(relay, kernel);
        } else {
            for number in numbers {
                self.settle(number, relay, Fate::Refused(text));
            }
        }
    }

    pub(super) fn note(&mut self, number: u64, relay: u16, fate: Fate) {
        let entry =
            self.publications.get_mut(&number).and_then(|known| known.entries.get_mut(usize::from(relay)));
        if let Some(entry) = entry.filter(|entry| !entry.last) {
            entry.fate = fate;
        }
    }

    /// A relay's last word.
    pub(super) fn settle(&mut self, number: u64, relay: u16, fate: Fate) {
        let Some(publication) = self.publications.get_mut(&number) else { return };
        if let Some(entry) = publication.entries.get_mut(usize::from(relay)) {
            entry.fate = fate;
            entry.last = true;
        }
        let taken = publication.deciding().any(|entry| entry.last && entry.fate == Fate::Taken);
        let all = publication.deciding().all(|entry| entry.last);
        let awaited = publication.entries.iter().any(|entry| entry.keeps_pace && !entry.last);
        if (taken || all) && !(publication.everywhere && awaited) {
            self.report(number);
        }
    }

    pub(super) fn report(&mut self, number: u64) {
        let Some(publication) = self.publications.get_mut(&number).filter(|known| !known.is_reported) else {
            return;
        };
        publication.is_reported = true;
        let fates: Vec<Fate> = publication.deciding().map(|entry| entry.fate).collect();
        let fates = || fates.iter().copied();
        let refusal = fates().find_map(|fate| if let Fate::Refused(text) = fate { Some(text) } else { None });
        let published = if fates().any(|fate| fate == Fate::Taken) {
            Published::Accepted
        } else if fates().any(|fate| fate == Fate::NoAnswer) {
            Published::Unknown
        } else if let Some(text) = refusal {
            Published::Refused(text)
        } else {
            Published::NotSent
        };
        self.news.push_back(News::Published(number, published));
    }
}
