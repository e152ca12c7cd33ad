//! What a queue of publications for one relay does, entry by entry.
use super::*;
use crate::publish::{Audience, PublishEvent};
use nostr::types::RelayUrl;

const SECOND: Duration = Duration::from_secs(1);

fn outbox(events: usize, bytes: usize) -> Outbox {
    Outbox::new(1, events, bytes, Backoff::new(SECOND, SECOND * 60))
}

fn publication(byte: u8, deadline: Instant) -> Arc<Publication> {
    publication_for(byte, Audience::default(), deadline)
}

fn publication_for(byte: u8, audience: Audience, deadline: Instant) -> Arc<Publication> {
    let event = PublishEvent { id: EventId::from_slice(&[byte; 32]).unwrap(), json: "{}".into() };
    let publication = Publication::new(&event, audience, (deadline, deadline));
    publication.expect(1, RelayUrl::parse("ws://127.0.0.1:1").unwrap(), true, false);
    Arc::new(publication)
}

fn taken(outbox: &Outbox, now: Instant) -> Option<u8> {
    match outbox.take(now) {
        Take::Send(publication) => Some(publication.id.as_bytes()[0]),
        Take::Wait(_) => None,
    }
}

async fn outcome(publication: &Arc<Publication>) -> RelayOutcome {
    Arc::clone(publication).report().await.per_relay[0].1.clone()
}

#[tokio::test]
async fn what_does_not_fit_is_refused_at_once_by_count_and_by_bytes() {
    let now = Instant::now();
    let size = publication(1, now).frame.len();
    for outbox in [outbox(2, 1_000), outbox(1_000, 2 * size)] {
        let all: Vec<_> = (1..=3).map(|byte| publication(byte, now + SECOND)).collect();
        for publication in &all {
            outbox.push(publication, now);
        }
        assert_eq!(outcome(&all[2]).await, RelayOutcome::QueueFull);
        assert_eq!([taken(&outbox, now), taken(&outbox, now), taken(&outbox, now)], [Some(1), Some(2), None]);
    }
}

/// Asked at this relay, asked elsewhere, asked at this relay by a stranger.
const HERE: Audience = Audience { first: 1 << 1, only: false, decides: true };
const ELSEWHERE: Audience = Audience { first: 1 << 2, only: false, decides: true };
const STRANGER: Audience = Audience { first: 1 << 1, only: true, decides: true };

#[tokio::test]
async fn what_was_asked_elsewhere_or_by_a_stranger_leaves_half_of_the_queue_free() {
    let now = Instant::now();
    let size = publication(1, now).frame.len();
    for outbox in [outbox(4, 1_000), outbox(1_000, 4 * size)] {
        for other in [ELSEWHERE, STRANGER] {
            let all: Vec<_> = (1..=3).map(|byte| publication_for(byte, other, now + SECOND)).collect();
            for publication in &all {
                outbox.push(publication, now);
            }
            assert_eq!(outcome(&all[2]).await, RelayOutcome::QueueFull);
            for byte in [4, 5, 6] {
                outbox.push(&publication_for(byte, HERE, now + SECOND), now);
            }
            let taken: Vec<_> = std::iter::from_fn(|| taken(&outbox, now)).collect();
            assert_eq!(taken, [1, 2, 4, 5]);
        }
    }
}

#[test]
fn a_relay_that_is_behind_takes_what_was_asked_there_alone() {
    let now = Instant::now();
    let outbox = outbox(10, 10_000);
    outbox.push(&publication(1, now + SECOND), now);
    outbox.push(&publication(2, now + SECOND * 9), now);
    assert_eq!((taken(&outbox, now + SECOND), outbox.lags(now)), (Some(2), true));
    let later = now + SECOND;
    outbox.push(&publication_for(3, ELSEWHERE, now + SECOND * 9), later);
    outbox.push(&publication_for(4, HERE, now + SECOND * 9), later);
    outbox.push(&publication_for(5, STRANGER, now + SECOND * 9), later);
    assert_eq!(
        [taken(&outbox, later), taken(&outbox, later), taken(&outbox, later)],
        [Some(4), Some(5), None]
    );
}

#[test]
fn a_relay_that_is_behind_and_has_nothing_to_do_is_tried_again() {
    let now = Instant::now();
    let outbox = outbox(10, 10_000);
    outbox.push(&publication(1, now + SECOND), now);
    assert_eq!((taken(&outbox, now + SECOND), outbox.lags(now)), (None, true));
    outbox.push(&publication_for(2, ELSEWHERE, now + SECOND * 9), now + SECOND);
    assert_eq!(taken(&outbox, now + SECOND), Some(2));
}

#[tokio::test]
async fn what_is_too_old_makes_room_and_is_never_sent() {
    let now = Instant::now();
    let outbox = outbox(1, 1_000);
    outbox.push(&publication(1, now + SECOND), now);
    outbox.push(&publication(2, now + SECOND * 9), now + SECOND);
    assert_eq!(taken(&outbox, now + SECOND * 2), Some(2));
    outbox.push(&publication(3, now + SECOND * 3), now + SECOND * 2);
    assert_eq!(taken(&outbox, now + SECOND * 3), None);
}

#[tokio::test]
async fn a_lost_connection_puts_unanswered_publications_first_in_their_order() {
    let now = Instant::now();
    let outbox = outbox(10, 10_000);
    for (byte, deadline) in [(1, SECOND), (2, SECOND * 9), (3, SECOND * 9), (4, SECOND * 9), (5, SECOND * 9)]
    {
        outbox.push(&publication(byte, now + deadline), now);
    }
    for _ in 0..4 {
        taken(&outbox, now);
    }
    let id = EventId::from_slice(&[3; 32]).unwrap();
    assert!(outbox.answered(&id, Answer::No, "no", now).is_some());
    outbox.disconnected(now + SECOND);
    let again: Vec<_> = std::iter::from_fn(|| taken(&outbox, now + SECOND)).collect();
    assert_eq!(again, [2, 4, 5]);
}

