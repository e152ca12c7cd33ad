//! Frames of streams (CEP-41): their members, their order, and what they say of each other.
use contextvm_core::object::quote;

use crate::Cases;
use crate::json::{Members, VALUES, escaped};
use crate::transfers::permutations;
use crate::world::Role;

pub(crate) const CLOSED: &str = "chunk, closed";

/// Frames behind the end of a stream.
pub(crate) const LATE: &str = "drop uncorrelated";

/// What a reader makes of a stream.
pub(crate) fn want(cases: &Cases<'_>, reader: impl Into<String>) -> String {
    match cases.role {
        // Nobody writes a stream here: to a server it is progress of nothing.
        Role::Server => "drop unknown_request".to_owned(),
        Role::Client => reader.into(),
    }
}

pub(crate) fn cvm(frame: usize) -> Members {
    Members::of(match frame {
        0 => r#"{"type":"open-stream","frameType":"start","contentType":"text/plain"}"#,
        1 => r#"{"type":"open-stream","frameType":"chunk","chunkIndex":0,"data":"first"}"#,
        2 => r#"{"type":"open-stream","frameType":"chunk","chunkIndex":1,"data":"second"}"#,
        3 => r#"{"type":"open-stream","frameType":"chunk","chunkIndex":2,"data":"third"}"#,
        _ => r#"{"type":"open-stream","frameType":"close","lastChunkIndex":2}"#,
    })
}

pub(crate) fn params(cases: &Cases<'_>, progress: u64, cvm: &Members) -> Members {
    Members::of(r#"{"progressToken":"t"}"#)
        .push("progress", progress.to_string())
        .push("cvm", cvm.text())
        .push("n", cases.list.len().to_string())
}

pub(crate) fn notification(params: &Members) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{}}}"#, params.text())
}

pub(crate) fn frames(cases: &Cases<'_>) -> Vec<String> {
    (0..5).map(|frame| notification(&params(cases, frame as u64 + 1, &cvm(frame)))).collect()
}

fn with(cases: &Cases<'_>, frame: usize, params: &Members) -> Vec<String> {
    let mut frames = frames(cases);
    frames[frame] = notification(params);
    frames
}

pub(crate) fn with_cvm(cases: &Cases<'_>, frame: usize, cvm: &Members) -> Vec<String> {
    with(cases, frame, &params(cases, frame as u64 + 1, cvm))
}

/// What a reader makes of a stream that lacks a frame.
fn lost(frame: usize) -> &'static str {
    match frame {
        0 => "failed NoStart",
        1 => "failed Missing",
        2 | 3 => "chunk, failed Missing",
        _ => "chunk, failed Probe",
    }
}

/// A drop, and what becomes of a stream without the frame that was dropped.
pub(crate) fn dropped(reason: &str, frame: usize) -> String {
    match lost(frame).strip_prefix("chunk, ") {
        // Chunks before the frame were given out already.
        Some(rest) => format!("chunk, {reason}, {rest}"),
        None => format!("{reason}, {}", lost(frame)),
    }
}

pub(crate) fn add(cases: &mut Cases<'_>) {
    members(cases);
    params_of_frames(cases);
    spellings(cases);
    orders(cases);
    subsets(cases);
    repetitions(cases);
}

/// What becomes of a stream whose frame has a member of this value.
fn typed(frame: usize, member: &str, label: &str) -> String {
    let is_text = matches!(label, "empty-string" | "string" | "digit-string");
    match (member, label) {
        // It is advice to the application.
        ("contentType", _) => CLOSED.to_owned(),
        ("data", _) if is_text => CLOSED.to_owned(),
        ("chunkIndex", "one" | "whole-double") => CLOSED.to_owned(),
        ("chunkIndex", "zero") => format!("chunk, failed Conflict, {LATE}"),
        ("chunkIndex", "exponent") => "chunk, failed BehindLast".to_owned(),
        ("lastChunkIndex", "zero" | "one" | "whole-double") => "chunk, failed BehindLast".to_owned(),
        ("lastChunkIndex", "exponent") => "chunk, failed Missing".to_owned(),
        ("lastChunkIndex", "null") => CLOSED.to_owned(),
        _ => dropped("drop malformed", frame),
    }
}

