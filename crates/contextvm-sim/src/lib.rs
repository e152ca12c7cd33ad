//! ContextVM in virtual time: real endpoint machines, hostile relays and peers, checkers that stand outside.
//!
//! A [`World`](world::World) is one seed. [`World::new`](world::World::new) draws the [`Knobs`](knobs::Knobs) first (which
//! faults there are and how often, many of them not at all), then the [`Plan`](plan::Plan): every call and every planned
//! fault with its time. [`World::run`](world::World::run) then takes one thing after the other out of the
//! [`Queue`](queue::Queue) until the plan is done and everything has calmed down.
//!
//! ```text
//!  plan ──► application ──► ClientMachine ──► Outbox (sign, seal) ──► Pool ──► Net ──► Relay
//!                                                                                        │
//!  application ◄── ServerMachine ◄── Intake (Gate, open, in order) ◄── Pool ◄── Net ◄────┘      and back the same way
//! ```
//!
//! * `pool` is what `contextvm-relay` is to the runtime, `port` what the runtime's intake and outbox are.
//! * [`net`] loses, doubles, delays, cuts; [`relay`] is an honest relay with the faults of honest relays, or asks a
//!   [`hostile`] mind what to say instead.
//! * Everything that a promise speaks of is written to the [`trace`], and [`check`] sees nothing else.
//! * [`Omit`](omit::Omit) leaves calls, planned events, hosts and knobs out. Every part draws from an
//!   [`Rng`](rng::Rng) of its own, so that leaving one out changes no other draw.
//! * No clock, no thread, no address, no map with an order of its own: a seed is the same on every machine.
//!
//! A test may also build a small world by hand: [`World::with`](world::World::with) takes the knobs and a plan,
//! [`World::happen`](world::World::happen) makes one thing happen now and [`World::pass`](world::World::pass) lets time pass.

mod build;
pub mod cheat;
pub mod check;
mod client;
mod days;
mod end;
pub mod frame;
mod guest;
mod happen;
mod hash;
pub mod hostile;
mod journal;
mod kernel;
pub mod knobs;
mod minds;
mod mix;
pub mod net;
pub mod omit;
mod paths;
mod peer;
pub mod plan;
mod pool;
mod port;
pub mod queue;
pub mod relay;
pub mod replay;
mod rest;
pub mod rng;
pub mod run;
pub mod scene;
mod server;
pub mod shrink;
mod sleep;
mod swarm;
pub mod time;
pub mod trace;
pub mod workload;
pub mod world;
