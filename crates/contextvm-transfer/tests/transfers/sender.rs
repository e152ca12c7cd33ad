//! How a sender gives its frames out: alone, in a window, within credit, and when it waits for an accept.
use contextvm_core::Limits;
use contextvm_core::object::quote;
use contextvm_transfer::{
    FrameBody, FrameType, Handshake, MAX_TOKEN, Sender, SenderInput, SenderOutput, TransferError,
    TransferWake, WINDOW,
};

use crate::stage::{all_frames, at, drain, read};

/// What a content may take in the tests: a few hundred characters of text.
const CONTENT: usize = 600;
const NONE: [u64; 0] = [];

fn message(size: usize) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"text":"{}"}}}}"#, "a \\\"b\\\" ".repeat(size / 8))
}

fn sender(message: &str, handshake: Handshake) -> Sender {
    Sender::new("t", message.to_owned(), CONTENT, handshake, &Limits::default(), at(0)).unwrap()
}

/// The numbers of the frames that can be had now.
fn numbers(sender: &mut Sender) -> Vec<u64> {
    let (frames, rest) = drain(sender);
    assert_eq!(rest, []);
    frames.into_iter().map(|frame| frame.1).collect()
}

#[test]
fn what_cannot_be_sent_is_refused_at_once() {
    let limits = Limits { transfer_bytes: 1_000, transfer_chunks: 2, ..Limits::default() };
    let new = |token: &str, message: &str, content| {
        Sender::new(token, message.to_owned(), content, Handshake::Skip, &limits, at(0)).err()
    };
    assert_eq!(new("t", "", CONTENT), Some(TransferError::Empty));
    assert_eq!(new("", "{}", CONTENT), Some(TransferError::Token));
    assert_eq!(new(&"t".repeat(MAX_TOKEN + 1), "{}", 9_000), Some(TransferError::Token));
    assert_eq!(new(&"t".repeat(MAX_TOKEN), "{}", 9_000), None);
    let long = "x".repeat(1_001);
    assert_eq!(new("t", &long, CONTENT), Some(TransferError::TooManyBytes { bytes: 1_001, limit: 1_000 }));
    assert_eq!(new("t", &long[..1_000], CONTENT), Some(TransferError::TooManyChunks { chunks: 3, limit: 2 }));
    assert!(matches!(new("t", "{}", 100), Some(TransferError::ContentLimit { limit: 100, .. })));
}

#[test]
fn every_frame_fits_and_the_chunks_are_the_message() {
    let message = message(20_000);
    let mut sender = sender(&message, Handshake::Skip);
    let chunks = sender.chunks() as u64;
    let (frames, rest) = all_frames(&mut sender, at(0));
    assert_eq!(rest, [SenderOutput::Finished]);
    assert_eq!(sender.poll_timeout(), None);
    assert!(frames.iter().all(|(_, _, content)| quote(content).len() - 2 <= CONTENT));
    let full = frames.iter().filter(|(_, _, content)| quote(content).len() - 2 > CONTENT - 4).count();
    assert!(full as u64 >= chunks - 1, "every chunk but the last is full");
    let mut text = String::new();
    for ((frame_type, progress, content), number) in frames.iter().zip(1..) {
        assert_eq!(*progress, number);
        let frame = read(content);
        assert_eq!(
            (frame.token.as_ref(), frame.progress, frame.body.frame_type()),
            ("t", number, *frame_type)
        );
        if let FrameBody::Chunk(data) = frame.body {
            text.push_str(&data);
        }
    }
    assert_eq!(text, message);
    let types: Vec<FrameType> = frames.iter().map(|frame| frame.0).collect();
    assert_eq!((types[0], types[types.len() - 1]), (FrameType::Start, FrameType::End));
    assert_eq!(types.len() as u64, chunks + 2);
}

#[test]
fn a_mebibyte_is_few_events() {
    // The largest event whose gift wrap a relay with a limit of 65,536 bytes takes, less what is around its content.
    let content = 40_960 - 460;
    for (letter, frames) in [('x', 29), ('é', 29), ('\n', 81), ('"', 107)] {
        let message = letter.to_string().repeat(1024 * 1024 / letter.len_utf8());
        let mut sender =
            Sender::new("t", message, content, Handshake::Skip, &Limits::default(), at(0)).unwrap();
        assert_eq!(all_frames(&mut sender, at(0)).0.len(), frames, "{letter:?}");
    }
}

