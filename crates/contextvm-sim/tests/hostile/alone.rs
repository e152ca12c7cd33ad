//! One hostile peer against one machine, without a world around: what is executed, how large the tables get, what is said.
use std::collections::{BTreeMap, BTreeSet};

use contextvm_core::{Limits, Mono, Now, Protection, WrapKind, event};
use contextvm_crypto::{Keys, open, open_plain};
use contextvm_engine::server::Delivery;
use contextvm_engine::{
    ClientConfig, ClientInput, ClientMachine, ClientOutput, DropReason, Gate, Outcome, RequestKey,
    ServerConfig, ServerInput, ServerMachine, ServerOutput,
};
use contextvm_sim::hostile::{Chances, Deed, Forge, HostileClient, HostileServer, Issue, texts};
use nostr::event::{Event, EventId};

const UNIX: u64 = 1_700_000_000;

const fn at(ms: u64) -> Now {
    Now { mono: Mono(ms), unix: UNIX + ms / 1_000 }
}

/// Opens an event as a driver does.
fn opened(
    gate: &mut Gate,
    event: &Event,
    keys: &Keys,
    now: Now,
) -> Result<contextvm_core::Opened, Option<DropReason>> {
    let outer = gate.admit(&event::print(event), 0, now).map_err(Some)?;
    let limits = Limits::default();
    let (id, signature) = (outer.event.id, outer.event.sig);
    let opened = match outer.kind {
        Protection::Plain => open_plain(outer.event, &keys.public_key(), now.unix, &limits),
        Protection::Wrapped(_) => open(&outer.event, keys, now.unix, &limits),
    };
    match opened {
        Ok(opened) => {
            gate.opened(opened.outer());
            Ok(opened)
        }
        Err(_) => {
            gate.refused(id, &signature);
            Err(None)
        }
    }
}

/// What became of one battle of a server.
#[derive(Debug, Default)]
struct Server {
    issued: BTreeMap<RequestKey, Issue>,
    executed: BTreeSet<RequestKey>,
    drops: BTreeMap<DropReason, u64>,
    unopened: u64,
    published: u64,
}

/// A server under one hostile client for so many seconds; its application answers at once.
fn server_under(deeds: Chances, seconds: u64, seed: u64) -> (Server, HostileClient) {
    let mut forge = Forge::new(seed);
    let (keys, honest, discreet) = (forge.keys(), forge.keys(), forge.keys());
    let me = keys.public_key();
    let others = vec![me, me, forge.keys().public_key()];
    let mut client = HostileClient::new(deeds, seed, forge.keys(), others);
    let config = ServerConfig::default();
    let limits = config.limits.clone();
    let mut gate = Gate::for_server(me, &config);
    let mut machine = ServerMachine::new(config, me, [1; 32]);
    let mut found = Server::default();
    let mut due: BTreeMap<(u64, u64), Event> = BTreeMap::new();
    let mut count = 0;
    for second in 0..seconds {
        let unix = UNIX + second;
        let call =
            forge.message(&honest, &me, unix, [], texts::call("1", Some("\"1\""), &second.to_string()));
        let issue = |event: &Event| Issue {
            author: event.pubkey,
            server: me,
            id: event.id,
            content: event.content.clone(),
        };
        found.issued.insert(RequestKey { caller: call.pubkey, id: call.id }, issue(&call));
        client.hears(&call);
        // Half of the honest calls are sealed, by another client than the one that speaks in clear.
        let sealed =
            forge.message(&discreet, &me, unix, [], texts::call("1", Some("\"1\""), &second.to_string()));
        found.issued.insert(RequestKey { caller: sealed.pubkey, id: sealed.id }, issue(&sealed));
        let wrapped = Protection::Wrapped(WrapKind::Persistent);
        let wrap = forge.protect(&sealed, &me, wrapped, unix).expect("it is small");
        client.hears(&wrap);
        due.insert((second * 1_000, count), call);
        count += 1;
        due.insert((second * 1_000, count), wrap);
        for act in client.idles(unix) {
            count += 1;
            if let Some(issue) = act.issue {
                found.issued.insert(RequestKey { caller: issue.author, id: issue.id }, issue);
            }
            due.insert((second * 1_000 + act.after / 1_000, count), act.event);
        }
        while let Some(entry) = due.first_entry().filter(|entry| entry.key().0 < (second + 1) * 1_000) {
            let now = at(entry.key().0);
            let event = entry.remove();
            match opened(&mut gate, &event, &keys, now) {
                Ok(opened) => machine.handle(ServerInput::Opened(Box::new(opened)), now),
                Err(Some(reason)) => *found.drops.entry(reason).or_default() += 1,
                Err(None) => found.unopened += 1,
            }
            found.drain(&mut machine, now);
            let load = machine.load();
            assert!(load.in_flight <= limits.in_flight && load.in_flight_bytes <= limits.in_flight_bytes);
            assert!(load.sessions <= limits.sessions && load.stranger_sessions <= limits.stranger_sessions);
            assert!(load.seen_ids <= limits.seen_ids && load.ledger_bytes <= limits.ledger_bytes);
            assert!(
                load.transfers_in <= limits.transfers && load.transfers_in_bytes <= limits.transfers_bytes
            );
            assert!(load.streams <= limits.streams);
        }
    }
    // Whatever was begun ends by itself.
    for wakes in 0.. {
        let Some((mono, _)) = machine.poll_timeout() else { break };
        assert!(wakes < 100_000, "the timers run down");
        let now = at(mono.0.max(seconds * 1_000));
        machine.handle(ServerInput::Wake, now);
        found.drain(&mut machine, now);
    }
    let load = machine.load();
    assert_eq!((load.transfers_in, load.transfers_in_bytes, load.streams, load.in_flight), (0, 0, 0, 0));
    (found, client)
}

