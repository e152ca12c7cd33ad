//! How much memory reading takes (T32): at most four times the text and 64 KiB, whatever the text is made of.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use contextvm_announce::schema::{MAX_TOOL, hash_tool};
use contextvm_announce::{Directory, DirectoryLimits, Signed, ToolPins};
use contextvm_core::object::compact;
use contextvm_core::{Capability, ClientFrame, Envelope, Limits, RelayFrame, Rewrite, event, rewrite, scan};
use contextvm_crypto::nip44::{ExtendedLength, conversation_key, encrypt};
use contextvm_crypto::open;
use serde_json::value::RawValue;

use crate::people::{START, keys, tags};

/// An event, and a line of a child process.
const SIZES: [usize; 2] = [127 * 1024, 1024 * 1024];

/// What a tool may cost while it is hashed or pinned, bytes: a tree of objects of one member each is the dearest.
const TOOL_BYTES: usize = 32 * 1024 * 1024;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes held by this thread since the count began, now and at most.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: the system's allocator does the work. `realloc` is the default: both blocks are held while one is copied.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Runs something over a text and checks what it held at most.
fn bounded<T>(what: &str, text: &str, work: impl FnOnce(&str) -> T) -> T {
    HELD.set((0, 0));
    let result = work(text);
    let most = HELD.get().1.unsigned_abs();
    let bound = 4 * text.len() + 64 * 1024;
    assert!(most <= bound, "{what}: {most} bytes for {} ({:.1} times)", text.len(), ratio(most, text.len()));
    result
}

fn ratio(most: usize, size: usize) -> f64 {
    most as f64 / size as f64
}

/// As many items as fit, with commas between them.
fn items(size: usize, item: impl Fn(usize) -> String) -> String {
    let mut all = item(0);
    for nth in 1.. {
        let next = item(nth);
        if all.len() + 1 + next.len() > size {
            break;
        }
        all.push(',');
        all.push_str(&next);
    }
    all
}

/// The shortest keys that differ.
fn key(nth: usize) -> String {
    const DIGITS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
    let (mut rest, mut key) = (nth, String::new());
    while rest > 0 {
        key.push(char::from(DIGITS[rest % 64]));
        rest /= 64;
    }
    key
}

/// What stands between the brackets of objects that are made to cost much.
fn members(size: usize) -> Vec<(&'static str, String)> {
    vec![
        ("short keys", items(size, |nth| format!("\"{}\":0", key(nth)))),
        ("short escaped keys", items(size, |nth| format!("\"\\/{}\":0", key(nth)))),
        ("one key", items(size, |_| r#""a":0"#.to_owned())),
        ("one key without an end", items(size, |_| r#""":0"#.to_owned()) + ",\""),
        ("objects", items(size, |nth| format!("\"{}\":{{\"\":0}}", key(nth)))),
        ("one long key", format!("\"{}\":0", "k".repeat(size))),
        ("one long escaped key", format!("\"{}\":0", "\\n".repeat(size / 2))),
        ("one long string", format!("\"a\":\"{}\"", "\\n".repeat(size / 2))),
        ("spaces", " ".repeat(size)),
    ]
}

/// Values that are made to cost much.
fn values(size: usize) -> Vec<(&'static str, String)> {
    let lists: [(&str, &str); 7] = [
        ("numbers", "0"),
        ("empty lists", "[]"),
        ("empty objects", "{}"),
        ("empty strings", "\"\""),
        ("objects of one member", r#"{"":0}"#),
        ("lists of one string", r#"[""]"#),
        ("long numbers", "123456789012345678901234567890123456789012345678901234567890"),
    ];
    let mut values: Vec<_> =
        lists.map(|(name, item)| (name, format!("[{}]", items(size - 2, |_| item.to_owned())))).into();
    let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
    values.push(("deep lists", format!("[{}]", items(size - 2, |_| deep.clone()))));
    values.push(("never closed", "[".repeat(size)));
    values.push(("a long string", format!("\"{}\"", "a".repeat(size - 2))));
    values.push(("a string of escapes", format!("\"{}\"", r"\u0000".repeat(size / 6))));
    values.push(("an escape at the end", format!("\"{}\\n\"", "é".repeat(size / 2 - 2))));
    values.extend(members(size - 2).into_iter().map(|(name, members)| (name, format!("{{{members}}}"))));
    values
}

fn read_message(what: &str, text: &str) -> bool {
    let limits = Limits::default();
    let _ = bounded(&format!("scan: {what}"), text, |text| scan::check(text, &limits));
    let _ = bounded(&format!("compact: {what}"), text, compact);
    bounded(&format!("message: {what}"), text, |text| {
        let Ok(message) = Envelope::parse(text, &limits) else { return false };
        let _ = Capability::of(&message);
        let _ = message.to_text();
        let edit = Rewrite::of(&message).id("\"e\"").param("name", "\"n\"");
        let edit = edit.without_meta(rewrite::CLIENT_PUBKEY).meta(rewrite::PROGRESS_TOKEN, "\"e\"");
        edit.to_text().len() > 10
    })
}

#[test]
fn messages_take_at_most_four_times_their_text() {
    let mut accepted = 0;
    for size in SIZES {
        for (name, value) in values(size) {
            let places = [
                value.clone(),
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{value}}}"#),
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{value}}}}}"#),
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{{"_meta":{value}}}}}"#),
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","_meta":{value}}}"#),
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":{value}}}"#),
                format!(r#"{{"jsonrpc":"2.0","id":{value},"result":{value}}}"#),
                format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":1,"message":"","data":{value}}}}}"#),
            ];
            for (place, text) in places.iter().enumerate() {
                accepted += usize::from(read_message(&format!("{name}, {size}, place {place}"), text));
            }
        }
        for (name, members) in members(size) {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x",{members}}}"#);
            accepted += usize::from(read_message(&format!("{name}, {size}, on top"), &text));
        }
    }
    assert!(accepted > 100, "{accepted} accepted: the budget is tested from both sides");
}

