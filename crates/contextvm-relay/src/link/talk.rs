//! What is said on one connection besides events: the subscription, its loss, and authentication (NIP-01, NIP-42).
use std::time::Duration;

use nostr::event::EventId;
use tokio::time::Instant;

use crate::auth::SignedAuth;
use crate::backoff::{Backoff, draw};
use crate::config::Timing;

/// Longest challenge kept, bytes.
const CHALLENGE: usize = 1_024;
/// A subscription that lived this long is not blamed for earlier refusals.
const LIVED: Duration = Duration::from_secs(60);

/// The state of one connection. It is told what happens and when, and says what to do; it does nothing itself.
pub(crate) struct Talk {
    subscription: Subscription,
    auth: Auth,
    timing: Timing,
    reopen: Backoff,
    can_sign: bool,
    last_signature: Option<Instant>,
}

enum Subscription {
    /// There are no filters.
    None,
    /// To be asked for.
    Wanted,
    /// Asked for; to be asked for again at an instant, unless the relay shows before that it has heard.
    Asked { again: Option<Instant> },
    /// Stored events have been sent; new ones follow.
    Live { since: Instant },
    /// Closed by the relay; to be asked for again at an instant, or once authenticated.
    Closed { until: Instant },
}

#[derive(Default)]
struct Auth {
    challenge: Option<String>,
    wanted: bool,
    state: AuthState,
}

#[derive(Default)]
enum AuthState {
    #[default]
    Idle,
    /// The answer with this event id awaits the relay's OK until then.
    Sent(EventId, Instant),
    Accepted,
    Refused,
}

/// What the connection is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Do {
    /// Ask for the subscription, with `since` as of now.
    Subscribe,
    /// Sign this challenge and tell [`Talk::signed`].
    Sign(String),
    /// Nothing before this instant.
    Wait(Option<Instant>),
}

/// What an OK for our authentication meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Authenticated {
    /// The relay knows us now.
    Yes,
    /// The relay does not want us.
    No,
    /// The OK was about something else.
    NotOurs,
}

impl Talk {
    pub(crate) fn new(
        subscribes: bool,
        can_sign: bool,
        timing: Timing,
        last_signature: Option<Instant>,
    ) -> Self {
        let subscription = if subscribes { Subscription::Wanted } else { Subscription::None };
        let reopen = Backoff::new(timing.reopen_first, timing.reopen_most);
        Self { subscription, auth: Auth::default(), timing, reopen, can_sign, last_signature }
    }

    /// Says what to do now; call it until it says [`Do::Wait`].
    pub(crate) fn next(&mut self, now: Instant) -> Do {
        let due = match self.subscription {
            Subscription::Wanted => Some(now),
            Subscription::Closed { until } => Some(until),
            Subscription::Asked { again } => again,
            Subscription::None | Subscription::Live { .. } => None,
        };
        if due.is_some_and(|due| due <= now) {
            // Who was asked before and says nothing is asked less and less often.
            let is_repeat = matches!(self.subscription, Subscription::Asked { .. });
            let more = if is_repeat { self.reopen.next_upper(draw()) } else { Duration::ZERO };
            self.subscription = Subscription::Asked { again: Some(now + self.timing.answer + more) };
            return Do::Subscribe;
        }
        let mut wait = due;
        if let AuthState::Sent(_, until) = self.auth.state {
            if until <= now {
                self.auth.state = AuthState::Idle;
            } else {
                wait = Some(wait.map_or(until, |wait| wait.min(until)));
            }
        }
        if let (true, AuthState::Idle, Some(challenge)) =
            (self.auth.wanted, &self.auth.state, &self.auth.challenge)
        {
            match self.last_signature.map(|last| last + self.timing.auth) {
                Some(allowed) if allowed > now => wait = Some(wait.map_or(allowed, |wait| wait.min(allowed))),
                Some(_) | None => return Do::Sign(challenge.clone()),
            }
        }
        Do::Wait(wait)
    }

    /// Takes in what the signer made of a challenge.
    pub(crate) fn signed(&mut self, answer: Option<&SignedAuth>, now: Instant) {
        self.last_signature = Some(now);
        self.auth.state =
            answer.map_or(AuthState::Refused, |answer| AuthState::Sent(answer.id, now + self.timing.answer));
    }

