//! Relays with faults, clients, and calls that arrive whole or fail.
use std::collections::BTreeMap;
use std::time::Duration;

use contextvm::Limits;
use contextvm::client::{CallError, Client, EncryptionMode, Messages};
use contextvm::server::Server;
use contextvm_local_relay::{Faults, LocalRelay, RelayOptions};
use serde_json::{Value, json};

use crate::application::{App, text};

pub(crate) const MIB: usize = 1024 * 1024;
/// Longer than any call may take, whatever relays do: a transfer has five minutes.
const NEVER: Duration = Duration::from_secs(400);

/// Whether the numbers are the large ones.
pub(crate) fn is_full() -> bool {
    std::env::var("CVM_LARGE").is_ok_and(|value| value == "full")
}

/// Doubles three of ten, and lets three of ten be overtaken by up to 16 others.
pub(crate) fn disorder() -> Faults {
    Faults { duplicate: 0.3, reorder: 0.3, reorder_window: 16, ..Faults::default() }
}

/// Loses one of five besides.
pub(crate) fn loss() -> Faults {
    Faults { drop: 0.2, ..disorder() }
}

pub(crate) async fn relay(seed: u64, faults: Faults) -> LocalRelay {
    LocalRelay::start(RelayOptions { seed, faults, ..RelayOptions::default() }).await.unwrap()
}

/// Three relays; the first one loses.
pub(crate) async fn storm(seed: u64) -> Vec<LocalRelay> {
    vec![relay(seed, loss()).await, relay(seed + 1, disorder()).await, relay(seed + 2, disorder()).await]
}

pub(crate) struct Stage {
    pub(crate) app: App,
    pub(crate) client: Client,
}

impl Stage {
    /// Starts a server and a client on these relays; the client has heard of the server when it returns.
    pub(crate) async fn new(relays: &[LocalRelay], mode: EncryptionMode, limits: &Limits) -> Self {
        let urls: Vec<String> = relays.iter().map(LocalRelay::url).collect();
        let builder = Server::builder(contextvm::new_keys().unwrap()).relays(urls.clone()).fresh_key();
        let listener = builder.encryption(mode).limits(limits.clone()).start().await.unwrap();
        let app = App::run(listener);
        let builder = Client::builder(contextvm::new_keys().unwrap(), app.key().into()).relays(urls);
        let builder = builder.encryption(mode).limits(limits.clone()).open_streams(true).stateless();
        let (client, messages) = builder.connect().await.unwrap();
        forget(messages);
        let stage = Self { app, client };
        for _ in 0..20 {
            if stage.client.request("ping", None).await.is_ok() {
                return stage;
            }
        }
        panic!("the server does not answer");
    }

    async fn call(&self, arguments: Value) -> Result<Value, CallError> {
        let (name, arguments) = (arguments["tool"].clone(), arguments);
        let params = json!({"name": name, "arguments": arguments});
        let params = serde_json::value::to_raw_value(&params).unwrap();
        let call = self.client.request("tools/call", Some(params));
        let result = tokio::time::timeout(NEVER, call).await.unwrap_or_else(|_| panic!("a call hangs"))?;
        Ok(serde_json::from_str(result.get()).unwrap())
    }

    /// Sends a large request.
    pub(crate) async fn up(&self, seed: u64, size: usize) -> Result<(), CallError> {
        let arguments = json!({"tool": "up", "seed": seed, "size": size, "text": text(seed, size)});
        let result = self.call(arguments).await?;
        assert_eq!(result["whole"], true, "a request comes whole or not at all");
        Ok(())
    }

    /// Asks for a large answer.
    pub(crate) async fn down(&self, seed: u64, size: usize) -> Result<(), CallError> {
        let result = self.call(json!({"tool": "down", "seed": seed, "size": size})).await?;
        assert!(
            result["text"].as_str() == Some(&text(seed, size)),
            "an answer comes as it was written or not at all"
        );
        Ok(())
    }

    /// Moves so many texts each way, two at a time unless they are very large, and says what became of them.
    pub(crate) async fn move_all(&self, count: u64, size: usize) -> [Tally; 2] {
        let lanes = if size > 8 * MIB { 1 } else { 2 };
        let lane = |first: u64| async move {
            let mut tallies = [Tally::default(), Tally::default()];
            for seed in (first..count).step_by(lanes) {
                tallies[0].note(self.up(seed, size).await);
                tallies[1].note(self.down(seed + count, size).await);
            }
            tallies
        };
        let (mut all, other) = tokio::join!(lane(0), lane(if lanes == 1 { count } else { 1 }));
        for (tally, other) in all.iter_mut().zip(other) {
            tally.add(other);
        }
        self.app.came_whole();
        all
    }

    pub(crate) async fn end(self) {
        self.client.close().await;
        self.app.handle.shutdown().await;
    }
}

/// What became of transfers in one direction.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) arrived: u64,
    pub(crate) failed: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn note(&mut self, outcome: Result<(), CallError>) {
        match outcome {
            Ok(()) => self.arrived += 1,
            Err(error) => *self.failed.entry(format!("{error:?}")).or_default() += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.arrived += other.arrived;
        for (why, count) in other.failed {
            *self.failed.entry(why).or_default() += count;
        }
    }

    pub(crate) fn all(&self) -> u64 {
        self.arrived + self.failed.values().sum::<u64>()
    }
}

/// Reads messages and throws them away.
fn forget(mut messages: Messages) {
    tokio::spawn(async move { while messages.recv().await.is_some() {} });
}
