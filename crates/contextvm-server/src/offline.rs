//! A server without relays: sessions come from the process itself, and nothing leaves it.
use tokio::sync::mpsc;

use crate::desk::Command;
use crate::session::Session;

/// Keeps the server until it is shut down, its listener is dropped, or no handle is left.
pub(crate) async fn run(accept: mpsc::Sender<Session>, mut inbox: mpsc::Receiver<Command>) {
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                // Nobody is on the wire. Local callers have had their copy.
                Some(Command::Send { .. } | Command::Broadcast(_) | Command::Stream { .. }) => {}
                Some(Command::Shutdown) | None => return,
            },
            () = accept.closed() => return,
        }
    }
}
