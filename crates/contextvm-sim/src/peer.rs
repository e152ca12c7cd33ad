//! A peer: a process with an identity that may die and start again.
use std::rc::Rc;

use contextvm_core::Mono;
use contextvm_engine::gate::Gate;
use contextvm_engine::{ClientConfig, ServerConfig};

use crate::client::Client;
use crate::end::{Desk, Effect, Input};
use crate::hostile::{Chances, Deeds};
use crate::journal::Journal;
use crate::kernel::{Act, Due, Kernel};
use crate::plan::CallPlan;
use crate::port::{Me, Port};
use crate::server::{Server, Trap};
use crate::time::{HostClock, SEC};
use crate::trace::What;

/// How long a client that closes itself has to say so.
const GRACE: u64 = 2 * SEC;

/// What runs in a peer.
#[derive(Debug)]
pub(crate) enum Config {
    Client(ClientConfig),
    Server(ServerConfig),
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a handful of them in a world, and none is ever moved")]
pub(crate) enum End {
    Client(Client),
    Server(Server),
    /// A server that connects and listens while it waits for its replay barrier.
    Waits,
}

/// What there is only while the process runs.
#[derive(Debug)]
pub(crate) struct Alive {
    pub(crate) port: Port,
    pub(crate) end: End,
    /// When the machine will be woken.
    wake: Option<Mono>,
    /// When it last asked to be.
    asked: Option<Mono>,
}

/// One peer of a world.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) me: Rc<Me>,
    pub(crate) config: Config,
    /// When it starts for the first time, microseconds.
    pub(crate) comes: u64,
    /// Its key was never used before: without a journal it needs no barrier in its first life.
    pub(crate) is_fresh: bool,
    pub(crate) life: u32,
    pub(crate) skew: i64,
    pub(crate) slow: u32,
    /// What its application may do wrong.
    pub(crate) app: Chances,
    pub(crate) journal: Option<Journal>,
    pub(crate) keeps_journal: bool,
    /// The Unix second before which nothing is accepted; whether it was set in this life, and when it was first set.
    pub(crate) barrier: u64,
    pub(crate) has_barrier: bool,
    pub(crate) barrier_at: u64,
    pub(crate) alive: Option<Alive>,
}

impl Peer {
    /// Starts the process; a server that has to wait for its replay barrier listens meanwhile, and begins then.
    pub(crate) fn start(&mut self, kernel: &mut Kernel) {
        let at = kernel.now();
        let waits = self.waits(kernel);
        let (me, life) = (Rc::clone(&self.me), self.life);
        if self.alive.is_none() {
            let clock = HostClock { boot: at, skew: self.skew };
            let key = me.keys.public_key();
            let gate = match &self.config {
                Config::Client(config) => Gate::for_client(key, config),
                Config::Server(config) => Gate::for_server(key, config),
            };
            let port = Port::new(Rc::clone(&me), life, gate, clock, at);
            let alive = self.alive.insert(Alive { port, end: End::Waits, wake: None, asked: None });
            alive.port.pool.start(kernel);
            if self.skew != 0 && life == 0 {
                kernel.happened("skew");
            }
        }
        let Some(alive) = self.alive.as_mut().filter(|alive| !waits && matches!(alive.end, End::Waits))
        else {
            return;
        };
        let mut desk = Desk { kernel, me: &me, life, now: alive.port.clock.now(at) };
        alive.end = match &self.config {
            Config::Client(config) => End::Client(Client::new(config.clone(), &mut desk, self.slow)),
            Config::Server(config) => End::Server(Server::new(
                config,
                self.journal.take(),
                self.app.clone(),
                self.barrier,
                &mut desk,
            )),
        };
        alive.feed(kernel);
    }

    /// Sets the barrier of a life that begins; returns whether it has to wait for it, and begins again then.
    fn waits(&mut self, kernel: &mut Kernel) -> bool {
        if matches!(self.config, Config::Client(_)) {
            return false;
        }
        let at = kernel.now();
        let unix = HostClock { boot: at, skew: self.skew }.unix(at);
        if !self.has_barrier {
            self.has_barrier = true;
            let limits = &self.me.limits;
            let kept = self.journal.as_mut().map(|journal| journal.since(limits, unix));
            let new = if self.is_fresh && self.life == 0 { 0 } else { unix + 1 };
            self.barrier = kept.unwrap_or(new);
            self.barrier_at = if self.life == 0 || kept.is_none() { at } else { self.barrier_at };
        }
        let waits = unix < self.barrier;
        if waits {
            let next = (at / SEC + 1) * SEC;
            kernel.queue.at(next, Due::Start { peer: self.me.peer, life: self.life });
        }
        waits
    }

    /// The process dies.
    pub(crate) fn crash(&mut self, torn: bool, kernel: &mut Kernel) -> bool {
        let Some(alive) = self.alive.take() else { return false };
        match alive.end {
            End::Server(server) => {
                self.journal = server.journal;
                if let Some(journal) = &mut self.journal {
                    journal.crash(torn);
                }
            }
            End::Client(client) if client.unmade() > 0 => {
                kernel.emit(self.me.host, What::NotMade { calls: client.unmade() as u64 });
            }
            End::Client(_) | End::Waits => {}
        }
        self.life += 1;
        self.has_barrier = false;
        kernel.emit(self.me.host, What::Crashed);
        true
    }

    /// Adds what its application and its signer did wrong.
    pub(crate) fn tally(&self, deeds: &mut Deeds) {
        let Some(alive) = &self.alive else { return };
        deeds.merge(&alive.port.signer.mood().deeds);
        if let End::Server(server) = &alive.end {
            deeds.merge(&server.app.mood().deeds);
        }
    }

