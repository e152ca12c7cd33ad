//! A server under malformed inputs: what it counts, and whether honest callers are still answered.
use std::collections::BTreeMap;
use std::time::Duration;

use contextvm_core::{Limits, RelayFrame, WrapKind, event, frame, kind};
use contextvm_crypto::{Entropy, Keys, open, seal};
use contextvm_engine::DropReason;
use contextvm_malformed::world::{Role, World};
use contextvm_malformed::{Case, Family};
use nostr::event::{Event, Tag, Tags};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::relay::{PATIENCE, Peer, Relay, answers};
use crate::unix;

/// Copies of a true event beside each event that only a relay can have damaged. More than one such event in twenty costs a relay
/// its connection, and they are judged some hundred events after they were counted.
const COPIES: u64 = 150;
/// A line per reason is logged once in this time.
const LOG_EVERY: Duration = Duration::from_millis(10_600);

/// What a server is made to meet.
struct Siege {
    peer: Peer,
    world: World,
    honest: Keys,
    is_stranger: bool,
    number: u64,
    /// By the name of the reason.
    drops: BTreeMap<String, u64>,
    unopened: u64,
    sent: u64,
    unanswered: u64,
    honest_calls: u64,
    /// One input of each reason, and whether it is a true event that somebody has to seal.
    again: BTreeMap<String, (String, bool)>,
    copy: String,
    /// A caller that was once spoken to encrypted has to stay so.
    is_encrypted: bool,
}

