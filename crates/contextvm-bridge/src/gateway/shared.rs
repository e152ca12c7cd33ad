//! One child for all callers: initialised once, kept by its supervisor, its messages sorted by the [`Switch`].
use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use contextvm_server::{Inbound, Listener, ServerHandle, Session, SessionSender};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nostr::key::PublicKey;
use tokio_util::sync::CancellationToken;

use super::Options;
use super::switch::{Action, Letter, Switch};
use super::welcome::Welcome;
use crate::Error;
use crate::child::{Child, ChildCommand, ChildEvent, ChildEvents, Exit, Refused};
use crate::notice::{Notice, Reporter};

/// How often late requests are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// A running, initialised child.
#[derive(Debug)]
pub(super) struct Shared {
    child: Child,
    events: ChildEvents,
    switch: Switch,
    reporter: Reporter,
    generation: u64,
    pid: u32,
    senders: BTreeMap<PublicKey, SessionSender>,
    /// Over when another child has opened: sessions of the process itself end with it, so that what they learned of the
    /// server is learned anew.
    life: CancellationToken,
}

type NextInbound = Pin<Box<dyn Future<Output = (Session, Option<Inbound>)> + Send>>;

impl Shared {
    /// Starts the child and initialises it; it is not tried a second time.
    pub(super) async fn start(command: ChildCommand, options: Options) -> Result<Self, Error> {
        let Options { child, limits, opening_timeout, request_timeout, .. } = options;
        let reporter = child.reporter.clone();
        let (child, events) = Child::start(command, child);
        let switch = Switch::new(limits, request_timeout, opening_timeout);
        let mut shared = Self {
            child,
            events,
            switch,
            reporter,
            generation: 0,
            pid: 0,
            senders: BTreeMap::new(),
            life: CancellationToken::new(),
        };
        let opened = tokio::time::timeout(opening_timeout, shared.opened()).await;
        let result = opened.unwrap_or(Err(Error::Silent(opening_timeout.as_secs())));
        if let Err(error) = result {
            shared.child.stop().await;
            return Err(error);
        }
        Ok(shared)
    }

    /// Waits until the child has answered `initialize` for the first time.
    async fn opened(&mut self) -> Result<(), Error> {
        while self.switch.open().is_none() {
            match self.events.recv().await {
                Some(ChildEvent::Down { exit, .. }) => {
                    return Err(match exit {
                        Exit::NotStarted(why) => Error::Spawn(why),
                        Exit::Code(_) | Exit::Signal(_) | Exit::Output | Exit::Unknown => {
                            Error::EndedEarly(format!("it {exit}"))
                        }
                    });
                }
                Some(event) => {
                    let actions = self.on_child(event);
                    // Nobody else is there yet, so only the child can be meant.
                    self.act_locally(&actions);
                }
                None => return Err(Error::Closed),
            }
        }
        Ok(())
    }

    pub(super) fn welcome(&self) -> Option<&Welcome> {
        self.switch.open()
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) async fn run(mut self, mut listener: Listener, stop: CancellationToken) -> Result<(), Error> {
        let handle = listener.handle();
        let mut inbound: FuturesUnordered<NextInbound> = FuturesUnordered::new();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let outcome = loop {
            let actions = tokio::select! {
                () = stop.cancelled() => break Ok(()),
                session = listener.accept() => match session {
                    Some(session) => {
                        let actions = self.session_began(&session);
                        inbound.push(self.next(session));
                        actions
                    }
                    None => break Ok(()),
                },
                Some((session, message)) = inbound.next(), if !inbound.is_empty() => match message {
                    Some(message) => {
                        let actions = self.on_caller(session.caller(), &message);
                        inbound.push(self.next(session));
                        actions
                    }
                    None => self.switch.session_ended(session.caller()),
                },
                event = self.events.recv() => match event {
                    Some(ChildEvent::Down { generation: _, exit, restart: None }) => {
                        let how = exit.to_string();
                        let actions = self.switch.child_down(&how, None, Instant::now());
                        self.act(&handle, actions).await;
                        let clean = exit == Exit::Code(0);
                        break if clean { Ok(()) } else { Err(Error::GaveUp(format!("it {how}"))) };
                    }
                    Some(event) => self.on_child(event),
                    None => break Err(Error::Closed),
                },
                _now = sweep.tick() => {
                    self.senders.retain(|caller, _| self.switch.knows(caller));
                    self.switch.sweep(Instant::now())
                }
            };
            self.act(&handle, actions).await;
        };
        let farewell = self.switch.stop();
        self.act(&handle, farewell).await;
        tokio::join!(handle.shutdown(), self.child.stop());
        outcome
    }

