//! Targets of small readers and printers: shown text, lines of a stream, and the names and keys that people type.
use contextvm_core::line::{Line, Lines};
use contextvm_core::{Printable, ServerIdentity};
use contextvm_crypto::Keys;

use crate::bytes::Bytes;
use crate::seeds::{Seed, texts};

/// Texts that are shown: nothing in them moves a cursor, hides or reorders, and they can be read back.
pub fn printable(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let shown = Printable(text).to_string();
    assert!(!shown.chars().any(is_harmful), "{shown:?}");
    assert_eq!(unescaped(&shown).as_deref(), Some(text), "{shown}");
    let most = data.len() % 8;
    let short = Printable::short(text, most).to_string();
    let (kept, is_cut) = match short.strip_suffix('…') {
        Some(kept) if text.chars().count() > most => (kept, true),
        _ => (short.as_str(), false),
    };
    let expected: String = text.chars().take(most).collect();
    assert_eq!(unescaped(kept), Some(expected));
    assert_eq!(is_cut, text.chars().count() > most);
}

/// What no terminal and no log may be given, from Unicode 17 and not from ours: controls (Cc), separators of lines and
/// paragraphs (Zl, Zp), and Default_Ignorable_Code_Point of DerivedCoreProperties.txt; besides these what is blank, and the
/// marks of annotations.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0x2028 | 0x2029
            | 0xad | 0x34f | 0x61c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f
            | 0x202a..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfff8
            | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff
            | 0x2800 | 0xfff9..=0xfffb)
}

fn unescaped(shown: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = shown.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '\\' => '\\',
                'u' => {
                    let hex: String = chars.by_ref().take_while(|c| *c != '}').collect();
                    char::from_u32(u32::from_str_radix(hex.strip_prefix('{')?, 16).ok()?)?
                }
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

/// Lines in chunks of any length: the same lines as when all is there at once, and never more held than allowed.
pub fn line(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (limit, cut) = (bytes.below(64), 1 + bytes.below(16));
    let stream = bytes.0;
    let mut lines = Lines::new(limit);
    let mut found = Vec::new();
    for chunk in stream.chunks(cut) {
        let mut rest = chunk;
        while !rest.is_empty() {
            assert!(lines.held_after(rest) <= limit, "no more is held than allowed");
            let (used, line) = lines.take(rest);
            assert!(used > 0 && used <= rest.len());
            found.extend(line);
            rest = &rest[used..];
        }
    }
    found.extend(lines.finish());
    assert_eq!(lines.finish(), None);
    assert_eq!(found, expected(stream, limit));
}

fn expected(stream: &[u8], limit: usize) -> Vec<Line> {
    let mut parts: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
    if parts.last().is_some_and(|last| last.is_empty()) {
        parts.pop();
    }
    let count = |bytes: &[u8]| u64::try_from(bytes.len()).expect("it is small");
    let line = |part: &[u8]| {
        if part.len() > limit {
            return Line::TooLong(count(part));
        }
        let part = part.strip_suffix(b"\r").unwrap_or(part);
        match core::str::from_utf8(part) {
            Ok(text) => Line::Text(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned()),
            Err(_) => Line::NotUtf8(count(part)),
        }
    };
    parts.into_iter().map(line).collect()
}

/// Names of servers and secret keys as people type them: what is read prints to what reads alike; no secret is shown.
pub fn identity(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    if let Ok(server) = text.parse::<ServerIdentity>() {
        let printed = server.to_string();
        let again: ServerIdentity = printed.parse().expect("a printed name is a name");
        assert_eq!(again.key, server.key);
        assert_eq!(again.to_string(), printed);
        assert_eq!(server.key.to_hex().parse::<ServerIdentity>(), Ok(server.key.into()));
    }
    match Keys::parse(text) {
        Ok(keys) => {
            let nsec = keys.to_nsec();
            let again = Keys::parse(&nsec).expect("a printed key is a key");
            assert_eq!(again.public_key(), keys.public_key());
            assert!(nsec.parse::<ServerIdentity>().is_err(), "a secret is no name");
            let derived =
                keys.derive(text.get(..4).unwrap_or("a")).expect("it has an identity for every label");
            assert_ne!(derived.public_key(), keys.public_key());
            assert!(!format!("{keys:?}").contains(text.trim()), "no secret is shown");
        }
        Err(error) => {
            let shown = error.to_string();
            let typed = text.trim();
            let is_key = typed.len() >= 16 && typed.bytes().all(|byte| byte.is_ascii_alphanumeric());
            assert!(!is_key || !shown.contains(typed), "what was typed is not shown");
        }
    }
}

/// The inputs of the three.
pub(crate) fn seeds() -> Vec<Seed> {
    let shown = texts(
        "printable",
        &[
            ("plain", "plain é 漢 😀 ~"),
            ("escapes", "a\r\n\tb\\n\\u{41}"),
            ("controls", "\u{0}\u{1b}[31m\u{7f}\u{9b}"),
            ("directions", "\u{202e}\u{2066}\u{200f}\u{61c}"),
            ("invisible", "\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}\u{e0041}"),
            (
                "ignorable",
                "\u{34f}\u{115f}\u{17b4}\u{180f}\u{3164}\u{ffa0}\u{fff8}\u{1bca0}\u{1d173}\u{2800}",
            ),
            ("ellipsis", "……………………"),
            ("separators", "\u{2028}\u{2029}\u{85}"),
        ],
    );
    let stream =
        |name, limit: u8, cut: u8, stream: &[u8]| ("line", name, [&[limit, cut][..], stream].concat());
    let lines = vec![
        stream("lines", 40, 3, b"{}\r\n\n{\"a\":1}\nhalf"),
        stream("mark", 40, 0, b"\xef\xbb\xbf{}\n\xef\xbb\xbf\xef\xbb\xbf"),
        stream("too_long", 5, 1, b"123456\n12345\n1234567890"),
        stream("not_utf8", 20, 4, b"\xff\xfe\n{}\n\xc3\n"),
        stream("returns", 3, 0, b"\r\r\n\r\n12\r\n123\r\n"),
        stream("nothing", 0, 0, b"\n\na\n"),
    ];
    let key = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";
    let names = texts(
        "identity",
        &[
            ("hex", key),
            ("hex_long", &format!("{key}{key}")),
            ("npub", "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"),
            ("uri", " NOSTR:npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg "),
            (
                "nprofile",
                "nprofile1qqsrhuxx8l9ex335q7he0f09aej04zpazpl0ne2cgukyawd24mayt8gpp4mhxue69uhhytnc9e3k7mgpz4mhxue69uhkg6nzv9ejuumpv34kytnrdaksjlyr9p",
            ),
            (
                "naddr",
                "naddr1qqxnzd3exgersv33xymnsve3qgs8suecw4luyht9ekff89x4uacneapk8r5dyk0gmn6uwwurf6u9rusrqsqqqa282m3gxt",
            ),
            ("nsec", "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5"),
            ("nsec_upper", "NSEC1VL029MGPSPEDVA04G90VLTKH6FVH240ZQTV9K0T9AF8935KE9LAQSNLFE5"),
            ("zero", &"0".repeat(64)),
            ("order", "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"),
            ("nothing", " nostr: "),
        ],
    );
    [shown, lines, names].concat()
}
