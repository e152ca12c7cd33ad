//! What leaves this machine for everybody to read: shown first, signed once, and reported relay by relay.
use contextvm::Keys;
use contextvm::announce::{BOOTSTRAP_RELAYS, SchemaNote, Unsigned};
use contextvm::client::review;
use contextvm::core::{Printable, event};
use contextvm::relay::{PostReport, RelayOutcome};
use contextvm::server::announce::{AnnounceTargets, RelayWord};
use nostr::event::Event;
use nostr::types::RelayUrl;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args::{Global, Sending};
use crate::finding;
use crate::finding::words::count;
use crate::output::{Out, Talk, confirm, someone_is_there};
use crate::problem::{Code, Problem};

pub(crate) mod announcing;
pub(crate) mod options;

/// Longest text of a relay that is shown, characters.
const SHOWN: usize = 200;

/// What would be published, for programs.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    events: Vec<Entry<'a>>,
}

/// One event with the relays that it goes to.
#[derive(Serialize)]
struct Entry<'a> {
    /// The unit of a file that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    kind: u16,
    relays: &'a [String],
    event: Box<RawValue>,
}

impl<'a> Entry<'a> {
    fn of(outgoing: &'a Outgoing) -> Result<Self, Problem> {
        let Outgoing { unit, event, relays } = outgoing;
        let raw = RawValue::from_string(event::print(event));
        let (unit, kind) = (unit.as_deref(), event.kind.as_u16());
        let event = raw.map_err(|error| Problem::internal(error.to_string()))?;
        Ok(Self { unit, kind, relays, event })
    }
}

/// An event that could be published, and where.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// The unit of a file that it is for.
    pub(crate) unit: Option<String>,
    pub(crate) event: Event,
    pub(crate) relays: Vec<String>,
}

impl Outgoing {
    pub(crate) const fn new(event: Event, relays: Vec<String>) -> Self {
        Self { unit: None, event, relays }
    }
}

/// What one relay made of one event, for programs.
#[derive(Serialize)]
pub(crate) struct Told {
    pub(crate) relay: String,
    pub(crate) accepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl From<&RelayWord> for Told {
    fn from(word: &RelayWord) -> Self {
        Self {
            relay: word.url.to_string(),
            accepted: word.outcome.is_success(),
            reason: reason(&word.outcome).map(|said| word.failed.clone().unwrap_or(said)),
        }
    }
}

/// Signs a draft.
pub(crate) fn sign(draft: Unsigned, keys: &Keys) -> Result<Event, Problem> {
    review::sign(draft, keys).map_err(|error| Problem::internal(error.to_string()))
}

/// The relays where reviews and announcements are looked for and written to: those of `--discovery`; without it those of
/// `--relay` and the six well-known ones, which are left out when the former are all of this machine or its network.
pub(crate) fn general_relays(global: &Global) -> Vec<String> {
    if global.discovery.iter().any(|url| !url.trim().is_empty()) {
        return finding::places(global);
    }
    match AnnounceTargets::new(&global.relays, None) {
        Ok(targets) => targets.all().iter().map(ToString::to_string).collect(),
        // None was named; or one of them is wrong, and whoever reads it says so.
        Err(_) if global.relays.is_empty() => BOOTSTRAP_RELAYS.map(ToOwned::to_owned).to_vec(),
        Err(_) => global.relays.clone(),
    }
}

/// Shows events and their relays as data, each in one piece; publishes nothing.
pub(crate) fn show(outgoing: &[Outgoing], out: &mut Out) -> Result<(), Problem> {
    if out.json {
        let events = outgoing.iter().map(Entry::of).collect::<Result<_, _>>()?;
        return out.document(&Document { schema: "cvm.events/1", events });
    }
    for Outgoing { unit, event, relays } in outgoing {
        if let Some(unit) = unit {
            out.line(&format!("for       {}", Printable::short(unit, 60)))?;
        }
        out.line(&format!("kind {}  {}", event.kind.as_u16(), what(event.kind.as_u16())))?;
        out.line(&format!("to        {}", Printable(&relays.join(" "))))?;
        out.foreign(&event::print(event))?;
        out.line("")?;
    }
    Ok(())
}

/// Names a kind for people.
pub(crate) const fn what(kind: u16) -> &'static str {
    match kind {
        0 => "profile",
        5 => "deletion",
        1111 => "review",
        10_002 => "relay list",
        11_316 => "server announcement",
        11_317 => "tools",
        11_318 => "resources",
        11_319 => "resource templates",
        11_320 => "prompts",
        _ => "event",
    }
}

