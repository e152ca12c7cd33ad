//! Plaintext events with a true id and signature that are wrong nevertheless: kind, audience, age, tags, size.
use contextvm_core::event;
use nostr::event::{Event, Tag, Tags};
use nostr::event::{EventId, Kind};
use nostr::types::Timestamp;

use crate::Cases;
use crate::json::{Members, VALUES, replaced};
use crate::world::Role;

const MALFORMED: &str = "gate malformed";
const MESSAGE: u16 = 25910;
/// Most values in the tags of one event (docs/LIMITS.md).
const TAG_VALUES: usize = 2_048;
/// Largest event, bytes (docs/LIMITS.md).
const EVENT: usize = 128 * 1024;

pub(crate) fn add(cases: &mut Cases<'_>) {
    kinds(cases);
    ages(cases);
    numbers(cases);
    audiences(cases);
    tags(cases);
    sizes(cases);
    keys(cases);
}

fn signed(cases: &Cases<'_>, kind: u16, at: u64, tags: Vec<Tag>) -> Event {
    let tags = Tags::from_list(tags);
    cases.world.author(cases.role).sign_event(kind, at, tags, cases.note(), [9; 32])
}

fn tag(elements: &[&str]) -> Tag {
    Tag::parse(elements.iter().copied()).unwrap()
}

fn to_me(cases: &Cases<'_>) -> Vec<Tag> {
    vec![tag(&["p", &cases.world.address(cases.role)])]
}

