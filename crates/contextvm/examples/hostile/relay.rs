//! A relay that attacks: it sends what it has prepared to whoever subscribes, and counts what is published on it.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contextvm::core::frame::{self, ClientFrame};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::made::{Known, Made};
use crate::{Failure, commands};

type Sink = SplitSink<WebSocketStream<TcpStream>, Message>;

/// Frames that are written before others may write.
const BATCH: usize = 32;
/// How long somebody may take to subscribe.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct State {
    /// The last one that subscribed.
    subscriber: Mutex<Option<(String, Arc<Mutex<Sink>>)>>,
    published: AtomicU64,
    to_strangers: AtomicU64,
    known: Known,
}

/// Prepares and sends as lines of standard input say, until it ends: `prepare WHAT N SIZE`, `send PER_SECOND` or
/// `send PER_SECOND FROM TO` (some of it), `publish URL PER_SECOND` (as a client of another relay), `count`.
pub(crate) async fn run() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({ "url": format!("ws://{}", listener.local_addr()?) }));
    let state = Arc::new(State { known: Known::new()?, ..State::default() });
    tokio::spawn(accept(listener, Arc::clone(&state)));
    let mut said = commands();
    let mut made = Made::default();
    while let Some(line) = said.recv().await {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words.as_slice() {
            ["prepare", what, number, size] => {
                let (what, number, size) = ((*what).to_owned(), number.parse()?, size.parse()?);
                let started = Instant::now();
                made = tokio::task::spawn_blocking(move || made.prepare(&what, number, size)).await??;
                json!({ "prepared": made.events.len(), "ms": millis(started.elapsed()) })
            }
            ["send", per_second] => send(&state, &made.events, per_second.parse()?).await,
            ["send", per_second, from, to] => {
                let some = made.events.get(from.parse()?..to.parse()?).ok_or("so much was not prepared")?;
                send(&state, some, per_second.parse()?).await
            }
            ["publish", url, per_second] => publish(url, &made, per_second.parse()?).await?,
            ["count"] => json!({
                "published": state.published.load(Ordering::Relaxed),
                "to_strangers": state.to_strangers.load(Ordering::Relaxed),
            }),
            _ => json!({ "error": format!("what is {line}?") }),
        };
        println!("{answer}");
    }
    Ok(())
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
                let (sink, source) = socket.split();
                let sink = Arc::new(Mutex::new(sink));
                hear(Arc::clone(&sink), source, &state).await;
                // Nothing may be sent to who is gone, as if a server had heard it.
                let mut subscriber = state.subscriber.lock().await;
                if subscriber.as_ref().is_some_and(|(_, last)| Arc::ptr_eq(last, &sink)) {
                    *subscriber = None;
                }
            }
        });
    }
}

/// Answers as a relay does, and counts for whom events are.
async fn hear(sink: Arc<Mutex<Sink>>, mut source: SplitStream<WebSocketStream<TcpStream>>, state: &State) {
    while let Some(Ok(message)) = source.next().await {
        let Message::Text(text) = message else { continue };
        let reply = match ClientFrame::parse(&text) {
            Ok(ClientFrame::Req { subscription, .. }) => {
                let subscription = subscription.to_string();
                let reply = frame::eose(&subscription);
                *state.subscriber.lock().await = Some((subscription, Arc::clone(&sink)));
                reply
            }
            Ok(ClientFrame::Event { event }) => {
                state.published.fetch_add(1, Ordering::Relaxed);
                let (id, known) = state.known.look(event.get());
                state.to_strangers.fetch_add(u64::from(!known), Ordering::Relaxed);
                frame::ok(&id, true, "")
            }
            _ => continue,
        };
        let mut sink = sink.lock().await;
        if sink.send(Message::text(reply)).await.is_err() {
            return;
        }
    }
}

/// Publishes everything on an honest relay, as fast as it takes it or so many a second.
async fn publish(url: &str, made: &Made, per_second: u32) -> Result<Value, Failure> {
    let (socket, _) = tokio_tungstenite::connect_async(url).await?;
    let (mut sink, mut source) = socket.split();
    let answers = tokio::spawn(async move { while source.next().await.is_some_and(|next| next.is_ok()) {} });
    let started = Instant::now();
    let mut sent = 0_usize;
    for batch in made.events.chunks(BATCH) {
        tokio::time::sleep_until(started + due(sent, per_second)).await;
        for event in batch {
            sink.feed(Message::text(frame::event(event))).await?;
        }
        sink.flush().await?;
        sent += batch.len();
    }
    answers.abort();
    Ok(json!({ "sent": sent, "ms": millis(started.elapsed()) }))
}

fn due(sent: usize, per_second: u32) -> Duration {
    Duration::from_secs_f64(if per_second == 0 { 0.0 } else { sent as f64 / f64::from(per_second) })
}

/// Sends everything, `per_second` of it a second, or as fast as the socket takes it.
async fn send(state: &State, events: &[String], per_second: u32) -> Value {
    let waiting = Instant::now();
    let (subscription, sink) = loop {
        if let Some(subscriber) = state.subscriber.lock().await.clone() {
            break subscriber;
        }
        if waiting.elapsed() > PATIENCE {
            return json!({ "error": "nobody subscribed" });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let started = Instant::now();
    let mut sent = 0_usize;
    for batch in events.chunks(BATCH) {
        tokio::time::sleep_until(started + due(sent, per_second)).await;
        let mut sink = sink.lock().await;
        for event in batch {
            if sink.feed(Message::text(frame::relay_event(&subscription, event))).await.is_err() {
                return json!({ "error": format!("cut after {sent} events") });
            }
            sent += 1;
        }
        // A failed flush shows at the next frame.
        let _shown = sink.flush().await;
    }
    json!({ "sent": sent, "ms": millis(started.elapsed()) })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
