//! Which parts of ContextVM (CEPs) a server claims, which were seen, and which were checked.
use contextvm::announce::{DocumentKind, Origin, ServerEntry, Verdict};
use contextvm::client::nip05::Verification;
use contextvm::core::PeerTags;
use contextvm::core::event::Protection;
use serde::Serialize;

use super::live::Live;
use super::schemas::Schema;
use crate::bar::size;
use crate::finding::price;
use crate::finding::words::count;

/// Whether something is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mark {
    Yes,
    No,
    /// Not tried, or there is nothing to claim.
    Unknown,
}

impl Mark {
    const fn of(flag: bool) -> Self {
        if flag { Self::Yes } else { Self::No }
    }

    pub(super) const fn shown(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "-",
        }
    }
}

/// One CEP.
#[derive(Debug, Serialize)]
pub(super) struct Cep {
    pub(super) cep: u8,
    pub(super) what: &'static str,
    /// The server says so, in an announcement or in a session.
    pub(super) claimed: Mark,
    /// It was there.
    pub(super) seen: Mark,
    /// It was checked.
    pub(super) verified: Mark,
    pub(super) evidence: String,
}

/// What the table is made of.
pub(super) struct Facts<'a> {
    pub(super) entry: Option<&'a ServerEntry>,
    pub(super) live: Option<&'a Live>,
    pub(super) nip05: Option<&'a Verification>,
    pub(super) schemas: &'a [Schema],
    /// Whether a relay of the server's list answered; `None` when none was asked.
    pub(super) listed: Option<bool>,
    /// Whether the session went over the relays of the server's list.
    pub(super) over_list: bool,
}

/// What one CEP is shown as.
type Shown = (Mark, Mark, Mark, String);

pub(super) fn table(facts: &Facts<'_>) -> Vec<Cep> {
    let tags = facts.entry.map(ServerEntry::tags).unwrap_or_default();
    let heard = facts.entry.map(ServerEntry::heard_tags).cloned().unwrap_or_default();
    let flag = |flag: fn(&PeerTags) -> bool| (Mark::of(flag(&tags)), facts.heard(flag(&heard)));
    let untried = |(claimed, seen): (Mark, Mark), why: &str| (claimed, seen, Mark::Unknown, why.to_owned());
    let rows = [
        (4, "encryption", facts.encryption(&tags)),
        (6, "announcements", facts.announcements()),
        (8, "payments", facts.payments()),
        (15, "common schemas", facts.schemas()),
        (17, "relay list", facts.relay_list()),
        (19, "ephemeral wraps", facts.ephemeral(&tags)),
        (22, "oversized transfer", facts.transfer(flag(|tags| tags.oversized))),
        (23, "profile", facts.profile()),
        (24, "reviews", facts.reviews()),
        (35, "discovery tags", facts.discovery(&heard)),
        (
            41,
            "open streams",
            untried(flag(|tags| tags.open_stream), "not tried: it takes a tool that streams"),
        ),
    ];
    let cep = |(cep, what, (claimed, seen, verified, evidence))| Cep {
        cep,
        what,
        claimed,
        seen,
        verified,
        evidence,
    };
    rows.into_iter().map(cep).collect()
}

