//! Transfers (CEP-22): what start frames declare, what chunks carry, and what they make.
use contextvm_core::object::quote;

use crate::Cases;
use crate::json::{Members, VALUES, flipped, replaced};
use crate::transfers::{BOUNDS, LATE, LENGTH, MISSING, digest, notification, params};

pub(crate) fn add(cases: &mut Cases<'_>) {
    declarations(cases);
    contents(cases);
    messages(cases);
    aborts(cases);
}

fn declarations(cases: &mut Cases<'_>) {
    let size = cases.plan().text.len();
    for off in (1..=12).chain([50, 100]) {
        for (label, bytes) in [("fewer", size - off), ("more", size + off)] {
            let plan = cases.plan();
            let cvm = plan.start().with("totalBytes", bytes.to_string());
            let want = if label == "fewer" { cases.failed_early(LENGTH) } else { cases.failed(LENGTH) };
            cases.add_all(format!("bytes/{label}/{off}"), plan.with_cvm(0, &cvm), want);
        }
    }
    for (chunks, want) in
        [(1, Some(BOUNDS)), (2, Some(BOUNDS)), (4, None), (5, None), (9_999, None), (10_000, None)]
    {
        let plan = cases.plan();
        let cvm = plan.start().with("totalChunks", chunks.to_string());
        let want = want.map_or_else(|| cases.absent(MISSING), |want| cases.failed_early(want));
        cases.add_all(format!("chunks/{chunks}"), plan.with_cvm(0, &cvm), want);
    }
    for (label, member, value, want) in [
        ("most-bytes", "totalBytes", "25165824", cases.failed(LENGTH)),
        ("too-many-bytes", "totalBytes", "25165825", cases.failed_early("# bytes are more than #")),
        ("100-mib", "totalBytes", "104857600", cases.failed_early("# bytes are more than #")),
        ("2^53-1", "totalBytes", "9007199254740991", cases.failed_early("# bytes are more than #")),
        ("10001-chunks", "totalChunks", "10001", cases.failed_early("# chunks are more than #")),
        ("2^53-1-chunks", "totalChunks", "9007199254740991", cases.failed_early("# chunks are more than #")),
    ] {
        let plan = cases.plan();
        let cvm = plan.start().with(member, value);
        cases.add_all(format!("declared/{label}"), plan.with_cvm(0, &cvm), want);
    }
    for nibble in 0..64 {
        let plan = cases.plan();
        let hex = digest(&plan.text)[7..].to_owned();
        let cvm = plan.start().with("digest", quote(&format!("sha256:{}", flipped(&hex, nibble * 4))));
        let want = cases.failed("sha# digest does not match");
        cases.add_all(format!("digest/bit/{nibble}"), plan.with_cvm(0, &cvm), want);
    }
    let none = cases.failed_early("digest is not sha#");
    for length in (0..=68).filter(|length| *length != 64) {
        let plan = cases.plan();
        let hex: String = digest(&plan.text)[7..].chars().cycle().take(length).collect();
        let cvm = plan.start().with("digest", quote(&format!("sha256:{hex}")));
        cases.add_all(format!("digest/length/{length}"), plan.with_cvm(0, &cvm), none.clone());
    }
    for (label, before, after) in [
        ("bare", "", ""),
        ("sha512", "sha512:", ""),
        ("sha1", "sha1:", ""),
        ("md5", "md5:", ""),
        ("upper", "SHA256:", ""),
        ("dash", "sha256-", ""),
        ("sha-256", "sha-256:", ""),
        ("equals", "sha256=", ""),
        ("space", "sha256: ", ""),
        ("space-before", " sha256:", ""),
        ("space-after", "sha256:", " "),
        ("newline", "sha256:", "\n"),
        ("twice", "sha256:sha256:", ""),
        ("0x", "sha256:0x", ""),
        ("none", "none:", ""),
    ] {
        let plan = cases.plan();
        let hex = digest(&plan.text)[7..].to_owned();
        let cvm = plan.start().with("digest", quote(&format!("{before}{hex}{after}")));
        cases.add_all(format!("digest/form/{label}"), plan.with_cvm(0, &cvm), none.clone());
    }
    for at in (0..64).step_by(8) {
        let plan = cases.plan();
        let cvm = plan.start().with("digest", quote(&replaced(&digest(&plan.text), 7 + at, "g")));
        cases.add_all(format!("digest/letter/{at}"), plan.with_cvm(0, &cvm), none.clone());
    }
    for (nth, mode) in
        ["stream", "Render", "RENDER", "render ", " render", "none", "file", "raw"].into_iter().enumerate()
    {
        let plan = cases.plan();
        let cvm = plan.start().with("completionMode", quote(mode));
        let want = cases.failed_early("completion mode is not render");
        cases.add_all(format!("mode/{nth}"), plan.with_cvm(0, &cvm), want);
    }
}

