//! The table of limits: every number that bounds memory or work (docs/LIMITS.md says the same).
use core::time::Duration;

/// Bounds in bytes, counts and time. `Default` is safe on a public relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest websocket message taken from a relay, bytes.
    pub relay_frame: usize,
    /// Largest event taken from a relay, bytes of JSON.
    pub event: usize,
    /// Largest inner event sent inside a gift wrap, bytes of JSON.
    pub inner_event: usize,
    /// Deepest JSON nesting accepted.
    pub json_depth: usize,
    /// Most JSON values accepted in one event.
    pub json_nodes: usize,
    /// Longest JSON number accepted, characters.
    pub json_number: usize,
    /// How far `created_at` may be from now, seconds.
    pub age_window: u64,
    /// Extra time that accepted ids are remembered, seconds.
    pub age_skew: u64,
    /// Accepted ids remembered; when full, new work is refused and nothing is forgotten.
    pub seen_ids: usize,
    /// Answers kept for repeats, bytes over all.
    pub ledger_bytes: usize,
    /// Largest single answer kept, bytes.
    pub ledger_answer: usize,
    /// How long an answer is kept.
    pub ledger_ttl: Duration,
    /// Sessions of callers that were let in.
    pub sessions: usize,
    /// Sessions of callers that were never let in (they only ever evict each other).
    pub stranger_sessions: usize,
    /// Idle time after which a session without open work is forgotten.
    pub session_idle: Duration,
    /// Requests in flight per caller.
    pub in_flight_per_caller: usize,
    /// Requests in flight over all callers.
    pub in_flight: usize,
    /// Bytes of requests in flight over all callers.
    pub in_flight_bytes: usize,
    /// Calls a client waits for at once.
    pub pending: usize,
    /// How long a client waits for an answer.
    pub request_timeout: Duration,
    /// How long an access decision may take; later means no.
    pub access_timeout: Duration,
    /// Refusals published per minute over all strangers.
    pub refusals_per_minute: u32,
    /// Events waiting to be sent, per relay.
    pub outbound_events: usize,
    /// Bytes waiting to be sent, per relay.
    pub outbound_bytes: usize,
    /// Events waiting to be opened, per relay.
    pub open_queue: usize,
    /// Relays taken from a relay list.
    pub relay_list: usize,
    /// Relays dialled at once from a relay list.
    pub relays_dialled: usize,
    /// Longest line taken from or written to a child process, bytes.
    pub child_line: usize,
    /// Largest message that an oversized transfer may carry, bytes.
    pub transfer_bytes: usize,
    /// Chunks of one transfer.
    pub transfer_chunks: usize,
    /// Transfers that one peer may have open towards us.
    pub transfers_per_peer: usize,
    /// Transfers open towards us, over all peers.
    pub transfers: usize,
    /// Bytes held for transfers that are open towards us.
    pub transfers_bytes: usize,
    /// How long a transfer may stand still.
    pub transfer_idle: Duration,
    /// How long a transfer may take altogether.
    pub transfer_total: Duration,
    /// Bytes of failed transfers per peer within ten minutes; beyond it no new one begins.
    pub transfer_waste: usize,
    /// Most text in one chunk of a stream that we write, bytes.
    pub stream_chunk: usize,
    /// Bytes held for one stream: written and not sent yet, or received and not taken yet.
    pub stream_buffer: usize,
    /// Streams read from one peer at once.
    pub streams_per_peer: usize,
    /// Streams read at once, over all peers.
    pub streams: usize,
    /// Bytes held for all streams that are read.
    pub streams_bytes: usize,
    /// How long the peer of a stream may be silent before it is asked whether it is there, and how long a gap may last.
    pub stream_idle: Duration,
    /// How long it has to answer.
    pub stream_probe: Duration,
    /// How long frames may come that another one overtook: the start, and chunks after the close.
    pub stream_grace: Duration,
    /// How long a stream may last.
    pub stream_total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            relay_frame: 256 * 1024,
            event: 128 * 1024,
            inner_event: 65_407,
            json_depth: 64,
            json_nodes: 65_536,
            json_number: 64,
            age_window: 600,
            age_skew: 60,
            seen_ids: 524_288,
            ledger_bytes: 32 * 1024 * 1024,
            ledger_answer: 256 * 1024,
            ledger_ttl: Duration::from_secs(660),
            sessions: 10_000,
            stranger_sessions: 1_024,
            session_idle: Duration::from_secs(30 * 60),
            in_flight_per_caller: 32,
            in_flight: 512,
            in_flight_bytes: 48 * 1024 * 1024,
            pending: 1_024,
            request_timeout: Duration::from_secs(60),
            access_timeout: Duration::from_secs(5),
            refusals_per_minute: 60,
            outbound_events: 1_024,
            outbound_bytes: 4 * 1024 * 1024,
            open_queue: 512,
            relay_list: 8,
            relays_dialled: 4,
            child_line: 24 * 1024 * 1024,
            transfer_bytes: 24 * 1024 * 1024,
            transfer_chunks: 10_000,
            transfers_per_peer: 4,
            transfers: 64,
            transfers_bytes: 64 * 1024 * 1024,
            transfer_idle: Duration::from_secs(60),
            transfer_total: Duration::from_secs(300),
            transfer_waste: 64 * 1024 * 1024,
            stream_chunk: 8_000,
            stream_buffer: 1024 * 1024,
            streams_per_peer: 8,
            streams: 256,
            streams_bytes: 32 * 1024 * 1024,
            stream_idle: Duration::from_secs(30),
            stream_probe: Duration::from_secs(20),
            stream_grace: Duration::from_secs(5),
            stream_total: Duration::from_secs(3_600),
        }
    }
}