    fn session_began(&mut self, session: &Session) -> Vec<Action> {
        self.senders.insert(session.caller(), session.sender());
        if session.is_local() {
            self.switch.local_began(session.caller());
            return Vec::new();
        }
        self.switch.session_began(session.caller(), Instant::now())
    }

    /// Waits for the next message of a session and brings the session back.
    fn next(&self, mut session: Session) -> NextInbound {
        let life = session.is_local().then(|| self.life.clone());
        Box::pin(async move {
            let message = match life {
                // In this order, or a message at that moment would carry the session over.
                Some(life) => tokio::select! {
                    biased;
                    () = life.cancelled() => None,
                    message = session.recv() => message,
                },
                None => session.recv().await,
            };
            (session, message)
        })
    }

    fn on_caller(&mut self, caller: PublicKey, inbound: &Inbound) -> Vec<Action> {
        let letter = Letter {
            caller,
            delivery: &inbound.delivery,
            message: &inbound.message,
            server_requests: inbound.tags.server_requests,
        };
        self.switch.hear_caller(letter, Instant::now())
    }

    fn on_child(&mut self, event: ChildEvent) -> Vec<Action> {
        let was_open = self.switch.open().is_some();
        let actions = self.hear_child(event);
        if !was_open && self.switch.open().is_some() {
            core::mem::take(&mut self.life).cancel();
        }
        actions
    }

    fn hear_child(&mut self, event: ChildEvent) -> Vec<Action> {
        match event {
            ChildEvent::Up { generation, pid } => {
                self.generation = generation;
                self.pid = pid;
                self.reporter.tell(&Notice::ChildStarted { pid });
                self.switch.child_up(Instant::now())
            }
            ChildEvent::Line { generation, text } if generation == self.generation => {
                self.switch.hear_child(&text, Instant::now())
            }
            ChildEvent::Line { .. } => Vec::new(),
            ChildEvent::Bad { what } => self.switch.noise(what),
            ChildEvent::Down { generation: _, exit, restart } => {
                self.switch.child_down(&exit.to_string(), restart, Instant::now())
            }
        }
    }

    async fn act(&mut self, handle: &ServerHandle, actions: Vec<Action>) {
        let mut further = self.act_locally(&actions);
        further.extend(actions);
        for action in further {
            match action {
                Action::Caller(caller, message) => {
                    if let Some(sender) = self.senders.get(&caller) {
                        // A closed server ends the loop by itself.
                        let _closed = sender.send(message).await;
                    }
                }
                Action::Broadcast(message) => {
                    let _closed = handle.broadcast(message).await;
                }
                Action::Child(_) | Action::Kick | Action::Tell(_) => {}
            }
        }
    }

    /// Does what needs nobody but the child; returns what followed from it.
    fn act_locally(&mut self, actions: &[Action]) -> Vec<Action> {
        let mut further = Vec::new();
        for action in actions {
            match action {
                Action::Child(line) => match self.child.send(self.generation, line.clone()) {
                    Ok(()) => {}
                    Err(Refused::Busy | Refused::NotOneLine) => further.extend(self.switch.not_written(line)),
                    // The end of the child is on its way as an event, and answers everything.
                    Err(Refused::Gone) => {}
                },
                Action::Kick => self.child.kick(),
                Action::Tell(notice) => self.reporter.tell(notice),
                Action::Caller(..) | Action::Broadcast(_) => {}
            }
        }
        further
    }
}