/// Letters that changed on the way.
fn contents(cases: &mut Cases<'_>) {
    for chunk in 0..3 {
        for at in (0..30).step_by(2) {
            let plan = cases.plan();
            let mut data = plan.chunks[chunk].clone();
            data = replaced(&data, at, if data[at..=at] == *"~" { "#" } else { "~" });
            let cvm = plan.chunk(chunk).with("data", quote(&data));
            let want = cases.failed("sha# digest does not match");
            cases.add_all(format!("changed/{chunk}/{at}"), plan.with_cvm(chunk + 1, &cvm), want);
            let plan = cases.plan();
            let cvm = plan.chunk(chunk).with("data", quote(&replaced(&plan.chunks[chunk], at, "")));
            let want = cases.failed(LENGTH);
            cases.add_all(format!("shorter/{chunk}/{at}"), plan.with_cvm(chunk + 1, &cvm), want);
            let plan = cases.plan();
            let longer = format!("{}é{}", &plan.chunks[chunk][..at], &plan.chunks[chunk][at..]);
            let cvm = plan.chunk(chunk).with("data", quote(&longer));
            // The third chunk is over what was declared as soon as it comes, and so is nothing before it.
            let want = cases.failed_early(LENGTH);
            cases.add_all(format!("longer/{chunk}/{at}"), plan.with_cvm(chunk + 1, &cvm), want);
        }
        let plan = cases.plan();
        let cvm = plan.chunk(chunk).with("data", "\"\\ud800\"");
        let want = format!("drop malformed, {}", cases.absent(MISSING));
        cases.add_all(format!("surrogate/{chunk}"), plan.with_cvm(chunk + 1, &cvm), want.clone());
        let plan = cases.plan();
        let cvm = plan.chunk(chunk).with("data", "\"\u{1}\"");
        cases.add_all(format!("control/{chunk}"), plan.with_cvm(chunk + 1, &cvm), want);
    }
}

/// What was transferred whole and is no message.
fn messages(cases: &mut Cases<'_>) {
    for (nth, text) in [
        "null",
        "true",
        "[]",
        "{}",
        "\"text\"",
        "12345",
        "   ",
        "not json",
        "{\"jsonrpc\":\"2.0\"}",
        "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":[]}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"id\":2}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[]}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}}",
        "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]",
        "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{},\"error\":{}}",
        "{\"jsonrpc\":\"2.0\",\"ID\":1,\"id\":1,\"method\":\"ping\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":\"x\",\"message\":\"m\"}}",
    ]
    .into_iter()
    .enumerate()
    {
        let padded = format!("{text}{}", " ".repeat(cases.list.len() % 60));
        let frames = cases.plan_of(padded).frames();
        let want = cases.no_message("malformed");
        cases.add_all(format!("whole/{nth:02}"), frames, want);
    }
    let deep =
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"x\":{}{}}}}}", "[".repeat(80), "]".repeat(80));
    let frames = cases.plan_of(deep).frames();
    let want = cases.no_message("budget");
    cases.add_all("whole/deep", frames, want.clone());
    let nodes = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"x\":[{}0]}}}}", "0,".repeat(140_000));
    let frames = cases.plan_of(nodes).frames();
    cases.add_all("whole/nodes", frames, want);
}

fn aborts(cases: &mut Cases<'_>) {
    let abort = |progress: u64, reason: &str| {
        let cvm = format!(r#"{{"type":"oversized-transfer","frameType":"abort"{reason}}}"#);
        notification(&params(progress, &Members::of(&cvm)))
    };
    for place in 1..=5 {
        for (label, reason) in [("silent", ""), ("said", ",\"reason\":\"r\""), ("empty", ",\"reason\":\"\"")]
        {
            let mut frames = cases.plan().frames();
            frames.insert(place, abort(20, reason));
            let want = match place {
                // The transfer is over; there is none to abort.
                5 => format!("{}, {LATE}", cases.whole()),
                _ => cases.given_up(),
            };
            cases.add_all(format!("abort/{place}/{label}"), frames, want);
        }
    }
    for (label, value) in VALUES {
        let mut frames = cases.plan().frames();
        frames.insert(2, abort(20, &format!(",\"reason\":{value}")));
        let whole = cases.whole();
        let want = if value.starts_with('"') { cases.given_up() } else { format!("drop malformed, {whole}") };
        cases.add_all(format!("abort/reason/{label}"), frames, want);
    }
}
