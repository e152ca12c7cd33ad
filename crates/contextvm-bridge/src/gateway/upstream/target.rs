//! Where an HTTP server is, what it is sent with every request, and the client that sends it.
//!
//! The client follows no redirects, takes no proxies from the environment and repeats nothing by itself.
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::Error;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept: shorter than servers keep theirs, so that no request meets a closing one.
const UNUSED: Duration = Duration::from_secs(2);
/// How long silence on a stream is not checked.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A Streamable HTTP server: its endpoint, and headers that are secrets.
#[derive(Clone)]
pub struct HttpTarget {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
}

impl fmt::Debug for HttpTarget {
    /// Shows where the server is; values of headers and the query stay hidden.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HttpTarget")
            .field("origin", &self.origin())
            .field("headers", &self.headers.keys())
            .finish_non_exhaustive()
    }
}

impl HttpTarget {
    /// Takes the URL of the server's one endpoint.
    ///
    /// # Errors
    /// Refuses what is not an `http` or `https` URL, and URLs that hold a user name or a password; fails when there is
    /// no TLS.
    pub fn new(url: &str) -> Result<Self, Error> {
        let url = Url::parse(url).map_err(|error| Error::Upstream(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Upstream("its url is neither http nor https".to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::Upstream("its url holds a secret; use a header for it".to_owned()));
        }
        let client = client().map_err(|error| Error::Upstream(error.to_string()))?;
        Ok(Self { client, url, headers: HeaderMap::new() })
    }

    /// Adds a header to every request. Its value is a secret: it is never printed.
    ///
    /// # Errors
    /// Refuses what is no header, headers that the gateway sets itself, and every header over plain HTTP to another
    /// machine (see [`HttpTarget::header_in_the_clear`]).
    pub fn header(self, name: &str, value: &str) -> Result<Self, Error> {
        if self.url.scheme() != "https" && !self.is_loopback() {
            return Err(Error::Upstream(format!("the header {name} would travel unencrypted")));
        }
        self.header_in_the_clear(name, value)
    }

    /// Adds a header to every request, also where everybody on the way can read it.
    ///
    /// # Errors
    /// Refuses what is no header, and headers that the gateway sets itself.
    pub fn header_in_the_clear(mut self, name: &str, value: &str) -> Result<Self, Error> {
        let bad = || Error::Upstream("a header is not acceptable".to_owned());
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
        let own = ["accept", "content-type", "content-length", "host", "last-event-id", "transfer-encoding"];
        if own.contains(&name.as_str()) || name.as_str().starts_with("mcp-") {
            return Err(Error::Upstream(format!("the header {name} is set by the gateway")));
        }
        value.set_sensitive(true);
        self.headers.append(name, value);
        Ok(self)
    }

    /// Returns scheme, host and port, safe to print.
    #[must_use]
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    fn is_loopback(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_own = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        is_own || host == "localhost"
    }

    pub(super) fn request(&self, method: reqwest::Method) -> reqwest::RequestBuilder {
        self.client.request(method, self.url.clone()).headers(self.headers.clone())
    }
}

fn client() -> Result<reqwest::Client, Box<dyn std::error::Error>> {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls()?)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        .connect_timeout(CONNECT)
        .pool_idle_timeout(UNUSED)
        .tcp_keepalive(KEEP_ALIVE)
        .user_agent(concat!("cvm/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client)
}

/// Builds the TLS settings with one named provider, so that no process-wide default is needed.
fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_without_secrets_are_taken() {
        for url in ["http://127.0.0.1:1/mcp", "https://example.com", "http://[::1]/mcp?a=b"] {
            assert!(HttpTarget::new(url).is_ok(), "{url}");
        }
        for url in
            ["", "example.com/mcp", "ftp://a/b", "file:///etc/passwd", "https://u:p@a/", "https://u@a/"]
        {
            assert!(matches!(HttpTarget::new(url), Err(Error::Upstream(_))), "{url}");
        }
    }

    #[test]
    fn secrets_never_travel_unencrypted_unless_told_to() {
        let add = |url: &str| HttpTarget::new(url).unwrap().header("Authorization", "Bearer x");
        for url in ["https://example.com", "http://127.0.0.9/mcp", "http://[::1]:80/", "http://localhost/"] {
            assert!(add(url).is_ok(), "{url}");
        }
        assert!(add("http://mcp.internal/").is_err() && add("http://127.0.0.1.example.com/").is_err());
        let target = HttpTarget::new("http://mcp.internal/").unwrap();
        assert!(target.header_in_the_clear("Authorization", "Bearer x").is_ok());
    }

    #[test]
    fn secrets_are_never_shown() {
        let target = HttpTarget::new("https://example.com/mcp?key=hunter2").unwrap();
        let target = target.header("Authorization", "Bearer hunter3").unwrap();
        let shown = format!("{target:?} {:?}", Error::Upstream(target.origin()));
        assert!(shown.contains("authorization") && !shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn headers_of_the_protocol_cannot_be_set() {
        for name in ["Mcp-Session-Id", "MCP-Protocol-Version", "content-type", "Host", "a b", ""] {
            assert!(HttpTarget::new("https://a/").unwrap().header(name, "x").is_err(), "{name}");
        }
        assert!(HttpTarget::new("https://a/").unwrap().header("x", "a\nb").is_err());
    }
}
