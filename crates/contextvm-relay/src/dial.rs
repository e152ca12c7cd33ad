//! Opening one connection: checked addresses, explicit TLS, and mostly a websocket with bounded frames on top.
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use nostr::types::RelayUrl;
use nostr::types::url::{Host, Url};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::date;
use crate::error::{DialError, RelayError};
use crate::link::{printable, unix};
use crate::socket::{Socket, Wire};

/// Addresses tried for one name.
const ADDRESSES: usize = 6;
/// Head start of each address over the next (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Which network addresses may be dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Any address: for relays that the operator has named.
    #[default]
    Any,
    /// Only TLS (`wss`, `https`) at publicly routable addresses: for hosts that somebody else has named.
    Public,
}

/// How a relay was reached, and how long each part took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reached {
    /// Name lookup and TCP.
    pub tcp: Duration,
    /// TLS, if there is any.
    pub tls: Option<Duration>,
    /// The version of TLS in words such as `TLS 1.3`.
    pub version: Option<&'static str>,
    /// The upgrade to a websocket.
    pub upgrade: Duration,
    /// How many seconds our clock is ahead of the relay's (behind, if negative), if the relay said what time it is.
    pub clock_ahead: Option<i64>,
}

impl Reached {
    /// Returns the time from the first step to the open websocket.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.tcp + self.tls.unwrap_or_default() + self.upgrade
    }
}

/// Opens connections, all with the same bounds.
#[derive(Clone)]
pub(crate) struct Dialer {
    tls: Arc<rustls::ClientConfig>,
    /// The largest message taken, bytes.
    largest: usize,
    timeout: Duration,
    network: Arc<dyn Network>,
}

impl Dialer {
    /// Fixes the largest message taken and the time allowed; the certificates of public authorities are believed.
    pub(crate) fn new(largest: usize, timeout: Duration) -> Result<Self, RelayError> {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        Self::trusting(roots, largest, timeout)
    }

    /// Makes a dialer that believes these authorities.
    pub(crate) fn trusting(
        roots: RootCertStore,
        largest: usize,
        timeout: Duration,
    ) -> Result<Self, RelayError> {
        Ok(Self { tls: Arc::new(tls(roots)?), largest, timeout, network: Arc::new(Internet) })
    }

    /// Puts another network under the dialer.
    #[cfg(test)]
    pub(crate) fn over(mut self, network: Arc<dyn Network>) -> Self {
        self.network = network;
        self
    }

    /// Opens one websocket at an admitted address.
    #[cfg(test)]
    pub(crate) async fn dial(&self, url: &RelayUrl, addresses: Addresses) -> Result<Socket, DialError> {
        self.measure(url, addresses).await.map(|(socket, _)| socket)
    }

    /// Opens one websocket at an admitted address and says how long that took.
    pub(crate) async fn measure(
        &self,
        url: &RelayUrl,
        addresses: Addresses,
    ) -> Result<(Socket, Reached), DialError> {
        match tokio::time::timeout(self.timeout, Box::pin(self.open(url, addresses))).await {
            Ok(result) => result,
            Err(_) => Err(DialError::Timeout(self.timeout)),
        }
    }

    async fn open(&self, url: &RelayUrl, addresses: Addresses) -> Result<(Socket, Reached), DialError> {
        let target: &Url = url.into();
        let (wire, reached) = self.wire(target, url.scheme().is_secure(), addresses).await?;
        let start = Instant::now();
        match Socket::upgrade(target.as_str(), wire, self.largest).await {
            Ok((socket, answer)) => {
                let said = answer.headers().get("date").and_then(|date| date.to_str().ok());
                let clock_ahead = said.and_then(date::parse).map(|then| signed(unix()) - signed(then));
                Ok((socket, Reached { upgrade: start.elapsed(), clock_ahead, ..reached }))
            }
            Err(error) => Err(DialError::Upgrade(printable(&error.to_string()))),
        }
    }

