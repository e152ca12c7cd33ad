//! What relays answered, for people and for programs.
use contextvm::client::discover::{Found, RelayAnswer};
use contextvm::core::Printable;
use contextvm::relay::QueryOutcome;
use serde::Serialize;

use super::words::{count, millis};
use crate::output::Talk;

/// What one relay answered, for programs.
#[derive(Debug, Serialize)]
pub(crate) struct RelayDocument {
    url: String,
    answered: bool,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    events: usize,
    /// Events that were not believed: broken, not asked for, older than known ones, or from the future.
    refused: usize,
    ms: u64,
}

impl From<&RelayAnswer> for RelayDocument {
    fn from(answer: &RelayAnswer) -> Self {
        Self {
            url: answer.url.to_string(),
            answered: answer.has_answered(),
            complete: answer.is_complete(),
            reason: reason(answer),
            events: answer.events,
            refused: answer.invalid + answer.unwanted + answer.stale + answer.future,
            ms: millis(answer.took),
        }
    }
}

/// Returns why a relay's answer is not the whole, in words that are safe to print.
pub(crate) fn reason(answer: &RelayAnswer) -> Option<String> {
    match &answer.outcome {
        QueryOutcome::Cut => Some("it may have more than was taken".to_owned()),
        QueryOutcome::Complete if answer.capped => Some("it may have more than was taken".to_owned()),
        QueryOutcome::Complete => None,
        QueryOutcome::Late => Some("no full answer in time".to_owned()),
        QueryOutcome::Failed(why) => Some(Printable::short(why, 200).to_string()),
        _ => Some("no full answer".to_owned()),
    }
}

/// Shows one relay and how it went.
pub(crate) fn relay(answer: &RelayAnswer) -> String {
    let url = answer.url.to_string();
    let how = match reason(answer) {
        Some(why) => format!("{why}   after {} ms", millis(answer.took)),
        None => format!("{}   {} ms", count(answer.events, "event"), millis(answer.took)),
    };
    format!("{}   {how}", Printable(&url))
}

/// Says in short who answered, and how long it took.
pub(crate) fn summary(found: &Found) -> String {
    let took = found.took.as_secs_f32();
    format!("relays {}/{} answered in {took:.1} s", found.answered(), found.per_relay.len())
}

/// Names the relays whose answers are not the whole, and those that told what cannot be believed.
pub(crate) fn silence(found: &Found, talk: &Talk) {
    for answer in &found.per_relay {
        if !answer.is_complete() {
            talk.say(&format!("  {}", relay(answer)));
        } else {
            talk.detail(&format!("  {}", relay(answer)));
        }
        let url = answer.url.to_string();
        let refused = [
            (answer.stale, "older than what was seen before, or deleted"),
            (answer.future, "stamped in the future"),
            (answer.invalid, "with a wrong signature or form"),
            (answer.unwanted, "not asked for"),
        ];
        for (number, why) in refused.into_iter().filter(|(number, _)| *number > 0) {
            let line = format!("  {}   {} refused: {why}", Printable(&url), count(number, "event"));
            // A relay that is behind is normal; one that makes events up is not.
            if why.starts_with("with") { talk.say(&line) } else { talk.detail(&line) }
        }
    }
}