#[test]
fn a_chunk_that_is_held_up_is_not_overtaken_by_more_than_a_window() {
    let message = message(60_000);
    let mut sender = sender(&message, Handshake::Skip);
    assert!(sender.chunks() > 4 * WINDOW);
    sender.handle(SenderInput::Credit(usize::MAX), at(0));
    let mut given = numbers(&mut sender);
    // The start and the first chunks go out at once; then the oldest on its way is the only one that nobody takes.
    while given.len() < WINDOW / 2 {
        given.into_iter().for_each(|progress| sender.handle(SenderInput::Published(progress), at(0)));
        given = numbers(&mut sender);
    }
    let (held, mut newest) = (given[0], given[0]);
    while let Some(last) = given.last() {
        newest = *last;
        let others = given.into_iter().filter(|progress| *progress != held);
        others.for_each(|progress| sender.handle(SenderInput::Published(progress), at(1)));
        given = numbers(&mut sender);
    }
    assert_eq!(newest - held + 1, WINDOW as u64);
    sender.handle(SenderInput::Published(held), at(100));
    assert!(!numbers(&mut sender).is_empty());
}

#[test]
fn the_window_opens_as_chunks_are_published() {
    let mut sender = sender(&message(20_000), Handshake::Skip);
    sender.handle(SenderInput::Credit(usize::MAX), at(0));
    assert_eq!(numbers(&mut sender), [1], "the start travels alone");
    sender.handle(SenderInput::Published(1), at(0));
    assert_eq!(numbers(&mut sender), [2], "so does the first chunk");
    sender.handle(SenderInput::Published(2), at(0));
    assert_eq!(numbers(&mut sender), [3, 4]);
    let (mut oldest, mut newest) = (3, 4);
    for _ in 0..60 {
        sender.handle(SenderInput::Published(oldest), at(0));
        oldest += 1;
        newest = numbers(&mut sender).last().copied().unwrap_or(newest);
        assert!(newest - oldest < WINDOW as u64);
    }
    assert_eq!(newest - oldest + 1, WINDOW as u64);
    // An answer for a frame that is not on its way opens nothing.
    for number in [0, 1, oldest - 1, newest + 1, u64::MAX] {
        sender.handle(SenderInput::Published(number), at(0));
        sender.handle(SenderInput::Unpublished(number), at(0));
        sender.handle(SenderInput::TooLarge { progress: number, content_limit: 1 }, at(0));
        assert_eq!(numbers(&mut sender), NONE);
    }
}

#[test]
fn the_end_waits_for_every_chunk() {
    let mut sender = sender(&message(1_000), Handshake::Skip);
    sender.handle(SenderInput::Credit(usize::MAX), at(0));
    let last = sender.chunks() as u64 + 1;
    let mut in_flight = numbers(&mut sender);
    // The oldest chunk that can wait waits until it is alone.
    while in_flight != [last + 1] {
        let at_first = in_flight.len() < 2 || in_flight[0] < 3;
        let published = if at_first { in_flight.remove(0) } else { in_flight.pop().unwrap() };
        sender.handle(SenderInput::Published(published), at(0));
        in_flight.extend(numbers(&mut sender));
        assert!(in_flight.len() == 1 || !in_flight.contains(&(last + 1)), "{in_flight:?}");
    }
    sender.handle(SenderInput::Published(last + 1), at(0));
    assert_eq!(sender.poll_output(), Some(SenderOutput::Finished));
}

#[test]
fn without_credit_nothing_is_given_out() {
    let mut sender = sender(&message(5_000), Handshake::Skip);
    assert_eq!(numbers(&mut sender), NONE);
    let mut given = 0;
    for credit in [1, 2, 3] {
        sender.handle(SenderInput::Credit(credit), at(0));
        for _ in 0..10 {
            for number in numbers(&mut sender) {
                sender.handle(SenderInput::Published(number), at(0));
                given += 1;
            }
        }
    }
    assert_eq!(given, 6);
}

