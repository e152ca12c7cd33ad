//! `cvm relay check`: what a relay is good for, measured.
use std::time::Duration;

use contextvm::core::{Printable, RelayInfo, kind};
use contextvm::relay::{KindFinding, Probe, ProbeReport, RelayOutcome};
use nostr::types::RelayUrl;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{Global, RelayCheck};
use crate::finding::words::millis;
use crate::output::{Out, Talk};
use crate::problem::{Code, Problem};
use crate::publication;
use crate::table::Table;

/// Longest text of a relay that is shown, characters.
const SHOWN: usize = 160;

/// One line of the report.
#[derive(Serialize)]
struct Line {
    #[serde(rename = "check")]
    what: String,
    ok: bool,
    #[serde(rename = "said")]
    text: String,
    /// What follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

impl Line {
    fn new(what: impl Into<String>, ok: bool, text: impl Into<String>) -> Self {
        Self { what: what.into(), ok, text: text.into(), hint: None }
    }
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    url: String,
    passive: bool,
    reached: bool,
    lines: Vec<Line>,
    kinds: Vec<Value>,
    #[serde(rename = "largestEvent", skip_serializing_if = "Option::is_none")]
    largest: Option<usize>,
    #[serde(rename = "clockWindow")]
    clock: (i64, i64),
    verdict: Verdict,
}

#[derive(Serialize)]
struct Verdict {
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    announcements: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reviews: Option<bool>,
}

pub(crate) async fn run(
    options: &RelayCheck,
    global: &Global,
    out: &mut Out,
    talk: &Talk,
) -> Result<(), Problem> {
    let url = RelayUrl::parse(options.url.trim()).map_err(|error| {
        let shown = Printable::short(&options.url, 80).to_string();
        let problem = Problem::new(Code::InvalidValue, format!("{shown} is no relay: {error}"));
        problem.hint("cvm relay check wss://relay.example")
    })?;
    let mut probe = Probe::new(url);
    if let Some(timeout) = global.timeout {
        probe = probe.with_step(timeout.min(Duration::from_secs(60)));
    }
    if options.passive {
        probe = probe.passive();
    } else {
        talk.detail("small events are published under a key that is made for this");
    }
    let report = probe.run().await.map_err(|error| Problem::internal(error.to_string()))?;
    let (lines, verdict) = (lines(&report, options.passive), verdict(&report, options.passive));
    let problem = problem(&report, options.passive);
    if out.json {
        out.document(&document(&report, lines, verdict, options.passive))?;
    } else {
        let mut table = Table::new(&["", "", ""]);
        for line in lines {
            let hint = line.hint.map(|hint| format!("-> {hint}")).unwrap_or_default();
            table.row([line.what, line.text, hint]);
        }
        table.row(["verdict".to_owned(), verdict.shown()]);
        out.text(&table.to_text(""))?;
    }
    problem.map_or(Ok(()), Err)
}

fn document(report: &ProbeReport, lines: Vec<Line>, verdict: Verdict, passive: bool) -> Document {
    let finding = |finding: &KindFinding| {
        json!({
            "kind": finding.kind,
            "accepted": finding.outcome.is_success(),
            "ms": millis(finding.took),
            "echoMs": finding.echo.map(millis),
            "stored": finding.stored,
            "replaced": finding.replaced,
        })
    };
    Document {
        schema: "cvm.relay.check/1",
        url: report.url.to_string(),
        passive,
        reached: report.reached.is_ok(),
        lines,
        kinds: report.kinds.iter().map(finding).collect(),
        largest: report.largest(),
        clock: report.clock_window(),
        verdict,
    }
}

fn lines(report: &ProbeReport, passive: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    match &report.reached {
        Ok(reached) => {
            let secured = reached.version.unwrap_or("without TLS");
            let took = millis(reached.total());
            lines.push(Line::new("reachable", true, format!("ok   {secured}, {took} ms")));
        }
        Err(error) => {
            let why = error.to_string();
            lines.push(Line::new("reachable", false, format!("no: {}", Printable::short(&why, SHOWN))));
        }
    }
    lines.push(match &report.info {
        Ok(info) => Line::new("NIP-11", true, information(info)),
        Err(error) => {
            Line::new("NIP-11", false, format!("none: {}", Printable::short(&error.to_string(), SHOWN)))
        }
    });
    if report.reached.is_err() {
        return lines;
    }
    lines.push(match &report.request {
        Ok(took) => Line::new("requests", true, format!("ok   answered in {} ms", millis(*took))),
        Err(why) => Line::new("requests", false, format!("no: {}", Printable::short(why, SHOWN))),
    });
    if passive {
        return lines;
    }
    if report.authenticated {
        lines.push(Line::new("NIP-42", true, "demanded, and an unknown key was let in"));
    }
    lines.extend(report.kinds.iter().map(of_kind));
    lines.push(sizes(report));
    lines.push(clock(report));
    if let Some(outcome) = &report.cleanup {
        let text = if outcome.is_success() {
            "ok   what was stored is asked to be deleted".to_owned()
        } else {
            said(outcome)
        };
        lines.push(Line::new("cleanup", outcome.is_success(), text));
    }
    lines
}

/// Tells what a relay says about itself.
fn information(info: &RelayInfo) -> String {
    let text = |text: &Option<String>| text.as_deref().map(|text| Printable::short(text, 40).to_string());
    let software =
        text(&info.software).map(|software| software.rsplit('/').next().unwrap_or_default().to_owned());
    let name = [software.or_else(|| text(&info.name)), text(&info.version)].into_iter().flatten();
    let name = name.collect::<Vec<_>>().join(" ");
    let limits = &info.limitation;
    let mut parts: Vec<String> = Vec::new();
    parts.extend(limits.max_message_length.map(|bytes| format!("message {}", size(bytes))));
    parts.extend(limits.max_subscriptions.map(|count| format!("subs {count}")));
    let flag = |name: &str, value: Option<bool>| match value {
        Some(true) => Some(format!("needs {name}")),
        Some(false) if name == "auth" => Some("no auth".to_owned()),
        Some(false) | None => None,
    };
    parts.extend(flag("auth", limits.auth_required));
    parts.extend(flag("payment", limits.payment_required));
    parts.extend((limits.restricted_writes == Some(true)).then(|| "restricted writes".to_owned()));
    let name = if name.is_empty() { "unnamed".to_owned() } else { name };
    if parts.is_empty() { name } else { format!("{name}, limits: {}", parts.join(", ")) }
}

fn of_kind(finding: &KindFinding) -> Line {
    let what = format!("kind {}", finding.kind);
    if !finding.outcome.is_success() {
        let mut line = Line::new(what, false, said(&finding.outcome));
        line.hint = match finding.kind {
            kind::COMMENT => Some("reviews need another relay"),
            kind::SERVER_ANNOUNCEMENT => Some("announcements need another relay"),
            kind::MESSAGE => Some("plain messages need another relay"),
            _ => Some("encrypted messages need another kind of gift wrap, or another relay"),
        };
        return line;
    }
    let mut parts = Vec::new();
    let is_live = matches!(finding.kind, kind::MESSAGE | kind::EPHEMERAL_GIFT_WRAP | kind::GIFT_WRAP);
    match finding.echo {
        Some(echo) => parts.push(format!("echo {} ms", millis(echo))),
        None if is_live => parts.push("taken, and not passed on".to_owned()),
        None => {}
    }
    parts.push(match finding.stored {
        Some(true) => "stored".to_owned(),
        Some(false) => "not stored".to_owned(),
        None => "whether it is stored could not be asked".to_owned(),
    });
    match finding.replaced {
        Some(true) => parts.push("replaced".to_owned()),
        Some(false) => parts.push("not replaced by a newer one".to_owned()),
        None => {}
    }
    let wants_stored = matches!(finding.kind, kind::SERVER_ANNOUNCEMENT | kind::COMMENT);
    let ok = (!is_live || finding.echo.is_some())
        && (!wants_stored || finding.stored == Some(true))
        && finding.replaced != Some(false);
    let mut line = Line::new(what, ok, format!("{}   {}", if ok { "ok" } else { "bad" }, parts.join(", ")));
    let is_ephemeral = matches!(finding.kind, kind::MESSAGE | kind::EPHEMERAL_GIFT_WRAP);
    if is_ephemeral && finding.stored == Some(true) {
        line.hint = Some("ephemeral events are kept, so metadata stays");
    }
    line
}

fn sizes(report: &ProbeReport) -> Line {
    let parts = report.sizes.iter().map(|finding| {
        if finding.outcome.is_success() {
            format!("{} ok", size(u64::try_from(finding.bytes).unwrap_or(u64::MAX)))
        } else {
            format!("{} {}", size(u64::try_from(finding.bytes).unwrap_or(u64::MAX)), said(&finding.outcome))
        }
    });
    let ok = report.sizes.first().is_some_and(|finding| finding.outcome.is_success());
    Line::new("size", ok, parts.collect::<Vec<_>>().join(", "))
}

fn clock(report: &ProbeReport) -> Line {
    let (past, future) = report.clock_window();
    let refused = report.clock.iter().filter(|finding| !finding.outcome.is_success());
    let refused: Vec<String> = refused.map(|finding| format!("{:+} s", finding.offset)).collect();
    let text = if past == -future {
        format!("relay accepts +-{future} s")
    } else {
        format!("relay accepts {past} s to +{future} s")
    };
    let text = if refused.is_empty() { text } else { format!("{text}; refused: {}", refused.join(", ")) };
    Line::new("clock", past <= -60 && future >= 60, text)
}

/// Tells a relay's last word.
fn said(outcome: &RelayOutcome) -> String {
    publication::reason(outcome).unwrap_or_else(|| "ok".to_owned())
}

/// Shows bytes in their largest whole unit.
fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1024 * 1024 && bytes % (1024 * 1024) == 0 => format!("{} MiB", bytes / 1024 / 1024),
        bytes if bytes >= 1024 => format!("{} KiB", bytes / 1024),
        bytes => format!("{bytes} B"),
    }
}

