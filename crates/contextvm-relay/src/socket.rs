//! A websocket whose messages come to an end.
//!
//! The library below bounds the size of a message and of its frames. Frames without content cost no size, so that a relay
//! could send one message in such frames for as long as it likes, which nobody above would ever see.
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Bytes that may come for each byte of the largest message: one in each frame still fits.
const PER_BYTE: usize = 4;
/// Bytes that may come besides: the answer to the upgrade, and what was read ahead.
const BESIDES: usize = 64 * 1024;

/// A byte stream, plain or over TLS.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A relay sent more than any message takes, and no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message without an end")]
pub(crate) struct Endless;

impl Endless {
    /// Whether this is what went wrong.
    pub(crate) fn is(error: &Error) -> bool {
        matches!(error, Error::Io(error) if error.get_ref().is_some_and(|error| error.is::<Self>()))
    }
}

/// An open websocket, plain or over TLS.
pub(crate) struct Socket(WebSocketStream<Metered>);

impl Socket {
    /// Turns a byte stream into a websocket that takes messages of up to `largest` bytes.
    pub(crate) async fn upgrade(
        target: &str,
        wire: Box<dyn Wire>,
        largest: usize,
    ) -> Result<(Self, Response), Error> {
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .max_message_size(Some(largest))
            .max_frame_size(Some(largest));
        let most = largest.saturating_mul(PER_BYTE).saturating_add(BESIDES);
        let metered = Metered { wire, unheard: 0, most };
        let upgraded = tokio_tungstenite::client_async_with_config(target, metered, Some(config));
        upgraded.await.map(|(socket, answer)| (Self(socket), answer))
    }
}

impl Stream for Socket {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = ready!(Pin::new(&mut self.0).poll_next(context));
        self.0.get_mut().unheard = 0;
        Poll::Ready(message)
    }
}

impl Sink<Message> for Socket {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_ready(context)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Pin::new(&mut self.0).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_close(context)
    }
}

/// A byte stream that counts what came since the last message.
struct Metered {
    wire: Box<dyn Wire>,
    unheard: usize,
    most: usize,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unheard > self.most {
            return Poll::Ready(Err(io::Error::other(Endless)));
        }
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.wire).poll_read(context, buffer));
        let came = buffer.filled().len().saturating_sub(before);
        self.unheard = self.unheard.saturating_add(came);
        Poll::Ready(result)
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const LARGEST: usize = 4_096;

    /// A socket, and the relay's side of it beyond the websocket.
    async fn pair() -> (Socket, WebSocketStream<tokio::io::DuplexStream>) {
        let (here, there) = tokio::io::duplex(1 << 20);
        let relay = tokio::spawn(tokio_tungstenite::accept_async(there));
        let (socket, _) = Socket::upgrade("ws://relay.example/", Box::new(here), LARGEST).await.unwrap();
        (socket, relay.await.unwrap().unwrap())
    }

    /// A message of one letter, which comes before the last of so many empty frames.
    fn padded(empty: usize) -> Vec<u8> {
        [&[1, 1, b'a'][..], &[0, 0].repeat(empty), &[0x80, 0]].concat()
    }

    #[tokio::test]
    async fn a_message_without_an_end_ends_the_connection_and_long_ones_do_not() {
        let (mut socket, mut relay) = pair().await;
        let room = (LARGEST * PER_BYTE + BESIDES) / 2;
        // What was counted for one message is not counted for the next.
        for _ in 0..3 {
            relay.get_mut().write_all(&padded(room - 20_000)).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("a"));
        }
        // Every byte in a frame of its own.
        let single = [&[1, 0][..], &[0, 1, b'b'].repeat(LARGEST), &[0x80, 0]].concat();
        relay.get_mut().write_all(&single).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().len(), LARGEST);
        relay.get_mut().write_all(&padded(room + 20_000)).await.unwrap();
        let error = socket.next().await.unwrap().unwrap_err();
        assert!(Endless::is(&error), "{error}");
    }
}
