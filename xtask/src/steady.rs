//! The parts of `chaos` and `soak`: relays, a server and its callers, each a process of its own.
use std::time::Duration;

use serde_json::{Value, json};

use crate::examples::{Build, ask};
use crate::figures::{figure, rounded};
use crate::process::Process;
use crate::shell::root;

/// Where servers of one run keep what must survive a restart, below the root of the workspace.
const STORES: &str = "target/steady";

/// Which load a run has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) build: Build,
    pub(crate) relays: usize,
    pub(crate) callers: usize,
    pub(crate) per_second: u32,
    /// Seconds that accepted ids and answers are remembered, less the skew of a minute.
    pub(crate) window: u64,
    /// Seconds after which a caller gives a call up.
    pub(crate) timeout: u64,
    /// The server promises nothing: it executes what it is sent again in a new wrap.
    pub(crate) plain: bool,
}

/// A server and its callers on some relays.
pub(crate) struct Steady {
    load: Load,
    relays: Vec<(Process, String)>,
    pub(crate) server: Process,
    pub(crate) callers: Process,
}

impl Steady {
    /// Starts everything; nobody calls yet.
    pub(crate) fn start(load: Load) -> Result<Self, Vec<String>> {
        let mut relays = Vec::new();
        for _ in 0..load.relays {
            let mut relay = load.build.start("relay", &["0"])?;
            let url = relay.text("url")?;
            relays.push((relay, url));
        }
        let urls: Vec<&str> = relays.iter().map(|(_, url)| url.as_str()).collect();
        let (urls, window) = (urls.join(","), load.window.to_string());
        let mut server = if load.plain {
            load.build.start("steady", &["plain", &urls])?
        } else {
            // With a store, as `cvm serve` has one.
            load.build.start("steady", &["server", &urls, &window, &fresh_store()?])?
        };
        let key = server.text("pubkey")?;
        let (callers, rate) = (load.callers.to_string(), load.per_second.to_string());
        let words = ["load", &urls, &key, &callers, &rate, &window, &load.timeout.to_string()];
        let mut callers = load.build.start("steady", &words)?;
        callers.line()?;
        Ok(Self { load, relays, server, callers })
    }

    /// Kills a relay and starts it again on the same port after a while.
    pub(crate) fn kill(&mut self, which: usize, outage: Duration) -> Result<(), Vec<String>> {
        let Some((relay, url)) = self.relays.get_mut(which) else {
            return Err(vec![format!("there is no relay {which}")]);
        };
        let port = url.rsplit(':').next().unwrap_or_default().to_owned();
        ask(&mut self.callers, "down")?;
        relay.kill();
        std::thread::sleep(outage);
        *relay = self.load.build.start("relay", &[&port])?;
        relay.line()?;
        ask(&mut self.callers, "back")?;
        Ok(())
    }

    /// Descriptors, tasks and memory of server and callers.
    pub(crate) fn held(&mut self) -> Result<Value, Vec<String>> {
        let server = ask(&mut self.server, "figures")?;
        let callers = ask(&mut self.callers, "held")?;
        let part = |seen: &Value, process: &Process| {
            Ok::<_, Vec<String>>(json!({
                "descriptors": figure(seen, "/descriptors")?,
                "tasks": figure(seen, "/tasks")?,
                "rss_mib": rounded(process.rss_mb()),
            }))
        };
        Ok(json!({ "server": part(&server, &self.server)?, "callers": part(&callers, &self.callers)? }))
    }

    /// Resident memory of server, callers and the first relay, MiB.
    pub(crate) fn rss_mib(&self) -> [f64; 3] {
        let relay = self.relays.first().map_or(0.0, |(relay, _)| relay.rss_mb());
        [self.server.rss_mb(), self.callers.rss_mb(), relay]
    }
}

/// A file for the store of one server; the process makes it.
fn fresh_store() -> Result<String, Vec<String>> {
    let folder = root().join(STORES);
    let wrong = |error: std::io::Error| vec![format!("{}: {error}", folder.display())];
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(wrong)?;
    }
    std::fs::create_dir_all(&folder).map_err(wrong)?;
    Ok(folder.join("store").display().to_string())
}
