//! The page of a server, for programs: `cvm.inspect/1`.
use contextvm::announce::{DocumentKind, Parent, ServerEntry};
use contextvm::client::nip05::Verification;
use contextvm::core::event::Protection;
use serde::Serialize;
use serde_json::{Value, json};

use super::ceps::Cep;
use super::relays::Listed;
use super::schemas::{Schema, SchemaDocument};
use super::{Report, shown};
use crate::command::ls::PriceDocument;
use crate::finding::price;
use crate::finding::told::RelayDocument;
use crate::finding::words::{self, millis};
use crate::keys::npub;
use crate::saved::pins::{self, Standing};

/// Every member is always there; one that is not known is `null`, and `live` and `search` say why.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a> {
    schema: &'static str,
    server: String,
    pubkey: String,
    name: String,
    saved_as: Option<&'a str>,
    looks_like: Option<&'a str>,
    profile: Value,
    nip05: Value,
    announcement: Value,
    lists: Vec<Value>,
    relay_list: Value,
    live: Value,
    ceps: &'a [Cep],
    capabilities: Vec<String>,
    schemas: Vec<SchemaDocument<'a>>,
    prices: Vec<PriceDocument>,
    reviews: Value,
    search: Value,
}

pub(super) fn of(report: &Report) -> Document<'_> {
    let entry = report.entry();
    let prices = entry.map(price::by_origin).unwrap_or_default();
    let capabilities = entry.and_then(ServerEntry::server).map(|part| part.document.capability_names());
    Document {
        schema: "cvm.inspect/1",
        server: npub(&report.key),
        pubkey: report.key.to_hex(),
        name: entry.map(ServerEntry::name).unwrap_or_default(),
        saved_as: report.saved.as_ref().map(|saved| saved.name.as_str()),
        looks_like: report.alike.as_deref(),
        profile: entry.map(profile).unwrap_or_default(),
        nip05: nip05(report),
        announcement: entry.map(announcement).unwrap_or_default(),
        lists: entry.map(lists).unwrap_or_default(),
        relay_list: relay_list(report),
        live: live(report),
        ceps: &report.ceps,
        capabilities: capabilities.unwrap_or_default(),
        schemas: report.schemas.iter().map(Schema::document).collect(),
        prices: prices.into_iter().map(|(price, origin)| PriceDocument::of(price, origin)).collect(),
        reviews: entry.map(reviews).unwrap_or_default(),
        search: json!({
            "summary": report.search.summary,
            "failed": report.search.failed,
            "relays": report.search.answers.iter().map(RelayDocument::from).collect::<Vec<_>>(),
        }),
    }
}

fn profile(entry: &ServerEntry) -> Value {
    let Some(part) = entry.profile() else { return Value::Null };
    let profile = &part.document;
    json!({
        "id": part.id.to_hex(),
        "createdAt": part.created_at,
        "name": profile.name,
        "displayName": profile.display_name,
        "about": profile.about,
        "picture": profile.picture,
        "website": profile.website,
        "nip05": profile.nip05,
        "lud16": profile.lud16,
    })
}

fn nip05(report: &Report) -> Value {
    let Some((claim, verification)) = &report.nip05 else { return Value::Null };
    let status = match verification {
        Verification::Verified => "verified",
        Verification::Mismatch(_) | Verification::Malformed => "mismatch",
        Verification::Unreachable(_) | _ => "unchecked",
    };
    json!({ "name": claim, "status": status, "text": shown::verdict(verification) })
}

fn announcement(entry: &ServerEntry) -> Value {
    let Some(part) = &entry.server_sources().announced else { return Value::Null };
    let document = &part.document;
    json!({
        "id": part.id.to_hex(),
        "createdAt": part.created_at,
        "name": document.name,
        "title": document.title,
        "version": document.version,
        "protocolVersions": document.protocol_versions,
        "about": entry.about(),
        "paymentMethods": document.pmi,
        "categories": super::categories(entry),
    })
}

fn lists(entry: &ServerEntry) -> Vec<Value> {
    let one = |kind: DocumentKind| {
        let part = entry.list(kind)?;
        Some(json!({
            "list": kind.member(),
            "names": part.document.items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>(),
            "more": part.document.more,
            "origin": words::origin(part.origin),
            "id": part.id.to_hex(),
            "createdAt": part.created_at,
        }))
    };
    DocumentKind::LISTS.into_iter().filter_map(one).collect()
}

fn relay_list(report: &Report) -> Value {
    let Some(part) = report.entry().and_then(ServerEntry::relay_list) else { return Value::Null };
    let relays: Vec<Value> = report.relays.iter().map(Listed::document).collect();
    json!({ "id": part.id.to_hex(), "createdAt": part.created_at, "relays": relays })
}

fn live(report: &Report) -> Value {
    let live = match &report.live {
        Ok(live) => live,
        Err(problem) => {
            return json!({ "answered": false, "reason": problem.message(), "facts": problem.facts() });
        }
    };
    let wrap = match live.protection {
        Some(Protection::Wrapped(kind)) => Some(kind.kind()),
        Some(Protection::Plain) | None => None,
    };
    let (standing, changes) = match &live.standing {
        None => (None, None),
        Some(Standing::First) => (Some("first"), None),
        Some(Standing::Same) => (Some("same"), None),
        Some(Standing::Changed(diff)) => (Some("changed"), Some(pins::changes(diff))),
    };
    json!({
        "answered": true,
        "greetedMs": millis(live.greeted),
        "ms": live.round_trip.map(millis),
        "protocolVersion": live.revision,
        "encrypted": live.protection.map(Protection::is_encrypted),
        "wrapKind": wrap,
        "relays": live.relays,
        "tools": standing,
        "changes": changes,
    })
}

fn reviews(entry: &ServerEntry) -> Value {
    let all = entry.reviews();
    let top = all.iter().filter(|review| review.parent == Parent::Announcement).count();
    let latest = all.iter().max_by_key(|review| review.created_at).map(|latest| {
        json!({
            "id": latest.id.to_hex(),
            "author": npub(&latest.author),
            "createdAt": latest.created_at,
            "content": latest.content,
        })
    });
    json!({ "reviews": top, "replies": all.len() - top, "latest": latest })
}
