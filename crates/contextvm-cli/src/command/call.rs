//! `cvm call`: one tool call.
use std::io::Read as _;
use std::time::Instant;

use contextvm::client::{Answered, Exchange};
use contextvm::core::object::{self, compact, quote};
use contextvm::core::{Limits, Printable, scan};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::args::{Call, Global};
use crate::arguments;
use crate::connect::Session;
use crate::nearest::nearest;
use crate::output::{Out, Talk};
use crate::problem::{Code, Problem};
use crate::saved::pins::{self, Standing};

/// Largest arguments object read from a file or from standard input, bytes.
const LARGEST: u64 = 16 * 1024 * 1024;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    server: String,
    tool: &'a str,
    ok: bool,
    ms: u64,
    result: &'a RawValue,
    wire: Wire,
}

#[derive(Serialize)]
struct Wire {
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<String>,
    /// The relay of the answer, where only one is connected and it can be no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<String>,
    relays: Vec<String>,
    encrypted: bool,
}

impl Wire {
    fn of(session: &Session, exchange: Option<Exchange>) -> Self {
        let relays = session.client.status().relays.into_iter();
        let relays: Vec<String> = relays.filter(|(_, up)| *up).map(|(url, _)| url).collect();
        Self {
            request: exchange.map(|exchange| exchange.request.to_hex()),
            response: exchange.map(|exchange| exchange.response.to_hex()),
            relay: if let [only] = relays.as_slice() { Some(only.clone()) } else { None },
            relays,
            encrypted: exchange.is_some_and(|exchange| exchange.protection.is_encrypted()),
        }
    }
}

pub(crate) async fn run(options: &Call, global: &Global, out: &mut Out, talk: &Talk) -> Result<(), Problem> {
    let Some(name) = &options.tool else {
        return Box::pin(super::ls::of_server(&options.server, global, out, talk)).await;
    };
    // Read before anything is sent, so that a typing error costs nothing.
    let whole = options.args.as_deref().map(whole_object).transpose()?;
    let session = Box::pin(Session::open(global, &options.server, talk)).await?;
    let outcome = Box::pin(call(&session, name, whole, options, (out, talk))).await;
    session.close().await;
    outcome
}

