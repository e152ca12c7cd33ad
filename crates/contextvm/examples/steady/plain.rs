//! A server that promises nothing: it knows the ids of events and not those of requests, as existing servers do.
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use contextvm::core::{Draft, Limits, WrapKind, event, kind, tags};
use contextvm::crypto::{Entropy, Keys, open, seal};
use contextvm::relay::{Filter, Inbox, Incoming, PublishEvent, Relays, RelaysConfig};
use contextvm::runtime::clock::unix_now;
use serde_json::json;

use crate::figures::Executions;
use crate::server::Request;
use crate::{Failure, commands};

/// Serves until standard input ends.
pub(crate) async fn run(relay: &str) -> Result<(), Failure> {
    let keys = contextvm::new_keys()?;
    let me = keys.public_key();
    let filter = format!(r##"{{"kinds":[{}],"#p":["{}"]}}"##, kind::EPHEMERAL_GIFT_WRAP, me.to_hex());
    let config = RelaysConfig::new([relay.parse()?])
        .with_filter(Filter::new(&filter, Duration::from_secs(Limits::default().age_window))?);
    let (relays, inbox) = Relays::connect(config)?;
    let server = Server { keys, relays: relays.clone(), executions: Mutex::default() };
    if !relays.ready(Duration::from_secs(10)).await {
        return Err("the relay does not listen".into());
    }
    println!("{}", json!({ "pubkey": me.to_hex() }));
    let mut commands = commands();
    let serving = server.serve(inbox);
    tokio::pin!(serving);
    loop {
        tokio::select! {
            ended = &mut serving => return ended,
            line = commands.next_line() => {
                if line?.is_none() {
                    return Ok(());
                }
                println!("{}", server.executions.lock().unwrap_or_else(PoisonError::into_inner).figures(""));
            }
        }
    }
}

struct Server {
    keys: Keys,
    relays: Relays,
    executions: Mutex<Executions>,
}

impl Server {
    async fn serve(&self, mut inbox: Inbox) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        while let Some(incoming) = inbox.recv().await {
            if let Incoming::Event { json, .. } = incoming
                && let Some(wrap) = event::read(&json)
                && seen.insert(wrap.id)
            {
                self.take(&wrap)?;
            }
        }
        Ok(())
    }

    fn take(&self, wrap: &nostr::event::Event) -> Result<(), Failure> {
        let now = unix_now();
        let Ok(opened) = open(wrap, &self.keys, now, &Limits::default()) else { return Ok(()) };
        let inner = opened.event();
        let Ok(request) = serde_json::from_str::<Request>(&inner.content) else { return Ok(()) };
        let Some(id) = &request.id else { return Ok(()) };
        if request.number().is_some() {
            self.executions.lock().unwrap_or_else(PoisonError::into_inner).count(request.number());
        }
        let answered = [tags::recipient(&inner.pubkey), tags::answered(&inner.id)];
        let answered = answered.into_iter().collect();
        let draft = Draft::new(self.keys.public_key(), now, answered, request.answer(id));
        let mut aux = [0; 32];
        getrandom::fill(&mut aux)?;
        let entropy = Entropy::gather(getrandom::fill)?;
        let signed = self.keys.sign_draft(&draft, aux);
        let wrap = seal(&signed, &inner.pubkey, WrapKind::Ephemeral, now, &entropy)?;
        // It is queued when this returns; an answer that no relay takes is lost, as with any server without a ledger.
        drop(self.relays.publish(PublishEvent { id: wrap.id, json: event::print(&wrap).into() }));
        Ok(())
    }
}
