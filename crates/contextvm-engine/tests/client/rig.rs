//! A client machine on a bench: a script of inputs with the outputs that each must cause.
use contextvm_core::{Draft, Mono, Now, Opened, Protection, WrapKind};
use contextvm_crypto::Keys;
use contextvm_engine::{
    ClientConfig, ClientInput, ClientMachine, ClientOutput, Outbound, Outcome, StreamNews, Ticket,
};
use nostr::event::{Event, EventId, Tag, Tags};
use nostr::key::PublicKey;
use serde_json::value::RawValue;

pub(crate) const START: u64 = 1_700_000_000;

/// The configuration of most stories.
pub(crate) fn config() -> ClientConfig {
    ClientConfig::new(keys(0x11).public_key())
}

pub(crate) fn keys(byte: u8) -> Keys {
    Keys::from_secret_bytes([byte; 32]).unwrap()
}

pub(crate) fn client_key() -> PublicKey {
    keys(0x22).public_key()
}

pub(crate) struct Rig {
    pub(crate) machine: ClientMachine,
    pub(crate) now: Now,
    server: Keys,
    stranger: Keys,
    /// What was published, by ticket.
    pub(crate) published: Vec<Outbound>,
    /// Inner ids of what the server said, in order.
    said: Vec<EventId>,
    last: Option<Opened>,
}

impl Rig {
    pub(crate) fn new(config: ClientConfig) -> Self {
        Self {
            machine: ClientMachine::new(config, client_key(), [7; 32]),
            now: Now { mono: Mono(0), unix: START },
            server: keys(0x11),
            stranger: keys(0x33),
            published: Vec::new(),
            said: Vec::new(),
            last: None,
        }
    }

    pub(crate) fn handle(&mut self, input: ClientInput) -> Vec<ClientOutput> {
        self.machine.handle(input, self.now);
        let outputs: Vec<_> = std::iter::from_fn(|| self.machine.poll_output()).collect();
        for output in &outputs {
            if let ClientOutput::Publish(outbound) = output {
                self.published.push(outbound.clone());
            }
        }
        outputs
    }

    pub(crate) fn send(&mut self, text: &str) -> Vec<ClientOutput> {
        self.handle(ClientInput::Send(text.to_owned()))
    }

    /// Relays take everything that is published, in these outputs and in what follows from that; returns all outputs.
    pub(crate) fn take_all(&mut self, outputs: Vec<ClientOutput>) -> Vec<ClientOutput> {
        let mut all = outputs;
        let mut at = 0;
        while let Some(output) = all.get(at) {
            at += 1;
            if let ClientOutput::Publish(outbound) = output {
                let ticket = outbound.ticket;
                all.extend(self.handle(ClientInput::Published(ticket, Outcome::Accepted)));
            }
        }
        all
    }

    /// Moves time forward and comes back whenever the machine asked for it.
    pub(crate) fn wait(&mut self, millis: u64) -> Vec<ClientOutput> {
        let end = self.now.mono.0 + millis;
        let mut outputs = Vec::new();
        while let Some((Mono(at), _)) = self.machine.poll_timeout().filter(|(at, _)| at.0 <= end) {
            self.set_time(at);
            outputs.extend(self.handle(ClientInput::Wake));
            let next = self.machine.poll_timeout();
            assert!(next.is_none_or(|(next, _)| next.0 > self.now.mono.0), "asks for a time that has passed");
        }
        self.set_time(end);
        outputs
    }

    fn set_time(&mut self, mono: u64) {
        let mono = mono.max(self.now.mono.0);
        self.now = Now { mono: Mono(mono), unix: START + mono / 1_000 };
    }

    /// The inner id of what went out under a ticket.
    pub(crate) fn id_of(&self, ticket: u64) -> EventId {
        self.published.iter().find(|outbound| outbound.ticket == Ticket(ticket)).unwrap().draft.id
    }

    pub(crate) fn event(&self, author: &Keys, tags: Vec<Tag>, content: &str) -> Event {
        let mut all = vec![Tag::public_key(client_key())];
        all.extend(tags);
        let draft = Draft::new(author.public_key(), self.now.unix, Tags::from_list(all), content.to_owned());
        author.sign_draft(&draft, [0; 32])
    }

    pub(crate) fn opened(&self, event: Event, protection: Protection) -> Opened {
        let outer = event.id;
        Opened::check(event, protection, outer, &client_key(), self.now.unix, 600).unwrap()
    }

    /// The server says something.
    pub(crate) fn say(&mut self, protection: Protection, tags: Vec<Tag>, content: &str) -> Vec<ClientOutput> {
        let event = self.event(&self.server, tags, content);
        self.said.push(event.id);
        self.hear(event, protection)
    }

    /// The inner id of what the server said last.
    pub(crate) fn last_said(&self) -> EventId {
        *self.said.last().unwrap()
    }

    fn hear(&mut self, event: Event, protection: Protection) -> Vec<ClientOutput> {
        let opened = self.opened(event, protection);
        self.last = Some(opened.clone());
        self.handle(ClientInput::Opened(Box::new(opened)))
    }