impl Server {
    fn drain(&mut self, machine: &mut ServerMachine, now: Now) {
        while let Some(output) = machine.poll_output() {
            match output {
                ServerOutput::Publish(outbound) => {
                    self.published += 1;
                    machine.handle(ServerInput::Published(outbound.ticket, Outcome::Accepted), now);
                }
                ServerOutput::Deliver { caller, delivery, event, .. } => {
                    let key = RequestKey { caller, id: event.id };
                    assert!(self.issued.contains_key(&key), "nobody issued {}", event.content);
                    assert!(self.executed.insert(key), "twice: {}", event.content);
                    if let Delivery::Request { key, .. } = delivery {
                        let message = texts::answer(&format!("\"{}\"", key.id.to_hex()), "done");
                        machine.handle(ServerInput::Send { to: caller, message }, now);
                    }
                }
                ServerOutput::Refused { reason, .. } | ServerOutput::Drop(reason) => {
                    *self.drops.entry(reason).or_default() += 1
                }
                _ => {}
            }
        }
    }
}

#[test]
fn no_deed_of_a_client_is_executed_that_was_not_issued() {
    for deed in Deed::of("client") {
        let (server, client) = server_under(Chances::default().with(deed, 1_000), 30, 7);
        assert!(client.mood().deeds.get(deed) > 0, "{}", deed.name());
        let honest = server.executed.iter().filter(|key| key.caller != client.keys().public_key()).count();
        assert!(honest >= 60, "{}: {honest} of 60 honest calls were executed", deed.name());
    }
}

#[test]
fn each_lie_of_a_client_is_dropped_for_its_own_reason() {
    let table = [
        (Deed::ClientRepeats, DropReason::Duplicate),
        (Deed::ClientBombs, DropReason::Budget),
        (Deed::ClientBatches, DropReason::Malformed),
        (Deed::ClientResponses, DropReason::Uncorrelated),
        (Deed::ClientCancels, DropReason::UnknownRequest),
        (Deed::ClientOldEvents, DropReason::Stale),
        (Deed::ClientOtherAudience, DropReason::Audience),
        (Deed::ClientOtherKinds, DropReason::Kind),
        (Deed::ClientSharedTokens, DropReason::UnknownRequest),
    ];
    for (deed, reason) in table {
        let chances = Chances::default().with(deed, 1_000).with(Deed::ClientCalls, 500);
        let (server, _) = server_under(chances, 30, 8);
        assert!(
            server.drops.get(&reason).is_some_and(|count| *count > 2),
            "{}: {:?}",
            deed.name(),
            server.drops
        );
    }
    for deed in [Deed::ClientFloods, Deed::ClientForges] {
        let (server, _) = server_under(Chances::default().with(deed, 1_000), 30, 9);
        assert!(server.unopened > 5, "{}", deed.name());
    }
}

