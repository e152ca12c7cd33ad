//! `cvm review`: what people write about servers (CEP-24).
use std::sync::Arc;

use contextvm::announce::{Review, Standing, Threads, Words};
use contextvm::client::discover::Found;
use contextvm::client::review::{self, PUBLISH_DEADLINE};
use contextvm::core::Printable;
use nostr::event::EventId;
use nostr::nips::nip19::{FromBech32 as _, Nip19};
use serde::Serialize;

use crate::args::{self, Global, ReviewCommand, Sending};
use crate::finding::trust::Circle;
use crate::finding::words::{ago, count, now};
use crate::finding::{self, told};
use crate::keys::{self, Chosen, npub};
use crate::names;
use crate::output::{Out, Talk};
use crate::problem::{Code, Problem};
use crate::publication::{self, Outgoing, Told};

/// Longest text of a review that is shown, characters.
const LONGEST: usize = 4_000;
/// Most lines of a review that are shown.
const LINES: usize = 40;

#[derive(Serialize)]
struct List<'a> {
    schema: &'static str,
    server: String,
    reviews: Vec<Entry<'a>>,
    /// Reviews that are not shown, because there are too many.
    #[serde(rename = "leftOut")]
    left_out: usize,
    relays: Vec<Relay>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: String,
    author: String,
    #[serde(rename = "createdAt")]
    created_at: u64,
    depth: usize,
    standing: &'static str,
    /// Whether one of those who were named follows its author.
    #[serde(skip_serializing_if = "Option::is_none")]
    followed: Option<bool>,
    text: &'a str,
}

#[derive(Serialize)]
struct Relay {
    url: String,
    answered: bool,
    reviews: usize,
}

#[derive(Serialize)]
struct Sent<'a> {
    schema: &'static str,
    id: String,
    server: String,
    author: String,
    relays: &'a [Told],
}

pub(crate) async fn run(
    options: &args::Review,
    global: &Global,
    out: &mut Out,
    talk: &Talk,
) -> Result<(), Problem> {
    match &options.command {
        ReviewCommand::Ls { server, trusted_by, limit } => {
            let circle = Box::pin(circle(trusted_by, global, talk)).await?;
            Box::pin(list((server, *limit), circle.as_ref(), global, (out, talk))).await
        }
        ReviewCommand::Add { server, text, sending } => {
            Box::pin(add((server, text), *sending, global, (out, talk))).await
        }
        ReviewCommand::Reply { id, text, sending } => {
            Box::pin(reply((id, text), *sending, global, (out, talk))).await
        }
    }
}

/// Looks for everything about a server on the general relays.
async fn find(server: &contextvm::ServerIdentity, global: &Global, talk: &Talk) -> Result<Found, Problem> {
    let discovery = finding::discovery_on(&publication::general_relays(global), global, talk)?;
    let found = discovery.server(server).await.map_err(|error| finding::failed(&error))?;
    told::silence(&found, talk);
    Ok(found)
}

/// Finds out whom those follow who were named, or the key of `--key`; asks nobody when neither is given.
async fn circle(trusted_by: &[String], global: &Global, talk: &Talk) -> Result<Option<Circle>, Problem> {
    let chosen = match &global.key {
        Some(reference) if trusted_by.is_empty() => keys::choose(Some(reference))?,
        Some(_) | None => None,
    };
    let me = chosen.filter(|chosen| !chosen.ephemeral).map(|chosen| chosen.keys.public_key());
    if me.is_none() && trusted_by.is_empty() {
        return Ok(None);
    }
    let discovery = finding::discovery_on(&publication::general_relays(global), global, talk)?;
    let circle = match me {
        Some(me) => Circle::of(vec![me.into()], &discovery, talk).await,
        None => Circle::of_names(trusted_by, &discovery, global, talk).await,
    };
    circle.map(Some)
}

