//! The measurements of a probe, step by step.
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::{frame, kind};
use contextvm_crypto::Keys;
use nostr::event::{Event, EventId, Tag, Tags};
use tokio::time::{Instant, timeout};

use super::{ClockFinding, KindFinding, Probe, ProbeReport, SizeFinding};
use crate::auth::AuthSigner;
use crate::dial::{Dialer, Reached};
use crate::error::{DialError, RelayError};
use crate::fetch::relay_info;
use crate::link::unix;
use crate::oneshot::{Heard, Line};
use crate::post;
use crate::publish::RelayOutcome;

/// Subscription that hears what is published.
const EAR: &str = "ear";
/// Subscription that asks what is stored.
const ASK: &str = "ask";
/// Most events taken of one answer; we ask for fewer.
const EVENTS: usize = 64;
/// Pause before something that should be stored is looked for again: some relays write late.
const SETTLE: Duration = Duration::from_secs(1);

/// Makes all measurements.
pub(super) async fn run(probe: &Probe) -> Result<ProbeReport, RelayError> {
    let dialer = Dialer::new(probe.limits.relay_frame, probe.step)?;
    let keys = Keys::from_entropy(random()?).map_err(|_| RelayError::Entropy)?;
    let bench = Bench { probe, dialer, me: keys.public_key().to_hex(), keys };
    let (opened, info) = tokio::join!(bench.open(), relay_info(&probe.url, probe.addresses, probe.step));
    let mut report = ProbeReport {
        url: probe.url.clone(),
        reached: opened.as_ref().map(|(_, reached)| *reached).map_err(Clone::clone),
        info,
        request: Err("not reached".to_owned()),
        authenticated: false,
        kinds: Vec::new(),
        sizes: Vec::new(),
        clock: Vec::new(),
        cleanup: None,
    };
    let Ok((mut line, _)) = opened else {
        return Ok(report);
    };
    if probe.passive {
        let filter = format!(r#"{{"kinds":[{}],"limit":1}}"#, kind::SERVER_ANNOUNCEMENT);
        report.request = bench.ask(&mut line, ASK, &[filter]).await.map(|(_, took)| took);
        return Ok(report);
    }
    let me = &bench.me;
    let filters = [
        format!(r##"{{"kinds":[25910,21059,1059],"#p":["{me}"]}}"##),
        format!(r#"{{"kinds":[11316,1111],"authors":["{me}"]}}"#),
    ];
    report.request = bench.ask(&mut line, EAR, &filters).await.map(|(_, took)| took);
    let mut mouth = Mouth { bench: &bench, line: None };
    let mut published = bench.kinds(&mut line, &mut mouth, &mut report).await?;
    report.authenticated = line.is_authenticated() || mouth.is_authenticated();
    // The large events of the next steps are heard by nobody.
    line.close().await;
    published.extend(bench.sizes(&mut mouth, &mut report).await?);
    published.extend(bench.clock(&mut mouth, &mut report).await?);
    report.cleanup = bench.clean_up(&mut mouth, &published, &report).await?;
    Ok(report)
}

/// What all steps share.
struct Bench<'a> {
    probe: &'a Probe,
    dialer: Dialer,
    keys: Keys,
    me: String,
}

impl Bench<'_> {
    async fn open(&self) -> Result<(Line<'_>, Reached), DialError> {
        let signer = (!self.probe.passive).then(|| Arc::new(self.keys.clone()) as Arc<dyn AuthSigner>);
        Line::open(&self.dialer, &self.probe.url, self.probe.addresses, signer).await
    }

    /// Signs an event that the filters of [`run`] take.
    fn event(&self, kind: u16, created_at: u64, content: String) -> Result<Event, RelayError> {
        let me = self.me.as_str();
        let address = format!("{}:{me}:", kind::SERVER_ANNOUNCEMENT);
        let server = kind::SERVER_ANNOUNCEMENT.to_string();
        let tags = match kind {
            kind::SERVER_ANNOUNCEMENT => Vec::new(),
            kind::COMMENT => vec![
                Tag::custom("A", [address.as_str()]),
                Tag::custom("K", [server.as_str()]),
                Tag::custom("P", [me]),
                Tag::custom("a", [address.as_str()]),
                Tag::custom("k", [server.as_str()]),
                Tag::custom("p", [me]),
            ],
            _ => vec![Tag::custom("p", [me])],
        };
        Ok(self.keys.sign_event(kind, created_at, Tags::from_list(tags), content, random()?))
    }

    /// Asks what is stored; returns the events and the time to their end.
    async fn ask(
        &self,
        line: &mut Line<'_>,
        name: &str,
        filters: &[String],
    ) -> Result<(Vec<String>, Duration), String> {
        let (start, step) = (Instant::now(), self.probe.step);
        let mut events = Vec::new();
        let asking = line.ask(name, filters, |json| {
            if events.len() < EVENTS {
                events.push(json);
            }
            true
        });
        match timeout(step, asking).await {
            Ok(result) => result.map(|_| (events, start.elapsed())),
            Err(_) => Err(format!("no answer within {step:?}")),
        }
    }

    /// Publishes one event of each kind and looks where it comes out.
    async fn kinds(
        &self,
        ear: &mut Line<'_>,
        mouth: &mut Mouth<'_>,
        report: &mut ProbeReport,
    ) -> Result<Vec<Event>, RelayError> {
        let mut published = Vec::new();
        for kind in Probe::KINDS {
            // The announcement is older, so that another can be newer and not from the future.
            let age = if kind == kind::SERVER_ANNOUNCEMENT { 10 } else { 0 };
            let event = self.event(kind, unix().saturating_sub(age), content(kind))?;
            let (outcome, took, echo) = self.publish_and_listen(ear, mouth, &event).await;
            report.kinds.push(KindFinding { kind, outcome, took, echo, stored: None, replaced: None });
            published.push(event);
        }
        let mut found = mouth.find(&published).await;
        let missing = |found: &[EventId]| {
            let lasting = |event: &&Event| !event.kind.is_ephemeral();
            let mut lasting = published.iter().zip(&report.kinds).filter(|(event, _)| lasting(event));
            lasting.any(|(event, finding)| finding.outcome.is_success() && !found.contains(&event.id))
        };
        if found.as_ref().is_some_and(|found| missing(found)) {
            tokio::time::sleep(SETTLE).await;
            found = mouth.find(&published).await;
        }
        for (event, finding) in published.iter().zip(&mut report.kinds) {
            finding.stored = found.as_ref().map(|found| found.contains(&event.id));
        }
        let old = published.iter().find(|event| event.kind.as_u16() == kind::SERVER_ANNOUNCEMENT);
        let finding = report.kinds.iter_mut().find(|finding| finding.kind == kind::SERVER_ANNOUNCEMENT);
        if let (Some(old), Some(finding)) = (old.cloned(), finding)
            && finding.stored == Some(true)
        {
            let new = self.event(kind::SERVER_ANNOUNCEMENT, unix(), "{}".to_owned())?;
            finding.replaced = self.replaces(mouth, &old, &new).await;
            published.push(new);
        }
        Ok(published)
    }

    async fn publish_and_listen(
        &self,
        ear: &mut Line<'_>,
        mouth: &mut Mouth<'_>,
        event: &Event,
    ) -> (RelayOutcome, Duration, Option<Duration>) {
        let start = Instant::now();
        let mut listening = pin!(async {
            while let Ok(heard) = ear.hear().await {
                let ours = |json: &str| Event::from_json(json).is_ok_and(|heard| heard.id == event.id);
                if matches!(&heard, Heard::Event { json, .. } if ours(json)) {
                    return Some(start.elapsed());
                }
            }
            None
        });
        let mut publishing = pin!(mouth.publish(event));
        let mut echo = None;
        let (outcome, took) = loop {
            tokio::select! {
                outcome = &mut publishing => break outcome,
                heard = &mut listening, if echo.is_none() => echo = Some(heard),
            }
        };
        if echo.is_none() && outcome.is_success() {
            echo = timeout(self.probe.step, listening).await.ok();
        }
        (outcome, took, echo.flatten())
    }

    async fn replaces(&self, mouth: &mut Mouth<'_>, old: &Event, new: &Event) -> Option<bool> {
        if !mouth.publish(new).await.0.is_success() {
            return None;
        }
        let both = [old.clone(), new.clone()];
        let mut found = mouth.find(&both).await?;
        if found.as_slice() != [new.id] {
            tokio::time::sleep(SETTLE).await;
            found = mouth.find(&both).await?;
        }
        Some(found.as_slice() == [new.id])
    }

    /// Publishes larger and larger messages until one is not taken.
    async fn sizes(&self, mouth: &mut Mouth<'_>, report: &mut ProbeReport) -> Result<Vec<Event>, RelayError> {
        let mut published = Vec::new();
        let Some(kind) = small(report) else {
            return Ok(published);
        };
        // Nobody with our limits could read a larger one.
        for bytes in Probe::SIZES.into_iter().filter(|bytes| *bytes <= self.probe.limits.relay_frame) {
            let now = unix();
            let empty = self.event(kind, now, String::new())?.as_json().len();
            let event = self.event(kind, now, "x".repeat(bytes.saturating_sub(empty)))?;
            let outcome = mouth.publish(&event).await.0;
            let taken = outcome.is_success();
            report.sizes.push(SizeFinding { bytes, outcome });
            published.push(event);
            if !taken {
                break;
            }
        }
        Ok(published)
    }

    /// Publishes messages from the past and from the future.
    async fn clock(&self, mouth: &mut Mouth<'_>, report: &mut ProbeReport) -> Result<Vec<Event>, RelayError> {
        let mut published = Vec::new();
        let Some(kind) = small(report) else {
            return Ok(published);
        };
        for offset in Probe::OFFSETS {
            let event = self.event(kind, unix().saturating_add_signed(offset), content(kind))?;
            let outcome = mouth.publish(&event).await.0;
            report.clock.push(ClockFinding { offset, outcome });
            published.push(event);
        }
        Ok(published)
    }

    /// Asks the relay to delete what it may have kept.
    async fn clean_up(
        &self,
        mouth: &mut Mouth<'_>,
        published: &[Event],
        report: &ProbeReport,
    ) -> Result<Option<RelayOutcome>, RelayError> {
        let stored = |event: &&Event| {
            let finding = report.kind(event.kind.as_u16());
            let lasting = !event.kind.is_ephemeral();
            finding.is_some_and(|finding| {
                finding.stored == Some(true) || (lasting && finding.outcome.may_be_there())
            })
        };
        let kept: Vec<&Event> = published.iter().filter(stored).collect();
        if kept.is_empty() {
            return Ok(None);
        }
        let mut tags: Vec<Tag> = kept.iter().map(|event| Tag::event(event.id)).collect();
        let mut kinds: Vec<u16> = kept.iter().map(|event| event.kind.as_u16()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.contains(&kind::SERVER_ANNOUNCEMENT) {
            tags.push(Tag::custom("a", [format!("{}:{}:", kind::SERVER_ANNOUNCEMENT, self.me)]));
        }
        tags.extend(kinds.into_iter().map(|kind| Tag::custom("k", [kind.to_string()])));
        let content = "relay check".to_owned();
        let event = self.keys.sign_event(kind::DELETION, unix(), Tags::from_list(tags), content, random()?);
        Ok(Some(mouth.publish(&event).await.0))
    }
}

/// The connection that publishes and asks; after a loss there is another one.
struct Mouth<'a> {
    bench: &'a Bench<'a>,
    line: Option<Line<'a>>,
}

impl<'a> Mouth<'a> {
    fn is_authenticated(&self) -> bool {
        self.line.as_ref().is_some_and(Line::is_authenticated)
    }

    /// Takes the connection out; whoever finds it sound puts it back.
    async fn take(&mut self) -> Option<Line<'a>> {
        match self.line.take() {
            Some(line) => Some(line),
            None => self.bench.open().await.ok().map(|(line, _)| line),
        }
    }

    /// Publishes one event; returns the relay's answer and the time to it.
    async fn publish(&mut self, event: &Event) -> (RelayOutcome, Duration) {
        let start = Instant::now();
        let Some(mut line) = self.take().await else {
            return (RelayOutcome::NotSent, start.elapsed());
        };
        let step = self.bench.probe.step;
        let outcome = match timeout(step, say_event(&mut line, event)).await {
            Ok(Ok(outcome)) => {
                self.line = Some(line);
                outcome
            }
            Ok(Err(_)) => RelayOutcome::NoAnswer,
            Err(_) => {
                self.line = Some(line);
                RelayOutcome::NoAnswer
            }
        };
        (outcome, start.elapsed())
    }

    /// Returns which of these events the relay has stored.
    async fn find(&mut self, events: &[Event]) -> Option<Vec<EventId>> {
        let mut line = self.take().await?;
        let ids: Vec<String> = events.iter().map(|event| format!("\"{}\"", event.id.to_hex())).collect();
        let filter = format!(r#"{{"ids":[{}]}}"#, ids.join(","));
        let (found, _) = self.bench.ask(&mut line, ASK, &[filter]).await.ok()?;
        if line.say(frame::close(ASK)).await.is_ok() {
            self.line = Some(line);
        }
        Some(found.iter().filter_map(|json| Some(Event::from_json(json).ok()?.id)).collect())
    }
}

/// Publishes one event on one connection; the error is why there is no answer.
async fn say_event(line: &mut Line<'_>, event: &Event) -> Result<RelayOutcome, String> {
    let request = frame::event(&event.as_json());
    line.say(request.clone()).await?;
    loop {
        match line.hear().await? {
            Heard::Ok { id, accepted, text } if id == event.id => {
                if accepted || !line.must_authenticate(&text) {
                    return Ok(post::outcome(accepted, text));
                }
            }
            Heard::Authenticated => line.say(request.clone()).await?,
            Heard::NotAuthenticated(text) => return Ok(RelayOutcome::Refused(text)),
            Heard::Event { .. } | Heard::EndOfStored { .. } | Heard::Closed { .. } | Heard::Ok { .. } => {}
        }
    }
}

/// Returns the first ephemeral kind that the relay has taken.
fn small(report: &ProbeReport) -> Option<u16> {
    let ephemeral = |finding: &&KindFinding| (20_000..30_000).contains(&finding.kind);
    let taken = report.kinds.iter().filter(ephemeral).find(|finding| finding.outcome.is_success());
    taken.map(|finding| finding.kind)
}

fn content(kind: u16) -> String {
    match kind {
        kind::SERVER_ANNOUNCEMENT => "{}".to_owned(),
        _ => "relay check".to_owned(),
    }
}

fn random() -> Result<[u8; 32], RelayError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| RelayError::Entropy)?;
    Ok(bytes)
}
