//! Several servers as one: a host sees the tools of all of them, with the servers' names before theirs.
//!
//! Each conversation of a host becomes one with every server. The [`merger`] decides; this file only carries.
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contextvm_core::Limits;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::conversation::{Conversations, Counterpart, Gone, Heard, Hearer, Said, Speaker};
use super::exchange::FAREWELL;
use crate::queue::{Waiting, Weigh};
use merger::{Act, Merger};
use names::Directory;

mod gather;
mod listen;
mod merger;
mod names;
mod route;
mod sessions;
mod union;

/// Messages that may wait in one direction before the other side is not listened to any more.
const WAITING: usize = 64;
/// How often it is looked for what takes too long.
const SWEEP: Duration = Duration::from_secs(1);

type NextHeard = Pin<Box<dyn Future<Output = (usize, Hearer, Option<Heard>)> + Send>>;
type Sending = Pin<Box<dyn Future<Output = (usize, Result<(), Gone>)> + Send>>;

/// What has just happened.
enum Event {
    Stop,
    Said(Option<Said>),
    Heard(usize, Hearer, Option<Heard>),
    Sent(usize, Result<(), Gone>),
    Delivered,
    Sweep,
}

/// The way to one server.
struct Link {
    speaker: Option<Speaker>,
    waiting: Waiting<Said>,
    is_sending: bool,
}

/// One conversation of a host.
struct Room {
    merger: Merger,
    counterpart: Counterpart,
    links: Vec<Link>,
    hearing: FuturesUnordered<NextHeard>,
    sending: FuturesUnordered<Sending>,
    to_host: Waiting<Heard>,
}

/// Serves conversations until no more can come and all are over, or until `stop`.
pub(super) async fn run(
    servers: Vec<(String, Conversations)>,
    mut opened: mpsc::Receiver<Counterpart>,
    limits: Limits,
    stop: CancellationToken,
) {
    let (names, servers): (Vec<String>, Vec<Conversations>) = servers.into_iter().unzip();
    let directory = Arc::new(Directory::new(names));
    let mut rooms = FuturesUnordered::new();
    let mut all_opened = false;
    while !(all_opened && rooms.is_empty()) {
        tokio::select! {
            counterpart = opened.recv(), if !all_opened => match counterpart {
                Some(counterpart) => {
                    let merger = Merger::new(Arc::clone(&directory), limits.clone(), Instant::now());
                    rooms.push(converse(&servers, counterpart, merger, &stop));
                }
                None => all_opened = true,
            },
            Some(()) = rooms.next() => {}
            () = stop.cancelled(), if !all_opened => all_opened = true,
        }
    }
}

/// Serves one conversation until either side ends it, or until `stop`.
async fn converse(
    servers: &[Conversations],
    counterpart: Counterpart,
    merger: Merger,
    stop: &CancellationToken,
) {
    let mut room = Room {
        merger,
        counterpart,
        links: Vec::new(),
        hearing: FuturesUnordered::new(),
        sending: FuturesUnordered::new(),
        to_host: Waiting::default(),
    };
    for (server, conversations) in servers.iter().enumerate() {
        let speaker = match conversations.open().await {
            Ok(conversation) => {
                let (speaker, hearer) = conversation.split();
                room.hearing.push(next_heard(server, hearer));
                Some(speaker)
            }
            Err(Gone) => {
                room.merger.gone(server);
                None
            }
        };
        room.links.push(Link { speaker, waiting: Waiting::default(), is_sending: false });
    }
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let event = room.next(&mut sweep, stop).await;
        if matches!(event, Event::Stop | Event::Said(None)) {
            break;
        }
        room.take(event);
        room.act();
    }
    let _late = timeout(FAREWELL, room.leave()).await;
}

/// Waits for what a server says next and brings its channel back.
fn next_heard(server: usize, mut hearer: Hearer) -> NextHeard {
    Box::pin(async move {
        let heard = hearer.hear().await;
        (server, hearer, heard)
    })
}

impl Room {
    /// Waits for whatever happens first. Every branch is cancel-safe, and none waits for another.
    async fn next(&mut self, sweep: &mut tokio::time::Interval, stop: &CancellationToken) -> Event {
        let taking = self.links.iter().all(|link| link.waiting.has_room(WAITING));
        let hearing = self.to_host.has_room(WAITING);
        let first = self.to_host.front().map(Weigh::weigh);
        tokio::select! {
            () = stop.cancelled() => Event::Stop,
            said = self.counterpart.said.recv(), if taking => Event::Said(said),
            Some((server, hearer, heard)) = self.hearing.next(), if hearing => Event::Heard(server, hearer, heard),
            Some((server, sent)) = self.sending.next() => Event::Sent(server, sent),
            // A host that is gone makes room, too.
            _room = self.counterpart.heard.room_for(first.unwrap_or(0)), if first.is_some() => Event::Delivered,
            _now = sweep.tick() => Event::Sweep,
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Stop | Event::Said(None) => {}
            Event::Said(Some(Said::Message(text))) => self.merger.hear_host(&text, Instant::now()),
            Event::Said(Some(Said::Abandon(id))) => self.merger.abandon(&id),
            Event::Heard(server, hearer, Some(heard)) => {
                self.merger.hear_server(server, &heard, Instant::now());
                self.hearing.push(next_heard(server, hearer));
            }
            Event::Heard(server, _, None) | Event::Sent(server, Err(Gone)) => self.lost(server),
            Event::Sent(server, Ok(())) => {
                if let Some(link) = self.links.get_mut(server) {
                    link.is_sending = false;
                }
            }
            Event::Delivered => {
                if let Some(heard) = self.to_host.pop_front()
                    && let Err(heard) = self.counterpart.heard.try_send(heard)
                {
                    self.to_host.push_front(heard);
                }
            }
            Event::Sweep => self.merger.sweep(Instant::now()),
        }
    }

    fn lost(&mut self, server: usize) {
        if let Some(link) = self.links.get_mut(server)
            && link.speaker.take().is_some()
        {
            link.waiting.take_all();
            self.merger.gone(server);
        }
    }

    /// Does what the merger decided.
    fn act(&mut self) {
        while let Some(act) = self.merger.poll() {
            match act {
                Act::Host(heard) => self.to_host.push_back(heard),
                Act::Server(server, said) => {
                    if let Some(link) = self.links.get_mut(server).filter(|link| link.speaker.is_some()) {
                        link.waiting.push_back(said);
                    }
                }
            }
        }
        for (server, link) in self.links.iter_mut().enumerate() {
            if let (false, Some(speaker)) = (link.is_sending, link.speaker.clone())
                && let Some(said) = link.waiting.pop_front()
            {
                link.is_sending = true;
                self.sending.push(Box::pin(async move { (server, speaker.say(said).await) }));
            }
        }
    }

    /// Says to everyone what is left to say.
    async fn leave(mut self) {
        self.merger.end();
        self.act();
        for heard in self.to_host.take_all() {
            if self.counterpart.heard.send(heard).await.is_err() {
                break;
            }
        }
        while self.sending.next().await.is_some() {
            for link in &mut self.links {
                link.is_sending = false;
            }
            self.act();
        }
    }
}

#[cfg(test)]
mod tests;
