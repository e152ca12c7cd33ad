//! One client's connection: from the first bytes to the last.
use crate::RelayOptions;
use crate::auth;
use crate::faults::CloseAfter;
use crate::filter;
use crate::http::{self, Asked};
use crate::outbox::{self, Outbox};
use crate::room::{ConnectionId, Room, Verdict};
use contextvm_core::frame::{self, ClientFrame};
use futures_util::{Stream, StreamExt};
use nostr::event::Event;
use serde_json::value::RawValue;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

/// How long a client may take over the websocket upgrade.
const UPGRADE_TIME: Duration = Duration::from_secs(10);
/// How long a client may say nothing, not even the answer to a ping.
const SILENT: Duration = Duration::from_secs(90);
/// The kind of NIP-42 answers, which are never published.
const AUTH_KIND: u16 = 22_242;

/// Serves one accepted socket until it ends.
pub(crate) async fn serve(stream: TcpStream, room: Arc<Room>) {
    // A socket that refuses the option still works, only slower.
    let _ = stream.set_nodelay(true);
    let addr = stream.local_addr().unwrap_or(room.addr);
    let Some((asked, head)) = http::look(&stream).await else {
        return;
    };
    if asked != Asked::Websocket {
        return http::answer(stream, asked, head, &room.options).await;
    }
    let most = Some(room.options.max_message());
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(64 * 1024)
        .max_message_size(most)
        .max_frame_size(most);
    let upgrade = tokio_tungstenite::accept_async_with_config(stream, Some(config));
    let Ok(Ok(socket)) = tokio::time::timeout(UPGRADE_TIME, upgrade).await else {
        return;
    };
    let (outbox, outgoing) = outbox::queue(room.options.max_queued, room.options.max_queued_bytes);
    let Some((id, cut)) = room.join(outbox.clone()) else {
        return;
    };
    tracing::debug!(connection = id, "accepted");
    let _left = Leave { room: &room, id };
    let (sink, source) = socket.split();
    let mut connection = Connection { id, outbox, challenge: None, authenticated: false, addr, room: &room };
    tokio::select! {
        () = connection.read_loop(source) => {}
        () = outbox::write_loop(outgoing, sink, &room) => {}
        () = ended(&room, cut) => {}
    }
}

/// Leaves the room whichever way the connection ends.
struct Leave<'a> {
    room: &'a Room,
    id: ConnectionId,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.room.leave(self.id);
        tracing::debug!(connection = self.id, "ended");
    }
}

/// Waits until the connection is cut from outside or by the timed fault.
async fn ended(room: &Room, mut cut: watch::Receiver<bool>) {
    let start = Instant::now();
    let mut faults = room.watch_faults();
    loop {
        let close_after = faults.borrow_and_update().close_after;
        let timer = async {
            match close_after {
                Some(CloseAfter::Time(time)) => tokio::time::sleep_until(start + time).await,
                Some(CloseAfter::Events(_)) | None => pending().await,
            }
        };
        tokio::select! {
            () = crate::raised(&mut cut) => return,
            () = timer => return,
            changed = faults.changed() => if changed.is_err() { return },
        }
    }
}

struct Connection<'a> {
    id: ConnectionId,
    outbox: Outbox,
    challenge: Option<String>,
    authenticated: bool,
    /// The relay's address as this client reached it.
    addr: SocketAddr,
    room: &'a Room,
}

