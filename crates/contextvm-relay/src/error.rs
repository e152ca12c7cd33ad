//! What can go wrong before and while a relay is reached.
use std::time::Duration;

use contextvm_core::Fault;
use contextvm_core::relay_info::RelayInfoError;

/// Why relay connections could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// A filter is not a JSON object.
    #[error("filter is not a JSON object")]
    Filter,
    /// There is no tokio runtime to run on.
    #[error("no tokio runtime is running")]
    Runtime,
    /// The TLS library refused its own settings.
    #[error("TLS settings were refused")]
    Tls,
    /// More relays than can be numbered.
    #[error("more than {} relays were added", u16::MAX)]
    TooMany,
    /// Random bytes could not be had from the operating system.
    #[error("no random bytes from the operating system")]
    Entropy,
}

impl RelayError {
    /// Returns whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Filter | Self::Runtime | Self::TooMany | Self::Entropy => Fault::Local,
            Self::Tls => Fault::Bug,
        }
    }
}

/// Why one connection could not be made. All texts are printable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The URL names no host or port.
    #[error("address has no host")]
    Host,
    /// The name has no address.
    #[error("name not found: {0}")]
    Name(String),
    /// The name leads to an address that may not be dialled.
    #[error("address {0} is not public")]
    Private(std::net::IpAddr),
    /// The address has no TLS, which is demanded here.
    #[error("address is not wss or https")]
    Plain,
    /// TCP failed.
    #[error("cannot connect: {0}")]
    Tcp(String),
    /// The relay's certificate was not believed, for this (printable) reason.
    #[error("certificate refused: {0}")]
    Certificate(String),
    /// TLS failed in another way.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The server did not upgrade to a websocket.
    #[error("no websocket: {0}")]
    Upgrade(String),
    /// Nothing happened in time.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

/// Why a document was not fetched. All texts are printable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The address is neither `https` nor `http`.
    #[error("address is not https or http")]
    Scheme,
    /// No connection could be made.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The server answered with another status than 200; 3xx is a redirect, which is not followed.
    #[error("answered with status {0}")]
    Status(u16),
    /// The document is larger than this many bytes.
    #[error("more than {0} bytes")]
    TooLarge(usize),
    /// The answer was not there in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// What came is not HTTP, or ended too early.
    #[error("bad answer: {0}")]
    Protocol(String),
    /// The document is no relay information.
    #[error(transparent)]
    Document(#[from] RelayInfoError),
    /// The connection could not be prepared on this side.
    #[error(transparent)]
    Local(#[from] RelayError),
}

impl FetchError {
    /// Returns whose fault it is; `Peer` is whoever runs the server.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Scheme => Fault::Local,
            Self::Dial(_) | Self::Status(_) | Self::TooLarge(_) | Self::Timeout(_) | Self::Protocol(_) => {
                Fault::Peer
            }
            Self::Document(error) => error.fault(),
            Self::Local(error) => error.fault(),
        }
    }
}
