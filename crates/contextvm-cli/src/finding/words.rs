//! Short words for keys, ages and times.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contextvm::announce::{Origin, shown_name};
use contextvm::core::Printable;
use nostr::key::PublicKey;

use crate::keys::npub;

/// Returns the Unix second of now.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Shows a key by its first and last eight characters behind `npub1`.
pub(crate) fn short_npub(key: &PublicKey) -> String {
    let whole = npub(key);
    match (whole.get(..13), whole.get(whole.len().saturating_sub(8)..)) {
        (Some(head), Some(tail)) => format!("{head}...{tail}"),
        (_, _) => whole,
    }
}

/// Names where a part of the view came from.
pub(crate) const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Announced => "announced",
        Origin::Direct => "direct",
    }
}

/// Shows a stranger's name, or a dash for none.
pub(crate) fn name_of(name: Option<&str>) -> String {
    match name.map(shown_name).filter(|name| !name.is_empty()) {
        Some(name) => Printable(&name).to_string(),
        None => "-".to_owned(),
    }
}

/// Shows how long ago a Unix second was, in its largest unit.
pub(crate) fn age(then: u64, now: u64) -> String {
    let Some(seconds) = now.checked_sub(then) else { return "now".to_owned() };
    match seconds {
        0..60 => "now".to_owned(),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        86_400..31_536_000 => format!("{} d", seconds / 86_400),
        _ => format!("{} y", seconds / 31_536_000),
    }
}

/// Shows how long ago something was, as part of a sentence.
pub(crate) fn ago(then: u64, now: u64) -> String {
    match age(then, now).as_str() {
        "now" => "less than a minute ago".to_owned(),
        age => format!("{age} ago"),
    }
}

/// Returns whole milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Shows a count with its noun.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_shown_in_one_unit() {
        for (seconds, shown) in [
            (0, "now"),
            (59, "now"),
            (60, "1 min"),
            (3_599, "59 min"),
            (7_200, "2 h"),
            (86_400 * 9, "9 d"),
            (86_400 * 800, "2 y"),
        ] {
            assert_eq!(age(1_000_000_000 - seconds, 1_000_000_000), shown);
        }
        assert_eq!(age(5, 4), "now");
        assert_eq!(ago(4, 4), "less than a minute ago");
        assert_eq!(ago(0, 7_200), "2 h ago");
    }

    #[test]
    fn a_short_key_shows_eight_characters_of_both_ends() {
        let hex = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";
        assert_eq!(short_npub(&PublicKey::from_hex(hex).unwrap()), "npub10elfcs4f...8qzvjptg");
    }

    #[test]
    fn strangers_names_are_short_and_harmless() {
        assert_eq!(name_of(None), "-");
        assert_eq!(name_of(Some("  ")), "-");
        assert_eq!(name_of(Some("a\u{1b}[2J\u{202e}b")), "a[2Jb");
        assert_eq!(name_of(Some(&"x".repeat(100))).chars().count(), 64);
    }
}
