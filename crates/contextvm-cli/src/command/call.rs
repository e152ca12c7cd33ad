//! `cvm call`: one tool call.
mod content;
mod save;
mod stream;

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
use crate::signals;
use content::Block;
use save::Saved;

/// Largest arguments object, bytes.
const LARGEST: usize = 24 * 1024 * 1024;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    server: String,
    tool: &'a str,
    ok: bool,
    ms: u64,
    result: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved: Option<&'a [Saved]>,
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
    // Both before anything is sent, so that a typing error costs nothing.
    let whole = options.args.as_deref().map(whole_object).transpose()?;
    options.save.as_deref().map(save::prepare).transpose()?;
    let stop = signals::interrupt_on_signals();
    let open = async {
        if options.stream {
            Box::pin(Session::open_reading(global, &options.server, talk)).await
        } else {
            Box::pin(Session::open(global, &options.server, talk)).await
        }
    };
    let session = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(signals::interrupted()),
        session = open => session?,
    };
    let outcome = tokio::select! {
        biased;
        // The call is dropped, and with that aborted and cancelled.
        () = stop.cancelled() => Err(signals::interrupted()),
        outcome = Box::pin(call(&session, name, whole, options, (&mut *out, talk))) => outcome,
    };
    session.close().await;
    if !out.is_file() {
        out.end_line()?;
    }
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
    let (answered, heard) = if options.stream {
        Box::pin(stream::call(session, params, out, talk)).await?
    } else {
        (session.call("tools/call", Some(params)).await?, None)
    };
    let Answered { result, exchange, .. } = answered;
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let failed = object::member(&result, "isError").is_some_and(|flag| flag.get() == "true");
    let value: Value = serde_json::from_str(result.get()).unwrap_or_default();
    let (saved, unsaved) = match &options.save {
        Some(directory) => save::save(&Block::all(&value), name, directory),
        None => (Vec::new(), None),
    };
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
            saved: options.save.is_some().then_some(&saved),
            wire,
        })?;
    } else if !failed {
        content::show(&value, heard.as_deref(), options.save.is_some(), out)?;
    }
    if !out.json {
        save::tell(&saved, talk);
    }
    match unsaved {
        _ if failed => Err(tool_failed(session, name, &value)),
        Some(problem) => Err(problem),
        None => Ok(()),
    }
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
    let read = |from: &mut dyn std::io::Read| {
        let (mut text, most) = (String::new(), u64::try_from(LARGEST).unwrap_or(u64::MAX));
        let read = from.take(most.saturating_add(1)).read_to_string(&mut text);
        read.map(|_bytes| text).map_err(|error| fail(error.to_string()))
    };
    let text = match text {
        "-" => read(&mut std::io::stdin())?,
        file if file.starts_with('@') => {
            let path = file.trim_start_matches('@');
            read(&mut std::fs::File::open(path).map_err(|error| fail(error.to_string()))?)?
        }
        json => json.to_owned(),
    };
    if text.len() > LARGEST {
        return Err(fail(format!("there are more than {LARGEST} bytes")));
    }
    let limits = Limits { json_nodes: 1 << 20, event: LARGEST, ..Limits::default() };
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

fn tool_failed(session: &Session, name: &str, result: &Value) -> Problem {
    let mut problem = Problem::new(Code::ToolError, format!("{} failed", Printable::short(name, 80)));
    let blocks = Block::all(result);
    let lines = blocks.iter().filter_map(|block| block.text).flat_map(str::lines);
    for line in lines.filter(|line| !line.trim().is_empty()).take(20) {
        problem = problem.fact(Printable::short(line, 300).to_string());
    }
    problem.data("tool", name).hint(format!("see what it takes: cvm ls {}", session.npub()))
}
