//! An MCP server in a few lines: answers every request with nothing, and notes its start and how many lines it was given.
//!
//! `child FILE`: the file gets a line `start` per start and `line` per message.
#![expect(clippy::print_stdout, reason = "it speaks on its standard streams")]
use std::fs::OpenOptions;
use std::io::{BufRead, Write};

use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: child FILE")?;
    let mut notes = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(notes, "start")?;
    for line in std::io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line?)?;
        writeln!(notes, "line")?;
        let (Some(id), Some(method)) = (message.get("id"), message.get("method")) else { continue };
        let result = match method.as_str() {
            Some("initialize") => {
                json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "child", "version": "1"}})
            }
            Some("tools/list") => json!({"tools": []}),
            _ => json!({}),
        };
        println!("{}", json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }
    Ok(())
}