    /// Takes in a challenge; a new one makes earlier answers worthless.
    pub(crate) fn challenged(&mut self, challenge: &str) {
        if challenge.len() <= CHALLENGE && self.auth.challenge.as_deref() != Some(challenge) {
            self.auth.challenge = Some(challenge.to_owned());
            self.auth.state = AuthState::Idle;
        }
    }

    /// Notes that the relay demands authentication; returns whether it can still be given.
    pub(crate) fn auth_required(&mut self) -> bool {
        if !self.can_sign {
            return false;
        }
        match self.auth.state {
            AuthState::Idle | AuthState::Sent(..) => {
                self.auth.wanted = true;
                true
            }
            AuthState::Accepted | AuthState::Refused => false,
        }
    }

    /// Whether the relay knows us.
    pub(crate) const fn is_authenticated(&self) -> bool {
        matches!(self.auth.state, AuthState::Accepted)
    }

    /// Takes in an OK that may be for our authentication.
    pub(crate) fn answered(&mut self, id: &EventId, accepted: bool) -> Authenticated {
        if !matches!(&self.auth.state, AuthState::Sent(sent, _) if sent == id) {
            return Authenticated::NotOurs;
        }
        if !accepted {
            self.auth.state = AuthState::Refused;
            self.auth.wanted = false;
            return Authenticated::No;
        }
        self.auth.state = AuthState::Accepted;
        self.auth.wanted = false;
        if matches!(self.subscription, Subscription::Closed { .. }) {
            self.subscription = Subscription::Wanted;
        }
        Authenticated::Yes
    }

    /// Takes in an event of the subscription: the relay has heard.
    pub(crate) fn heard(&mut self) {
        if let Subscription::Asked { again } = &mut self.subscription {
            *again = None;
        }
    }

    /// Takes in the end of stored events; returns whether the subscription has come to life.
    pub(crate) fn end_of_stored(&mut self, now: Instant) -> bool {
        let asked = matches!(self.subscription, Subscription::Asked { .. });
        if asked {
            self.subscription = Subscription::Live { since: now };
        }
        asked
    }

