//! One connection: a reader and a writer that never wait for each other.
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use contextvm_core::frame::{self, RelayFrame};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use nostr::event::EventId;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{self, Message};

use super::outbox::{Answer, RelaySuccess, Take};
use super::talk::{Authenticated, Do, Talk};
use super::{Link, locked, printable, unix};
use crate::config::Filter;
use crate::connect::Connection;
use crate::publish::after;
use crate::relays::Incoming;
use crate::socket::{Endless, Socket};
use crate::status::RelayState;

/// Time allowed for a farewell.
const FAREWELL: Duration = Duration::from_secs(1);
/// Control frames of the relay accepted in one window; more end the connection.
const CONTROLS: u32 = 100;
/// Messages of no use accepted in one window: neither events for us nor answers to what was published.
const USELESS: u32 = 10_000;
const WINDOW: Duration = Duration::from_secs(10);

/// Runs one connection to its end and returns why it ended.
pub(super) async fn run(link: &Link, connection: Connection) -> String {
    let Connection { socket, reached: _, mut hold } = connection;
    let (mut sink, stream) = socket.split();
    let session = Session {
        link,
        talk: Mutex::new(Talk::new(
            !link.shared.filters.is_empty(),
            link.shared.signer.is_some(),
            link.shared.timing.clone(),
            link.facts().last_signature,
        )),
        ping: Mutex::new(false),
        live: Live::new(link),
    };
    if link.shared.filters.is_empty() {
        session.live.set(true);
    }
    session.spared();
    let start = Instant::now();
    let mut stop = link.stop.subscribe();
    let reason = tokio::select! {
        reason = session.read(stream) => reason,
        reason = session.write(&mut sink) => reason,
        reason = session.cut() => reason,
        () = hold.closed() => "given up".to_owned(),
        _ = stop.wait_for(|stop| *stop) => "stopped".to_owned(),
    };
    session.live.set(false);
    let enough = link.shared.timing.lived;
    locked(&link.reconnect).lived(start.elapsed(), session.live.lasted(), enough);
    // The next connection is not kept waiting by a relay that is stopped and takes nothing, and its delay is drawn now.
    drop(hold);
    // A relay that does not take the farewell loses nothing by it.
    let _ = timeout(FAREWELL, sink.close()).await;
    reason
}

struct Session<'a> {
    link: &'a Link,
    talk: Mutex<Talk>,
    /// Whether a ping is to be sent.
    ping: Mutex<bool>,
    live: Live<'a>,
}

