//! Frames of transfers (CEP-22): their members, their order, what they declare, and what they make.
use bitcoin_hashes::sha256;
use contextvm_core::object::quote;

use crate::Cases;
use crate::json::{Members, VALUES, escaped};
use crate::world::Role;

pub(crate) const IDLE: &str = "transfer stood still for too long";

pub(crate) const MISSING: &str = "chunks are missing after the end";

pub(crate) const LENGTH: &str = "# bytes are not the declared #";

pub(crate) const BOUNDS: &str = "chunk # is outside the declared bounds";

/// What is left of a transfer that is over.
pub(crate) const LATE: &str = "drop uncorrelated";

/// A transfer of three chunks, frame by frame.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) text: String,
    pub(crate) chunks: Vec<String>,
    /// Numbers of the frames.
    start: u64,
    first: u64,
    number: usize,
}

impl Plan {
    pub(crate) fn start(&self) -> Members {
        Members::of("{}")
            .push("type", "\"oversized-transfer\"")
            .push("frameType", "\"start\"")
            .push("completionMode", "\"render\"")
            .push("digest", quote(&digest(&self.text)))
            .push("totalBytes", self.text.len().to_string())
            .push("totalChunks", self.chunks.len().to_string())
    }

    pub(crate) fn chunk(&self, nth: usize) -> Members {
        Members::of(r#"{"type":"oversized-transfer","frameType":"chunk"}"#)
            .push("data", quote(&self.chunks[nth]))
    }

    pub(crate) fn end() -> Members {
        Members::of(r#"{"type":"oversized-transfer","frameType":"end"}"#)
    }

    pub(crate) fn cvm(&self, frame: usize) -> Members {
        match frame {
            0 => self.start(),
            4 => Self::end(),
            chunk => self.chunk(chunk - 1),
        }
    }

    fn progress(&self, frame: usize) -> u64 {
        if frame == 0 { self.start } else { self.first + frame as u64 - 1 }
    }

    /// A frame as its params.
    pub(crate) fn params(&self, frame: usize) -> Members {
        params(self.progress(frame), &self.cvm(frame)).push("n", self.number.to_string())
    }

    pub(crate) fn frames(&self) -> Vec<String> {
        (0..5).map(|frame| notification(&self.params(frame))).collect()
    }

    /// The frames with another one in a place.
    pub(crate) fn with(&self, frame: usize, text: String) -> Vec<String> {
        let mut frames = self.frames();
        frames[frame] = text;
        frames
    }

    pub(crate) fn with_cvm(&self, frame: usize, cvm: &Members) -> Vec<String> {
        self.with(frame, notification(&self.params(frame).with("cvm", cvm.text())))
    }
}

pub(crate) fn params(progress: u64, cvm: &Members) -> Members {
    Members::of(r#"{"progressToken":"t"}"#).push("progress", progress.to_string()).push("cvm", cvm.text())
}

pub(crate) fn notification(params: &Members) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{}}}"#, params.text())
}