fn verdict(report: &ProbeReport, passive: bool) -> Verdict {
    let measured = !passive && report.reached.is_ok();
    Verdict {
        messages: (measured || report.reached.is_err()).then(|| report.good_for_messages()),
        announcements: measured.then(|| report.good_for_announcements()),
        reviews: measured.then(|| report.good_for_reviews()),
    }
}

impl Verdict {
    fn shown(&self) -> String {
        match (self.messages, self.announcements, self.reviews) {
            (None, _, _) => "answers; publishing was not tried".to_owned(),
            (Some(false), _, _) => "bad for ContextVM: calls cannot cross it".to_owned(),
            (Some(true), Some(true), Some(true)) => "good for ContextVM".to_owned(),
            (Some(true), announcements, reviews) => {
                let missing = [(announcements, "announcements"), (reviews, "reviews")];
                let missing = missing.iter().filter(|(good, _)| *good != Some(true)).map(|(_, what)| *what);
                format!("good for ContextVM, not for {}", missing.collect::<Vec<_>>().join(" and "))
            }
        }
    }
}

/// What is wrong, if calls cannot cross the relay.
fn problem(report: &ProbeReport, passive: bool) -> Option<Problem> {
    let url = report.url.to_string();
    let message = match &report.reached {
        Err(_) => format!("{} could not be reached", Printable(&url)),
        Ok(_) if passive => match &report.request {
            Ok(_) => return None,
            Err(_) => format!("{} does not answer requests", Printable(&url)),
        },
        Ok(_) if report.good_for_messages() => return None,
        Ok(_) => format!("calls cannot cross {}", Printable(&url)),
    };
    Some(Problem::new(Code::CheckFailed, message).hint("use another relay: --relay wss://..."))
}
