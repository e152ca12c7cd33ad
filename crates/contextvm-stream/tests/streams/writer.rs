//! What a writer takes, when it gives it out, and how it ends.
use contextvm_core::{Limits, Mono};
use contextvm_stream::{
    MAX_REASON, StreamBody, StreamDrop, StreamError, StreamFrame, StreamFrameType, StreamWake, Writer,
    WriterInput, WriterOutput,
};

use crate::stage::{at, frame, ping, publish, read, writer};

fn limits() -> Limits {
    Limits { stream_chunk: 10, stream_buffer: 100, ..Limits::default() }
}

fn hear(writer: &mut Writer, frame: StreamFrame<'_>, seconds: u64) {
    writer.handle(WriterInput::Frame(frame), at(seconds));
}

/// What comes out now, without anything published.
fn bodies(writer: &mut Writer) -> Vec<StreamBody<'static>> {
    let mut out = Vec::new();
    while let Some(WriterOutput::Frame { frame_type, progress, content }) = writer.poll_output() {
        let frame = read(content.leak());
        assert_eq!((frame.progress, frame.body.frame_type()), (progress, frame_type));
        out.push(frame.body);
    }
    out
}

fn data(index: u64, data: &str) -> StreamBody<'static> {
    StreamBody::Chunk { index, data: data.to_owned().into() }
}

fn failed(error: StreamError) -> WriterOutput {
    WriterOutput::Failed { error, reason: None }
}

#[test]
fn long_texts_are_cut_between_characters_and_short_ones_stay_apart() {
    let mut writer = writer(&Limits { stream_buffer: 1_000, ..limits() });
    assert_eq!(writer.write("ab", at(0)), Ok(2));
    assert_eq!(writer.write("", at(0)), Ok(0));
    assert_eq!(writer.write("éééééé", at(0)), Ok(12));
    let chunks = [data(0, "ab"), data(1, "ééééé"), data(2, "é")];
    assert_eq!(bodies(&mut writer), [&[StreamBody::Start(None)][..], &chunks].concat());
}

#[test]
fn the_largest_chunk_fits_into_an_event_that_relays_take() {
    let limits = Limits::default();
    for text in ["x", "\"", "\\", "\n", "\u{1}", "\u{7f}", "é", "\u{2028}", "😀"] {
        let mut writer = writer(&limits);
        let text = text.repeat(9_000 / text.len());
        assert_eq!(writer.write(&text, at(0)), Ok(text.len()));
        let (frames, _) = publish(&mut writer, at(0));
        for content in frames {
            let in_event = contextvm_core::object::quote(&content).len();
            // The largest inner event whose gift wrap fits into 65,536 bytes, less what is beside the content.
            assert!(in_event <= 40_960 - 800, "{in_event}");
        }
    }
}

#[test]
fn what_is_not_given_out_is_bounded_and_the_application_waits() {
    let mut writer = Writer::new("t", &limits()).unwrap();
    assert_eq!(writer.room(), 68);
    let text = "0123456789".repeat(100);
    assert_eq!(writer.write(&text, at(0)), Ok(20), "two chunks of 42 bytes each");
    assert_eq!((writer.held(), writer.room()), (84, 0));
    assert_eq!(writer.write(&text, at(0)), Ok(0));
    assert_eq!(bodies(&mut writer), []);
    writer.handle(WriterInput::Credit(2), at(0));
    assert_eq!(bodies(&mut writer), [StreamBody::Start(None), data(0, "0123456789")]);
    assert!(writer.room() >= 10);
    assert_eq!(writer.write(&text, at(0)), Ok(10));
    // One chunk always fits, however small the buffer is.
    let tiny = Limits { stream_buffer: 1, ..limits() };
    let mut writer = Writer::new("t", &tiny).unwrap();
    assert_eq!(writer.write(&text, at(0)), Ok(10));
    assert_eq!(writer.write(&text, at(0)), Ok(0));
}

