//! `cvm ls`: a server's tools as signatures, or the saved servers.
use contextvm::announce::{Origin, Price, Priced};
use contextvm::core::Printable;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::args::{Global, Ls};
use crate::connect::Session;
use crate::finding::ping::{self, Asked, Presence};
use crate::finding::price::{self, Pricing};
use crate::finding::words::{self, count, millis, short_npub};
use crate::keys::npub;
use crate::output::{Out, Talk};
use crate::problem::Problem;
use crate::saved::pins::{self, Change, Standing};
use crate::saved::{self, SavedServer};
use crate::signature::signature;
use crate::table::Table;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    server: String,
    #[serde(rename = "serverInfo")]
    info: &'a Value,
    #[serde(rename = "protocolVersion")]
    protocol: &'a Value,
    tools: &'a [Box<RawValue>],
    /// What changed of a saved server's tools since they were agreed to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<Change<'a>>,
    prices: Vec<PriceDocument>,
    /// Who said all this: the server itself, in this session.
    origin: &'static str,
}

/// One announced price, for programs.
#[derive(Serialize)]
pub(crate) struct PriceDocument {
    capability: String,
    amount: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    most: Option<String>,
    unit: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'static str>,
}

impl PriceDocument {
    /// Says who named the price.
    pub(crate) fn of(price: &Price, origin: Origin) -> Self {
        Self { origin: Some(words::origin(origin)), ..price.into() }
    }
}

impl From<&Price> for PriceDocument {
    fn from(price: &Price) -> Self {
        let (amount, most, unit) = (price.amount.clone(), price.most.clone(), price.unit.clone());
        Self { capability: price.capability.to_string(), amount, most, unit, origin: None }
    }
}

#[derive(Serialize)]
struct SavedDocument {
    schema: &'static str,
    servers: Vec<SavedEntry>,
}

#[derive(Serialize)]
struct SavedEntry {
    name: String,
    server: String,
    relays: Vec<String>,
    online: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

pub(crate) async fn run(options: &Ls, global: &Global, out: &mut Out, talk: &Talk) -> Result<(), Problem> {
    match &options.server {
        Some(server) => Box::pin(of_server(server, global, out, talk)).await,
        None => Box::pin(saved(global, out, talk)).await,
    }
}

/// Lists what one server offers.
pub(crate) async fn of_server(
    server: &str,
    global: &Global,
    out: &mut Out,
    talk: &Talk,
) -> Result<(), Problem> {
    let session = Box::pin(Session::open(global, server, talk)).await?;
    let tools = pins::list(&session).await?;
    let standing = session.saved.as_ref().map(|saved| pins::look(saved, &tools)).transpose()?;
    let changed = match &standing {
        Some(Standing::Changed(diff)) => Some(diff),
        Some(Standing::First | Standing::Same) | None => None,
    };
    // A client that has closed by now has shown nothing more.
    let view = session.client.server_view().await.unwrap_or_default();
    let prices: Vec<Price> =
        view.tools_list_event.iter().flat_map(|event| Price::of(&event.tags).collect::<Vec<_>>()).collect();
    if out.json {
        let member = |key| session.welcome.get(key).unwrap_or(&Value::Null);
        let (info, protocol) = (member("serverInfo"), member("protocolVersion"));
        let (server, prices) = (session.npub(), prices.iter().map(PriceDocument::from).collect());
        let (schema, origin) = ("cvm.ls/1", "direct");
        let changes = changed.map(pins::changes).unwrap_or_default();
        out.document(&Document { schema, server, info, protocol, tools: &tools, changes, prices, origin })?;
    } else {
        show(&session, &tools, &prices, out)?;
    }
    if let (Some(diff), Some(saved)) = (changed, &session.saved) {
        talk.warn(&format!("note: these are not the tools of {} that you agreed to:", saved.name));
        pins::lines(diff).iter().for_each(|line| talk.warn(&format!("  {line}")));
        talk.warn(&format!("  agree to them: cvm server trust {}", saved.name));
    }
    session.close().await;
    Ok(())
}

fn show(session: &Session, tools: &[Box<RawValue>], prices: &[Price], out: &mut Out) -> Result<(), Problem> {
    let info = session.welcome.get("serverInfo");
    let text = |key| info.and_then(|info| info.get(key)).and_then(Value::as_str).unwrap_or_default();
    let named = format!("{} {}", Printable::short(text("name"), 60), Printable::short(text("version"), 30));
    let tools_count = count(tools.len(), "tool");
    let asked = if prices.is_empty() { String::new() } else { format!("   {}", Pricing::of(prices).shown()) };
    out.line(&format!("{}  {}   {tools_count}{asked}", session.npub(), named.trim()))?;
    for tool in tools {
        let tool: Value = serde_json::from_str(tool.get()).unwrap_or_default();
        let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
        let costs =
            prices.iter().filter(|price| matches!(&price.capability, Priced::Tool(tool) if tool == name));
        let costs: Vec<String> = costs.map(price::shown).collect();
        let costs = if costs.is_empty() { String::new() } else { format!("   {}", costs.join(", ")) };
        out.line(&format!("  {}{costs}", signature(&tool)))?;
        if let Some(about) = tool.get("description").and_then(Value::as_str) {
            let first = about.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            out.line(&format!("      {}", Printable::short(first.trim(), 160)))?;
        }
    }
    Ok(())
}

/// Lists the servers that have a name here, and who of them answers.
async fn saved(global: &Global, out: &mut Out, talk: &Talk) -> Result<(), Problem> {
    let known = saved::all()?;
    let asked = |saved: SavedServer| Asked { named: saved.into(), tags: None };
    let presences = ping::all(known.iter().cloned().map(asked).collect(), false, global, talk).await?;
    let presence = |key| presences.iter().find(|(known, _)| *known == key).map(|(_, presence)| presence);
    if out.json {
        let servers = known.iter().map(|saved| {
            let presence = presence(saved.server.key);
            let latency = presence.and_then(Presence::latency);
            SavedEntry {
                name: saved.name.clone(),
                server: npub(&saved.server.key),
                relays: saved.relays.iter().chain(&saved.server.relays).cloned().collect(),
                online: latency.is_some(),
                ms: latency.map(millis),
                reason: presence.and_then(Presence::reason),
            }
        });
        return out.document(&SavedDocument { schema: "cvm.ls-saved/1", servers: servers.collect() });
    }
    let mut table = Table::new(&["NAME", "SERVER", "ONLINE"]);
    for saved in &known {
        let online = presence(saved.server.key).map_or_else(|| "no".to_owned(), Presence::shown);
        table.row([Printable(&saved.name).to_string(), short_npub(&saved.server.key), online]);
    }
    out.text(&table.to_text(""))?;
    for saved in &known {
        if let Some(why) = presence(saved.server.key).and_then(Presence::reason) {
            talk.say(&format!("  {}   {why}", Printable(&saved.name)));
        }
    }
    match known.first() {
        Some(first) => talk.say(&format!(
            "{}     next: cvm ls {}",
            count(known.len(), "saved server"),
            Printable(&first.name)
        )),
        None => talk.say("no servers are saved     next: cvm server add weather npub1..."),
    }
    Ok(())
}
