//! The bodies of the fuzz targets as plain functions: each takes any bytes and panics when a promise is broken.
//!
//! They need no fuzzer. `cargo test` runs every committed input through them on the stable toolchain.

mod announce;
mod announcer;
mod bytes;
mod client;
#[cfg(test)]
mod corpus;
mod gate;
mod jcs;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod memory_large;
mod nip44;
mod operations;
pub mod pack;
mod people;
mod relay_info;
mod review;
mod schema;
pub mod seeds;
mod server;
mod small;
mod stream;
mod system;
mod transfer;
mod words;

pub use announce::{announcement, relay_list};
pub use announcer::announcer;
pub use client::client_engine;
pub use gate::gate;
pub use jcs::jcs;
pub use nip44::nip44;
pub use relay_info::relay_info;
pub use review::review;
pub use schema::tool_schema;
pub use server::server_engine;
pub use small::{identity, line, printable};
pub use stream::{stream_frame, stream_pair};
pub use system::whole_system;
pub use transfer::{transfer_frame, transfer_receiver};
pub use words::{envelope, event, open, relay_frame, scan};

/// A target: any bytes in, a panic when a promise is broken.
pub type Target = fn(&[u8]);

/// Every target under the name of its program and of its folder in `corpus`.
pub const TARGETS: [(&str, Target); 24] = [
    ("relay_frame", relay_frame),
    ("event", event),
    ("envelope", envelope),
    ("scan", scan),
    ("open", open),
    ("client_engine", client_engine),
    ("server_engine", server_engine),
    ("transfer_frame", transfer_frame),
    ("transfer_receiver", transfer_receiver),
    ("stream_frame", stream_frame),
    ("stream_pair", stream_pair),
    ("tool_schema", tool_schema),
    ("announcement", announcement),
    ("relay_list", relay_list),
    ("relay_info", relay_info),
    ("review", review),
    ("announcer", announcer),
    ("gate", gate),
    ("nip44", nip44),
    ("jcs", jcs),
    ("printable", printable),
    ("line", line),
    ("identity", identity),
    ("whole_system", whole_system),
];

/// Runs a target over the files named on the command line.
///
/// # Errors
/// Returns the first file that could not be read.
pub fn replay(target: Target) -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        target(&std::fs::read(path)?);
    }
    Ok(())
}
