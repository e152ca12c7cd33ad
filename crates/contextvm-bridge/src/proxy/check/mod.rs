//! A check between hosts and one server: which of its tools hosts may see and call.
//!
//! What is right is decided by a [`ToolCheck`] that the application brings. The [`checker`] asks it in time, also where a
//! host calls without having listed before; this file only carries.
use std::fmt;
use std::sync::Arc;

use contextvm_core::Limits;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::conversation::{Conversations, Counterpart, Gone, Heard, Hearer, Said, Speaker};
use super::exchange::FAREWELL;
use crate::queue::{self, Waiting, Weigh};
use checker::{Act, Checker};

mod checker;
#[cfg(test)]
mod tests;

/// Messages that may wait in one direction before the other side is not listened to any more.
const WAITING: usize = 64;

/// Decides which tools of one server hosts may see and call. It is asked from several conversations at once and must
/// answer without waiting.
pub trait ToolCheck: fmt::Debug + Send + Sync {
    /// Takes the complete list of the server's tools as it is now: objects of `tools/list`.
    fn learn(&self, tools: &[&RawValue]);

    /// Takes notice that the list may be another one now.
    fn forget(&self);

    /// Judges tools that a host is about to see.
    fn judge_shown(&self, tools: &[&RawValue]) -> Judgement;

    /// Judges a call of the tool with this name.
    fn judge_call(&self, tool: &str) -> Judgement;
}

/// What a [`ToolCheck`] decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It passes.
    Fine,
    /// That depends on the complete list, which is to be [learned](ToolCheck::learn) first.
    Unknown,
    /// The host reads an error instead.
    Refused(ToolsRefused),
}

/// Why tools are neither shown nor called. It becomes a JSON-RPC error whose `data.reason` is `tools_changed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolsRefused {
    /// What is wrong, in words that are safe to print.
    pub message: String,
    /// The names of the tools that it is about; at most 64 of them are told.
    pub tools: Vec<String>,
    /// What a person is advised to do.
    pub hint: String,
}

/// Puts a check before a server side.
pub(super) async fn run(
    server: Conversations,
    check: Arc<dyn ToolCheck>,
    mut opened: mpsc::Receiver<Counterpart>,
    limits: Limits,
    stop: CancellationToken,
) {
    let mut rooms = FuturesUnordered::new();
    let mut all_opened = false;
    while !(all_opened && rooms.is_empty()) {
        tokio::select! {
            counterpart = opened.recv(), if !all_opened => match counterpart {
                Some(counterpart) => {
                    let checker = Checker::new(Arc::clone(&check), limits.clone());
                    rooms.push(converse(&server, counterpart, checker, &stop));
                }
                None => all_opened = true,
            },
            Some(()) = rooms.next() => {}
            () = stop.cancelled(), if !all_opened => all_opened = true,
        }
    }
}

/// One conversation of a host, with the check in its middle.
struct Room {
    checker: Checker,
    /// The host's words; none once it has said its last one.
    said: Option<queue::Receiver<Said>>,
    heard: queue::Sender<Heard>,
    /// The way to the server; none once there is nothing more to say.
    speaker: Option<Speaker>,
    hearer: Hearer,
    to_server: Waiting<Said>,
    to_host: Waiting<Heard>,
}

/// What has just happened.
enum Event {
    Stop,
    Said(Option<Said>),
    Heard(Option<Heard>),
    ToServer(Result<(), Gone>),
    ToHost(bool),
}

/// Serves one conversation until the server side ends it, or until `stop`.
async fn converse(
    server: &Conversations,
    counterpart: Counterpart,
    checker: Checker,
    stop: &CancellationToken,
) {
    // A host without a server side reads from its front that this is over.
    let Ok(conversation) = server.open().await else { return };
    let (speaker, hearer) = conversation.split();
    let Counterpart { said, heard } = counterpart;
    let mut room = Room {
        checker,
        said: Some(said),
        heard,
        speaker: Some(speaker),
        hearer,
        to_server: Waiting::default(),
        to_host: Waiting::default(),
    };
    loop {
        let event = room.next(stop).await;
        let over = matches!(event, Event::Stop | Event::Heard(None) | Event::ToServer(Err(Gone)));
        room.take(event);
        if over {
            break;
        }
    }
    let _late = timeout(FAREWELL, room.leave()).await;
}

impl Room {
    /// Waits for whatever happens first. Every branch is cancel-safe, and none waits for another.
    async fn next(&mut self, stop: &CancellationToken) -> Event {
        let taking = self.to_server.has_room(WAITING) && self.to_host.has_room(WAITING);
        // The server side may listen to us only after we have heard it.
        let hearing = self.to_host.has_room(WAITING * 2);
        let to_server = self.to_server.front().map_or(0, Weigh::weigh);
        let to_host = self.to_host.front().map_or(0, Weigh::weigh);
        let speaker = self.speaker.clone().filter(|_| !self.to_server.is_empty());
        tokio::select! {
            () = stop.cancelled() => Event::Stop,
            said = async {
                match &mut self.said {
                    Some(said) => said.recv().await,
                    None => core::future::pending().await,
                }
            }, if taking => Event::Said(said),
            heard = self.hearer.hear(), if hearing => Event::Heard(heard),
            ready = async {
                match &speaker {
                    Some(speaker) => speaker.room_for(to_server).await,
                    None => core::future::pending().await,
                }
            } => Event::ToServer(ready),
            // A host that is gone makes room, too.
            reserved = self.heard.room_for(to_host), if !self.to_host.is_empty() => Event::ToHost(reserved.is_ok()),
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Stop | Event::Heard(None) | Event::ToServer(Err(Gone)) => {}
            Event::Said(Some(Said::Message(text))) => self.checker.host_said(text),
            Event::Said(Some(Said::Abandon(id))) => self.checker.host_abandons(id),
            Event::Said(None) => self.said = None,
            Event::Heard(Some(heard)) => self.checker.server_said(heard),
            Event::ToServer(Ok(())) => {
                if let (Some(speaker), Some(said)) = (&self.speaker, self.to_server.pop_front())
                    && let Err(said) = speaker.try_say(said)
                {
                    self.to_server.push_front(said);
                }
            }
            Event::ToHost(true) => {
                if let Some(heard) = self.to_host.pop_front()
                    && let Err(heard) = self.heard.try_send(heard)
                {
                    self.to_host.push_front(heard);
                }
            }
            Event::ToHost(false) => _ = self.to_host.take_all(),
        }
        self.act();
        if self.said.is_none() && self.to_server.is_empty() {
            // The server side hears that this host is gone, and may still answer it.
            self.speaker = None;
        }
    }

    /// Does what the checker decided.
    fn act(&mut self) {
        while let Some(act) = self.checker.poll() {
            match act {
                Act::Server(said) => self.to_server.push_back(said),
                Act::Host(heard) => self.to_host.push_back(heard),
            }
        }
    }

    /// Says to the host what is left to say: also the last words of the server side, which says goodbye at the same time.
    async fn leave(mut self) {
        let _late = timeout(FAREWELL / 2, async {
            while let Some(heard) = self.hearer.hear().await {
                self.checker.server_said(heard);
                self.act();
            }
        })
        .await;
        self.checker.end();
        self.act();
        for heard in self.to_host.take_all() {
            if self.heard.send(heard).await.is_err() {
                break;
            }
        }
    }
}
