//! The page of a server, for people.
use contextvm::announce::{DocumentKind, Origin, Parent, ServerEntry};
use contextvm::client::nip05::Verification;
use contextvm::core::Printable;
use contextvm::core::event::Protection;

use super::Report;
use crate::finding::price;
use crate::finding::told;
use crate::finding::words::{ago, count, millis, name_of, now, short_npub};
use crate::keys::npub;
use crate::saved::pins::{self, Standing};
use crate::table::Table;

/// Most prices, schemas and capabilities that are shown; all of them are in the JSON document.
const MOST: usize = 30;

/// Sections of labelled lines.
struct Page {
    text: String,
    now: u64,
}

impl Page {
    fn section(&mut self, title: &str) {
        self.text.push_str(&format!("{title}\n"));
    }

    fn line(&mut self, label: &str, value: &str) {
        self.text.push_str(format!("  {label:<13} {value}").trim_end());
        self.text.push('\n');
    }

    fn table(&mut self, table: &Table) {
        self.text.push_str(&table.to_text("  "));
    }

    /// Says that there are more than are shown.
    fn rest(&mut self, all: usize) {
        if all > MOST {
            self.line("...", &format!("{} more; --json has them all", all - MOST));
        }
    }
}

pub(super) fn page(report: &Report) -> String {
    let mut page = Page { text: String::new(), now: now() };
    identity(report, &mut page);
    announcement(report, &mut page);
    relays(report, &mut page);
    live(report, &mut page);
    ceps(report, &mut page);
    capabilities(report, &mut page);
    schemas(report, &mut page);
    prices(report, &mut page);
    reviews(report, &mut page);
    search(report, &mut page);
    page.text
}

fn identity(report: &Report, page: &mut Page) {
    let name = report.entry().map(ServerEntry::name).unwrap_or_default();
    page.section(&format!("{}  {}", name_of(Some(&name)), npub(&report.key)));
    if let Some(alike) = &report.alike {
        page.line("(!)", &format!("looks like your saved server {alike}: compare the keys"));
    }
    page.section("identity");
    page.line("hex", &report.key.to_hex());
    if let Some(saved) = &report.saved {
        page.line("saved as", &Printable(&saved.name).to_string());
    }
    if let Some(about) = report.entry().and_then(ServerEntry::about) {
        page.line("about", &Printable::short(about.trim(), 300).to_string());
    }
    let Some(part) = report.entry().and_then(ServerEntry::profile) else {
        page.line("profile", &report.absent("none (kind 0)"));
        return;
    };
    let profile = &part.document;
    page.line("profile", &format!("{}   {}", ago(part.created_at, page.now), part.id.to_hex()));
    for (label, value) in
        [("name", &profile.name), ("website", &profile.website), ("lightning", &profile.lud16)]
    {
        if let Some(value) = value {
            page.line(label, &Printable::short(value, 120).to_string());
        }
    }
    match &report.nip05 {
        Some((claim, verification)) => {
            let claim = Printable::short(claim, 120);
            page.line("nip05", &format!("{claim}   {}", verdict(verification)));
        }
        None => page.line("nip05", "it claims no name"),
    }
}

/// Says what a domain said.
pub(super) fn verdict(verification: &Verification) -> String {
    match verification {
        Verification::Verified => "verified".to_owned(),
        Verification::Mismatch(other) => match other {
            Some(other) => format!("mismatch: the domain names {}", npub(other)),
            None => "mismatch: the domain does not know the name".to_owned(),
        },
        Verification::Malformed => "mismatch: not of the form name@domain".to_owned(),
        Verification::Unreachable(error) => format!("not checked: {}", Printable(&error.to_string())),
        _ => "not checked".to_owned(),
    }
}

fn announcement(report: &Report, page: &mut Page) {
    page.section("announcement");
    let entry = report.entry();
    let Some(part) = entry.and_then(|entry| entry.server_sources().announced.as_ref()) else {
        page.line("11316", &report.absent("none"));
        return;
    };
    let document = &part.document;
    page.line("11316", &format!("{}   {}", ago(part.created_at, page.now), part.id.to_hex()));
    let said = |text: &Option<String>| name_of(text.as_deref());
    page.line("program", &format!("{} {}", said(&document.name), said(&document.version)));
    let versions: Vec<String> = document
        .protocol_versions
        .iter()
        .take(5)
        .map(|text| Printable::short(text, 20).to_string())
        .collect();
    page.line("mcp", &versions.join(", "));
    let categories = entry.map(super::categories).unwrap_or_default();
    if !categories.is_empty() {
        let shown: Vec<String> =
            categories.iter().take(MOST).map(|word| Printable::short(word, 40).to_string()).collect();
        page.line("categories", &shown.join(", "));
    }
}

fn relays(report: &Report, page: &mut Page) {
    page.section("relays");
    let Some(part) = report.entry().and_then(ServerEntry::relay_list) else {
        page.line("10002", &report.absent("no list"));
        return;
    };
    page.line("10002", &format!("{}   {}", ago(part.created_at, page.now), part.id.to_hex()));
    let mut table = Table::new(&["", "", ""]);
    report.relays.iter().for_each(|relay| table.row(relay.row()));
    page.table(&table);
}

