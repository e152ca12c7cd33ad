//! Publications of a peer: sent to every relay, answered, refused, put back, and summed up.
use std::rc::Rc;

use nostr::event::EventId;

use super::{
    Auth, Entry, Fate, News, PUBLISH, Pool, Publication, Published, REOPEN_FIRST, REOPEN_MOST, SLOW, Sent,
    Subscription, Timer, WAITING, pause,
};
use crate::frame::{Carried, Said};
use crate::kernel::{Due, Kernel};

impl Pool {
    /// Publishes at all relays; `everywhere` waits for all that keep pace.
    pub(crate) fn publish(&mut self, event: Rc<Carried>, everywhere: bool, kernel: &mut Kernel) -> u64 {
        let number = self.next;
        self.next += 1;
        let deadline = kernel.now() + PUBLISH;
        let entries = self.lines.iter().map(|line| Entry {
            fate: Fate::NotSent,
            last: false,
            keeps_pace: line.open_since.is_some() && !line.lags,
        });
        let publication =
            Publication { event, deadline, everywhere, entries: entries.collect(), is_reported: false };
        self.publications.insert(number, publication);
        if self.deadlines.is_empty() {
            self.timer(deadline, Timer::Deadline, kernel);
        }
        self.deadlines.push_back((deadline, number));
        for relay in 0..self.lines.len() as u16 {
            let Some(line) = self.lines.get_mut(usize::from(relay)) else { continue };
            if line.queue.len() >= WAITING {
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
        let Some(line) = self.lines.get_mut(usize::from(relay)) else { return };
        if line.open_since.is_none() || line.paused_until.is_some_and(|until| until > now) {
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
            }
            let sent = line.sent.entry(event.id);
            sent.or_insert(Sent { at: now, numbers: Vec::new(), parked: false }).numbers.push(number);
            kernel.say(self.peer, relay, Said::Event(event));
        }
        if line.sent.len() > 8 * WAITING {
            let publications = &self.publications;
            line.sent.retain(|_, sent| sent.numbers.iter().any(|number| publications.contains_key(number)));
            line.lags = true;
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
                let until = now + pause(REOPEN_FIRST, REOPEN_MOST, &mut line.pauses, &mut self.rng);
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
            line.pauses = 0;
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
        let taken = publication.entries.iter().any(|entry| entry.last && entry.fate == Fate::Taken);
        let all = publication.entries.iter().all(|entry| entry.last);
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
        let fates = || publication.entries.iter().map(|entry| entry.fate);
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
