//! Every seed does what its name says.
use super::*;
use crate::seeds;

fn counts(name: &str) -> Counts {
    counted(&seeds::named("server_engine", name))
}

/// Requests delivered, requests answered, publications.
fn requests(name: &str) -> [usize; 3] {
    let counts = counts(name);
    [counts.delivered[1], counts.answered, counts.published]
}

#[test]
fn the_seeds_do_what_their_names_say() {
    assert_eq!(requests("answered"), [1, 1, 1]);
    assert_eq!(requests("answered_twice"), [1, 1, 1]);
    assert_eq!(requests("repeated"), [1, 1, 3], "once answered, repeated twice");
    assert_eq!(requests("repeated_in_clear"), [1, 1, 3]);
    assert_eq!(requests("two_callers"), [2, 2, 2]);
    assert_eq!(requests("wrong_caller"), [2, 1, 1]);
    assert_eq!((requests("cancelled"), counts("cancelled").taken_back), ([1, 0, 0], 1));
    assert_eq!(requests("progress"), [1, 1, 4]);
    assert!(requests("refused_by_relays")[2] >= 3, "what no relay took is published again");
    assert_eq!(requests("too_large"), [1, 1, 1]);
    assert_eq!(requests("too_large_for_relays"), [1, 1, 7], "six times, then the error");
    assert_eq!(requests("nonsense"), [1, 1, 1]);
    assert_eq!(requests("initialised"), [1, 1, 2]);
    assert_eq!(requests("restarted"), [2, 2, 2]);
    assert_eq!(requests("subscribed"), [2, 1, 2]);
    assert_eq!(requests("subscription_taken_back"), [1, 0, 0]);
    assert_eq!(counts("server_request").delivered, [2, 1]);
    assert_eq!(requests("session_closed"), [1, 1, 1]);
    assert_eq!(requests("busy")[0], 1);
    assert_eq!(requests("early"), [1, 1, 1]);
    assert_eq!(requests("subscription_ended"), [1, 1, 2]);
    assert_eq!(requests("stale")[0], 1);
    assert_eq!(requests("downgraded")[0], 1);
    assert_eq!(requests("required"), [1, 1, 1]);
    assert_eq!(requests("disabled"), [1, 1, 1]);
    assert_eq!(requests("nobody"), [0, 0, 2]);
    assert_eq!(requests("listed"), [2, 1, 1]);
    assert_eq!((requests("asked_key"), counts("asked_key").asked), ([1, 1, 1], 1));
    assert_eq!((requests("refused_key"), counts("refused_key").asked), ([1, 1, 2], 2));
    assert_eq!((requests("asked_capability"), counts("asked_capability").asked), ([1, 1, 1], 2));
    assert_eq!(requests("transferred"), [2, 2, 3], "the start is accepted");
    assert_eq!(requests("transferred_backwards")[0], 2);
    assert_eq!(requests("transferred_with_a_gap")[0], 1);
    assert_eq!(requests("transferred_by_a_stranger"), [0, 0, 1]);
    assert_eq!(requests("large_answer"), [1, 1, 6]);
    assert_eq!(requests("large_answer_stopped")[..2], [1, 0]);
    assert_eq!(requests("streamed"), [1, 1, 6]);
    assert_eq!(requests("stream_stopped")[..2], [1, 1]);
    assert!(requests("stream_without_a_reader")[2] >= 5, "it is asked whether it is there");
    assert_eq!((requests("no_decision"), counts("no_decision").asked), ([0, 0, 1], 2));
}
