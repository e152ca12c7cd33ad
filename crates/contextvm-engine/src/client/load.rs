//! How much a client holds, for tests and status pages.
use super::ClientMachine;

/// Sizes of everything a [`ClientMachine`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientLoad {
    /// Calls that wait for an answer.
    pub pending: usize,
    /// Bytes of these calls.
    pub pending_bytes: usize,
    /// Requests that are transferred.
    pub uploads: usize,
    /// Answers that come as transfers.
    pub downloads: usize,
    /// Bytes held for them.
    pub downloads_bytes: usize,
    /// Streams that are read or drained.
    pub streams: usize,
    /// Bytes of them that the application has not taken.
    pub streams_bytes: usize,
    /// Events that nobody answers, on their way.
    pub loose: usize,
    /// Requests of the server that the application has not answered.
    pub asked: usize,
}

impl ClientMachine {
    /// Returns what the machine holds at this moment.
    #[must_use]
    pub fn load(&self) -> ClientLoad {
        ClientLoad {
            pending: self.pending.len(),
            pending_bytes: self.pending.bytes(),
            uploads: self.uploads.len(),
            downloads: self.downloads.len(),
            downloads_bytes: self.downloads.bytes(),
            streams: self.streams.len(),
            streams_bytes: self.streams.bytes(),
            loose: self.loose.len(),
            asked: self.asked.len(),
        }
    }
}
