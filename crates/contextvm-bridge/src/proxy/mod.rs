//! The proxy: a server on Nostr, spoken to over the standard streams of this process.
//!
//! Standard output carries one JSON-RPC message per line and nothing else. Every request of the host is answered, also
//! when no relay can be reached; the end of the host's output ends the proxy.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use contextvm_client::{Client, ClientOptions, Messages};
use contextvm_core::envelope::{Envelope, MessageKind};
use contextvm_core::object::{compact, quote};
use contextvm_core::{Limits, Printable};
use nostr::nips::nip19::ToBech32 as _;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::gateway::answer::{Failure, INVALID_REQUEST, TIMED_OUT, raw};
use crate::line::{Line, LineReader};
use crate::notice::{Notice, Reporter};

/// Lines that may wait to be written to the host.
const OUTBOX: usize = 16;
/// Messages of the host that may wait for the first connection.
const HELD: usize = 256;
/// Bytes of them.
const HELD_BYTES: usize = 8 * 1024 * 1024;
/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// First and longest pause between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Collects what a [`Proxy`] is told.
#[derive(Clone, Debug)]
#[must_use]
pub struct ProxyBuilder {
    options: ClientOptions,
    reporter: Reporter,
    hint: String,
}

impl ProxyBuilder {
    /// Sets who hears of changes.
    pub fn reporter(mut self, reporter: Reporter) -> Self {
        self.reporter = reporter;
        self
    }

    /// Sets what a person is advised to do when the server cannot be reached.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Returns the proxy.
    #[must_use]
    pub fn build(self) -> Proxy {
        Proxy { options: self.options, reporter: self.reporter, hint: self.hint }
    }
}

/// Moves messages between a stdio host and a server on Nostr.
#[derive(Clone, Debug)]
pub struct Proxy {
    options: ClientOptions,
    reporter: Reporter,
    hint: String,
}

/// Why one phase of the proxy is over.
enum Over {
    /// The host is gone, or the proxy was told to stop.
    Host,
    /// The client is gone and is to be made anew.
    Client,
}

/// The host's side: what it says, and what waits until there is a connection.
struct Host<R> {
    lines: LineReader<R>,
    out: mpsc::Sender<String>,
    held: VecDeque<String>,
    limits: Limits,
    reporter: Reporter,
    stop: CancellationToken,
}

impl Proxy {
    /// Starts collecting options for a proxy to one server.
    pub fn builder(options: ClientOptions) -> ProxyBuilder {
        let hint = "check that the relay is reachable, or name another one".to_owned();
        ProxyBuilder { options, reporter: Reporter::default(), hint }
    }

    /// Runs until the reader ends, the writer breaks or `stop` is given.
    ///
    /// # Errors
    /// Fails when the writer breaks.
    pub async fn run(
        self,
        reader: impl AsyncRead + Unpin,
        writer: impl AsyncWrite + Unpin,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let (out, outbox) = mpsc::channel(OUTBOX);
        let limits = self.options.config.limits.clone();
        let host = Host {
            lines: LineReader::new(reader, limits.child_line),
            out,
            held: VecDeque::new(),
            limits,
            reporter: self.reporter.clone(),
            stop: stop.child_token(),
        };
        let stopping = host.stop.clone();
        let mut writing = core::pin::pin!(write(writer, outbox));
        let mut talking = Box::pin(self.talk(host));
        tokio::select! {
            () = &mut talking => {
                // The host may still read; what is queued for it is short.
                timeout(FAREWELL, writing).await.unwrap_or(Ok(()))
            }
            broken = &mut writing => {
                stopping.cancel();
                let _farewell = timeout(FAREWELL * 2, talking).await;
                broken
            }
        }
    }

