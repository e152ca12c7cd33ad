//! How the HTTP front is set up.
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contextvm_core::Limits;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::Error;

/// What a local host must show to be let in. It is wiped when dropped and never printed.
#[derive(Clone)]
pub struct SecretToken(Zeroizing<String>);

impl SecretToken {
    /// Takes a token: visible ASCII characters.
    ///
    /// # Errors
    /// Fails when it is empty or holds anything else.
    pub fn new(token: impl Into<String>) -> Result<Self, Error> {
        let token = Zeroizing::new(token.into());
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Listen("the token is not made of visible ASCII characters".to_owned()));
        }
        Ok(Self(token))
    }

    /// Makes a token of 256 random bits.
    ///
    /// # Errors
    /// Fails when the operating system has no entropy.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut()).map_err(|error| Error::Listen(error.to_string()))?;
        Ok(Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()))))
    }

    /// Returns the token, to be written where only its owner can read it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether this is the token; takes the same time wherever they differ.
    pub(super) fn is(&self, offered: &str) -> bool {
        self.0.as_bytes().ct_eq(offered.as_bytes()).into()
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SecretToken")
    }
}

/// Where and for whom the HTTP front listens, and its bounds.
///
/// An address that other machines can reach needs a token, and one that stands for all addresses needs
/// [`with_every_interface`](Self::with_every_interface) too.
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpOptions {
    pub(super) address: SocketAddr,
    pub(super) token: Option<SecretToken>,
    pub(super) origins: Vec<String>,
    pub(super) hosts: Vec<String>,
    pub(super) body: usize,
    pub(super) sessions: usize,
    pub(super) idle: Duration,
    pub(super) backlog: usize,
    pub(super) quiet: Duration,
    pub(super) limits: Limits,
    every_interface: bool,
}

impl HttpOptions {
    /// Listens on this address for programs that call it by a loopback name, without a token.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            token: None,
            origins: Vec::new(),
            hosts: Vec::new(),
            body: Limits::default().child_line,
            sessions: 64,
            idle: Duration::from_secs(30 * 60),
            backlog: 4 * 1024 * 1024,
            quiet: Duration::from_secs(15),
            limits: Limits::default(),
            every_interface: false,
        }
    }

    /// Lets in only who shows this token (`Authorization: Bearer`).
    pub fn with_token(mut self, token: SecretToken) -> Self {
        self.token = Some(token);
        self
    }

    /// Lets pages of this origin (`https://app.example.com`) in, and their scripts read the answers. Pages of loopback
    /// origins are let in anyway, but may read nothing.
    pub fn with_origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Answers to this name too (`mcp.example.com`), beside the loopback names and the address itself.
    pub fn with_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Sets how large a message of a host may be, bytes; 24 MiB by default.
    pub fn with_body_limit(mut self, bytes: usize) -> Self {
        self.body = bytes;
        self
    }

    /// Sets how many sessions there may be at once, 64 by default, and after which idle time one ends, 30 minutes by
    /// default. A session with an open request or stream is not idle.
    pub fn with_sessions(mut self, most: usize, idle: Duration) -> Self {
        (self.sessions, self.idle) = (most, idle);
        self
    }

    /// Sets how much is kept for a host that reads slowly or lost its connection, bytes of the open streams of a session
    /// and as many of those that ended; 4 MiB by default. The newest message of a stream is kept whatever its size, and counts
    /// once another one follows. A
    /// request without a session whose reader falls this far behind is given up.
    pub fn with_backlog(mut self, bytes: usize) -> Self {
        self.backlog = bytes;
        self
    }

    /// Sets after which silence a stream gets a sign of life; 15 s by default.
    pub fn with_keep_alive(mut self, every: Duration) -> Self {
        self.quiet = every;
        self
    }

    /// Sets what JSON is taken from hosts.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Allows an address that stands for all addresses of this machine (`0.0.0.0`). Other machines must then call it by a
    /// name that [`with_host`](Self::with_host) lists.
    pub fn with_every_interface(mut self) -> Self {
        self.every_interface = true;
        self
    }

    /// Checks that nobody gets in by accident.
    pub(super) fn check(&self) -> Result<(), Error> {
        let ip = self.address.ip();
        if ip.is_unspecified() && !self.every_interface {
            return Err(Error::Listen(format!(
                "{ip} stands for every address of this machine, which was not allowed"
            )));
        }
        if !ip.is_loopback() && self.token.is_none() {
            return Err(Error::Listen(format!("{ip} can be reached from other machines and needs a token")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed_and_compares_as_a_whole() {
        let token = SecretToken::new("s3cret").unwrap();
        assert_eq!(format!("{token:?}"), "SecretToken");
        assert!(token.is("s3cret"));
        for other in ["", "s3cre", "s3cret ", "S3cret"] {
            assert!(!token.is(other));
        }
        for bad in ["", "a b", "a\n", "ä"] {
            assert!(SecretToken::new(bad).is_err());
        }
        let (one, other) = (SecretToken::random().unwrap(), SecretToken::random().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(SecretToken::new(one.reveal()).unwrap().reveal().len(), 43);
    }

    #[test]
    fn only_loopback_is_open_to_all() {
        let options = |address: &str| HttpOptions::new(address.parse().unwrap());
        let token = || SecretToken::new("t").unwrap();
        assert!(options("127.0.0.1:0").check().is_ok());
        assert!(options("[::1]:0").check().is_ok());
        assert!(options("192.0.2.1:0").check().is_err());
        assert!(options("192.0.2.1:0").with_token(token()).check().is_ok());
        for every in ["0.0.0.0:0", "[::]:0"] {
            assert!(options(every).with_token(token()).check().is_err());
            assert!(options(every).with_every_interface().check().is_err());
            assert!(options(every).with_token(token()).with_every_interface().check().is_ok());
        }
    }
}
