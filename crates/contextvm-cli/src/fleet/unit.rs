//! One unit of a fleet: started, watched, and started again after a failure.
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contextvm::core::Printable;
use contextvm::server::{Announcing, Listener, ServerHandle};
use contextvm_bridge::{CancellationToken, Error, Gateway, Target};
use futures_util::FutureExt as _;

use super::board::{Board, State};
use super::file::{Entry, EntryTarget};
use super::plan::Plan;
use super::target::{shown, shown_command};
use crate::args::Restart;
use crate::keys::npub;
use crate::output::Talk;
use crate::problem::Problem;
use crate::publication::announcing;

/// First and longest pause before a unit that failed is started again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A unit that lived this long starts again with the first pause.
const STABLE: Duration = Duration::from_secs(60);
/// How often the relays are looked at.
const WATCH: Duration = Duration::from_millis(500);

/// What one unit needs to know.
pub(super) struct Unit {
    pub(super) plan: Arc<Plan>,
    pub(super) entry: Entry,
    pub(super) board: Board,
    pub(super) talk: Talk,
    pub(super) stop: CancellationToken,
}

/// Why a life of a unit ended.
struct Failure {
    why: String,
    /// Its server was started again as often as was asked for.
    is_final: bool,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { why: problem.message().to_owned(), is_final: false }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { why: error.to_string(), is_final: matches!(error, Error::GaveUp(_)) }
    }
}

impl Unit {
    /// Runs the entry until `stop`. Whatever becomes of it, other units go on.
    pub(super) async fn run(self) {
        self.board.add(&self.entry.name, String::new());
        let live = AssertUnwindSafe(Box::pin(self.live()));
        if live.catch_unwind().await.is_err() {
            self.rest(State::Failed, "it met a bug of this program, which is shown above").await;
        }
        self.board.remove(&self.entry.name);
    }

    /// Starts the entry, again and again if need be.
    async fn live(&self) {
        if let Ok(keys) = self.plan.identity(&self.entry.name) {
            self.board.change(&self.entry.name, |unit| unit.server = npub(&keys.public_key()));
        }
        let target = match &self.entry.target {
            Ok(target) => self.plan.entry_target(target).map_err(|problem| problem.message().to_owned()),
            Err(why) => Err(why.clone()),
        };
        let target = match target {
            Ok(Some(target)) => target,
            Ok(None) => return self.rest(State::Stopped, "it is disabled in the file").await,
            Err(why) => return self.rest(State::Failed, &why).await,
        };
        let words = match &self.entry.target {
            Ok(EntryTarget::Command { written, .. }) => shown_command(written),
            Ok(EntryTarget::Url { .. } | EntryTarget::Disabled) | Err(_) => shown(&target),
        };
        self.board.change(&self.entry.name, |unit| unit.target = words);
        let (most, window) = self.plan.options.max_restarts;
        let mut restarts: VecDeque<Instant> = VecDeque::new();
        let mut pause = PAUSES.0;
        // What an earlier life has announced, until a later one announces anew.
        let mut public = None;
        while !self.stop.is_cancelled() {
            let begun = Instant::now();
            self.enter(State::Starting, None);
            let ended = self.once(target.clone(), &mut public).await;
            if self.stop.is_cancelled() {
                break;
            }
            let Err(Failure { why, is_final }) = ended else {
                self.withdraw(public).await;
                return self.rest(State::Stopped, "its server ended by itself").await;
            };
            restarts.retain(|restart| restart.elapsed() < window);
            if is_final || self.plan.options.restart == Restart::Never || restarts.len() >= most {
                self.withdraw(public).await;
                return self.rest(State::Failed, &why).await;
            }
            restarts.push_back(Instant::now());
            pause = if begun.elapsed() >= STABLE { PAUSES.0 } else { pause };
            self.enter(State::Backoff, Some(format!("{why}; again in {} s", pause.as_secs())));
            self.board.change(&self.entry.name, |unit| unit.restarts = restarts.len());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
        self.withdraw(public).await;
    }

    /// One life of the unit. What it announces is left to whoever decides whether there is another one.
    async fn once(&self, target: Target, public: &mut Option<Announcing>) -> Result<(), Failure> {
        let (gateway, listener) = tokio::select! {
            begun = Box::pin(self.begin(target)) => begun?,
            () = self.stop.cancelled() => return Ok(()),
        };
        let handle = listener.handle();
        let server = npub(&handle.public_key());
        let store = handle.status().store.map(|path| path.to_string_lossy().into_owned());
        self.board.change(&self.entry.name, |unit| (unit.pid, unit.store) = (gateway.pid(), store));
        self.enter(State::Ready, None);
        self.say(&format!("ready as {server}"));
        *public = self.announce(&handle)?;
        let telling = async {
            if let Some(announcing) = public {
                announcing::tell(announcing, |line| self.say(line)).await;
            }
            core::future::pending::<()>().await;
        };
        tokio::select! {
            ended = Box::pin(gateway.run(listener, self.stop.clone())) => ended.map_err(Failure::from),
            () = self.watch(handle) => Ok(()),
            () = telling => Ok(()),
        }
    }

    /// Begins to announce the unit under its own key, if that was asked for.
    fn announce(&self, handle: &ServerHandle) -> Result<Option<Announcing>, Failure> {
        let options = self.plan.announce_options()?;
        Ok(options.map(|options| announcing::begin(handle, options)).transpose()?)
    }

    /// Takes back what was announced, if that was asked for: the unit ends, or stays down.
    async fn withdraw(&self, public: Option<Announcing>) {
        if let (Some(announcing), true) = (public, self.plan.options.unannounce_on_exit) {
            Box::pin(announcing::withdraw(announcing, |line| self.say(line))).await;
        }
    }

    /// Starts the server and puts it on Nostr.
    async fn begin(&self, target: Target) -> Result<(Gateway, Listener), Failure> {
        let name = &self.entry.name;
        let before = format!("{}: ", Printable::short(name, 60));
        let noted = self.plan.is_shared(&target).then(|| (self.board.clone(), name.clone()));
        let reporter = super::reporter(noted, before, self.talk);
        let gateway = self.plan.gateway(target, reporter).start().await?;
        let own = gateway.welcome().and_then(|welcome| welcome.name.clone());
        let own = own.or_else(|| Some(name.clone()));
        let listener = self.plan.listen(self.plan.identity(name)?, own).await?;
        Ok((gateway, listener))
    }

    /// Looks at the relays; never ends.
    async fn watch(&self, handle: ServerHandle) {
        loop {
            let status = handle.status();
            let listening = status.relays.iter().any(|(_, up)| *up);
            if self.board.watched(&self.entry.name, status) {
                self.say(if listening { "ready again" } else { "degraded: no relay listens" });
            }
            tokio::time::sleep(WATCH).await;
        }
    }

    /// Waits for `stop` without running anything.
    async fn rest(&self, state: State, why: &str) {
        self.enter(state, Some(why.to_owned()));
        self.stop.cancelled().await;
    }

    fn enter(&self, state: State, why: Option<String>) {
        let why = why.map(|why| Printable::short(&why, 300).to_string());
        if let Some(why) = &why {
            self.say(&format!("{}: {why}", state.name()));
        }
        self.board.change(&self.entry.name, |unit| {
            unit.state = state;
            unit.why = why;
            if state != State::Ready {
                unit.pid = None;
                unit.relays.clear();
            }
        });
    }

    fn say(&self, what: &str) {
        self.talk.say(&format!("{}: {what}", Printable::short(&self.entry.name, 60)));
    }
}
