//! The front on a real socket, before a server that says what each story needs.
mod client;
mod exchanges;
mod limits;
mod refusals;
mod resuming;
mod sessions;
mod stage;
