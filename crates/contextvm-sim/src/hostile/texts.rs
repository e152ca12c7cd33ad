//! What the hostile say: bombs, frames that break the grammar, and messages that are none.
use contextvm_core::object::quote;
use contextvm_stream::{StreamBody, StreamFrame};
use contextvm_transfer::{FrameBody, Start, TransferFrame};

/// Ids and tokens that everybody uses.
const COMMON: [&str; 6] = ["0", "1", "2", "\"1\"", "\"a\"", "9007199254740991"];

/// Draws an id or token that others have, too.
pub fn common(rng: &mut fastrand::Rng) -> &'static str {
    pick(rng, &COMMON)
}

/// Draws one of a few.
pub fn pick<'a>(rng: &mut fastrand::Rng, among: &[&'a str]) -> &'a str {
    among.get(rng.usize(..among.len().max(1))).copied().unwrap_or_default()
}

/// Prints a call with an id and a token, both as JSON.
#[must_use]
pub fn call(id: &str, token: Option<&str>, word: &str) -> String {
    let meta = token.map(|token| format!(r#","_meta":{{"progressToken":{token}}}"#)).unwrap_or_default();
    let word = quote(word);
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"word":{word}}}{meta}}}}}"#
    )
}

/// Prints the request that begins a session.
#[must_use]
pub fn initialize(id: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{{}},"clientInfo":{{"name":"x","version":"0"}}}}}}"#
    )
}

/// Prints the notification that takes a request back.
#[must_use]
pub fn cancelled(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
}

/// Prints progress.
#[must_use]
pub fn progress(token: &str, number: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{number}}}}}"#
    )
}

/// Prints an answer.
#[must_use]
pub fn answer(id: &str, word: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"said":{}}}}}"#, quote(word))
}

/// Prints an error.
#[must_use]
pub fn error(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"no\u001b[31m"}}}}"#)
}

/// Prints a request or an answer whose JSON takes far more memory than its text.
pub fn bomb(rng: &mut fastrand::Rng, is_answer: bool) -> String {
    let unit = pick(rng, &["[]", "{}", "0", "{\"\":0}", "[[]]", "\"a\"", "[0,0]", "null"]);
    let many = rng.usize(1..4_000);
    let inside = match rng.u8(..5) {
        0 => format!("{}{}", "[".repeat(many), "]".repeat(many)),
        1 => format!("{}1{}", "{\"a\":".repeat(many.min(900)), "}".repeat(many.min(900))),
        2 => "9".repeat(many),
        3 => {
            let members: Vec<String> = (0..many).map(|n| format!("\"k{n}\":{unit}")).collect();
            format!("{{{}}}", members.join(","))
        }
        _ => format!("[{}]", vec![unit; many].join(",")),
    };
    if is_answer {
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"x":{inside}}}}}"#)
    } else {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","x":{inside}}}}}"#)
    }
}

/// Draws what is no single JSON-RPC message, or one that two parsers read differently.
pub fn batch(rng: &mut fastrand::Rng) -> String {
    let request = call("1", None, "batch");
    match rng.u8(..14) {
        0 => format!("[{request}]"),
        1 => format!("[{request},{request}]"),
        2 => format!("{request}\n{request}"),
        3 => format!("\u{feff}{request}"),
        4 => request.replacen("\"id\":1", "\"id\":1,\"id\":2", 1),
        5 => request.replacen("\"method\"", "\"method\":\"ping\",\"method\"", 1),
        6 => request.replacen("\"id\":1", "\"id\":null", 1),
        7 => request.replacen("\"id\":1", "\"id\":1.5", 1),
        8 => request.replacen("2.0", "1.0", 1),
        9 => request.replacen("batch", "\\ud800", 1),
        10 => request.replacen("\"params\":{", "\"params\":[", 1),
        11 => String::new(),
        12 => request.chars().take(rng.usize(..request.len().max(1))).collect(),
        _ => format!("{{\"jsonrpc\":\"2.0\",\"id\":1e400,{}", request.trim_start_matches('{')),
    }
}

