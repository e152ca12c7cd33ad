//! A server reached through Nostr: `cvm use --http` <- relay <- `cvm serve`.
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
pub(crate) struct Nostr {
    /// The binary.
    cvm: String,
    relay: String,
    /// Where both ends of every tunnel log, below the root of the workspace.
    log: String,
    /// Lives as long as tunnels are wanted; `None` where another process keeps it.
    _relay: Option<Process>,
}

/// One server behind Nostr; both ends are killed when it is dropped.
pub(crate) struct Tunnel {
    /// Where it is reached over HTTP.
    pub(crate) url: String,
    /// Its key on Nostr.
    pub(crate) key: String,
    _serve: Process,
    _use: Process,
}

impl Nostr {
    /// Starts a relay; tunnels log in `log`, a directory below the root of the workspace.
    pub(crate) fn start(cvm: &str, log: &str) -> Result<Self, Vec<String>> {
        let mut process = Process::start(cvm, &["relay", "run", "--port", "0", "--json"])?;
        let relay = process.text("url")?;
        Ok(Self { _relay: Some(process), ..Self::at(cvm, &relay, log) })
    }

    /// Uses a relay that runs already.
    pub(crate) fn at(cvm: &str, relay: &str, log: &str) -> Self {
        Self { cvm: cvm.to_owned(), relay: relay.to_owned(), log: log.to_owned(), _relay: None }
    }

    /// The words that [`Self::at`] takes.
    pub(crate) fn words(&self) -> [&str; 2] {
        [&self.cvm, &self.relay]
    }

    /// Puts `upstream`, options of `cvm serve` with a URL or a command, behind Nostr; what both ends say is kept in `NAME-*.txt`.
    pub(crate) fn tunnel(&self, upstream: &[&str], name: &str) -> Result<Tunnel, Vec<String>> {
        let log = |end: &str| -> PathBuf { root().join(&self.log).join(format!("{name}-{end}.txt")) };
        let serve = ["serve", "--ephemeral", "--open", "--json", "-v", "--relay", &self.relay];
        let mut serve = Process::start_logged(&self.cvm, &[&serve, upstream].concat(), &log("serve"))?;
        let key = serve.text("server")?;
        let address = free_address()?;
        let place = address.to_string();
        let args =
            ["use", &key, "--key", "ephemeral", "-v", "--relay", &self.relay, "--http", &place, "--no-token"];
        let front = Process::start_logged(&self.cvm, &args, &log("use"))?;
        if !is_ready_in_time(address) {
            return Err(vec![format!(
                "{name}: the tunnel was not ready after {PATIENCE:?}; see {}",
                self.log
            )]);
        }
        Ok(Tunnel { url: format!("http://{address}/mcp"), key, _serve: serve, _use: front })
    }
}

fn free_address() -> Result<SocketAddr, Vec<String>> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.map_err(|error| vec![error.to_string()])
}

fn is_ready_in_time(address: SocketAddr) -> bool {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if is_ready(address).unwrap_or(false) {
            return true;
        }
        sleep(Duration::from_millis(50));
    }
    false
}

fn is_ready(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(head.ends_with(b" 200"))
}
