//! `cvm discover`: servers that announce themselves.
use std::cmp::Reverse;

use contextvm::ServerIdentity;
use contextvm::announce::{DocumentKind, Lookalikes, MostPrice, Parent, ServerEntry, Wanted, schema};
use contextvm::client::discover::{Found, Scope};
use contextvm::client::names::SchemaName;
use contextvm::core::Printable;
use nostr::key::PublicKey;
use serde::Serialize;

use crate::args::{Discover, Global, Sort};
use crate::command::ls::PriceDocument;
use crate::finding;
use crate::finding::ping::{self, Asked, Presence};
use crate::finding::price::{self, Pricing};
use crate::finding::told::{self, RelayDocument};
use crate::finding::trust::{Circle, PersonDocument};
use crate::finding::words::{age, count, millis, name_of, now, short_npub};
use crate::keys::npub;
use crate::names;
use crate::output::{Out, Talk};
use crate::problem::{Code, Problem};
use crate::saved;
use crate::table::Table;

/// Most servers that are pinged, the most recently seen first.
const PINGED: usize = 128;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    servers: Vec<Entry>,
    /// Whose trust was asked for.
    #[serde(rename = "trustedBy", skip_serializing_if = "Option::is_none")]
    trusted_by: Option<Vec<PersonDocument>>,
    /// Servers that match, also those beyond the limit.
    matched: usize,
    known: usize,
    /// Whether every relay answered in full.
    complete: bool,
    relays: Vec<RelayDocument>,
    ms: u64,
}

#[derive(Serialize)]
struct Entry {
    server: String,
    pubkey: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    #[serde(rename = "looksLike", skip_serializing_if = "Option::is_none")]
    looks_like: Option<Alike>,
    tools: Vec<String>,
    categories: Vec<String>,
    price: String,
    prices: Vec<PriceDocument>,
    encryption: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    online: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u64>,
    reviews: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust: Option<Trust>,
    seen: Option<u64>,
    relays: Vec<String>,
}

/// Why a server is trusted by those who were named.
#[derive(Clone, Copy, Default, Serialize)]
struct Trust {
    /// One of them follows it, or is it.
    follows: bool,
    /// Reviews by them, and by those whom they follow.
    reviews: usize,
}

#[derive(Clone, Serialize)]
struct Alike {
    server: String,
    name: String,
    same: bool,
    saved: bool,
}

/// A server that matches, with what the table tells of it.
struct Row<'a> {
    entry: &'a ServerEntry,
    name: String,
    pricing: Pricing,
    presence: Option<Presence>,
    alike: Option<Alike>,
    /// `None` when nobody's trust was asked for.
    trust: Option<Trust>,
}

pub(crate) async fn run(
    options: &Discover,
    global: &Global,
    out: &mut Out,
    talk: &Talk,
) -> Result<(), Problem> {
    let (now, wanted) = (now(), wanted(options)?);
    let author = match &options.author {
        Some(name) => Some(Box::pin(names::resolve(name, global, talk)).await?.server.key),
        None => None,
    };
    let circle = Box::pin(circle(options, global, talk)).await?;
    let found = search(options, &wanted, (author, circle.as_ref()), global, talk).await?;
    let is_wanted = |entry: &&ServerEntry| {
        author.is_none_or(|author| author == *entry.key())
            && wanted.matches(entry)
            && has_schema(entry, &wanted, talk)
    };
    let rows = found.directory.servers().filter(is_wanted).map(|entry| Row::of(entry, circle.as_ref()));
    let is_trusted = |trust: Trust| trust.follows || trust.reviews > 0;
    let mut rows: Vec<Row<'_>> = rows.filter(|row| row.trust.is_none_or(is_trusted)).collect();
    if options.online {
        ping_all(&mut rows, global, talk).await?;
    }
    sort(&mut rows, options.sort);
    let matched = rows.len();
    rows.truncate(options.limit);
    compare_names(&mut rows, &found)?;
    if out.json {
        out.document(&document(&rows, matched, circle.as_ref(), &found))?;
    } else {
        let whole_keys = out.is_file() || talk.is_detailed();
        out.text(&table(&rows, whole_keys, now))?;
    }
    let filtered = wanted != Wanted::default() || author.is_some() || circle.is_some() || options.online;
    tell(&rows, matched, filtered, &found, talk);
    Ok(())
}

