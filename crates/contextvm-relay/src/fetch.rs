//! One HTTP request over our own checked connection: what relays (NIP-11) and domains (NIP-05) publish about themselves.
use std::pin::pin;
use std::time::Duration;

use contextvm_core::relay_info::{self, RelayInfo};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use nostr::types::RelayUrl;
use nostr::types::url::{Position, Url};

use crate::dial::{Addresses, Dialer};
use crate::error::FetchError;
use crate::link::printable;
use crate::socket::Wire;

/// Largest head of an answer, bytes.
const HEAD: usize = 64 * 1024;

/// A document to be fetched with one GET.
///
/// Nothing is sent but the path, the host and what is accepted. Redirects are not followed: they could lead anywhere.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Where it is: `https`, or `http` under [`Addresses::Any`].
    pub url: Url,
    /// Which network addresses may be dialled; default [`Addresses::Public`].
    pub addresses: Addresses,
    /// The `Accept` header; default `*/*`.
    pub accept: &'static str,
    /// Largest document taken, bytes; 64 KiB.
    pub limit: usize,
    /// Longest wait over all; 5 s.
    pub deadline: Duration,
}

impl Fetch {
    /// Prepares to fetch a document within the default bounds, from a public address.
    #[must_use]
    pub const fn new(url: Url) -> Self {
        Self {
            url,
            addresses: Addresses::Public,
            accept: "*/*",
            limit: 64 * 1024,
            deadline: Duration::from_secs(5),
        }
    }

    /// Sets which network addresses may be dialled.
    #[must_use]
    pub const fn with_addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// Sets the `Accept` header.
    #[must_use]
    pub const fn with_accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }

    /// Sets the largest document taken, bytes.
    #[must_use]
    pub const fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Sets the longest wait.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Fetches the document.
    ///
    /// # Errors
    /// Returns why there is none; every status but 200 is a failure.
    pub async fn get(&self) -> Result<Vec<u8>, FetchError> {
        let dialer = Dialer::new(0, self.deadline)?;
        self.get_through(&dialer).await
    }

    pub(crate) async fn get_through(&self, dialer: &Dialer) -> Result<Vec<u8>, FetchError> {
        match tokio::time::timeout(self.deadline, Box::pin(self.exchange(dialer))).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::Timeout(self.deadline)),
        }
    }

    async fn exchange(&self, dialer: &Dialer) -> Result<Vec<u8>, FetchError> {
        let secure = match self.url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(FetchError::Scheme),
        };
        let request = self.request()?;
        let (wire, _) = dialer.wire(&self.url, secure, self.addresses).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD)
            .handshake::<TokioIo<Box<dyn Wire>>, Empty<Bytes>>(TokioIo::new(wire))
            .await
            .map_err(protocol)?;
        let mut answer =
            pin!(async { self.read(sender.send_request(request).await.map_err(protocol)?).await });
        tokio::select! {
            result = &mut answer => result,
            // What has arrived before the connection ended is still to be read.
            _ended = connection => answer.await,
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, FetchError> {
        let host = &self.url[Position::BeforeHost..Position::AfterPort];
        let path = &self.url[Position::BeforePath..Position::AfterQuery];
        Request::get(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, self.accept)
            .header(header::CONNECTION, "close")
            .body(Empty::new())
            .map_err(|error| FetchError::Protocol(printable(&error.to_string())))
    }

    async fn read(&self, answer: Response<Incoming>) -> Result<Vec<u8>, FetchError> {
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        match Limited::new(answer.into_body(), self.limit).collect().await {
            Ok(body) => Ok(body.to_bytes().to_vec()),
            Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge(self.limit)),
            Err(error) => Err(FetchError::Protocol(printable(&error.to_string()))),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn protocol(error: hyper::Error) -> FetchError {
    FetchError::Protocol(printable(&error.to_string()))
}

/// Asks a relay what it is (NIP-11), at the relay's own address.
///
/// # Errors
/// Returns why there is no document; one that cannot be read is [`FetchError::Document`].
pub async fn relay_info(
    url: &RelayUrl,
    addresses: Addresses,
    deadline: Duration,
) -> Result<RelayInfo, FetchError> {
    let mut target = Url::from(url.clone());
    let scheme = if url.scheme().is_secure() { "https" } else { "http" };
    target.set_scheme(scheme).map_err(|()| FetchError::Scheme)?;
    let fetch = Fetch::new(target)
        .with_addresses(addresses)
        .with_accept("application/nostr+json")
        .with_limit(relay_info::DOCUMENT)
        .with_deadline(deadline);
    let body = fetch.get().await?;
    Ok(RelayInfo::parse(&String::from_utf8_lossy(&body))?)
}