fn live(report: &Report, page: &mut Page) {
    page.section("session");
    let live = match &report.live {
        Ok(live) => live,
        Err(problem) => {
            page.line("none", problem.message());
            return problem.facts().iter().for_each(|fact| page.line("", fact));
        }
    };
    let round_trip = match live.round_trip {
        Some(took) => format!("{} ms", millis(took)),
        None => "ping was not answered".to_owned(),
    };
    page.line(
        "answered",
        &format!("connected and greeted in {} ms, round trip {round_trip}", millis(live.greeted)),
    );
    let revision = live.revision.as_deref().unwrap_or("?");
    page.line("mcp", &Printable::short(revision, 20).to_string());
    let protection = match live.protection {
        Some(Protection::Wrapped(kind)) => format!("yes, in gift wraps of kind {}", kind.kind()),
        Some(Protection::Plain) => "no".to_owned(),
        None => "unknown: it gave no list".to_owned(),
    };
    page.line("encrypted", &protection);
    let over: Vec<String> = live.relays.iter().map(|url| Printable::short(url, 200).to_string()).collect();
    page.line("over", &over.join("  "));
    match &live.standing {
        Some(Standing::Changed(diff)) => {
            page.line("tools", &format!("not those that you agreed to: {}", pins::summary(diff)));
            pins::lines(diff).iter().for_each(|line| page.line("", line));
            let name = report.saved.as_ref().map_or("NAME", |saved| saved.name.as_str());
            page.line("", &format!("to agree to them: cvm server trust {}", Printable(name)));
        }
        Some(Standing::Same) => page.line("tools", "those that you agreed to"),
        Some(Standing::First) => page.line("tools", "pinned now: you will see when they change"),
        None => {}
    }
}

fn ceps(report: &Report, page: &mut Page) {
    page.section("protocol");
    let mut table = Table::new(&["CEP", "", "CLAIMED", "SEEN", "VERIFIED", "EVIDENCE"]);
    for cep in &report.ceps {
        table.row([
            cep.cep.to_string(),
            cep.what.to_owned(),
            cep.claimed.shown().to_owned(),
            cep.seen.shown().to_owned(),
            cep.verified.shown().to_owned(),
            cep.evidence.clone(),
        ]);
    }
    page.table(&table);
}

fn capabilities(report: &Report, page: &mut Page) {
    page.section("capabilities");
    let entry = report.entry();
    match entry.and_then(ServerEntry::server) {
        Some(part) => {
            let names = part.document.capability_names();
            let shown: Vec<String> =
                names.iter().take(MOST).map(|name| Printable::short(name, 40).to_string()).collect();
            page.line("claimed", &shown.join(", "));
        }
        None => page.line("claimed", "unknown: neither announced nor heard"),
    }
    for kind in DocumentKind::LISTS {
        let label = kind.member().unwrap_or_default();
        let label = if kind == DocumentKind::ResourceTemplates { "templates" } else { label };
        let value = match entry.and_then(|entry| entry.list(kind)) {
            Some(part) => {
                let more = if part.document.more { " or more" } else { "" };
                let origin = match part.origin {
                    Origin::Direct => "heard in the session".to_owned(),
                    Origin::Announced => format!("announced {}", ago(part.created_at, page.now)),
                };
                format!("{}{more}   {origin}", part.document.items.len())
            }
            None => {
                report.missing(kind).map_or_else(|| "no list".to_owned(), |why| format!("no list: {why}"))
            }
        };
        page.line(label, &value);
    }
}

fn schemas(report: &Report, page: &mut Page) {
    page.section("schemas");
    if report.schemas.is_empty() {
        return page.line("none", "no tool claims a common schema");
    }
    let mut table = Table::new(&["", "", ""]);
    for schema in report.schemas.iter().take(MOST) {
        let (verdict, hash) = schema.shown();
        table.row([Printable::short(&schema.tool, 60).to_string(), verdict.to_owned(), hash]);
    }
    page.table(&table);
    page.rest(report.schemas.len());
}

fn prices(report: &Report, page: &mut Page) {
    page.section("prices");
    let prices = report.entry().map(price::by_origin).unwrap_or_default();
    if prices.is_empty() {
        return page.line("free", "it announces no price");
    }
    let heard = report.live.is_ok();
    let mut table = Table::new(&["", "", ""]);
    for (price, origin) in prices.iter().take(MOST) {
        let what = price.capability.to_string();
        let only =
            if heard && *origin == Origin::Announced { "announced, not heard in the session" } else { "" };
        table.row([Printable::short(&what, 80).to_string(), price::shown(price), only.to_owned()]);
    }
    page.table(&table);
    page.rest(prices.len());
}

fn reviews(report: &Report, page: &mut Page) {
    page.section("reviews");
    let all = report.entry().map(ServerEntry::reviews).unwrap_or_default();
    let top = all.iter().filter(|review| review.parent == Parent::Announcement).count();
    if all.is_empty() {
        return page.line("none", &report.absent("none"));
    }
    page.line(
        "count",
        &format!(
            "{}, {}",
            count(top, "review"),
            count(all.len() - top, "reply").replace("replys", "replies")
        ),
    );
    if let Some(latest) = all.iter().max_by_key(|review| review.created_at) {
        let when = ago(latest.created_at, page.now);
        let said = Printable::short(latest.content.trim(), 160);
        page.line("latest", &format!("{when} by {}: {said}", short_npub(&latest.author)));
    }
}

fn search(report: &Report, page: &mut Page) {
    page.section(&format!("search   {}", report.search.summary));
    for answer in &report.search.answers {
        page.text.push_str(&format!("  {}\n", told::relay(answer)));
    }
}
