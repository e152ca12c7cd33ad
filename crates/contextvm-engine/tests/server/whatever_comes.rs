//! Whatever comes in whatever order: no panic, at most one delivery per request, every table within its limit.
use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use contextvm_core::{Limits, Protection};
use contextvm_engine::server::Access;
use contextvm_engine::{Outcome, Record, ServerConfig, ServerInput};
use contextvm_stream::StreamBody;
use contextvm_transfer::{FrameBody, Handshake};
use proptest::prelude::*;

use crate::frames::{STREAMS, chunk, control, cut, frame, long_answer, start};
use crate::world::{EPHEMERAL, PLAIN, START, WRAP, World, event, public};

#[derive(Clone, Debug)]
enum Op {
    From {
        n: u32,
        wrap: u8,
        ahead: u64,
        content: usize,
    },
    Again {
        nth: usize,
        wrap: u8,
    },
    Done(usize),
    App {
        n: u32,
        content: usize,
    },
    Broadcast(usize),
    Verdict(u64, bool),
    Outcome {
        nth: usize,
        accepted: bool,
    },
    Closed(u32),
    Pass(u64),
    Long(usize),
    Stream {
        nth: usize,
        act: u8,
    },
    /// The store speaks about all records but the last few.
    Store {
        but: usize,
        kept: bool,
    },
}

const CONTENTS: [&str; 16] = [
    r#"{"jsonrpc":"2.0","id":0,"method":"initialize"}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":1}}}"#,
    r#"{"jsonrpc":"2.0","id":"1","method":"tools/call","params":{"name":"b"}}"#,
    r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#,
    r#"{"jsonrpc":"2.0","id":3,"method":"resources/subscribe","params":{"uri":"u"}}"#,
    r#"{"jsonrpc":"2.0","id":4,"method":"resources/unsubscribe","params":{"uri":"u"}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"u"}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"$0","progress":1}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"$1"}}}"#,
    r#"{"jsonrpc":"2.0","id":"$0","result":{}}"#,
    r#"{"jsonrpc":"2.0","id":"$1","error":{"code":1,"message":""}}"#,
    r#"{"jsonrpc":"2.0","id":9,"method":"roots/list"}"#,
    "[]",
    "not json \u{0}",
];

/// What callers write beside [`CONTENTS`]: frames of a few transfers and streams under two tokens.
fn frames() -> &'static [String] {
    static FRAMES: OnceLock<Vec<String>> = OnceLock::new();
    FRAMES.get_or_init(|| {
        let whole = [r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#, CONTENTS[2]];
        let mut all: Vec<_> = whole.iter().flat_map(|message| cut("1", message, Handshake::Skip)).collect();
        all.extend([start("2", 90, 2), start("1", 4, 1), chunk("1", 2, "four"), chunk("2", 3, "more")]);
        all.extend([frame("2", 4, FrameBody::End), frame("1", 5, FrameBody::Abort(None))]);
        all.extend([StreamBody::Ping("n".into()), StreamBody::Abort(None)].map(|body| control("1", 1, body)));
        all
    })
}

/// Everything that a caller may write, by number.
fn content(nth: usize) -> &'static str {
    CONTENTS.get(nth).copied().unwrap_or_else(|| &frames()[(nth - CONTENTS.len()) % frames().len()])
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..7_u32, 0..3_u8, 0..6_u64, 0..2 * CONTENTS.len())
            .prop_map(|(n, wrap, ahead, content)| Op::From { n, wrap, ahead: ahead.saturating_sub(3), content }),
        3 => (0..40_usize, 0..3_u8).prop_map(|(nth, wrap)| Op::Again { nth, wrap }),
        4 => (0..40_usize).prop_map(Op::Done),
        3 => (1..7_u32, 0..CONTENTS.len()).prop_map(|(n, content)| Op::App { n, content }),
        1 => (0..CONTENTS.len()).prop_map(Op::Broadcast),
        3 => (0..20_u64, any::<bool>()).prop_map(|(id, allow)| Op::Verdict(id, allow)),
        3 => (0..40_usize, any::<bool>()).prop_map(|(nth, accepted)| Op::Outcome { nth, accepted }),
        1 => (1..7_u32).prop_map(Op::Closed),
        2 => (0..40_u64).prop_map(Op::Pass),
        2 => (0..40_usize).prop_map(Op::Long),
        3 => (0..40_usize, 0..4_u8).prop_map(|(nth, act)| Op::Stream { nth, act }),
        5 => (0..4_usize, 0..4_u8).prop_map(|(but, kept)| Op::Store { but, kept: kept > 0 }),
    ]
}