#[test]
fn all_deeds_of_a_client_together_exceed_no_limit() {
    for seed in 0..2 {
        let (server, client) = server_under(Chances::every("client", 300), 90, seed);
        assert!(Deed::of("client").all(|deed| client.mood().deeds.get(deed) > 0));
        assert!(server.executed.len() > 60);
    }
}

/// What became of one battle of a client.
#[derive(Debug, Default)]
struct Client {
    begun: u64,
    ended: BTreeMap<String, u64>,
    drops: BTreeMap<DropReason, u64>,
    unopened: u64,
}

/// A client that calls a hostile server once a second.
fn client_under(deeds: Chances, seconds: u64, seed: u64) -> (Client, HostileServer) {
    let mut forge = Forge::new(seed);
    let (keys, other) = (forge.keys(), forge.keys().public_key());
    let mut server = HostileServer::new(deeds, seed, forge.keys(), vec![other]);
    let me = keys.public_key();
    let config = ClientConfig { open_streams: true, ..ClientConfig::new(server.keys().public_key()) };
    let mut gate = Gate::for_client(me, &config);
    let mut machine = ClientMachine::new(config, me, [1; 32]);
    let mut found = Client::default();
    let mut due: BTreeMap<(u64, u64), Event> = BTreeMap::new();
    let mut count = 0;
    let mut made: BTreeMap<u64, Event> = BTreeMap::new();
    let mut now = at(0);
    for second in 0..seconds + 400 {
        now = at(second * 1_000);
        if second < seconds {
            let fill = if second % 7 == 3 { "w".repeat(120_000) } else { second.to_string() };
            let text = match second {
                0 => texts::initialize("0"),
                _ => texts::call(&second.to_string(), (second % 2 == 0).then_some("\"t\""), &fill),
            };
            found.begun += 1;
            let input =
                if second % 3 == 0 { ClientInput::SendReading(text) } else { ClientInput::Send(text) };
            machine.handle(input, now);
        }
        let idle = server.idles(now.unix);
        let mut acts: Vec<(u64, Event)> = idle.into_iter().map(|act| (act.after, act.event)).collect();
        loop {
            acts.extend(found.drain(&mut machine, &keys, &mut server, &mut forge, &mut made, now));
            for (after, event) in acts.drain(..) {
                count += 1;
                due.insert((now.mono.0 + after / 1_000, count), event);
            }
            let next = due.first_key_value().map(|((at, _), _)| *at);
            let wake = machine.poll_timeout().map(|(mono, _)| mono.0);
            let end = (second + 1) * 1_000;
            let Some(first) = next.into_iter().chain(wake).min().filter(|first| *first < end) else { break };
            now = at(first.max(now.mono.0));
            if next.is_some_and(|next| next <= first)
                && let Some((_, event)) = due.pop_first()
            {
                match opened(&mut gate, &event, &keys, now) {
                    Ok(opened) => machine.handle(ClientInput::Opened(Box::new(opened)), now),
                    Err(Some(reason)) => *found.drops.entry(reason).or_default() += 1,
                    Err(None) => found.unopened += 1,
                }
            } else {
                machine.handle(ClientInput::Wake, now);
            }
        }
    }
    assert_eq!(machine.pending_calls(), 0, "{:?}", now);
    (found, server)
}

