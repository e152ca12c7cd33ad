//! Command line of the peer programs, and what `--wire` means to the SDK.
mod payload;
mod steps;

pub use payload::{digest, freeze, line, text_of};
pub use steps::{Outcome, Steps, check, pause};

use contextvm_sdk::transport::OpenStreamConfig;
use contextvm_sdk::{EncryptionMode, GiftWrapMode};
use std::time::Duration;

/// The options that both programs take; see interop/README.md.
#[derive(Debug)]
pub struct Options {
    /// Relay URLs.
    pub relays: Vec<String>,
    /// Public key of the server, for the client.
    pub server: String,
    /// Secret key in hex; a new one when absent.
    pub key: Option<String>,
    /// Whether `initialize` is answered by the client itself.
    pub stateless: bool,
    /// Public keys let in; everybody when empty.
    pub allow: Vec<String>,
    /// Relays where the server announces itself; not at all when empty.
    pub announce: Vec<String>,
    /// Where the client looks for the server's relay list when it is given no relay.
    pub discovery: Vec<String>,
    /// Steps to run; all when empty.
    pub only: Vec<String>,
    /// Steps not to run.
    pub skip: Vec<String>,
    /// Whether streams are spoken.
    pub streams: bool,
    /// How long a quiet stream is left alone, and then how long an answer to a ping may take, ms.
    pub idle: Option<u64>,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Whether messages are encrypted.
    pub encryption: EncryptionMode,
    /// Which gift wraps are used.
    pub wrap: GiftWrapMode,
}

impl Options {
    /// Reads the command line; ends the program with status 2 when it makes no sense.
    pub fn read(needs_server: bool) -> Self {
        match Self::parse(std::env::args().skip(1)) {
            Ok(options)
                if !(options.relays.is_empty() && options.discovery.is_empty())
                    && (!needs_server || !options.server.is_empty()) =>
            {
                options
            }
            other => {
                let reason = other.err().unwrap_or_else(|| "--relay or --server is missing".to_owned());
                eprintln!("{reason}");
                std::process::exit(2)
            }
        }
    }

    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            relays: Vec::new(),
            server: String::new(),
            key: None,
            stateless: false,
            allow: Vec::new(),
            announce: Vec::new(),
            discovery: Vec::new(),
            only: Vec::new(),
            skip: Vec::new(),
            streams: false,
            idle: None,
            timeout: Duration::from_secs(15),
            encryption: EncryptionMode::Disabled,
            wrap: GiftWrapMode::Optional,
        };
        while let Some(name) = arguments.next() {
            if name == "--stateless" {
                options.stateless = true;
                continue;
            }
            if name == "--streams" {
                options.streams = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let list = value.split(',').map(str::to_owned);
            match name.as_str() {
                "--relay" => options.relays.extend(list),
                "--allow" => options.allow.extend(list),
                "--announce" => options.announce.extend(list),
                "--discovery" => options.discovery.extend(list),
                "--only" => options.only.extend(list),
                "--skip" => options.skip.extend(list),
                "--server" => options.server = value,
                "--key" => options.key = Some(value),
                "--idle" => options.idle = Some(value.parse().map_err(|_| "--idle is in ms".to_owned())?),
                "--timeout" => {
                    options.timeout =
                        Duration::from_millis(value.parse().map_err(|_| "--timeout is in ms".to_owned())?);
                }
                "--wire" => {
                    (options.encryption, options.wrap) = match value.as_str() {
                        "plain" => (EncryptionMode::Disabled, GiftWrapMode::Optional),
                        "persistent" => (EncryptionMode::Required, GiftWrapMode::Persistent),
                        "ephemeral" => (EncryptionMode::Required, GiftWrapMode::Ephemeral),
                        _ => return Err("--wire plain|persistent|ephemeral".to_owned()),
                    };
                }
                _ => return Err(format!("unknown option {name}")),
            }
        }
        Ok(options)
    }

    /// What the SDK is told about streams.
    pub fn open_stream(&self) -> OpenStreamConfig {
        let config = OpenStreamConfig::default().with_enabled(self.streams);
        match self.idle {
            Some(idle) => config.with_idle_timeout_ms(idle).with_probe_timeout_ms(idle),
            None => config,
        }
    }

    /// Makes or reads the key pair.
    pub fn keys(&self) -> nostr_sdk::Keys {
        match &self.key {
            None => contextvm_sdk::signer::generate(),
            Some(key) => contextvm_sdk::signer::from_sk(key).unwrap_or_else(|_| {
                eprintln!("--key is not a secret key");
                std::process::exit(2)
            }),
        }
    }
}