    async fn talk<R: AsyncRead + Unpin>(&self, mut host: Host<R>) {
        let mut pause = PAUSES.0;
        loop {
            let started = Instant::now();
            let connected = host.during(Client::connect(self.options.clone())).await;
            match connected {
                None => return host.leave().await,
                Some(Ok((client, messages))) => {
                    pause = PAUSES.0;
                    self.reporter.tell(&Notice::Connected);
                    match host.converse(&client, messages).await {
                        Over::Client => {}
                        Over::Host => {
                            let _closed = timeout(FAREWELL, client.close()).await;
                            return;
                        }
                    }
                }
                Some(Err(error)) => {
                    let failure = self.unreachable(&error, started.elapsed());
                    self.reporter.tell(&Notice::NotConnected { why: error.to_string(), again: pause });
                    if host.refuse(&failure, pause).await.is_none() {
                        return;
                    }
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// What the host reads when no connection came about.
    fn unreachable(&self, error: &contextvm_client::Error, waited: Duration) -> Failure {
        let relay = |url: &String| format!(r#"{{"url":{},"state":"unreachable"}}"#, quote(url));
        let relays: Vec<String> = self.options.relays.iter().map(relay).collect();
        let server = self.options.server.key.to_bech32().unwrap_or_default();
        Failure::new(TIMED_OUT, "relay_unreachable", format!("the server cannot be reached: {error}"))
            .with_text("server", &server)
            .with_time("waitedMs", waited)
            .with_json("relays", format!("[{}]", relays.join(",")))
            .with_text("hint", &self.hint)
    }
}

impl<R: AsyncRead + Unpin> Host<R> {
    /// Waits for the next message of the host; `None` when it is gone. Cancel-safe.
    async fn next(&mut self) -> Option<String> {
        loop {
            let line = tokio::select! {
                () = self.stop.cancelled() => return None,
                line = self.lines.next() => line.ok()??,
            };
            match line {
                Line::Text(text) if text.trim().is_empty() => {}
                Line::Text(text) => match Envelope::parse(&text, &self.limits) {
                    Ok(_) => return Some(text),
                    Err(error) => self.complain(&text, &error.to_string()),
                },
                Line::TooLong(bytes) => self.tell(format!("{bytes} bytes in one line")),
                Line::NotUtf8(bytes) => self.tell(format!("{bytes} bytes that are not UTF-8")),
            }
        }
    }

    fn tell(&self, what: String) {
        self.reporter.tell(&Notice::HostNoise(what));
    }

    /// Reports a line that is no message; if it was meant as a request, it is answered.
    fn complain(&self, text: &str, why: &str) {
        #[derive(serde::Deserialize)]
        struct Meant<'a> {
            #[serde(borrow)]
            id: &'a RawValue,
            method: String,
        }
        self.tell(format!("{why}: {}", Printable::short(text, 120)));
        if let Ok(meant) = serde_json::from_str::<Meant<'_>>(text)
            && contextvm_core::envelope::is_id(meant.id)
        {
            tracing::debug!(method = %Printable::short(&meant.method, 60), "refused a request of the host");
            let answer = Failure::new(INVALID_REQUEST, "invalid_request", why).answer(meant.id);
            // A host that does not read its answers while it sends nonsense loses some of them.
            let _full = self.out.try_send(answer);
        }
    }

    /// Holds the host's messages while something else is awaited; `None` when the host is gone.
    async fn during<T>(&mut self, other: impl Future<Output = T>) -> Option<T> {
        let mut other = Box::pin(other);
        loop {
            let text = tokio::select! {
                done = &mut other => return Some(done),
                text = self.next() => text?,
            };
            let bytes: usize = self.held.iter().map(String::len).sum();
            if self.held.len() >= HELD || bytes.saturating_add(text.len()) > HELD_BYTES {
                let busy = Failure::new(TIMED_OUT, "busy", "too many messages wait for the connection");
                self.answer(&text, &busy).await;
            } else {
                self.held.push_back(text);
            }
        }
    }

    /// Answers what waits and what comes during the pause; `None` when the host is gone.
    async fn refuse(&mut self, failure: &Failure, pause: Duration) -> Option<()> {
        while let Some(text) = self.held.pop_front() {
            self.answer(&text, failure).await;
        }
        let until = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Some(()),
                text = self.next() => {
                    let text = text?;
                    self.answer(&text, failure).await;
                }
            }
        }
    }

    /// Answers what waits: nobody else will.
    async fn leave(&mut self) {
        let failure = Failure::new(TIMED_OUT, "closed", "the proxy ended before the server was reached");
        while let Some(text) = self.held.pop_front() {
            self.answer(&text, &failure).await;
        }
    }

    /// Answers a message with a failure if it is a request.
    async fn answer(&self, text: &str, failure: &Failure) {
        let Ok(message) = Envelope::parse(text, &self.limits) else { return };
        if let (MessageKind::Request, Some(id)) = (message.kind, message.id) {
            // A writer that is gone ends the proxy by itself.
            let _gone = self.out.send(failure.answer(id)).await;
        }
    }

    /// Moves messages both ways until one side is gone.
    async fn converse(&mut self, client: &Client, mut messages: Messages) -> Over {
        let out = self.out.clone();
        let to_host = async {
            while let Some(message) = messages.recv().await {
                if out.send(compact(&message)).await.is_err() {
                    return Over::Host;
                }
            }
            Over::Client
        };
        let to_server = async {
            loop {
                // A message stays held until the client has it: the connection may go at any await.
                let text = match self.held.front() {
                    Some(text) => text.clone(),
                    None => match self.next().await {
                        Some(text) => {
                            self.held.push_back(text.clone());
                            text
                        }
                        None => return Over::Host,
                    },
                };
                if client.send(text).await.is_err() {
                    return Over::Client;
                }
                self.held.pop_front();
            }
        };
        tokio::select! {
            over = to_host => over,
            over = to_server => over,
        }
    }
}

/// Writes one line per message and flushes each; ends when nobody can send any more or the stream breaks.
async fn write(mut writer: impl AsyncWrite + Unpin, mut outbox: mpsc::Receiver<String>) -> Result<(), Error> {
    while let Some(mut line) = outbox.recv().await {
        if raw(line.clone()).is_none() || line.contains(['\n', '\r']) {
            tracing::error!("a message for the host was not one line of json and was left out");
            continue;
        }
        line.push('\n');
        let written = async {
            writer.write_all(line.as_bytes()).await?;
            writer.flush().await
        };
        written.await.map_err(|error| Error::Stream(error.to_string()))?;
    }
    Ok(())
}