impl Session<'_> {
    /// Waits for somebody to end the connection.
    async fn cut(&self) -> String {
        loop {
            self.link.cut.notified().await;
            // A cut that was meant for an earlier connection leaves no reason behind.
            if let Some(reason) = self.spared() {
                return reason;
            }
        }
    }

    /// Takes the reason for a cut: what the connection brought until now is paid for by that.
    fn spared(&self) -> Option<String> {
        let mut facts = self.link.facts();
        let reason = facts.cut.take()?;
        let delivered = facts.counts.events;
        facts.damage.forgive(delivered);
        Some(reason)
    }

    async fn read(&self, mut stream: SplitStream<Socket>) -> String {
        let timing = &self.link.shared.timing;
        let mut heard = Instant::now();
        let mut pinged = false;
        let mut controls = Counted { start: heard, count: 0, most: CONTROLS };
        let mut useless = Counted { start: heard, count: 0, most: USELESS };
        loop {
            if self.link.backlog.room().await {
                // The silence was ours.
                (heard, pinged) = (Instant::now(), false);
            }
            let patience = after(heard, if pinged { timing.dead } else { timing.ping });
            let message = match tokio::time::timeout_at(patience, stream.next()).await {
                Err(_) if pinged => return format!("silent for {:?}", timing.dead),
                Err(_) => {
                    pinged = true;
                    *locked(&self.ping) = true;
                    self.link.wake.notify_one();
                    continue;
                }
                Ok(None) => return "closed by the relay".to_owned(),
                Ok(Some(Err(error))) if Endless::is(&error) => return self.too_many("fragments"),
                Ok(Some(Err(error))) => {
                    self.link.facts().oversized |= matches!(error, tungstenite::Error::Capacity(_));
                    return printable(&error.to_string());
                }
                Ok(Some(Ok(message))) => message,
            };
            // One reading of the socket may hold thousands of messages.
            tokio::task::consume_budget().await;
            (heard, pinged) = (Instant::now(), false);
            match message {
                Message::Text(text) => {
                    if !self.hear(&text) && useless.too_many(heard) {
                        return self.too_many("useless messages");
                    }
                }
                Message::Close(frame) => return closed(frame),
                Message::Ping(_) | Message::Pong(_) if controls.too_many(heard) => {
                    return self.too_many("control frames");
                }
                // The answer to a ping is queued by the socket itself; the writer has to push it out.
                Message::Ping(_) => self.link.wake.notify_one(),
                Message::Pong(_) => {}
                Message::Binary(_) | Message::Frame(_) => {
                    self.link.facts().counts.malformed += 1;
                    if useless.too_many(heard) {
                        return self.too_many("useless messages");
                    }
                }
            }
        }
    }

    /// The connection ends, and the next one is made later.
    fn too_many(&self, what: &str) -> String {
        locked(&self.link.reconnect).punish();
        format!("too many {what}")
    }

    /// Takes in one relay message, and says whether it was of use.
    fn hear(&self, text: &str) -> bool {
        let now = Instant::now();
        let ours = |subscription: &str| subscription == self.link.shared.subscription;
        if self.live.get() {
            self.link.facts().seen = unix();
        }
        if text.len() > self.link.shared.largest {
            self.link.facts().counts.malformed += 1;
            return false;
        }
        match RelayFrame::parse(text) {
            Ok(RelayFrame::Event { subscription, event }) => {
                if ours(&subscription) {
                    let number = {
                        let mut facts = self.link.facts();
                        facts.counts.events += 1;
                        facts.counts.events
                    };
                    if !self.live.get() {
                        locked(&self.talk).heard();
                    }
                    let (json, stored) = (event.get().to_owned(), !self.live.get());
                    self.link.deliver(Incoming::Event { relay: self.link.relay, number, json, stored });
                    return true;
                }
                self.link.facts().counts.unknown_subscriptions += 1;
            }
            Ok(RelayFrame::Ok { id, accepted, message }) => {
                return self.answered(&id, accepted, &message, now);
            }
            Ok(RelayFrame::EndOfStored { subscription }) => {
                if ours(&subscription) && locked(&self.talk).end_of_stored(now) {
                    self.live.set(true);
                    let mut facts = self.link.facts();
                    (facts.seen, facts.oversized) = (unix(), false);
                }
            }
            Ok(RelayFrame::Closed { subscription, message }) => {
                if ours(&subscription) {
                    self.closed(&message, now);
                }
            }
            Ok(RelayFrame::Auth { challenge }) => {
                locked(&self.talk).challenged(&challenge);
                self.link.wake.notify_one();
            }
            Ok(RelayFrame::Notice { message }) => {
                let notice = printable(&message);
                if self.link.may_log(now) {
                    tracing::debug!(relay = %self.link.url, notice, "notice");
                }
                self.link.facts().last_notice = Some(notice);
            }
            // We never ask for a count.
            Ok(RelayFrame::Count { .. }) => {}
            Err(_) => self.link.facts().counts.malformed += 1,
        }
        false
    }

    fn closed(&self, message: &str, now: Instant) {
        let text = printable(message);
        if self.link.may_log(now) {
            tracing::debug!(relay = %self.link.url, reason = text, "subscription closed");
        }
        locked(&self.talk).closed(message.starts_with("auth-required:"), now);
        self.live.set(false);
        self.link.facts().last_error = Some(format!("subscription closed: {text}"));
        self.link.wake.notify_one();
    }

    fn answered(&self, id: &EventId, accepted: bool, message: &str, now: Instant) -> bool {
        let authenticated = locked(&self.talk).answered(id, accepted);
        match authenticated {
            Authenticated::Yes => {
                tracing::debug!(relay = %self.link.url, "authenticated");
                // Whoever takes our answers gets one at once on the next connection, too; how often there is one is bounded.
                self.link.facts().last_signature = None;
                self.link.outbox.authenticated(now);
            }
            Authenticated::No => {
                let text = printable(message);
                self.link.outbox.not_authenticated(&text);
                self.link.facts().last_error = Some(format!("authentication refused: {text}"));
            }
            Authenticated::NotOurs => return self.published(id, accepted, message, now),
        }
        self.link.wake.notify_one();
        true
    }

    /// Takes in the answer to a publication; says whether there was one.
    fn published(&self, id: &EventId, accepted: bool, message: &str, now: Instant) -> bool {
        let answer = self.answer(accepted, message);
        let text = if accepted { String::new() } else { printable(message) };
        let took = self.link.outbox.answered(id, answer, &text, now);
        let mut facts = self.link.facts();
        match (took, answer) {
            (None, _) => facts.counts.unknown_answers += 1,
            (Some(took), Answer::Success(_)) => {
                facts.rtt = Some(took);
                facts.counts.accepted += 1;
            }
            (Some(took), Answer::Authenticate | Answer::Unauthorized | Answer::Later | Answer::No) => {
                facts.rtt = Some(took);
                facts.counts.refused += 1;
                facts.last_error = Some(format!("event refused: {text}"));
            }
        }
        drop(facts);
        if matches!(answer, Answer::Authenticate | Answer::Unauthorized | Answer::Later) {
            self.link.wake.notify_one();
        }
        took.is_some()
    }

    fn answer(&self, accepted: bool, message: &str) -> Answer {
        if message.starts_with("duplicate:") {
            Answer::Success(RelaySuccess::Old)
        } else if accepted {
            Answer::Success(RelaySuccess::New)
        } else if message.starts_with("rate-limited:") {
            Answer::Later
        } else if message.starts_with("auth-required:") {
            if locked(&self.talk).auth_required() { Answer::Authenticate } else { Answer::Unauthorized }
        } else {
            Answer::No
        }
    }

    async fn write(&self, sink: &mut SplitSink<Socket, Message>) -> String {
        let dead = self.link.shared.timing.dead;
        let mut clocks = Clocks { mono: Instant::now(), wall: SystemTime::now() };
        loop {
            let now = Instant::now();
            if let Some(jump) = clocks.jump(now, SystemTime::now()) {
                return jump.to_owned();
            }
            let wait = match self.next(now) {
                Ok(message) => match timeout(dead, sink.feed(message)).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => return printable(&error.to_string()),
                    Err(_) => return format!("took nothing for {dead:?}"),
                },
                Err(wait) => wait,
            };
            match timeout(dead, sink.flush()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return printable(&error.to_string()),
                Err(_) => return format!("took nothing for {dead:?}"),
            }
            match wait {
                Some(until) => {
                    // Being woken early and being woken on time lead to the same look around.
                    let _ = tokio::time::timeout_at(until, self.link.wake.notified()).await;
                }
                None => self.link.wake.notified().await,
            }
        }
    }

    /// Finds the next message to send, or until when there is none: first the subscription, then events.
    fn next(&self, now: Instant) -> Result<Message, Option<Instant>> {
        let until = loop {
            let next = locked(&self.talk).next(now);
            match next {
                Do::Subscribe => return Ok(self.request()),
                Do::Sign(challenge) => {
                    if let Some(message) = self.sign(&challenge, now) {
                        return Ok(message);
                    }
                }
                Do::Wait(until) => break until,
            }
        };
        if std::mem::take(&mut *locked(&self.ping)) {
            return Ok(Message::Ping(tungstenite::Bytes::new()));
        }
        match self.link.outbox.take(now) {
            Take::Send(publication) => {
                self.link.facts().counts.sent += 1;
                Ok(Message::Text(publication.frame.clone()))
            }
            Take::Wait(None) => Err(until),
            Take::Wait(Some(other)) => Err(Some(until.map_or(other, |until| until.min(other)))),
        }
    }

    /// Spells the subscription, reaching back to when this relay was last seen, unless what it kept cannot be read.
    fn request(&self) -> Message {
        let shared = &self.link.shared;
        let (seen, oversized) = {
            let facts = self.link.facts();
            (facts.seen, facts.oversized)
        };
        // A clock that was set back does not make us deaf.
        let now = unix();
        let since = seen.saturating_sub(shared.timing.overlap.as_secs()).max(shared.start).min(now);
        let spell = |filter: &Filter| if oversized { filter.from(now) } else { filter.since(since) };
        let filters: Vec<String> = shared.filters.iter().map(spell).collect();
        Message::text(frame::req(&shared.subscription, &filters))
    }

    fn sign(&self, challenge: &str, now: Instant) -> Option<Message> {
        let signer = self.link.shared.signer.as_ref()?;
        let answer = signer.sign_auth(&self.link.url.to_string(), challenge, unix());
        locked(&self.talk).signed(answer.as_ref(), now);
        self.link.facts().last_signature = Some(now);
        if answer.is_none() {
            self.link.outbox.not_authenticated("auth-required: the signer gave no answer");
        }
        answer.map(|answer| Message::text(frame::auth(&answer.json)))
    }
}

