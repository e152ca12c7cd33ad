//! What asks for memory: transfers that are declared, transfers that come and never end, streams that nobody reads.
use nostr::event::Event;

use super::{pool, signed};
use crate::Failure;

/// Transfers that one caller may have open.
const SLOTS: usize = 4;
/// Chunks of each transfer that never ends.
const CHUNKS: usize = 24;

/// Declares a transfer of `size` bytes.
pub(super) fn start(nth: usize, size: usize) -> Result<Event, Failure> {
    begin(nth, &format!("s{nth}"), size, size.div_ceil(16_000).min(9_999))
}

fn begin(caller: usize, token: &str, bytes: usize, chunks: usize) -> Result<Event, Failure> {
    let digest = "0".repeat(64);
    let cvm = format!(
        r#""frameType":"start","completionMode":"render","digest":"sha256:{digest}","totalBytes":{bytes},"totalChunks":{chunks}"#
    );
    frame(caller, token, 1, &cvm)
}

/// Begins transfers and sends all their chunks of `size` bytes but the last: each of the pool has four under way.
pub(super) fn chunk(nth: usize, size: usize) -> Result<Event, Failure> {
    let (transfer, step) = (nth / CHUNKS, nth % CHUNKS);
    let (caller, token) = (transfer / SLOTS, format!("c{transfer}"));
    if step == 0 {
        return begin(caller, &token, size * CHUNKS, CHUNKS);
    }
    let data = "x".repeat(size);
    frame(caller, &token, step + 1, &format!(r#""frameType":"chunk","data":"{data}""#))
}

fn frame(caller: usize, token: &str, progress: usize, cvm: &str) -> Result<Event, Failure> {
    let content = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"{token}","progress":{progress},"cvm":{{"type":"oversized-transfer",{cvm}}}}}}}"#
    );
    signed(&pool(caller)?, content, &["support_oversized_transfer"])
}

/// Asks for a stream of `size` chunks; nobody will read it.
pub(super) fn stream(nth: usize, size: usize) -> Result<Event, Failure> {
    let content = format!(
        r#"{{"jsonrpc":"2.0","id":{nth},"method":"tools/call","params":{{"_meta":{{"progressToken":"p{nth}"}},"name":"stream","arguments":{{"chunks":{size},"bytes":8000,"pause":0}}}}}}"#
    );
    signed(
        &pool(nth)?,
        content,
        &["support_oversized_transfer", "support_open_stream", "support_unordered_streams"],
    )
}
