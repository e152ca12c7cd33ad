//! Stories of bridges: real relays, real children, real streams.
mod gateway;
mod proxy;
mod stage;