fn config() -> impl Strategy<Value = ServerConfig> {
    (any::<[bool; 7]>(), 1..6_usize).prop_map(
        |([list, ask_key, ask_capability, announced, excluded, barrier, durable], small)| {
            let limits = Limits {
                age_window: 30,
                age_skew: 5,
                seen_ids: 12,
                ledger_bytes: 2_000,
                ledger_ttl: Duration::from_secs(20),
                sessions: small,
                stranger_sessions: small,
                session_idle: Duration::from_secs(60),
                in_flight_per_caller: small,
                in_flight: 2 * small,
                in_flight_bytes: 600,
                refusals_per_minute: 2,
                event: 2_000,
                inner_event: 2_000,
                transfers: 3,
                transfers_bytes: 30_000,
                streams: 2,
                streams_bytes: 4_000,
                stream_buffer: 3_000,
                stream_chunk: 1_000,
                ..Limits::default()
            };
            let access = Access {
                allowed: list.then(|| (1..4).map(public).collect()),
                ask_key,
                excluded: if excluded { vec![("ping".to_owned(), None)] } else { Vec::new() },
                ask_capability,
                announced,
            };
            let accept_from = if barrier { START } else { 0 };
            ServerConfig { access, limits, accept_from, durable, ..ServerConfig::default() }
        },
    )
}

fn wrap_of(n: u8) -> Protection {
    [PLAIN, WRAP, EPHEMERAL][usize::from(n)]
}