/// A host that was awake for less time than has passed by so much has slept.
const NAP: Duration = Duration::from_secs(30);
/// A clock that was set back by more may have asked for what nobody stamps yet: subscriptions reach back by twice as much.
const SET_BACK: Duration = Duration::from_secs(300);

/// Compares the clock that stands still while a host sleeps with the one that does not.
struct Clocks {
    mono: Instant,
    wall: SystemTime,
}

impl Clocks {
    /// Says what ends the connection, if it happened since the last look.
    fn jump(&mut self, mono: Instant, wall: SystemTime) -> Option<&'static str> {
        let awake = mono.saturating_duration_since(self.mono);
        let passed = wall.duration_since(self.wall);
        *self = Self { mono, wall };
        match passed {
            // The relay gave this connection up long ago; waiting for its silence would cost the next call its time.
            Ok(passed) if passed > awake.saturating_add(NAP) => Some("the host slept"),
            Err(back) if back.duration() > SET_BACK => Some("the clock was set back"),
            Ok(_) | Err(_) => None,
        }
    }
}

/// Counts what a relay may send a few of.
struct Counted {
    start: Instant,
    count: u32,
    most: u32,
}

impl Counted {
    fn too_many(&mut self, now: Instant) -> bool {
        if now - self.start >= WINDOW {
            (self.start, self.count) = (now, 0);
        }
        self.count += 1;
        self.count > self.most
    }
}

