//! Runs named steps one after another and prints one JSON line for each.
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Options;

/// What a step comes to.
pub type Outcome = Result<Value, String>;

/// Runs named steps one after another and prints one JSON line for each.
#[derive(Debug)]
pub struct Steps<'a> {
    options: &'a Options,
    ran: usize,
    failed: Vec<&'static str>,
}

impl<'a> Steps<'a> {
    /// Makes the runner of the steps that these options ask for.
    pub fn new(options: &'a Options) -> Self {
        Self { options, ran: 0, failed: Vec::new() }
    }

    /// Runs one step; returns whether it passed or was not asked for.
    pub async fn run(&mut self, step: &'static str, body: impl Future<Output = Outcome>) -> bool {
        let Options { only, skip, timeout, .. } = self.options;
        let named = |list: &[String]| list.iter().any(|name| name == step);
        if named(skip) || (step != "connect" && !only.is_empty() && !named(only)) {
            return true;
        }
        self.ran += 1;
        let start = Instant::now();
        let outcome = match tokio::time::timeout(*timeout, body).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no outcome within {} ms", timeout.as_millis())),
        };
        let ok = outcome.is_ok();
        let detail = outcome.unwrap_or_else(Value::String);
        println!(
            "{}",
            json!({ "step": step, "ok": ok, "detail": detail, "ms": start.elapsed().as_millis() })
        );
        if !ok {
            self.failed.push(step);
        }
        ok
    }

    /// When asked to, says that it waits, and goes on at the next line of standard input: the server starts anew
    /// meanwhile.
    pub fn hold(&self) {
        if self.options.only.iter().any(|only| only == "hold") {
            println!("{}", json!({ "step": "hold", "ok": true, "detail": "" }));
            // The end of the input is as good as a line.
            let _line = std::io::stdin().read_line(&mut String::new());
        }
    }

    /// Prints what became of all steps and ends the program.
    pub fn finish(self) -> ! {
        let ok = self.failed.is_empty();
        println!(
            "{}",
            json!({ "step": "done", "ok": ok, "detail": { "ran": self.ran, "failed": self.failed } })
        );
        std::process::exit(i32::from(!ok))
    }
}

/// Fails with a reason unless something holds.
pub fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Waits that many milliseconds.
pub async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
