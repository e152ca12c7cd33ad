//! Relay I/O for ContextVM: connections that come back, one subscription that is kept alive, publications with outcomes.
//!
//! [`Relays`] holds a set of relays. What is published goes to all of them at once and is reported at the first success;
//! what any of them sends comes out of one bounded [`Inbox`], raw and unchecked. One dead or slow relay delays nothing.
//! [`Query`] asks a few relays one question and lets them go, [`Post`] publishes at a few relays and waits for all of
//! them, [`Probe`] measures what a relay is good for, [`Fetch`] gets one document over HTTP.
//!
//! Connections are kept by `nostr-relay-pool`, behind a seam of three functions; it sees no frame (module `pool`).
//! It logs under the target `nostr_relay_pool`, which says nothing that is not said here.
//!
//! ```no_run
//! # async fn example(event: contextvm_relay::PublishEvent) -> Result<(), Box<dyn std::error::Error>> {
//! use contextvm_relay::{Filter, Incoming, Relays, RelaysConfig};
//! use std::time::Duration;
//!
//! let filter = Filter::new(r##"{"kinds":[25910],"#p":["..."]}"##, Duration::ZERO)?;
//! let config = RelaysConfig::new([nostr::types::RelayUrl::parse("wss://relay.example")?]).with_filter(filter);
//! let (relays, mut inbox) = Relays::connect(config)?;
//! relays.ready(Duration::from_secs(5)).await;
//! let report = relays.publish(event).await;
//! println!("taken first by {:?}", report.accepted);
//! while let Some(incoming) = inbox.recv().await {
//!     if let Incoming::Event { json, .. } = incoming {
//!         println!("{json}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(contextvm_fake_crypto)]
compile_error!("signatures are keyed hashes in this build: nothing of it may reach a network");

mod auth;
mod backoff;
mod config;
mod connect;
mod date;
mod dial;
mod error;
mod fetch;
#[cfg(test)]
mod hell_tests;
mod link;
mod oneshot;
mod pool;
mod post;
mod probe;
mod publish;
mod query;
mod relays;
mod socket;
mod status;
#[cfg(test)]
mod tls_tests;

pub use auth::{AuthSigner, SignedAuth};
pub use config::{Filter, RelaysConfig, Timing};
pub use dial::{Addresses, Reached, is_local};
pub use error::{DialError, FetchError, RelayError};
pub use fetch::{Fetch, relay_info};
pub use post::{Post, PostAnswer, PostReport, Posted};
pub use probe::{ClockFinding, KindFinding, Probe, ProbeReport, SizeFinding};
pub use publish::{Audience, PublishEvent, PublishOutcome, PublishReport, Publishing, RelayOutcome};
pub use query::{Query, QueryAnswer, QueryOutcome, QueryReport, query};
pub use relays::{Inbox, Incoming, Relays};
pub use status::{RelayCounts, RelayState, RelayStatus};