#[tokio::test]
async fn a_rate_limit_pauses_everything_and_the_refused_event_goes_first() {
    let now = Instant::now();
    let outbox = outbox(10, 10_000);
    let first = publication(1, now + SECOND * 9);
    outbox.push(&first, now);
    outbox.push(&publication(2, now + SECOND * 9), now);
    assert_eq!(taken(&outbox, now), Some(1));
    outbox.answered(&first.id, Answer::Later, "rate-limited: slow", now);
    let Take::Wait(Some(until)) = outbox.take(now) else { panic!("it must pause") };
    assert!(until - now >= SECOND / 2 && until - now <= SECOND);
    assert_eq!([taken(&outbox, until), taken(&outbox, until)], [Some(1), Some(2)]);
    outbox.answered(&first.id, Answer::Success(RelaySuccess::New), "", until);
    assert_eq!(outcome(&first).await, RelayOutcome::Accepted);
}

#[test]
fn a_relay_lags_from_what_it_left_unanswered_to_the_next_that_it_takes() {
    let now = Instant::now();
    let outbox = outbox(10, 10_000);
    let (first, second) = (publication(1, now + SECOND), publication(2, now + SECOND * 9));
    outbox.push(&first, now);
    outbox.push(&second, now);
    assert_eq!((taken(&outbox, now + SECOND), outbox.lags(now)), (Some(2), true));
    outbox.answered(&second.id, Answer::Success(RelaySuccess::New), "", now + SECOND);
    assert!(!outbox.lags(now));
}

#[test]
fn one_answer_does_not_hide_what_has_waited_for_longer() {
    let now = Instant::now();
    let outbox = outbox(10, 10_000);
    let [first, second] = [1, 2].map(|byte| publication(byte, now + SECOND * 9));
    outbox.push(&first, now);
    outbox.push(&second, now);
    assert_eq!([taken(&outbox, now), taken(&outbox, now)], [Some(1), Some(2)]);
    outbox.answered(&second.id, Answer::Success(RelaySuccess::New), "", now);
    assert!(!outbox.lags(now + SECOND));
    // Although nothing was sent, or tried, since.
    assert!(outbox.lags(now + SECOND * 2));
}

#[test]
fn a_relay_to_which_nothing_can_be_written_lags() {
    let now = Instant::now();
    let outbox = outbox(10, 10_000);
    let event = PublishEvent { id: EventId::from_slice(&[1; 32]).unwrap(), json: "{}".into() };
    outbox.push(&Arc::new(Publication::new(&event, Audience::default(), (now, now + SECOND * 9))), now);
    assert!(!outbox.lags(now + SECOND));
    assert!(outbox.lags(now + SECOND * 2));
}

#[test]
fn what_is_sent_again_is_answered_from_then_on() {
    let now = Instant::now();
    let outbox = outbox(10, 10_000);
    let later = now + SECOND * 2;
    for at in [now, later] {
        outbox.push(&publication(1, now + SECOND * 9), at);
        assert_eq!(taken(&outbox, at), Some(1));
    }
    let id = EventId::from_slice(&[1; 32]).unwrap();
    assert_eq!(outbox.answered(&id, Answer::Success(RelaySuccess::New), "", later), Some(Duration::ZERO));
    assert!(!outbox.lags(later));
}

#[tokio::test]
async fn what_awaits_authentication_is_sent_again_or_refused() {
    let now = Instant::now();
    let outbox = outbox(10, 10_000);
    let event = publication(1, now + SECOND * 9);
    outbox.push(&event, now);
    taken(&outbox, now);
    outbox.answered(&event.id, Answer::Authenticate, "auth-required: who", now);
    assert_eq!(taken(&outbox, now), None);
    outbox.authenticated(now);
    assert_eq!(taken(&outbox, now), Some(1));
    outbox.answered(&event.id, Answer::Authenticate, "auth-required: who", now);
    outbox.not_authenticated("restricted: not you");
    assert_eq!(outcome(&event).await, RelayOutcome::Refused("restricted: not you".to_owned()));
}

#[test]
fn unanswered_publications_are_forgotten_in_the_end() {
    let now = Instant::now();
    let outbox = outbox(1, 10_000);
    for byte in 0..20 {
        outbox.push(&publication(byte, now + SECOND), now);
        assert_eq!(taken(&outbox, now), Some(byte));
    }
    assert_eq!(taken(&outbox, now), None);
    assert_eq!(outbox.state().sent.len(), UNANSWERED);
    assert_eq!(outbox.state().sent_bytes, UNANSWERED * publication(1, now).frame.len());
}

#[test]
fn a_relay_that_never_answers_costs_no_memory_after_the_deadline() {
    let now = Instant::now();
    let outbox = outbox(10, 10_000);
    for byte in 0..8 {
        outbox.push(&publication(byte, now + SECOND), now);
        taken(&outbox, now);
    }
    let refused = EventId::from_slice(&[3; 32]).unwrap();
    outbox.answered(&refused, Answer::Authenticate, "auth-required: who", now);
    assert_eq!(outbox.state().sent.len(), 8);
    assert!(!outbox.lags(now));
    assert_eq!(taken(&outbox, now + SECOND), None);
    assert!(outbox.lags(now));
    let state = outbox.state();
    assert_eq!((state.sent.len(), state.order.len(), state.sent_bytes), (0, 0, 0));
}
