//! Relays over real sockets, against a relay that does exactly what each test tells it.
mod authenticating;
mod leaks;
mod publishing;
mod querying;
mod subscribing;
mod support;
