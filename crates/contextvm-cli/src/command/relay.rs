//! `cvm relay`: a relay for development, with faults on demand, and the check of any relay.
use std::net::SocketAddr;

use contextvm::local_relay::{CloseAfter, Faults, LocalRelay, RelayOptions};
use serde::Serialize;

use crate::args::{Global, Relay, RelayCommand, RelayRun, duration};
use crate::output::{Out, Talk};
use crate::problem::{Code, Problem};
use crate::signals;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    url: String,
}

pub(crate) async fn run(options: &Relay, global: &Global, out: &mut Out, talk: &Talk) -> Result<(), Problem> {
    match &options.command {
        RelayCommand::Run(options) => serve(options, out, talk).await,
        RelayCommand::Check(options) => Box::pin(super::relay_check::run(options, global, out, talk)).await,
    }
}

async fn serve(options: &RelayRun, out: &mut Out, talk: &Talk) -> Result<(), Problem> {
    let stop = signals::stop_on_signals();
    let relay = LocalRelay::start(relay_options(options)?).await.map_err(|error| {
        let problem = Problem::new(Code::ConfigInvalid, error.to_string());
        problem.hint("take a free port: cvm relay run --port 0")
    })?;
    let url = relay.url();
    if out.json {
        out.document(&Document { schema: "cvm.relay/1", url: url.clone() })?;
    } else {
        out.line(&url)?;
    }
    talk.headline("relay on loopback; everything is kept in memory and forgotten at the end");
    talk.say(&format!("  try it    cvm serve --ephemeral --open -r {url} -- cvm demo --stdio"));
    stop.cancelled().await;
    let stats = relay.stats();
    talk.say(&format!(
        "{} events accepted, {} refused, {} delivered",
        stats.accepted, stats.refused, stats.delivered
    ));
    relay.shutdown().await;
    Ok(())
}

fn relay_options(options: &RelayRun) -> Result<RelayOptions, Problem> {
    let faults = Faults {
        latency: options.latency,
        drop: options.drop,
        duplicate: options.dup,
        reorder: options.reorder,
        strict_ephemeral: !options.lenient_ephemeral,
        close_after: options.close_after.as_deref().map(close_after).transpose()?,
        refuse: options.refuse.clone(),
        ..Faults::default()
    };
    let refused = options.refuse_kind.iter();
    Ok(RelayOptions {
        refused_kinds: refused
            .map(|kind| (*kind, format!("blocked: kind {kind} is not taken here")))
            .collect(),
        addr: SocketAddr::from(([127, 0, 0, 1], options.port)),
        faults,
        auth: options.auth,
        max_event: options.max_event,
        ..RelayOptions::default()
    })
}

/// A plain number counts events, a number with a unit is a time.
fn close_after(text: &str) -> Result<CloseAfter, Problem> {
    if let Ok(events) = text.parse() {
        return Ok(CloseAfter::Events(events));
    }
    duration(text).map(CloseAfter::Time).map_err(|why| {
        Problem::new(Code::InvalidValue, format!("--close-after is not understood: {why}"))
            .hint("--close-after 10s")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn connections_end_after_events_or_time() {
        assert_eq!(close_after("5"), Ok(CloseAfter::Events(5)));
        assert_eq!(close_after("5s"), Ok(CloseAfter::Time(Duration::from_secs(5))));
        assert!(close_after("soon").is_err());
    }
}
