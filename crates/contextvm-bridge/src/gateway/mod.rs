//! The gateway: a stdio server on Nostr, one shared child for all callers.
use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::{Duration, Instant};

use contextvm_core::Limits;
use contextvm_server::{Inbound, Listener, Session, SessionSender};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nostr::key::PublicKey;
use tokio_util::sync::CancellationToken;

pub(crate) mod answer;
mod subscriptions;
mod switch;
mod welcome;

pub use welcome::Welcome;

use crate::Error;
use crate::child::{
    Child, ChildCommand, ChildEvent, ChildEvents, ChildOptions, Exit, Refused, RestartPolicy,
};
use crate::notice::{Notice, Reporter};
use switch::{Action, Letter, Switch};

/// How often late requests are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// Collects what a [`Gateway`] is told.
#[derive(Clone, Debug)]
#[must_use]
pub struct GatewayBuilder {
    command: ChildCommand,
    child: ChildOptions,
    limits: Limits,
    opening_timeout: Duration,
    request_timeout: Duration,
}

impl GatewayBuilder {
    /// Sets when a child that died is started again.
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.child.restart = policy;
        self
    }

    /// Sets who hears of changes and of the child's standard error.
    pub fn reporter(mut self, reporter: Reporter) -> Self {
        self.child.reporter = reporter;
        self
    }

    /// Sets the bounds.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.child.line = limits.child_line;
        self.limits = limits;
        self
    }

    /// Sets how long the child may take to answer `initialize`.
    pub fn opening_timeout(mut self, timeout: Duration) -> Self {
        self.opening_timeout = timeout;
        self
    }

    /// Sets how long the child may take over a request without any progress.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Starts the child and initialises it.
    ///
    /// # Errors
    /// Fails when the child cannot be started, ends or stays silent; it is not tried a second time.
    pub async fn start(self) -> Result<Gateway, Error> {
        Gateway::start(self).await
    }
}

/// A running, initialised child, ready to be put on Nostr.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    events: ChildEvents,
    switch: Switch,
    reporter: Reporter,
    generation: u64,
    pid: u32,
    senders: BTreeMap<PublicKey, SessionSender>,
}

type NextInbound = Pin<Box<dyn Future<Output = (Session, Option<Inbound>)> + Send>>;

impl Gateway {
    /// Starts collecting options for a gateway to this command.
    pub fn builder(command: ChildCommand) -> GatewayBuilder {
        GatewayBuilder {
            command,
            child: ChildOptions::default(),
            limits: Limits::default(),
            opening_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(300),
        }
    }

    async fn start(builder: GatewayBuilder) -> Result<Self, Error> {
        let GatewayBuilder { command, child: options, limits, opening_timeout, request_timeout } = builder;
        let reporter = options.reporter.clone();
        let (child, events) = Child::start(command, options);
        let switch = Switch::new(limits, request_timeout, opening_timeout);
        let mut gateway =
            Self { child, events, switch, reporter, generation: 0, pid: 0, senders: BTreeMap::new() };
        let opened = tokio::time::timeout(opening_timeout, gateway.opened()).await;
        let result = opened.unwrap_or(Err(Error::Silent(opening_timeout.as_secs())));
        if let Err(error) = result {
            gateway.child.stop().await;
            return Err(error);
        }
        Ok(gateway)
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

    /// Returns what the child said about itself.
    #[must_use]
    pub fn welcome(&self) -> Option<&Welcome> {
        self.switch.open()
    }

    /// Returns the child's process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Moves messages between the callers and the child until `stop`, the end of the listener, or a child that is not
    /// started again. Afterwards the listener is shut down and the child is gone.
    ///
    /// # Errors
    /// Fails when the child is not started again.
    pub async fn run(mut self, mut listener: Listener, stop: CancellationToken) -> Result<(), Error> {
        let handle = listener.handle();
        let mut inbound: FuturesUnordered<NextInbound> = FuturesUnordered::new();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let outcome = loop {
            let actions = tokio::select! {
                () = stop.cancelled() => break Ok(()),
                session = listener.accept() => match session {
                    Some(session) => {
                        self.session_began(&session);
                        inbound.push(next(session));
                        Vec::new()
                    }
                    None => break Ok(()),
                },
                Some((session, message)) = inbound.next(), if !inbound.is_empty() => match message {
                    Some(message) => {
                        let actions = self.on_caller(session.caller(), &message);
                        inbound.push(next(session));
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

    fn session_began(&mut self, session: &Session) {
        self.switch.session_began(session.caller());
        self.senders.insert(session.caller(), session.sender());
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

    async fn act(&mut self, handle: &contextvm_server::ServerHandle, actions: Vec<Action>) {
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

/// Waits for the next message of a session and brings the session back.
fn next(mut session: Session) -> NextInbound {
    Box::pin(async move {
        let message = session.recv().await;
        (session, message)
    })
}
