//! Names that pretend to be another server's (T72).
use contextvm_announce::{Lookalikes, shown_name, skeleton};
use contextvm_core::Printable;
use nostr::key::PublicKey;

const NAMES: [&str; 20] = [
    "Weather",
    "Demo weather",
    "paypal",
    "GitHub Search",
    "OpenAI",
    "Bitcoin wallet",
    "file-server",
    "Translate",
    "Calculator",
    "Mempool",
    "contextvm relay",
    "Code review",
    "image tools",
    "Filesystem",
    "Postgres",
    "Slack",
    "Browser use",
    "sequential thinking",
    "Maps",
    "Notes 2025",
];

/// Characters that show nothing or turn the direction of writing.
const HIDDEN: [char; 12] = [
    '\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{ad}', '\u{202e}', '\u{202d}', '\u{2066}',
    '\u{2069}', '\u{200e}', '\u{61c}',
];

fn key(n: u8) -> PublicKey {
    PublicKey::from_byte_array([n; 32])
}

fn known() -> Lookalikes {
    let mut known = Lookalikes::default();
    for (n, name) in (1..).zip(NAMES) {
        known.know(key(n), name);
    }
    known
}

/// Every single character that looks like this one (UTS 39).
fn confusables(c: char) -> Vec<char> {
    let wanted: String = unicode_security::skeleton(&c.to_string()).collect();
    let all = (0x80..0x1_fbff).filter_map(char::from_u32);
    all.filter(|other| unicode_security::skeleton(&other.to_string()).eq(wanted.chars())).collect()
}

#[test]
fn a_thousand_confusable_names_are_flagged() {
    let known = known();
    let mut tried = 0;
    let mut replacements = std::collections::BTreeMap::new();
    for (n, name) in (1..).zip(NAMES) {
        for (at, c) in name.char_indices() {
            let (before, after) = name.split_at(at);
            let rest = &after[c.len_utf8()..];
            let alike = replacements.entry(c).or_insert_with(|| confusables(c));
            let replaced = alike.iter().take(4).map(|other| format!("{before}{other}{rest}"));
            let hidden = HIDDEN.iter().skip(at % 6).step_by(3).map(|other| format!("{before}{other}{after}"));
            for fake in replaced.chain(hidden) {
                assert_ne!(fake, name);
                let found = known.of(&key(200), &fake);
                assert!(
                    found.is_some_and(|found| *found.key == key(n)),
                    "{} for {name}: {found:?}",
                    Printable(&fake)
                );
                tried += 1;
            }
        }
    }
    assert!(tried >= 1_000, "{tried}");
}

#[test]
fn well_known_tricks_are_flagged() {
    let known = known();
    let tricks = [
        ("раураl", "paypal"),
        ("paypaI", "paypal"),
        ("PAYPAL", "paypal"),
        ("Ｗｅａｔｈｅｒ", "Weather"),
        ("𝐖𝐞𝐚𝐭𝐡𝐞𝐫", "Weather"),
        ("GitHub  Search ", "GitHub Search"),
        ("GitHubSearch", "GitHub Search"),
        ("GitHub\u{a0}Search", "GitHub Search"),
        ("0penAl", "OpenAI"),
        ("Mernpool", "Mempool"),
        ("Notes 2O25", "Notes 2025"),
        ("\u{202e}Slack\u{202c}", "Slack"),
    ];
    for (fake, name) in tricks {
        let found = known.of(&key(200), fake);
        assert!(found.is_some_and(|found| found.name == name), "{fake} {found:?} {}", skeleton(fake));
    }
}

#[test]
fn a_crowd_of_one_name_is_told_apart_from_its_own_keys_only() {
    let mut known = Lookalikes::default();
    for n in 0..200 {
        known.know(key(n), if n % 2 == 0 { "Weather" } else { "weather" });
        known.know(key(n), "Weather");
    }
    for n in [0, 1, 199, 250] {
        let found = known.of(&key(n), "Weather").unwrap();
        assert!(found.same && *found.key != key(n));
    }
    assert!(known.of(&key(0), "WEATHER").is_some_and(|found| !found.same && *found.key != key(0)));
    assert!(skeleton(&"\u{fdfa}".repeat(64)).chars().count() <= 256, "a form is bounded too");
    let mut alone = Lookalikes::default();
    (0..9).for_each(|_| alone.know(key(1), "Weather"));
    assert_eq!(alone.of(&key(1), "weather"), None);
}

#[test]
fn honest_names_are_not_flagged() {
    let known = known();
    let honest = [
        "Leather",
        "Weather 2",
        "pay",
        "GitLab Search",
        "Open",
        "Bitcoin",
        "file",
        "Translator",
        "Maps2",
        "",
        "\u{200b}",
        "Погода",
        "天気",
        "Wetter",
        "Notes 2026",
        "Calculus",
        "Code reviews",
        "relay",
    ];
    for name in honest {
        assert_eq!(known.of(&key(200), name), None, "{name}");
    }
    for (n, name) in (1..).zip(NAMES) {
        assert_eq!(known.of(&key(n), name), None, "its own name is not another's");
        assert!(known.of(&key(200), name).is_some_and(|found| found.same));
    }
}

#[test]
fn a_shown_name_is_short_visible_and_stays_as_it_is() {
    let marks = format!("a{}", "\u{301}".repeat(10_000));
    let table: &[(&str, &str)] = &[
        ("  a \t\n b\u{2028}", "a b"),
        ("e\u{301}", "é"),
        ("a\u{202e}b\u{200b}\u{0}\u{1b}[31m", "ab[31m"),
        ("\u{3164}\u{2800}\u{fe0f}", ""),
        (&"x".repeat(100), &"x".repeat(64)),
        (&format!("{} y", "x".repeat(63)), &"x".repeat(63)),
        ("漢字 😀", "漢字 😀"),
    ];
    for (name, shown) in table {
        assert_eq!(&shown_name(name), shown);
        assert_eq!(&shown_name(shown), shown);
    }
    assert!(shown_name(&marks).chars().count() <= 64);
    for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
        let shown = shown_name(&c.to_string());
        assert!(shown.chars().count() <= 64);
        if !shown.contains('\\') {
            assert_eq!(Printable(&shown).to_string(), shown, "{:x}", u32::from(c));
        }
    }
}
