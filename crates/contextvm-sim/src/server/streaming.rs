//! The streams that a server's tools write.
use std::sync::Arc;

use contextvm_engine::RequestKey;

use super::Server;
use crate::end::{self, Desk};
use crate::kernel::Act;
use crate::time::MS;
use crate::trace::What;

/// Most text that is written at once.
const PIECE: usize = 20_000;

impl Server {
    /// Writes as much of a stream as is taken.
    pub(super) fn stream(&mut self, nth: u64, desk: &mut Desk<'_>) {
        loop {
            let Some(run) = self.runs.get_mut(&nth) else { return };
            let (Some(done), key) = (run.streamed, run.key) else { return };
            let (caller, args, number) = (key.caller, run.args, run.number);
            let total = run.acts.streams;
            if run.acts.gives_up && done * 2 >= total {
                run.streamed = None;
                desk.emit(What::GaveUp { caller, args });
                // It may be over already, by the caller or by a fault.
                let _ = self.machine.abort_stream(&key, Some("not now"), desk.now);
                return self.drain(desk);
            }
            if done >= total {
                run.streamed = None;
                if self.machine.close_stream(&key, desk.now).is_ok() {
                    desk.emit(What::Closed { caller, args });
                }
                return self.drain(desk);
            }
            let text = end::fill(number ^ done, (total - done).min(PIECE as u64));
            match self.machine.write_stream(&key, &text, desk.now) {
                Ok(taken) => {
                    run.streamed = Some(done + taken as u64);
                    let data = Arc::from(text.get(..taken).unwrap_or_default());
                    desk.emit(What::Wrote { caller, args, data });
                    self.drain(desk);
                    if taken < text.len() {
                        return;
                    }
                }
                Err(_) => {
                    run.streamed = None;
                    return self.drain(desk);
                }
            }
        }
    }

    pub(super) fn resume(&mut self, key: RequestKey, desk: &mut Desk<'_>) {
        if let Some(nth) = self.by_key.get(&key) {
            self.later(MS, Act::Stream(*nth), desk);
        }
    }
}
