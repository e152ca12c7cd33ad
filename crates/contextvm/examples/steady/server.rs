//! The server: answers each call with its number, and counts how often each was executed.
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use contextvm::Limits;
use contextvm::server::{Delivery, Inbound, Server, Session};
use serde::Deserialize;
use serde_json::json;

use crate::figures::Executions;
use crate::{Failure, commands};

/// The part of a request that matters here.
#[derive(Deserialize)]
pub(crate) struct Request {
    pub(crate) id: Option<serde_json::Value>,
    pub(crate) method: String,
    #[serde(default)]
    params: Params,
}

#[derive(Default, Deserialize)]
struct Params {
    #[serde(default)]
    arguments: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    number: Option<u64>,
}

impl Request {
    /// The number of the call.
    pub(crate) const fn number(&self) -> Option<u64> {
        self.params.arguments.number
    }

    /// Answers it under an id.
    pub(crate) fn answer(&self, id: &serde_json::Value) -> String {
        let result = if self.method == "initialize" {
            json!({
                "protocolVersion": "2025-11-25",
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "steady", "version": "1" },
            })
        } else {
            json!({ "content": [{ "type": "text", "text": self.number().unwrap_or_default().to_string() }] })
        };
        json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()
    }
}

/// Serves until standard input ends.
pub(crate) async fn run(relays: &[String], limits: Limits, store: Option<&Path>) -> Result<(), Failure> {
    let builder = Server::builder(contextvm::new_keys()?).relays(relays).fresh_key().limits(limits);
    let builder = match store {
        Some(store) => builder.store(store),
        None => builder,
    };
    let mut listener = builder.start().await?;
    let handle = listener.handle();
    let executions = Arc::new(Mutex::new(Executions::default()));
    let counting = Arc::clone(&executions);
    let accepting = tokio::spawn(async move {
        while let Some(session) = listener.accept().await {
            tokio::spawn(answer(session, Arc::clone(&counting)));
        }
    });
    println!("{}", json!({ "pubkey": handle.public_key().to_hex() }));
    let mut commands = commands();
    while commands.next_line().await?.is_some() {
        let drops = format!("{:?}", handle.status().stats.drops);
        println!("{}", executions.lock().unwrap_or_else(PoisonError::into_inner).figures(&drops));
    }
    handle.shutdown().await;
    accepting.await?;
    Ok(())
}

async fn answer(mut session: Session, executions: Arc<Mutex<Executions>>) {
    let sender = session.sender();
    while let Some(Inbound { delivery, message, .. }) = session.recv().await {
        let (Delivery::Request { key, .. }, Ok(request)) =
            (delivery, serde_json::from_str::<Request>(&message))
        else {
            continue;
        };
        if request.method != "initialize" {
            executions.lock().unwrap_or_else(PoisonError::into_inner).count(request.number());
        }
        if sender.send(request.answer(&key.id.to_hex().into())).await.is_err() {
            return;
        }
    }
}
