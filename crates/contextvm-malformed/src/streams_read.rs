//! Streams (CEP-41): indices, questions, empty chunks, numbers, and frames that are no message.
use crate::Cases;
use crate::json::{Members, VALUES};
use crate::streams::{CLOSED, LATE, broken, cvm, dropped, frames, notification, params, want, with_cvm};
use crate::world::Role;

pub(crate) fn add(cases: &mut Cases<'_>) {
    indices(cases);
    probes(cases);
    chunks(cases);
    numbers(cases);
    cuts(cases);
    envelopes(cases);
}

fn indices(cases: &mut Cases<'_>) {
    // What is not the next chunk is waited for, within 4,096 places.
    for index in [3, 4, 10, 100, 1_000, 4_096, 4_097, 5_000, 65_536, 4_294_967_296, 9_007_199_254_740_991_u64]
    {
        let other = cvm(2).with("chunkIndex", index.to_string());
        let input = with_cvm(cases, 2, &other);
        let reader = match index {
            // The third chunk comes, and the close says that there are three.
            ..=4_096 => "chunk, failed BehindLast".to_owned(),
            _ => format!("chunk, failed TooFarAhead, {LATE}"),
        };
        let verdict = want(cases, reader);
        cases.add_all(format!("index/{index}"), input, verdict);
    }
    for a in 0..5_u64 {
        for b in (0..5).filter(|b| *b != a) {
            for c in (0..5).filter(|c| ![a, b].contains(c)) {
                let mut frames = frames(cases);
                for (frame, index) in [(1, a), (2, b), (3, c)] {
                    let other = cvm(frame).with("chunkIndex", index.to_string());
                    frames[frame] = notification(&params(cases, frame as u64 + 1, &other));
                }
                let chunks = if [a, b, c].contains(&0) { "chunk, " } else { "" };
                let is_right = [a, b, c].iter().all(|index| *index < 3);
                let reader = format!("{chunks}{}", if is_right { "closed" } else { "failed BehindLast" });
                let verdict = want(cases, reader);
                cases.add_all(format!("indices/{a}{b}{c}"), frames, verdict);
            }
        }
    }
    for last in [0, 1, 3, 4, 100, 9_007_199_254_740_991_u64] {
        let input = with_cvm(cases, 4, &cvm(4).with("lastChunkIndex", last.to_string()));
        let reader = if last < 2 { "chunk, failed BehindLast" } else { "chunk, failed Missing" };
        let verdict = want(cases, reader);
        cases.add_all(format!("last/{last}"), input, verdict);
    }
    for place in 1..=3 {
        let mut frames = frames(cases);
        let early = Members::of(r#"{"type":"open-stream","frameType":"close","lastChunkIndex":7}"#);
        frames.insert(place, notification(&params(cases, 20, &early)));
        let chunks = if place > 1 { "chunk, " } else { "" };
        // The second close says something else, after the chunks between them.
        let reader = if place == 1 {
            "chunk, failed BehindLast".to_owned()
        } else {
            format!("{chunks}failed BehindLast")
        };
        let verdict = want(cases, reader);
        cases.add_all(format!("two-closes/{place}"), frames, verdict);
    }
}

fn probes(cases: &mut Cases<'_>) {
    for length in (0..=80).chain([100, 1_000, 10_000]) {
        for (word, short) in [("ping", "chunk, closed"), ("pong", "chunk, drop unknown_request, closed")] {
            let mut frames = frames(cases);
            let probe = Members::of(&format!(
                r#"{{"type":"open-stream","frameType":"{word}","nonce":"{}"}}"#,
                "n".repeat(length)
            ));
            frames.insert(2, notification(&params(cases, 20, &probe)));
            // A pong of any length answers nothing that was asked.
            let is_long = word == "ping" && length > 64;
            let reader = if is_long { "chunk, drop too_large, closed" } else { short };
            let verdict = want(cases, reader);
            cases.add_all(format!("nonce/{word}/{length}"), frames, verdict);
        }
    }
    for word in ["ping", "pong"] {
        for (label, value) in VALUES.into_iter().filter(|(_, value)| !value.starts_with('"')) {
            let mut frames = frames(cases);
            let probe =
                Members::of(&format!(r#"{{"type":"open-stream","frameType":"{word}","nonce":{value}}}"#));
            frames.insert(2, notification(&params(cases, 20, &probe)));
            let verdict = want(cases, "chunk, drop malformed, closed");
            cases.add_all(format!("nonce/{word}/{label}"), frames, verdict);
        }
        let mut frames = frames(cases);
        let probe = Members::of(&format!(r#"{{"type":"open-stream","frameType":"{word}"}}"#));
        frames.insert(2, notification(&params(cases, 20, &probe)));
        let verdict = want(cases, "chunk, drop malformed, closed");
        cases.add_all(format!("nonce/{word}/missing"), frames, verdict);
        // Before the start there is nothing to ask about.
        let mut frames = self::frames(cases);
        let probe = Members::of(&format!(r#"{{"type":"open-stream","frameType":"{word}","nonce":"a"}}"#));
        frames.insert(0, notification(&params(cases, 20, &probe)));
        let verdict = want(cases, format!("{LATE}, chunk, closed"));
        cases.add_all(format!("nonce/{word}/early"), frames, verdict);
    }
    for pings in 2..=6 {
        let mut frames = frames(cases);
        for ping in 0..pings {
            let probe =
                Members::of(&format!(r#"{{"type":"open-stream","frameType":"ping","nonce":"{ping}"}}"#));
            frames.insert(2, notification(&params(cases, 20 + ping, &probe)));
        }
        let verdict = want(cases, "chunk, drop busy, closed");
        cases.add_all(format!("pings/{pings}"), frames, verdict);
    }
}

/// Chunks of nothing: sixty-four are borne.
fn chunks(cases: &mut Cases<'_>) {
    for count in [1_u64, 10, 63, 64, 65, 66, 100] {
        let mut frames = vec![notification(&params(cases, 1, &cvm(0)))];
        for index in 0..count {
            let empty = Members::of(&format!(
                r#"{{"type":"open-stream","frameType":"chunk","chunkIndex":{index},"data":""}}"#
            ));
            frames.push(notification(&params(cases, index + 2, &empty)));
        }
        let close = Members::of(&format!(
            r#"{{"type":"open-stream","frameType":"close","lastChunkIndex":{}}}"#,
            count - 1
        ));
        frames.push(notification(&params(cases, count + 2, &close)));
        let reader =
            if count <= 64 { CLOSED.to_owned() } else { format!("chunk, failed EmptyChunks, {LATE}") };
        let verdict = want(cases, reader);
        cases.add_all(format!("empty/{count}"), frames, verdict);
    }
    // A mebibyte is held for an application that takes nothing.
    for count in [8_u64, 10, 11, 12] {
        let mut frames = vec![notification(&params(cases, 1, &cvm(0)))];
        for index in 0..count {
            let text = "x".repeat(100_000);
            let chunk = Members::of(&format!(
                r#"{{"type":"open-stream","frameType":"chunk","chunkIndex":{index},"data":"{text}"}}"#
            ));
            frames.push(notification(&params(cases, index + 2, &chunk)));
        }
        let close = Members::of(&format!(
            r#"{{"type":"open-stream","frameType":"close","lastChunkIndex":{}}}"#,
            count - 1
        ));
        frames.push(notification(&params(cases, count + 2, &close)));
        let is_slow = count * 100_000 > 1_048_576;
        let reader = if is_slow { format!("chunk, failed TooSlow, {LATE}") } else { CLOSED.to_owned() };
        let verdict = want(cases, reader);
        cases.add_all(format!("untaken/{count}"), frames, verdict);
    }
}

/// Whole numbers in every spelling of JSON, and what is none.
fn numbers(cases: &mut Cases<'_>) {
    for (frame, member, right) in [(2, "chunkIndex", 1_u8), (4, "lastChunkIndex", 2)] {
        for (label, value) in [
            ("point-zero", format!("{right}.0")),
            ("exponent", format!("{right}e0")),
            ("large-exponent", format!("{right}E+0")),
            ("small-exponent", format!("{right}0e-1")),
            ("many-zeros", format!("{right}.000000000")),
        ] {
            let input = with_cvm(cases, frame, &cvm(frame).with(member, value));
            let verdict = want(cases, CLOSED);
            cases.add_all(format!("number/{member}/{label}"), input, verdict);
        }
        for (label, value) in [
            ("fraction", format!("{right}.5")),
            ("minus", format!("-{right}")),
            ("string", format!("\"{right}\"")),
            ("list", format!("[{right}]")),
            ("small", format!("{right}e-5")),
            ("large", "1e300".to_owned()),
            ("2^53", "9007199254740992".to_owned()),
        ] {
            let input = with_cvm(cases, frame, &cvm(frame).with(member, value));
            let verdict = want(cases, dropped("drop malformed", frame));
            cases.add_all(format!("number/{member}/{label}"), input, verdict);
        }
        for (label, value) in [
            ("leading-zero", format!("0{right}")),
            ("plus", format!("+{right}")),
            ("hex", format!("0x{right}")),
            ("nan", "NaN".to_owned()),
            ("range", "1e400".to_owned()),
            ("point", format!("{right}.")),
        ] {
            let input = with_cvm(cases, frame, &cvm(frame).with(member, value));
            let verdict = broken(cases, frame);
            cases.add_all(format!("number/{member}/{label}"), input, verdict);
        }
    }
}

/// Frames of which the end is missing.
fn cuts(cases: &mut Cases<'_>) {
    for frame in [0, 2, 4] {
        let size = notification(&params(cases, frame as u64 + 1, &cvm(frame))).len();
        for at in (60..size - 4).step_by(2) {
            let mut input = frames(cases);
            input[frame].truncate(at);
            let verdict = broken(cases, frame);
            cases.add_all(format!("cut/{frame}/{at}"), input, verdict);
        }
    }
}

/// Frames that are no message at all.
fn envelopes(cases: &mut Cases<'_>) {
    for frame in [0, 2, 4] {
        let text = |cases: &Cases<'_>| notification(&params(cases, frame as u64 + 1, &cvm(frame)));
        for (label, change) in [
            ("version", [r#""2.0""#, r#""1.0""#]),
            ("params", [r#""params":"#, r#""params":[],"x":"#]),
            ("method", [r#""notifications/progress""#, "7"]),
            ("batch", ["{\"jsonrpc", "[{\"jsonrpc"]),
            ("surrogate", ["open-stream", "\\ud800"]),
            ("control", ["open-stream", "\u{1}"]),
            ("null-id", [r#""method""#, r#""id":null,"method""#]),
            ("meta", [r#""progressToken""#, r#""_meta":7,"progressToken""#]),
            ("meta-token", [r#""progressToken""#, r#""_meta":{"progressToken":[]},"progressToken""#]),
            ("large-token", [r#""progress""#, r#""ProgressToken":"u","progress""#]),
            ("comma", [",\"n\":", ",,\"n\":"]),
            ("number", [r#""n":"#, r#""n":0"#]),
            ("result", [r#""method""#, r#""result":{},"method""#]),
        ] {
            let mut input = frames(cases);
            input[frame] = text(cases).replacen(change[0], change[1], 1);
            let verdict = broken(cases, frame);
            cases.add_all(format!("envelope/{frame}/{label}"), input, verdict);
        }
        // A request that looks like a frame is none.
        let mut input = frames(cases);
        input[frame] = text(cases).replacen("\"method\"", "\"id\":1,\"method\"", 1);
        let verdict = match (cases.role, frame) {
            (Role::Server, 0) => "taken request, drop unknown_request".to_owned(),
            (Role::Server, _) => "drop unknown_request, taken request".to_owned(),
            (Role::Client, _) => dropped("drop unsupported", frame),
        };
        cases.add_all(format!("envelope/{frame}/request"), input, verdict);
    }
}