#[test]
fn no_more_is_on_its_way_than_the_window_and_credit_allow() {
    let mut writer = writer(&Limits { stream_buffer: 10_000, ..limits() });
    assert_eq!(writer.write(&"0123456789".repeat(40), at(0)), Ok(400));
    assert_eq!(bodies(&mut writer).len(), 16);
    // One that is held up is not overtaken by more than the window.
    for progress in [3, 4, 3] {
        writer.handle(WriterInput::Published(progress), at(0));
    }
    assert_eq!(bodies(&mut writer), []);
    writer.handle(WriterInput::Published(1), at(0));
    assert_eq!(bodies(&mut writer).len(), 1);
    writer.handle(WriterInput::Published(2), at(0));
    assert_eq!(bodies(&mut writer).len(), 3);
    let mut writer = Writer::new("t", &limits()).unwrap().with_window(0);
    writer.handle(WriterInput::Credit(2), at(0));
    assert_eq!(writer.write("0123456789abc", at(0)), Ok(13));
    // Three frames, one at a time, and credit for two of them.
    for (progress, given) in [(1, 1), (2, 1), (3, 0)] {
        assert_eq!(bodies(&mut writer).len(), given, "{progress}");
        assert_eq!(bodies(&mut writer).len(), 0);
        writer.handle(WriterInput::Published(progress), at(0));
    }
}

#[test]
fn the_close_waits_until_everything_was_taken_and_the_end_until_the_close_was() {
    let mut writer = writer(&limits());
    writer.write("a", at(0)).unwrap();
    assert!(writer.is_running() && writer.is_open());
    writer.close(at(0)).unwrap();
    assert!(writer.is_running() && !writer.is_open());
    assert_eq!(bodies(&mut writer).len(), 2);
    writer.handle(WriterInput::Published(2), at(0));
    assert_eq!(bodies(&mut writer), []);
    writer.handle(WriterInput::Published(1), at(1));
    assert_eq!(bodies(&mut writer), [StreamBody::Close(Some(0))]);
    assert_eq!(writer.poll_timeout(), Some((Mono(51_000), StreamWake::Deadline)));
    writer.handle(WriterInput::Published(3), at(1));
    assert_eq!(publish(&mut writer, at(1)), (vec![], vec![WriterOutput::Closed]));
    assert_eq!((writer.poll_timeout(), writer.is_running()), (None, false));
}

#[test]
fn a_close_that_nobody_reports_on_ends_too() {
    let mut writer = writer(&limits());
    writer.close(at(0)).unwrap();
    writer.handle(WriterInput::Wake, at(0));
    assert_eq!(bodies(&mut writer), [StreamBody::Start(None)]);
    writer.handle(WriterInput::Published(1), at(3));
    assert_eq!(bodies(&mut writer), [StreamBody::Close(None)]);
    writer.handle(WriterInput::Wake, at(52));
    assert_eq!(writer.poll_output(), None);
    writer.handle(WriterInput::Wake, at(53));
    let (frames, rest) = publish(&mut writer, at(53));
    assert_eq!(read(&frames[0]).body, StreamBody::Abort(Some("no relay took a frame".into())));
    assert_eq!(rest, [failed(StreamError::NotPublished)]);
}

#[test]
fn after_the_end_nothing_is_taken() {
    type End = fn(&mut Writer);
    let ends: [End; 3] = [
        |writer| writer.close(at(0)).unwrap(),
        |writer| writer.abort(None, at(0)).unwrap(),
        |writer| hear(writer, frame(1, StreamBody::Abort(None)), 0),
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let mut writer = writer(&limits());
        end(&mut writer);
        assert_eq!(writer.write("a", at(0)), Err(StreamError::Ended));
        assert_eq!(writer.start(at(0)), Err(StreamError::Ended));
        assert_eq!(writer.close(at(0)), Err(StreamError::Ended));
        assert_eq!(writer.room(), 0);
        let (_, rest) = publish(&mut writer, at(0));
        assert_eq!(rest.len(), 1, "{number}");
        assert_eq!(writer.abort(None, at(0)), Err(StreamError::Ended));
        hear(&mut writer, ping(9, "n"), 1);
        assert_eq!(publish(&mut writer, at(1)), (vec![], vec![WriterOutput::Drop(StreamDrop::Late)]));
        writer.handle(WriterInput::Wake, at(10_000));
        assert_eq!(writer.poll_output(), None);
    }
}

