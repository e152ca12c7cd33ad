//! A relay that takes less than was thought: the chunks are made smaller once.
use contextvm_core::Limits;
use contextvm_core::object::quote;
use contextvm_transfer::{
    FrameType, Handshake, Receiver, ReceiverOutput, Sender, SenderInput, SenderOutput, TransferDrop,
    TransferError,
};

use crate::stage::{Hears, at, drain, read};

const LARGE: usize = 2_000;
const SMALL: usize = 800;

fn message() -> String {
    format!(r#"{{"text":"{}"}}"#, "some \\\"words\\\" ".repeat(500))
}

fn sender(handshake: Handshake) -> Sender {
    let mut sender = Sender::new("t", message(), LARGE, handshake, &Limits::default(), at(0)).unwrap();
    sender.handle(SenderInput::Credit(usize::MAX), at(0));
    sender
}

/// Publishes what a relay with a limit takes and says of the rest that it is too large.
fn publish(sender: &mut Sender, limit: usize) -> (Vec<(FrameType, u64, String)>, Vec<SenderOutput>) {
    let (mut taken, mut rest) = (Vec::new(), Vec::new());
    loop {
        let (frames, said) = drain(sender);
        rest.extend(said);
        if frames.is_empty() {
            return (taken, rest);
        }
        for frame in frames {
            if quote(&frame.2).len() - 2 > limit {
                let (progress, content_limit) = (frame.1, SMALL);
                sender.handle(SenderInput::TooLarge { progress, content_limit }, at(0));
            } else {
                sender.handle(SenderInput::Published(frame.1), at(0));
                taken.push(frame);
            }
        }
    }
}

#[test]
fn the_message_arrives_in_smaller_chunks() {
    for handshake in [Handshake::Skip, Handshake::Ask] {
        let mut sender = sender(handshake);
        let before = sender.chunks();
        let (first, rest) = publish(&mut sender, SMALL);
        sender.handle(SenderInput::Wake, at(3));
        let (second, more) = publish(&mut sender, SMALL);
        let frames = [first, second].concat();
        assert_eq!([rest, more].concat(), [SenderOutput::Finished]);
        assert!(sender.chunks() > before);
        let types: Vec<FrameType> = frames.iter().map(|frame| frame.0).take(4).collect();
        assert_eq!(types, [FrameType::Start, FrameType::Abort, FrameType::Start, FrameType::Chunk]);
        assert!(frames.is_sorted_by(|one, other| one.1 < other.1), "numbers only grow");
        let mut receiver = Receiver::for_responses(&Limits::default());
        let heard: Vec<_> = frames.iter().flat_map(|frame| receiver.hear(read(&frame.2))).collect();
        let [ReceiverOutput::Drop(TransferDrop::Replaced), ReceiverOutput::Complete { message, .. }] =
            &heard[..]
        else {
            panic!("{heard:?}");
        };
        assert_eq!(*message, self::message());
    }
}

#[test]
fn frames_of_the_old_size_are_refused_together_and_count_once() {
    let mut sender = sender(Handshake::Skip);
    for number in [1, 2, 3] {
        let _ = drain(&mut sender);
        sender.handle(SenderInput::Published(number), at(0));
    }
    let (frames, _) = drain(&mut sender);
    assert!(frames.len() > 1);
    for (_, progress, _) in frames {
        sender.handle(SenderInput::TooLarge { progress, content_limit: SMALL }, at(0));
    }
    let (frames, rest) = publish(&mut sender, SMALL);
    assert_eq!(frames[0].0, FrameType::Abort);
    assert_eq!(rest, [SenderOutput::Finished]);
}

#[test]
fn a_second_refusal_and_one_without_a_smaller_size_are_failures() {
    let mut twice = sender(Handshake::Skip);
    let (frames, rest) = publish(&mut twice, 500);
    assert_eq!(frames.last().unwrap().0, FrameType::Abort);
    assert_eq!(rest, [SenderOutput::Failed(TransferError::StillTooLarge)]);
    for content_limit in [LARGE, LARGE + 1] {
        let mut sender = sender(Handshake::Skip);
        let _ = drain(&mut sender);
        sender.handle(SenderInput::TooLarge { progress: 1, content_limit }, at(0));
        assert_eq!(drain(&mut sender).1, [SenderOutput::Failed(TransferError::StillTooLarge)]);
    }
    let mut sender = sender(Handshake::Skip);
    let _ = drain(&mut sender);
    sender.handle(SenderInput::TooLarge { progress: 1, content_limit: 10 }, at(0));
    let (_, rest) = drain(&mut sender);
    assert!(matches!(rest[..], [SenderOutput::Failed(TransferError::ContentLimit { limit: 10, .. })]));
}

#[test]
fn a_relay_that_calls_the_end_too_large_does_not_get_the_message_twice() {
    let mut sender = sender(Handshake::Skip);
    loop {
        let (frames, rest) = drain(&mut sender);
        assert!(rest.is_empty());
        for (frame_type, progress, _) in frames {
            if frame_type == FrameType::End {
                sender.handle(SenderInput::TooLarge { progress, content_limit: SMALL }, at(0));
                let (frames, rest) = drain(&mut sender);
                let types: Vec<FrameType> = frames.iter().map(|frame| frame.0).collect();
                assert_eq!(types, [FrameType::Abort]);
                assert_eq!(rest, [SenderOutput::Failed(TransferError::NotPublished)]);
                return;
            }
            sender.handle(SenderInput::Published(progress), at(0));
        }
    }
}

#[test]
fn a_frame_much_smaller_than_one_that_was_taken_is_not_too_large() {
    let mut sender = sender(Handshake::Skip);
    let last = loop {
        let (mut frames, _) = drain(&mut sender);
        let last = frames.pop().unwrap();
        for (_, progress, _) in frames {
            sender.handle(SenderInput::Published(progress), at(0));
        }
        if last.0 == FrameType::Chunk && quote(&last.2).len() < LARGE - 200 {
            break last;
        }
        sender.handle(SenderInput::Published(last.1), at(0));
    };
    sender.handle(SenderInput::TooLarge { progress: last.1, content_limit: SMALL }, at(0));
    assert_eq!(drain(&mut sender).1, [SenderOutput::Failed(TransferError::NotPublished)]);
}
