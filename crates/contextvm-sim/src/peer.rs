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
use crate::port::{Me, Port};
use crate::server::Server;
use crate::time::{HostClock, SEC};
use crate::trace::What;

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
    /// Starts the process; a server waits for its replay barrier first.
    pub(crate) fn start(&mut self, kernel: &mut Kernel) {
        let at = kernel.now();
        if self.waits(kernel) {
            return;
        }
        let clock = HostClock { boot: at, skew: self.skew };
        let key = self.me.keys.public_key();
        let gate = match &self.config {
            Config::Client(config) => Gate::for_client(key, config),
            Config::Server(config) => Gate::for_server(key, config),
        };
        let port = Port::new(Rc::clone(&self.me), self.life, gate, clock, at);
        let me = Rc::clone(&self.me);
        let mut desk = Desk { kernel, me: &me, life: self.life, now: clock.now(at) };
        let end = match &self.config {
            Config::Client(config) => End::Client(Client::new(config.clone(), &mut desk, self.slow)),
            Config::Server(config) => End::Server(Server::new(
                config,
                self.journal.take(),
                self.app.clone(),
                self.barrier,
                &mut desk,
            )),
        };
        let alive = self.alive.insert(Alive { port, end, wake: None, asked: None });
        alive.port.pool.start(kernel);
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
            let kept = self.journal.as_mut().map(|journal| journal.since(unix));
            self.barrier = kept.unwrap_or(unix + 1);
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
        if let End::Server(server) = alive.end {
            self.journal = server.journal;
            if let Some(journal) = &mut self.journal {
                journal.crash(torn);
            }
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
        }
        self.feed(kernel);
    }

    /// The application makes a call.
    pub(crate) fn call(&mut self, plan: crate::plan::CallPlan, kernel: &mut Kernel) {
        let me = Rc::clone(&self.port.me);
        let mut desk = Self::desk(&self.port, &me, kernel);
        if let End::Client(client) = &mut self.end {
            client.call(plan, &mut desk);
        }
        self.feed(kernel);
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
        }
    }

    /// Lets the machine take everything that waits for it, and does what it wants.
    pub(crate) fn feed(&mut self, kernel: &mut Kernel) {
        let me = Rc::clone(&self.port.me);
        loop {
            let input = self.port.inputs.pop_front();
            let is_idle = input.is_none();
            if let Some(input) = input {
                let mut desk = Self::desk(&self.port, &me, kernel);
                match &mut self.end {
                    End::Client(client) => client.handle(input, &mut desk),
                    End::Server(server) => server.handle(input, &mut desk),
                }
            }
            let effects = match &mut self.end {
                End::Client(client) => &mut client.effects,
                End::Server(server) => &mut server.effects,
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