async fn call(
    session: &Session,
    name: &str,
    whole: Option<String>,
    options: &Call,
    (out, talk): (&mut Out, &Talk),
) -> Result<(), Problem> {
    let listed = pins::list(session).await?;
    check(session, name, &listed, talk)?;
    let tools: Vec<Value> =
        listed.iter().map(|tool| serde_json::from_str(tool.get()).unwrap_or_default()).collect();
    let tool = tools.iter().find(|tool| tool.get("name").and_then(Value::as_str) == Some(name));
    let tool = tool.ok_or_else(|| no_such_tool(session, name, &tools))?;
    let schema = tool.get("inputSchema").unwrap_or(&Value::Null);
    let arguments = match whole {
        Some(text) => {
            arguments::check_object(&text, schema)?;
            text
        }
        None => arguments::build(&options.arguments, schema).map_err(|problem| problem.data("tool", name))?,
    };
    let started = Instant::now();
    let params = format!(r#"{{"name":{},"arguments":{arguments}}}"#, quote(name));
    let Answered { result, exchange, .. } = session.call("tools/call", Some(params)).await?;
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let failed = object::member(&result, "isError").is_some_and(|flag| flag.get() == "true");
    if options.raw {
        out.line(&compact(result.get()))?;
    } else if out.json {
        let wire = Wire::of(session, exchange);
        let server = session.npub();
        out.document(&Document {
            schema: "cvm.call/1",
            server,
            tool: name,
            ok: !failed,
            ms,
            result: &result,
            wire,
        })?;
    } else if !failed {
        show(&result, out)?;
    }
    if failed { Err(tool_failed(session, name, &result)) } else { Ok(()) }
}

/// Refuses a tool of a saved server that is not what was agreed to; a change of others is said.
fn check(session: &Session, name: &str, tools: &[Box<RawValue>], talk: &Talk) -> Result<(), Problem> {
    let Some(saved) = &session.saved else { return Ok(()) };
    let Standing::Changed(diff) = pins::look(saved, tools)? else { return Ok(()) };
    if pins::is_touched(&diff, name) {
        return Err(super::server::changed(saved, &diff).data("tool", name));
    }
    let summary = pins::summary(&diff);
    talk.warn(&format!("note: other tools of {} are not what was agreed to: {summary}", saved.shown()));
    talk.warn(&format!("  see them: cvm server trust {} --dry-run", saved.name));
    Ok(())
}

/// Reads `--args`: JSON, `@FILE` or `-`.
fn whole_object(text: &str) -> Result<String, Problem> {
    let fail =
        |why: String| Problem::new(Code::InvalidArguments, format!("the arguments could not be read: {why}"));
    let mut read = String::new();
    let text = match text {
        "-" => {
            let input = std::io::stdin().take(LARGEST).read_to_string(&mut read);
            input.map_err(|error| fail(error.to_string()))?;
            &read
        }
        file if file.starts_with('@') => {
            let file =
                std::fs::File::open(file.trim_start_matches('@')).map_err(|error| fail(error.to_string()))?;
            file.take(LARGEST).read_to_string(&mut read).map_err(|error| fail(error.to_string()))?;
            &read
        }
        json => json,
    };
    let limits = Limits { json_nodes: 1 << 20, event: 16 * 1024 * 1024, ..Limits::default() };
    scan::check(text.trim(), &limits).map_err(|error| fail(error.to_string()))?;
    Ok(compact(text.trim()))
}

fn no_such_tool(session: &Session, name: &str, tools: &[Value]) -> Problem {
    let names = || tools.iter().filter_map(|tool| tool.get("name").and_then(Value::as_str));
    let problem =
        Problem::new(Code::NotFound, format!("the server has no tool \"{}\"", Printable::short(name, 80)));
    let problem = match nearest(name, names()) {
        Some(near) => problem.fact(format!("did you mean: {}", Printable(near))),
        None => {
            let some: Vec<String> =
                names().take(10).map(|name| Printable::short(name, 60).to_string()).collect();
            problem.fact(format!("it has {}: {}", tools.len(), some.join(", ")))
        }
    };
    problem.data("tool", name).hint(format!("see them all: cvm ls {}", session.npub()))
}

fn tool_failed(session: &Session, name: &str, result: &RawValue) -> Problem {
    let mut problem = Problem::new(Code::ToolError, format!("{} failed", Printable::short(name, 80)));
    for line in
        texts(result).iter().flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty()).take(20)
    {
        problem = problem.fact(Printable::short(line, 300).to_string());
    }
    problem.data("tool", name).hint(format!("see what it takes: cvm ls {}", session.npub()))
}

fn texts(result: &RawValue) -> Vec<String> {
    let result: Value = serde_json::from_str(result.get()).unwrap_or_default();
    let content = result.get("content").and_then(Value::as_array);
    let text = |block: &Value| block.get("text").and_then(Value::as_str).map(ToOwned::to_owned);
    content.into_iter().flatten().filter_map(text).collect()
}

/// Shows a result to a person: flat objects as a table, everything else as its texts.
fn show(result: &RawValue, out: &mut Out) -> Result<(), Problem> {
    let result: Value = serde_json::from_str(result.get()).unwrap_or_default();
    let flat = |object: &&serde_json::Map<String, Value>| {
        !object.is_empty() && object.values().all(|value| !value.is_object() && !value.is_array())
    };
    if let Some(object) = result.get("structuredContent").and_then(Value::as_object).filter(flat) {
        let width = object.keys().map(|key| key.chars().count()).max().unwrap_or(0).min(40);
        for (key, value) in object {
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            out.foreign(&format!("{key:width$}  {value}"))?;
        }
        return Ok(());
    }
    let content = result.get("content").and_then(Value::as_array);
    for block in content.into_iter().flatten() {
        let text = |key| block.get(key).and_then(Value::as_str);
        match (text("type").unwrap_or("?"), text("text")) {
            (_, Some(text)) => out.foreign(text)?,
            (kind, None) => {
                let what = text("mimeType").or_else(|| text("uri")).unwrap_or_default();
                let size = text("data").map_or(0, |data| data.len() / 4 * 3);
                out.foreign(&format!("[{kind} {what} {size} bytes; --json shows it]"))?;
            }
        }
    }
    if content.is_none_or(Vec::is_empty)
        && let Some(structured) = result.get("structuredContent")
    {
        out.foreign(&structured.to_string())?;
    }
    Ok(())
}
