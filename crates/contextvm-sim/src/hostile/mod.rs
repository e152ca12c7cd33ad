//! Hostile relays, clients and servers, and failing applications and signers, as minds that decide and touch nothing.
//!
//! A mind has a chance for each of its deeds ([`Chances`]) and a seed; the world asks it at the moments at which its host could
//! misbehave, does what it says, and reads from its tally ([`Deeds`]) what really happened.

mod act;
mod app;
mod client;
mod deed;
mod forge;
mod relay;
mod server;
pub mod texts;

pub use act::{Act, Issue};
pub use app::{App, Does, Handling, Signer, Signing};
pub use client::HostileClient;
pub use deed::{ALL, Chances, Deed, Deeds, Mood, PerMille};
pub use forge::{Field, Forge};
pub use relay::{HostileRelay, Said, Saying, Taken};
pub use server::HostileServer;
