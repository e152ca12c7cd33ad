//! The kinds of worlds, and the knobs of each.
use crate::days;
use crate::knobs::{Knobs, Mix};
use crate::rng::Rng;

/// What kind of world it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scene {
    /// Everything that the knobs say.
    #[default]
    Swarm,
    /// Nothing goes wrong.
    Calm,
    /// Two hostile relays, and one that is honest and loses nothing; every call is answered.
    HostileRelays,
    /// One server and its clients for so many days.
    Days(u32),
}

impl Scene {
    /// Draws the knobs of a world of this kind.
    #[must_use]
    pub fn knobs(self, seed: u64) -> Knobs {
        match self {
            Self::Swarm => Knobs::draw(seed),
            Self::Calm => Knobs { work: Mix::small(), ..Knobs::calm() },
            Self::HostileRelays => hostile_relays(seed),
            Self::Days(days) => {
                let visitors = days::VISITORS * days as usize;
                Knobs { clients: days::RESIDENTS + visitors, visitors, ..Knobs::days() }
            }
        }
    }
}

/// Draws people, work and delays; everybody but two of three relays is honest, and nothing is lost.
fn hostile_relays(seed: u64) -> Knobs {
    let drawn = Knobs::draw(seed);
    let mut rng = Rng::of(seed, "among hostile relays", 0);
    let pause = rng.pick(&[50_000, 100_000, 200_000], 100_000);
    Knobs {
        clients: drawn.clients,
        servers: drawn.servers,
        relays: 1,
        hostile_relays: 2,
        double: rng.pick(&[0, 50, 500], 0),
        double_late: rng.pick(&[0, 50], 0),
        reorder: drawn.reorder,
        delay: rng.pick(&[1, 10, 10, 50, 200], 10) * 1_000,
        keeps_ephemeral: drawn.keeps_ephemeral,
        journal: drawn.journal,
        // A stream that one side gives up ends its call with an error, as it should.
        work: Mix { pause, stop_reading: 0, gives_up: 0, ..drawn.work },
        ..Knobs::calm()
    }
}