pub(crate) fn digest(text: &str) -> String {
    let hash = sha256::Hash::hash(text.as_bytes()).to_byte_array();
    format!("sha256:{}", hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

impl Cases<'_> {
    /// A transfer of a true message that is new.
    pub(crate) fn plan(&self) -> Plan {
        let n = 1_000_000 + self.list.len();
        let filler = "abcdefghij".repeat(6);
        let text = match self.role {
            Role::Server => format!(
                r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"a","arguments":{{"text":"{filler}"}}}}}}"#
            ),
            Role::Client => format!(
                r#"{{"jsonrpc":"2.0","id":{n},"result":{{"content":[{{"type":"text","text":"{filler}"}}],"more":true}}}}"#
            ),
        };
        self.plan_of(text)
    }

    pub(crate) fn plan_of(&self, text: String) -> Plan {
        let third = text.len() / 3;
        let cut = |from: usize| (from..).find(|at| text.is_char_boundary(*at)).unwrap();
        let (a, b) = (cut(third), cut(2 * third));
        let chunks = vec![text[..a].to_owned(), text[a..b].to_owned(), text[b..].to_owned()];
        Plan { text, chunks, start: 1, first: 2, number: self.list.len() }
    }

    /// What becomes of a whole message.
    pub(crate) fn whole(&self) -> &'static str {
        match self.role {
            Role::Server => "taken request",
            Role::Client => "taken answer",
        }
    }

    /// A transfer that its sender has spoilt.
    pub(crate) fn failed(&self, why: &str) -> String {
        match self.role {
            Role::Server => format!("abort {why}, drop malformed"),
            Role::Client => format!("abort {why}, lost Transfer"),
        }
    }

    /// The same, and frames of it that come later.
    pub(crate) fn failed_early(&self, why: &str) -> String {
        format!("{}, {LATE}", self.failed(why))
    }

    /// A transfer that has not arrived whole.
    pub(crate) fn absent(&self, why: &str) -> String {
        match self.role {
            Role::Server => format!("abort {why}"),
            Role::Client => format!("abort {why}, lost Transfer"),
        }
    }

    /// What becomes of a transfer that lacks a frame. Late frames are waited for once the end is here.
    pub(crate) fn lost(&self, frame: usize) -> String {
        self.absent(if frame == 4 { IDLE } else { MISSING })
    }

    /// A whole text that is no message.
    pub(crate) fn no_message(&self, reason: &str) -> String {
        match self.role {
            Role::Server => format!("abort the message is refused: {reason}, drop {reason}"),
            Role::Client => "lost Transfer".to_owned(),
        }
    }

    /// A transfer that its sender gives up, and what is left of it.
    pub(crate) fn given_up(&self) -> String {
        match self.role {
            Role::Server => format!("drop unknown_request, {LATE}"),
            Role::Client => format!("lost Transfer, {LATE}"),
        }
    }

    /// Progress that is no frame.
    pub(crate) fn plain(&self) -> &'static str {
        match self.role {
            Role::Server => "drop unknown_request",
            Role::Client => "taken",
        }
    }
}

pub(crate) fn add(cases: &mut Cases<'_>) {
    members(cases);
    params_of_frames(cases);
    spellings(cases);
    orders(cases);
    subsets(cases);
    repetitions(cases);
    numbers(cases);
}

/// What a start frame makes of a transfer when a declaration has a value of this type.
fn declared(cases: &Cases<'_>, member: &str, label: &str) -> Option<String> {
    let text = matches!(label, "empty-string" | "string" | "digit-string");
    let number = matches!(label, "zero" | "one" | "whole-double" | "exponent");
    Some(match (member, label) {
        ("completionMode", _) if text => cases.failed_early("completion mode is not render"),
        ("digest", _) if text => cases.failed_early("digest is not sha#"),
        ("totalBytes" | "totalChunks", "zero") => cases.failed_early("transfer of nothing"),
        ("totalBytes", _) if number => cases.failed_early(LENGTH),
        ("totalChunks", "exponent") => cases.absent(MISSING),
        ("totalChunks", _) if number => cases.failed_early(BOUNDS),
        _ => return None,
    })
}

fn members(cases: &mut Cases<'_>) {
    for (frame, label_of) in [(0, "start"), (2, "chunk"), (4, "end")] {
        for name in cases.plan().cvm(frame).names() {
            let plan = cases.plan();
            let input = plan.with_cvm(frame, &plan.cvm(frame).without(&name));
            let want = match name.as_str() {
                "type" => format!("{}, {}", cases.plain(), cases.lost(frame)),
                // CEP-22: it is `render` when nothing is said.
                "completionMode" => cases.whole().to_owned(),
                _ => format!("drop malformed, {}", cases.lost(frame)),
            };
            cases.add_all(format!("missing/{label_of}/{name}"), input, want);
            for (label, value) in VALUES {
                let plan = cases.plan();
                let input = plan.with_cvm(frame, &plan.cvm(frame).with(&name, value));
                let is_text = value.starts_with('"');
                let want = match name.as_str() {
                    "type" => format!("{}, {}", cases.plain(), cases.lost(frame)),
                    "data" if is_text => cases.failed(LENGTH),
                    _ => declared(cases, &name, label)
                        .unwrap_or_else(|| format!("drop malformed, {}", cases.lost(frame))),
                };
                cases.add_all(format!("type/{label_of}/{name}/{label}"), input, want);
            }
        }
    }
}

