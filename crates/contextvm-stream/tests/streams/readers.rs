//! What a reader takes in which order, what it refuses, and how each stream ends.
use contextvm_core::{Limits, Mono};
use contextvm_stream::{
    MAX_REASON, ReaderInput, ReaderOutput, Readers, StreamBody, StreamDrop, StreamEnd, StreamError,
    StreamFrame, StreamKey, StreamLoad, StreamWake,
};

use crate::stage::{
    Hears, at, chunk, close, dropped, ended, failed, frame, given, key, peer, ping, reader, request, sent,
    start,
};

fn limits() -> Limits {
    Limits { stream_buffer: 1_000, streams_bytes: 20_000, ..Limits::default() }
}

/// Hands all frames over at second zero and returns everything that comes of it.
fn hear_all(readers: &mut Readers, frames: Vec<StreamFrame<'static>>) -> Vec<ReaderOutput> {
    frames.into_iter().flat_map(|frame| readers.hear(frame, at(0))).collect()
}

fn closed(chunks: u64) -> ReaderOutput {
    ended(StreamEnd::Closed { chunks })
}

#[test]
fn frames_in_any_order_give_the_chunks_in_order() {
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 2, 3, 0], [2, 0, 3, 1], [3, 0, 2, 1], [1, 3, 0, 2]];
    for order in orders {
        let frames = [start(), chunk(0, "a"), chunk(1, "b"), close(Some(1))];
        let mut readers = reader(&limits());
        let outputs = hear_all(&mut readers, order.map(|at| frames[at].clone()).to_vec());
        assert_eq!(outputs, [given(0, "a"), given(1, "b"), closed(2)], "{order:?}");
        assert_ne!(readers.load(), StreamLoad::default(), "two chunks are still to be taken");
        assert_eq!(readers.tell(ReaderInput::Taken { key: key("t"), chunks: 2 }, at(0)), []);
        assert_eq!((readers.load(), readers.poll_timeout()), (StreamLoad::default(), None));
    }
}

#[test]
fn exact_repeats_change_nothing() {
    let mut readers = reader(&limits());
    hear_all(&mut readers, vec![start(), chunk(0, "a"), chunk(2, "c")]);
    for frame in [start(), chunk(0, "a"), chunk(2, "c")] {
        assert_eq!(readers.hear(frame, at(1)), dropped(StreamDrop::Duplicate));
    }
    assert_eq!(readers.hear(close(Some(3)), at(1)), []);
    assert_eq!(readers.hear(close(Some(3)), at(1)), dropped(StreamDrop::Duplicate));
    let rest = hear_all(&mut readers, vec![chunk(3, "d"), chunk(1, "b")]);
    assert_eq!(rest, [given(1, "b"), given(2, "c"), given(3, "d"), closed(4)]);
    for frame in [start(), chunk(0, "a"), chunk(9, "j"), close(Some(3)), ping(9, "n")] {
        assert_eq!(readers.hear(frame, at(1)), dropped(StreamDrop::Late));
    }
}

