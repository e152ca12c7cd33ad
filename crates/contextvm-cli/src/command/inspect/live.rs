//! One session with the server that is inspected: what it says right now, beside what it announced.
use std::time::{Duration, Instant};

use contextvm::announce::{Directory, DocumentKind, ServerEntry};
use contextvm::client::{CallError, Direction, ServerView};
use contextvm::core::event::Protection;
use serde_json::value::RawValue;

use crate::args::{Encryption, GiftWrap, Global};
use crate::connect::Session;
use crate::finding::words::now;
use crate::names::Named;
use crate::output::Talk;
use crate::problem::Problem;
use crate::saved::pins::{self, Standing};

/// How long the session may take unless another time was asked for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a ping may take.
const PING: Duration = Duration::from_secs(3);

/// What one session showed.
pub(super) struct Live {
    /// Until a relay was connected and the greeting answered.
    pub(super) greeted: Duration,
    /// One round trip.
    pub(super) round_trip: Option<Duration>,
    /// How the list of tools travelled.
    pub(super) protection: Option<Protection>,
    /// Bytes of the last answer that took more than one event.
    pub(super) transferred: Option<u64>,
    pub(super) revision: Option<String>,
    pub(super) relays: Vec<String>,
    pub(super) view: ServerView,
    /// How the tools stand to those that were pinned, where the server is saved.
    pub(super) standing: Option<Standing>,
    /// Lists that it did not give, and why.
    pub(super) missing: Vec<(DocumentKind, String)>,
}

/// Talks to the server once, and adds what it hears to the view.
pub(super) async fn ask(
    named: Named,
    global: &Global,
    directory: &mut Directory,
    talk: &Talk,
) -> Result<Live, Problem> {
    let mut global = Global { timeout: Some(global.timeout.unwrap_or(PATIENCE)), ..global.clone() };
    let announced = directory.server(&named.server.key).filter(|entry| entry.server().is_some());
    let tags = announced.map(ServerEntry::tags);
    if global.gift_wrap == GiftWrap::Optional && tags.as_ref().is_some_and(|tags| tags.ephemeral) {
        global.gift_wrap = GiftWrap::Ephemeral;
    }
    let plain = global.encryption == Encryption::Optional && tags.is_some_and(|tags| !tags.encryption);
    let begun = Instant::now();
    let session = Box::pin(Session::open_named(&global, named, talk)).await;
    let session = session.map_err(|problem| match plain {
        true => problem.fact("it announces no encryption; in clear: --encryption disabled"),
        false => problem,
    })?;
    let greeted = begun.elapsed();
    let begun = Instant::now();
    // Whoever does not answer pings may have the rest of what is asked for.
    let ping = tokio::time::timeout(PING, session.client.request("ping", None)).await;
    let answered = matches!(ping, Ok(Ok(_) | Err(CallError::Server { .. } | CallError::Answer)));
    let round_trip = answered.then(|| begun.elapsed());
    let (mut protection, mut missing, mut standing) = (None, Vec::new(), None::<Standing>);
    let mut lists: Vec<(DocumentKind, Vec<Box<RawValue>>)> = Vec::new();
    for kind in DocumentKind::LISTS {
        if !offers(&session, kind) {
            continue;
        }
        match session.list(kind.method(), kind.member().unwrap_or_default()).await {
            Ok(listed) => {
                if let (DocumentKind::Tools, Some(saved), false) = (kind, &session.saved, listed.more) {
                    standing = Some(pins::look(saved, &listed.items)?);
                }
                protection = protection.or(listed.protection);
                lists.push((kind, listed.items));
            }
            Err(problem) => missing.push((kind, problem.message().to_owned())),
        }
    }
    let moved = session.client.transfers().borrow().clone();
    let moved = moved.filter(|moved| moved.direction == Direction::Received && moved.bytes == moved.total);
    let transferred = moved.map(|moved| moved.total);
    let relays =
        session.client.status().relays.into_iter().filter(|(_, up)| *up).map(|(url, _)| url).collect();
    let view = session.client.server_view().await.unwrap_or_default();
    let revision = session.welcome.get("protocolVersion").and_then(serde_json::Value::as_str);
    let revision = revision.map(ToOwned::to_owned);
    session.close().await;
    // What has no room, or is no document, is shown as not heard.
    let _refused = view.add_to(directory, now());
    for (kind, items) in &lists {
        let _refused = view.add_list_to(directory, *kind, items, now());
    }
    Ok(Live { greeted, round_trip, protection, transferred, revision, relays, view, standing, missing })
}

/// Whether the server says that it has such a list.
fn offers(session: &Session, kind: DocumentKind) -> bool {
    let capability = match kind {
        DocumentKind::Server => return false,
        DocumentKind::Tools => "tools",
        DocumentKind::Resources | DocumentKind::ResourceTemplates => "resources",
        DocumentKind::Prompts => "prompts",
    };
    session.welcome.get("capabilities").is_some_and(|capabilities| capabilities.get(capability).is_some())
}