/// Runs all inputs against the server that connects, and says what became of them as one document.
pub(crate) fn run(relay: &Relay, log: &str, is_stranger: bool, every: usize) -> Result<Value, String> {
    let peer = relay.meet()?;
    // A server takes nothing that is stamped before the second in which it started.
    std::thread::sleep(Duration::from_secs(2));
    let world = World::new(unix());
    let honest = if is_stranger { world.other.clone() } else { world.caller.clone() };
    let mut siege = Siege {
        peer,
        world,
        honest,
        is_stranger,
        number: 0,
        drops: BTreeMap::new(),
        unopened: 0,
        sent: 0,
        unanswered: 0,
        honest_calls: 0,
        again: BTreeMap::new(),
        copy: String::new(),
        is_encrypted: false,
    };
    siege.honest_call("initialize")?;
    let note = siege
        .world
        .message_of(&siege.honest.clone(), r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    siege.copy = event::print(&note);
    let copy = siege.copy.clone();
    siege.peer.event(&copy)?;
    siege.honest_call("tools/list")?;
    for family in [Family::Events, Family::Messages, Family::Wraps] {
        if family == Family::Wraps {
            siege.encrypt()?;
        }
        let cases = family.cases(&siege.world, Role::Server);
        for case in cases.iter().step_by(every).filter(|case| is_timeless(case)) {
            siege.meet(family, case)?;
        }
        siege.honest_call("tools/list")?;
    }
    let equal = siege.count(log)?;
    siege.loose(every)?;
    siege.honest_call("tools/list")?;
    let log = std::fs::read_to_string(log).map_err(|error| error.to_string())?;
    Ok(json!({
        "job": "malformed", "role": if is_stranger { "server, stranger" } else { "server, allowed caller" }, "inputs": siege.sent, "honest_calls": siege.honest_calls,
        "unanswered": siege.unanswered, "drops": siege.drops, "unopened": siege.unopened, "different": equal, "panics": log.matches("panicked").count(), "errors": log.matches("ERROR").count(),
    }))
}

/// Whether a verdict is the same some minutes later, and for an event that a frame brings.
fn is_timeless(case: &Case) -> bool {
    let is_edge = case.name.starts_with("age/past/") || case.name.starts_with("age/future/");
    !(is_edge || ["size/spaces", "author/other"].contains(&case.name.as_str()))
}

/// Whether an event is a gift wrap for somebody that answers the event with this id.
fn answers_sealed(event: &Value, keys: &Keys, id: &str) -> bool {
    let wrap = event::read(&event.to_string());
    let opened = wrap.and_then(|wrap| open(&wrap, keys, unix(), &Limits::default()).ok());
    let tags = opened.map(|opened| opened.into_event().tags);
    tags.is_some_and(|tags| tags.iter().any(|tag| tag.kind() == "e" && tag.content() == Some(id)))
}

/// Makes true events of anybody.
trait Says {
    fn message_of(&self, author: &Keys, content: &str) -> Event;
}

impl Says for World {
    fn message_of(&self, author: &Keys, content: &str) -> Event {
        let tags = Tags::from_list(vec![Tag::public_key(self.server.public_key())]);
        author.sign_event(kind::MESSAGE, unix(), tags, content.to_owned(), [9; 32])
    }
}

impl Siege {
    /// Calls as an honest caller does, and waits for the answer.
    fn honest_call(&mut self, method: &str) -> Result<(), String> {
        self.number += 1;
        self.honest_calls += 1;
        let params =
            r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"h","version":"1"}}"#;
        let content = format!(
            r#"{{"jsonrpc":"2.0","id":"honest {}","method":"{method}","params":{params}}}"#,
            self.number
        );
        let event = self.world.message_of(&self.honest, &content);
        let id = event.id.to_hex();
        let text = self.sealed(&event)?;
        self.peer.event(&text)?;
        let honest = self.honest.clone();
        let answer = self
            .peer
            .wait_for(PATIENCE, |event| answers(event, &id) || answers_sealed(event, &honest, &id))?;
        answer.map(drop).ok_or_else(|| format!("honest call {} was not answered", self.number))
    }

    /// Prints an event as its author has to send it.
    fn sealed(&mut self, inner: &Event) -> Result<String, String> {
        if !self.is_encrypted {
            return Ok(event::print(inner));
        }
        self.number += 1;
        let mut entropy = [7; 96];
        entropy[24..32].copy_from_slice(&self.number.to_be_bytes());
        let server = self.world.server.public_key();
        let wrap = seal(inner, &server, WrapKind::Ephemeral, unix(), &Entropy::from_bytes(entropy));
        wrap.map(|wrap| event::print(&wrap)).map_err(|error| error.to_string())
    }

    /// Is encrypted from now on, as a caller has to stay that once was.
    fn encrypt(&mut self) -> Result<(), String> {
        self.is_encrypted = true;
        let inner = event::read(&self.copy).ok_or("no event")?;
        self.copy = self.sealed(&inner)?;
        // It was seen in clear.
        *self.drops.entry("duplicate".to_owned()).or_default() += 1;
        let copy = self.copy.clone();
        self.peer.event(&copy)
    }

    fn meet(&mut self, family: Family, case: &Case) -> Result<(), String> {
        let Some(input) = case.input.first() else { return Ok(()) };
        let text = if family == Family::Messages {
            event::print(&self.world.message(Role::Server, &[], input))
        } else {
            input.clone()
        };
        self.sent += 1;
        self.peer.event(&text)?;
        self.peer.keep_up()?;
        // A frame that is no JSON is dropped where frames are read.
        let frame = frame::relay_event("s", &text);
        if !matches!(RelayFrame::parse(&frame), Ok(RelayFrame::Event { .. })) {
            return Ok(());
        }
        let want = self.wanted(&case.want);
        self.expect(&want, &text, family == Family::Messages);
        if want == "gate id" || (want == "open signature" && family == Family::Events) {
            for _ in 0..COPIES {
                let copy = self.copy.clone();
                self.peer.event(&copy)?;
            }
            *self.drops.entry("duplicate".to_owned()).or_default() += COPIES;
        }
        if want == "taken request" {
            let answered = self.peer.wait_for(Duration::from_secs(5), |_| true)?;
            self.unanswered += u64::from(answered.is_none());
        }
        Ok(())
    }

    /// The verdict on a caller that is let in, or on one that is not.
    fn wanted(&self, want: &str) -> String {
        let words: Vec<&str> = want.split(' ').collect();
        match words.as_slice() {
            ["drop", reason @ ("malformed" | "budget"), ..] => format!("drop {reason}"),
            ["gate" | "open", ..] => want.to_owned(),
            _ if self.is_stranger => "drop not_allowed".to_owned(),
            _ => want.to_owned(),
        }
    }

    fn expect(&mut self, want: &str, text: &str, is_true: bool) {
        match want.split_once(' ') {
            Some(("gate" | "drop", reason)) => {
                *self.drops.entry(reason.to_owned()).or_default() += 1;
                self.again.entry(reason.to_owned()).or_insert_with(|| (text.to_owned(), is_true));
            }
            Some(("open", _)) => self.unopened += 1,
            _ => {}
        }
    }

    /// Compares the counters of the server, which are in its log, with what was expected; returns what differs.
    fn count(&mut self, log: &str) -> Result<Vec<String>, String> {
        self.peer.idle(LOG_EVERY)?;
        let mut again: Vec<_> = self.again.clone().into_iter().collect();
        again.push(("duplicate".to_owned(), (self.copy.clone(), false)));
        for (reason, (text, is_true)) in again {
            *self.drops.entry(reason).or_default() += 1;
            // The same words in an event of their own: what was taken once is not taken again.
            let said = event::read(&text).filter(|_| is_true);
            let fresh = said.map(|said| self.world.message_of(&self.world.caller, &said.content));
            let text = fresh.map_or(Ok(text), |fresh| self.sealed(&fresh))?;
            self.peer.event(&text)?;
        }
        self.honest_call("tools/list")?;
        let log = std::fs::read_to_string(log).map_err(|error| error.to_string())?;
        let mut different = Vec::new();
        for reason in DropReason::ALL {
            let expected = self.drops.get(reason.name()).copied().unwrap_or(0);
            let mark = format!("dropped reason={reason:?} count=");
            let counted = log
                .lines()
                .rev()
                .find_map(|line| line.split_once(&mark))
                .map_or("0", |(_, count)| count.trim());
            if counted != expected.to_string() {
                different.push(format!("{}: {counted} counted, {expected} expected", reason.name()));
            }
        }
        let unopened = log.lines().filter(|line| line.contains("event not opened")).count() as u64;
        if unopened != self.unopened {
            different.push(format!("unopened: {unopened} counted, {} expected", self.unopened));
        }
        Ok(different)
    }

    /// Frames of transfers and streams, each under a token of its own, and what relays say: the server only has to live.
    fn loose(&mut self, every: usize) -> Result<(), String> {
        for family in [Family::Transfers, Family::Streams] {
            for (nth, case) in family.cases(&self.world, Role::Server).iter().enumerate().step_by(every) {
                for content in &case.input {
                    let content = content.replacen(
                        r#""progressToken":"t""#,
                        &format!(r#""progressToken":"t{nth}""#),
                        1,
                    );
                    let event = self.world.message(Role::Server, &[], &content);
                    // What is too large for a gift wrap cannot be sent by such a caller.
                    if let Ok(text) = self.sealed(&event) {
                        self.peer.event(&text)?;
                    }
                }
                self.sent += 1;
                self.peer.keep_up()?;
            }
            self.honest_call("tools/list")?;
        }
        for case in Family::Relays.cases(&self.world, Role::Client).iter().step_by(every) {
            self.peer.say(case.input.concat())?;
            self.sent += 1;
        }
        for bytes in [&b""[..], b"\0\xff", b"[\"EVENT\",\"s\",{}]"] {
            self.peer.send(Message::binary(bytes.to_vec()))?;
        }
        self.honest_call("tools/list")
    }
}