/// Draws a frame of a transfer that breaks the grammar, the order or the bounds.
pub fn bad_transfer(rng: &mut fastrand::Rng, token: &str) -> String {
    let progress = match rng.u8(..4) {
        0 => u64::MAX,
        1 => 9_007_199_254_740_991,
        _ => rng.u64(1..40),
    };
    let wild = [0, 1, u64::from(rng.u32(..)), 9_007_199_254_740_991];
    let number = |rng: &mut fastrand::Rng| wild.get(rng.usize(..wild.len())).copied().unwrap_or_default();
    let body = match rng.u8(..7) {
        0 => FrameBody::Start(Start {
            completion_mode: Some(pick(rng, &["render", "stream", ""]).into()),
            digest: pick(rng, &["", "sha256:", "sha256:zz", "md5:00"]).into(),
            total_bytes: number(rng),
            total_chunks: number(rng),
        }),
        1 => FrameBody::Accept,
        2 => FrameBody::Chunk("".into()),
        3 => FrameBody::Chunk("x".repeat(rng.usize(..3_000)).into()),
        4 => FrameBody::End,
        5 => FrameBody::Abort(Some("\u{202e}\u{1b}[2J".into())),
        _ => FrameBody::Abort(None),
    };
    damaged(rng, TransferFrame { token: token.into(), progress, body }.to_text())
}

/// Draws a frame of a stream that breaks the grammar, the order or the bounds.
pub fn bad_stream(rng: &mut fastrand::Rng, token: &str) -> String {
    let progress = rng.u64(1..60);
    let index = if rng.bool() { rng.u64(..8) } else { 9_007_199_254_740_991 };
    let body = match rng.u8(..8) {
        0 => StreamBody::Start(Some("text/\u{202e}".into())),
        1 => StreamBody::Accept,
        2 => StreamBody::Chunk { index, data: "".into() },
        3 => StreamBody::Chunk { index, data: "y".repeat(rng.usize(..3_000)).into() },
        4 => StreamBody::Ping("n".repeat(rng.usize(..200)).into()),
        5 => StreamBody::Pong("never asked".into()),
        6 => StreamBody::Close(Some(index)),
        _ => StreamBody::Abort(Some("\u{0}".into())),
    };
    damaged(rng, StreamFrame { token: token.into(), progress, body }.to_text())
}

/// Breaks one member of a frame half of the time.
fn damaged(rng: &mut fastrand::Rng, frame: String) -> String {
    match rng.u8(..10) {
        0 => frame.replacen("\"progress\":", "\"progress\":-", 1),
        1 => frame.replacen("\"frameType\":\"", "\"frameType\":\"x", 1),
        2 => frame.replacen("\"progressToken\":", "\"progressToken\":null,\"x\":", 1),
        3 => frame.replacen("\"cvm\":", "\"cvm\":7,\"cvm\":", 1),
        4 => frame.replacen("\"data\":", "\"data\":{},\"y\":", 1),
        _ => frame,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contextvm_core::{Envelope, Limits};

    #[test]
    fn ordinary_texts_are_messages() {
        let texts = [
            call("1", Some("\"a\""), "w\""),
            call("1", None, ""),
            initialize("0"),
            cancelled("1"),
            progress("1", 7),
            answer("1", "w"),
            error("\"a\""),
        ];
        for text in texts {
            assert!(Envelope::parse(&text, &Limits::default()).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused_and_some_bombs_are() {
        let mut rng = fastrand::Rng::with_seed(1);
        let refused = |text: &str| Envelope::parse(text, &Limits::default()).is_err();
        let batches: Vec<String> = (0..200).map(|_| batch(&mut rng)).collect();
        assert!(batches.iter().all(|text| refused(text)), "{:?}", batches.iter().find(|text| !refused(text)));
        let bombs = (0..200).map(|nth| bomb(&mut rng, nth % 2 == 0));
        assert!(bombs.filter(|text| refused(text)).count() > 20);
    }

    #[test]
    fn bad_frames_are_of_all_kinds() {
        let mut rng = fastrand::Rng::with_seed(1);
        let [mut read, mut broken] = [0, 0];
        for _ in 0..400 {
            for text in [bad_transfer(&mut rng, "t"), bad_stream(&mut rng, "t")] {
                let Ok(message) = Envelope::parse(&text, &Limits::default()) else {
                    broken += 1;
                    continue;
                };
                match (TransferFrame::read(&message), StreamFrame::read(&message)) {
                    (Ok(_), Ok(_)) => read += 1,
                    _ => broken += 1,
                }
            }
        }
        assert!(read > 100 && broken > 100, "{read} {broken}");
    }
}