/// Whether this connection counts as live; it stops counting when dropped.
struct Live<'a> {
    link: &'a Link,
    now: Mutex<bool>,
    /// Since when, and for how long before that.
    time: Mutex<(Instant, Duration)>,
}

impl<'a> Live<'a> {
    fn new(link: &'a Link) -> Self {
        Self { link, now: Mutex::new(false), time: Mutex::new((Instant::now(), Duration::ZERO)) }
    }

    /// Returns for how long it was live, once it is not any more.
    fn lasted(&self) -> Duration {
        locked(&self.time).1
    }

    fn get(&self) -> bool {
        *locked(&self.now)
    }

    fn set(&self, live: bool) {
        let before = std::mem::replace(&mut *locked(&self.now), live);
        if before == live {
            return;
        }
        {
            let mut time = locked(&self.time);
            if live {
                time.0 = Instant::now();
            } else {
                time.1 = time.1.saturating_add(time.0.elapsed());
            }
        }
        self.link.facts().state = if live { RelayState::Live } else { RelayState::Connected };
        self.link.shared.live.send_modify(|count| {
            *count = if live { count.saturating_add(1) } else { count.saturating_sub(1) };
        });
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}

fn closed(frame: Option<tungstenite::protocol::CloseFrame>) -> String {
    match frame {
        Some(frame) => printable(&format!("closed by the relay: {} {}", u16::from(frame.code), frame.reason)),
        None => "closed by the relay".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_lid_and_a_clock_that_is_set_back_by_much_are_noticed() {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let minute = Duration::from_secs(60);
        let mut clocks = Clocks { mono: start, wall };
        assert_eq!(clocks.jump(start + minute, wall + minute), None);
        assert_eq!(clocks.jump(start + 2 * minute, wall), None, "a little");
        assert_eq!(clocks.jump(start + 3 * minute, wall + minute), None);
        assert_eq!(
            clocks.jump(start + 3 * minute, wall + 480 * minute),
            Some("the host slept"),
            "eight hours"
        );
        assert_eq!(clocks.jump(start + 4 * minute, wall + 481 * minute), None, "only once");
        assert_eq!(clocks.jump(start + 5 * minute, wall + 3 * minute), Some("the clock was set back"));
        assert_eq!(clocks.jump(start + 6 * minute, wall + 4 * minute), None, "only once");
    }
}
