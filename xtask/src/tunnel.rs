//! An HTTP server reached through Nostr: `cvm use --http` <- relay <- `cvm serve`.
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::shell::root;

/// How long the tunnel may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// What tunnels are made of.
pub(super) struct Nostr {
    /// The binary.
    cvm: String,
    relay: String,
    /// Lives as long as tunnels are wanted; `None` where another process keeps it.
    _relay: Option<Process>,
}

/// One HTTP server behind Nostr; both ends are killed when it is dropped.
pub(super) struct Tunnel {
    /// Where the server is reached.
    pub(super) url: String,
    _serve: Process,
    _use: Process,
}

impl Nostr {
    /// Starts a relay.
    pub(super) fn start(cvm: &str) -> Result<Self, Vec<String>> {
        let mut process = Process::start(cvm, &["relay", "run", "--port", "0", "--json"])?;
        Ok(Self { cvm: cvm.to_owned(), relay: process.text("url")?, _relay: Some(process) })
    }

    /// Uses a relay that runs already.
    pub(super) fn at(cvm: &str, relay: &str) -> Self {
        Self { cvm: cvm.to_owned(), relay: relay.to_owned(), _relay: None }
    }

    /// The words that [`Self::at`] takes.
    pub(super) fn words(&self) -> [&str; 2] {
        [&self.cvm, &self.relay]
    }

    /// Puts `upstream`, a URL or `--` and a command, behind Nostr; what both ends say is kept in `target/conformance/log/NAME-*.txt`.
    pub(super) fn tunnel(&self, upstream: &[&str], name: &str) -> Result<Tunnel, Vec<String>> {
        let log = |end: &str| -> PathBuf { root().join(format!("target/conformance/log/{name}-{end}.txt")) };
        let serve = ["serve", "--ephemeral", "--open", "--json", "-v", "--relay", &self.relay];
        let mut serve = Process::start_logged(&self.cvm, &[&serve, upstream].concat(), &log("serve"))?;
        let key = serve.text("server")?;
        let address = free_address()?;
        let place = address.to_string();
        let args =
            ["use", &key, "--key", "ephemeral", "-v", "--relay", &self.relay, "--http", &place, "--no-token"];
        let front = Process::start_logged(&self.cvm, &args, &log("use"))?;
        wait_until_ready(address)?;
        Ok(Tunnel { url: format!("http://{address}/mcp"), _serve: serve, _use: front })
    }
}

fn free_address() -> Result<SocketAddr, Vec<String>> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.map_err(|error| vec![error.to_string()])
}

fn wait_until_ready(address: SocketAddr) -> Result<(), Vec<String>> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if is_ready(address).unwrap_or(false) {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    Err(vec![format!("the tunnel was not ready after {PATIENCE:?}; see target/conformance/log")])
}

fn is_ready(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(head.ends_with(b" 200"))
}