#[test]
fn what_cannot_be_true_fails_and_the_peer_is_told_once() {
    let again =
        |progress, index, data: &'static str| frame(progress, StreamBody::Chunk { index, data: data.into() });
    let conflict = |index| StreamError::Conflict { index };
    let behind = |index| StreamError::BehindLast { index };
    let far = StreamError::TooFarAhead { index: 4_097, window: 4_096 };
    let table = [
        (vec![frame(2, StreamBody::Start(None))], StreamError::StartedTwice),
        (vec![again(2, 0, "x")], conflict(0)),
        (vec![again(9, 0, "a")], conflict(0)),
        (vec![chunk(3, "d"), again(5, 3, "x")], conflict(3)),
        (vec![chunk(3, "d"), again(6, 3, "d")], conflict(3)),
        (vec![chunk(4_097, "z")], far),
        (vec![close(Some(5)), chunk(6, "g")], behind(6)),
        (vec![chunk(6, "g"), close(Some(5))], behind(6)),
        (vec![chunk(1, "b"), close(Some(0))], behind(1)),
        (vec![close(Some(5)), close(Some(6))], behind(6)),
        (vec![close(Some(5)), close(None)], behind(0)),
        (vec![chunk(2, &"c".repeat(900))], StreamError::TooSlow { limit: 1_000 }),
    ];
    for (frames, error) in table {
        let mut readers = reader(&limits());
        hear_all(&mut readers, vec![start(), chunk(0, "a")]);
        let outputs = hear_all(&mut readers, frames);
        let reason = error.to_string().leak();
        // The first of these may have given a chunk out.
        assert_eq!(outputs[outputs.len() - 2..], failed(1, error, reason), "{error}");
        assert_eq!(readers.hear(chunk(1, "b"), at(0)), dropped(StreamDrop::Late));
        readers.handle(ReaderInput::Taken { key: key("t"), chunks: 99 }, at(0));
        assert_eq!((readers.load(), readers.poll_timeout()), (StreamLoad::default(), None));
    }
}

#[test]
fn a_chunk_far_behind_is_late_and_one_4095_places_early_is_not() {
    let mut readers = reader(&limits());
    hear_all(&mut readers, vec![start()]);
    for index in 0..70 {
        assert_eq!(readers.hear(chunk(index, "a"), at(0)).len(), 1);
        readers.handle(ReaderInput::Taken { key: key("t"), chunks: 1 }, at(0));
    }
    assert_eq!(readers.hear(chunk(6, "a"), at(0)), dropped(StreamDrop::Duplicate));
    // Nothing is known of it any more.
    assert_eq!(readers.hear(chunk(5, "x"), at(0)), dropped(StreamDrop::Late));
    assert_eq!(readers.hear(chunk(4_165, "z"), at(0)), []);
    let error = StreamError::TooFarAhead { index: 4_166, window: 4_096 };
    let reason = error.to_string().leak();
    assert_eq!(readers.hear(chunk(4_166, "z"), at(0)), failed(1, error, reason));
}

#[test]
fn one_chunk_that_a_fast_relay_lost_may_come_after_hundreds() {
    let mut readers = reader(&Limits::default());
    hear_all(&mut readers, vec![start()]);
    for index in 1..800 {
        assert_eq!(readers.hear(chunk(index, "a line of a log"), at(0)), []);
    }
    let outputs = readers.hear(chunk(0, "first"), at(1));
    assert_eq!(outputs.len(), 800);
    assert_eq!(outputs[799], given(799, "a line of a log"));
}

#[test]
fn a_gap_is_not_forgiven_for_ever() {
    let mut readers = reader(&limits());
    hear_all(&mut readers, vec![start(), chunk(0, "a"), chunk(2, "c")]);
    // The peer is there, and the chunk is not.
    for seconds in [10, 20, 29] {
        assert_eq!(readers.hear(chunk(seconds, "x"), at(seconds)), []);
    }
    assert_eq!(readers.poll_timeout(), Some((at(30).mono, StreamWake::Deadline)));
    let error = StreamError::Gap;
    assert_eq!(readers.tell(ReaderInput::Wake, at(30)), failed(1, error, error.to_string().leak()));
}

#[test]
fn chunks_without_a_start_wait_for_five_seconds() {
    let mut readers = reader(&limits());
    assert_eq!(hear_all(&mut readers, vec![chunk(0, "a"), close(Some(0))]), []);
    assert_eq!(readers.poll_timeout(), Some((Mono(5_000), StreamWake::Grace)));
    assert_eq!(readers.tell(ReaderInput::Wake, at(4)), []);
    let error = StreamError::NoStart;
    assert_eq!(readers.tell(ReaderInput::Wake, at(5)), failed(1, error, "start frame is missing"));
    let mut readers = reader(&limits());
    hear_all(&mut readers, vec![chunk(0, "a")]);
    assert_eq!(readers.hear(start(), at(4)), [given(0, "a")]);
    assert_eq!(readers.poll_timeout(), Some((at(34).mono, StreamWake::Idle)));
}

