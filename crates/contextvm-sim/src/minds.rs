//! Which deeds the hostile and the failing parts of a world may do.
use crate::hostile::{Chances, Deed};
use crate::knobs::Knobs;
use crate::world::Setup;

/// Draws the deeds of one actor, `relay`, `app` or `signer`, unless the setup gives everybody the same.
#[must_use]
pub(crate) fn chances(seed: u64, setup: &Setup, actor: &str, index: u64, most: u16) -> Chances {
    match &setup.chances {
        Some(chances) => chances.clone(),
        None if most == 0 => Chances::default(),
        None => Chances::draw(seed, actor, index, most, &setup.omit),
    }
}

/// Draws the deeds of an application.
#[must_use]
pub(crate) fn apps(seed: u64, setup: &Setup, knobs: &Knobs, index: u64) -> Chances {
    let drawn = chances(seed, setup, "app", index, knobs.app);
    if setup.chances.is_some() {
        return drawn;
    }
    // Who is never answered is lost for certain, which says little.
    let few = |chances: Chances, deed: Deed| {
        let chance = chances.get(deed).min(15);
        chances.with(deed, chance)
    };
    few(few(drawn, Deed::AppSilent), Deed::AppEndless)
}

/// Draws the deeds of a signer.
#[must_use]
pub(crate) fn signers(seed: u64, setup: &Setup, knobs: &Knobs, index: u64) -> Chances {
    chances(seed, setup, "signer", index, knobs.signer)
}
