//! Websocket frames that no relay should send: each costs the relay its connection, and nothing else.
use contextvm_relay::Relays;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::support::{Relay, config, next_down, next_event, soon};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const FINAL: u8 = 0x80;

/// One unmasked frame; `first` holds the flags and the opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(u8::try_from(short).unwrap()),
        middle @ 126..65_536 => {
            bytes.push(126);
            bytes.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// The head of a frame that declares more than it brings.
fn declared(length: u64) -> Vec<u8> {
    let mut bytes = vec![FINAL | TEXT, 127];
    bytes.extend(length.to_be_bytes());
    bytes
}

/// What a relay may send that is no websocket, or too much of one.
fn rubbish() -> Vec<(String, Vec<u8>)> {
    let mut list: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| list.push((name.to_owned(), bytes));
    let notice = br#"["NOTICE","x"]"#;
    for length in [(1 << 20) + 1, 1 << 21, 1 << 30, 1 << 40, u64::MAX >> 1, u64::MAX] {
        add(&format!("a message of {length} bytes"), declared(length));
    }
    let mut endless = frame(TEXT, &[b'a'; 1_000]);
    endless.extend((0..1_100).flat_map(|_| frame(0, &[b'a'; 1_000])));
    add("fragments without end", endless);
    // More than the network between us holds: somebody has to read them all, or to stop.
    add("empty fragments without end", [frame(TEXT, b"["), frame(0, b"").repeat(8 << 20)].concat());
    for bad in [&b"\xff"[..], b"[\"NOTICE\",\"\xc3\x28\"]", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\x80"]
    {
        add("text that is not UTF-8", frame(FINAL | TEXT, bad));
    }
    for flag in [0x40, 0x20, 0x10, 0x70] {
        add("a compressed message, which nobody agreed on", frame(FINAL | flag | TEXT, notice));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        add("an opcode that nobody knows", frame(FINAL | opcode, notice));
    }
    add("a ping in pieces", frame(PING, b"a"));
    add("a ping of 126 bytes", frame(FINAL | PING, &[b'a'; 126]));
    add("a continuation of nothing", frame(FINAL, notice));
    add("a message inside a message", [frame(TEXT, b"[\"NOT"), frame(FINAL | TEXT, notice)].concat());
    add("a close of one byte", frame(FINAL | CLOSE, b"a"));
    let mut masked = vec![FINAL | TEXT, 0x80 | 2, 1, 2, 3, 4];
    masked.extend_from_slice(b"ab");
    add("a masked message", masked);
    // Splitmix64: any bytes that do not begin a true frame.
    let mut state = 7_u64;
    for seed in 0..40 {
        let bytes: Vec<u8> = (0..200)
            .map(|_| {
                state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                (mixed >> 56) as u8
            })
            .collect();
        add(&format!("bytes of chance, {seed}"), [vec![0xf3], bytes].concat());
    }
    list
}

#[tokio::test]
async fn rubbish_on_the_socket_costs_the_connection_and_nothing_else() {
    let relay = Relay::start().await;
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let mut connections = 1;
    for (name, bytes) in rubbish() {
        let (mut peer, _) = relay.accept_live().await;
        // Who hangs up in the middle of it has seen enough.
        let _ended = peer.socket.get_mut().write_all(&bytes).await;
        let reason = next_down(&mut inbox).await;
        assert!(!reason.chars().any(char::is_control), "{name}: {reason:?}");
        connections += 1;
    }
    let (mut peer, subscription) = relay.accept_live().await;
    peer.say(&json!(["EVENT", subscription, {"id": "a"}])).await;
    assert_eq!(next_event(&mut inbox).await, r#"{"id":"a"}"#, "after {connections} connections");
    let status = &relays.statuses()[0];
    assert_eq!((status.counts.events, status.counts.connections), (1, connections));
}

/// A relay with frames of its own making that are right nevertheless.
#[tokio::test]
async fn what_is_odd_and_allowed_costs_nothing() {
    let relay = Relay::start().await;
    let (relays, mut inbox) = Relays::connect(config([relay.url.clone()])).unwrap();
    let (mut peer, subscription) = relay.accept_live().await;
    let event = json!(["EVENT", subscription, {"id": "é"}]).to_string();
    // Every byte in a frame of its own, also in the middle of a letter, with empty ones and a ping between them.
    let mut bytes = frame(TEXT, b"");
    for byte in event.bytes() {
        bytes.extend(frame(0, &[byte]));
    }
    bytes.extend(frame(FINAL | PING, b"?"));
    bytes.extend(frame(FINAL, b""));
    bytes.extend(frame(FINAL | BINARY, b"\x00\xff"));
    bytes.extend(frame(FINAL | TEXT, event.as_bytes()));
    peer.socket.get_mut().write_all(&bytes).await.unwrap();
    for _ in 0..2 {
        assert_eq!(next_event(&mut inbox).await, r#"{"id":"é"}"#);
    }
    assert_eq!(relays.statuses()[0].counts.malformed, 1, "bytes are no frame of the protocol");
    peer.say(&json!(["EVENT", subscription, {"id": "b"}])).await;
    assert_eq!(next_event(&mut inbox).await, r#"{"id":"b"}"#);
    assert!(matches!(soon(peer.socket.next()).await, Some(Ok(_))), "the ping was answered");
}