    /// Opens a byte stream to the host of an address: looked up once, checked, and connected to what was checked.
    pub(crate) async fn wire(
        &self,
        target: &Url,
        secure: bool,
        addresses: Addresses,
    ) -> Result<(Box<dyn Wire>, Reached), DialError> {
        match addresses {
            Addresses::Public if !secure => return Err(DialError::Plain),
            Addresses::Public | Addresses::Any => {}
        }
        let host = target.host().ok_or(DialError::Host)?;
        let port = target.port_or_known_default().ok_or(DialError::Host)?;
        let start = Instant::now();
        let network = self.network.as_ref();
        let tcp = connect(network, &resolve(network, &host, port, addresses).await?).await?;
        // Messages are small and wait for answers: Nagle's algorithm would only add delay.
        tcp.set_nodelay(true).map_err(|error| DialError::Tcp(error.to_string()))?;
        let reached = Reached { tcp: start.elapsed(), ..Reached::default() };
        if !secure {
            return Ok((Box::new(tcp), reached));
        }
        let start = Instant::now();
        let stream = self.secure(&host, tcp).await?;
        let version = stream.get_ref().1.protocol_version().map(version);
        Ok((Box::new(stream), Reached { tls: Some(start.elapsed()), version, ..reached }))
    }

    async fn secure(
        &self,
        host: &Host<&str>,
        tcp: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, DialError> {
        let name = match host {
            Host::Ipv4(ip) => ServerName::IpAddress(IpAddr::V4(*ip).into()),
            Host::Ipv6(ip) => ServerName::IpAddress(IpAddr::V6(*ip).into()),
            Host::Domain(name) => ServerName::try_from((*name).to_owned()).map_err(|_| DialError::Host)?,
        };
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        connector.connect(name, tcp).await.map_err(|error| tls_failure(&error))
    }
}

/// Name lookup and TCP, which tests watch.
pub(crate) trait Network: Send + Sync {
    /// Looks a name up.
    fn lookup<'a>(&'a self, name: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// Connects to one address.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// The operating system's resolver and sockets.
struct Internet;

impl Network for Internet {
    fn lookup<'a>(&'a self, name: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.take(ADDRESSES).collect()) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(address))
    }
}

/// Names the version of TLS; rustls speaks only these two.
fn version(version: rustls::ProtocolVersion) -> &'static str {
    if version == rustls::ProtocolVersion::TLSv1_3 { "TLS 1.3" } else { "TLS 1.2" }
}

/// Builds the TLS settings with one named provider, so that no process-wide default is needed.
fn tls(roots: RootCertStore) -> Result<rustls::ClientConfig, RelayError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| RelayError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Tells a certificate that was not believed from other failures; its words may be the relay's own.
fn tls_failure(error: &std::io::Error) -> DialError {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            DialError::Certificate("not signed by a known authority".to_owned())
        }
        Some(rustls::Error::InvalidCertificate(error)) => {
            DialError::Certificate(printable(&error.to_string()))
        }
        Some(_) | None => DialError::Tls(printable(&error.to_string())),
    }
}

fn signed(unix: u64) -> i64 {
    i64::try_from(unix).unwrap_or(i64::MAX)
}

/// Finds the addresses of a host; every one of them must be admitted.
async fn resolve(
    network: &dyn Network,
    host: &Host<&str>,
    port: u16,
    addresses: Addresses,
) -> Result<Vec<SocketAddr>, DialError> {
    let mut found: Vec<SocketAddr> = match host {
        Host::Ipv4(ip) => vec![SocketAddr::new(IpAddr::V4(*ip), port)],
        Host::Ipv6(ip) => vec![SocketAddr::new(IpAddr::V6(*ip), port)],
        Host::Domain(name) => {
            network.lookup(name, port).await.map_err(|error| DialError::Name(error.to_string()))?
        }
    };
    found.truncate(ADDRESSES);
    if found.is_empty() {
        return Err(DialError::Name("no address".to_owned()));
    }
    match addresses {
        Addresses::Any => Ok(found),
        Addresses::Public => match found.iter().find(|address| !is_public(address.ip())) {
            Some(private) => Err(DialError::Private(private.ip())),
            None => Ok(found),
        },
    }
}