/// Shows what is about to be published and asks a person; without one, `--yes` must have said it.
///
/// Returns whether to go on.
pub(crate) fn ask(
    outgoing: &[Outgoing],
    sending: Sending,
    (out, talk): (&mut Out, &Talk),
) -> Result<bool, Problem> {
    if sending.dry_run {
        show(outgoing, out)?;
        return Ok(false);
    }
    // Nobody is asked about something unseen, however silent we are to be.
    let say = |line: &str| if sending.yes { talk.say(line) } else { Talk::insist(line) };
    for Outgoing { event, relays, .. } in outgoing {
        let (kind, text) = (event.kind.as_u16(), event::print(event));
        say(&format!("kind {kind}  {}   public, under {}", what(kind), crate::keys::npub(&event.pubkey)));
        say(&format!("  {}", Printable::short(&text, 4_000)));
        say(&format!("  to  {}", Printable(&relays.join(" "))));
    }
    if sending.yes {
        return Ok(true);
    }
    if !someone_is_there() {
        let problem =
            Problem::new(Code::MissingArgument, "this would be public, and nobody is here to be asked");
        return Err(problem
            .fact("standard input and standard error are no terminal")
            .hint("look at it with --dry-run, then publish it with --yes"));
    }
    let yes = confirm("publish? [y/N] ")?;
    if !yes {
        talk.say("nothing was published");
    }
    Ok(yes)
}

/// Reads relay URLs that a person gave.
pub(crate) fn parse(relays: &[String]) -> Result<Vec<RelayUrl>, Problem> {
    let parse = |url: &String| {
        RelayUrl::parse(url.trim()).map_err(|error| {
            let shown = Printable::short(url, 80).to_string();
            Problem::new(Code::InvalidValue, format!("{shown} is no relay: {error}"))
                .hint("wss://relay.example")
        })
    };
    relays.iter().map(parse).collect()
}

/// Tells what each relay made of the event at this place of a report.
pub(crate) fn told(report: &PostReport, at: usize) -> Vec<Told> {
    let answers = report.events.get(at).map(|posted| posted.per_relay.as_slice()).unwrap_or_default();
    let told = answers.iter().map(|answer| {
        let failed = || {
            let failed = report.failed.iter().find(|(url, _)| *url == answer.url);
            failed.map(|(_, why)| why.clone())
        };
        Told {
            relay: answer.url.to_string(),
            accepted: answer.outcome.is_success(),
            reason: reason(&answer.outcome).map(|said| failed().unwrap_or(said)),
        }
    });
    told.collect()
}

/// Says why a relay does not have an event.
pub(crate) fn reason(outcome: &RelayOutcome) -> Option<String> {
    Some(match outcome {
        RelayOutcome::Accepted | RelayOutcome::Duplicate => return None,
        // It is printable already.
        RelayOutcome::Refused(why) => format!("refused: {}", why.chars().take(SHOWN).collect::<String>()),
        RelayOutcome::NoAnswer => "no answer".to_owned(),
        RelayOutcome::NotSent => "not reached".to_owned(),
        RelayOutcome::QueueFull | _ => "not sent".to_owned(),
    })
}

/// Shows what each relay made of an event; none that has it is a failure.
pub(crate) fn conclude(told: &[Told], talk: &Talk) -> Result<(), Problem> {
    let lines = told.iter().map(|one| {
        let said = one.reason.as_deref().unwrap_or("ok");
        format!("{}   {said}", Printable(&one.relay))
    });
    if told.iter().any(|one| one.accepted) {
        lines.for_each(|line| talk.say(&format!("  {line}")));
        return Ok(());
    }
    let message = format!("none of {} took it", count(told.len(), "relay"));
    let problem = lines.fold(Problem::new(Code::NoRelayAccepted, message), Problem::fact);
    Err(problem.hint("use other relays: --discovery wss://..."))
}

/// Says what the owner of common tools should know.
pub(crate) fn note(note: &SchemaNote) -> String {
    let shown = |text: &str| Printable::short(text, 80).to_string();
    match note {
        SchemaNote::Replaced { tool, claimed, computed } => {
            format!("{} claimed the schema {}; it has and says {computed}", shown(tool), shown(claimed))
        }
        SchemaNote::Refused { tool, error } => {
            format!("{} is not marked as a common tool: {error}", shown(tool))
        }
        _ => "a common tool needs a look".to_owned(),
    }
}
