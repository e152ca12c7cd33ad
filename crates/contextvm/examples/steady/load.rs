//! Callers at a constant rate, whatever becomes of the calls before.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use contextvm::client::{CallError, Client, EncryptionMode, GiftWrapMode};
use contextvm::{Limits, ServerIdentity};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::figures::{Times, error_logs, held, is_read};
use crate::outages::Outages;
use crate::{Failure, commands};

/// How often it is looked whether everybody is connected again.
const LOOK: Duration = Duration::from_millis(5);

/// What to do.
pub(crate) struct Plan {
    pub(crate) relays: Vec<String>,
    pub(crate) server: ServerIdentity,
    pub(crate) callers: usize,
    pub(crate) per_second: u32,
    pub(crate) limits: Limits,
}

/// What came of it so far.
#[derive(Default)]
struct Seen {
    answered: u64,
    /// Answers that belong to another call.
    misdelivered: u64,
    /// Calls that ended otherwise, by what the caller was told.
    failed: BTreeMap<String, u64>,
    all: Times,
    /// Since the figures were last asked for.
    lately: Times,
    recovered: Times,
    reconnected: Times,
    outages: Outages,
}

#[derive(Default)]
struct Shared {
    begun: AtomicU64,
    seen: Mutex<Seen>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls until told to stop; ends with standard input.
pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let mut callers = Vec::new();
    for _ in 0..plan.callers {
        callers.push(caller(&plan).await?);
    }
    println!("{}", json!({ "warm": true }));
    let shared = Arc::new(Shared::default());
    let mut calling: Option<JoinHandle<()>> = None;
    // A permit for every call that may be under way at once.
    let most = plan.limits.pending * plan.callers;
    let under_way = Arc::new(Semaphore::new(most));
    let mut commands = commands();
    while let Some(line) = commands.next_line().await? {
        match line.trim() {
            "go" => {
                let (callers, shared, under_way) =
                    (callers.clone(), Arc::clone(&shared), Arc::clone(&under_way));
                calling = Some(tokio::spawn(call_on(callers, shared, under_way, plan.per_second)));
            }
            "stop" => {
                if let Some(calling) = calling.take() {
                    calling.abort();
                }
                let all = under_way.acquire_many(u32::try_from(most)?).await?;
                drop(all);
            }
            "down" => shared.seen().outages.down(Instant::now()),
            "back" => {
                shared.seen().outages.back(Instant::now());
                tokio::spawn(watch(callers.clone(), Arc::clone(&shared)));
            }
            "figures" | "held" => {}
            other => {
                println!("{}", json!({ "error": format!("what is {other}?") }));
                continue;
            }
        }
        println!("{}", figures(&shared, &callers));
    }
    for caller in callers {
        caller.close().await;
    }
    Ok(())
}

async fn caller(plan: &Plan) -> Result<Client, Failure> {
    let builder = Client::builder(contextvm::new_keys()?, plan.server.clone()).relays(&plan.relays);
    let builder = builder.encryption(EncryptionMode::Required).gift_wrap(GiftWrapMode::Ephemeral);
    let (client, _messages) = builder.limits(plan.limits.clone()).connect().await?;
    let hello = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": { "name": "steady", "version": "1" },
    });
    client.request("initialize", Some(to_raw_value(&hello)?)).await?;
    client.notify("notifications/initialized", None).await?;
    Ok(client)
}

/// Begins a call whenever one is due, by each caller in turn: every fourth is one that may always be repeated.
async fn call_on(callers: Vec<Client>, shared: Arc<Shared>, under_way: Arc<Semaphore>, per_second: u32) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    for caller in callers.iter().cycle() {
        ticks.tick().await;
        let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else { return };
        let (caller, shared) = (caller.clone(), Arc::clone(&shared));
        let number = shared.begun.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            call(&caller, number, &shared).await;
            drop(permit);
        });
    }
}

async fn call(caller: &Client, number: u64, shared: &Shared) {
    let (method, params) = if is_read(number) {
        ("prompts/get", json!({ "name": "count", "arguments": { "number": number } }))
    } else {
        ("tools/call", json!({ "name": "count", "arguments": { "number": number } }))
    };
    let begun = Instant::now();
    let outcome = match to_raw_value(&params) {
        Ok(params) => caller.request(method, Some(params)).await,
        Err(_) => return,
    };
    let ended = Instant::now();
    let mut seen = shared.seen();
    match outcome {
        Ok(result) => {
            seen.answered += 1;
            seen.misdelivered += u64::from(!is_answer(&result, number));
            let took = ended - begun;
            seen.all.add(took);
            seen.lately.add(took);
            if let Some(recovery) = seen.outages.recovery(begun, ended) {
                seen.recovered.add(recovery);
            }
        }
        Err(error) => *seen.failed.entry(words(method, &error)).or_default() += 1,
    }
}

fn is_answer(result: &RawValue, number: u64) -> bool {
    let value: Value = serde_json::from_str(result.get()).unwrap_or_default();
    value.pointer("/content/0/text").and_then(Value::as_str).is_some_and(|text| text == number.to_string())
}

/// What a caller is told: the reason, and whether it may call again.
fn words(method: &str, error: &CallError) -> String {
    let reason = match error {
        CallError::Server { code, message, .. } => format!("server {code} {message}"),
        CallError::Lost { why, .. } => format!("{why:?}"),
        CallError::Answer => "answer".to_owned(),
        CallError::Ended => "ended".to_owned(),
        CallError::Closed => "closed".to_owned(),
        _ => "other".to_owned(),
    };
    let again = if error.is_retryable() { "may be called again" } else { "may have been executed" };
    format!("{method}: {reason}, {again}")
}

/// Notes when each caller's subscriptions live again.
async fn watch(callers: Vec<Client>, shared: Arc<Shared>) {
    let back = Instant::now();
    let is_connected = |caller: &Client| caller.status().relays.iter().all(|(_, live)| *live);
    let mut left: Vec<Client> = callers.into_iter().filter(|caller| !is_connected(caller)).collect();
    while !left.is_empty() {
        tokio::time::sleep(LOOK).await;
        let now = Instant::now();
        let before = left.len();
        left.retain(|caller| !is_connected(caller));
        for _ in left.len()..before {
            shared.seen().reconnected.add(now - back);
        }
    }
}

fn figures(shared: &Shared, callers: &[Client]) -> Value {
    let (descriptors, tasks) = held();
    let mut seen = shared.seen();
    let lately = std::mem::take(&mut seen.lately);
    let live = callers.iter().filter(|caller| caller.status().relays.iter().all(|(_, live)| *live)).count();
    json!({
        "calls": shared.begun.load(Ordering::Relaxed),
        "answered": seen.answered,
        "misdelivered": seen.misdelivered,
        "failed": seen.failed,
        "error_logs": error_logs(),
        "all": seen.all.figures(),
        "lately": lately.figures(),
        "recovered": seen.recovered.figures(),
        "reconnected": seen.reconnected.figures(),
        "live_callers": live,
        "descriptors": descriptors,
        "tasks": tasks,
    })
}