impl Connection<'_> {
    async fn read_loop<S>(&mut self, mut source: S)
    where
        S: Stream<Item = Result<Message, WsError>> + Unpin,
    {
        if self.room.options.auth && !self.greet().await {
            return;
        }
        let mut faults = self.room.watch_faults();
        loop {
            if faults.wait_for(|faults| !faults.deaf).await.is_err() {
                return;
            }
            let message = tokio::select! {
                message = source.next() => message,
                _ = faults.changed() => continue,
                // It has answered no ping for a while: it is gone, and its place is somebody else's.
                () = tokio::time::sleep(SILENT) => return,
            };
            let going_on = match message {
                Some(Ok(Message::Text(text))) => self.take(text.as_str()).await,
                Some(Ok(Message::Binary(_))) => {
                    self.reply(frame::notice("invalid: binary message"), false).await
                }
                // Pongs and the answer to a close are written by the socket itself while it is read on.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_) | Message::Close(_))) => true,
                Some(Err(_)) | None => false,
            };
            if !going_on {
                return;
            }
        }
    }

    async fn greet(&mut self) -> bool {
        let mut bytes = [0_u8; 16];
        if getrandom::fill(&mut bytes).is_err() {
            return false;
        }
        let challenge: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.challenge = Some(challenge.clone());
        self.reply(frame::challenge(&challenge), false).await
    }

    /// Queues an answer; `false` when the connection is over.
    async fn reply(&self, text: String, counts: bool) -> bool {
        match self.room.plan_reply(self.id, text, counts) {
            Some(draft) => self.outbox.push(draft).await.is_ok(),
            None => true,
        }
    }

    async fn take(&mut self, text: &str) -> bool {
        match ClientFrame::parse(text) {
            Ok(ClientFrame::Event { event }) => self.take_event(event).await,
            Ok(ClientFrame::Req { subscription, filters }) => self.take_req(&subscription, &filters).await,
            Ok(ClientFrame::Close { subscription }) => {
                self.room.unsubscribe(self.id, &subscription);
                true
            }
            Ok(ClientFrame::Auth { event }) => self.take_auth(event).await,
            Ok(ClientFrame::Count { subscription, .. }) => {
                self.reply(frame::closed(&subscription, "unsupported: COUNT"), false).await
            }
            Err(error) => self.reply(frame::notice(&format!("invalid: {error}")), false).await,
        }
    }

    async fn take_req(&self, subscription: &str, filters: &[&RawValue]) -> bool {
        let read = match self.subscription_refusal() {
            Some(reason) => Err(reason),
            None => filter::read(subscription, filters, self.room.options.max_filters),
        };
        let filters = match read {
            Ok(filters) => filters,
            Err(reason) => return self.reply(frame::closed(subscription, &reason), false).await,
        };
        let Some(found) = self.room.subscribe(self.id, subscription, filters) else {
            return self.reply(frame::closed(subscription, "error: too many subscriptions"), false).await;
        };
        // One after the other, as they are read.
        for stored in found {
            for draft in self.room.plan_stored(self.id, subscription, &stored).into_iter().flatten() {
                if self.outbox.push(draft).await.is_err() {
                    return false;
                }
            }
        }
        self.room.faults().no_eose || self.reply(frame::eose(subscription), false).await
    }

    fn subscription_refusal(&self) -> Option<String> {
        if self.room.options.auth && !self.authenticated {
            return Some("auth-required: authenticate to read".to_owned());
        }
        self.room.faults().refuse_subscriptions.clone()
    }

    async fn take_event(&mut self, raw: &RawValue) -> bool {
        self.room.count(|stats| stats.received += 1);
        let Ok(event) = Event::from_json(raw.get()) else {
            self.room.count(|stats| stats.refused += 1);
            // An OK needs an id; without a readable one there is only the notice.
            let Some(id) = id_of(raw) else {
                return self.reply(frame::notice("invalid: unreadable event"), false).await;
            };
            return self.say_ok(&id, &Verdict::no("invalid: unreadable event")).await;
        };
        let id = event.id.to_hex();
        let verdict = self.judge(event, raw.get());
        self.say_ok(&id, &verdict).await
    }

    fn judge(&self, event: Event, json: &str) -> Verdict {
        let refused = self.refusal(&event, json);
        if let Some(reason) = refused {
            self.room.count(|stats| stats.refused += 1);
            return Verdict::no(&reason);
        }
        if self.room.is_repeat(&event) {
            return Verdict::yes("duplicate: already have this event");
        }
        if event.verify().is_err() {
            self.room.count(|stats| stats.refused += 1);
            return Verdict::no("invalid: bad id or signature");
        }
        self.room.publish(event, json)
    }

    fn refusal(&self, event: &Event, json: &str) -> Option<String> {
        if json.len() > self.room.options.max_event {
            return Some("invalid: event too large".to_owned());
        }
        if self.room.options.auth && !self.authenticated {
            return Some("auth-required: authenticate to write".to_owned());
        }
        if event.kind.as_u16() == AUTH_KIND {
            return Some("invalid: authentication events are not published".to_owned());
        }
        if let Some(reason) = self.room.options.refused_kinds.get(&event.kind.as_u16()) {
            return Some(reason.clone());
        }
        if let Some(reason) = misdated(event.created_at.as_secs(), unix(), &self.room.options) {
            return Some(reason.to_owned());
        }
        self.room.faults().refuse.clone()
    }

    async fn take_auth(&mut self, raw: &RawValue) -> bool {
        let Ok(event) = Event::from_json(raw.get()) else {
            return self.reply(frame::notice("invalid: unreadable event"), false).await;
        };
        let verdict = match &self.challenge {
            None => Verdict::no("unsupported: this relay asks nobody to authenticate"),
            Some(challenge) => match auth::check(&event, challenge, self.addr, unix()) {
                Ok(()) => {
                    self.authenticated = true;
                    Verdict::yes("")
                }
                Err(reason) => Verdict::no(reason),
            },
        };
        self.reply(frame::ok(&event.id.to_hex(), verdict.accepted, &verdict.reason), false).await
    }

    async fn say_ok(&self, id: &str, verdict: &Verdict) -> bool {
        if self.room.faults().no_ok {
            return true;
        }
        self.reply(frame::ok(id, verdict.accepted, &verdict.reason), true).await
    }
}

fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Says what is wrong with a stamp.
fn misdated(created_at: u64, now: u64, options: &RelayOptions) -> Option<&'static str> {
    let beyond = |by: u64, most: Option<Duration>| most.is_some_and(|most| by > most.as_secs());
    if beyond(now.saturating_sub(created_at), options.max_age) {
        return Some("invalid: created_at is too far in the past");
    }
    if beyond(created_at.saturating_sub(now), options.max_ahead) {
        return Some("invalid: created_at is too far in the future");
    }
    None
}

fn id_of(raw: &RawValue) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(raw.get()).ok()?;
    let id = value.get("id")?.as_str()?;
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that is gone without a word is asked whether it is there, and leaves its place in the end.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_no_ping_loses_its_place() {
        let room = Room::new(RelayOptions::default(), ([127, 0, 0, 1], 7).into());
        let (outbox, outgoing) = outbox::queue(8, 1_000);
        let (id, _cut) = room.join(outbox.clone()).unwrap();
        let pings = std::cell::Cell::new(0);
        let sink = futures_util::sink::unfold((), |(), message: Message| {
            pings.set(pings.get() + u32::from(matches!(message, Message::Ping(_))));
            std::future::ready(Ok::<_, ()>(()))
        });
        let mut connection =
            Connection { id, outbox, challenge: None, authenticated: false, addr: room.addr, room: &room };
        let begun = Instant::now();
        tokio::select! {
            () = connection.read_loop(futures_util::stream::pending()) => {}
            () = outbox::write_loop(outgoing, Box::pin(sink), &room) => unreachable!("it can be written to"),
        }
        assert_eq!(begun.elapsed().as_secs(), SILENT.as_secs());
        assert!(pings.get() >= 2, "{}", pings.get());
    }
}
