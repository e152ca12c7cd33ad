//! The server under attack: answers calls, counts how often each was executed, and says what it counted when asked.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contextvm::server::{
    Access, Delivery, Inbound, RequestKey, Server, ServerHandle, Session, SessionSender,
};
use serde_json::{Value, json};

use crate::made::{POOL, pool};
use crate::{ALLOWED, Failure, SERVER, commands, keys, logs, public_key};

/// How often each call was executed, by the number that it carries.
type Executed = Arc<Mutex<BTreeMap<u64, u32>>>;

/// Serves until standard input ends; a line of it is answered with the counters.
pub(crate) async fn run(access: &str, store: Option<&Path>, relays: &[&str]) -> Result<(), Failure> {
    logs::count();
    let mut said = commands();
    let mut builder = Server::builder(keys(SERVER)?).relays(relays.iter().copied());
    if let Some(store) = store {
        builder = builder.store(store);
    }
    if access != "open" {
        let mut allowed = (1..=ALLOWED).map(public_key).collect::<Result<BTreeSet<_>, _>>()?;
        if access == "listed" {
            let pool = (0..POOL).map(|nth| Ok(pool(nth)?.public_key()));
            allowed.extend(pool.collect::<Result<Vec<_>, Failure>>()?);
        }
        // An announced server says its refusals: the worst case for what strangers can make it publish.
        builder = builder.access(Access { allowed: Some(allowed), announced: true, ..Access::default() });
    }
    let mut listener = builder.start().await?;
    let handle = listener.handle();
    let executed = Executed::default();
    println!("{}", json!({ "pubkey": handle.public_key().to_hex() }));
    loop {
        tokio::select! {
            session = listener.accept() => match session {
                Some(session) => drop(tokio::spawn(answer(session, Arc::clone(&executed)))),
                None => return Ok(()),
            },
            line = said.recv() => match line {
                Some(_) => println!("{}", counters(&handle, &executed)),
                None => break,
            },
        }
    }
    handle.shutdown().await;
    Ok(())
}

async fn answer(mut session: Session, executed: Executed) {
    let sender = session.sender();
    while let Some(Inbound { delivery, message, .. }) = session.recv().await {
        let Delivery::Request { key, .. } = delivery else { continue };
        if message.contains(r#""name":"stream""#) {
            drop(tokio::spawn(stream(sender.clone(), key, message)));
            continue;
        }
        let number = argument(&message, "number");
        if let Some(number) = number {
            *executed.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_default() += 1;
        }
        let (id, text) = (key.id.to_hex(), number.unwrap_or_default());
        let reply = format!(
            r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#
        );
        if sender.send(reply).await.is_err() {
            return;
        }
    }
}

/// Streams as many chunks as the call asks for, then answers with how many there were.
async fn stream(sender: SessionSender, key: RequestKey, message: String) {
    let [chunks, bytes, pause] =
        ["chunks", "bytes", "pause"].map(|name| argument(&message, name).unwrap_or(0));
    let mut writer = sender.stream(key);
    let mut written = 0;
    while written < chunks && writer.write(&"x".repeat(usize::try_from(bytes).unwrap_or(0))).await.is_ok() {
        written += 1;
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    // A stream that failed is told to the caller by its answer.
    let _told = writer.close().await;
    let id = key.id.to_hex();
    let reply = format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"written":{written}}}}}"#);
    let _gone = sender.send(reply).await;
}

/// Finds a number in the text of a call.
fn argument(message: &str, name: &str) -> Option<u64> {
    let (_, rest) = message.split_once(&format!("\"{name}\":"))?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn counters(handle: &ServerHandle, executed: &Executed) -> Value {
    let stats = handle.status().stats;
    let drops: BTreeMap<_, _> = stats.drops.iter().map(|(reason, count)| (reason.name(), *count)).collect();
    let [errors, warnings, info, debug] = logs::read();
    let executed = executed.lock().unwrap_or_else(PoisonError::into_inner);
    json!({
        "received": stats.received,
        "opened": stats.opened,
        "unopened": stats.unopened,
        "accepted": stats.accepted,
        "drops": drops,
        "executed": executed.len(),
        "doubled": executed.values().filter(|times| **times > 1).count(),
        "lines": { "error": errors, "first_error": logs::first_error(), "warn": warnings, "info": info, "debug": debug },
    })
}