fn members(cases: &mut Cases<'_>) {
    for (frame, label_of) in [(0, "start"), (2, "chunk"), (4, "close")] {
        for name in cvm(frame).names() {
            let input = with_cvm(cases, frame, &cvm(frame).without(&name));
            let reader = match name.as_str() {
                "type" => dropped("taken", frame),
                "contentType" | "lastChunkIndex" => CLOSED.to_owned(),
                _ => dropped("drop malformed", frame),
            };
            let verdict = want(cases, reader);
            cases.add_all(format!("missing/{label_of}/{name}"), input, verdict);
            for (label, value) in VALUES {
                let input = with_cvm(cases, frame, &cvm(frame).with(&name, value));
                let reader =
                    if name == "type" { dropped("taken", frame) } else { typed(frame, &name, label) };
                let verdict = want(cases, reader);
                cases.add_all(format!("type/{label_of}/{name}/{label}"), input, verdict);
            }
        }
    }
}

fn params_of_frames(cases: &mut Cases<'_>) {
    for (frame, label_of) in [(0, "start"), (2, "chunk"), (4, "close")] {
        let base = |cases: &Cases<'_>| params(cases, frame as u64 + 1, &cvm(frame));
        for name in ["progressToken", "progress", "cvm"] {
            let input = with(cases, frame, &base(cases).without(name));
            let reader =
                if name == "cvm" { dropped("taken", frame) } else { dropped("drop malformed", frame) };
            let verdict = want(cases, reader);
            cases.add_all(format!("missing/{label_of}/{name}"), input, verdict);
        }
        for (label, value) in VALUES {
            let input = with(cases, frame, &base(cases).with("cvm", value));
            let verdict = want(cases, dropped("taken", frame));
            cases.add_all(format!("type/{label_of}/cvm/{label}"), input, verdict);
            let input = with(cases, frame, &base(cases).with("progressToken", value));
            let is_token =
                value.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit());
            let reason =
                if is_token && label != "empty-string" { "drop unknown_request" } else { "drop malformed" };
            let verdict = want(cases, dropped(reason, frame));
            cases.add_all(format!("type/{label_of}/progressToken/{label}"), input, verdict);
            let input = with(cases, frame, &base(cases).with("progress", value));
            let is_number = matches!(label, "one" | "whole-double" | "exponent");
            // Chunks are put in order by their index.
            let reader = if is_number { CLOSED.to_owned() } else { dropped("drop malformed", frame) };
            let verdict = want(cases, reader);
            cases.add_all(format!("type/{label_of}/progress/{label}"), input, verdict);
        }
    }
}

fn spellings(cases: &mut Cases<'_>) {
    for frame in [0, 2, 4] {
        for name in cvm(frame).names() {
            let input = with_cvm(cases, frame, &cvm(frame).respelt(&name, escaped(&name)));
            let verdict = want(cases, CLOSED);
            cases.add_all(format!("key/{frame}/{name}/escaped"), input, verdict);
            let input = with_cvm(cases, frame, &cvm(frame).respelt(&name, quote(&name.to_uppercase())));
            let reader = match name.as_str() {
                "type" => dropped("taken", frame),
                "contentType" | "lastChunkIndex" => CLOSED.to_owned(),
                _ => dropped("drop malformed", frame),
            };
            let verdict = want(cases, reader);
            cases.add_all(format!("key/{frame}/{name}/upper"), input, verdict);
            let input = with_cvm(cases, frame, &cvm(frame).push(&name, "\"again\""));
            let verdict = broken(cases, frame);
            cases.add_all(format!("twice/{frame}/{name}"), input, verdict);
        }
        let input = with_cvm(cases, frame, &cvm(frame).push("extra", "[{}]").reversed());
        let verdict = want(cases, CLOSED);
        cases.add_all(format!("extra/{frame}"), input, verdict);
        for (nth, word) in
            ["START", "start ", "", "begin", "end", "null", "chunks", "Close", "data"].into_iter().enumerate()
        {
            let input = with_cvm(cases, frame, &cvm(frame).with("frameType", quote(word)));
            let verdict = want(cases, dropped("drop malformed", frame));
            cases.add_all(format!("frame-type/{frame}/{nth}"), input, verdict);
        }
        for (nth, word) in ["OPEN-STREAM", "open-stream ", "open_stream", "", "open-stream/2", "stream"]
            .into_iter()
            .enumerate()
        {
            let input = with_cvm(cases, frame, &cvm(frame).with("type", quote(word)));
            let verdict = want(cases, dropped("taken", frame));
            cases.add_all(format!("frame-of/{frame}/{nth}"), input, verdict);
        }
    }
}

