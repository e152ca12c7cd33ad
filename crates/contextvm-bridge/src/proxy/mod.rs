//! The proxy: servers on Nostr, spoken to over the standard streams of this process or over HTTP.
//!
//! A front (`stdio`, `http`) knows how a host speaks and nothing of Nostr; `exchange` keeps the connection to the
//! server; between them the `switchboard` decides who gets what and translates between the eras of MCP. Every request
//! of a host is answered, also when no relay can be reached.
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use contextvm_client::ClientOptions;
use contextvm_core::Limits;
use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

mod check;
mod conversation;
mod exchange;
mod facts;
#[cfg(feature = "http")]
mod http;
mod merge;
mod stdio;
mod switchboard;

pub use check::{Judgement, ToolCheck, ToolsRefused};
#[cfg(feature = "http")]
pub use http::{HttpOptions, SecretToken};

use crate::Error;
use crate::notice::Reporter;
use conversation::{Conversations, Readiness};
use exchange::{Exchange, FAREWELL};

/// Collects what a [`Proxy`] is told.
#[derive(Clone, Debug)]
#[must_use]
pub struct ProxyBuilder {
    servers: Vec<(String, ClientOptions)>,
    merged: bool,
    reporter: Reporter,
    hint: String,
    checks: BTreeMap<String, Arc<dyn ToolCheck>>,
}

impl ProxyBuilder {
    /// Adds a further server under a name of its own: 1 to 32 ASCII letters, digits, dashes or underscores.
    pub fn server(mut self, name: impl Into<String>, options: ClientOptions) -> Self {
        self.servers.push((name.into(), options));
        self
    }

    /// Shows all servers as one, with their names before the names of their tools and prompts (`name__tool`).
    pub fn merged(mut self) -> Self {
        self.merged = true;
        self
    }

    /// Sets who hears of changes.
    pub fn reporter(mut self, reporter: Reporter) -> Self {
        self.reporter = reporter;
        self
    }

    /// Sets what a person is advised to do when a server cannot be reached.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Sets who decides which tools of the server with this name hosts may see and call. Without one they see and call all.
    ///
    /// A proxy without a server of this name does not run.
    pub fn tool_check(mut self, name: impl Into<String>, check: Arc<dyn ToolCheck>) -> Self {
        self.checks.insert(name.into(), check);
        self
    }

    /// Returns the proxy.
    #[must_use]
    pub fn build(self) -> Proxy {
        let Self { servers, merged, reporter, hint, checks } = self;
        Proxy { servers, merged, reporter, hint, checks }
    }
}

/// Moves messages between MCP hosts and servers on Nostr.
#[derive(Clone, Debug)]
pub struct Proxy {
    servers: Vec<(String, ClientOptions)>,
    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "on standard streams several are always merged")
    )]
    merged: bool,
    reporter: Reporter,
    hint: String,
    checks: BTreeMap<String, Arc<dyn ToolCheck>>,
}

/// Server sides by name, and what keeps them running until all conversations are over.
type Sides = (Vec<(String, Conversations)>, Pin<Box<dyn Future<Output = ()> + Send>>);

impl Proxy {
    /// Starts collecting options for a proxy to one server.
    pub fn builder(options: ClientOptions) -> ProxyBuilder {
        Self::builder_of("server", options)
    }

    /// Starts collecting options for a proxy to several servers, of which this is the first.
    pub fn builder_of(name: impl Into<String>, options: ClientOptions) -> ProxyBuilder {
        let hint = "check that the relay is reachable, or name another one".to_owned();
        let servers = vec![(name.into(), options)];
        ProxyBuilder { servers, merged: false, reporter: Reporter::default(), hint, checks: BTreeMap::new() }
    }

    /// Serves one host on a pair of streams until the reader ends, the writer breaks or `stop` is given. Several servers
    /// are always merged here.
    ///
    /// # Errors
    /// Fails when a name of a server is not acceptable, and when the writer breaks.
    pub async fn run(
        self,
        reader: impl AsyncRead + Unpin,
        writer: impl AsyncWrite + Unpin,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let limits = self.limits();
        let reporter = self.reporter.clone();
        let merged = self.servers.len() > 1;
        let (mut sides, sides_running) = self.sides(merged, &stop)?;
        let Some((_, conversations)) = sides.pop() else { return Ok(()) };
        let mut running = sides_running;
        let mut serving = Box::pin(async move {
            match conversations.open().await {
                Ok(conversation) => stdio::serve(conversation, (reader, writer), limits, reporter).await,
                Err(conversation::Gone) => Ok(()),
            }
        });
        tokio::select! {
            served = &mut serving => {
                // The host's end is gone by now, so what it left open is cancelled.
                let _late = timeout(FAREWELL * 2, running).await;
                served
            }
            () = &mut running => timeout(FAREWELL, serving).await.unwrap_or(Ok(())),
        }
    }

    /// Opens an address for hosts that speak Streamable HTTP.
    ///
    /// # Errors
    /// Fails when a name of a server is not acceptable, and when the address is in use or open to others than was
    /// allowed.
    #[cfg(feature = "http")]
    pub async fn bind(self, options: HttpOptions) -> Result<HttpProxy, Error> {
        self.check_names()?;
        let listener = http::bind(&options).await?;
        let address = listener.local_addr().map_err(|error| Error::Listen(error.to_string()))?;
        Ok(HttpProxy { proxy: self, listener, address, options })
    }