fn params_of_frames(cases: &mut Cases<'_>) {
    for (frame, label_of) in [(0, "start"), (2, "chunk"), (4, "end")] {
        for name in ["progressToken", "progress", "cvm"] {
            let plan = cases.plan();
            let input = plan.with(frame, notification(&plan.params(frame).without(name)));
            let want = if name == "cvm" { cases.plain() } else { "drop malformed" };
            cases.add_all(
                format!("missing/{label_of}/{name}"),
                input,
                format!("{want}, {}", cases.lost(frame)),
            );
        }
        for (label, value) in VALUES {
            let plan = cases.plan();
            let input = plan.with(frame, notification(&plan.params(frame).with("cvm", value)));
            let want = format!("{}, {}", cases.plain(), cases.lost(frame));
            cases.add_all(format!("type/{label_of}/cvm/{label}"), input, want);
            let plan = cases.plan();
            let input = plan.with(frame, notification(&plan.params(frame).with("progressToken", value)));
            let is_token =
                value.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit());
            let want = match cases.role {
                _ if !is_token || label == "empty-string" => format!("drop malformed, {}", cases.lost(frame)),
                // Another transfer, of which nothing else comes; chunks alone may be an old one's.
                Role::Server if frame == 2 => cases.lost(frame),
                Role::Server => format!("abort {MISSING}, abort {IDLE}"),
                Role::Client => format!("drop unknown_request, {}", cases.lost(frame)),
            };
            cases.add_all(format!("type/{label_of}/progressToken/{label}"), input, want);
            let plan = cases.plan();
            let input = plan.with(frame, notification(&plan.params(frame).with("progress", value)));
            let whole = cases.whole();
            let want = match (frame, label) {
                (0, "one" | "whole-double") | (4, "exponent") => whole.to_owned(),
                // Chunks and end come before it, or are behind what is possible.
                (0, "exponent") => format!("{LATE}, {}", cases.absent(IDLE)),
                (2, "one" | "whole-double") => format!("{LATE}, {}", cases.absent(MISSING)),
                (2, "exponent") => cases.failed_early(BOUNDS),
                (4, "one" | "whole-double") => format!("{LATE}, {}", cases.absent(IDLE)),
                _ => format!("drop malformed, {}", cases.lost(frame)),
            };
            cases.add_all(format!("type/{label_of}/progress/{label}"), input, want);
        }
    }
}

fn spellings(cases: &mut Cases<'_>) {
    for frame in [0, 2, 4] {
        for name in cases.plan().cvm(frame).names() {
            let plan = cases.plan();
            let cvm = plan.cvm(frame).respelt(&name, escaped(&name));
            let whole = cases.whole();
            cases.add_all(format!("key/{frame}/{name}/escaped"), plan.with_cvm(frame, &cvm), whole);
            let plan = cases.plan();
            let cvm = plan.cvm(frame).respelt(&name, quote(&name.to_uppercase()));
            let want = match name.as_str() {
                "type" => format!("{}, {}", cases.plain(), cases.lost(frame)),
                "completionMode" => whole.to_owned(),
                _ => format!("drop malformed, {}", cases.lost(frame)),
            };
            cases.add_all(format!("key/{frame}/{name}/upper"), plan.with_cvm(frame, &cvm), want);
            let plan = cases.plan();
            let cvm = plan.cvm(frame).push(&name, "\"again\"");
            let want = format!("drop malformed, {}", cases.lost(frame));
            cases.add_all(format!("twice/{frame}/{name}"), plan.with_cvm(frame, &cvm), want);
        }
        let plan = cases.plan();
        let cvm = plan.cvm(frame).push("extra", "[{}]").reversed();
        let whole = cases.whole();
        cases.add_all(format!("extra/{frame}"), plan.with_cvm(frame, &cvm), whole);
        for (label, word) in [
            ("upper", "START"),
            ("space", "start "),
            ("empty", ""),
            ("unknown", "begin"),
            ("stream", "ping"),
            ("null-word", "null"),
        ] {
            let plan = cases.plan();
            let cvm = plan.cvm(frame).with("frameType", quote(word));
            let want = format!("drop malformed, {}", cases.lost(frame));
            cases.add_all(format!("frame-type/{frame}/{label}"), plan.with_cvm(frame, &cvm), want);
        }
        for (label, word) in [
            ("upper", "OVERSIZED-TRANSFER"),
            ("space", "oversized-transfer "),
            ("underscore", "oversized_transfer"),
            ("empty", ""),
            ("version", "oversized-transfer/2"),
        ] {
            let plan = cases.plan();
            let cvm = plan.cvm(frame).with("type", quote(word));
            let want = format!("{}, {}", cases.plain(), cases.lost(frame));
            cases.add_all(format!("frame-of/{frame}/{label}"), plan.with_cvm(frame, &cvm), want);
        }
    }
}