#[test]
fn a_frame_that_no_relay_takes_aborts_the_stream_whatever_waits() {
    let mut writer = writer(&limits());
    writer.write("0123456789abcdef", at(0)).unwrap();
    assert_eq!(bodies(&mut writer).len(), 3);
    writer.handle(WriterInput::Unpublished(77), at(0));
    assert_eq!(writer.poll_output(), None);
    writer.write("more", at(0)).unwrap();
    writer.handle(WriterInput::Unpublished(2), at(0));
    let (frames, rest) = publish(&mut writer, at(0));
    assert_eq!(frames.len(), 1);
    assert_eq!(read(&frames[0]), frame(4, StreamBody::Abort(Some("no relay took a frame".into()))));
    assert_eq!(rest, [failed(StreamError::NotPublished)]);
    assert_eq!((writer.held(), writer.poll_timeout()), (0, None));
}

#[test]
fn an_abort_of_the_client_is_echoed_once_and_without_its_words() {
    let mut writer = writer(&limits());
    writer.write("a", at(0)).unwrap();
    publish(&mut writer, at(0));
    let reason = "é".repeat(MAX_REASON);
    for _ in 0..2 {
        hear(&mut writer, frame(1, StreamBody::Abort(Some(reason.clone().into()))), 0);
    }
    let (frames, rest) = publish(&mut writer, at(0));
    assert_eq!(frames.len(), 1);
    assert_eq!(read(&frames[0]), frame(3, StreamBody::Abort(None)));
    let reason = Some("é".repeat(MAX_REASON / 2));
    let failed = WriterOutput::Failed { error: StreamError::Aborted, reason };
    assert_eq!(rest, [failed, WriterOutput::Drop(StreamDrop::Late)]);
}

#[test]
fn an_abort_that_crosses_the_close_is_not_echoed() {
    let mut writer = writer(&limits());
    writer.close(at(0)).unwrap();
    bodies(&mut writer);
    writer.handle(WriterInput::Published(1), at(0));
    assert_eq!(bodies(&mut writer), [StreamBody::Close(None)]);
    hear(&mut writer, frame(1, StreamBody::Abort(None)), 0);
    assert_eq!(publish(&mut writer, at(0)), (vec![], vec![failed(StreamError::Aborted)]));
}

#[test]
fn a_pong_goes_before_the_text_and_needs_no_credit() {
    let mut writer = Writer::new("t", &limits()).unwrap();
    writer.handle(WriterInput::Credit(2), at(0));
    writer.write("0123456789abcdef", at(0)).unwrap();
    assert_eq!(bodies(&mut writer).len(), 2);
    hear(&mut writer, ping(1, "n"), 0);
    assert_eq!(bodies(&mut writer), [StreamBody::Pong("n".into())]);
    writer.handle(WriterInput::Credit(1), at(0));
    hear(&mut writer, ping(2, "m"), 1);
    assert_eq!(bodies(&mut writer), [StreamBody::Pong("m".into()), data(1, "abcdef")]);
}

#[test]
fn nothing_overtakes_anything_on_the_way_to_a_reader_that_cannot_bear_it() {
    let mut writer = Writer::new("t", &limits()).unwrap().with_window(1);
    writer.handle(WriterInput::Credit(3), at(0));
    writer.write("0123456789abcdef", at(0)).unwrap();
    assert_eq!(bodies(&mut writer), [StreamBody::Start(None)]);
    writer.handle(WriterInput::Published(1), at(0));
    assert_eq!(bodies(&mut writer), [data(0, "0123456789")]);
    // A ping and a pong wait for the chunk, and the next chunk for them; they still need no credit.
    hear(&mut writer, ping(1, "n"), 29);
    writer.handle(WriterInput::Wake, at(59));
    assert_eq!(bodies(&mut writer), []);
    writer.handle(WriterInput::Published(2), at(59));
    assert_eq!(bodies(&mut writer), [StreamBody::Pong("n".into())]);
    writer.handle(WriterInput::Published(3), at(59));
    assert_eq!(bodies(&mut writer), [StreamBody::Ping("t:1".into())]);
    // One that no relay takes is missed by the other side, and stops nothing here.
    writer.handle(WriterInput::Unpublished(4), at(59));
    assert_eq!(bodies(&mut writer), [data(1, "abcdef")]);
    writer.handle(WriterInput::Published(5), at(59));
    hear(&mut writer, ping(2, "m"), 59);
    assert_eq!(bodies(&mut writer), [StreamBody::Pong("m".into())]);
    writer.close(at(59)).unwrap();
    writer.handle(WriterInput::Credit(1), at(59));
    assert_eq!(bodies(&mut writer), []);
    writer.handle(WriterInput::Published(6), at(59));
    assert_eq!(bodies(&mut writer), [StreamBody::Close(Some(1))]);
    writer.handle(WriterInput::Published(7), at(59));
    assert_eq!(publish(&mut writer, at(59)), (vec![], vec![WriterOutput::Closed]));
}

