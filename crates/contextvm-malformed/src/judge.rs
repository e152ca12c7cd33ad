//! What the pure crates say about an input.
use contextvm_announce::{DocumentKind, ListDocument, RelayList, ServerDocument, Signed};
use contextvm_core::Refusal;
use contextvm_core::{Envelope, Limits, Mono, Now, Protection, RelayFrame, RelayInfo, object};
use contextvm_crypto::{Nip44Error, OpenError, open, open_plain};
use contextvm_engine::gate::Gate;
use contextvm_engine::server::{Access, Delivery};
use contextvm_engine::{
    ClientConfig, ClientInput, ClientMachine, ClientOutput, DropReason, Outcome, ServerConfig, ServerInput,
    ServerMachine, ServerOutput, StreamNews,
};
use nostr::event::{Tag, Tags};

use crate::world::{Role, World};
use crate::{Case, Family};

/// Returns the verdict of the pure crates.
#[must_use]
pub fn verdict(family: Family, case: &Case, world: &World, role: Role) -> String {
    match family {
        Family::Events | Family::Wraps => {
            let mut end = End::new(world, role);
            joined(case.input.iter().flat_map(|event| end.hear(event)).collect())
        }
        Family::Messages => {
            let verdict = End::new(world, role).hear_content(&case.input[0], &[]);
            let detail = Envelope::parse(&case.input[0], &Limits::default()).err();
            let detail = detail.filter(|_| verdict.iter().any(|word| word.starts_with("drop ")));
            joined(verdict)
                + &detail.map(|error| format!(" {}", variant(&format!("{error:?}")))).unwrap_or_default()
        }
        Family::Transfers => call(world, role, case, false),
        Family::Streams => call(world, role, case, true),
        Family::Relays => relay(&case.input[0]),
        Family::Documents => document(&case.input[0], &case.input[1]),
    }
}

/// Returns the verdict of a server on a caller that is not on its list.
#[must_use]
pub fn stranger(family: Family, case: &Case, world: &World) -> String {
    let mut end = End::with_access(world, Role::Server, &world.other);
    match family {
        Family::Events | Family::Wraps => {
            joined(case.input.iter().flat_map(|event| end.hear(event)).collect())
        }
        _ => joined(case.input.iter().flat_map(|content| end.hear_content(content, &[])).collect()),
    }
}

/// An endpoint that has heard nothing.
struct End<'a> {
    world: &'a World,
    role: Role,
    now: Now,
    gate: Gate,
    machine: Machine,
}

enum Machine {
    Server(Box<ServerMachine>),
    Client(Box<ClientMachine>),
}

impl<'a> End<'a> {
    fn new(world: &'a World, role: Role) -> Self {
        Self::with_access(world, role, &world.caller)
    }

    fn with_access(world: &'a World, role: Role, allowed: &contextvm_crypto::Keys) -> Self {
        let me = world.me(role).public_key();
        let (gate, machine) = match role {
            Role::Server => {
                let access = Access { allowed: Some([allowed.public_key()].into()), ..Access::default() };
                let config = ServerConfig { access, ..ServerConfig::default() };
                (
                    Gate::for_server(me, &config),
                    Machine::Server(Box::new(ServerMachine::new(config, me, [0; 32]))),
                )
            }
            Role::Client => {
                let config =
                    ClientConfig { open_streams: true, ..ClientConfig::new(world.server.public_key()) };
                // Plaintext is listened to, as by a client that was told to send it.
                (
                    Gate::for_client(me, &config),
                    Machine::Client(Box::new(ClientMachine::new(config, me, [0; 32]))),
                )
            }
        };
        Self { world, role, now: Now { mono: Mono(1_000_000), unix: world.now }, gate, machine }
    }

    /// Takes an event as a relay would bring it.
    fn hear(&mut self, raw: &str) -> Vec<String> {
        let outer = match self.gate.admit(raw, 0, self.now) {
            Ok(outer) => outer,
            Err(reason) => return vec![format!("gate {}", reason.name())],
        };
        let (keys, limits) = (self.world.me(self.role), Limits::default());
        let opened = match outer.kind {
            Protection::Plain => open_plain(outer.event, &keys.public_key(), self.now.unix, &limits),
            Protection::Wrapped(_) => open(&outer.event, keys, self.now.unix, &limits),
        };
        match opened {
            Ok(opened) => self.opened(opened),
            Err(error) => vec![format!("open {}", unopened(error))],
        }
    }

    /// Takes a true event with this content.
    fn hear_content(&mut self, content: &str, tags: &[Tag]) -> Vec<String> {
        let event = self.world.message(self.role, tags, content);
        let me = self.world.me(self.role).public_key();
        let opened = open_plain(event, &me, self.now.unix, &Limits::default()).unwrap();
        self.opened(opened)
    }

