//! Clients and servers over real relays on loopback.

mod access;
mod callers;
mod eras;
mod relays;
mod resolution;
mod round_trips;
mod support;