#[test]
fn a_client_is_asked_about_a_stream_only_when_it_has_had_time_to_hear_of_it() {
    let mut writer = Writer::new("t", &limits()).unwrap();
    writer.start(at(0)).unwrap();
    writer.handle(WriterInput::Credit(1), at(29));
    assert_eq!(bodies(&mut writer), [StreamBody::Start(None)]);
    assert_eq!(writer.poll_timeout(), Some((at(59).mono, StreamWake::Idle)));
}

#[test]
fn frames_that_are_not_for_a_writer_change_nothing() {
    let mut writer = writer(&limits());
    hear(&mut writer, ping(1, "n"), 0);
    assert_eq!(writer.poll_output(), Some(WriterOutput::Drop(StreamDrop::Early)));
    writer.start(at(0)).unwrap();
    publish(&mut writer, at(0));
    let other = StreamFrame { token: "u".into(), ..frame(1, StreamBody::Abort(None)) };
    let table = [
        (other, StreamDrop::Unasked),
        (frame(1, StreamBody::Accept), StreamDrop::Misplaced),
        (frame(1, StreamBody::Start(None)), StreamDrop::Misplaced),
        (frame(1, StreamBody::Close(None)), StreamDrop::Misplaced),
        (frame(1, data(0, "a")), StreamDrop::Misplaced),
        (frame(1, StreamBody::Pong("t:1".into())), StreamDrop::UnknownPong),
        (ping(1, &"n".repeat(65)), StreamDrop::LongNonce),
    ];
    for (frame, reason) in table {
        hear(&mut writer, frame, 1);
        assert_eq!(publish(&mut writer, at(1)), (vec![], vec![WriterOutput::Drop(reason)]));
    }
    assert_eq!(writer.poll_timeout(), Some((Mono(30_000), StreamWake::Idle)));
}

#[test]
fn a_client_that_is_there_keeps_a_stream_until_its_time_is_over() {
    let mut writer = writer(&Limits { stream_total: core::time::Duration::from_secs(100), ..limits() });
    writer.start(at(0)).unwrap();
    publish(&mut writer, at(0));
    for (number, seconds) in [(1, 30), (2, 60), (3, 90)] {
        assert_eq!(writer.poll_timeout(), Some((at(seconds).mono, StreamWake::Idle)));
        writer.handle(WriterInput::Wake, at(seconds));
        let nonce = format!("t:{number}");
        assert_eq!(bodies(&mut writer), [StreamBody::Ping(nonce.clone().into())]);
        hear(&mut writer, frame(1, StreamBody::Pong(nonce.into())), seconds);
    }
    assert_eq!(writer.poll_timeout(), Some((at(100).mono, StreamWake::Deadline)));
    writer.handle(WriterInput::Wake, at(100));
    let (frames, rest) = publish(&mut writer, at(100));
    assert_eq!(read(&frames[0]).body.frame_type(), StreamFrameType::Abort);
    assert_eq!(rest, [failed(StreamError::TimedOut)]);
}

#[test]
fn a_writer_that_is_not_used_costs_nothing_and_waits_for_nothing() {
    let writer = writer(&limits());
    assert_eq!((writer.poll_timeout(), writer.is_running(), writer.held()), (None, false, 0));
    for token in [String::new(), "t".repeat(1_025)] {
        assert_eq!(Writer::new(&token, &limits()).err(), Some(StreamError::Token));
    }
}

#[test]
fn a_client_is_not_asked_about_a_start_that_did_not_leave() {
    let mut writer = Writer::new("t", &limits()).unwrap();
    writer.start(at(0)).unwrap();
    writer.handle(WriterInput::Wake, at(30));
    assert_eq!(writer.poll_output(), None);
    assert_eq!(writer.poll_timeout(), Some((at(60).mono, StreamWake::Idle)));
}