    /// Runs one line of a script.
    fn run(&mut self, line: &str) -> Vec<ClientOutput> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "app" => self.send(rest),
            "server" | "stranger" => self.run_peer(word, rest),
            "again" => {
                let opened = self.last.clone().unwrap();
                self.handle(ClientInput::Opened(Box::new(opened)))
            }
            "ok" => self.outcome(rest, Outcome::Accepted),
            "unknown" => self.outcome(rest, Outcome::Unknown),
            "refused" => {
                let (ticket, text) = rest.split_once(' ').unwrap_or((rest, "blocked: no"));
                self.outcome(ticket, Outcome::Refused(text.to_owned()))
            }
            "up" => self.handle(ClientInput::RelayUp),
            "clock" => self.handle(ClientInput::ClockAhead(rest.parse().unwrap())),
            "read" => self.handle(ClientInput::SendReading(rest.to_owned())),
            "taken" => {
                let (id, chunks) = rest.split_once(' ').unwrap();
                let (id, chunks) = (id_of(id), chunks.parse().unwrap());
                self.handle(ClientInput::Taken { id, chunks })
            }
            "stop" => {
                let (id, reason) = rest.split_once(' ').map_or((rest, None), |(id, why)| (id, Some(why)));
                let (id, reason) = (id_of(id), reason.map(str::to_owned));
                self.handle(ClientInput::StopReading { id, reason })
            }
            "limit" => self.handle(ClientInput::RelayLimit(rest.parse().unwrap())),
            "close" => self.handle(ClientInput::Close),
            "wait" => self.wait(rest.parse().unwrap()),
            other => panic!("unknown word in script: {other}"),
        }
    }

    fn outcome(&mut self, ticket: &str, outcome: Outcome) -> Vec<ClientOutput> {
        self.handle(ClientInput::Published(Ticket(ticket.parse().unwrap()), outcome))
    }

    /// `PROTECTION [eTICKET|ex] [+tag=value..] JSON`
    fn run_peer(&mut self, who: &str, rest: &str) -> Vec<ClientOutput> {
        let at = rest.find('{').unwrap_or(rest.len());
        let mut words = rest[..at].split_whitespace();
        let protection = match words.next().unwrap() {
            "plain" => Protection::Plain,
            "1059" => Protection::Wrapped(WrapKind::Persistent),
            "21059" => Protection::Wrapped(WrapKind::Ephemeral),
            other => panic!("unknown protection in script: {other}"),
        };
        let mut tags = Vec::new();
        for word in words {
            if let Some(flag) = word.strip_prefix('+') {
                tags.push(Tag::parse(flag.split('=')).unwrap());
            } else if word == "ex" {
                tags.push(Tag::parse(["e", &"ab".repeat(32)]).unwrap());
            } else if word == "enonsense" {
                tags.push(Tag::parse(["e", "nonsense"]).unwrap());
            } else {
                let ticket = word.strip_prefix('e').unwrap().parse().unwrap();
                tags.push(Tag::event(self.id_of(ticket)));
            }
        }
        if who == "server" {
            return self.say(protection, tags, &rest[at..]);
        }
        let event = self.event(&self.stranger, tags, &rest[at..]);
        self.hear(event, protection)
    }

    /// Prints an output the way scripts expect it.
    pub(crate) fn show(&self, output: &ClientOutput) -> String {
        match output {
            ClientOutput::Publish(outbound) => {
                let Outbound { ticket, draft, protection, .. } = outbound;
                let how = match protection {
                    Protection::Plain => "plain",
                    Protection::Wrapped(WrapKind::Persistent) => "1059",
                    Protection::Wrapped(WrapKind::Ephemeral) => "21059",
                };
                let tags: String = draft.tags.iter().skip(1).map(|tag| self.show_tag(tag)).collect();
                format!("publish {} {how}{tags} {}", ticket.0, short_tokens(&draft.content))
            }
            ClientOutput::Republish { ticket, rewrap: false } => format!("republish {} same", ticket.0),
            ClientOutput::Republish { ticket, rewrap: true } => format!("republish {} rewrapped", ticket.0),
            ClientOutput::Forget(ticket) => format!("forget {}", ticket.0),
            ClientOutput::Deliver { message: text, .. } => format!("deliver {}", short_tokens(text)),
            ClientOutput::Stream { id, news: StreamNews::Chunk { index, data } } => {
                format!("stream {id} chunk {index} {data}")
            }
            ClientOutput::Stream { id, news: StreamNews::Ended(end) } => format!("stream {id} {end:?}"),
            ClientOutput::Moved(moved) => {
                format!("moved {} {:?} {}/{}", moved.id, moved.direction, moved.bytes, moved.total)
            }
            ClientOutput::Lost(lost) => format!("lost {lost:?}"),
            ClientOutput::Learned => "learned".to_owned(),
            ClientOutput::Drop(reason) => format!("drop {reason:?}"),
        }
    }

    fn show_tag(&self, tag: &Tag) -> String {
        if tag.kind() != "e" {
            return format!(" +{}", tag.as_slice().join("="));
        }
        let id = EventId::from_hex(tag.content().unwrap()).unwrap();
        let at = self.said.iter().position(|said| *said == id);
        format!(" e:said{}", at.map_or(0, |at| at + 1))
    }
}

fn id_of(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

/// Takes the random part out of private tokens: `c9f...-3` becomes `c-3`.
pub(crate) fn short_tokens(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\"c") {
        let (head, tail) = rest.split_at(at + 2);
        out.push_str(head);
        let hex = tail.bytes().take_while(u8::is_ascii_hexdigit).count();
        rest = if hex == 16 && tail[hex..].starts_with('-') { &tail[hex..] } else { tail };
    }
    out + rest
}

/// Runs a script: lines with `>` are inputs, the lines below each are exactly the outputs that it causes.
#[track_caller]
pub(crate) fn check(config: ClientConfig, script: &str) -> Rig {
    let mut rig = Rig::new(config);
    let mut wanted = String::new();
    let mut happened = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        wanted.push_str(line);
        wanted.push('\n');
        let Some(input) = line.strip_prefix("> ") else {
            continue;
        };
        happened.push_str(line);
        happened.push('\n');
        for output in rig.run(input) {
            happened.push_str(&rig.show(&output));
            happened.push('\n');
        }
    }
    assert!(happened == wanted, "happened:\n{happened}\nwanted:\n{wanted}");
    rig
}