/// Tries the addresses one after another with a head start each; the first connection wins.
async fn connect(network: &dyn Network, addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
    let mut head_start = Duration::ZERO;
    let mut attempts = FuturesUnordered::new();
    for address in addresses {
        let wait = head_start;
        attempts.push(async move {
            tokio::time::sleep(wait).await;
            network.connect(*address).await
        });
        head_start += STAGGER;
    }
    let mut last = DialError::Host;
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(stream) => return Ok(stream),
            Err(error) => last = DialError::Tcp(error.to_string()),
        }
    }
    Err(last)
}

/// Whether a URL leads to this host or into a private network, as far as its text tells: an address that is not publicly
/// routable, or a name that only this network knows.
///
/// A public name may still lead there: [`Addresses::Public`] refuses that when it is dialled.
#[must_use]
pub fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(v4)) => !is_public_v4(v4),
        Some(Host::Ipv6(v6)) => !is_public(v6.to_canonical()),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            !name.contains('.') || name.ends_with(".localhost") || name.ends_with(".local")
        }
        None => true,
    }
}

/// Whether an address is publicly routable (IANA special-purpose registries).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = a == 0
        || a >= 224
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113);
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // Only global unicast, and within it none that documents, benchmarks, or carries an IPv4 address inside.
    let global = a & 0xe000 == 0x2000;
    let special = a == 0x2002 || (a == 0x2001 && (b < 0x0200 || b == 0x0db8)) || (a == 0x3fff && b < 0x1000);
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "3fff::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["8.8.8.8", "1.1.1.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn a_private_address_is_refused_before_it_is_dialled() {
        let dialer = Dialer::new(1024, Duration::from_secs(5)).unwrap();
        for text in ["wss://127.0.0.1:9", "wss://localhost:9", "wss://[::ffff:10.0.0.1]:9", "wss://0x7f.1:9"]
        {
            let result = dialer.dial(&RelayUrl::parse(text).unwrap(), Addresses::Public).await;
            assert!(matches!(result, Err(DialError::Private(_))), "{text}: {:?}", result.err());
        }
        let plain = dialer.dial(&RelayUrl::parse("ws://8.8.8.8:9").unwrap(), Addresses::Public).await;
        assert_eq!(plain.err(), Some(DialError::Plain));
    }

    #[tokio::test]
    async fn tls_against_a_server_without_tls_is_a_typed_failure() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("wss://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        });
        let dialer = Dialer::new(1024, Duration::from_secs(5)).unwrap();
        let result = dialer.dial(&RelayUrl::parse(&url).unwrap(), Addresses::Any).await;
        assert!(matches!(result, Err(DialError::Tls(_))), "{:?}", result.err());
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let (listener, target) = (
            tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
            tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let location = target.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 2_048];
            tokio::io::AsyncReadExt::read(&mut stream, &mut head).await.unwrap();
            let answer =
                format!("HTTP/1.1 307 Moved\r\nLocation: ws://{location}/\r\nContent-Length: 0\r\n\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        });
        let dialer = Dialer::new(1024, Duration::from_secs(5)).unwrap();
        let result = dialer.dial(&RelayUrl::parse(&url).unwrap(), Addresses::Any).await;
        assert!(
            matches!(&result, Err(DialError::Upgrade(words)) if words.contains("307")),
            "{:?}",
            result.err()
        );
        let followed = tokio::time::timeout(Duration::from_millis(100), target.accept()).await;
        assert!(followed.is_err(), "somebody connected to the target of the redirect");
    }

    #[tokio::test]
    async fn a_server_that_never_upgrades_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let dialer = Dialer::new(1024, Duration::from_millis(50)).unwrap();
        let result = dialer.dial(&RelayUrl::parse(&url).unwrap(), Addresses::Any).await;
        assert!(matches!(result, Err(DialError::Timeout(_))), "{:?}", result.err());
    }
}
