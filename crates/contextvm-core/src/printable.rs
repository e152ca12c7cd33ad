//! Foreign text made safe for terminals and logs.
use core::fmt::{self, Write};

/// Shows a text with everything escaped that moves a cursor, hides, reorders or ends a line.
///
/// Escaped are control characters, bidirectional marks, zero-width and other invisible characters, line and paragraph
/// separators, and the backslash itself, so that the output can be read back without doubt.
///
/// ```
/// use contextvm_core::Printable;
/// assert_eq!(Printable("a\nb\u{202e}c").to_string(), r"a\nb\u{202e}c");
/// assert_eq!(Printable::short("a long name", 6).to_string(), "a long…");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Printable<'a>(pub &'a str);

impl<'a> Printable<'a> {
    /// Shows at most this many characters of the text (escaped ones count once), then an ellipsis.
    #[must_use]
    pub const fn short(text: &'a str, max_chars: usize) -> Short<'a> {
        Short { text, max_chars }
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| write_char(out, c))
    }
}

/// The beginning of a text, shown as [`Printable`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short<'a> {
    text: &'a str,
    max_chars: usize,
}

impl fmt::Display for Short<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.text.chars();
        chars.by_ref().take(self.max_chars).try_for_each(|c| write_char(out, c))?;
        if chars.next().is_some() { out.write_char('…') } else { Ok(()) }
    }
}

fn write_char(out: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '\\' => out.write_str("\\\\"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        _ if is_hidden(c) => write!(out, "\\u{{{:x}}}", u32::from(c)),
        _ => out.write_char(c),
    }
}

/// Whether a character does something else than show itself.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    #[test]
    fn what_moves_hides_or_reorders_is_escaped() {
        let table = [
            ("plain é 漢 😀 ~", "plain é 漢 😀 ~"),
            ("a\r\n\tb\\n", r"a\r\n\tb\\n"),
            ("\u{0}\u{1b}[31m\u{7f}\u{9b}", r"\u{0}\u{1b}[31m\u{7f}\u{9b}"),
            ("\u{202e}\u{2066}\u{200f}\u{61c}", r"\u{202e}\u{2066}\u{200f}\u{61c}"),
            ("\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}", r"\u{200b}\u{200d}\u{2060}\u{feff}\u{ad}"),
            ("\u{2028}\u{2029}\u{85}", r"\u{2028}\u{2029}\u{85}"),
            ("\u{e0041}\u{fe0f}\u{3164}", r"\u{e0041}\u{fe0f}\u{3164}"),
        ];
        for (text, expected) in table {
            assert_eq!(format!("{}", Printable(text)), expected);
        }
    }

    #[test]
    fn every_control_and_separator_is_hidden() {
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let text = String::from(c);
            let shown = format!("{}", Printable(&text));
            if c.is_control() || (c.is_whitespace() && "\u{2028}\u{2029}\u{85}".contains(c)) {
                assert!(shown.starts_with('\\') && shown.is_ascii(), "{shown}");
            }
        }
    }

    #[test]
    fn a_short_text_has_an_ellipsis_only_when_something_is_left_out() {
        assert_eq!(format!("{}", Printable::short("abc", 3)), "abc");
        assert_eq!(format!("{}", Printable::short("abcd", 3)), "abc…");
        assert_eq!(format!("{}", Printable::short("\n😀x", 2)), "\\n😀…");
        assert_eq!(format!("{}", Printable::short("a", 0)), "…");
        assert_eq!(format!("{}", Printable::short("", 0)), "");
    }
}
