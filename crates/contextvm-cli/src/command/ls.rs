//! `cvm ls`: a server's tools as signatures.
use contextvm::core::Printable;
use serde::Serialize;
use serde_json::Value;

use crate::args::Global;
use crate::connect::Session;
use crate::output::{Out, Talk};
use crate::problem::Problem;
use crate::signature::signature;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    server: String,
    #[serde(rename = "serverInfo")]
    info: &'a Value,
    #[serde(rename = "protocolVersion")]
    protocol: &'a Value,
    tools: &'a [Value],
}

pub(crate) async fn run(server: &str, global: &Global, out: &mut Out, talk: &Talk) -> Result<(), Problem> {
    let session = Box::pin(Session::open(global, server, talk)).await?;
    let tools = session.tools().await?;
    let member = |key| session.welcome.get(key).unwrap_or(&Value::Null);
    if out.json {
        let (info, protocol) = (member("serverInfo"), member("protocolVersion"));
        let server = session.npub();
        out.document(&Document { schema: "cvm.ls/1", server, info, protocol, tools: &tools })?;
    } else {
        let text = |key| member("serverInfo").get(key).and_then(Value::as_str).unwrap_or_default();
        let count = if tools.len() == 1 { "1 tool".to_owned() } else { format!("{} tools", tools.len()) };
        let named =
            format!("{} {}", Printable::short(text("name"), 60), Printable::short(text("version"), 30));
        out.line(&format!("{}  {}   {count}", session.npub(), named.trim()))?;
        for tool in &tools {
            out.line(&format!("  {}", signature(tool)))?;
            if let Some(about) = tool.get("description").and_then(Value::as_str) {
                let first = about.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
                out.line(&format!("      {}", Printable::short(first.trim(), 160)))?;
            }
        }
    }
    session.close().await;
    Ok(())
}
