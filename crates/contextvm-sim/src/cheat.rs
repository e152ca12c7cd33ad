//! The cheating mode: one side breaks one promise on purpose, so that the checkers are seen to notice it in whole worlds.
use std::sync::Arc;

use contextvm_core::envelope::Envelope;
use contextvm_core::{Limits, Protection};
use contextvm_engine::ServerLoad;
use nostr::event::EventId;
use nostr::key::PublicKey;

use crate::check::Check;
use crate::time::SEC;
use crate::trace::{Digest, Host};

/// What one side does wrong, once in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cheat {
    /// A client's endpoint keeps an answer to itself.
    LoseAnswer,
    /// A client's endpoint hands an answer over twice.
    AnswerTwice,
    /// A server's endpoint hands a request over twice.
    DeliverTwice,
    /// A server's endpoint hands over a request that nobody sent.
    InventRequest,
    /// A client's endpoint changes an answer.
    ChangeAnswer,
    /// A client is given what another client was answered.
    WrongCaller,
    /// A server's endpoint keeps a request to itself; the client waits until its time is up.
    IgnoreRequest,
    /// A server holds more than it may.
    HoldTooMuch,
    /// A client sends in plaintext what it should wrap.
    Plaintext,
    /// A server seals for one client what another one asked for.
    WrongRecipient,
    /// A server's endpoint hands over a large request without its end.
    CutRequest,
    /// A client's endpoint changes a chunk of a stream.
    ChangeChunk,
    /// An endpoint asks to be woken a second ago.
    WakeBefore,
    /// A driver logs an error.
    LogError,
    /// A client is told how far another client's call is.
    WrongProgress,
    /// A server's application is told to stop what its caller waits for.
    WrongCancel,
    /// A client's endpoint answers a call by itself, long after its time.
    AnswerLate,
    /// A host holds what nobody needs any more.
    Leak,
    /// A server says that it is busy, and is not.
    SayBusy,
    /// A world draws from something that is not its seed.
    DrawElsewhere,
}

impl Cheat {
    /// Every way to cheat.
    pub const ALL: [Self; 20] = [
        Self::LoseAnswer,
        Self::AnswerTwice,
        Self::DeliverTwice,
        Self::InventRequest,
        Self::ChangeAnswer,
        Self::WrongCaller,
        Self::IgnoreRequest,
        Self::HoldTooMuch,
        Self::Plaintext,
        Self::WrongRecipient,
        Self::CutRequest,
        Self::ChangeChunk,
        Self::WakeBefore,
        Self::LogError,
        Self::WrongProgress,
        Self::WrongCancel,
        Self::AnswerLate,
        Self::Leak,
        Self::SayBusy,
        Self::DrawElsewhere,
    ];

    /// Returns a fixed name, for replay files.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Finds a way to cheat by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cheat| cheat.name() == name)
    }

    /// Returns the promise that it breaks.
    #[must_use]
    pub const fn breaks(self) -> Check {
        match self {
            Self::LoseAnswer | Self::AnswerTwice | Self::AnswerLate => Check::C1,
            Self::DeliverTwice => Check::C2,
            Self::InventRequest | Self::WrongCancel => Check::C3,
            Self::ChangeAnswer => Check::C4,
            Self::WrongCaller | Self::WrongRecipient | Self::WrongProgress => Check::C5,
            Self::IgnoreRequest | Self::SayBusy => Check::C6,
            Self::HoldTooMuch | Self::Leak => Check::C7,
            Self::Plaintext => Check::C8,
            Self::CutRequest => Check::C10,
            Self::ChangeChunk => Check::C11,
            Self::WakeBefore => Check::C12,
            Self::LogError => Check::C13,
            Self::DrawElsewhere => Check::C14,
        }
    }
}

/// How an answer of a simulated tool begins.
const OWN_RESULT: &str = r#""result":{"call""#;
/// A longer request came as a transfer, bytes.
const LARGE: usize = 60_000;
/// Opportunities that pass before the one that is taken.
const PATIENCE: u32 = 3;
const PATIENCE_C6: u32 = 12;

/// Cheats at one opportunity of a world, or never.
#[derive(Debug, Default)]
pub(crate) struct Cheater {
    cheat: Option<Cheat>,
    opportunities: u32,
    done: u32,
    /// The answer that a client was given last.
    overheard: Option<(u16, String)>,
    /// How far a client's call was last said to be.
    progress: Option<(u16, Digest)>,
    /// Whom a server answered last.
    recipient: Option<(Host, PublicKey)>,
}

impl Cheater {
    pub(crate) fn new(cheat: Option<Cheat>) -> Self {
        Self { cheat, ..Self::default() }
    }

    /// How often it cheated.
    pub(crate) const fn done(&self) -> u32 {
        self.done
    }

    /// Whether this opportunity for a cheat is the one.
    pub(crate) fn now(&mut self, cheat: Cheat) -> bool {
        if self.cheat != Some(cheat) {
            return false;
        }
        self.opportunities += 1;
        // What only an honest path forbids is no fault before there are any.
        let waits = if cheat.breaks() == Check::C6 { PATIENCE_C6 } else { PATIENCE };
        let now = self.opportunities == waits;
        self.done += u32::from(now);
        now
    }