impl Client {
    fn drain(
        &mut self,
        machine: &mut ClientMachine,
        keys: &Keys,
        server: &mut HostileServer,
        forge: &mut Forge,
        made: &mut BTreeMap<u64, Event>,
        now: Now,
    ) -> Vec<(u64, Event)> {
        let mut acts = Vec::new();
        let hears = |server: &mut HostileServer, forge: &mut Forge, inner: &Event, protection| {
            let to = server.keys().public_key();
            let outer = forge.protect(inner, &to, protection, now.unix).expect("it is small");
            server.hears(&outer, now.unix)
        };
        while let Some(output) = machine.poll_output() {
            match output {
                ClientOutput::Publish(outbound) => {
                    let inner = keys.sign_draft(&outbound.draft, forge.bytes());
                    acts.extend(hears(server, forge, &inner, outbound.protection));
                    made.insert(outbound.ticket.0, inner);
                    machine.handle(ClientInput::Published(outbound.ticket, Outcome::Accepted), now);
                }
                ClientOutput::Republish { ticket, .. } => {
                    assert!(made.contains_key(&ticket.0), "what is published again was published");
                    machine.handle(ClientInput::Published(ticket, Outcome::Accepted), now);
                }
                ClientOutput::Forget(ticket) => {
                    made.remove(&ticket.0);
                }
                ClientOutput::Deliver { message, .. } => {
                    let limits = Limits::default();
                    let message = contextvm_core::Envelope::parse(&message, &limits).expect("it is JSON-RPC");
                    if message.method.is_none() {
                        let id = message.id.expect("an answer has an id").get().to_owned();
                        *self.ended.entry(id).or_default() += 1;
                    }
                }
                ClientOutput::Drop(reason) => *self.drops.entry(reason).or_default() += 1,
                _ => {}
            }
        }
        acts.into_iter().map(|act| (act.after, act.event)).collect()
    }
}

#[test]
fn every_call_to_a_hostile_server_ends_exactly_once() {
    for deed in Deed::of("server") {
        let chances = Chances::default().with(deed, 1_000).with(Deed::ServerAnswers, 700);
        let (client, server) = client_under(chances, 30, 7);
        assert!(deed == Deed::ServerNobody || server.mood().deeds.get(deed) > 0, "{}", deed.name());
        assert_eq!(client.ended.len() as u64, client.begun, "{}", deed.name());
        assert!(client.ended.values().all(|count| *count == 1), "{}: {:?}", deed.name(), client.ended);
    }
}

#[test]
fn every_call_ends_exactly_once_whatever_a_server_does_at_once() {
    for seed in 0..2 {
        let (client, server) = client_under(Chances::every("server", 300), 60, seed);
        assert!(Deed::of("server").all(|deed| server.mood().deeds.get(deed) > 0));
        assert_eq!(client.ended.len() as u64, client.begun);
        assert!(client.ended.values().all(|count| *count == 1), "{:?}", client.ended);
    }
}

#[test]
fn each_lie_of_a_server_is_dropped_for_its_own_reason() {
    let table = [
        (Deed::ServerDoubleAnswers, DropReason::Uncorrelated),
        (Deed::ServerWrongRequest, DropReason::Uncorrelated),
        (Deed::ServerNoRequest, DropReason::Uncorrelated),
        (Deed::ServerNobody, DropReason::Uncorrelated),
        (Deed::ServerDowngrades, DropReason::BelowFloor),
        (Deed::ServerAsks, DropReason::Unsupported),
        (Deed::ServerOtherKey, DropReason::WrongAuthor),
        (Deed::ServerBombs, DropReason::Budget),
    ];
    for (deed, reason) in table {
        let chances = Chances::default().with(deed, 600).with(Deed::ServerAnswers, 900);
        let (client, _) = client_under(chances, 40, 8);
        assert!(
            client.drops.get(&reason).is_some_and(|count| *count > 0),
            "{}: {:?}",
            deed.name(),
            client.drops
        );
    }
    let chances = Chances::default().with(Deed::ServerOldAnswers, 900).with(Deed::ServerAnswers, 900);
    let (client, _) = client_under(chances, 30, 9);
    assert!(client.unopened > 0);
}

#[test]
fn an_id_is_what_a_gate_remembers_not_a_copy() {
    // A forged copy that comes first does not keep the true event out.
    let mut forge = Forge::new(1);
    let (keys, author) = (forge.keys(), forge.keys());
    let me = keys.public_key();
    let mut gate = Gate::for_server(me, &ServerConfig::default());
    let event = forge.message(&author, &me, UNIX, [], texts::call("1", None, "x"));
    let forged = forge.altered(&event, contextvm_sim::hostile::Field::Signature, false);
    assert!(opened(&mut gate, &forged, &keys, at(0)).is_err());
    let ids: BTreeSet<EventId> = [forged.id, event.id].into();
    assert_eq!(ids.len(), 1);
    assert!(opened(&mut gate, &event, &keys, at(1)).is_ok());
}