#[test]
fn a_close_without_an_index_ends_when_no_chunk_waits() {
    let mut readers = reader(&limits());
    let outputs = hear_all(&mut readers, vec![start(), chunk(1, "b"), close(None)]);
    assert_eq!(outputs, []);
    assert_eq!(readers.hear(chunk(0, "a"), at(4)), [given(0, "a"), given(1, "b"), closed(2)]);
}

#[test]
fn the_final_answer_ends_what_did_not_begin_or_was_not_closed() {
    let answered = |chunks| ended(StreamEnd::Answered { chunks });
    let mut readers = reader(&limits());
    assert_eq!(readers.tell(ReaderInput::Answered(key("t")), at(0)), [answered(0)]);
    assert_eq!(readers.load(), StreamLoad::default());
    // What was overtaken by the answer has five seconds.
    let mut readers = reader(&limits());
    hear_all(&mut readers, vec![start(), chunk(0, "a")]);
    assert_eq!(readers.tell(ReaderInput::Answered(key("t")), at(1)), []);
    assert_eq!(readers.hear(chunk(1, "b"), at(2)), [given(1, "b")]);
    assert_eq!(readers.poll_timeout(), Some((at(6).mono, StreamWake::Grace)));
    assert_eq!(readers.tell(ReaderInput::Wake, at(6)), [answered(2)]);
    let mut readers = reader(&limits());
    hear_all(&mut readers, vec![start(), chunk(0, "a")]);
    readers.handle(ReaderInput::Answered(key("t")), at(1));
    assert_eq!(readers.hear(close(Some(0)), at(2)), [closed(1)]);
    // Something is missing; nobody is there any more to be told.
    let mut readers = reader(&limits());
    hear_all(&mut readers, vec![start(), chunk(1, "b")]);
    readers.handle(ReaderInput::Answered(key("t")), at(1));
    let end = StreamEnd::Failed { error: StreamError::Missing, reason: None };
    assert_eq!(readers.tell(ReaderInput::Wake, at(6)), [ended(end)]);
    assert_eq!(readers.tell(ReaderInput::Answered(key("t")), at(7)), []);
}

#[test]
fn an_abort_of_the_peer_ends_at_once_with_its_words_cut() {
    let mut readers = reader(&limits());
    hear_all(&mut readers, vec![start(), chunk(0, "a"), chunk(2, "c")]);
    let reason = "é".repeat(MAX_REASON);
    let outputs = readers.hear(frame(9, StreamBody::Abort(Some(reason.into()))), at(0));
    let reason = Some("é".repeat(MAX_REASON / 2));
    assert_eq!(outputs, [ended(StreamEnd::Failed { error: StreamError::Aborted, reason })]);
    // The echo of an abort of ours is nothing either.
    assert_eq!(readers.hear(frame(10, StreamBody::Abort(None)), at(0)), dropped(StreamDrop::Late));
}

#[test]
fn whoever_drops_a_stream_tells_the_peer_even_if_it_begins_later() {
    let cancelled = || ended(StreamEnd::Failed { error: StreamError::Cancelled, reason: None });
    let mut readers = reader(&limits());
    hear_all(&mut readers, vec![start(), chunk(0, "a")]);
    let cancel = || ReaderInput::Cancel { key: key("t"), reason: Some("enough") };
    let abort = sent(1, StreamBody::Abort(Some("enough".into())));
    assert_eq!(readers.tell(cancel(), at(1)), [abort, cancelled()]);
    assert_eq!(readers.load(), StreamLoad::default());
    assert_eq!(readers.tell(cancel(), at(1)), []);
    assert_eq!(readers.hear(chunk(1, "b"), at(1)), dropped(StreamDrop::Late));

    let mut readers = reader(&limits());
    assert_eq!(readers.tell(cancel(), at(1)), [cancelled()]);
    let abort = sent(1, StreamBody::Abort(None));
    assert_eq!(readers.hear(start(), at(2)), [vec![abort], dropped(StreamDrop::Late)].concat());
    assert_eq!(readers.hear(chunk(0, "a"), at(2)), dropped(StreamDrop::Late));
}