/// The numbers of start, first chunk and end when the peer accepts, or when nobody does.
fn numbering(size: usize, accepts: bool) -> (usize, [u64; 2]) {
    let mut sender = sender(&message(size), Handshake::Ask);
    sender.handle(SenderInput::Credit(usize::MAX), at(0));
    assert_eq!(numbers(&mut sender), [1]);
    sender.handle(SenderInput::Published(1), at(0));
    assert_eq!(numbers(&mut sender), NONE, "chunks wait");
    assert_eq!(sender.poll_timeout(), Some((at(3).mono, TransferWake::Accept)));
    if accepts {
        sender.handle(SenderInput::Accepted, at(1));
    } else {
        sender.handle(SenderInput::Wake, at(2));
        assert_eq!(numbers(&mut sender), NONE);
        sender.handle(SenderInput::Wake, at(3));
    }
    let (frames, rest) = all_frames(&mut sender, at(4));
    assert_eq!(rest, [SenderOutput::Finished]);
    (sender.chunks(), [frames[0].1, frames[frames.len() - 1].1])
}

#[test]
fn a_blind_transfer_waits_a_little_and_keeps_a_place_free_if_it_is_short() {
    for accepts in [false, true] {
        let (short, [first, end]) = numbering(3_000, accepts);
        assert!((15..=21).contains(&short), "{short}");
        assert_eq!((first, end), (3, short as u64 + 3));
        let (long, [first, end]) = numbering(5_000, accepts);
        assert!((22..40).contains(&long), "{long}");
        assert_eq!((first, end), (2, long as u64 + 2));
    }
}

#[test]
fn an_accept_that_overtakes_the_relay_is_heard() {
    let mut sender = sender(&message(1_000), Handshake::Ask);
    sender.handle(SenderInput::Credit(usize::MAX), at(0));
    assert_eq!(numbers(&mut sender), [1]);
    sender.handle(SenderInput::Accepted, at(0));
    assert_eq!(numbers(&mut sender), NONE);
    sender.handle(SenderInput::Published(1), at(0));
    assert_eq!(numbers(&mut sender), [3]);
}

/// How a transfer ends whose start is out: the reason of its abort, and the failure.
fn ending(input: SenderInput, seconds: u64) -> (Option<String>, SenderOutput) {
    let mut sender = sender(&message(1_000), Handshake::Skip);
    sender.handle(SenderInput::Credit(usize::MAX), at(0));
    assert_eq!(numbers(&mut sender), [1]);
    sender.handle(input, at(seconds));
    let (frames, rest) = drain(&mut sender);
    let reason = frames.first().map(|(frame_type, progress, content)| {
        assert_eq!((*frame_type, *progress), (FrameType::Abort, 2));
        let FrameBody::Abort(Some(reason)) = read(content).body else { panic!("{content}") };
        reason.into_owned()
    });
    assert!(frames.len() <= 1 && rest.len() == 1, "{frames:?} {rest:?}");
    sender.handle(SenderInput::Credit(1), at(seconds));
    sender.handle(SenderInput::Cancel, at(seconds));
    assert_eq!((drain(&mut sender), sender.poll_timeout()), ((vec![], vec![]), None), "it ends once");
    (reason, rest[0].clone())
}

#[test]
fn every_failure_is_told_to_the_peer_once() {
    let told = |reason: &str, error| (Some(reason.to_owned()), SenderOutput::Failed(error));
    assert_eq!(
        ending(SenderInput::Unpublished(1), 0),
        told("no relay took a frame", TransferError::NotPublished)
    );
    assert_eq!(ending(SenderInput::Cancel, 0), told("cancelled", TransferError::Cancelled));
    assert_eq!(ending(SenderInput::Wake, 300), told("transfer took too long", TransferError::TimedOut));
    assert_eq!(ending(SenderInput::Aborted, 0), (None, SenderOutput::Failed(TransferError::Aborted)));
}

#[test]
fn what_never_began_ends_in_silence() {
    let mut sender = sender(&message(1_000), Handshake::Skip);
    sender.handle(SenderInput::Cancel, at(0));
    assert_eq!(drain(&mut sender), (vec![], vec![SenderOutput::Failed(TransferError::Cancelled)]));
}