    /// Whether it does not run yet, or waits.
    pub(crate) fn is_to_start(&self) -> bool {
        self.alive.as_ref().is_none_or(|alive| matches!(alive.end, End::Waits))
    }

    /// Returns the running process of this life.
    pub(crate) fn alive(&mut self, life: u32) -> Option<&mut Alive> {
        if life == self.life { self.alive.as_mut() } else { None }
    }
}

impl Alive {
    fn desk<'a>(port: &'a Port, me: &'a Me, kernel: &'a mut Kernel) -> Desk<'a> {
        let now = port.clock.now(kernel.now());
        Desk { kernel, me, life: port.life, now }
    }

    /// The application does something.
    pub(crate) fn act(&mut self, act: Act, kernel: &mut Kernel) {
        let me = Rc::clone(&self.port.me);
        let mut desk = Self::desk(&self.port, &me, kernel);
        match &mut self.end {
            End::Client(client) => client.act(act, &mut desk),
            End::Server(server) => server.act(act, &mut desk),
            End::Waits => {}
        }
        self.feed(kernel);
    }

    /// The application sends a notification of its own.
    pub(crate) fn note(&mut self, kernel: &mut Kernel) {
        let me = Rc::clone(&self.port.me);
        let mut desk = Self::desk(&self.port, &me, kernel);
        match &mut self.end {
            End::Client(client) => client.note(&mut desk),
            End::Server(server) => server.note(&mut desk),
            End::Waits => {}
        }
        self.feed(kernel);
    }

    /// The application makes a call; returns whether it still makes any.
    pub(crate) fn call(&mut self, plan: CallPlan, kernel: &mut Kernel) -> bool {
        let me = Rc::clone(&self.port.me);
        let mut desk = Self::desk(&self.port, &me, kernel);
        let End::Client(client) = &mut self.end else { return false };
        if !client.calls() {
            return false;
        }
        client.call(plan, &mut desk);
        self.feed(kernel);
        true
    }

    /// A client closes itself, and its process ends when it has had the time to say so; a server closes a session.
    pub(crate) fn leave(&mut self, down: Option<u64>, kernel: &mut Kernel) {
        let me = Rc::clone(&self.port.me);
        let mut desk = Self::desk(&self.port, &me, kernel);
        match &mut self.end {
            End::Client(client) => {
                if client.leave(&mut desk) {
                    let due = Due::Falls { peer: me.peer, life: self.port.life, torn: false, down };
                    kernel.queue.after(GRACE, due);
                }
            }
            End::Server(server) => server.close_session(&mut desk),
            End::Waits => {}
        }
        self.feed(kernel);
    }

    /// Lets a server die at a moment that matters.
    pub(crate) fn trap(&mut self, trap: Trap) {
        if let End::Server(server) = &mut self.end {
            server.trap = Some(trap);
        }
    }

    /// The machine's time has come.
    pub(crate) fn wake(&mut self, mono: Mono, kernel: &mut Kernel) {
        if self.wake != Some(mono) {
            return;
        }
        self.wake = None;
        let now = self.port.clock.now(kernel.now());
        if self.timeout().is_some_and(|due| due <= now.mono) {
            kernel.emit(self.port.me.host, What::Woke);
            self.port.inputs.push_back(Input::Wake);
        }
        self.feed(kernel);
    }

    fn timeout(&self) -> Option<Mono> {
        match &self.end {
            End::Client(client) => client.timeout(),
            End::Server(server) => server.timeout(),
            End::Waits => None,
        }
    }

    /// Lets the machine take everything that waits for it, and does what it wants.
    pub(crate) fn feed(&mut self, kernel: &mut Kernel) {
        if matches!(self.end, End::Waits) {
            return;
        }
        let me = Rc::clone(&self.port.me);
        loop {
            let input = self.port.inputs.pop_front();
            let is_idle = input.is_none();
            if let Some(input) = input {
                let mut desk = Self::desk(&self.port, &me, kernel);
                match &mut self.end {
                    End::Client(client) => client.handle(input, &mut desk),
                    End::Server(server) => server.handle(input, &mut desk),
                    End::Waits => {}
                }
            }
            let effects = match &mut self.end {
                End::Client(client) => &mut client.effects,
                End::Server(server) => &mut server.effects,
                End::Waits => return,
            };
            if is_idle && effects.is_empty() {
                break;
            }
            for effect in std::mem::take(effects) {
                match effect {
                    Effect::Publish(outbound) => self.port.publish(outbound, kernel),
                    Effect::Republish { ticket, rewrap } => self.port.republish(ticket, rewrap, kernel),
                    Effect::Forget(ticket) => self.port.forget(ticket),
                }
            }
        }
        self.arm(kernel);
    }

    fn arm(&mut self, kernel: &mut Kernel) {
        let due = self.timeout();
        if due != self.asked {
            self.asked = due;
            if let Some(due) = due {
                let due = kernel.cheater.due(self.port.clock.at(due), kernel.now());
                kernel.emit(self.port.me.host, What::Timer { due });
            }
        }
        let Some(due) = due else { return };
        if self.wake.is_none_or(|wake| due < wake) {
            self.wake = Some(due);
            let at = self.port.clock.at(due);
            let (peer, life) = (self.port.me.peer, self.port.life);
            kernel.queue.at(at, Due::Wake { peer, life, mono: due });
        }
    }
}