fn wanted(options: &Discover) -> Result<Wanted, Problem> {
    let wrong = |flag: &str, why: &str| {
        let problem = Problem::new(Code::InvalidValue, format!("{flag} is not understood: {why}"));
        problem.hint("cvm discover --help")
    };
    if options.sort == Sort::Latency && !options.online {
        return Err(wrong("--sort latency", "it needs the answers of --online").hint("add --online"));
    }
    let schema = options.schema.as_deref().map(|text| {
        let digits = text.trim().strip_prefix("schema:").unwrap_or(text);
        digits.parse::<SchemaName>().map_err(|error| wrong("--schema", &error.to_string()))
    });
    let most = options.max_price.as_deref().map(|text| {
        MostPrice::parse(text).ok_or_else(|| wrong("--max-price", "expected a price like 10sats"))
    });
    Ok(Wanted {
        text: Some(options.query.join(" ")).filter(|text| !text.trim().is_empty()),
        tool: options.tool.clone(),
        category: options.category.clone(),
        schema: schema.transpose()?.map(|schema| schema.digits().to_owned()),
        free: options.free,
        most: most.transpose()?,
        encrypted: options.encrypted,
        since: options.since.map(|since| now().saturating_sub(since.as_secs())),
    })
}

/// Whether a tool really has the schema that was asked for; a claim alone is not enough.
fn has_schema(entry: &ServerEntry, wanted: &Wanted, talk: &Talk) -> bool {
    let Some(digits) = &wanted.schema else { return true };
    let tools = entry.tools().into_iter().flat_map(|list| &list.items);
    let mut hashes = tools.filter_map(|tool| schema::hash_tool(&tool.raw).ok());
    let has = hashes.any(|hash| hash.to_string().starts_with(digits));
    if !has {
        talk.say(&format!("note: {} claims the schema and has another; it is left out", npub(entry.key())));
    }
    has
}

/// Finds out whom those follow whose trust is asked for.
async fn circle(options: &Discover, global: &Global, talk: &Talk) -> Result<Option<Circle>, Problem> {
    if options.trusted_by.is_empty() {
        return Ok(None);
    }
    let discovery = finding::discovery(global, talk)?;
    Circle::of_names(&options.trusted_by, &discovery, global, talk).await.map(Some)
}

async fn search(
    options: &Discover,
    wanted: &Wanted,
    (author, circle): (Option<PublicKey>, Option<&Circle>),
    global: &Global,
    talk: &Talk,
) -> Result<Found, Problem> {
    let schema = wanted.schema.as_ref().and_then(|digits| digits.parse().ok());
    let scope = Scope {
        authors: author.into_iter().collect(),
        category: options.category.clone(),
        common_schemas: wanted.schema.is_some() && schema.is_none(),
        schema,
        reviews: true,
        reviewers: circle.map(Circle::everybody).unwrap_or_default(),
        profiles: true,
        ..Scope::default()
    };
    let found = finding::discovery(global, talk)?.servers(&scope).await;
    let found = found.map_err(|error| finding::failed(&error));
    finding::warn(&finding::memory(talk), talk);
    found
}

impl<'a> Row<'a> {
    fn of(entry: &'a ServerEntry, circle: Option<&Circle>) -> Self {
        let (name, pricing) = (entry.name(), Pricing::of(price::all(entry)));
        let trust = circle.map(|circle| Trust::of(entry, circle));
        Self { entry, name, pricing, presence: None, alike: None, trust }
    }

    /// Names the server, the relays of its list, and what it understands.
    fn asked(&self) -> Asked {
        let relays = self.relays();
        let named = ServerIdentity { relays, ..ServerIdentity::from(*self.entry.key()) }.into();
        let tags = self.entry.server().is_some().then(|| self.entry.tags());
        Asked { named, tags }
    }

