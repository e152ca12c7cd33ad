//! Why a stream failed, and why a single frame was not acted on.
use alloc::borrow::Cow;
use alloc::string::ToString;

use contextvm_core::Fault;

/// Why a stream failed, at either end, or an operation on it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer aborted it.
    #[error("aborted by the peer")]
    Aborted,
    /// A second start frame came, with another number.
    #[error("stream was started twice")]
    StartedTwice,
    /// A chunk came twice and differs, or under another number.
    #[error("chunk {index} came twice and differs")]
    Conflict {
        /// Its index.
        index: u64,
    },
    /// A chunk is further ahead of the next one than the window allows.
    #[error("chunk {index} is more than {window} ahead")]
    TooFarAhead {
        /// Its index.
        index: u64,
        /// The window, chunks.
        window: u64,
    },
    /// A chunk lies behind the last one that the close frame names, or two close frames differ.
    #[error("chunk {index} is behind the last one")]
    BehindLast {
        /// Its index.
        index: u64,
    },
    /// Chunks without text were too many for those with text.
    #[error("too many empty chunks")]
    EmptyChunks,
    /// Chunks came, and the start frame did not.
    #[error("start frame is missing")]
    NoStart,
    /// The close or the final answer came, and chunks were still missing after the time of grace.
    #[error("chunks are missing at the end")]
    Missing,
    /// Chunks came for too long while an earlier one was missing.
    #[error("a chunk is missing for too long")]
    Gap,
    /// A ping was not answered.
    #[error("peer did not answer a ping")]
    Probe,
    /// It took too long altogether.
    #[error("stream took too long")]
    TimedOut,
    /// No relay took a frame.
    #[error("no relay took a frame")]
    NotPublished,
    /// Chunks behind a gap are more than one stream may hold.
    #[error("chunks behind a gap exceed {limit} bytes")]
    Buffer {
        /// The limit, bytes.
        limit: usize,
    },
    /// The application takes chunks more slowly than they come.
    #[error("reader is too slow: {limit} bytes are waiting")]
    TooSlow {
        /// The limit, bytes.
        limit: usize,
    },
    /// The peer reads no streams, or gave no progress token for one.
    #[error("peer reads no streams")]
    Unsupported,
    /// Too many streams are open, of this peer or of all.
    #[error("too many streams at once")]
    Busy,
    /// The memory for streams is used up.
    #[error("no memory for streams left")]
    Memory,
    /// Our own side gave it up.
    #[error("cancelled")]
    Cancelled,
    /// The stream was closed or has ended, and takes nothing more.
    #[error("stream has ended")]
    Ended,
    /// The token is empty or longer than [`MAX_TOKEN`](crate::MAX_TOKEN) bytes.
    #[error("progress token is empty or too long")]
    Token,
}

impl StreamError {
    /// Says who misbehaved.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Aborted
            | Self::StartedTwice
            | Self::Conflict { .. }
            | Self::BehindLast { .. }
            | Self::EmptyChunks
            | Self::Probe
            | Self::TimedOut
            | Self::Unsupported => Fault::Peer,
            Self::TooFarAhead { .. }
            | Self::NoStart
            | Self::Missing
            | Self::Gap
            | Self::NotPublished
            | Self::Buffer { .. } => Fault::Relay,
            Self::TooSlow { .. }
            | Self::Busy
            | Self::Memory
            | Self::Cancelled
            | Self::Ended
            | Self::Token => Fault::Local,
        }
    }

    /// Returns the reason in the abort frame; two are what the TypeScript SDK says.
    pub(crate) fn reason(&self) -> Cow<'static, str> {
        if *self == Self::Probe {
            "Probe timeout".into()
        } else if *self == Self::Missing {
            "Close grace period expired".into()
        } else {
            self.to_string().into()
        }
    }
}

/// Why a frame was not acted on while its stream, if there is one, goes on. No data of a peer is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StreamDrop {
    /// The same frame was taken before.
    Duplicate,
    /// It belongs to a stream that has ended.
    Late,
    /// A ping or a pong of a stream that has not begun.
    Early,
    /// Nobody waits for this stream.
    Unasked,
    /// A frame that only the other side can use.
    Misplaced,
    /// A nonce of more than 64 bytes.
    LongNonce,
    /// A pong to no ping of ours.
    UnknownPong,
    /// A ping within a second of the one before; only the newest of a second is answered, when it is over.
    PingFlood,
}

impl StreamDrop {
    /// Every reason, for tables of counters.
    pub const ALL: [Self; 8] = [
        Self::Duplicate,
        Self::Late,
        Self::Early,
        Self::Unasked,
        Self::Misplaced,
        Self::LongNonce,
        Self::UnknownPong,
        Self::PingFlood,
    ];

    /// Returns a fixed name, for counters and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "stream_duplicate",
            Self::Late => "stream_late",
            Self::Early => "stream_early",
            Self::Unasked => "stream_unasked",
            Self::Misplaced => "stream_misplaced",
            Self::LongNonce => "stream_long_nonce",
            Self::UnknownPong => "stream_unknown_pong",
            Self::PingFlood => "stream_ping_flood",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn every_reason_is_listed_once_under_its_own_name() {
        let names: BTreeSet<_> = StreamDrop::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), StreamDrop::ALL.len());
    }

    #[test]
    fn an_error_says_who_misbehaved() {
        assert_eq!(StreamError::EmptyChunks.fault(), Fault::Peer);
        assert_eq!(StreamError::Missing.fault(), Fault::Relay);
        assert_eq!(StreamError::TooSlow { limit: 1 }.fault(), Fault::Local);
    }
}
