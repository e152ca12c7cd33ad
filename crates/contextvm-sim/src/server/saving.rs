//! What a server brings to its journal, and the moments between two steps at which it may die.
use contextvm_engine::ServerInput;

use super::Server;
use crate::end::Desk;
use crate::journal::Settled;
use crate::kernel::{Act, Due};
use crate::plan::Point;
use crate::time::SEC;
use crate::trace::What;

impl Server {
    /// Comes to a point at which it may die; returns whether it does.
    pub(super) fn falls(&mut self, point: Point, desk: &mut Desk<'_>) -> bool {
        let Some(trap) = self.trap.as_mut().filter(|trap| trap.point == point) else { return false };
        trap.nth = trap.nth.saturating_sub(1);
        if trap.nth > 0 {
            return false;
        }
        let (torn, down) = (trap.torn, Some(trap.down));
        self.trap = None;
        self.has_fallen = true;
        desk.kernel.happened(match point {
            Point::Written => "crash_written",
            Point::Kept => "crash_kept",
            Point::Delivers => "crash_delivers",
            Point::Answers => "crash_answers",
            Point::Frame => "crash_frame",
        });
        let due = Due::Falls { peer: desk.me.peer, life: desk.life, torn, down };
        desk.kernel.queue.after(0, due);
        true
    }

    /// Lets the journal write what is due.
    pub(super) fn write(&mut self, desk: &mut Desk<'_>) {
        let at = self.journal.as_mut().and_then(|journal| journal.start(desk.kernel.now()));
        if let Some(at) = at {
            let lasts = at.saturating_sub(desk.kernel.now());
            if lasts >= SEC {
                desk.kernel.emit(desk.me.host, What::Stalled { lasts });
            }
            let due = Due::App { peer: desk.me.peer, life: desk.life, act: Act::Stored };
            desk.kernel.queue.at(at, due);
        }
    }

    /// A batch of the journal ends.
    pub(super) fn stored(&mut self, desk: &mut Desk<'_>) {
        let ended = self.journal.as_mut().and_then(|journal| journal.end(&desk.me.limits, desk.now.unix));
        let Some(Settled { through, is_kept }) = ended else { return };
        if is_kept && self.falls(Point::Kept, desk) {
            return;
        }
        if !is_kept {
            desk.kernel.happened("disk_fails");
        }
        let input =
            if is_kept { ServerInput::Remembered { through } } else { ServerInput::Unstored { through } };
        self.tell(input, desk);
        self.write(desk);
    }
}