fn run(world: &mut World, op: Op) -> Vec<String> {
    let known = world.events.len();
    match op {
        Op::From { n, wrap, ahead, content } => {
            let offers: [&[&[&str]]; 2] = [&[&["support_server_requests"]], STREAMS];
            let event = event(n, world.now.unix + ahead, self::content(content), offers[n as usize % 2]);
            world.arrives(n, wrap_of(wrap), event)
        }
        Op::Again { nth, wrap } if nth < known => world.again(nth, wrap_of(wrap)),
        Op::Done(nth) if nth < known => world.done(nth),
        Op::Long(nth) if nth < known => {
            let answer = long_answer(world, nth, 5_000);
            let n = (1..7).find(|n| public(*n) == world.events[nth].pubkey).unwrap_or(1);
            world.app(n, &answer)
        }
        Op::Stream { nth, act } if nth < known => match act {
            0 => world.write(nth, &"text ".repeat(700)).1,
            1 => world.write(nth, "").1,
            2 => world.stream(nth, |machine, key, now| machine.close_stream(key, now)).1,
            _ => world.stream(nth, |machine, key, now| machine.abort_stream(key, None, now)).1,
        },
        Op::Again { .. } | Op::Done(_) | Op::Long(_) | Op::Stream { .. } => Vec::new(),
        Op::App { n, content } => world.app(n, CONTENTS[content]),
        Op::Broadcast(content) => world.broadcast(CONTENTS[content]),
        Op::Verdict(question, allow) => world.verdict(question, allow),
        Op::Outcome { nth, accepted } => match world.tickets.get(nth).copied() {
            Some(ticket) if accepted => world.outcome_of(ticket, Outcome::Accepted),
            Some(ticket) => world.outcome_of(ticket, Outcome::Unknown),
            None => Vec::new(),
        },
        Op::Store { but, kept } => {
            let through = world.records.len().saturating_sub(but) as u64;
            if kept { world.remembered(through) } else { world.handle(ServerInput::Unstored { through }) }
        }
        Op::Closed(n) => world.handle(ServerInput::SessionClosed(public(n))),
        Op::Pass(seconds) => world.pass(seconds),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_delivered_twice_and_nothing_grows(config in config(), ops in prop::collection::vec(op(), 1..120)) {
        let (limits, durable) = (config.limits.clone(), config.durable);
        let (mut remembered, mut settled) = (BTreeSet::new(), 0);
        let mut world = World::new(config);
        world.outcome = None;
        let mut delivered = BTreeSet::new();
        let mut answers = BTreeSet::new();
        let mut ended = BTreeSet::new();
        for op in ops {
            let is_repeat = matches!(op, Op::From { .. } | Op::Again { .. } | Op::Pass(_));
            if let Op::Store { but, kept } = op {
                let through = world.records.len().saturating_sub(but).max(settled);
                let records = world.records[settled..through].iter().filter(|_| kept);
                let accepted = records.filter_map(|record| match record {
                    Record::Accepted { key, .. } => Some(key.id),
                    Record::Answered { .. } => None,
                });
                remembered.extend(accepted);
                settled = through;
            }
            for line in run(&mut world, op) {
                if line.starts_with("deliver") && line.contains(r#""id":"$"#) {
                    prop_assert!(delivered.insert(line.clone()), "delivered twice: {line}");
                    let nth = line.split(r#""id":"$"#).nth(1).and_then(|rest| rest.split('"').next()?.parse::<usize>().ok());
                    let id = nth.filter(|_| line.contains("\"method\"")).and_then(|nth| Some(world.events.get(nth)?.id));
                    prop_assert!(!durable || id.is_none_or(|id| remembered.contains(&id)), "not on disk: {line}");
                }
                if line.starts_with("publish") && line.contains("[e=$") && !line.contains("\"method\"") && !is_repeat {
                    prop_assert!(answers.insert(line.clone()), "answered twice: {line}");
                }
                if let Some(key) = line.strip_prefix("closed ").or_else(|| line.strip_prefix("failed ")) {
                    let key = key.split(' ').next().unwrap_or_default().to_owned();
                    let id = format!(r#""id":"{key}""#);
                    prop_assert!(delivered.iter().any(|line| line.contains(&id)), "ended unheard: {line}");
                    prop_assert!(ended.insert(key), "ended twice: {line}");
                }
            }
            let load = world.machine.load();
            prop_assert!(load.seen_ids <= limits.seen_ids, "{load:?}");
            prop_assert!(load.ledger_bytes <= limits.ledger_bytes, "{load:?}");
            prop_assert!(load.sessions <= limits.sessions, "{load:?}");
            prop_assert!(load.stranger_sessions <= limits.stranger_sessions, "{load:?}");
            prop_assert!(load.in_flight <= limits.in_flight, "{load:?}");
            prop_assert!(load.in_flight_bytes <= limits.in_flight_bytes, "{load:?}");
            prop_assert!(load.waiting <= limits.in_flight, "{load:?}");
            prop_assert!(load.waiting_bytes <= limits.in_flight_bytes, "{load:?}");
            prop_assert!(load.asked <= limits.in_flight, "{load:?}");
            prop_assert!(load.transfers_in <= limits.transfers, "{load:?}");
            prop_assert!(load.transfers_in_bytes <= limits.transfers_bytes, "{load:?}");
            prop_assert!(load.transfers_out <= limits.transfers, "{load:?}");
            prop_assert!(load.transfers_out_bytes <= limits.transfers_bytes, "{load:?}");
            prop_assert!(load.streams <= limits.streams, "{load:?}");
            // What the pieces of one text cost beside it comes on top.
            let pieces = limits.stream_buffer.div_ceil(limits.stream_chunk) + 1;
            prop_assert!(load.streams_bytes <= limits.streams_bytes + 32 * pieces, "{load:?}");
            prop_assert!(load.unremembered <= world.records.len() - settled, "{load:?}");
        }
        // Nobody says anything more: in the end nothing is left but what was accepted lately.
        for n in 1..7 {
            world.handle(ServerInput::SessionClosed(public(n)));
        }
        world.pass(8_000);
        world.remembered(world.records.len() as u64);
        for n in 1..7 {
            world.handle(ServerInput::SessionClosed(public(n)));
        }
        world.pass(8_000);
        world.remembered(world.records.len() as u64);
        let load = world.machine.load();
        prop_assert_eq!((load.sessions, load.stranger_sessions, load.in_flight, load.waiting), (0, 0, 0, 0));
        prop_assert_eq!((load.transfers_in, load.transfers_out, load.streams), (0, 0, 0));
        prop_assert_eq!((load.held, load.unremembered, load.streams_bytes), (0, 0, 0));
        prop_assert_eq!((load.in_flight_bytes, load.transfers_in_bytes, load.transfers_out_bytes), (0, 0, 0));
        prop_assert!(world.machine.poll_timeout().is_none());
    }
}