    fn relays(&self) -> Vec<String> {
        let list = self.entry.relay_list().map(|part| part.document.selection());
        list.into_iter().flatten().map(ToOwned::to_owned).collect()
    }

    fn tools(&self) -> Vec<String> {
        let tools = self.entry.tools().into_iter().flat_map(|list| &list.items);
        tools.map(|tool| tool.name.clone()).collect()
    }

    fn reviews(&self) -> usize {
        reviews(self.entry).count()
    }

    fn trusted_reviews(&self) -> usize {
        self.trust.map_or(0, |trust| trust.reviews)
    }

    /// Shows how many reviews there are, and how many of them count for more.
    fn reviews_shown(&self) -> String {
        match self.trusted_reviews() {
            0 => self.reviews().to_string(),
            trusted => format!("{} ({trusted} trusted)", self.reviews()),
        }
    }

    fn latency(&self) -> Option<std::time::Duration> {
        self.presence.as_ref().and_then(Presence::latency)
    }
}

impl Trust {
    fn of(entry: &ServerEntry, circle: &Circle) -> Self {
        // Nobody vouches for itself.
        let trusted = reviews(entry).filter(|by| *by != entry.key() && circle.holds(by)).count();
        Self { follows: circle.holds(entry.key()), reviews: trusted }
    }
}

/// Lists who wrote the reviews of a server; answers to them are none.
fn reviews(entry: &ServerEntry) -> impl Iterator<Item = &PublicKey> {
    let reviews = entry.reviews().iter().filter(|review| review.parent == Parent::Announcement);
    reviews.map(|review| &review.author)
}

/// Asks who is there, and keeps only those.
async fn ping_all(rows: &mut Vec<Row<'_>>, global: &Global, talk: &Talk) -> Result<(), Problem> {
    sort(rows, Sort::Seen);
    if rows.len() > PINGED {
        talk.say(&format!("note: only the {PINGED} that were seen last are asked whether they are online"));
        rows.truncate(PINGED);
    }
    let presences = ping::all(rows.iter().map(Row::asked).collect(), true, global, talk).await?;
    for row in rows.iter_mut() {
        let known = presences.iter().find(|(key, _)| key == row.entry.key());
        row.presence = known.map(|(_, presence)| presence.clone());
        if let Some(why) = row.presence.as_ref().and_then(Presence::reason) {
            talk.detail(&format!("  {}   {why}", npub(row.entry.key())));
        }
    }
    rows.retain(|row| row.latency().is_some());
    Ok(())
}