impl Facts<'_> {
    /// What a session shows, and nothing without one.
    const fn heard(&self, seen: bool) -> Mark {
        if self.live.is_some() { Mark::of(seen) } else { Mark::Unknown }
    }

    fn protection(&self) -> Option<Protection> {
        self.live.and_then(|live| live.protection)
    }

    fn encryption(&self, tags: &PeerTags) -> Shown {
        let seen = self.heard(self.live.is_some_and(|live| live.view.supports_encryption));
        let (verified, evidence) = match self.protection() {
            Some(Protection::Wrapped(kind)) => {
                (Mark::Yes, format!("it answered in a gift wrap of kind {}", kind.kind()))
            }
            Some(Protection::Plain) if tags.encryption => (Mark::No, "it answered in clear".to_owned()),
            Some(Protection::Plain) => (Mark::Unknown, "it answered in clear".to_owned()),
            None => (Mark::Unknown, "no session".to_owned()),
        };
        (Mark::of(tags.encryption), seen, verified, evidence)
    }

    fn ephemeral(&self, tags: &PeerTags) -> Shown {
        let seen = self.heard(self.live.is_some_and(|live| live.view.supports_ephemeral_encryption));
        let (verified, evidence) = match self.protection() {
            Some(Protection::Wrapped(kind)) if kind.kind() == contextvm::core::kind::EPHEMERAL_GIFT_WRAP => {
                (Mark::Yes, "it answered in one".to_owned())
            }
            Some(_) if tags.ephemeral => (Mark::No, "it answered otherwise".to_owned()),
            Some(_) => (Mark::Unknown, "it answered otherwise".to_owned()),
            None => (Mark::Unknown, "no session".to_owned()),
        };
        (Mark::of(tags.ephemeral), seen, verified, evidence)
    }

    fn transfer(&self, (claimed, seen): (Mark, Mark)) -> Shown {
        let (verified, evidence) = match self.live.and_then(|live| live.transferred) {
            Some(bytes) => (Mark::Yes, format!("an answer of {} came whole", size(bytes))),
            None => (Mark::Unknown, "not tried: it takes a large message".to_owned()),
        };
        (claimed, seen, verified, evidence)
    }

    fn announcements(&self) -> Shown {
        let announced = self.entry.and_then(|entry| entry.server_sources().announced.as_ref());
        let tools = self.entry.and_then(|entry| entry.list_sources(DocumentKind::Tools));
        let names = |list: &contextvm::announce::ListDocument| {
            let mut names: Vec<String> = list.items.iter().map(|item| item.name.clone()).collect();
            names.sort_unstable();
            names
        };
        let seen = Mark::of(announced.is_some());
        let both = tools.and_then(|tools| tools.announced.as_ref().zip(tools.direct.as_ref()));
        let (verified, evidence) = match both {
            Some((announced, direct)) if names(&announced.document) == names(&direct.document) => {
                (Mark::Yes, "it lists the tools that it announced")
            }
            Some(_) => (Mark::No, "it lists other tools than it announced"),
            None if announced.is_some() => (Mark::Unknown, "signed by its key; not compared with a session"),
            None => (Mark::Unknown, "none was found"),
        };
        (Mark::Unknown, seen, verified, evidence.to_owned())
    }

    fn payments(&self) -> Shown {
        let prices = self.entry.map(price::by_origin).unwrap_or_default();
        let direct = prices.iter().any(|(_, origin)| *origin == Origin::Direct);
        let server = self.entry.and_then(ServerEntry::server).map(|part| &part.document);
        let methods = server.map(|server| server.pmi.len()).unwrap_or_default();
        let evidence = match (prices.len(), methods) {
            (0, 0) => "it announces no price".to_owned(),
            (prices, methods) => {
                format!("{}, {}; nothing was bought", count(prices, "price"), count(methods, "method"))
            }
        };
        (Mark::of(prices.len() + methods > 0), self.heard(direct), Mark::Unknown, evidence)
    }

    fn schemas(&self) -> Shown {
        let of = |wanted: fn(&Verdict) -> bool| {
            self.schemas.iter().filter(|schema| schema.verdict.as_ref().is_ok_and(wanted)).count()
        };
        let matching = of(|verdict| matches!(verdict, Verdict::Match(_)));
        let others = self.schemas.len() - matching;
        let (verified, evidence) = match (matching, others) {
            (0, 0) => (Mark::Unknown, "no tool claims a common schema".to_owned()),
            (good, 0) => (
                Mark::Yes,
                format!("recomputed: {} as claimed", count(good, "hash").replace("hashs", "hashes")),
            ),
            (good, bad) => (Mark::No, format!("recomputed: {good} as claimed, {bad} not")),
        };
        let claimed = Mark::of(!self.schemas.is_empty());
        (claimed, claimed, verified, evidence)
    }

    fn relay_list(&self) -> Shown {
        let seen = Mark::of(self.entry.is_some_and(|entry| entry.relay_list().is_some()));
        let (verified, evidence) = match (seen, self.over_list, self.listed) {
            (Mark::No | Mark::Unknown, _, _) => (Mark::Unknown, "none was found"),
            (_, true, _) => (Mark::Yes, "it answered over the relays of its list"),
            (_, false, Some(true)) => {
                (Mark::Unknown, "a listed relay answers; the session did not need the list")
            }
            (_, false, Some(false)) => (Mark::No, "none of the listed relays answered"),
            (_, false, None) => (Mark::Unknown, "no listed relay may be asked"),
        };
        (Mark::Unknown, seen, verified, evidence.to_owned())
    }

    fn profile(&self) -> Shown {
        let seen = Mark::of(self.entry.is_some_and(|entry| entry.profile().is_some()));
        let (verified, evidence) = match self.nip05 {
            Some(Verification::Verified) => (Mark::Yes, "its domain names this key (NIP-05)"),
            Some(Verification::Mismatch(_) | Verification::Malformed) => {
                (Mark::No, "its NIP-05 name is not this key's")
            }
            Some(_) => (Mark::Unknown, "its NIP-05 name could not be checked"),
            None if seen == Mark::Yes => (Mark::Unknown, "signed by its key; it claims no NIP-05 name"),
            None => (Mark::Unknown, "none was found"),
        };
        (Mark::Unknown, seen, verified, evidence.to_owned())
    }

    fn reviews(&self) -> Shown {
        let number = self.entry.map(|entry| entry.reviews().len()).unwrap_or_default();
        let seen = Mark::of(number > 0);
        let evidence = match number {
            0 => "none was found".to_owned(),
            _ => format!("{}; the signatures are right", count(number, "comment")),
        };
        (Mark::Unknown, seen, if number > 0 { Mark::Yes } else { Mark::Unknown }, evidence)
    }

    fn discovery(&self, heard: &PeerTags) -> Shown {
        let announced = self.entry.and_then(|entry| entry.server_sources().announced.as_ref());
        let announced = announced.map(|part| &part.document.tags);
        let flags = |tags: &PeerTags| [tags.encryption, tags.ephemeral, tags.oversized, tags.open_stream];
        let seen = self.heard(!heard.raw.is_empty());
        let (verified, evidence) = match (self.live, announced) {
            (None, _) => (Mark::Unknown, "no session"),
            (Some(_), _) if heard.raw.is_empty() => (Mark::No, "its messages carried none"),
            (Some(_), Some(announced)) if flags(announced) == flags(heard) => {
                (Mark::Yes, "they say what it announced")
            }
            (Some(_), Some(_)) => (Mark::No, "they say something else than it announced"),
            (Some(_), None) => (Mark::Yes, "its first message carried them"),
        };
        (Mark::Unknown, seen, verified, evidence.to_owned())
    }
}