    fn limits(&self) -> Limits {
        self.servers.first().map(|(_, options)| options.config.limits.clone()).unwrap_or_default()
    }

    fn check_names(&self) -> Result<(), Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        for (at, (name, _)) in self.servers.iter().enumerate() {
            let twice = self.servers.iter().take(at).any(|(other, _)| other == name);
            if twice || !(1..=32).contains(&name.len()) || !name.bytes().all(plain) {
                return Err(Error::ServerName { name: name.clone() });
            }
        }
        // A check that nobody passes would protect nobody.
        let is_idle = |name: &&String| self.servers.iter().all(|(server, _)| server != *name);
        match self.checks.keys().find(is_idle) {
            Some(name) => Err(Error::ServerName { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// Starts the server sides; merged, there is one.
    fn sides(self, merged: bool, stop: &CancellationToken) -> Result<Sides, Error> {
        self.check_names()?;
        let limits = self.limits();
        let mut sides = Vec::new();
        let mut running: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
        for (name, options) in self.servers {
            let (mut conversations, opened) = Conversations::new();
            let ready = Readiness::default();
            conversations.depends_on([ready.clone()]);
            let exchange =
                Exchange { options, reporter: self.reporter.clone(), hint: self.hint.clone(), ready };
            running.push(Box::pin(exchange.run(opened, stop.child_token())));
            if let Some(check) = self.checks.get(&name) {
                let (mut checked, opened) = Conversations::new();
                checked.depends_on(conversations.readiness());
                let check = Arc::clone(check);
                let stop = stop.child_token();
                running.push(Box::pin(check::run(conversations, check, opened, limits.clone(), stop)));
                conversations = checked;
            }
            sides.push((name, conversations));
        }
        if merged {
            let (mut conversations, opened) = Conversations::new();
            conversations.depends_on(sides.iter().flat_map(|(_, side)| side.readiness()));
            running.push(Box::pin(merge::run(sides, opened, limits, stop.child_token())));
            sides = vec![("merged".to_owned(), conversations)];
        }
        Ok((sides, Box::pin(async move { drop(join_all(running).await) })))
    }
}

/// A proxy with an open address.
#[cfg(feature = "http")]
#[derive(Debug)]
pub struct HttpProxy {
    proxy: Proxy,
    listener: tokio::net::TcpListener,
    address: std::net::SocketAddr,
    options: HttpOptions,
}

#[cfg(feature = "http")]
impl HttpProxy {
    /// Returns the address, with the port that the system chose if it was left open.
    #[must_use]
    pub const fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Returns the path of each server: `/mcp` for a single one or for all merged, else `/name/mcp`.
    #[must_use]
    pub fn paths(&self) -> Vec<(String, String)> {
        match self.proxy.servers.as_slice() {
            [(name, _)] => vec![(name.clone(), http::PATH.to_owned())],
            _ if self.proxy.merged => vec![("merged".to_owned(), http::PATH.to_owned())],
            servers => {
                servers.iter().map(|(name, _)| (name.clone(), format!("/{name}{}", http::PATH))).collect()
            }
        }
    }

    /// Serves hosts until `stop` is given.
    ///
    /// # Errors
    /// Fails when a name of a server is not acceptable.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let paths = self.paths();
        let reporter = self.proxy.reporter.clone();
        let merged = self.proxy.merged && self.proxy.servers.len() > 1;
        let (sides, running) = self.proxy.sides(merged, &stop)?;
        let servers = paths.into_iter().map(|(_, path)| path).zip(sides.into_iter().map(|(_, side)| side));
        let serving = http::serve(self.listener, servers.collect(), self.options, reporter, stop);
        tokio::join!(Box::pin(serving), running);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use contextvm_crypto::Keys;

    use super::*;

    /// Lets everything pass.
    #[derive(Debug)]
    struct Lax;

    impl ToolCheck for Lax {
        fn learn(&self, _tools: &[&serde_json::value::RawValue]) {}

        fn forget(&self) {}

        fn judge_shown(&self, _tools: &[&serde_json::value::RawValue]) -> Judgement {
            Judgement::Fine
        }

        fn judge_call(&self, _tool: &str) -> Judgement {
            Judgement::Fine
        }
    }

    #[test]
    fn names_are_plain_and_single_and_a_check_belongs_to_one_of_them() {
        let key = |number: u8| Keys::from_secret_bytes([number; 32]).unwrap();
        let options = || ClientOptions::new(key(1), key(2).public_key().into());
        let check = |builder: ProxyBuilder| builder.build().check_names();
        let of = |name: &str| Proxy::builder_of(name, options());
        let refused = |name: &str| Err(Error::ServerName { name: name.to_owned() });
        assert_eq!(check(of("a").server("B-2_c", options())), Ok(()));
        for name in ["", "a b", "ä", "a/b", &"x".repeat(33)] {
            assert_eq!(check(of(name)), refused(name));
        }
        assert_eq!(check(of("a").server("a", options())), refused("a"));
        assert_eq!(check(of("a").tool_check("a", Arc::new(Lax))), Ok(()));
        assert_eq!(check(of("a").tool_check("b", Arc::new(Lax))), refused("b"));
    }
}
