//! One short conversation with one relay: what [`Query`](crate::Query), [`Post`](crate::Post) and [`Probe`](crate::Probe) share.
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::frame::{self, RelayFrame};
use futures_util::{SinkExt as _, StreamExt as _};
use nostr::event::EventId;
use nostr::types::RelayUrl;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::auth::AuthSigner;
use crate::config::Timing;
use crate::dial::{Addresses, Dialer, Reached};
use crate::error::DialError;
use crate::link::talk::{Authenticated, Do, Talk};
use crate::link::{printable, unix};
use crate::socket::Socket;

/// Time allowed for a farewell.
const FAREWELL: Duration = Duration::from_millis(100);

/// A socket that one conversation owns.
pub(crate) struct Line<'a> {
    socket: Socket,
    url: &'a RelayUrl,
    signer: Option<Arc<dyn AuthSigner>>,
    talk: Talk,
}

/// What a relay said, with its texts printable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An event of a subscription, exactly as it was spelled.
    Event { subscription: String, json: String },
    /// All stored events of a subscription were sent.
    EndOfStored { subscription: String },
    /// A subscription was closed by the relay.
    Closed { subscription: String, text: String },
    /// An event was judged.
    Ok { id: EventId, accepted: bool, text: String },
    /// The relay knows us now: what it refused may be said again.
    Authenticated,
    /// The relay does not want us.
    NotAuthenticated(String),
}

impl<'a> Line<'a> {
    /// Connects.
    pub(crate) async fn open(
        dialer: &Dialer,
        url: &'a RelayUrl,
        addresses: Addresses,
        signer: Option<Arc<dyn AuthSigner>>,
    ) -> Result<(Self, Reached), DialError> {
        let (socket, reached) = dialer.measure(url, addresses).await?;
        let talk = Talk::new(false, signer.is_some(), Timing::default(), None);
        Ok((Self { socket, url, signer, talk }, reached))
    }

    /// Sends one frame.
    pub(crate) async fn say(&mut self, frame: String) -> Result<(), String> {
        self.socket.send(Message::text(frame)).await.map_err(|error| printable(&error.to_string()))
    }

    /// Waits for the next thing said; the error is why nothing more will be.
    pub(crate) async fn hear(&mut self) -> Result<Heard, String> {
        loop {
            if let Do::Sign(challenge) = self.talk.next(Instant::now())
                && !self.authenticate(&challenge).await?
            {
                return Ok(Heard::NotAuthenticated("auth-required: the signer gave no answer".to_owned()));
            }
            let text = match self.socket.next().await {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_))) | None => return Err("closed by the relay".to_owned()),
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                    continue;
                }
                Some(Err(error)) => return Err(printable(&error.to_string())),
            };
            if let Some(heard) = self.read(&text) {
                return Ok(heard);
            }
        }
    }

    fn read(&mut self, text: &str) -> Option<Heard> {
        Some(match RelayFrame::parse(text).ok()? {
            RelayFrame::Event { subscription, event } => {
                Heard::Event { subscription: subscription.into_owned(), json: event.get().to_owned() }
            }
            RelayFrame::EndOfStored { subscription } => {
                Heard::EndOfStored { subscription: subscription.into_owned() }
            }
            RelayFrame::Closed { subscription, message } => {
                Heard::Closed { subscription: subscription.into_owned(), text: printable(&message) }
            }
            RelayFrame::Ok { id, accepted, message } => match self.talk.answered(&id, accepted) {
                Authenticated::Yes => Heard::Authenticated,
                Authenticated::No => Heard::NotAuthenticated(printable(&message)),
                Authenticated::NotOurs => Heard::Ok { id, accepted, text: printable(&message) },
            },
            RelayFrame::Auth { challenge } => {
                self.talk.challenged(&challenge);
                return None;
            }
            RelayFrame::Notice { .. } | RelayFrame::Count { .. } => return None,
        })
    }

    /// Asks what is stored until there is no more, or `take` wants no more; returns whether that was all.
    pub(crate) async fn ask(
        &mut self,
        name: &str,
        filters: &[String],
        mut take: impl FnMut(String) -> bool,
    ) -> Result<bool, String> {
        let request = frame::req(name, filters);
        self.say(request.clone()).await?;
        loop {
            match self.hear().await? {
                Heard::Event { subscription, json } if subscription == name => {
                    if !take(json) {
                        return Ok(false);
                    }
                }
                Heard::EndOfStored { subscription } if subscription == name => return Ok(true),
                Heard::Closed { subscription, text } if subscription == name => {
                    if !self.must_authenticate(&text) {
                        return Err(text);
                    }
                }
                Heard::Authenticated => self.say(request.clone()).await?,
                Heard::NotAuthenticated(text) => return Err(text),
                // Anything else is not about this question.
                Heard::Event { .. } | Heard::EndOfStored { .. } | Heard::Closed { .. } | Heard::Ok { .. } => {
                }
            }
        }
    }

    /// Answers a challenge; returns whether there was an answer.
    async fn authenticate(&mut self, challenge: &str) -> Result<bool, String> {
        let signer = self.signer.as_ref();
        let answer = signer.and_then(|signer| signer.sign_auth(&self.url.to_string(), challenge, unix()));
        self.talk.signed(answer.as_ref(), Instant::now());
        match answer {
            Some(answer) => self.say(frame::auth(&answer.json)).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether a refusal asks for authentication that can still be given; its outcome will be heard.
    pub(crate) fn must_authenticate(&mut self, text: &str) -> bool {
        text.starts_with("auth-required:") && self.talk.auth_required()
    }

    /// Whether the relay has taken our answer to its challenge.
    pub(crate) const fn is_authenticated(&self) -> bool {
        self.talk.is_authenticated()
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) {
        // Only courtesy: the socket is dropped right after.
        let _ = timeout(FAREWELL, self.socket.close()).await;
    }
}

/// Lists every address once, in order.
pub(crate) fn unique(urls: &[RelayUrl]) -> Vec<RelayUrl> {
    let mut each: Vec<RelayUrl> = Vec::new();
    for url in urls {
        if !each.contains(url) {
            each.push(url.clone());
        }
    }
    each
}
