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
    /// Asked for; stored events are coming.
    Asked,
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
    /// The answer with this event id awaits the relay's OK.
    Sent(EventId),
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
        let mut wait = None;
        match self.subscription {
            Subscription::Wanted => {
                self.subscription = Subscription::Asked;
                return Do::Subscribe;
            }
            Subscription::Closed { until } if until <= now => {
                self.subscription = Subscription::Asked;
                return Do::Subscribe;
            }
            Subscription::Closed { until } => wait = Some(until),
            Subscription::None | Subscription::Asked | Subscription::Live { .. } => {}
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
        self.auth.state = answer.map_or(AuthState::Refused, |answer| AuthState::Sent(answer.id));
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
            AuthState::Idle | AuthState::Sent(_) => {
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
        if !matches!(&self.auth.state, AuthState::Sent(sent) if sent == id) {
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

    /// Takes in the end of stored events; returns whether the subscription has come to life.
    pub(crate) fn end_of_stored(&mut self, now: Instant) -> bool {
        let asked = matches!(self.subscription, Subscription::Asked);
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
            Subscription::Asked => {}
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
    fn a_challenge_alone_is_not_answered() {
        let (mut talk, now) = talk();
        talk.challenged("abc");
        assert_eq!(talk.next(now), Do::Wait(None));
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
        assert_eq!(talk.next(Instant::now()), Do::Wait(None));
    }

    #[test]
    fn a_huge_challenge_is_ignored() {
        let (mut talk, now) = talk();
        talk.auth_required();
        talk.challenged(&"x".repeat(CHALLENGE + 1));
        assert_eq!(talk.next(now), Do::Wait(None));
    }
}
