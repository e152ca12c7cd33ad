//! A relay that says whatever it is told to say.
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use contextvm_core::frame;
use serde_json::Value;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, accept};

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A listening relay.
pub(crate) struct Relay {
    pub(crate) url: String,
    sockets: Receiver<WebSocket<TcpStream>>,
}

impl Relay {
    pub(crate) fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("ws://{}", listener.local_addr()?);
        let (sender, sockets) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    // Whoever asks for the information document speaks plain HTTP and is hung up on.
                    if let Ok(socket) = accept(stream) {
                        let _unwanted = sender.send(socket);
                    }
                });
            }
        });
        Ok(Self { url, sockets })
    }

    /// Waits for a connection and its subscription.
    pub(crate) fn meet(&self) -> Result<Peer, String> {
        let socket = self.sockets.recv_timeout(PATIENCE).map_err(|_| "nobody connected")?;
        socket
            .get_ref()
            .set_read_timeout(Some(Duration::from_millis(1)))
            .map_err(|error| error.to_string())?;
        let mut peer =
            Peer { socket, subscription: String::new(), heard: Vec::new(), pinged: Instant::now() };
        let begun = Instant::now();
        while peer.subscription.is_empty() {
            peer.listen()?;
            if begun.elapsed() > PATIENCE {
                return Err("nothing was subscribed".to_owned());
            }
        }
        Ok(peer)
    }
}

/// The relay's end of one connection.
pub(crate) struct Peer {
    socket: WebSocket<TcpStream>,
    pub(crate) subscription: String,
    /// Events that were published here and not looked at yet.
    heard: Vec<Value>,
    pinged: Instant,
}

impl Peer {
    /// Says any text.
    pub(crate) fn say(&mut self, text: String) -> Result<(), String> {
        self.send(Message::text(text))
    }

    pub(crate) fn send(&mut self, message: Message) -> Result<(), String> {
        self.socket.send(message).map_err(|error| error.to_string())
    }

    /// Sends the text of an event, whatever it is, to the subscription.
    pub(crate) fn event(&mut self, json: &str) -> Result<(), String> {
        self.say(frame::relay_event(&self.subscription, json))
    }

    /// Takes in what was said here; every event is accepted.
    pub(crate) fn listen(&mut self) -> Result<(), String> {
        let text = match self.socket.read() {
            Ok(Message::Text(text)) => text,
            Ok(_) => return Ok(()),
            Err(Error::Io(error))
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                return Ok(());
            }
            Err(error) => return Err(format!("the connection ended: {error}")),
        };
        let frame: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let text_at = |at: usize| frame.get(at).and_then(Value::as_str);
        match text_at(0) {
            Some("REQ") => {
                self.subscription = text_at(1).unwrap_or_default().to_owned();
                let eose = frame::eose(&self.subscription);
                self.say(eose)?;
            }
            Some("EVENT") => {
                let event = frame.get(1).cloned().unwrap_or_default();
                let id = event.get("id").and_then(Value::as_str).unwrap_or_default();
                let ok = frame::ok(id, true, "");
                self.say(ok)?;
                self.heard.push(event);
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits for an event that somebody wants to see; others are forgotten.
    pub(crate) fn wait_for(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Option<Value>, String> {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if let Some(found) = self.heard.drain(..).find(|event| wanted(event)) {
                return Ok(Some(found));
            }
            self.listen()?;
        }
        Ok(None)
    }

    /// Lets time pass and stays attentive.
    pub(crate) fn idle(&mut self, time: Duration) -> Result<(), String> {
        self.wait_for(time, |_| false).map(drop)
    }

    /// Says now and then that it is still there.
    pub(crate) fn keep_up(&mut self) -> Result<(), String> {
        if self.pinged.elapsed() > Duration::from_millis(200) {
            self.pinged = Instant::now();
            for _ in 0..4 {
                self.listen()?;
            }
        }
        Ok(())
    }
}

/// Whether an event answers the event with this id.
pub(crate) fn answers(event: &Value, id: &str) -> bool {
    let tags = event.get("tags").and_then(Value::as_array);
    tags.is_some_and(|tags| {
        tags.iter().any(|tag| tag.get(0) == Some(&"e".into()) && tag.get(1) == Some(&id.into()))
    })
}
