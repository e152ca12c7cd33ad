//! The one async loop that drives a ContextVM endpoint machine over relays.
//!
//! Inbound: relay inbox, gate, open (beside the loop, order kept), machine. Outbound: machine, sign and seal (beside the
//! loop, order kept), publish, outcome back to the machine. Nothing awaits between an input and the end of the drain.

pub mod clock;
pub mod driver;
pub mod endpoint;
pub mod stats;
pub mod subscription;

mod blame;
mod followed;
mod inbound;
mod late;
mod outbound;
mod pace;
mod relay_limit;
mod remember;
mod waste;
mod work;

pub use clock::Clock;
pub use driver::{Driver, DriverOptions, StartError};
pub use endpoint::{Effect, Endpoint, Input};
pub use stats::{Counters, Stats};

/// Makes a new identity from the host's randomness.
///
/// # Errors
/// Fails when the host gives no randomness.
pub fn new_keys() -> Result<contextvm_crypto::Keys, StartError> {
    contextvm_crypto::Keys::from_entropy(random()?).map_err(|_| StartError::NoEntropy)
}

/// Draws bytes from the host's randomness.
///
/// # Errors
/// Fails when the host gives no randomness.
pub fn random() -> Result<[u8; 32], StartError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| StartError::NoEntropy)?;
    Ok(bytes)
}