fn sort(rows: &mut [Row<'_>], by: Sort) {
    // What is alike stays in the order of age and key.
    rows.sort_by_key(|row| (Reverse(row.entry.last_seen()), *row.entry.key()));
    match by {
        Sort::Seen => {}
        Sort::Name => rows.sort_by_key(|row| (row.name.is_empty(), row.name.to_lowercase())),
        Sort::Price => rows.sort_by(|one, other| one.pricing.compare(&other.pricing)),
        Sort::Reviews => rows.sort_by_key(|row| Reverse((row.trusted_reviews(), row.reviews()))),
        Sort::Latency => rows.sort_by_key(|row| (row.latency().is_none(), row.latency())),
    }
}

/// Marks names that could be taken for that of a saved server or of another one that was found.
fn compare_names(rows: &mut [Row<'_>], found: &Found) -> Result<(), Problem> {
    let saved = saved::all()?;
    let (mut ours, mut theirs) = (Lookalikes::default(), Lookalikes::default());
    for server in &saved {
        ours.know(server.server.key, &server.name);
        let known = found.directory.server(&server.server.key);
        known.iter().for_each(|entry| ours.know(*entry.key(), &entry.name()));
    }
    found.directory.servers().for_each(|entry| theirs.know(*entry.key(), &entry.name()));
    let is_saved = |key: &PublicKey| saved.iter().any(|server| server.server.key == *key);
    for row in rows.iter_mut().filter(|row| !is_saved(row.entry.key())) {
        let alike = ours.of(row.entry.key(), &row.name).map(|alike| (alike, true));
        let alike = alike.or_else(|| theirs.of(row.entry.key(), &row.name).map(|alike| (alike, false)));
        row.alike = alike.map(|(alike, saved)| Alike {
            server: npub(alike.key),
            name: alike.name.to_owned(),
            same: alike.same,
            saved,
        });
    }
    Ok(())
}

fn document(rows: &[Row<'_>], matched: usize, circle: Option<&Circle>, found: &Found) -> Document {
    let entry = |row: &Row<'_>| Entry {
        server: npub(row.entry.key()),
        pubkey: row.entry.key().to_hex(),
        name: row.name.clone(),
        about: row.entry.about(),
        looks_like: row.alike.clone(),
        tools: row.tools(),
        categories: row.entry.tools().map(|list| list.categories.clone()).unwrap_or_default(),
        price: row.pricing.shown(),
        prices: price::all(row.entry).into_iter().map(PriceDocument::from).collect(),
        encryption: row.entry.tags().encryption,
        online: row.presence.as_ref().map(|presence| presence.latency().is_some()),
        ms: row.latency().map(millis),
        reviews: row.reviews(),
        trust: row.trust,
        seen: row.entry.last_seen(),
        relays: row.relays(),
    };
    Document {
        schema: "cvm.discover/1",
        servers: rows.iter().map(entry).collect(),
        trusted_by: circle.map(Circle::documents),
        matched,
        known: found.directory.servers().count(),
        complete: !found.is_partial(),
        relays: found.per_relay.iter().map(RelayDocument::from).collect(),
        ms: millis(found.took),
    }
}

fn table(rows: &[Row<'_>], whole_keys: bool, now: u64) -> String {
    let mut table = Table::new(&["NAME", "SERVER", ">TOOLS", "PRICE", "ENC", "ONLINE", ">REVIEWS", "SEEN"]);
    for row in rows {
        let mark = if row.alike.is_some() { " (!)" } else { "" };
        let key = row.entry.key();
        let tools = row.entry.list(DocumentKind::Tools).map_or_else(
            || "-".to_owned(),
            |list| format!("{}{}", list.document.items.len(), if list.document.more { "+" } else { "" }),
        );
        table.row([
            format!("{}{mark}", name_of(Some(&row.name))),
            if whole_keys { npub(key) } else { short_npub(key) },
            tools,
            row.pricing.shown(),
            if row.entry.tags().encryption { "yes" } else { "no" }.to_owned(),
            row.presence.as_ref().map_or_else(|| "-".to_owned(), Presence::shown),
            row.reviews_shown(),
            row.entry.last_seen().map_or_else(|| "-".to_owned(), |seen| age(seen, now)),
        ]);
    }
    table.to_text("")
}

/// Tells on standard error what the table cannot: who looks like whom, who did not answer, and what comes next.
fn tell(rows: &[Row<'_>], matched: usize, filtered: bool, found: &Found, talk: &Talk) {
    for row in rows {
        let Some(alike) = &row.alike else { continue };
        let how = if alike.same { "has the same name as" } else { "looks like" };
        let whose = if alike.saved { "your saved server" } else { "another server" };
        let (mine, other) = (name_of(Some(&row.name)), Printable(&alike.name));
        let key = short_npub(row.entry.key());
        talk.say(&format!("(!) {mine} {key} {how} {whose} {other} {}: compare the keys", alike.server));
    }
    let known = found.directory.servers().count();
    let shown = if matched > rows.len() { format!(", {} shown", rows.len()) } else { String::new() };
    let next = match rows.first() {
        Some(row) => format!("next: cvm inspect {}", npub(row.entry.key())),
        None if known > 0 || filtered => "try: cvm discover without filters".to_owned(),
        None => "try: look on other relays: --discovery wss://...".to_owned(),
    };
    let verb = if matched == 1 { "matches" } else { "match" };
    let servers = count(known, "server");
    talk.say(&format!("{matched} of {servers} {verb}{shown}   {}     {next}", told::summary(found)));
    told::silence(found, talk);
    let left_out = found.directory.refused().full;
    if left_out > 0 {
        talk.say(&format!("  {left_out} events had no room"));
    }
    if found.is_partial() || left_out > 0 {
        talk.say("  so there may be more servers than these");
    }
}
