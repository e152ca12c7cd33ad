//! A backend for each session of each caller: nothing is shared but the number of backends.
//!
//! Backends are started by the first request, because only callers that were let in get that far.
use std::collections::BTreeMap;
use std::sync::Arc;

use contextvm_server::{Inbound, Listener, Session};
use nostr::key::PublicKey;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod backend;
mod lane;
mod places;
mod session;

use super::{Options, Target};
use places::Places;
use session::Tenant;

/// Sessions of one caller that may be under way at once; an older one is ended.
const SESSIONS: usize = 3;
/// Cancellations for an earlier session of the same caller that may wait.
const PASSED_ON: usize = 64;

/// What all sessions use.
#[derive(Debug)]
struct Kit {
    target: Target,
    options: Options,
    places: Arc<Places>,
    stop: CancellationToken,
}

impl Kit {
    /// Begins the reasons of failures.
    const fn kind(&self) -> &'static str {
        match &self.target {
            Target::Child(_) => "child",
            #[cfg(feature = "http")]
            Target::Http(_) => "upstream",
        }
    }
}

/// A gateway with a backend for each caller.
#[derive(Debug)]
pub(super) struct Private(Arc<Kit>);

/// A session that runs.
#[derive(Debug)]
struct Seat {
    number: u64,
    passed_on: mpsc::Sender<Inbound>,
    retire: CancellationToken,
}

/// The sessions that run, by caller, oldest first.
#[derive(Debug, Default)]
struct Seats(BTreeMap<PublicKey, Vec<Seat>>);

impl Private {
    pub(super) fn new(target: Target, options: Options) -> Self {
        let places = Places::new(options.backends);
        Self(Arc::new(Kit { target, options, places, stop: CancellationToken::new() }))
    }

    pub(super) async fn run(self, mut listener: Listener, stop: CancellationToken) {
        let handle = listener.handle();
        // Dropped with this future, too: then all backends end by themselves.
        let _stopping = self.0.stop.clone().drop_guard();
        let mut seats = Seats::default();
        let mut tasks: JoinSet<(PublicKey, u64)> = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                session = listener.accept() => match session {
                    Some(session) => {
                        let caller = session.caller();
                        let (number, tenant) = seats.take(session, &self.0);
                        tasks.spawn(async move {
                            Box::pin(tenant.run()).await;
                            (caller, number)
                        });
                    }
                    None => break,
                },
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => match ended {
                    Ok((caller, number)) => seats.leave(caller, number),
                    Err(error) => tracing::error!("a session ended unexpectedly: {error}"),
                },
            }
        }
        self.0.stop.cancel();
        while tasks.join_next().await.is_some() {}
        handle.shutdown().await;
    }
}

impl Seats {
    fn take(&mut self, session: Session, kit: &Arc<Kit>) -> (u64, Tenant) {
        let seats = self.0.entry(session.caller()).or_default();
        if seats.len() >= SESSIONS {
            seats.remove(0).retire.cancel();
        }
        let earlier = seats.last();
        let number = earlier.map_or(1, |earlier| earlier.number.saturating_add(1));
        let earlier = earlier.map(|earlier| earlier.passed_on.clone());
        let (passed_on, inbox) = mpsc::channel(PASSED_ON);
        let retire = CancellationToken::new();
        seats.push(Seat { number, passed_on, retire: retire.clone() });
        (number, Tenant::new(session, number, Arc::clone(kit), earlier, inbox, retire))
    }

    fn leave(&mut self, caller: PublicKey, number: u64) {
        if let Some(seats) = self.0.get_mut(&caller) {
            seats.retain(|seat| seat.number != number);
            if seats.is_empty() {
                self.0.remove(&caller);
            }
        }
    }
}