    /// Takes in that the relay closed the subscription.
    pub(crate) fn closed(&mut self, auth_required: bool, now: Instant) {
        match self.subscription {
            Subscription::Live { since } => {
                if now - since >= LIVED {
                    self.reopen.reset();
                }
            }
            Subscription::Asked { .. } => {}
            Subscription::None | Subscription::Wanted | Subscription::Closed { .. } => return,
        }
        let wait = if auth_required && self.auth_required() {
            self.timing.auth
        } else {
            self.reopen.next_upper(draw())
        };
        self.subscription = Subscription::Closed { until: now + wait };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk() -> (Talk, Instant) {
        let mut talk = Talk::new(true, true, Timing::default(), None);
        let now = Instant::now();
        assert_eq!(talk.next(now), Do::Subscribe);
        (talk, now)
    }

    fn id(byte: u8) -> EventId {
        EventId::from_slice(&[byte; 32]).unwrap()
    }

    fn answer() -> SignedAuth {
        SignedAuth { id: id(1), json: "{}".to_owned() }
    }

    #[test]
    fn a_closed_subscription_is_asked_for_again_with_growing_delays() {
        let (mut talk, mut now) = talk();
        for most in [1, 2, 4, 8, 16, 32, 60, 60] {
            talk.closed(false, now);
            let Do::Wait(Some(until)) = talk.next(now) else { unreachable!("it must wait") };
            let (most, wait) = (Duration::from_secs(most), until - now);
            assert!(wait >= most / 2 && wait <= most, "{wait:?} is not within half of {most:?}");
            now = until;
            assert_eq!(talk.next(now), Do::Subscribe);
        }
        assert!(talk.end_of_stored(now));
        now += LIVED;
        talk.closed(false, now);
        assert!(matches!(talk.next(now), Do::Wait(Some(until)) if until - now <= Duration::from_secs(1)));
    }

    #[test]
    fn a_subscription_to_which_nothing_is_said_is_asked_for_again_with_growing_delays() {
        let (mut talk, mut now) = talk();
        let answer = Timing::default().answer;
        assert_eq!(talk.next(now), Do::Wait(Some(now + answer)));
        now += answer;
        assert_eq!(talk.next(now), Do::Subscribe);
        for most in [1, 2, 4, 8, 16, 32, 60, 60] {
            let Do::Wait(Some(until)) = talk.next(now) else { unreachable!("it must wait") };
            let (most, wait) = (Duration::from_secs(most), until - now - answer);
            assert!(wait >= most / 2 && wait <= most, "{wait:?} is not within half of {most:?}");
            now = until;
            assert_eq!(talk.next(now), Do::Subscribe);
        }
        talk.heard();
        assert_eq!(talk.next(now), Do::Wait(None), "an event of it is an answer");
        assert!(talk.end_of_stored(now));
        assert_eq!(talk.next(now), Do::Wait(None));
    }

    #[test]
    fn a_challenge_alone_is_not_answered() {
        let (mut talk, now) = talk();
        assert!(talk.end_of_stored(now));
        talk.challenged("abc");
        assert_eq!(talk.next(now), Do::Wait(None));
    }

    #[test]
    fn an_authentication_to_which_nothing_is_said_is_given_again() {
        let (mut talk, now) = talk();
        assert!(talk.end_of_stored(now));
        talk.challenged("abc");
        assert!(talk.auth_required());
        assert_eq!(talk.next(now), Do::Sign("abc".to_owned()));
        talk.signed(Some(&answer()), now);
        let again = now + Timing::default().answer;
        assert_eq!(talk.next(now), Do::Wait(Some(again)));
        assert_eq!(talk.next(again), Do::Sign("abc".to_owned()));
        talk.signed(Some(&answer()), again);
        assert_eq!(talk.answered(&id(1), true), Authenticated::Yes);
        assert_eq!(talk.next(again), Do::Wait(None));
    }

    #[test]
    fn authentication_reopens_the_subscription() {
        let (mut talk, now) = talk();
        talk.closed(true, now);
        assert!(matches!(talk.next(now), Do::Wait(Some(_))));
        talk.challenged("abc");
        assert_eq!(talk.next(now), Do::Sign("abc".to_owned()));
        talk.signed(Some(&answer()), now);
        assert!(matches!(talk.next(now), Do::Wait(Some(_))));
        assert_eq!(talk.answered(&id(2), true), Authenticated::NotOurs);
        assert_eq!(talk.answered(&id(1), true), Authenticated::Yes);
        assert_eq!(talk.next(now), Do::Subscribe);
        assert!(!talk.auth_required(), "a second demand after success cannot be met");
    }

    #[test]
    fn a_flood_of_challenges_yields_one_signature_in_ten_seconds() {
        let (mut talk, start) = talk();
        talk.auth_required();
        let mut signatures = 0;
        for step in 0..300 {
            let now = start + Duration::from_millis(step * 100);
            talk.challenged(&format!("challenge {step}"));
            if let Do::Sign(_) = talk.next(now) {
                signatures += 1;
                talk.signed(Some(&answer()), now);
            }
        }
        assert_eq!(signatures, 3);
    }

    #[test]
    fn a_refused_answer_is_final_until_the_next_challenge() {
        let (mut talk, now) = talk();
        talk.challenged("abc");
        assert!(talk.auth_required());
        assert_eq!(talk.next(now), Do::Sign("abc".to_owned()));
        talk.signed(Some(&answer()), now);
        assert_eq!(talk.answered(&id(1), false), Authenticated::No);
        assert!(!talk.auth_required());
        talk.challenged("def");
        assert!(talk.auth_required());
    }

    #[test]
    fn without_a_signer_nothing_is_signed() {
        let mut talk = Talk::new(true, false, Timing::default(), None);
        talk.challenged("abc");
        assert!(!talk.auth_required());
        assert_eq!(talk.next(Instant::now()), Do::Subscribe);
        assert!(matches!(talk.next(Instant::now()), Do::Wait(_)));
    }

    #[test]
    fn a_huge_challenge_is_ignored() {
        let (mut talk, now) = talk();
        talk.auth_required();
        talk.challenged(&"x".repeat(CHALLENGE + 1));
        assert!(matches!(talk.next(now), Do::Wait(_)));
    }
}