async fn list(
    (server, limit): (&str, usize),
    circle: Option<&Circle>,
    global: &Global,
    (out, talk): (&mut Out, &Talk),
) -> Result<(), Problem> {
    let named = names::resolve(server, global, talk).await?;
    let found = Box::pin(find(&named.server, global, talk)).await?;
    let key = named.server.key;
    let reviews = found.directory.server(&key).map(|entry| entry.reviews().to_vec()).unwrap_or_default();
    let mut threads = Threads::build(&key, reviews, now());
    let more = threads.placed.len().saturating_sub(limit);
    threads.placed.truncate(limit);
    let left_out = threads.left_out + more;
    if out.json {
        let entries = threads.placed.iter().map(|placed| Entry {
            id: placed.review.id.to_hex(),
            author: npub(&placed.review.author),
            created_at: placed.review.created_at,
            depth: placed.depth,
            standing: standing(placed.standing),
            followed: circle.map(|circle| circle.follows(&placed.review.author)),
            text: &placed.review.content,
        });
        let relays = found.per_relay.iter().map(|answer| Relay {
            url: answer.url.to_string(),
            answered: answer.has_answered(),
            reviews: answer.events,
        });
        let (reviews, relays) = (entries.collect(), relays.collect());
        let (schema, server) = ("cvm.review.ls/1", npub(&key));
        return out.document(&List { schema, server, reviews, left_out, relays });
    }
    for placed in &threads.placed {
        let (review, indent) = (&placed.review, "  ".repeat(placed.depth));
        let note = match placed.standing {
            Standing::Review | Standing::Reply => "",
            Standing::Deeper => "   (answers something further up)",
            Standing::Orphan => "   (answers something that was not found)",
        };
        let mark =
            if circle.is_some_and(|circle| circle.follows(&review.author)) { "   followed" } else { "" };
        let (author, when) = (npub(&review.author), ago(review.created_at, now()));
        out.line(&format!("{indent}{author}   {when}{mark}{note}"))?;
        for line in shown(&review.content) {
            out.line(&format!("{indent}{line}"))?;
        }
        out.line(&format!("{indent}  id {}", review.id.to_hex()))?;
    }
    let answered = format!("relays {}/{} answered", found.answered(), found.per_relay.len());
    let hidden = if left_out > 0 { format!("   {left_out} more are not shown") } else { String::new() };
    talk.say(&format!("{}{hidden}   {answered}", count(threads.placed.len(), "review")));
    Ok(())
}

/// Makes a stranger's text harmless and short, each line behind a bar: none can pass for a line of ours, such as the
/// heading of an answer by somebody else.
fn shown(text: &str) -> Vec<String> {
    let begun: String = text.chars().take(LONGEST).collect();
    let lines = || begun.lines().filter(|line| !line.trim().is_empty());
    let mut shown: Vec<String> = lines().take(LINES).map(|line| format!("  | {}", Printable(line))).collect();
    if begun.len() < text.len() || lines().nth(LINES).is_some() {
        shown.push("  | ...".to_owned());
    }
    shown
}

const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Review => "review",
        Standing::Reply => "reply",
        Standing::Deeper => "deeper",
        Standing::Orphan => "orphan",
    }
}

/// Reviews are signed with a key that its readers can know again.
fn author(global: &Global) -> Result<Chosen, Problem> {
    keys::choose(global.key.as_deref())?.ok_or_else(|| {
        Problem::new(Code::MissingArgument, "a review needs a key, so that readers know whose it is")
            .fact("neither --key nor CVM_KEY is given")
            .hint("cvm key new me, then: --key me")
    })
}

async fn add(
    (server, text): (&str, &str),
    sending: Sending,
    global: &Global,
    (out, talk): (&mut Out, &Talk),
) -> Result<(), Problem> {
    let author = author(global)?;
    let named = names::resolve(server, global, talk).await?;
    let relays = publication::general_relays(global);
    // Without the announcement the review still names the server's address.
    let found = Box::pin(find(&named.server, global, talk)).await.ok();
    let announcement = found.as_ref().and_then(|found| found.directory.server(&named.server.key)?.server());
    if announcement.is_none() {
        talk.say("no announcement of this server was found; the review names its key only");
    }
    let words = Words { content: text, relay: relays.first().map(String::as_str) };
    let draft = words.review(&named.server.key, announcement.map(|part| part.id), now());
    let draft = draft.map_err(|error| unfit(&error.to_string()))?;
    let event = publication::sign(draft, &author.keys)?;
    send(Outgoing::new(event, relays), named.server.key, &author, sending, global, (out, talk)).await
}

