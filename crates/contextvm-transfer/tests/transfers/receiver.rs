//! What a receiver refuses, how much it holds, and when it gives up.
use std::time::Duration;

use contextvm_core::Limits;
use contextvm_transfer::{
    FrameBody, FrameType, RESTART, Receiver, ReceiverInput, ReceiverLoad, ReceiverOutput, Start,
    TransferDrop, TransferError, TransferFrame, TransferKey, TransferWake,
};

use crate::stage::{Hears, at, chunk, complete, end, event, failed, frame, key, peer, read, silent, start};

fn limits() -> Limits {
    Limits { transfer_bytes: 10_000, transfer_chunks: 100, transfers_bytes: 40_000, ..Limits::default() }
}

fn declared(change: impl FnOnce(&mut Start<'static>)) -> TransferFrame<'static> {
    let FrameBody::Start(mut declared) = start(1, "abc", 3).body else { panic!("not a start") };
    change(&mut declared);
    frame("t", 1, FrameBody::Start(declared))
}

fn abort(progress: u64, reason: &'static str) -> TransferFrame<'static> {
    frame("t", progress, FrameBody::Abort(Some(reason.into())))
}

/// Hands all frames over and keeps what is not sent to the peer.
fn check(frames: Vec<TransferFrame<'static>>, expected: Vec<ReceiverOutput>) {
    let mut receiver = Receiver::for_requests(&limits());
    let shown = format!("{frames:?}");
    let outputs: Vec<_> = frames.into_iter().flat_map(|frame| silent(receiver.hear(frame))).collect();
    assert_eq!(outputs, expected, "{shown}");
    if outputs.iter().any(|output| !matches!(output, ReceiverOutput::Drop(_))) {
        assert_eq!(receiver.load(), ReceiverLoad::default(), "{shown}");
        assert_eq!(receiver.poll_timeout(), None);
    }
}

fn dropped(reason: TransferDrop) -> Vec<ReceiverOutput> {
    vec![ReceiverOutput::Drop(reason)]
}

#[test]
fn a_start_that_declares_what_is_not_taken_fails() {
    let table = [
        (declared(|start| start.completion_mode = Some("stream".into())), TransferError::CompletionMode),
        (declared(|start| start.completion_mode = Some("Render".into())), TransferError::CompletionMode),
        (declared(|start| start.digest = "sha512:00".into()), TransferError::DigestForm),
        (declared(|start| start.total_bytes = 0), TransferError::Empty),
        (declared(|start| start.total_chunks = 0), TransferError::Empty),
        (
            declared(|start| start.total_bytes = 10_001),
            TransferError::TooManyBytes { bytes: 10_001, limit: 10_000 },
        ),
        (
            declared(|start| start.total_chunks = 101),
            TransferError::TooManyChunks { chunks: 101, limit: 100 },
        ),
    ];
    for (start, error) in table {
        check(vec![start.clone()], failed(error));
        // What was open under this key is not worth more than its peer's word.
        check(vec![self::start(1, "abcd", 4), chunk(2, "a"), start], failed(error));
    }
}

#[test]
fn chunks_that_do_not_fit_together_fail() {
    let abc = || start(1, "abc", 3);
    let table = [
        (vec![abc(), chunk(2, "a"), chunk(2, "b")], TransferError::Conflict { progress: 2 }),
        (vec![chunk(2, "a"), chunk(2, "b")], TransferError::Conflict { progress: 2 }),
        (vec![abc(), chunk(6, "a")], TransferError::OutOfBounds { progress: 6 }),
        (vec![chunk(6, "a"), abc()], TransferError::OutOfBounds { progress: 6 }),
        (
            vec![abc(), chunk(2, ""), chunk(3, ""), chunk(4, ""), chunk(5, "")],
            TransferError::OutOfBounds { progress: 5 },
        ),
        (vec![abc(), end(4), chunk(4, "a")], TransferError::End { progress: 4 }),
        (vec![abc(), chunk(4, "a"), end(4)], TransferError::End { progress: 4 }),
        (vec![chunk(9, "a"), end(8)], TransferError::End { progress: 8 }),
        (vec![abc(), chunk(2, "a"), chunk(3, "b"), chunk(5, "c"), end(6)], TransferError::Gap),
        (vec![abc(), chunk(2, "abcd")], TransferError::Length { declared: 3, received: 4 }),
        (vec![chunk(2, "abcd"), abc()], TransferError::Length { declared: 3, received: 4 }),
        (
            vec![abc(), chunk(2, "a"), chunk(3, ""), chunk(4, "c"), end(5)],
            TransferError::Length { declared: 3, received: 2 },
        ),
        (vec![abc(), chunk(2, "a"), chunk(3, "c"), chunk(4, "b"), end(5)], TransferError::Digest),
        (vec![abc(), abort(9, "no space")], TransferError::Aborted),
    ];
    for (frames, error) in table {
        check(frames, failed(error));
    }
}

#[test]
fn both_numberings_and_every_order_are_taken() {
    let direct = [start(1, "aéc", 3), chunk(2, "a"), chunk(3, "é"), chunk(4, "c"), end(5)];
    let gated = [start(7, "aéc", 3), chunk(9, "a"), chunk(10, "é"), chunk(11, "c"), end(12)];
    let late_end = [start(1, "abc", 1), chunk(2, "abc"), end(900)];
    for frames in [&direct[..], &gated, &late_end] {
        let number = frames.last().unwrap().progress;
        for rotation in 0..frames.len() {
            let mut turned = frames.to_vec();
            turned.rotate_left(rotation);
            for backward in [false, true] {
                if backward {
                    turned.reverse();
                }
                let message = if frames.len() == 3 { "abc" } else { "aéc" };
                check(turned.clone(), complete(message, number));
            }
        }
    }
}

#[test]
fn what_is_repeated_or_late_changes_nothing() {
    let abc = || start(1, "abc", 3);
    check(vec![abc(), abc()], dropped(TransferDrop::Duplicate));
    check(vec![abc(), chunk(2, "a"), chunk(2, "a")], dropped(TransferDrop::Duplicate));
    check(vec![abc(), end(5), end(5)], dropped(TransferDrop::Duplicate));
    check(vec![start(5, "abc", 3), chunk(5, "a")], dropped(TransferDrop::Late));
    check(vec![start(5, "abc", 3), end(5)], dropped(TransferDrop::Late));
    check(vec![start(5, "abc", 3), abort(4, "")], dropped(TransferDrop::Late));
    check(vec![frame("t", 2, FrameBody::Accept)], dropped(TransferDrop::Misplaced));
    let whole = [start(1, "abc", 1), chunk(2, "abc"), end(3)];
    for left in [chunk(2, "abc"), end(3), abort(4, "")] {
        let mut frames = whole.to_vec();
        frames.push(left);
        let expected = [complete("abc", 3), dropped(TransferDrop::Late)].concat();
        check(frames, expected);
    }
}

#[test]
fn a_new_start_replaces_what_was_unfinished() {
    let mut receiver = Receiver::for_responses(&limits());
    for old in [start(1, "abc", 3), chunk(2, "x"), chunk(3, "y")] {
        assert_eq!(receiver.hear(old), []);
    }
    assert_eq!(receiver.hear(start(1, "abd", 1)), dropped(TransferDrop::Replaced));
    assert_eq!(receiver.hear(chunk(2, "abd")), []);
    assert_eq!(receiver.hear(end(3)), complete("abd", 3));
}

#[test]
fn after_an_end_the_same_token_may_begin_again() {
    let mut receiver = Receiver::for_responses(&limits());
    for (number, message) in (0..).zip(["abc", "abc", "xyz"]) {
        let start = start(1, message, 1);
        assert_eq!(receiver.hear_again(number, start.clone(), at(0)), []);
        assert_eq!(receiver.hear(chunk(2, message)), []);
        assert_eq!(receiver.hear(end(3)), complete(message, 3));
        // The same event begins nothing again.
        assert_eq!(receiver.hear_again(number, start, at(0)), dropped(TransferDrop::Duplicate));
    }
}

#[test]
fn a_restart_is_no_failure_and_old_frames_do_not_disturb_it() {
    let mut receiver = Receiver::for_responses(&limits());
    assert_eq!(receiver.hear(start(1, "abc", 1)), []);
    assert_eq!(receiver.hear(abort(4, RESTART)), dropped(TransferDrop::Replaced));
    for old in [chunk(2, "abc"), end(4)] {
        assert_eq!(receiver.hear(old), dropped(TransferDrop::Late));
    }
    // The first chunk overtakes its start frame.
    assert_eq!(receiver.hear(chunk(6, "ab")), []);
    assert_eq!(receiver.hear(start(5, "abc", 2)), []);
    // A late copy of the first start does not bring the first attempt back.
    assert_eq!(receiver.hear(start(1, "abc", 1)), dropped(TransferDrop::Duplicate));
    assert_eq!(receiver.hear(abort(4, RESTART)), dropped(TransferDrop::Late));
    assert_eq!(receiver.hear(chunk(2, "abc")), dropped(TransferDrop::Late));
    assert_eq!(receiver.hear(chunk(7, "c")), []);
    assert_eq!(receiver.hear(end(8)), complete("abc", 8));
    assert_eq!(receiver.hear(abort(4, RESTART)), dropped(TransferDrop::Late));
}

#[test]
fn a_restart_that_never_comes_fails() {
    let mut receiver = Receiver::for_responses(&limits());
    assert_eq!(receiver.hear(start(1, "abc", 1)), []);
    assert_eq!(receiver.hear(abort(4, RESTART)), dropped(TransferDrop::Replaced));
    assert_eq!(silent(receiver.tell(ReceiverInput::Wake, at(60))), failed(TransferError::Idle));
}

#[test]
fn a_server_accepts_and_a_client_does_not() {
    let sent = |outputs: Vec<ReceiverOutput>| match &outputs[..] {
        [ReceiverOutput::Send { key: to, frame_type: FrameType::Accept, content }] => {
            assert_eq!(*to, key(1, "t"));
            Some(read(content).progress)
        }
        [] => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(sent(Receiver::for_requests(&limits()).hear(start(1, "abc", 3))), Some(2));
    assert_eq!(sent(Receiver::for_requests(&limits()).hear(start(10, "abc", 3))), Some(11));
    assert_eq!(sent(Receiver::for_responses(&limits()).hear(start(1, "abc", 3))), None);
}

#[test]
fn a_peer_is_told_why_but_not_without_end() {
    let mut receiver = Receiver::for_responses(&limits());
    let outputs = receiver.hear(declared(|start| start.completion_mode = Some("stream".into())));
    let [ReceiverOutput::Send { content, frame_type: FrameType::Abort, .. }, ReceiverOutput::Failed { .. }] =
        &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    let told = read(content);
    assert_eq!(told.progress, 2);
    assert_eq!(told.body, FrameBody::Abort(Some("completion mode is not render".into())));
    let mut aborts = 0;
    for number in 0..1_000 {
        let huge = declared(|start| start.total_bytes = u64::MAX >> 11);
        let outputs = receiver.hear_again(number, huge, at(0));
        assert_eq!(silent(outputs.clone()).len(), 1);
        aborts += outputs.len() - 1;
    }
    assert_eq!(aborts, 63);
    // The peer's own abort is not answered.
    assert_eq!(receiver.hear_from(2, start(1, "abc", 3), at(0)), []);
    assert_eq!(receiver.hear_from(2, abort(2, ""), at(0)).len(), 1);
}

#[test]
fn an_answer_to_the_highest_number_is_still_a_frame() {
    let mut receiver = Receiver::for_requests(&limits());
    let most = (1 << 53) - 1;
    for (frame, sent) in [(start(most, "abc", 1), FrameType::Accept), (start(most, "", 1), FrameType::Abort)]
    {
        let outputs = receiver.hear(frame);
        let Some(ReceiverOutput::Send { content, frame_type, .. }) = outputs.first() else {
            panic!("{outputs:?}");
        };
        assert_eq!((read(content).progress, *frame_type), (most, sent));
    }
}

#[test]
fn tokens_of_two_peers_and_of_two_requests_do_not_meet() {
    let mut receiver = Receiver::for_responses(&limits());
    let mut hear = |peer_number, request: Option<u64>, frame: TransferFrame<'static>| {
        let (peer, request, event) = (peer(peer_number), request.map(event), event(frame.progress));
        receiver.tell(ReceiverInput::Frame { peer, request, frame, event }, at(0))
    };
    for (number, request, message) in [(1, None, "abc"), (2, None, "xyz"), (1, Some(9), "123")] {
        assert_eq!(hear(number, request, start(1, message, 1)), []);
        assert_eq!(hear(number, request, chunk(2, message)), []);
    }
    assert_eq!(hear(3, None, end(3)), [], "the end of another peer ends nothing");
    for (number, request, message) in [(2, None, "xyz"), (1, Some(9), "123"), (1, None, "abc")] {
        let key = TransferKey { peer: peer(number), request: request.map(event), token: "t".to_owned() };
        let complete = ReceiverOutput::Complete { key, message: message.to_owned(), end: event(3) };
        assert_eq!(hear(number, request, end(3)), [complete]);
    }
}

#[test]
fn a_peer_has_four_transfers_and_all_have_sixty_four() {
    let mut receiver = Receiver::for_responses(&Limits::default());
    let of = |number: u64| TransferFrame { token: format!("t{number}").into(), ..start(1, "abc", 3) };
    for number in 0..4 {
        assert_eq!(receiver.hear_from(1, of(number), at(0)), []);
    }
    let busy = |outputs| {
        let outputs = silent(outputs);
        matches!(&outputs[..], [ReceiverOutput::Failed { error: TransferError::Busy, .. }])
    };
    assert!(busy(receiver.hear_from(1, of(4), at(0))));
    for number in 4..64_000 {
        let from = u8::try_from(2 + number % 250).unwrap();
        let _ = receiver.hear_from(from, of(number), at(0));
        assert!(receiver.load().transfers <= 64);
    }
    assert_eq!(receiver.load().transfers, 64);
    assert!(receiver.load().bytes < 64 * 1_024);
    assert!(busy(receiver.hear_from(255, of(1), at(0))));
    let stray = TransferFrame { token: "new".into(), ..chunk(2, "a") };
    assert_eq!(receiver.hear_from(255, stray, at(0)), dropped(TransferDrop::Busy));
    // The first peer's transfers have survived all this.
    for progress in 2..5 {
        let data = ["a", "b", "c"][usize::try_from(progress).unwrap() - 2];
        let frame = TransferFrame { token: "t3".into(), ..chunk(progress, data) };
        assert_eq!(receiver.hear_from(1, frame, at(0)), []);
    }
    let last = TransferFrame { token: "t3".into(), ..end(5) };
    assert!(matches!(&receiver.hear_from(1, last, at(0))[..], [ReceiverOutput::Complete { .. }]));
}

#[test]
fn who_only_begins_transfers_leaves_a_quarter_of_the_places_to_those_who_end_theirs() {
    let limits = Limits { transfers: 8, ..limits() };
    let mut receiver = Receiver::for_requests(&limits);
    let of = |token: u64, frame| TransferFrame { token: format!("t{token}").into(), ..frame };
    let has_begun = |outputs: &[ReceiverOutput]| {
        matches!(outputs, [ReceiverOutput::Send { frame_type: FrameType::Accept, .. }])
    };
    let send = |receiver: &mut Receiver, token: u64| {
        let begun = has_begun(&receiver.hear_from(1, of(token, start(1, "abc", 1)), at(0)));
        let _more = receiver.hear_from(1, of(token, chunk(3, "abc")), at(0));
        let outputs = receiver.hear_from(1, of(token, end(4)), at(0));
        begun && matches!(&outputs[..], [ReceiverOutput::Complete { .. }])
    };
    assert!(send(&mut receiver, 0));
    let begun =
        (2..250).filter(|from| has_begun(&receiver.hear_from(*from, of(1, start(1, "abc", 1)), at(0))));
    assert_eq!(begun.count(), 6);
    assert!(send(&mut receiver, 1));
    // One at a time.
    assert!(has_begun(&receiver.hear_from(1, of(2, start(1, "abc", 1)), at(0))));
    assert!(!has_begun(&receiver.hear_from(1, of(3, start(1, "abc", 1)), at(0))));
    assert_eq!(receiver.load().transfers, 7);
}

#[test]
fn chunks_played_back_long_after_their_transfer_cost_their_author_nothing() {
    let limits = Limits { transfer_waste: 1, ..limits() };
    let mut receiver = Receiver::for_requests(&limits);
    let of = |token: u64, frame| TransferFrame { token: format!("t{token}").into(), ..frame };
    for token in 0..4 {
        assert_eq!(receiver.hear_from(1, of(token, chunk(2, "old")), at(0)), []);
    }
    assert_eq!(receiver.load().transfers, 4);
    // The author's next transfer takes the place of the oldest ghost.
    let outputs = receiver.hear_from(1, of(9, start(1, "abc", 1)), at(1));
    let failed = |output: &ReceiverOutput| matches!(output, ReceiverOutput::Failed { .. });
    assert_eq!(outputs.iter().filter(|output| failed(output)).count(), 1);
    assert!(matches!(outputs.last(), Some(ReceiverOutput::Send { frame_type: FrameType::Accept, .. })));
    // The others stand still until they are forgotten; nobody is told, and nobody pays.
    let outputs = receiver.tell(ReceiverInput::Wake, at(60));
    assert_eq!(outputs.len(), 3);
    assert!(outputs.iter().all(failed));
    assert_eq!(receiver.hear_from(1, of(9, chunk(3, "abc")), at(60)), []);
    let outputs = receiver.hear_from(1, of(9, end(4)), at(60));
    assert!(matches!(&outputs[..], [ReceiverOutput::Complete { .. }]));
}

#[test]
fn one_peer_leaves_a_quarter_of_the_memory_to_the_others() {
    let limits = Limits { transfer_bytes: 16_000, transfers_bytes: 16_000, ..limits() };
    let mut receiver = Receiver::for_requests(&limits);
    let message = "x".repeat(14_000);
    let of = |token: u64, frame| TransferFrame { token: format!("t{token}").into(), ..frame };
    for token in 0..2 {
        let _accept = receiver.hear_from(1, of(token, start(1, &message, 2)), at(0));
    }
    assert_eq!(receiver.hear_from(1, of(0, chunk(3, &message[..7_000])), at(0)), []);
    let outputs = silent(receiver.hear_from(1, of(1, chunk(3, &message[..7_000])), at(0)));
    assert!(matches!(&outputs[..], [ReceiverOutput::Failed { error: TransferError::Memory, .. }]));
    // Alone, one transfer may take all that is free.
    assert_eq!(receiver.hear_from(1, of(0, chunk(4, &message[7_000..])), at(0)), []);
    assert_eq!(receiver.load().transfers, 1);
}

#[test]
fn memory_is_leased_as_chunks_arrive() {
    let limits = Limits { transfers_bytes: 4_000, ..limits() };
    let mut receiver = Receiver::for_responses(&limits);
    let message = "x".repeat(10_000);
    assert_eq!(receiver.hear(start(1, &message, 10)), []);
    assert!(receiver.load().bytes < 1_000, "nothing is held for what was declared");
    let mut outputs = Vec::new();
    for progress in 2..12 {
        outputs.extend(silent(receiver.hear(chunk(progress, &message[..1_000]))));
        assert!(receiver.load().bytes <= 4_000);
    }
    assert_eq!(outputs[0], failed(TransferError::Memory)[0]);
    assert!(outputs[1..].iter().all(|output| *output == ReceiverOutput::Drop(TransferDrop::Late)));
    assert_eq!(receiver.load(), ReceiverLoad::default());
}

#[test]
fn a_start_may_be_overtaken_by_everything() {
    // A fast relay lost it, and a slow one brings it after all the rest.
    let message = "x".repeat(900_000);
    let mut receiver = Receiver::for_responses(&Limits::default());
    for progress in 2..902 {
        assert_eq!(receiver.hear(chunk(progress, &message[..1_000])), []);
    }
    assert_eq!(receiver.hear(end(902)), []);
    assert_eq!(receiver.hear(start(1, &message, 900)), complete(&message, 902));
}

#[test]
fn chunks_without_a_start_are_bounded_as_those_with_one() {
    let mut receiver = Receiver::for_responses(&limits());
    for progress in 2..102 {
        assert_eq!(receiver.hear(chunk(progress, "a")), []);
    }
    assert_eq!(receiver.hear(chunk(102, "a")), dropped(TransferDrop::Early));
    let mut receiver = Receiver::for_responses(&limits());
    assert_eq!(receiver.hear(chunk(2, &"a".repeat(9_999))), []);
    assert_eq!(receiver.hear(chunk(3, "bc")), dropped(TransferDrop::Early));
    assert_eq!(receiver.hear(chunk(3, "b")), []);
    assert_eq!(receiver.hear(end(4)), []);
    let message = "a".repeat(9_999) + "b";
    assert_eq!(receiver.hear(start(1, &message, 2)), complete(&message, 4));
}

#[test]
fn a_transfer_that_stands_still_is_given_up() {
    let mut receiver = Receiver::for_responses(&Limits::default());
    assert_eq!(receiver.hear_from(1, start(1, "abc", 3), at(0)), []);
    assert_eq!(receiver.poll_timeout(), Some((at(60).mono, TransferWake::Deadline)));
    assert_eq!(receiver.hear_from(1, chunk(2, "a"), at(59)), []);
    assert_eq!(receiver.tell(ReceiverInput::Wake, at(118)), []);
    let outputs = receiver.tell(ReceiverInput::Wake, at(119));
    assert_eq!(outputs.len(), 2, "the peer is told");
    assert_eq!(silent(outputs), failed(TransferError::Idle));
    assert_eq!(receiver.poll_timeout(), None);
}

#[test]
fn a_frame_that_is_dropped_keeps_nothing_alive() {
    let mut receiver = Receiver::for_responses(&Limits::default());
    assert_eq!(receiver.hear_from(1, start(1, "abc", 3), at(0)), []);
    assert_eq!(receiver.hear_from(1, start(1, "abc", 3), at(30)), dropped(TransferDrop::Duplicate));
    assert_eq!(receiver.poll_timeout(), Some((at(60).mono, TransferWake::Deadline)));
}

#[test]
fn a_trickle_ends_with_the_total_time() {
    let mut receiver = Receiver::for_responses(&Limits::default());
    assert_eq!(receiver.hear_from(1, start(1, &"x".repeat(100), 100), at(0)), []);
    for progress in 2..8 {
        let now = at(50 * (progress - 1));
        assert_eq!(receiver.hear_from(1, chunk(progress, "x"), now), []);
    }
    assert_eq!(receiver.poll_timeout(), Some((at(300).mono, TransferWake::Deadline)));
    assert_eq!(silent(receiver.tell(ReceiverInput::Wake, at(300))), failed(TransferError::TimedOut));
}

#[test]
fn stragglers_have_ten_seconds() {
    let mut receiver = Receiver::for_responses(&Limits::default());
    for frame in [start(1, "abc", 3), chunk(2, "a"), end(5)] {
        assert_eq!(receiver.hear_from(1, frame, at(0)), []);
    }
    assert_eq!(receiver.hear_from(1, chunk(3, "b"), at(9)), []);
    assert_eq!(receiver.poll_timeout(), Some((at(19).mono, TransferWake::Deadline)));
    assert_eq!(silent(receiver.tell(ReceiverInput::Wake, at(19))), failed(TransferError::Missing));
    assert_eq!(receiver.hear_from(1, chunk(4, "c"), at(19)), dropped(TransferDrop::Late));
}

#[test]
fn failed_transfers_cost_a_peer_its_right_to_more() {
    let limits = Limits { transfer_waste: 20_000, ..limits() };
    let mut receiver = Receiver::for_responses(&limits);
    let message = "x".repeat(9_000);
    let broken = || declared(|start| (start.total_bytes, start.total_chunks) = (9_000, 1));
    for number in 0..3 {
        assert_eq!(receiver.hear_again(number, broken(), at(0)), []);
        assert_eq!(receiver.hear(chunk(2, &message)), []);
        assert_eq!(silent(receiver.hear(end(3))), failed(TransferError::Digest));
    }
    assert_eq!(silent(receiver.hear_again(3, broken(), at(0))), failed(TransferError::Wasteful));
    assert_eq!(receiver.hear_again(3, broken(), at(0)), dropped(TransferDrop::Duplicate));
    let stray = TransferFrame { token: "new".into(), ..chunk(2, "a") };
    assert_eq!(receiver.hear(stray), dropped(TransferDrop::Wasteful));
    assert_eq!(receiver.hear_from(2, start(1, "abc", 3), at(0)), [], "others do not pay for it");
    assert_eq!(receiver.hear_again(4, broken(), at(600)), []);
}

#[test]
fn what_our_own_side_gives_up_costs_the_peer_nothing() {
    let limits = Limits { transfer_waste: 1_000, transfer_idle: Duration::from_secs(5), ..limits() };
    let mut receiver = Receiver::for_responses(&limits);
    for seconds in 0..3 {
        let message = "x".repeat(9_000);
        assert_eq!(receiver.hear_again(seconds, start(1, &message, 2), at(seconds)), []);
        assert_eq!(receiver.hear_from(1, chunk(2, &message[..8_000]), at(seconds)), []);
        let outputs = receiver.tell(ReceiverInput::Cancel(key(1, "t")), at(seconds));
        let [ReceiverOutput::Send { content, frame_type: FrameType::Abort, .. }] = &outputs[..] else {
            panic!("{outputs:?}");
        };
        assert_eq!(read(content), abort(3, "cancelled"));
        assert_eq!(receiver.load(), ReceiverLoad::default());
        assert_eq!(receiver.hear_from(1, chunk(3, "x"), at(seconds)), dropped(TransferDrop::Late));
    }
    assert_eq!(receiver.tell(ReceiverInput::Cancel(key(1, "t")), at(3)), []);
}

#[test]
fn a_lack_of_memory_costs_the_peer_nothing() {
    let limits = Limits { transfers_bytes: 4_000, transfer_waste: 1_000, ..limits() };
    let mut receiver = Receiver::for_responses(&limits);
    let message = "x".repeat(9_000);
    for number in 0..3 {
        assert_eq!(receiver.hear_again(number, start(1, &message, 2), at(0)), []);
        assert_eq!(silent(receiver.hear(chunk(2, &message[..8_000]))), failed(TransferError::Memory));
    }
}

#[test]
fn a_peer_that_leaves_leaves_nothing() {
    let mut receiver = Receiver::for_responses(&limits());
    assert_eq!(receiver.hear_from(1, start(1, "abc", 3), at(0)), []);
    assert_eq!(receiver.hear_from(2, start(1, "abc", 3), at(0)), []);
    assert_eq!(receiver.tell(ReceiverInput::Leave(peer(1)), at(0)), []);
    assert_eq!(receiver.load().transfers, 1);
    assert_eq!(receiver.tell(ReceiverInput::Leave(peer(2)), at(0)), []);
    assert_eq!(receiver.load(), ReceiverLoad::default());
}
