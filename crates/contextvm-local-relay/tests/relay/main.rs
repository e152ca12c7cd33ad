//! The relay over real sockets: what it does when it is honest, and what each fault knob changes.
#[cfg(test)]
mod a_choosy_relay;
#[cfg(test)]
mod a_faulty_relay;
#[cfg(test)]
mod an_honest_relay;
#[cfg(test)]
mod client;