/// Every order of five things.
pub(crate) fn permutations() -> Vec<[usize; 5]> {
    let mut all = Vec::new();
    for code in 0..5_usize.pow(5) {
        let order: [usize; 5] =
            std::array::from_fn(|place| code / 5_usize.pow(u32::try_from(place).unwrap()) % 5);
        if (0..5).all(|item| order.contains(&item)) {
            all.push(order);
        }
    }
    all
}

/// In whatever order frames come, and whether or not a place was kept free for an accept.
fn orders(cases: &mut Cases<'_>) {
    for (label, first) in [("direct", 2), ("accept-slot", 3)] {
        for order in permutations() {
            let frames = Plan { first, ..cases.plan() }.frames();
            let input = order.iter().map(|frame| frames[*frame].clone()).collect();
            let whole = cases.whole();
            let name: String = order.iter().map(ToString::to_string).collect();
            cases.add_all(format!("order/{label}/{name}"), input, whole);
        }
    }
}

fn subsets(cases: &mut Cases<'_>) {
    for set in 1..31_usize {
        let frames = cases.plan().frames();
        let has = |frame: usize| set >> frame & 1 == 1;
        let input = (0..5).filter(|frame| has(*frame)).map(|frame| frames[frame].clone()).collect();
        let want = match (has(0), has(4), cases.role) {
            (_, true, _) => cases.absent(MISSING),
            (true, false, _) => cases.absent(IDLE),
            // An older transfer, perhaps, that a relay plays back: nobody is told.
            (false, false, Role::Server) => "nothing".to_owned(),
            (false, false, Role::Client) => "lost Transfer".to_owned(),
        };
        cases.add_all(format!("only/{set:05b}"), input, want);
    }
}

fn repetitions(cases: &mut Cases<'_>) {
    for frame in 0..5 {
        for place in frame + 1..=5 {
            let plan = cases.plan();
            let mut frames = plan.frames();
            frames.insert(place, notification(&plan.params(frame).push("again", "true")));
            let want = match (place, cases.role) {
                // Everything was there before.
                (5, Role::Server) if frame == 0 => cases.whole().to_owned(),
                (5, _) => format!("{}, {LATE}", cases.whole()),
                _ => format!("drop duplicate, {}", cases.whole()),
            };
            cases.add_all(format!("again/{frame}/{place}"), frames, want);
        }
    }
    for chunk in 1..=3 {
        for place in chunk + 1..5 {
            let plan = cases.plan();
            let mut frames = plan.frames();
            let other = plan.cvm(chunk).with("data", quote("another text"));
            frames.insert(place, notification(&plan.params(chunk).with("cvm", other.text())));
            let want = cases.failed_early("chunk # came twice and differs");
            cases.add_all(format!("conflict/{chunk}/{place}"), frames, want);
        }
    }
}

fn numbers(cases: &mut Cases<'_>) {
    for a in 1..=7_u64 {
        for b in a + 1..=7 {
            for c in b + 1..=7 {
                let plan = cases.plan();
                let mut frames = plan.frames();
                for (frame, progress) in [(1, a), (2, b), (3, c)] {
                    frames[frame] = notification(&plan.params(frame).with("progress", progress.to_string()));
                }
                frames[4] = notification(&plan.params(4).with("progress", "9"));
                let is_late = a == 1;
                // One place may have been kept free, so the third chunk is the fifth frame at most.
                let want = match (a, b, c) {
                    (2, 3, 4) | (3, 4, 5) => cases.whole().to_owned(),
                    _ if c > 5 && is_late => format!("{LATE}, {}", cases.failed(BOUNDS)),
                    _ if c > 5 => cases.failed_early(BOUNDS),
                    _ if is_late => format!("{LATE}, {}", cases.absent(MISSING)),
                    _ => cases.failed("numbers of chunks have a gap"),
                };
                cases.add_all(format!("places/{a}{b}{c}"), frames, want);
            }
        }
    }
    for end in 1..=12 {
        let plan = cases.plan();
        let frames = plan.with(4, notification(&plan.params(4).with("progress", end.to_string())));
        let want = match end {
            1 => format!("{LATE}, {}", cases.absent(IDLE)),
            2..=4 => cases.failed("end at # does not follow every chunk"),
            _ => cases.whole().to_owned(),
        };
        cases.add_all(format!("end-at/{end}"), frames, want);
    }
    for first in [2, 10, 100, 9_007_199_254_740_000] {
        let frames = Plan { start: first - 1, first, ..cases.plan() }.frames();
        let whole = cases.whole();
        cases.add_all(format!("start-at/{first}"), frames, whole);
    }
}
