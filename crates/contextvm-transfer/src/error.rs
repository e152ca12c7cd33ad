//! Why a transfer failed, and why a single frame was not acted on.
use contextvm_core::Fault;

/// Why a transfer failed, at either end. The text goes to the peer as the reason of an abort, so it holds numbers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The start frame names a completion mode other than `render`.
    #[error("completion mode is not render")]
    CompletionMode,
    /// The digest of the start frame is not `sha256:` and 64 hex digits.
    #[error("digest is not sha256")]
    DigestForm,
    /// The start frame declares nothing.
    #[error("transfer of nothing")]
    Empty,
    /// More bytes than one message may have.
    #[error("{bytes} bytes are more than {limit}")]
    TooManyBytes {
        /// Declared, or to be sent.
        bytes: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// More chunks than one message may have.
    #[error("{chunks} chunks are more than {limit}")]
    TooManyChunks {
        /// Declared, or to be sent.
        chunks: u64,
        /// The limit.
        limit: u64,
    },
    /// Too many transfers are open, of this peer or of all.
    #[error("too many transfers at once")]
    Busy,
    /// The memory for transfers is used up.
    #[error("no memory for transfers left")]
    Memory,
    /// Failed transfers of this peer have cost too much lately.
    #[error("too many failed transfers lately")]
    Wasteful,
    /// A chunk lies outside the declared numbers, or there are more than were declared.
    #[error("chunk {progress} is outside the declared bounds")]
    OutOfBounds {
        /// The `progress` of the frame.
        progress: u64,
    },
    /// Two chunks with one number differ.
    #[error("chunk {progress} came twice and differs")]
    Conflict {
        /// The `progress` of the frame.
        progress: u64,
    },
    /// The number of the end frame is not above those of all chunks.
    #[error("end at {progress} does not follow every chunk")]
    End {
        /// The `progress` of the end frame or of the chunk behind it.
        progress: u64,
    },
    /// The numbers of the chunks are not contiguous from one of the two allowed places.
    #[error("numbers of chunks have a gap")]
    Gap,
    /// The end came, and chunks were still missing after the time for stragglers.
    #[error("chunks are missing after the end")]
    Missing,
    /// The chunks have more or fewer bytes than was declared.
    #[error("{received} bytes are not the declared {declared}")]
    Length {
        /// By the start frame.
        declared: u64,
        /// When it was noticed.
        received: u64,
    },
    /// The SHA-256 of the message is not the declared one.
    #[error("sha256 digest does not match")]
    Digest,
    /// Nothing came for too long.
    #[error("transfer stood still for too long")]
    Idle,
    /// It took too long altogether.
    #[error("transfer took too long")]
    TimedOut,
    /// The peer aborted it.
    #[error("aborted by the peer")]
    Aborted,
    /// Our own side gave it up.
    #[error("cancelled")]
    Cancelled,
    /// The token is empty or longer than [`MAX_TOKEN`](crate::MAX_TOKEN) bytes.
    #[error("progress token is empty or too long")]
    Token,
    /// An event may be so small that not even one character fits into a chunk.
    #[error("content of {limit} bytes is too small for a frame, which needs {needed}")]
    ContentLimit {
        /// What was allowed, bytes.
        limit: usize,
        /// What is needed at least, bytes.
        needed: usize,
    },
    /// No relay took a frame.
    #[error("no relay took a frame")]
    NotPublished,
    /// Relays refused a frame for its size after the chunks were made smaller once, or named no smaller size.
    #[error("relays take no frame of this size")]
    StillTooLarge,
}

impl TransferError {
    /// Says who misbehaved.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::CompletionMode
            | Self::DigestForm
            | Self::Empty
            | Self::TooManyBytes { .. }
            | Self::TooManyChunks { .. }
            | Self::Wasteful
            | Self::OutOfBounds { .. }
            | Self::Conflict { .. }
            | Self::End { .. }
            | Self::Gap
            | Self::Length { .. }
            | Self::Digest
            | Self::Aborted => Fault::Peer,
            Self::Missing | Self::Idle | Self::TimedOut | Self::NotPublished | Self::StillTooLarge => {
                Fault::Relay
            }
            Self::Busy | Self::Memory | Self::Cancelled | Self::Token | Self::ContentLimit { .. } => {
                Fault::Local
            }
        }
    }
}

/// Why a frame was not acted on while its transfer, if there is one, goes on. No data of a peer is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TransferDrop {
    /// The same frame was taken before.
    Duplicate,
    /// It belongs to a transfer that has ended, or that a newer start replaced.
    Late,
    /// Too many chunks are waiting for their start frame already.
    Early,
    /// No room for another transfer.
    Busy,
    /// Failed transfers of this peer have cost too much lately.
    Wasteful,
    /// A frame that only a sender can use.
    Misplaced,
    /// An unfinished transfer was given up for a newer one with the same key.
    Replaced,
}

impl TransferDrop {
    /// Every reason, for tables of counters.
    pub const ALL: [Self; 7] = [
        Self::Duplicate,
        Self::Late,
        Self::Early,
        Self::Busy,
        Self::Wasteful,
        Self::Misplaced,
        Self::Replaced,
    ];

    /// Returns a fixed name, for counters and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "transfer_duplicate",
            Self::Late => "transfer_late",
            Self::Early => "transfer_early",
            Self::Busy => "transfer_busy",
            Self::Wasteful => "transfer_wasteful",
            Self::Misplaced => "transfer_misplaced",
            Self::Replaced => "transfer_replaced",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn every_reason_is_listed_once_under_its_own_name() {
        let names: BTreeSet<_> = TransferDrop::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), TransferDrop::ALL.len());
    }

    #[test]
    fn an_error_says_who_misbehaved() {
        assert_eq!(TransferError::Digest.fault(), Fault::Peer);
        assert_eq!(TransferError::Missing.fault(), Fault::Relay);
        assert_eq!(TransferError::Memory.fault(), Fault::Local);
    }
}
