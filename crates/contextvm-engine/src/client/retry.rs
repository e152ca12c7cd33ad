//! The retry rule: the same outer event first; a new wrap only where a repeat does no harm; never a new signature.
use alloc::collections::BTreeSet;
use alloc::string::String;
use contextvm_core::object::{member, string};
use contextvm_core::{Mono, PeerTags};
use core::time::Duration;
use serde_json::value::RawValue;

use super::chance::Chance;
use super::json;
use super::pending::{Pending, Sent};
use crate::Outcome;

/// How long a request that every relay refuses is offered again.
pub(super) const NOT_SENT_WINDOW: Duration = Duration::from_secs(10);
/// The same outer event is not published more often than this.
pub(super) const SAME_EVENT_GAP: Duration = Duration::from_secs(1);
/// A call lives at most this many request timeouts, however much progress is reported.
pub(super) const TOTAL_FACTOR: u32 = 10;

const RESEND_FIRST_MS: u64 = 500;
const RESEND_MOST_MS: u64 = 4_000;
const REWRAP_FIRST_MS: u64 = 2_000;
const REWRAP_MOST_MS: u64 = 30_000;
/// How long everybody has to come back to a relay that came up; then calls that may be repeated are wrapped again.
pub(super) const SETTLED: Duration = Duration::from_millis(750);
/// That is not put off by more, however often a relay comes up meanwhile.
pub(super) const SETTLED_MOST: Duration = Duration::from_secs(2);
/// What was wrapped within this time met whoever is back by then: half a second of delay before a connection is tried.
const LATELY: Duration = Duration::from_millis(250);
/// A call that was wrapped so often keeps to its plan, however often relays come and go.
const HASTY: u32 = 5;
/// After a sign of life the wait is as long as after this many new wraps.
const PATIENT: u32 = 2;

/// Methods that only read.
const READS: [&str; 13] = [
    "ping",
    "initialize",
    "server/discover",
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "tasks/get",
    "tasks/list",
    "tasks/result",
];

/// The request that stays open (MCP 2026-07-28).
const SUBSCRIPTION: &str = "subscriptions/listen";

/// Most tool names remembered as harmless.
const MOST_TOOLS: usize = 4_096;
/// Longest tool name remembered, bytes.
const LONGEST_TOOL: usize = 256;

/// Whether a method only reads.
pub(super) fn is_read(method: &str) -> bool {
    READS.contains(&method)
}

/// Names of tools that their server calls read-only or idempotent.
#[derive(Debug, Default)]
pub(super) struct HarmlessTools {
    names: BTreeSet<String>,
}

impl HarmlessTools {
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Learns from the result of a `tools/list`; the newest word about a tool counts.
    pub(super) fn learn(&mut self, result: &RawValue) {
        let Some(tools) = member(result, "tools") else {
            return;
        };
        for tool in json::items(tools) {
            let Some(name) = member(tool, "name").and_then(string) else {
                continue;
            };
            if is_harmless(tool) {
                if self.names.len() < MOST_TOOLS && name.len() <= LONGEST_TOOL {
                    self.names.insert(name.into_owned());
                }
            } else {
                self.names.remove(&*name);
            }
        }
    }
}

fn is_harmless(tool: &RawValue) -> bool {
    let Some(annotations) = member(tool, "annotations") else {
        return false;
    };
    ["readOnlyHint", "idempotentHint"]
        .iter()
        .any(|hint| member(annotations, hint).is_some_and(|value| value.get() == "true"))
}

/// Returns the wait before the n-th resend of something that was refused.
pub(super) fn resend_delay(refusals: u32, chance: &mut Chance) -> Duration {
    doubled(RESEND_FIRST_MS, refusals, RESEND_MOST_MS, chance)
}

fn rewrap_delay(rewraps: u32, chance: &mut Chance) -> Duration {
    doubled(REWRAP_FIRST_MS, rewraps, REWRAP_MOST_MS, chance)
}

fn doubled(first: u64, times: u32, most: u64, chance: &mut Chance) -> Duration {
    let millis = first.saturating_mul(1_u64 << times.min(20)).min(most);
    Duration::from_millis(chance.spread(millis))
}

/// What a due call wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Its time is over.
    Over,
    /// Publish the same outer event again.
    Same,
    /// Publish a new wrap around the same signed inner event.
    Rewrap,
    /// Nothing after all.
    Nothing,
}

impl Pending {
    /// Whether it stays open for as long as the server likes.
    pub(super) fn is_subscription(&self) -> bool {
        self.method == SUBSCRIPTION
    }

    /// Whether the server has something that it can be told to stop.
    pub(super) fn is_cancellable(&self) -> bool {
        self.method != "initialize" && !self.uploading
    }

    /// Whether the server may see this request twice without harm.
    pub(super) const fn may_repeat(&self, tags: &PeerTags) -> bool {
        self.harmless || tags.repeats
    }

    /// Whether the application may make a new call with the same content without harm.
    ///
    /// A server that answers repeats alike does not help here: a new call has a new id.
    pub(super) const fn is_retryable(&self) -> bool {
        self.harmless || matches!(self.sent, Sent::Nowhere(_))
    }

    /// Takes the outcome of a publication; `false` when no further attempt fits into the window.
    pub(super) fn on_outcome(
        &mut self,
        outcome: &Outcome,
        tags: &PeerTags,
        now: Mono,
        chance: &mut Chance,
    ) -> bool {
        match outcome {
            Outcome::Accepted => {
                self.sent = Sent::Taken;
                self.plan_same(None);
            }
            Outcome::Unknown => self.on_silence(now, chance),
            Outcome::Refused(text) => return self.on_refusal(text, now, chance),
        }
        self.arm_rewrap(tags, now, chance);
        true
    }

