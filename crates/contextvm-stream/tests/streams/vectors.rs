//! The frames and the outcomes of the TypeScript SDK: frames equal where we send, outcomes compared where we receive.
use contextvm_core::progress::ProgressFrameError;
use contextvm_core::{Envelope, Limits, Now, object};
use contextvm_stream::{
    ReaderInput, ReaderOutput, Readers, StreamBody, StreamEnd, StreamError, StreamFrame, StreamKey, Writer,
    WriterInput, WriterOutput,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::stage::{Hears, at, key, publish, read};

const TOKEN: &str = "tok-9";

#[derive(Deserialize)]
struct File {
    accept_frame: Box<RawValue>,
    writer_cases: Vec<WriterCase>,
    reader_cases: Vec<ReaderCase>,
}

#[derive(Deserialize)]
struct WriterCase {
    case: String,
    frames: Vec<Box<RawValue>>,
    hooks: Vec<String>,
    #[serde(rename = "isActive")]
    is_active: bool,
}

#[derive(Deserialize)]
struct ReaderCase {
    case: String,
    frames: Vec<Box<RawValue>>,
    yielded: Box<RawValue>,
    finished: bool,
    iterator_error: Option<String>,
    control_frames_sent: Vec<String>,
    frames_note: Option<String>,
}

fn file() -> File {
    serde_json::from_str(include_str!("../vectors/cep41_frames.json")).unwrap()
}

fn compact(frames: &[Box<RawValue>]) -> Vec<String> {
    frames.iter().map(|frame| object::compact(frame.get())).collect()
}

#[test]
fn every_frame_is_printed_byte_for_byte() {
    let file = file();
    let writers = file.writer_cases.iter().flat_map(|case| compact(&case.frames));
    let readers = file.reader_cases.iter().flat_map(|case| compact(&case.frames));
    let mut count = 0;
    for text in writers.chain(readers).chain([object::compact(file.accept_frame.get())]) {
        // Two frames are no frames on purpose, and one is only described.
        if text.contains(":-1") || text.contains("large frame elided") {
            continue;
        }
        assert_eq!(read(&text).to_text(), text);
        count += 1;
    }
    assert!(count > 90, "{count}");
}

/// Does what the application, the client and the clock do in a case of the writer.
fn play(case: &str, writer: &mut Writer) -> Vec<(Vec<String>, Vec<WriterOutput>)> {
    let hear = |writer: &mut Writer, body, seconds| {
        let frame = StreamFrame { token: TOKEN.into(), progress: 1, body };
        writer.handle(WriterInput::Frame(frame), at(seconds));
    };
    let (first, rest) = case.split_once([';', ':', ',']).unwrap_or((case, ""));
    let mut out = Vec::new();
    match first {
        "start" => {
            writer.start(at(0)).unwrap();
            writer.write("Hello", at(0)).unwrap();
            writer.write(" world", at(0)).unwrap();
            writer.close(at(0)).unwrap();
        }
        "write implies start" => {
            writer.write("日本😀", at(0)).unwrap();
            writer.close(at(0)).unwrap();
        }
        "zero-chunk close publishes start then close without lastChunkIndex" => {
            writer.close(at(0)).unwrap();
        }
        "start twice publishes one start" => {
            writer.start(at(0)).unwrap();
            writer.start(at(0)).unwrap();
            writer.close(at(0)).unwrap();
        }
        "write after close is silently ignored" => {
            writer.write("a", at(0)).unwrap();
            writer.close(at(0)).unwrap();
            // The text is not lost in silence here.
            assert_eq!(writer.write("b", at(0)), Err(StreamError::Ended));
        }
        "abort with reason after a chunk" => {
            writer.write("a", at(0)).unwrap();
            out.push(publish(writer, at(0)));
            writer.abort(Some("boom"), at(0)).unwrap();
        }
        "abort before start publishes only abort (progress 1)" => writer.abort(None, at(0)).unwrap(),
        // Pings are not for applications here: the clock brings them.
        "manual ping and pong share the progress counter" => {
            writer.write("a", at(0)).unwrap();
            out.push(publish(writer, at(0)));
            writer.handle(WriterInput::Wake, at(30));
            hear(writer, StreamBody::Pong("tok-9:1".into()), 31);
            hear(writer, StreamBody::Ping("client-nonce".into()), 31);
            writer.handle(WriterInput::Wake, at(61));
            out.push(publish(writer, at(61)));
            writer.write("b", at(62)).unwrap();
            writer.close(at(62)).unwrap();
        }
        "contentType option rides start" => {
            *writer = writer_of_case().with_content_type("text/plain");
            writer.write("a", at(0)).unwrap();
            writer.close(at(0)).unwrap();
        }
        "keepalive" => {
            writer.write("a", at(0)).unwrap();
            out.push(publish(writer, at(0)));
            writer.handle(WriterInput::Wake, at(30));
            let mut silent_since = 30;
            if rest.contains("pong acknowledged once") {
                hear(writer, StreamBody::Pong("tok-9:1".into()), 40);
                writer.handle(WriterInput::Wake, at(70));
                silent_since = 70;
            }
            out.push(publish(writer, at(silent_since)));
            writer.handle(WriterInput::Wake, at(silent_since + 20));
        }
        _ => panic!("{case}"),
    }
    out.push(publish(writer, at(100)));
    out
}

fn writer_of_case() -> Writer {
    let mut writer = Writer::new(TOKEN, &Limits::default()).unwrap();
    writer.handle(WriterInput::Credit(usize::MAX), at(0));
    writer
}

#[test]
fn a_writer_sends_the_same_frames_and_ends_alike() {
    let cases = file().writer_cases;
    assert_eq!(cases.len(), 11);
    for case in cases {
        let mut writer = writer_of_case();
        let (frames, rest): (Vec<_>, Vec<_>) = play(&case.case, &mut writer).into_iter().unzip();
        assert_eq!(frames.concat(), compact(&case.frames), "{}", case.case);
        let failed = |error| WriterOutput::Failed { error, reason: None };
        let end = match case.hooks[0].as_str() {
            "onClose" => WriterOutput::Closed,
            "onAbort:Probe timeout" => failed(StreamError::Probe),
            _ => failed(StreamError::Cancelled),
        };
        assert_eq!(rest.concat(), [end], "{}", case.case);
        assert_eq!((writer.is_open(), case.hooks.len()), (case.is_active, 1), "{}", case.case);
    }
}

/// What a reader makes of a list of frames, when all time has passed.
#[derive(Debug, Default)]
struct Heard {
    given: Vec<(u64, Box<str>)>,
    end: Option<StreamEnd>,
    /// As the vectors write them: the type, and the nonce or the reason.
    sent: Vec<String>,
    no_frame: Option<ProgressFrameError>,
}

impl Heard {
    fn note(&mut self, outputs: Vec<ReaderOutput>) {
        for output in outputs {
            match output {
                ReaderOutput::Chunk { index, data, .. } => self.given.push((index, data)),
                ReaderOutput::Ended { end, .. } => assert_eq!(self.end.replace(end), None),
                ReaderOutput::Send { content, .. } => self.sent.push(match read(&content).body {
                    StreamBody::Ping(nonce) => format!("ping {nonce}"),
                    StreamBody::Pong(nonce) => format!("pong {nonce}"),
                    StreamBody::Abort(reason) => format!("abort {}", reason.unwrap_or_default()),
                    body @ (StreamBody::Start(_)
                    | StreamBody::Accept
                    | StreamBody::Chunk { .. }
                    | StreamBody::Close(_)) => panic!("{body:?}"),
                }),
                ReaderOutput::Drop(_) => {}
            }
        }
    }
}

fn hear(frames: &[String]) -> Heard {
    // What the TypeScript SDK holds of one stream.
    let mut readers = Readers::new(&Limits { stream_buffer: 512 * 1024, ..Limits::default() });
    readers.open(StreamKey { token: TOKEN.to_owned(), ..key("t") }).unwrap();
    let mut heard = Heard::default();
    for text in frames {
        let message = Envelope::parse(text, &Limits::default()).unwrap();
        match StreamFrame::read(&message) {
            Ok(frame) => heard.note(readers.hear(frame.unwrap(), at(0))),
            Err(error) => heard.no_frame = Some(error),
        }
    }
    while let Some((mono, _)) = readers.poll_timeout() {
        heard.note(readers.tell(ReaderInput::Wake, Now { mono, unix: 0 }));
    }
    heard
}

/// Two cases are shortened: they are spelled out again, and the first gets a close.
fn frames_of(case: &ReaderCase) -> Vec<String> {
    let spelled = |index: u64, data: String| {
        let body = StreamBody::Chunk { index, data: data.into() };
        StreamFrame { token: TOKEN.into(), progress: index + 2, body }.to_text()
    };
    let mut frames = compact(&case.frames);
    if case.frames_note.is_some() && case.case.starts_with("65th") {
        frames.truncate(1);
        frames.extend((0..65).map(|index| spelled(index, "c".to_owned())));
        let body = StreamBody::Close(Some(64));
        frames.push(StreamFrame { token: TOKEN.into(), progress: 67, body }.to_text());
    } else if case.frames_note.is_some() {
        frames[1] = spelled(0, "x".repeat(524_288));
    }
    frames
}

/// Their case, how ours ends, and why that differs if it does.
type Row = (&'static str, Option<StreamEnd>, Option<&'static str>);

fn table() -> Vec<Row> {
    const ANY_ORDER: Option<&str> = Some("relays reorder: only the index decides");
    const NO_FRAME: Option<&str> = Some("what is no frame is dropped, and the stream waits for a true one");
    const LATER: Option<&str> = Some("chunks may still come, for five seconds");
    let closed = |chunks| Some(StreamEnd::Closed { chunks });
    let failed = |error| Some(StreamEnd::Failed { error, reason: None });
    let limit = 512 * 1024;
    vec![
        ("happy path", closed(2), None),
        ("close without lastChunkIndex", closed(1), None),
        ("zero-chunk stream", closed(0), None),
        ("chunkIndex out of order but progress increasing", closed(2), None),
        ("frames arriving out of progress order FAIL in TS", closed(2), ANY_ORDER),
        ("duplicate frame (same progress) FAILS in TS", closed(1), Some("a relay may send an event twice")),
        ("chunk before start", failed(StreamError::NoStart), Some("the start may still come")),
        ("second start on an active stream fails it", failed(StreamError::StartedTwice), None),
        ("stale chunkIndex", failed(StreamError::Conflict { index: 0 }), None),
        ("duplicate buffered chunkIndex", failed(StreamError::Conflict { index: 2 }), None),
        ("negative chunkIndex", failed(StreamError::Probe), NO_FRAME),
        ("lastChunkIndex higher than received", failed(StreamError::Missing), LATER),
        ("close with a gap and buffered chunks waits", failed(StreamError::Missing), None),
        ("late chunk inside the grace period completes", closed(3), None),
        ("invalid lastChunkIndex", failed(StreamError::Probe), NO_FRAME),
        (
            "peer abort",
            Some(StreamEnd::Failed { error: StreamError::Aborted, reason: Some("boom".to_owned()) }),
            None,
        ),
        ("ping is answered with pong", closed(1), None),
        ("unmatched pong is ignored", closed(1), None),
        ("ping for an unknown stream is an error in TS", None, None),
        ("idle => ping, no pong => abort Probe timeout", failed(StreamError::Probe), None),
        ("frame after close", closed(0), None),
        ("65th unread chunk", closed(65), Some("bytes are counted, and 65 short chunks are few")),
        ("buffered bytes over 512 KiB", failed(StreamError::Buffer { limit }), Some("the server is told")),
    ]
}

#[test]
fn every_outcome_is_theirs_or_differs_on_purpose() {
    #[derive(Deserialize)]
    struct Item {
        value: Box<str>,
        #[serde(rename = "chunkIndex")]
        index: u64,
    }
    let cases = file().reader_cases;
    assert_eq!((cases.len(), table().len()), (23, 23));
    for (case, (name, end, difference)) in cases.iter().zip(table()) {
        assert!(case.case.starts_with(name), "{} is not {name}", case.case);
        let heard = hear(&frames_of(case));
        assert_eq!(heard.end, end, "{name}");
        assert_eq!(heard.no_frame.is_some(), name.contains("negative") || name.contains("invalid"));
        let is_closed = matches!(end, Some(StreamEnd::Closed { .. }));
        let mut is_same = is_closed == case.finished;
        is_same &= matches!(end, Some(StreamEnd::Failed { .. })) == case.iterator_error.is_some();
        // What they leave unsaid is said: whoever fails a stream tells the other side.
        let mut sent = heard.sent.clone();
        if let Some(StreamEnd::Failed { error, .. }) = end
            && error != StreamError::Aborted
        {
            let is_told = case.control_frames_sent.last().is_some_and(|frame| frame.starts_with("abort"));
            assert!(sent.last().is_some_and(|frame| frame.starts_with("abort ")), "{name}");
            sent.truncate(sent.len() - usize::from(!is_told));
        }
        is_same &= sent == case.control_frames_sent;
        if let Ok(items) = serde_json::from_str::<Vec<Item>>(case.yielded.get()) {
            let theirs: Vec<_> = items.into_iter().map(|item| (item.index, item.value)).collect();
            is_same &= theirs == heard.given;
        } else {
            is_same = false;
        }
        // The same end, only later, is a difference as well.
        is_same &= name != "lastChunkIndex higher than received";
        assert_eq!(is_same, difference.is_none(), "{name}: {heard:?}");
    }
}
