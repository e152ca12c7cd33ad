//! The task of one session: it moves messages between a caller and a backend of its own, which comes and goes.
use std::sync::Arc;
use std::time::{Duration, Instant};

use contextvm_server::{Inbound, Session, SessionSender};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Kit;
use super::backend::{Backend, Event};
use super::lane::{Action, Lane};
use super::places::Place;
use crate::answer::{FAILED, Failure, TIMED_OUT};
use crate::child::Restarts;
use crate::notice::Notice;

/// How often late requests and idle backends are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// A pause after a crash that is shorter is not kept: the next request starts another backend at once.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// What the task of one session is made of.
pub(super) struct Tenant {
    session: Session,
    sender: SessionSender,
    kit: Arc<Kit>,
    lane: Lane,
    running: Option<Running>,
    restarts: Restarts,
    /// After crashes: no backend is started before this time, or ever when there is none.
    resting: Option<(Option<Instant>, String)>,
    /// Cancellations that are meant for this session and came in a later one of the same caller.
    passed_on: mpsc::Receiver<Inbound>,
    /// The caller's session before this one.
    earlier: Option<mpsc::Sender<Inbound>>,
    server_requests: bool,
    is_over: bool,
    stop: CancellationToken,
    retire: CancellationToken,
}

struct Running {
    backend: Backend,
    place: Place,
    since: Instant,
}

impl Tenant {
    pub(super) fn new(
        session: Session,
        number: u64,
        kit: Arc<Kit>,
        earlier: Option<mpsc::Sender<Inbound>>,
        passed_on: mpsc::Receiver<Inbound>,
        retire: CancellationToken,
    ) -> Self {
        let lane = Lane::new(number, session.is_local(), kit.kind(), &kit.options, Instant::now());
        Self {
            sender: session.sender(),
            session,
            lane,
            running: None,
            restarts: Restarts::new(kit.options.child.restart),
            resting: None,
            passed_on,
            earlier,
            server_requests: false,
            is_over: false,
            stop: kit.stop.clone(),
            retire,
            kit,
        }
    }

