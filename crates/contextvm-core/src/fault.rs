//! Whose fault an error is.

/// The party that misbehaved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The other end of the call.
    Peer,
    /// A relay between the two.
    Relay,
    /// This host: its configuration, clock, files or application.
    Local,
    /// This library.
    Bug,
}