async fn reply(
    (id, text): (&str, &str),
    sending: Sending,
    global: &Global,
    (out, talk): (&mut Out, &Talk),
) -> Result<(), Problem> {
    let author = author(global)?;
    let id = read_id(id)?;
    let relays = publication::general_relays(global);
    let parent = Box::pin(comment(id, global, talk)).await?;
    let words = Words { content: text, relay: relays.first().map(String::as_str) };
    let draft = parent.reply(&words, now()).map_err(|error| unfit(&error.to_string()))?;
    talk.say(&format!("in answer to {}:", npub(&parent.author)));
    shown(&parent.content).iter().for_each(|line| talk.say(line));
    let event = publication::sign(draft, &author.keys)?;
    send(Outgoing::new(event, relays), parent.server, &author, sending, global, (out, talk)).await
}

fn unfit(why: &str) -> Problem {
    Problem::new(Code::InvalidValue, why.to_owned()).hint("cvm review add weather \"Fast and correct\"")
}

fn read_id(text: &str) -> Result<EventId, Problem> {
    let text = text.trim();
    let text = text.strip_prefix("nostr:").unwrap_or(text);
    // The parser itself would leave out what stands behind the 64th digit.
    if text.len() == 64
        && let Ok(id) = EventId::from_hex(text)
    {
        return Ok(id);
    }
    match Nip19::from_bech32(text) {
        Ok(Nip19::EventId(id)) => Ok(id),
        Ok(Nip19::Event(event)) => Ok(event.event_id),
        Ok(_) | Err(_) => {
            let problem = Problem::new(Code::InvalidValue, "that is no id of a review");
            Err(problem.fact("it is 64 hex digits, note1... or nevent1...").hint("cvm review ls weather"))
        }
    }
}

/// Fetches a comment from the general relays.
async fn comment(id: EventId, global: &Global, talk: &Talk) -> Result<Review, Problem> {
    let relays = publication::general_relays(global);
    let discovery = finding::discovery_on(&relays, global, talk)?;
    let found = discovery.review(id).await.map_err(|error| finding::failed(&error))?;
    found.ok_or_else(|| {
        let problem = Problem::new(Code::NotFound, "no relay has a review with this id");
        let problem = relays.iter().fold(problem, |problem, url| problem.fact(Printable(url).to_string()));
        problem.hint("name the relays: --discovery wss://...")
    })
}

/// Shows the event and the relays, asks, publishes, and says which relay made what of it.
async fn send(
    outgoing: Outgoing,
    server: nostr::key::PublicKey,
    author: &Chosen,
    sending: Sending,
    global: &Global,
    (out, talk): (&mut Out, &Talk),
) -> Result<(), Problem> {
    if author.ephemeral {
        talk.say("the key is made for this and then forgotten: nobody will know whose words these are");
    }
    let outgoing = [outgoing];
    if !publication::ask(&outgoing, sending, (out, talk))? {
        return Ok(());
    }
    let [Outgoing { event, relays, .. }] = &outgoing;
    let urls = publication::parse(relays)?;
    let deadline = global.timeout.unwrap_or(PUBLISH_DEADLINE);
    let sent = review::publish(event, Arc::new(author.keys.clone()), &urls, deadline);
    let published = sent.await.map_err(|error| Problem::internal(error.to_string()))?;
    let relays = publication::told(&published.report, 0);
    publication::conclude(&relays, talk)?;
    for url in published.refusing_kind() {
        talk.say(&format!("  {} takes no reviews (kind 1111)", Printable(url.as_str())));
    }
    if out.json {
        let (id, server, author) = (event.id.to_hex(), npub(&server), npub(&event.pubkey));
        return out.document(&Sent { schema: "cvm.review/1", id, server, author, relays: &relays });
    }
    out.line(&event.id.to_hex())
}
