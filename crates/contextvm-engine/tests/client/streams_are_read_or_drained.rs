//! Streams: read by the application, or drained when nobody asked for them.
use contextvm_core::Limits;
use contextvm_engine::{
    ClientConfig, ClientInput, ClientOutput, DropReason, StreamEnd, StreamError, StreamNews,
};
use contextvm_stream::StreamBody;
use nostr::event::Tag;
use serde_json::value::RawValue;

use crate::pieces::{
    WRAP, answer, ask, chunk, cut, delivered, meet, published, request, say_all, stream_frame, token_of,
};
use crate::rig::{Rig, check, config};

fn reading() -> ClientConfig {
    ClientConfig { open_streams: true, ..config() }
}

fn id(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

/// A client that reads the stream of call 1 under the token 5, and the id of its event.
fn reader(config: ClientConfig) -> (Rig, nostr::event::EventId) {
    let mut rig = Rig::new(config);
    meet(&mut rig);
    let outputs = rig.handle(ClientInput::SendReading(request("1", Some("5"), 10)));
    let asked = published(&rig.take_all(outputs)).pop().unwrap();
    (rig, asked.draft.id)
}

fn text_of(outputs: &[ClientOutput]) -> String {
    let each = outputs.iter().filter_map(|output| match output {
        ClientOutput::Stream { news: StreamNews::Chunk { data, .. }, .. } => Some(&**data),
        _ => None,
    });
    each.collect()
}

fn ends(outputs: &[ClientOutput]) -> Vec<StreamEnd> {
    let each = outputs.iter().filter_map(|output| match output {
        ClientOutput::Stream { news: StreamNews::Ended(end), .. } => Some(end.clone()),
        _ => None,
    });
    each.collect()
}

fn failed(error: StreamError) -> StreamEnd {
    StreamEnd::Failed { error, reason: None }
}

fn start() -> String {
    stream_frame("5", 1, StreamBody::Start(None))
}

fn close(chunks: u64) -> String {
    stream_frame("5", chunks + 2, StreamBody::Close(chunks.checked_sub(1)))
}

#[test]
fn a_stream_is_read_in_order_whatever_order_it_comes_in() {
    let (mut rig, asked) = reader(reading());
    let mut frames: Vec<String> = (0..40).map(|index| chunk("5", index, &format!("{index},"))).collect();
    frames.push(close(40));
    frames.push(start());
    frames.reverse();
    let mut outputs = say_all(&mut rig, asked, &frames);
    outputs.extend(say_all(&mut rig, asked, &frames));
    let wanted: String = (0..40).map(|index| format!("{index},")).collect();
    assert_eq!((text_of(&outputs), ends(&outputs)), (wanted, vec![StreamEnd::Closed { chunks: 40 }]));
    assert!(delivered(&outputs).is_empty() && published(&outputs).is_empty());
    // The answer follows, perhaps in pieces.
    let outputs = say_all(&mut rig, asked, &cut("5", &answer(60_000), 9_000));
    assert_eq!((delivered(&outputs).len(), ends(&outputs).len()), (1, 0));
    rig.handle(ClientInput::Taken { id: id("1"), chunks: 40 });
    assert_eq!((rig.machine.pending_calls(), rig.machine.poll_timeout()), (0, None));
}

#[test]
fn an_answer_without_a_stream_ends_it() {
    for config in [reading(), config()] {
        let (mut rig, asked) = reader(config);
        let outputs = rig.say(WRAP, vec![Tag::event(asked)], &answer(10));
        assert_eq!(ends(&outputs), [StreamEnd::Answered { chunks: 0 }]);
        assert_eq!((delivered(&outputs).len(), rig.machine.poll_timeout()), (1, None));
    }
}

#[test]
fn what_an_answer_overtook_is_still_read() {
    let (mut rig, asked) = reader(reading());
    rig.say(WRAP, vec![], &start());
    let outputs = rig.say(WRAP, vec![Tag::event(asked)], &answer(10));
    assert_eq!((delivered(&outputs).len(), ends(&outputs).len()), (1, 0));
    assert_eq!(rig.machine.pending_calls(), 0);
    // With the name of a call that is over, and without any.
    assert_eq!(text_of(&rig.say(WRAP, vec![Tag::event(asked)], &chunk("5", 0, "a"))), "a");
    assert_eq!(text_of(&rig.say(WRAP, vec![], &chunk("5", 1, "b"))), "b");
    let outputs = rig.say(WRAP, vec![], &close(2));
    assert_eq!(ends(&outputs), [StreamEnd::Closed { chunks: 2 }]);
    assert_eq!(rig.machine.poll_timeout(), None);
}

#[test]
fn a_stream_whose_tail_was_lost_is_not_taken_for_a_whole_one() {
    let (mut rig, asked) = reader(reading());
    say_all(&mut rig, asked, &[start(), chunk("5", 0, "half")]);
    let outputs = rig.say(WRAP, vec![Tag::event(asked)], &answer(10));
    assert_eq!((delivered(&outputs).len(), ends(&outputs).len()), (1, 0));
    assert_eq!(ends(&rig.wait(6_000)), [failed(StreamError::Missing)]);

    // Existing servers answer without closing.
    let mut rig = Rig::new(reading());
    let flags = vec![Tag::parse(["support_open_stream"]).unwrap()];
    rig.say(WRAP, flags, r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    let outputs = rig.handle(ClientInput::SendReading(request("1", Some("5"), 10)));
    let asked = published(&rig.take_all(outputs)).pop().unwrap().draft.id;
    say_all(&mut rig, asked, &[start(), chunk("5", 0, "all")]);
    rig.say(WRAP, vec![Tag::event(asked)], &answer(10));
    assert_eq!(ends(&rig.wait(6_000)), [StreamEnd::Answered { chunks: 1 }]);
}

#[test]
fn a_stream_that_nobody_reads_is_drained_and_its_pings_are_answered() {
    let mut rig = Rig::new(config());
    meet(&mut rig);
    let asked = ask(&mut rig, &request("1", None, 10));
    let token = token_of(&asked);
    let limits = Limits::default();
    let many = u64::try_from(limits.stream_buffer / 1_000).unwrap() * 3;
    assert!(rig.say(WRAP, vec![], &stream_frame(&token, 1, StreamBody::Start(None))).is_empty());
    for index in 0..many {
        assert!(rig.say(WRAP, vec![], &chunk(&token, index, &"x".repeat(1_000))).is_empty());
    }
    let ping = stream_frame(&token, many + 2, StreamBody::Ping("n:1".into()));
    let outputs = rig.say(WRAP, vec![], &ping);
    let [pong] = published(&outputs).try_into().unwrap();
    assert_eq!(pong.draft.content, stream_frame(&token, 1, StreamBody::Pong("n:1".into())));
    assert_eq!(pong.draft.tags.len(), 1, "p only");
    let outputs = rig.say(WRAP, vec![Tag::event(asked.draft.id)], &answer(10));
    assert_eq!(delivered(&outputs).len(), 1);
    let outputs = rig.wait(10_000);
    assert!(delivered(&outputs).is_empty() && ends(&outputs).is_empty());
    assert_eq!(rig.machine.poll_timeout(), None);
}

#[test]
fn a_pong_waits_for_nobody_who_reads() {
    let (mut rig, asked) = reader(reading());
    let frames: Vec<String> = (0..20).map(|index| chunk("5", index, "x")).collect();
    say_all(&mut rig, asked, &[start()]);
    assert_eq!(text_of(&say_all(&mut rig, asked, &frames)).len(), 20);
    let outputs = rig.say(WRAP, vec![], &stream_frame("5", 30, StreamBody::Ping("a".into())));
    assert_eq!(published(&outputs).len(), 1);
}

#[test]
fn a_reader_that_is_too_slow_loses_the_stream_once_and_keeps_the_call() {
    let (mut rig, asked) = reader(reading());
    let limit = Limits::default().stream_buffer;
    let mut outputs = say_all(&mut rig, asked, &[start()]);
    for index in 0..u64::try_from(limit / 8_000).unwrap() + 20 {
        outputs.extend(rig.say(WRAP, vec![], &chunk("5", index, &"x".repeat(8_000))));
    }
    assert_eq!(ends(&outputs), [failed(StreamError::TooSlow { limit })]);
    assert_eq!(published(&outputs).len(), 1, "one abort");
    let given = text_of(&outputs).len() / 8_000;
    assert!(given * 8_000 <= limit);
    assert_eq!(rig.machine.pending_calls(), 1);
    let outputs = rig.say(WRAP, vec![Tag::event(asked)], &answer(10));
    assert_eq!((delivered(&outputs).len(), ends(&outputs).len()), (1, 0));
    assert!(rig.handle(ClientInput::Taken { id: id("1"), chunks: given }).is_empty());
}

#[test]
fn a_reader_that_takes_what_it_gets_reads_for_ever() {
    let (mut rig, asked) = reader(reading());
    say_all(&mut rig, asked, &[start()]);
    for index in 0..2_000 {
        let outputs = rig.say(WRAP, vec![], &chunk("5", index, &"x".repeat(8_000)));
        assert_eq!(text_of(&outputs).len(), 8_000);
        assert!(rig.handle(ClientInput::Taken { id: id("1"), chunks: 1 }).is_empty());
        if index % 10 == 0 {
            // For longer than any call without a stream lasts.
            assert!(delivered(&rig.wait(10_000)).is_empty());
        }
    }
    let outputs = say_all(&mut rig, asked, &[close(2_000)]);
    assert_eq!(ends(&outputs), [StreamEnd::Closed { chunks: 2_000 }]);
}

#[test]
fn a_silent_server_is_asked_and_then_given_up() {
    let (mut rig, asked) = reader(reading());
    say_all(&mut rig, asked, &[start()]);
    let outputs = rig.wait(31_000);
    let [ping] = published(&outputs).try_into().unwrap();
    assert!(ping.draft.content.contains(r#""frameType":"ping""#));
    let outputs = rig.wait(21_000);
    assert_eq!(ends(&outputs), [failed(StreamError::Probe)]);
    assert_eq!(rig.machine.pending_calls(), 1);
}

#[test]
fn an_abort_of_the_server_is_one_end_with_its_reason() {
    let (mut rig, asked) = reader(reading());
    let abort = stream_frame("5", 3, StreamBody::Abort(Some("disk full".into())));
    let outputs = say_all(&mut rig, asked, &[start(), chunk("5", 0, "a"), abort.clone(), abort]);
    let reason = Some("disk full".to_owned());
    assert_eq!(ends(&outputs), [StreamEnd::Failed { error: StreamError::Aborted, reason }]);
    assert!(published(&outputs).is_empty());
}

#[test]
fn a_stream_is_not_wanted_any_more_at_any_time() {
    for (frames, aborts) in [(0, 0), (1, 1), (2, 1), (3, 0)] {
        let (mut rig, asked) = reader(reading());
        let all = [start(), chunk("5", 0, "a"), close(1)];
        let mut outputs = say_all(&mut rig, asked, &all[..frames]);
        let stop = ClientInput::StopReading { id: id("1"), reason: Some("enough".to_owned()) };
        outputs.extend(rig.handle(stop.clone()));
        outputs.extend(rig.handle(stop));
        assert_eq!(ends(&outputs).len(), 1, "{frames}");
        let sent = published(&outputs);
        assert_eq!(sent.len(), aborts, "{frames}");
        assert!(sent.iter().all(|sent| sent.draft.content.contains(r#""reason":"enough""#)));
        // Before anything came the server is told as soon as it begins.
        let late = say_all(&mut rig, asked, &all[frames.min(2)..]);
        assert_eq!(published(&late).len(), usize::from(frames == 0));
        assert_eq!((text_of(&late).len(), ends(&late).len()), (0, 0));
        let outputs = rig.say(WRAP, vec![Tag::event(asked)], &answer(10));
        assert_eq!(delivered(&outputs).len(), 1);
        assert_eq!(rig.machine.poll_timeout(), None);
    }
}

#[test]
fn a_call_that_ends_without_an_answer_ends_its_stream() {
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    for way in ["cancel", "close", "time"] {
        for started in [true, false] {
            let (mut rig, asked) = reader(reading());
            if started {
                say_all(&mut rig, asked, &[start()]);
            }
            let outputs = match way {
                "cancel" => rig.send(cancel),
                "close" => rig.handle(ClientInput::Close),
                _ => rig.wait(4_000_000),
            };
            let cancelled = failed(StreamError::Cancelled);
            let wanted = if way == "time" && started { failed(StreamError::Probe) } else { cancelled };
            assert_eq!(ends(&outputs), [wanted], "{way} {started}");
            assert_eq!((rig.machine.pending_calls(), rig.machine.poll_timeout()), (0, None), "{way}");
        }
    }
}

#[test]
fn every_request_that_is_read_has_one_end_even_if_it_never_goes_out() {
    let limits = Limits { pending: 1, ..Limits::default() };
    let mut rig = Rig::new(ClientConfig { limits, stateless: true, ..reading() });
    let read = |rig: &mut Rig, text: &str| rig.handle(ClientInput::SendReading(text.to_owned()));
    let local = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
    assert_eq!(ends(&read(&mut rig, local)), [StreamEnd::Answered { chunks: 0 }]);
    // On its way in pieces, and taken back.
    let outputs = read(&mut rig, &request("1", None, 100_000));
    assert!(ends(&outputs).is_empty());
    assert_eq!(ends(&read(&mut rig, &request("2", None, 10))), [failed(StreamError::Cancelled)], "busy");
    let stop = rig.handle(ClientInput::StopReading { id: id("1"), reason: None });
    assert_eq!(ends(&stop), [failed(StreamError::Cancelled)]);
    assert!(ends(&rig.handle(ClientInput::Close)).is_empty());
    let closed = read(&mut rig, &request("3", None, 10));
    assert_eq!(ends(&closed), [failed(StreamError::Cancelled)]);
    assert_eq!(ends(&read(&mut rig, r#"{"jsonrpc":"1.0","id":4,"method":"x"}"#)).len(), 1);
    assert!(ends(&read(&mut rig, r#"{"jsonrpc":"2.0","method":"notifications/x"}"#)).is_empty());
    for _ in 0..2 {
        let stray = ClientInput::StopReading { id: id("9"), reason: None };
        assert!(rig.handle(stray).is_empty());
        assert!(rig.handle(ClientInput::Taken { id: id("9"), chunks: 1 }).is_empty());
    }
}

#[test]
fn a_request_in_pieces_has_a_stream_too() {
    let mut rig = Rig::new(reading());
    meet(&mut rig);
    let outputs = rig.handle(ClientInput::SendReading(request("1", Some("5"), 100_000)));
    // Nothing can be streamed before all of it is there.
    let early = rig.say(WRAP, vec![], &start());
    assert!(matches!(early[..], [ClientOutput::Drop(DropReason::Uncorrelated)]));
    let end = published(&rig.take_all(outputs)).pop().unwrap();
    let outputs = say_all(&mut rig, end.draft.id, &[start(), chunk("5", 0, "a"), close(1)]);
    assert_eq!((text_of(&outputs).as_str(), ends(&outputs).len()), ("a", 1));
}

#[test]
fn a_stream_for_which_there_is_no_room_is_aborted_once() {
    let limits = Limits { streams: 1, ..Limits::default() };
    let (mut rig, _) = reader(ClientConfig { limits, ..reading() });
    // One that the application wants to read.
    let outputs = rig.handle(ClientInput::SendReading(request("2", Some("6"), 10)));
    assert_eq!(ends(&outputs), [failed(StreamError::Busy)]);
    // And one that nobody asked for.
    let outputs = rig.send(&request("3", Some("7"), 10));
    assert_eq!(published(&outputs).len(), 1);
    for token in ["6", "7"] {
        let start = stream_frame(token, 1, StreamBody::Start(None));
        let outputs = rig.say(WRAP, vec![], &start);
        let [abort] = published(&outputs).try_into().unwrap();
        assert!(abort.draft.content.contains("too many streams at once"));
        let outputs = rig.say(WRAP, vec![], &chunk(token, 0, "x"));
        assert!(published(&outputs).is_empty() && ends(&outputs).is_empty());
    }
    assert_eq!(rig.machine.pending_calls(), 3);
}

#[test]
fn an_old_stream_says_nothing_to_a_new_call_with_its_token() {
    let (mut rig, asked) = reader(reading());
    say_all(&mut rig, asked, &[start(), close(0)]);
    rig.say(WRAP, vec![Tag::event(asked)], &answer(10));
    let again = ask(&mut rig, &request("2", Some("5"), 10));
    assert_ne!(token_of(&again), "5", "frames of the old one carry no name");
    let outputs = rig.say(WRAP, vec![], &chunk("5", 0, "late"));
    assert!(matches!(outputs[..], [ClientOutput::Drop(DropReason::Uncorrelated)]));
}

#[test]
fn what_names_an_answered_call_still_belongs_to_its_stream() {
    let (mut rig, asked) = reader(reading());
    say_all(&mut rig, asked, &[start()]);
    rig.say(WRAP, vec![Tag::event(asked)], &answer(10));
    assert_eq!(text_of(&say_all(&mut rig, asked, &[chunk("5", 0, "late")])), "late");
    let stranger = nostr::event::EventId::from_byte_array([9; 32]);
    let outputs = say_all(&mut rig, stranger, &[chunk("5", 1, "older")]);
    assert!(matches!(outputs[..], [ClientOutput::Drop(DropReason::Uncorrelated)]));
}

#[test]
fn a_stream_by_script() {
    check(
        reading(),
        r#"
        > read {"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"x"}}
        publish 1 1059 +support_encryption +support_encryption_ephemeral +support_oversized_transfer +support_open_stream +support_unordered_streams {"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"x","_meta":{"progressToken":"c-1"}}}
        > ok 1
        > server 1059 e1 {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}
        deliver {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}
        > taken "a" 3
        > stop "a" done
        stream "a" Failed { error: Cancelled, reason: None }
        > server 1059 e1 {"jsonrpc":"2.0","id":7,"result":{}}
        forget 1
        deliver {"jsonrpc":"2.0","id":"a","result":{}}
        "#,
    );
}
