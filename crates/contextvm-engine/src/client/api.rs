//! What a client machine is told, and what it wants done.
use alloc::boxed::Box;
use alloc::string::String;

use contextvm_core::{Opened, Protection};
use contextvm_stream::StreamEnd;
use nostr::event::EventId;
use serde_json::value::RawValue;

use crate::{DropReason, Outbound, Outcome, Ticket};

/// What a [`ClientMachine`](super::ClientMachine) is told.
#[derive(Clone, Debug)]
pub enum ClientInput {
    /// An event came in and was checked.
    Opened(Box<Opened>),
    /// The application sends one JSON-RPC message.
    Send(String),
    /// The application sends a request and reads the stream of its call; every other message is as with [`Self::Send`].
    ///
    /// Needs `open_streams` in the configuration: without it no server streams, and the stream ends with the answer.
    SendReading(String),
    /// The application took so many chunks of the stream of its call, the oldest first.
    Taken {
        /// The application's id of the call.
        id: Box<RawValue>,
        /// How many.
        chunks: usize,
    },
    /// The application does not want more of the stream of its call; the call goes on.
    StopReading {
        /// The application's id of the call.
        id: Box<RawValue>,
        /// What the server is told.
        reason: Option<String>,
    },
    /// The largest event that the relays take as published, bytes; held within 16 KiB and `limits.event`.
    RelayLimit(usize),
    /// A publication ended.
    Published(Ticket, Outcome),
    /// A relay connection came (back) up and its subscription is live.
    RelayUp,
    /// Our clock is so many seconds ahead of those of the relays, by what they say; behind, if negative.
    ///
    /// It changes nothing but the words of calls that are lost: more than `limits.age_skew` is named there.
    ClockAhead(i64),
    /// The client goes away: cancel what is open, end every pending call.
    Close,
    /// A time that [`ClientMachine::poll_timeout`](super::ClientMachine::poll_timeout) named has come.
    Wake,
}

/// Why a call ended without an answer of the server. It is also delivered as a JSON-RPC error.
///
/// [`Self::TooLarge`] and [`Self::Malformed`] are also reported, without an error to deliver, for a message that is
/// no call: a notification over the limit, or text in which no id can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lost {
    /// No answer within the request timeout.
    NoReply,
    /// No relay took the request.
    NotSent,
    /// The client was closed.
    Closed,
    /// Too many calls wait already.
    Busy,
    /// The message is larger than the server is known to take.
    TooLarge,
    /// The message is not valid JSON-RPC.
    Malformed,
    /// The transfer of the request or of the answer failed.
    Transfer,
}

/// The two signed inner events of one answered call, and how the answer travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The id of the event that asked: of the end frame, if the request went as a transfer.
    pub request: EventId,
    /// The id of the event that answered: of the end frame, if the answer came as a transfer.
    pub response: EventId,
    /// Plain or wrapped, as the answer came.
    pub protection: Protection,
}

/// Something of a stream that the application reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamNews {
    /// The next piece of text; it counts as held until [`ClientInput::Taken`].
    Chunk {
        /// 0, 1, 2 ... without a gap.
        index: u64,
        /// The text.
        data: Box<str>,
    },
    /// The stream is over: once for each request that was sent to be read, and nothing of it follows.
    Ended(StreamEnd),
}

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A request, to the server.
    Sent,
    /// An answer, from the server.
    Received,
}

/// How far a transfer has come.
#[derive(Clone, Debug)]
pub struct Transferred {
    /// The application's id of the call.
    pub id: Box<RawValue>,
    /// Which way it goes.
    pub direction: Direction,
    /// Bytes of the message that have arrived: at a relay, or here.
    pub bytes: u64,
    /// Bytes of the whole message; zero as long as they are not known.
    pub total: u64,
}

/// What a [`ClientMachine`](super::ClientMachine) wants done.
#[derive(Clone, Debug)]
#[must_use]
pub enum ClientOutput {
    /// Sign, seal, publish; keep the signed inner event and the outer event under the ticket until [`Self::Forget`].
    Publish(Outbound),
    /// Publish again what the ticket names: the same outer event, or a new wrap around the same signed inner event.
    Republish {
        /// The earlier publication.
        ticket: Ticket,
        /// Make a new gift wrap (ignored for plaintext).
        rewrap: bool,
    },
    /// The ticket is not needed any more.
    Forget(Ticket),
    /// Hand a JSON-RPC message to the application.
    Deliver {
        /// Answer (own id restored), error, notification or server request.
        message: String,
        /// The events behind it, when it is the server's answer to a call.
        exchange: Option<Exchange>,
    },
    /// A call ended without the server's answer; the JSON-RPC error was delivered before this.
    Lost(Lost),
    /// News of a stream that the application reads.
    Stream {
        /// The application's id of the call.
        id: Box<RawValue>,
        /// What there is to say.
        news: StreamNews,
    },
    /// A frame of a transfer arrived.
    Moved(Transferred),
    /// The server said something new about itself.
    Learned,
    /// Something inbound was not acted on.
    Drop(DropReason),
}