    /// No relay confirmed it. The same wrap again is safe: every known server recognises an outer id.
    fn on_silence(&mut self, now: Mono, chance: &mut Chance) {
        if matches!(self.sent, Sent::Taken) {
            return;
        }
        self.sent = Sent::Perhaps;
        let again = now.after(resend_delay(self.failures, chance));
        self.failures = self.failures.saturating_add(1);
        self.plan_same(self.wrapped.then_some(again));
    }

    /// Every relay refused it: it is offered again while the window is open.
    ///
    /// Once an earlier attempt may have arrived, a refusal tells no more than silence does.
    fn on_refusal(&mut self, text: &str, now: Mono, chance: &mut Chance) -> bool {
        match self.sent {
            Sent::Taken => return true,
            Sent::Perhaps => {
                self.on_silence(now, chance);
                return true;
            }
            Sent::Fresh | Sent::Nowhere(_) => {}
        }
        self.sent = Sent::Nowhere(text.chars().take(300).collect());
        let at = now.after(resend_delay(self.failures, chance));
        self.failures = self.failures.saturating_add(1);
        self.plan_same(Some(at));
        at < self.started.after(NOT_SENT_WINDOW)
    }

    /// Plans the same outer event again; a relay that came up gets it no later for that.
    const fn plan_same(&mut self, at: Option<Mono>) {
        if !self.same_for_relay {
            self.same_at = at;
        }
    }

    /// Plans the next new wrap, where one is allowed and none is planned.
    pub(super) fn arm_rewrap(&mut self, tags: &PeerTags, now: Mono, chance: &mut Chance) {
        if self.rewrap_at.is_none() && self.may_rewrap(tags, now) {
            self.rewrap_at = Some(now.after(rewrap_delay(self.rewraps, chance)));
        }
    }

    /// Whether a new wrap may help and does no harm.
    fn may_rewrap(&self, tags: &PeerTags, now: Mono) -> bool {
        let reached = !matches!(self.sent, Sent::Nowhere(_));
        self.wrapped && !self.uploading && reached && now < self.fresh_until && self.may_repeat(tags)
    }

    /// The server was heard on this call: it has the request, so more time and fewer repeats.
    pub(super) fn on_sign_of_life(&mut self, timeout: Duration, now: Mono, chance: &mut Chance) {
        if self.is_subscription() {
            // It ends by answer, cancellation from either side, or close.
            self.deadline = None;
        }
        self.extend(timeout, now);
        if self.uploading {
            return;
        }
        self.sent = Sent::Taken;
        self.same_at = None;
        self.same_for_relay = false;
        if self.rewrap_at.is_some() {
            self.rewrap_at = Some(now.after(rewrap_delay(self.rewraps.max(PATIENT), chance)));
        }
    }

    /// Gives the call as much time as it had at first, up to its last moment.
    pub(super) fn extend(&mut self, timeout: Duration, now: Mono) {
        if let Some(deadline) = self.deadline {
            let last = self.started.after(self.lasts);
            self.deadline = Some(now.after(timeout).min(last).max(deadline));
        }
    }

    /// Lets it last so long, if something is heard of it all the time.
    pub(super) fn may_last(&mut self, most: Duration) {
        self.lasts = self.lasts.max(most);
    }

    /// A relay came up: the same outer event is due, at most once per gap.
    ///
    /// A plaintext request that some relay may have passed on goes again only where a repeat does no harm, because
    /// the existing servers do not recognise a plaintext event that they have seen.
    pub(super) fn on_relay_up(&mut self, tags: &PeerTags, now: Mono) {
        if !self.uploading && self.may_go_again(tags, now) {
            let at = now.max(self.last_out.after(SAME_EVENT_GAP));
            self.same_at = Some(self.same_at.map_or(at, |planned| planned.min(at)));
            self.same_for_relay = true;
        }
    }

    /// A relay came up a while ago, and the server should be on it again: a new wrap is due now if none was made of late.
    ///
    /// What the relay took before may have met nobody, or the answer was lost with it; the same event is a copy then, which
    /// is confirmed and passed on to nobody. Relays that confirm nothing or late are not waited for.
    pub(super) fn on_settled(&mut self, tags: &PeerTags, now: Mono) {
        let is_stale = self.rewraps < HASTY && self.last_wrap.after(LATELY) <= now;
        if is_stale && self.may_rewrap(tags, now) {
            self.rewrap_at = Some(self.rewrap_at.map_or(now, |planned| planned.min(now)));
        }
    }

    fn may_go_again(&self, tags: &PeerTags, now: Mono) -> bool {
        now < self.fresh_until
            && (self.wrapped || matches!(self.sent, Sent::Nowhere(_)) || self.may_repeat(tags))
    }

    /// Returns what is due now and plans what follows.
    pub(super) fn on_wake(&mut self, tags: &PeerTags, now: Mono, chance: &mut Chance) -> Due {
        if self.deadline.is_some_and(|at| at <= now) {
            return Due::Over;
        }
        if self.same_at.is_some_and(|at| at <= now) {
            self.same_at = None;
            self.same_for_relay = false;
            if self.may_go_again(tags, now) {
                self.last_out = now;
                return Due::Same;
            }
        }
        if self.rewrap_at.is_none_or(|at| at > now) {
            return Due::Nothing;
        }
        self.rewrap_at = None;
        if !self.may_rewrap(tags, now) {
            return Due::Nothing;
        }
        self.rewraps = self.rewraps.saturating_add(1);
        (self.last_out, self.last_wrap) = (now, now);
        self.arm_rewrap(tags, now, chance);
        Due::Rewrap
    }
}
