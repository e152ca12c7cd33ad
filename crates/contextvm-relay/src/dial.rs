//! Opening one websocket: checked addresses, bounded frames, explicit TLS.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nostr::types::RelayUrl;
use nostr::types::url::Host;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::error::{DialError, RelayError};
use crate::link::printable;

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
    /// Only `wss` at publicly routable addresses: for relays that somebody else has named.
    Public,
}

/// A byte stream under a websocket.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An open websocket, plain or over TLS.
pub(crate) type Socket = WebSocketStream<Box<dyn Wire>>;

/// Opens websockets, all with the same bounds.
#[derive(Clone)]
pub(crate) struct Dialer {
    tls: Arc<rustls::ClientConfig>,
    socket: WebSocketConfig,
    timeout: Duration,
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
        let socket = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .max_message_size(Some(largest))
            .max_frame_size(Some(largest));
        Ok(Self { tls: Arc::new(tls(roots)?), socket, timeout })
    }

    /// Opens one websocket at an admitted address.
    pub(crate) async fn dial(&self, url: &RelayUrl, addresses: Addresses) -> Result<Socket, DialError> {
        match tokio::time::timeout(self.timeout, Box::pin(self.open(url, addresses))).await {
            Ok(result) => result,
            Err(_) => Err(DialError::Timeout(self.timeout)),
        }
    }

    async fn open(&self, url: &RelayUrl, addresses: Addresses) -> Result<Socket, DialError> {
        let secure = url.scheme().is_secure();
        match addresses {
            Addresses::Public if !secure => return Err(DialError::Plain),
            Addresses::Public | Addresses::Any => {}
        }
        let target: &nostr::types::url::Url = url.into();
        let host = target.host().ok_or(DialError::Host)?;
        let port = target.port_or_known_default().ok_or(DialError::Host)?;
        let tcp = connect(&resolve(&host, port, addresses).await?).await?;
        // Frames are small and wait for answers: Nagle's algorithm would only add delay.
        tcp.set_nodelay(true).map_err(|error| DialError::Tcp(error.to_string()))?;
        let wire: Box<dyn Wire> =
            if secure { Box::new(self.secure(&host, tcp).await?) } else { Box::new(tcp) };
        let upgraded = tokio_tungstenite::client_async_with_config(target.as_str(), wire, Some(self.socket));
        match upgraded.await {
            Ok((socket, _)) => Ok(socket),
            Err(error) => Err(DialError::Upgrade(printable(&error.to_string()))),
        }
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

/// Finds the addresses of a host; every one of them must be admitted.
async fn resolve(host: &Host<&str>, port: u16, addresses: Addresses) -> Result<Vec<SocketAddr>, DialError> {
    let found: Vec<SocketAddr> = match host {
        Host::Ipv4(ip) => vec![SocketAddr::new(IpAddr::V4(*ip), port)],
        Host::Ipv6(ip) => vec![SocketAddr::new(IpAddr::V6(*ip), port)],
        Host::Domain(name) => tokio::net::lookup_host((*name, port))
            .await
            .map_err(|error| DialError::Name(error.to_string()))?
            .take(ADDRESSES)
            .collect(),
    };
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
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
    let mut head_start = Duration::ZERO;
    let mut attempts = FuturesUnordered::new();
    for address in addresses {
        let wait = head_start;
        attempts.push(async move {
            tokio::time::sleep(wait).await;
            TcpStream::connect(address).await
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
    async fn a_server_that_never_upgrades_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let dialer = Dialer::new(1024, Duration::from_millis(50)).unwrap();
        let result = dialer.dial(&RelayUrl::parse(&url).unwrap(), Addresses::Any).await;
        assert!(matches!(result, Err(DialError::Timeout(_))), "{:?}", result.err());
    }
}