fn kinds(cases: &mut Cases<'_>) {
    let near = (0..16).map(|bit| MESSAGE ^ (1 << bit));
    let wraps = (0..16).flat_map(|bit| [1059 ^ (1 << bit), 21059 ^ (1 << bit)]);
    let known = [
        3, 5, 9734, 9735, 10002, 10019, 11316, 11317, 11318, 11319, 11320, 13194, 22242, 23194, 23195, 23196,
        23197, 24133, 30023, 65535,
    ];
    let mut kinds: Vec<u16> =
        near.chain(wraps).chain(0..20).chain(known).chain((20..60).map(|step| step * 1_000)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds.into_iter().filter(|kind| ![MESSAGE, 1059, 21059].contains(kind)) {
        let event = signed(cases, kind, cases.world.now, to_me(cases));
        cases.add(format!("kind/{kind}"), event::print(&event), "gate kind");
    }
    for kind in [1059, 21059] {
        // A gift wrap whose content is no NIP-44 payload.
        let event = signed(cases, kind, cases.world.now, to_me(cases));
        cases.add(format!("kind/{kind}"), event::print(&event), "open encoding");
    }
}

fn ages(cases: &mut Cases<'_>) {
    let now = cases.world.now;
    for seconds in
        [0, 1, 59, 60, 61, 120, 300, 598, 599, 600, 601, 602, 660, 900, 3_600, 86_400, 172_800, 31_536_000]
    {
        let want = if seconds <= 600 { "taken" } else { "gate stale" };
        for (label, at) in [("past", now - seconds), ("future", now + seconds)] {
            let event = signed(cases, MESSAGE, at, to_me(cases));
            cases.add(format!("age/{label}/{seconds}"), event::print(&event), want);
        }
    }
    for (label, at) in [
        ("zero", 0),
        ("one", 1),
        ("i32-max", i32::MAX.unsigned_abs().into()),
        ("u32-max", u32::MAX.into()),
        ("2^53", 1 << 53),
        ("i64-max", i64::MAX.unsigned_abs()),
        ("u64-max", u64::MAX),
        ("milliseconds", now * 1_000),
        ("microseconds", now * 1_000_000),
    ] {
        let event = signed(cases, MESSAGE, at, to_me(cases));
        cases.add(format!("age/{label}"), event::print(&event), "gate stale");
    }
}

/// Numbers that are the right ones in another spelling are none of NIP-01.
fn numbers(cases: &mut Cases<'_>) {
    for name in ["created_at", "kind"] {
        let number = cases.fresh().value(name).to_owned();
        for (label, value) in [
            ("point-zero", format!("{number}.0")),
            ("exponent", format!("{number}e0")),
            ("leading-zero", format!("0{number}")),
            ("plus", format!("+{number}")),
            ("minus", format!("-{number}")),
            ("string", format!("\"{number}\"")),
            ("array", format!("[{number}]")),
            ("hex", "0x6553f100".to_owned()),
            ("fraction", format!("{number}.5")),
            ("underscore", format!("{}_{}", &number[..2], &number[2..])),
            ("arabic", "\u{661}\u{667}".to_owned()),
            ("nan", "NaN".to_owned()),
            ("infinity", "Infinity".to_owned()),
            ("2^64", "18446744073709551616".to_owned()),
            ("long", "1".repeat(200)),
            ("date", "\"2023-11-14T22:13:20Z\"".to_owned()),
        ] {
            let text = cases.fresh().with(name, value).text();
            cases.add(format!("number/{name}/{label}"), text, MALFORMED);
        }
    }
    for number in [65_536_u32, 91_446, 1 << 31, u32::MAX] {
        let text = cases.fresh().with("kind", number.to_string()).text();
        cases.add(format!("number/kind/{number}"), text, MALFORMED);
    }
}

fn audiences(cases: &mut Cases<'_>) {
    let me = cases.world.address(cases.role);
    let other = cases.world.other.public_key().to_hex();
    let lists: Vec<(String, Vec<Tag>, &str)> = vec![
        ("none".into(), vec![], "gate audience"),
        ("other".into(), vec![tag(&["p", &other])], "gate audience"),
        ("me-twice".into(), vec![tag(&["p", &me]), tag(&["p", &me])], "gate audience"),
        ("me-and-other".into(), vec![tag(&["p", &me]), tag(&["p", &other])], "gate audience"),
        ("other-and-me".into(), vec![tag(&["p", &other]), tag(&["p", &me])], "gate audience"),
        ("me-and-empty".into(), vec![tag(&["p", &me]), tag(&["p"])], "gate audience"),
        (
            "me-far-apart".into(),
            vec![tag(&["p", &me]), tag(&["x"]), tag(&["e", &other]), tag(&["p", &me])],
            "gate audience",
        ),
        ("large-p".into(), vec![tag(&["P", &me])], "gate audience"),
        ("large-p-of-other".into(), vec![tag(&["p", &me]), tag(&["P", &other])], "taken"),
        ("p-alone".into(), vec![tag(&["p"])], "gate audience"),
        ("p-empty".into(), vec![tag(&["p", ""])], "gate audience"),
        ("second-value".into(), vec![tag(&["p", "", &me])], "gate audience"),
        ("third-value".into(), vec![tag(&["x", "p", &me])], "gate audience"),
        ("only-e".into(), vec![tag(&["e", &me])], "gate audience"),
        ("only-a".into(), vec![tag(&["a", &format!("11316:{me}:")])], "gate audience"),
        ("name-space".into(), vec![tag(&["p ", &me])], "gate audience"),
        ("name-nul".into(), vec![tag(&["p\0", &me])], "gate audience"),
        ("name-fullwidth".into(), vec![tag(&["\u{ff50}", &me])], "gate audience"),
        ("name-cyrillic".into(), vec![tag(&["\u{440}", &me])], "gate audience"),
        ("name-empty".into(), vec![tag(&["", &me])], "gate audience"),
        ("hint".into(), vec![tag(&["p", &me, "wss://a.example"])], "taken"),
        ("hint-and-name".into(), vec![tag(&["p", &me, "", "petname"])], "taken"),
        ("hint-of-other".into(), vec![tag(&["p", &me, &other])], "taken"),
        ("behind-others".into(), vec![tag(&["x"]), tag(&["client", "y"]), tag(&["p", &me])], "taken"),
        ("space-before".into(), vec![tag(&["p", &format!(" {me}")])], "gate audience"),
        ("space-after".into(), vec![tag(&["p", &format!("{me} ")])], "gate audience"),
        ("newline".into(), vec![tag(&["p", &format!("{me}\n")])], "gate audience"),
        ("nul".into(), vec![tag(&["p", &format!("{me}\0")])], "gate audience"),
        ("zero-width".into(), vec![tag(&["p", &format!("{me}\u{200b}")])], "gate audience"),
        ("0x".into(), vec![tag(&["p", &format!("0x{me}")])], "gate audience"),
        ("nostr-uri".into(), vec![tag(&["p", &format!("nostr:{me}")])], "gate audience"),
        ("doubled".into(), vec![tag(&["p", &me.repeat(2)])], "gate audience"),
        ("upper".into(), vec![tag(&["p", &me.to_uppercase()])], "gate audience"),
        ("reversed".into(), vec![tag(&["p", &me.chars().rev().collect::<String>()])], "gate audience"),
    ];
    for (label, tags, want) in lists {
        let event = signed(cases, MESSAGE, cases.world.now, tags);
        cases.add(format!("audience/{label}"), event::print(&event), want);
    }
    for at in 0..64 {
        let digit = if me[at..=at] == *"0" { "1" } else { "0" };
        let event = signed(cases, MESSAGE, cases.world.now, vec![tag(&["p", &replaced(&me, at, digit)])]);
        cases.add(format!("audience/digit/{at}"), event::print(&event), "gate audience");
        let event = signed(cases, MESSAGE, cases.world.now, vec![tag(&["p", &me[..at]])]);
        cases.add(format!("audience/cut/{at}"), event::print(&event), "gate audience");
    }
    // Every key has more letters than this.
    let letters = (0..64).filter(|at| me.as_bytes()[*at].is_ascii_lowercase()).take(10);
    for (nth, at) in letters.enumerate() {
        let upper = replaced(&me, at, &me[at..=at].to_uppercase());
        let event = signed(cases, MESSAGE, cases.world.now, vec![tag(&["p", &upper])]);
        cases.add(format!("audience/upper/{nth}"), event::print(&event), "gate audience");
    }
}

fn tags(cases: &mut Cases<'_>) {
    let me = cases.world.address(cases.role);
    for (label, value) in VALUES {
        let is_text = value.starts_with('"');
        let text = cases.fresh().with("tags", format!("[[\"p\",\"{me}\"],{value}]")).text();
        cases.add(format!("tags/tag/{label}"), text, MALFORMED);
        for place in 0..3 {
            let mut elements = ["\"x\"", "\"y\"", "\"z\""];
            elements[place] = value;
            let list = format!("[[\"p\",\"{me}\"],[{}]]", elements.join(","));
            // Tags of texts are tags; the id is that of other ones.
            let want = if is_text { "gate id" } else { MALFORMED };
            cases.add(format!("tags/element-{place}/{label}"), cases.fresh().with("tags", list).text(), want);
        }
    }
    for (label, list) in [
        ("object", format!("{{\"p\":\"{me}\"}}")),
        ("flat", format!("[\"p\",\"{me}\"]")),
        ("string", format!("\"[[\\\"p\\\",\\\"{me}\\\"]]\"")),
        ("nested", format!("[[[\"p\",\"{me}\"]]]")),
        ("trailing-comma", format!("[[\"p\",\"{me}\"],]")),
        ("trailing-comma-inside", format!("[[\"p\",\"{me}\",]]")),
        ("no-comma", format!("[[\"p\" \"{me}\"]]")),
        ("lone-surrogate", format!("[[\"p\",\"{me}\"],[\"\\ud800\"]]")),
        ("control", format!("[[\"p\",\"{me}\"],[\"\u{1}\"]]")),
        ("open", format!("[[\"p\",\"{me}\"]")),
    ] {
        cases.add(format!("tags/list/{label}"), cases.fresh().with("tags", list).text(), MALFORMED);
    }
    for (label, tag_text) in [
        ("empty-name", ""),
        ("unknown", "x"),
        ("control", "\u{1}"),
        ("emoji", "😀"),
        ("quote", "\""),
        ("alt", "alt"),
        ("expiration", "expiration"),
    ] {
        let mut all = to_me(cases);
        all.push(tag(&[tag_text, "v"]));
        let event = signed(cases, MESSAGE, cases.world.now, all);
        cases.add(format!("tags/known/{label}"), event::print(&event), "taken");
    }
    // The list, its tags and their elements are values.
    for (label, count, want) in
        [("most", (TAG_VALUES - 4) / 2, "taken"), ("too-many", TAG_VALUES / 2, MALFORMED)]
    {
        let mut all = to_me(cases);
        all.extend((0..count).map(|_| tag(&["x"])));
        let event = signed(cases, MESSAGE, cases.world.now, all);
        cases.add(format!("tags/{label}"), event::print(&event), want);
    }
}

fn sizes(cases: &mut Cases<'_>) {
    let event = |cases: &Cases<'_>, padding: usize| {
        let note = cases.note().replace("\"info\"", &format!("\"{}\"", "x".repeat(padding)));
        event::print(&cases.world.message(cases.role, &[], &note))
    };
    let around = event(cases, 0).len();
    for (label, size, want) in [
        ("60000", 60_000, "taken"),
        ("most", EVENT, "taken"),
        ("one-more", EVENT + 1, "gate too_large"),
        ("130000", 130_000, "taken"),
        ("200000", 200_000, "gate too_large"),
    ] {
        let padding = size - around - (event(cases, 0).len() - around);
        cases.add(format!("size/{label}"), event(cases, padding), want);
    }
    let text = cases.fresh_text();
    let padded = format!("{text}{}", " ".repeat(EVENT - text.len() + 1));
    cases.add("size/spaces", padded, "gate too_large");
}