    fn opened(&mut self, opened: contextvm_core::Opened) -> Vec<String> {
        let opened = Box::new(opened);
        match &mut self.machine {
            Machine::Server(machine) => {
                machine.handle(ServerInput::Opened(opened), self.now);
                server_words(machine, self.now)
            }
            Machine::Client(machine) => {
                machine.handle(ClientInput::Opened(opened), self.now);
                client_words(machine, self.now)
            }
        }
    }

    /// Lets the time pass in which late frames are waited for.
    fn wait(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        let end = Mono(self.now.mono.0 + 400_000);
        for _ in 0..64 {
            let due = match &self.machine {
                Machine::Server(machine) => machine.poll_timeout().map(|(at, _)| at),
                Machine::Client(machine) => machine.poll_timeout().map(|(at, _)| at),
            };
            let Some(at) = due.filter(|at| *at <= end) else { break };
            let mono = at.max(self.now.mono);
            self.now = Now { mono, unix: self.world.now + (mono.0 - 1_000_000) / 1_000 };
            words.extend(match &mut self.machine {
                Machine::Server(machine) => {
                    machine.handle(ServerInput::Wake, self.now);
                    server_words(machine, self.now)
                }
                Machine::Client(machine) => {
                    machine.handle(ClientInput::Wake, self.now);
                    client_words(machine, self.now)
                }
            });
        }
        words
    }
}

/// Frames around one call: a server takes them from its caller, a client from the server that it asked.
fn call(world: &World, role: Role, case: &Case, reads: bool) -> String {
    let mut end = End::new(world, role);
    let mut tags = Vec::new();
    if let Machine::Client(machine) = &mut end.machine {
        let request = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":"t"}}}"#;
        let input = if reads {
            ClientInput::SendReading(request.to_owned())
        } else {
            ClientInput::Send(request.to_owned())
        };
        machine.handle(input, end.now);
        while let Some(output) = machine.poll_output() {
            if let ClientOutput::Publish(outbound) = output {
                tags = vec![Tag::event(outbound.draft.id)];
                machine.handle(ClientInput::Published(outbound.ticket, Outcome::Accepted), end.now);
            }
        }
    }
    let mut words: Vec<String> =
        case.input.iter().flat_map(|content| end.hear_content(content, &tags)).collect();
    if words.iter().all(|word| !is_end(word)) {
        let late = end.wait();
        // A call whose stream has failed goes on, and here nobody answers it.
        words.extend(late.into_iter().filter(|word| is_end(word) || !reads && word.starts_with("lost ")));
    }
    joined(words)
}

/// Whether a word ends a transfer or a stream.
fn is_end(word: &str) -> bool {
    ["taken ", "abort ", "closed", "answered", "failed "].iter().any(|end| word.starts_with(end))
}

fn server_words(machine: &mut ServerMachine, now: Now) -> Vec<String> {
    let mut words = Vec::new();
    while let Some(output) = machine.poll_output() {
        match output {
            ServerOutput::Deliver { delivery, .. } => words.push(
                match delivery {
                    Delivery::Request { .. } => "taken request",
                    Delivery::Notification { .. } => "taken",
                    Delivery::Response => "taken response",
                }
                .to_owned(),
            ),
            ServerOutput::Refused { reason, .. } | ServerOutput::Drop(reason) => words.push(dropped(reason)),
            ServerOutput::Publish(outbound) => {
                words.extend(abort(&outbound.draft.content));
                machine.handle(ServerInput::Published(outbound.ticket, Outcome::Accepted), now);
            }
            _ => {}
        }
    }
    words
}

fn client_words(machine: &mut ClientMachine, now: Now) -> Vec<String> {
    let mut words = Vec::new();
    while let Some(output) = machine.poll_output() {
        match output {
            ClientOutput::Deliver { message, exchange: None } if !message.contains(r#""error""#) => {
                words.push("taken".to_owned());
            }
            ClientOutput::Deliver { exchange: Some(_), .. } => words.push("taken answer".to_owned()),
            ClientOutput::Stream { news: StreamNews::Chunk { .. }, .. } => words.push("chunk".to_owned()),
            ClientOutput::Stream { news: StreamNews::Ended(end), .. } => words.push(ended(&end)),
            ClientOutput::Lost(lost) => words.push(format!("lost {lost:?}")),
            ClientOutput::Drop(reason) => words.push(dropped(reason)),
            ClientOutput::Publish(outbound) => {
                words.extend(abort(&outbound.draft.content));
                machine.handle(ClientInput::Published(outbound.ticket, Outcome::Accepted), now);
            }
            _ => {}
        }
    }
    words
}

fn ended(end: &contextvm_engine::StreamEnd) -> String {
    match end {
        contextvm_engine::StreamEnd::Closed { .. } => "closed".to_owned(),
        contextvm_engine::StreamEnd::Answered { .. } => "answered".to_owned(),
        contextvm_engine::StreamEnd::Failed { error, .. } => {
            format!("failed {}", variant(&format!("{error:?}")))
        }
    }
}

