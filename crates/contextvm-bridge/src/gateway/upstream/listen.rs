//! The stream of a session: what the server says that belongs to no request. Not every server has one.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::Happening;
use super::body::{self, Stream};
use super::wire::Wire;

/// First and longest pause before the stream is asked for again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Shortest pause that a server may ask for.
const SHORTEST: Duration = Duration::from_millis(100);

/// Starts to listen, in the stead of whoever listened before. What is returned resolves when the server has answered.
pub(super) fn start(wire: &Arc<Wire>) -> oneshot::Receiver<()> {
    let listener = Arc::clone(wire);
    let (answered, answer) = oneshot::channel();
    let task = tokio::spawn(Box::pin(async move {
        tokio::select! {
            // Nobody is left who could hear of it.
            () = listener.out.closed() => {}
            () = listen(&listener, answered) => {}
        }
    }));
    wire.listen(AbortOnDropHandle::new(task));
    answer
}

async fn listen(wire: &Wire, answered: oneshot::Sender<()>) {
    let (mut last, mut pause) = (None, PAUSES.0);
    let mut answered = Some(answered);
    loop {
        let response = wire.get(&wire.session(), last.as_deref()).await;
        // Whoever waited may have lost patience.
        let _impatient = answered.take().map(|answered| answered.send(()));
        match response {
            Ok(response) if response.status().is_success() && body::is_stream(&response) => {
                let mut stream = Stream::new(response, wire);
                pause = PAUSES.0;
                while let Ok(Some(event)) = stream.next().await {
                    pause = event.retry.unwrap_or(pause).clamp(SHORTEST, PAUSES.1);
                    last = event.id.or(last);
                    if !event.data.trim().is_empty()
                        && wire.out.send((Happening::Message(event.data), stream.take_pass())).await.is_err()
                    {
                        return;
                    }
                }
            }
            // It has none, or none any more: the next request finds out whether the session is lost.
            Ok(response) if response.status().is_client_error() => return,
            Ok(_) | Err(_) => pause = (pause * 2).min(PAUSES.1),
        }
        tokio::time::sleep(pause).await;
    }
}