    /// Runs until the session is over and everything is answered.
    pub(super) async fn run(mut self) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !(self.is_over && self.lane.is_idle()) {
            let (stop, retire) = (self.stop.clone(), self.retire.clone());
            let is_running = self.running.is_some();
            let actions = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    let failure = Failure::new(FAILED, "shutting_down", "the server shuts down");
                    return self.close(&failure).await;
                }
                () = retire.cancelled() => {
                    let failure = Failure::new(FAILED, "session_replaced", "the client began too many sessions");
                    return self.close(&failure).await;
                }
                inbound = self.session.recv(), if !self.is_over => match inbound {
                    Some(inbound) => self.on_caller(inbound).await,
                    None => {
                        self.is_over = true;
                        self.lane.replaced()
                    }
                },
                Some(inbound) = self.passed_on.recv() => self.on_caller(inbound).await,
                _now = sweep.tick(), if is_running => self.on_sweep().await,
                event = next(&mut self.running) => match event {
                    Some(event) => self.on_backend(event),
                    None => {
                        self.rest().await;
                        Vec::new()
                    }
                },
            };
            self.act(actions).await;
            self.note_work();
        }
        self.rest().await;
    }

    async fn on_caller(&mut self, inbound: Inbound) -> Vec<Action> {
        self.server_requests = inbound.tags.server_requests;
        if let Some(earlier) = &self.earlier
            && self.lane.is_foreign(&inbound.delivery, &inbound.message)
        {
            // An earlier session that is gone waits for nothing.
            let _gone = earlier.try_send(inbound);
            return Vec::new();
        }
        // A backend that was told to leave must not begin anything.
        if self.running.as_mut().is_some_and(|running| !running.place.work()) {
            self.rest().await;
        }
        self.lane.hear_caller(&inbound.delivery, &inbound.message, Instant::now())
    }

    fn on_backend(&mut self, event: Event) -> Vec<Action> {
        let now = Instant::now();
        match event {
            Event::Message(text) => self.lane.hear_backend(&text, self.server_requests, now),
            Event::Noise(what) => self.lane.noise(what),
            #[cfg(feature = "http")]
            Event::Anew => self.lane.anew(),
            Event::Down(how) => {
                let lived = self.running.take().map_or(Duration::ZERO, |running| running.since.elapsed());
                let wait = self.restarts.after(false, lived, now, 0.0);
                self.resting = match wait {
                    Some((wait, _)) if wait <= PATIENCE => None,
                    Some((wait, _)) => Some((Some(now + wait), how.clone())),
                    None => Some((None, how.clone())),
                };
                let failure = Failure::new(FAILED, "child_exited", format!("the server's process {how}"));
                let mut actions = self.lane.closed(&failure);
                let failed = actions.len();
                actions.push(Action::Tell(Notice::ChildExited { how, failed, restart: None }));
                actions
            }
        }
    }

    async fn on_sweep(&mut self) -> Vec<Action> {
        let now = Instant::now();
        let idle = self.running.as_ref().and_then(|running| running.place.idle_since());
        let is_expired = idle.is_some_and(|since| now.duration_since(since) >= self.kit.options.idle);
        if is_expired && self.lane.may_rest() && !self.lane.is_subscribed() {
            self.rest().await;
        }
        self.lane.sweep(now)
    }

    fn note_work(&mut self) {
        let Some(running) = &mut self.running else { return };
        if self.lane.gives_way() {
            running.place.rest(Instant::now());
        } else {
            // If it is told to leave in this moment, it leaves in the next.
            running.place.work();
        }
    }

    async fn act(&mut self, actions: Vec<Action>) {
        let mut queue: std::collections::VecDeque<Action> = actions.into();
        while let Some(action) = queue.pop_front() {
            match action {
                Action::Caller(message) => self.tell(message).await,
                Action::Tell(notice) => self.kit.options.child.reporter.tell(&notice),
                Action::Backend(line) => match self.backend().await {
                    Ok(backend) => {
                        if !backend.send(line.clone()) {
                            queue.extend(self.lane.not_sent(&line));
                        }
                    }
                    Err(failure) => {
                        queue.clear();
                        queue.extend(self.lane.closed(&failure));
                    }
                },
                Action::Release => self.end_backend().await,
                Action::Kick => {
                    let waited = self.kit.options.opening_timeout;
                    let failure =
                        self.lane.failure(TIMED_OUT, "timeout", "the server did not answer initialize");
                    queue.clear();
                    queue.extend(self.lane.closed(&failure.with_time("waitedMs", waited)));
                    self.end_backend().await;
                }
            }
        }
    }

    /// Sends a message to the caller; a closed server ends the session by itself.
    async fn tell(&self, message: String) {
        let _closed = self.sender.send(message).await;
    }

    /// Finds or starts the backend.
    async fn backend(&mut self) -> Result<&Backend, Failure> {
        let running = match self.running.take() {
            Some(running) => running,
            None => self.start().await?,
        };
        Ok(&self.running.insert(running).backend)
    }

    async fn start(&mut self) -> Result<Running, Failure> {
        if let Some((until, how)) = &self.resting {
            let failure = self.lane.failure(FAILED, "down", format!("the server's process {how}"));
            let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
            match wait {
                None => return Err(failure),
                Some(wait) if !wait.is_zero() => return Err(failure.with_time("retryAfterMs", wait)),
                Some(_) => self.resting = None,
            }
        }
        let busy = || Failure::new(FAILED, "busy", "the server has too many clients at work");
        let place = match self.session.is_local() {
            true => self.kit.places.take_free(),
            false => self.kit.places.take().await,
        };
        let place = place.ok_or_else(busy)?;
        Ok(Running { backend: Backend::start(&self.kit), place, since: Instant::now() })
    }

    /// Lets the backend go; nothing is open.
    async fn rest(&mut self) {
        let failure = self.lane.failure(FAILED, "expired", "the server's session has ended");
        self.close(&failure).await;
    }

    /// Answers what is open and ends the backend.
    async fn close(&mut self, failure: &Failure) {
        for action in self.lane.closed(failure) {
            if let Action::Caller(message) = action {
                self.tell(message).await;
            }
        }
        self.end_backend().await;
    }

    async fn end_backend(&mut self) {
        if let Some(Running { backend, place, .. }) = self.running.take() {
            backend.stop().await;
            drop(place);
        }
    }
}

/// Waits for the next event of the backend; `None` when it must make room for another.
async fn next(running: &mut Option<Running>) -> Option<Event> {
    let Some(running) = running else { return core::future::pending().await };
    tokio::select! {
        () = running.place.told_to_leave() => None,
        event = running.backend.next() => Some(event),
    }
}
