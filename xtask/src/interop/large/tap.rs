//! Counts what passes between the programs and a relay.
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Opens EVENT messages of clients.
const EVENT: &[u8] = br#"["EVENT""#;

/// What programs have sent towards the relay.
#[derive(Debug, Default)]
pub(super) struct Counts {
    events: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    /// Returns the EVENT messages, and the bytes of them with their WebSocket frames.
    pub(super) fn read(&self) -> [u64; 2] {
        [self.events.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed)]
    }
}

/// Listens on a port of its own and hands everything on to the relay at `url`; returns the URL to use instead.
///
/// It lives as long as the program.
pub(super) fn start(url: &str) -> Result<(String, Arc<Counts>), Vec<String>> {
    let failed = |error: io::Error| vec![format!("a tap on {url}: {error}")];
    let relay = url.trim_start_matches("ws://").trim_end_matches('/').to_owned();
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let counts = Arc::new(Counts::default());
    let counting = Arc::clone(&counts);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A relay that is gone is seen by the programs, whose connection ends here.
            let _ended = TcpStream::connect(&relay).and_then(|relay| join(client, relay, &counting));
        }
    });
    Ok((format!("ws://{address}"), counts))
}

/// Hands on both ways until one of them ends.
fn join(client: TcpStream, relay: TcpStream, counts: &Arc<Counts>) -> io::Result<()> {
    client.set_nodelay(true)?;
    relay.set_nodelay(true)?;
    let (mut from_relay, mut to_client) = (relay.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ended = io::copy(&mut from_relay, &mut to_client);
        to_client.shutdown(Shutdown::Both)
    });
    let counts = Arc::clone(counts);
    thread::spawn(move || {
        let mut relay = relay;
        let _ended = hand_on(client, &mut relay, &counts);
        relay.shutdown(Shutdown::Both)
    });
    Ok(())
}

/// Hands on what a client sends: the request that opens the WebSocket, then frames, of which it counts those that begin an EVENT.
fn hand_on(mut client: TcpStream, relay: &mut TcpStream, counts: &Counts) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0; 1];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    relay.write_all(&head)?;
    loop {
        let (mut opening, mut mask) = ([0; 2], [0; 4]);
        client.read_exact(&mut opening)?;
        let [_, kind] = opening;
        // Seven bits of the length, or how many bytes of it follow.
        let mut said = vec![0; if kind & 0x7f == 127 { 8 } else { 2 * usize::from(kind & 0x7f == 126) }];
        client.read_exact(&mut said)?;
        let short = if said.is_empty() { u64::from(kind & 0x7f) } else { 0 };
        let length = said.iter().fold(short, |length, byte| length << 8 | u64::from(*byte));
        // Every client masks what it sends.
        client.read_exact(&mut mask)?;
        let mut text = vec![0; usize::try_from(length).unwrap_or_default()];
        client.read_exact(&mut text)?;
        let frame = [opening.as_slice(), &said, &mask, &text].concat();
        let start = text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).take(EVENT.len());
        if start.eq(EVENT.iter().copied()) {
            counts.events.fetch_add(1, Ordering::Relaxed);
            counts.bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
        }
        relay.write_all(&frame)?;
    }
}
