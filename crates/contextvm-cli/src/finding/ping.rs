//! Whether servers answer now: one round trip each, several at once.
use std::time::{Duration, Instant};

use contextvm::PeerTags;
use contextvm::client::{CallError, Client, ClientOptions, EncryptionMode, Error, ErrorKind, GiftWrapMode};
use futures_util::stream::{self, StreamExt as _};
use nostr::key::PublicKey;
use serde_json::value::RawValue;

use super::words::millis;
use crate::args::{Encryption, GiftWrap, Global};
use crate::connect;
use crate::keys::{self, Chosen};
use crate::names::Named;
use crate::output::Talk;
use crate::problem::Problem;

/// Most servers asked at once.
const AT_ONCE: usize = 32;
/// How long one server may take in all, connecting included.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long all of them may take.
const ALL: Duration = Duration::from_secs(30);
/// Says who we are to a server that does not answer pings.
const INITIALIZE: &str =
    r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"cvm","version":"0"}}"#;

/// Whether a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It answered after this time, if only with an error.
    Online(Duration),
    /// It did not, for this reason.
    Away(&'static str),
}

impl Presence {
    pub(crate) const fn latency(&self) -> Option<Duration> {
        match self {
            Self::Online(took) => Some(*took),
            Self::Away(_) => None,
        }
    }

    pub(crate) const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Online(_) => None,
            Self::Away(why) => Some(why),
        }
    }

    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Online(took) => format!("{} ms", millis(*took)),
            Self::Away(_) => "no".to_owned(),
        }
    }
}

/// A server to ask, and what it announced of the forms that it understands.
pub(crate) struct Asked {
    pub(crate) named: Named,
    pub(crate) tags: Option<PeerTags>,
}

/// Asks all servers over the relays that came with their names. For those of the others it is searched, unless that was
/// done already: then they are tried where they were found.
pub(crate) async fn all(
    servers: Vec<Asked>,
    searched: bool,
    global: &Global,
    talk: &Talk,
) -> Result<Vec<(PublicKey, Presence)>, Problem> {
    // Strangers that were found are no business of a key that the environment names for other purposes.
    let reference = global.key.as_deref().or(searched.then_some("ephemeral"));
    let chosen = keys::choose_or_ephemeral(reference)?;
    let until = Instant::now() + global.timeout.unwrap_or(ALL);
    let keys: Vec<PublicKey> = servers.iter().map(|asked| asked.named.server.key).collect();
    let asked = stream::iter(servers).map(|asked| {
        let (key, options) = (asked.named.server.key, options(&chosen, searched, global, &asked, talk));
        async move { (key, one(options).await) }
    });
    let mut asked = std::pin::pin!(asked.buffer_unordered(AT_ONCE));
    let mut presences = Vec::new();
    while let Ok(Some(presence)) = tokio::time::timeout_at(until.into(), asked.next()).await {
        presences.push(presence);
    }
    for key in keys {
        if !presences.iter().any(|(known, _)| *known == key) {
            presences.push((key, Presence::Away("there was no time left to ask it")));
        }
    }
    Ok(presences)
}

fn options(chosen: &Chosen, searched: bool, global: &Global, asked: &Asked, talk: &Talk) -> ClientOptions {
    let patience = global.timeout.unwrap_or(PATIENCE).min(PATIENCE);
    let mut options = connect::options_of(chosen, global, &asked.named, talk, patience);
    if searched {
        options.fallback_relays = options.discovery_relays.replace(Vec::new()).unwrap_or_default();
    }
    if let Some(tags) = &asked.tags {
        let optional = global.encryption == Encryption::Optional && global.gift_wrap == GiftWrap::Optional;
        if optional && tags.ephemeral {
            options.config.gift_wrap = GiftWrapMode::Ephemeral;
        } else if optional && !tags.encryption && chosen.ephemeral {
            // A ping of nobody holds nothing to hide, and this server would hear no other.
            options.config.encryption = EncryptionMode::Disabled;
        }
    }
    options.ready_timeout = patience / 2;
    options.config.limits.request_timeout = patience / 2;
    options
}

async fn one(options: ClientOptions) -> Presence {
    // Looking for its relays takes time of its own.
    let patience = 2 * options.ready_timeout;
    let (client, _messages) = match tokio::time::timeout(patience, Box::pin(Client::connect(options))).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return Presence::Away(why_not(&error)),
        Err(_late) => return Presence::Away("none of its relays could be reached in time"),
    };
    let presence = ask(&client).await;
    let _late = tokio::time::timeout(Duration::from_millis(200), client.close()).await;
    presence
}

/// Sends a ping, and `initialize` to who is silent: some servers answer nothing else before it.
async fn ask(client: &Client) -> Presence {
    let hello = RawValue::from_string(INITIALIZE.to_owned()).ok();
    for (method, params) in [("ping", None), ("initialize", hello)] {
        let begun = Instant::now();
        match client.request(method, params).await {
            Ok(_) | Err(CallError::Server { .. } | CallError::Answer) => {
                return Presence::Online(begun.elapsed());
            }
            Err(_) => {}
        }
    }
    Presence::Away("it did not answer; it may be off, or not answer to strangers")
}

fn why_not(error: &Error) -> &'static str {
    if error.kind() == ErrorKind::Relay {
        "none of its relays could be reached"
    } else {
        "no relay of it is known"
    }
}