/// Keys and signatures that no curve has.
fn keys(cases: &mut Cases<'_>) {
    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let field = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f";
    for (label, r, s) in [
        ("s-order", "", order),
        ("s-ones", "", &*"f".repeat(64)),
        ("s-zero", "", &*"0".repeat(64)),
        ("r-field", field, ""),
        ("r-ones", &*"f".repeat(64), ""),
        ("r-zero", &*"0".repeat(64), ""),
    ] {
        let base = cases.fresh();
        let sig = base.value("sig").trim_matches('"').to_owned();
        let (old_r, old_s) = sig.split_at(64);
        let sig = format!("{}{}", if r.is_empty() { old_r } else { r }, if s.is_empty() { old_s } else { s });
        cases.add(
            format!("signature/{label}"),
            base.with("sig", format!("\"{sig}\"")).text(),
            "open signature",
        );
    }
    let base = cases.fresh();
    let sig = base.value("sig").trim_matches('"').to_owned();
    let swapped = format!("{}{}", &sig[64..], &sig[..64]);
    cases.add("signature/swapped", base.with("sig", format!("\"{swapped}\"")).text(), "open signature");
    let foreign = cases.fresh().value("sig").to_owned();
    let number = cases.list.len();
    let event = cases.world.message(cases.role, &[], &format!("{{\"n\":{number}}}"));
    cases.add(
        "signature/of-another",
        Members::of(&event::print(&event)).with("sig", foreign).text(),
        "open signature",
    );
    // An author whose key is no point of the curve, with the id that belongs to it.
    for (label, key) in
        [("not-on-curve", "f".repeat(64)), ("beyond-field", field.to_owned()), ("zero", "0".repeat(64))]
    {
        let tags = Tags::from_list(to_me(cases));
        let note = cases.note();
        let author = nostr::key::PublicKey::from_hex(&key).unwrap();
        let id = EventId::compute(
            &author,
            &Timestamp::from_secs(cases.world.now),
            &Kind::from_u16(MESSAGE),
            &tags,
            &note,
        );
        let base = Members::of(&event::print(&cases.world.message(cases.role, &[], &note)));
        let text =
            base.with("pubkey", format!("\"{key}\"")).with("id", format!("\"{}\"", id.to_hex())).text();
        let want = if cases.role == Role::Server { "open signature" } else { "gate wrong_author" };
        cases.add(format!("author/{label}"), text, want);
    }
    // Somebody else's true event: a caller like any other to a server that asks for no name, nobody to a client.
    let tags = Tags::from_list(to_me(cases));
    let event = cases.world.other.sign_event(MESSAGE, cases.world.now, tags, cases.note(), [9; 32]);
    let want = if cases.role == Role::Server { "drop not_allowed" } else { "gate wrong_author" };
    cases.add("author/other", event::print(&event), want);
}