    /// What a client's application is handed in place of an answer of its server.
    pub(crate) fn answers(&mut self, client: u16, text: String) -> Vec<String> {
        let cheat = self.cheat;
        match cheat {
            Some(Cheat::LoseAnswer) if self.now(Cheat::LoseAnswer) => Vec::new(),
            Some(Cheat::AnswerTwice) if self.now(Cheat::AnswerTwice) => vec![text.clone(), text],
            Some(Cheat::ChangeAnswer) => match text.replacen(OWN_RESULT, r#""result":{"coll""#, 1) {
                changed if changed != text && self.now(Cheat::ChangeAnswer) => vec![changed],
                _ => vec![text],
            },
            Some(Cheat::WrongCaller) => vec![self.mixed_up(client, text)],
            Some(Cheat::SayBusy) if text.contains(OWN_RESULT) && self.now(Cheat::SayBusy) => parts(&text)
                .map(|(id, _)| {
                    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32000,"message":"Busy"}}}}"#)
                })
                .into_iter()
                .collect(),
            _ => vec![text],
        }
    }

    /// What a client's application hears of a call's progress.
    pub(crate) fn progress(&mut self, client: u16, said: Digest) -> Digest {
        let heard = self.progress.replace((client, said));
        match heard.filter(|(other, _)| *other != client) {
            Some((_, other)) if self.now(Cheat::WrongProgress) => other,
            _ => said,
        }
    }

    fn mixed_up(&mut self, client: u16, text: String) -> String {
        let Some((id, result)) = parts(&text) else { return text };
        let heard = self.overheard.replace((client, result));
        let Some((_, other)) = heard.filter(|(other, _)| *other != client) else { return text };
        if self.now(Cheat::WrongCaller) {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{other}}}"#)
        } else {
            text
        }
    }

    /// What a server's application is handed in place of a request.
    pub(crate) fn requests(&mut self, text: String) -> Vec<String> {
        let is_call = text.contains(r#""fill":""#);
        let cheat = self.cheat.filter(|_| is_call);
        match cheat {
            Some(Cheat::DeliverTwice) if self.now(Cheat::DeliverTwice) => vec![text.clone(), text],
            Some(Cheat::IgnoreRequest) if self.now(Cheat::IgnoreRequest) => Vec::new(),
            Some(Cheat::InventRequest) if self.now(Cheat::InventRequest) => {
                vec![text.replacen(r#""fill":""#, r#""fill":"?"#, 1)]
            }
            Some(Cheat::CutRequest) if text.len() > LARGE && self.now(Cheat::CutRequest) => vec![cut(&text)],
            _ => vec![text],
        }
    }

    /// What a client's application reads in place of a chunk.
    pub(crate) fn chunk(&mut self, data: &str) -> Arc<str> {
        if self.now(Cheat::ChangeChunk) { format!("{data}?").into() } else { Arc::from(data) }
    }

    /// How something is really sent.
    pub(crate) fn protection(&mut self, host: Host, protection: Protection) -> Protection {
        let may = protection.is_encrypted() && matches!(host, Host::Client(_));
        if may && self.now(Cheat::Plaintext) { Protection::Plain } else { protection }
    }

    /// Whom something is really sealed for.
    pub(crate) fn recipient(
        &mut self,
        host: Host,
        recipient: PublicKey,
        about: Option<EventId>,
    ) -> PublicKey {
        if about.is_none() || !matches!(host, Host::Server(_)) {
            return recipient;
        }
        let last = self.recipient.replace((host, recipient));
        let other = last.filter(|(of, last)| *of == host && *last != recipient);
        other.filter(|_| self.now(Cheat::WrongRecipient)).map_or(recipient, |(_, other)| other)
    }

    /// When something asks to be woken, as it says.
    pub(crate) fn due(&mut self, due: u64, now: u64) -> u64 {
        if now > 2 * SEC && self.now(Cheat::WakeBefore) { now - SEC } else { due }
    }

    /// What a server holds, as it says.
    pub(crate) fn load(&mut self, mut load: ServerLoad) -> ServerLoad {
        if self.now(Cheat::HoldTooMuch) {
            load.in_flight = usize::MAX;
        }
        load
    }

    /// A number that is no part of the seed.
    pub(crate) fn elsewhere(&mut self) -> Option<u64> {
        let now = self.now(Cheat::DrawElsewhere);
        now.then(|| Digest::of(format!("{:?}", std::time::Instant::now()).as_bytes()).0)
    }
}

/// The id and the result of an answer.
fn parts(text: &str) -> Option<(String, String)> {
    let message = Envelope::parse(text, &Limits { json_nodes: usize::MAX, ..Limits::default() }).ok()?;
    Some((message.id?.get().to_owned(), message.result?.get().to_owned()))
}

/// Takes a thousand bytes out of the filling.
fn cut(text: &str) -> String {
    let from = text.find(r#""fill":""#).map_or(0, |at| at + 8);
    let (head, tail) = text.split_at(from);
    format!("{head}{}", tail.get(1_000..).unwrap_or_default())
}