#[test]
fn frames_take_at_most_four_times_their_text() {
    for size in SIZES {
        for (name, value) in values(size) {
            for text in [
                value.clone(),
                format!(r#"["EVENT","s",{value}]"#),
                format!(r#"["NOTICE",{value}]"#),
                format!(r#"["REQ","s",{}]"#, value.trim_matches(['[', ']'])),
            ] {
                let _ = bounded(&format!("relay: {name}"), &text, |text| RelayFrame::parse(text).is_ok());
                let _ = bounded(&format!("client: {name}"), &text, |text| ClientFrame::parse(text).is_ok());
            }
        }
    }
}

fn event_of(tags: &str, content: &str) -> String {
    let (id, sig) = ("0a".repeat(32), "0c".repeat(64));
    format!(
        r#"{{"id":"{id}","pubkey":"{id}","created_at":1,"kind":1059,"tags":{tags},"content":{content},"sig":"{sig}"}}"#
    )
}

#[test]
fn events_take_at_most_four_times_their_text() {
    let mut accepted = 0;
    for size in SIZES {
        for (name, value) in values(size) {
            for text in
                [event_of(&value, "\"\""), event_of("[]", &value), event_of(&format!("[{value}]"), "\"\"")]
            {
                accepted += usize::from(bounded(name, &text, event::read).is_some());
            }
        }
    }
    assert!(accepted >= 6, "{accepted} accepted");
}

#[test]
fn opening_takes_at_most_four_times_the_gift_wrap() {
    let (me, one_time) = (keys(0x11), keys(0x44));
    let key = conversation_key(&one_time, &me.public_key()).expect("both keys are keys");
    for (name, value) in values(78 * 1024) {
        for plaintext in [event_of(&value, "\"\""), event_of("[]", &value), value.clone()] {
            let content =
                encrypt(&key, plaintext.as_bytes(), &[2; 32], ExtendedLength::Allow).expect("it is short");
            let wrap = one_time.sign_event(1059, START, tags(&me.public_key(), []), content.clone(), [1; 32]);
            let opened = bounded(name, &content, |_| open(&wrap, &me, START, &Limits::default()));
            assert!(opened.is_err());
        }
    }
}

#[test]
fn a_tool_is_hashed_and_pinned_in_bounded_memory() {
    let mut hashed = 0;
    // Values of three bytes and more fill the smaller one, and longer ones the larger one, before there are too many of them.
    for (name, value) in [values(MAX_TOOL / 2), values(MAX_TOOL * 7 / 8), values(MAX_TOOL - 64)].concat() {
        let text = format!(r#"{{"name":"a","inputSchema":{value}}}"#);
        let Ok(tool) = RawValue::from_string(text) else { continue };
        hashed += usize::from(held(&format!("hash: {name}"), || hash_tool(&tool).is_ok()));
        held(&format!("pin: {name}"), || ToolPins::of([&*tool]).is_ok());
    }
    assert!(hashed > 30, "{hashed}");
}

fn held<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (most, result) = peak(work);
    assert!(most <= TOOL_BYTES, "{what}: {most} bytes");
    result
}

/// Returns the most bytes that this thread held at once while it did something, besides what it had before.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    HELD.set((0, 0));
    let result = work();
    (HELD.get().1.unsigned_abs(), result)
}

/// A view of strangers' servers costs what its account says, and no more than its limit.
#[test]
fn a_view_of_servers_takes_what_its_account_says() {
    let limits = DirectoryLimits { bytes: 2 * 1024 * 1024, ..DirectoryLimits::default() };
    let tags = [r#"["x","y"]"#, r#"["cap","tool:a","1","s"]"#, r#"["r","wss://a"]"#, r#"["t","a"]"#];
    let contents = [
        r#"{"protocolVersion":"1"}"#.to_owned(),
        format!(r#"{{"tools":[{}]}}"#, items(8_000, |nth| format!(r#"{{"name":"{}"}}"#, key(nth + 1)))),
        format!(r#"{{"name":"{}"}}"#, "n".repeat(900)),
    ];
    for tag in tags {
        let tags: Vec<Vec<String>> =
            serde_json::from_str(&format!("[{}]", items(3_000, |_| tag.to_owned()))).unwrap();
        let tags = nostr::event::Tags::parse(tags).unwrap();
        for (kinds, content) in
            [([11316, 10002], &contents[0]), ([11317, 10002], &contents[1]), ([0, 10002], &contents[2])]
        {
            let events: Vec<Signed> = (1..=250)
                .flat_map(|number| {
                    let keys = keys(number);
                    kinds.map(|kind| {
                        Signed::verify(keys.sign_event(kind, START, tags.clone(), content.clone(), [1; 32]))
                            .unwrap()
                    })
                })
                .collect();
            HELD.set((0, 0));
            let mut view = Directory::new(limits);
            for event in &events {
                let _ = view.add(event, START);
            }
            let held = HELD.get().0.unsigned_abs();
            assert!(view.bytes() <= limits.bytes);
            assert!(
                held <= view.bytes() * 5 / 4 + 64 * 1024,
                "{tag} {kinds:?}: {held} bytes for {}",
                view.bytes()
            );
        }
    }
}
