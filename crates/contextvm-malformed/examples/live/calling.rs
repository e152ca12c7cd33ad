//! A client whose server and relay answer with malformed inputs before each answer.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use contextvm_client::{Client, EncryptionMode};
use contextvm_core::{event, kind};
use contextvm_malformed::Family;
use contextvm_malformed::world::{Role, World};
use nostr::event::{EventId, Tag, Tags};
use serde_json::{Value, json};

use crate::relay::{PATIENCE, Peer, Relay};
use crate::unix;

/// Inputs before each answer.
const BATCH: usize = 40;

/// Runs all inputs against a client of ours; each of its calls has to end with the honest answer.
pub(crate) fn run(relay: Relay, every: usize) -> Result<Value, String> {
    let world = World::new(unix());
    let mut frames = frames(&world, every);
    let inputs = frames.len();
    let calls = inputs.div_ceil(BATCH);
    let (url, keys, server) = (relay.url.clone(), world.caller.clone(), world.server.public_key());
    let answering = std::thread::spawn(move || {
        let mut peer = relay.meet()?;
        // A request that is repeated is answered again, so that there may be more of them than calls.
        loop {
            let batch: Vec<_> = frames.drain(..frames.len().min(BATCH)).collect();
            answer(&mut peer, &world, &batch)?;
        }
    });
    let panics = count_panics();
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let answered = runtime.block_on(async {
        let builder = Client::builder(keys, server.into()).relay(url).encryption(EncryptionMode::Disabled);
        let connected = builder.request_timeout(PATIENCE).stateless().connect().await;
        let (client, mut messages) = connected.map_err(|error| error.to_string())?;
        tokio::spawn(async move { while messages.recv().await.is_some() {} });
        let mut answered = 0;
        for call in 0..calls {
            let result = client.request("tools/call", None).await;
            let result = result.map_err(|error| format!("call {call} of {calls}: {error}"))?;
            if result.get() != r#"{"honest":true}"# {
                return Err(format!("call {call} was answered with {result}"));
            }
            answered += 1;
        }
        client.close().await;
        Ok::<_, String>(answered)
    });
    drop(runtime);
    // The relay's thread ends with the connection, and knows why it ended.
    let ended: Result<(), String> = answering.join().map_err(|_| "the relay panicked".to_owned())?;
    let answered = answered.map_err(|why| format!("{why}; the relay: {ended:?}"))?;
    let panics = panics.load(Ordering::Relaxed);
    if panics > 0 {
        return Err(format!("the client panicked {panics} times"));
    }
    Ok(
        json!({"job": "malformed", "role": "client", "inputs": inputs, "honest_calls": calls, "answered": answered, "panics": panics}),
    )
}

/// Counts panics from now on, in whatever task: one that nobody waits for would not be noticed else.
fn count_panics() -> Arc<AtomicU64> {
    let panics = Arc::new(AtomicU64::new(0));
    let (count, usual) = (Arc::clone(&panics), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        count.fetch_add(1, Ordering::Relaxed);
        usual(info);
    }));
    panics
}

/// What the relay says besides, as frames without the subscription: `Err` is said as it is.
fn frames(world: &World, every: usize) -> Vec<Result<String, String>> {
    let mut frames = Vec::new();
    for family in [Family::Events, Family::Wraps, Family::Messages, Family::Transfers, Family::Streams] {
        for case in family.cases(world, Role::Client).iter().step_by(every) {
            let is_content = !matches!(family, Family::Events | Family::Wraps);
            for input in &case.input {
                let text = if is_content {
                    event::print(&world.message(Role::Client, &[], input))
                } else {
                    input.clone()
                };
                frames.push(Ok(text));
            }
        }
    }
    let said = Family::Relays.cases(world, Role::Client);
    frames.extend(said.iter().step_by(every).map(|case| Err(case.input.concat())));
    // Damaged events come in long groups; apart from each other they cost the relay nothing.
    let size = frames.len();
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by_key(|place| place.wrapping_mul(7_919) % size.max(1));
    order.into_iter().filter_map(|place| frames.get(place).cloned()).collect()
}

/// Waits for a request, says what is malformed, then the answer.
fn answer(peer: &mut Peer, world: &World, batch: &[Result<String, String>]) -> Result<(), String> {
    let is_request = |event: &Value| {
        let content = event.get("content").and_then(Value::as_str).unwrap_or_default();
        content.contains(r#""method":"tools/call""#) && content.contains(r#""id""#)
    };
    let request = peer.wait_for(PATIENCE, is_request)?.ok_or("nothing was asked")?;
    let id =
        request.get("id").and_then(Value::as_str).and_then(|id| EventId::from_hex(id).ok()).ok_or("no id")?;
    for (nth, frame) in batch.iter().enumerate() {
        match frame {
            Ok(event) => peer.event(event)?,
            Err(text) => peer.say(text.clone())?,
        }
        // More than one damaged event in twenty would cost the relay its connection.
        for copy in 0..20 {
            peer.event(&note(world, nth * 20 + copy))?;
        }
    }
    let tags = vec![Tag::public_key(world.caller.public_key()), Tag::event(id)];
    let content = r#"{"jsonrpc":"2.0","id":0,"result":{"honest":true}}"#.to_owned();
    let answer = world.server.sign_event(kind::MESSAGE, unix(), Tags::from_list(tags), content, [9; 32]);
    // What is asked from now on is not to be missed.
    peer.event(&event::print(&answer))
}

/// One of a few true events that were seen before.
fn note(world: &World, nth: usize) -> String {
    let content = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"{}"}}}}"#,
        nth % 4
    );
    event::print(&world.message(Role::Client, &[], &content))
}
