//! One caller's backend, whatever it speaks.
use super::Kit;
use crate::child::{Child, ChildEvent, ChildEvents, Refused, RestartPolicy, RestartWhen};
use crate::gateway::Target;
#[cfg(feature = "http")]
use crate::gateway::upstream::{Happening, Upstream};
use crate::notice::{Notice, Reporter};

/// The only generation of a child that is never started again by its supervisor.
const GENERATION: u64 = 1;

/// What a backend does.
#[derive(Debug)]
pub(super) enum Event {
    Message(String),
    /// It wrote what is no message.
    Noise(String),
    /// Its session was lost and begun anew.
    #[cfg(feature = "http")]
    Anew,
    /// It is gone.
    Down(String),
}

/// A running backend.
#[derive(Debug)]
pub(super) enum Backend {
    Child(Child, ChildEvents, Reporter),
    #[cfg(feature = "http")]
    Http(Upstream),
}

impl Backend {
    pub(super) fn start(kit: &Kit) -> Self {
        match &kit.target {
            Target::Child(command) => {
                let mut options = kit.options.child.clone();
                options.restart = RestartPolicy { when: RestartWhen::Never, ..options.restart };
                let reporter = options.reporter.clone();
                let (child, events) = Child::start(command.clone(), options);
                Self::Child(child, events, reporter)
            }
            #[cfg(feature = "http")]
            Target::Http(target) => Self::Http(Upstream::start(target, &kit.options)),
        }
    }

    /// Sends a message; `false` when the backend does not keep up.
    pub(super) fn send(&self, message: String) -> bool {
        match self {
            Self::Child(child, _, _) => {
                // The end of the child is on its way as an event, and answers everything.
                matches!(child.send(GENERATION, message), Ok(()) | Err(Refused::Gone))
            }
            #[cfg(feature = "http")]
            Self::Http(upstream) => upstream.send(message),
        }
    }

    /// Waits for the next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> Event {
        match self {
            Self::Child(_, events, reporter) => loop {
                match events.recv().await {
                    Some(ChildEvent::Up { pid, .. }) => reporter.tell(&Notice::ChildStarted { pid }),
                    Some(ChildEvent::Line { text, .. }) => return Event::Message(text),
                    Some(ChildEvent::Bad { what }) => return Event::Noise(what),
                    Some(ChildEvent::Down { exit, .. }) => return Event::Down(exit.to_string()),
                    None => return Event::Down("ended".to_owned()),
                }
            },
            #[cfg(feature = "http")]
            Self::Http(upstream) => match upstream.next().await {
                Some(Happening::Message(message)) => Event::Message(message),
                Some(Happening::Anew) => Event::Anew,
                None => Event::Down("ended".to_owned()),
            },
        }
    }

    /// Ends the backend and returns once it is gone.
    pub(super) async fn stop(self) {
        match self {
            Self::Child(child, mut events, _) => {
                // Events that nobody reads would hold up the end.
                tokio::select! {
                    () = child.stop() => {}
                    () = async { while events.recv().await.is_some() {} core::future::pending().await } => {}
                }
            }
            #[cfg(feature = "http")]
            Self::Http(upstream) => upstream.stop().await,
        }
    }
}