#[test]
fn a_ping_is_answered_at_once_even_when_the_application_takes_nothing() {
    let mut readers = reader(&limits());
    hear_all(&mut readers, vec![start(), chunk(0, &"a".repeat(900))]);
    assert_eq!(readers.hear(ping(3, "n1"), at(1)), [sent(1, StreamBody::Pong("n1".into()))]);
    assert_eq!(readers.hear(ping(4, "n2"), at(2)), [sent(2, StreamBody::Pong("n2".into()))]);
    assert_eq!(readers.poll_timeout(), Some((at(32).mono, StreamWake::Idle)));
}

#[test]
fn frames_that_are_not_for_a_reader_change_nothing() {
    let mut readers = reader(&limits());
    assert_eq!(readers.hear(ping(1, "n"), at(0)), dropped(StreamDrop::Early));
    assert_eq!(readers.hear(frame(1, StreamBody::Accept), at(0)), dropped(StreamDrop::Misplaced));
    assert_eq!(readers.poll_timeout(), None, "nothing has begun");
    hear_all(&mut readers, vec![start()]);
    let pong = frame(2, StreamBody::Pong("t:1".into()));
    assert_eq!(readers.hear(pong, at(5)), dropped(StreamDrop::UnknownPong));
    assert_eq!(readers.hear(ping(3, &"n".repeat(65)), at(5)), dropped(StreamDrop::LongNonce));
    assert_eq!(readers.poll_timeout(), Some((at(30).mono, StreamWake::Idle)), "that is no sign of life");
    let unasked = StreamFrame { token: "u".into(), ..start() };
    assert_eq!(readers.hear(unasked, at(5)), dropped(StreamDrop::Unasked));
}

#[test]
fn equal_tokens_of_two_peers_and_of_two_requests_do_not_meet() {
    let mut readers = reader(&limits());
    let other_peer = StreamKey { peer: peer(2), ..key("t") };
    let other_request = StreamKey { request: request(2), ..key("t") };
    for key in [&other_peer, &other_request] {
        readers.open(key.clone()).unwrap();
    }
    hear_all(&mut readers, vec![start()]);
    for key in [other_peer, other_request] {
        let input = |frame| ReaderInput::Frame { peer: key.peer, request: key.request, frame };
        assert_eq!(readers.tell(input(start()), at(0)), []);
        let end = StreamEnd::Failed { error: StreamError::Aborted, reason: None };
        let outputs = readers.tell(input(frame(2, StreamBody::Abort(None))), at(0));
        assert_eq!(outputs, [ReaderOutput::Ended { key: key.clone(), end }]);
    }
    assert_eq!(readers.hear(chunk(0, "a"), at(0)), [given(0, "a")]);
}

#[test]
fn a_stream_is_opened_once_and_with_a_token_that_a_peer_would_take() {
    let mut readers = reader(&limits());
    assert_eq!(readers.open(key("t")), Err(StreamError::Busy));
    for token in [String::new(), "t".repeat(1_025)] {
        assert_eq!(readers.open(key(&token)), Err(StreamError::Token));
    }
    for number in 0..20 {
        let key = StreamKey { peer: peer(number), ..key("u") };
        if readers.open(key) == Err(StreamError::Memory) {
            assert!(readers.load().bytes <= 20_000 && readers.load().streams > 5);
            return;
        }
    }
    panic!("memory has no end");
}