/// A frame that is no JSON-RPC message for either side.
pub(crate) fn broken(cases: &Cases<'_>, frame: usize) -> String {
    match cases.role {
        Role::Server if frame == 0 => "drop malformed, drop unknown_request".to_owned(),
        Role::Server => "drop unknown_request, drop malformed".to_owned(),
        Role::Client => dropped("drop malformed", frame),
    }
}

fn orders(cases: &mut Cases<'_>) {
    for order in permutations() {
        let frames = frames(cases);
        let input = order.iter().map(|frame| frames[*frame].clone()).collect();
        let name: String = order.iter().map(ToString::to_string).collect();
        let verdict = want(cases, CLOSED);
        cases.add_all(format!("order/{name}"), input, verdict);
    }
}

fn subsets(cases: &mut Cases<'_>) {
    for set in 1..31_usize {
        let frames = frames(cases);
        let has = |frame: usize| set >> frame & 1 == 1;
        let input = (0..5).filter(|frame| has(*frame)).map(|frame| frames[frame].clone()).collect();
        let chunks = if has(0) && has(1) { "chunk, " } else { "" };
        let all = (1..4).all(has);
        let none = !(1..4).any(has);
        // Chunks behind a gap are waited for half a minute, a peer that is silent for longer.
        let gap = !all && (!has(1) && !none || has(1) && !has(2) && has(3));
        let reader = match (has(0), has(4)) {
            (false, _) => "failed NoStart".to_owned(),
            (true, true) => format!("{chunks}failed Missing"),
            (true, false) if gap => format!("{chunks}failed Gap"),
            (true, false) => format!("{chunks}failed Probe"),
        };
        let verdict = want(cases, reader);
        cases.add_all(format!("only/{set:05b}"), input, verdict);
    }
}

fn repetitions(cases: &mut Cases<'_>) {
    for frame in 0..5 {
        for place in frame + 1..=5 {
            let mut frames = frames(cases);
            frames.insert(
                place,
                notification(&params(cases, frame as u64 + 1, &cvm(frame)).push("again", "true")),
            );
            let reader = match (frame, place) {
                (_, 5) => format!("{CLOSED}, {LATE}"),
                (0, 1) => "drop duplicate, chunk, closed".to_owned(),
                _ => "chunk, drop duplicate, closed".to_owned(),
            };
            let verdict = want(cases, reader);
            cases.add_all(format!("again/{frame}/{place}"), frames, verdict);
        }
    }
    for frame in 1..=3 {
        for place in frame + 1..5 {
            for (label, other, progress) in [
                ("data", cvm(frame).with("data", "\"another\""), frame as u64 + 1),
                ("number", cvm(frame), 40),
            ] {
                let mut frames = frames(cases);
                frames.insert(place, notification(&params(cases, progress, &other)));
                let verdict = want(cases, format!("chunk, failed Conflict, {LATE}"));
                cases.add_all(format!("conflict/{label}/{frame}/{place}"), frames, verdict);
            }
        }
    }
    for place in 1..=4 {
        let mut frames = frames(cases);
        frames.insert(place, notification(&params(cases, 30, &cvm(0))));
        let chunks = if place > 1 { "chunk, " } else { "" };
        let verdict = want(cases, format!("{chunks}failed StartedTwice, {LATE}"));
        cases.add_all(format!("second-start/{place}"), frames, verdict);
        for (label, reason) in [
            ("silent", ""),
            ("said", ",\"reason\":\"r\""),
            ("empty", ",\"reason\":\"\""),
            ("null", ",\"reason\":null"),
        ] {
            let mut frames = self::frames(cases);
            let abort = Members::of(&format!(r#"{{"type":"open-stream","frameType":"abort"{reason}}}"#));
            frames.insert(place, notification(&params(cases, 20, &abort)));
            let verdict = want(cases, format!("{chunks}failed Aborted, {LATE}"));
            cases.add_all(format!("abort/{label}/{place}"), frames, verdict);
        }
        let mut frames = self::frames(cases);
        let accept = Members::of(r#"{"type":"open-stream","frameType":"accept"}"#);
        frames.insert(place, notification(&params(cases, 20, &accept)));
        let reader = if place > 1 {
            "chunk, drop unknown_request, closed"
        } else {
            "drop unknown_request, chunk, closed"
        };
        let verdict = want(cases, reader);
        cases.add_all(format!("accept/{place}"), frames, verdict);
    }
}
