//! `cvm ctl`: questions to the running `cvm serve` processes of this user.
use contextvm::core::Printable;
use serde::Serialize;
use serde_json::Value;

use crate::args::{Ctl, CtlCommand};
use crate::fleet::control;
use crate::output::Out;
use crate::problem::Problem;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    processes: Vec<Value>,
}

pub(crate) async fn run(options: &Ctl, out: &mut Out) -> Result<(), Problem> {
    let CtlCommand::Status = &options.command;
    let processes = control::ask_all().await?;
    if out.json {
        return out.document(&Document { schema: "cvm.ctl.status/1", processes });
    }
    for silent in
        processes.iter().filter_map(|process| process.get("error").and(process.get("socket")?.as_str()))
    {
        out.line(&format!("{} does not answer", Printable::short(silent, 200)))?;
    }
    if !processes.iter().any(|process| process.get("units").is_some()) {
        return out.line("no cvm serve is running");
    }
    let header = ["NAME", "STATE", "FOR", "PID", "RESTARTS", "SERVER", "TARGET"].map(ToOwned::to_owned);
    let mut rows = vec![header];
    let units = processes.iter().filter_map(|process| process.get("units")?.as_array());
    rows.extend(units.flatten().map(row));
    let widths: Vec<usize> = (0..6)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(at, cell)| match widths.get(at) {
            Some(width) => format!("{cell:width$}"),
            None => cell.clone(),
        });
        out.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    for unit in processes.iter().filter_map(|process| process.get("units")?.as_array()).flatten() {
        let name =
            Printable::short(unit.get("name").and_then(Value::as_str).unwrap_or_default(), 60).to_string();
        for remark in remarks(unit) {
            out.line(&format!("{name}: {remark}"))?;
        }
    }
    Ok(())
}

/// What there is to say of a unit beside its row: why it is not ready, what it remembers with, and what went wrong.
fn remarks(unit: &Value) -> Vec<String> {
    let text = |name: &str| unit.get(name).and_then(Value::as_str);
    let number = |name: &str| unit.get(name).and_then(Value::as_u64).filter(|number| *number > 0);
    let runs = matches!(text("state"), Some("ready" | "degraded"));
    let memory = match text("store") {
        Some(path) => Some(format!("remembers in {}", Printable::short(path, 300))),
        None if runs => Some("remembers until its process ends".to_owned()),
        None => None,
    };
    let why = text("why").map(|why| Printable::short(why, 300).to_string());
    let unstored = number("unstored")
        .map(|count| format!("{count} records could not be kept; the requests among them were not executed"));
    let dropped =
        number("dropped").map(|count| format!("{count} events came too fast from a relay and were dropped"));
    [why, memory, unstored, dropped].into_iter().flatten().collect()
}

fn row(unit: &Value) -> [String; 7] {
    let text = |name: &str| unit.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| unit.get(name).and_then(Value::as_u64);
    let shown = |name: &str, most: usize| Printable::short(text(name), most).to_string();
    let pid = number("pid").map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let restarts = number("restarts").unwrap_or(0).to_string();
    let server = match text("server") {
        "" => "-".to_owned(),
        server => Printable::short(server, 63).to_string(),
    };
    [
        shown("name", 40),
        shown("state", 12),
        age(number("sinceMs").unwrap_or(0)),
        pid,
        restarts,
        server,
        shown("target", 80),
    ]
}

/// Prints a time in its largest unit.
fn age(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_unit_remembers_with_and_what_it_lost_is_said() {
        let unit = serde_json::json!({
            "name": "one", "state": "degraded", "why": "no relay listens", "store": "/x/served/ab",
            "unstored": 3, "dropped": 4_000,
        });
        let said = remarks(&unit);
        assert_eq!(said[..2], ["no relay listens", "remembers in /x/served/ab"]);
        assert!(said[2].starts_with("3 records") && said[3].starts_with("4000 events"), "{said:?}");
        let unit = serde_json::json!({ "name": "one", "state": "ready", "unstored": 0, "dropped": 0 });
        assert_eq!(remarks(&unit), ["remembers until its process ends"]);
        let unit = serde_json::json!({ "name": "one", "state": "failed", "why": "it is off" });
        assert_eq!(remarks(&unit), ["it is off"]);
    }
}
