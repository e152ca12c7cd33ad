//! What every host holds: measured now and then, and when nothing has happened for so long that it should be nothing.
use crate::cheat::Cheat;
use crate::peer::End;
use crate::time::SEC;
use crate::trace::{Host, What};
use crate::world::World;

/// One day.
const DAY: u64 = 86_400 * SEC;
/// When in a day everything should be at its floor: near the end of the silence between 02:00 and 05:00, a minute after the
/// call of 04:50.
const FLOOR: u64 = (4 * 60 + 51) * 60 * SEC;

impl World {
    /// Lets every honest host that runs write down what it holds.
    pub(crate) fn measure(&mut self) {
        self.all_write(None);
    }

    /// The same, and that it should be nothing but what is remembered; `deep`: not even that.
    pub(crate) fn rest(&mut self, deep: bool) {
        self.all_write(Some(deep));
    }

    /// Whether a tick that comes every `every` microseconds is the one at the floor of a day.
    pub(crate) const fn is_floor(now: u64, every: u64) -> bool {
        let time = now % DAY;
        time >= FLOOR && time - FLOOR < every
    }

    fn all_write(&mut self, rests: Option<bool>) {
        let Self { peers, kernel, asleep, .. } = self;
        for peer in peers.iter().filter(|peer| !asleep.contains_key(&peer.me.peer)) {
            let Some(alive) = &peer.alive else { continue };
            let host = peer.me.host;
            let mut load = alive.port.load();
            let (busy, records) = match &alive.end {
                End::Client(client) => {
                    kernel.emit(host, What::ClientLoad(client.load()));
                    let busy = client.busy();
                    if rests.is_some() && busy == 0 && kernel.cheater.now(Cheat::Leak) {
                        load.kept += 100;
                    }
                    (busy, 0)
                }
                End::Server(server) => (server.busy(), server.records()),
                End::Waits => continue,
            };
            kernel.emit(host, What::PortLoad(load));
            if let Some(deep) = rests {
                if let End::Server(server) = &alive.end {
                    kernel.emit(host, What::Load(server.load()));
                }
                kernel.emit(host, What::Rest { busy, deep, records });
            }
        }
        if rests == Some(true) {
            // What is due in the whole world: a timer that is never taken out shows here, day by day.
            let records = kernel.queue.len();
            kernel.emit(Host::Relay(u16::MAX), What::Rest { busy: 0, deep: true, records });
        }
    }
}