fn dropped(reason: DropReason) -> String {
    format!("drop {}", reason.name())
}

/// Returns what an abort frame says; nothing for any other message.
fn abort(content: &str) -> Option<String> {
    let message = Envelope::parse(content, &Limits::default()).ok()?;
    let cvm = message.param("cvm")?;
    let says = |name| object::member(cvm, name).and_then(object::string);
    if says("frameType")? != "abort" || says("type")? == "open-stream" {
        return None;
    }
    Some(format!("abort {}", numberless(&says("reason")?)))
}

/// Writes a mark for each number: cases differ in them.
fn numberless(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        let letter = if letter.is_ascii_digit() { '#' } else { letter };
        if !(letter == '#' && out.ends_with('#')) {
            out.push(letter);
        }
    }
    out
}

fn unopened(error: OpenError) -> &'static str {
    match error {
        OpenError::TooLarge { .. } | OpenError::Nip44(Nip44Error::TooLarge { .. }) => "too_large",
        OpenError::NotAWrap(_) => "not_a_wrap",
        OpenError::NotAnEvent => "not_an_event",
        OpenError::Nip44(Nip44Error::Key) => "key",
        OpenError::Nip44(Nip44Error::Marker) => "marker",
        OpenError::Nip44(Nip44Error::Encoding) => "encoding",
        OpenError::Nip44(Nip44Error::Version(_)) => "version",
        OpenError::Nip44(Nip44Error::Length(_)) => "length",
        OpenError::Nip44(Nip44Error::Mac) => "mac",
        OpenError::Nip44(Nip44Error::Padding) => "padding",
        OpenError::Refused(Refusal::Kind(_)) => "kind",
        OpenError::Refused(Refusal::Audience) => "audience",
        OpenError::Refused(Refusal::Age { .. }) => "age",
        OpenError::Refused(Refusal::Id) => "id",
        OpenError::Refused(Refusal::Signature) => "signature",
        _ => "unknown",
    }
}

fn relay(text: &str) -> String {
    match RelayFrame::parse(text) {
        Ok(frame) => {
            let word = format!("{frame:?}");
            format!("taken {}", variant(&word))
        }
        Err(error) => {
            let detail = error.to_string();
            let what = detail.strip_prefix("frame has no valid ").unwrap_or_default();
            format!("refused {} {what}", variant(&format!("{error:?}"))).trim_end().to_owned()
        }
    }
}

/// What is said of an announcement, a list or a document: `what` names which it is to be.
fn document(what: &str, text: &str) -> String {
    let tags = Tags::new();
    let read = match what {
        "relay-info" => RelayInfo::parse(text)
            .map(|info| shape(&format!("{info:?}")))
            .map_err(|error| format!("{error:?}")),
        "event" => Signed::read(text).map(|_| String::new()).map_err(|error| format!("{error:?}")),
        "relay-list" => {
            return Signed::read(text).map_or_else(
                |error| format!("refused {}", variant(&format!("{error:?}"))),
                |event| match RelayList::read(&event) {
                    Ok(list) => {
                        format!("taken {} of {}", list.selection().len(), list.entries.len() + list.skipped)
                    }
                    Err(error) => format!("refused {}", variant(&format!("{error:?}"))),
                },
            );
        }
        "server" => ServerDocument::from_result(text, &tags)
            .map(|document| format!("{} versions", document.protocol_versions.len()))
            .map_err(|error| format!("{error:?}")),
        kind => {
            let kind = DocumentKind::LISTS.into_iter().find(|list| list.member() == Some(kind)).unwrap();
            ListDocument::from_result(kind, text, &tags)
                .map(|list| format!("{} of {}", list.items.len(), list.items.len() + list.skipped))
                .map_err(|error| format!("{error:?}"))
        }
    };
    match read {
        Ok(detail) => format!("taken {detail}").trim_end().to_owned(),
        Err(error) => format!("refused {}", variant(&error)),
    }
}

/// How many members of a document were read: those that are neither absent nor empty.
fn shape(debug: &str) -> String {
    let read = debug.matches("Some(").count() + usize::from(!debug.contains("supported_nips: []"));
    format!("{read} members")
}

/// Returns the innermost name of an error: `Scan(Depth { .. })` is `Depth`.
fn variant(debug: &str) -> &str {
    let inner = debug.strip_prefix("Scan(").or_else(|| debug.strip_prefix("Json(")).unwrap_or(debug);
    match inner.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default() {
        "Truncated" | "Trailing" => "Syntax",
        name => name,
    }
}

/// Joins words, each once.
fn joined(words: Vec<String>) -> String {
    let mut once: Vec<String> = Vec::new();
    for word in words {
        if !once.contains(&word) {
            once.push(word);
        }
    }
    if once.is_empty() { "nothing".to_owned() } else { once.join(", ") }
}
