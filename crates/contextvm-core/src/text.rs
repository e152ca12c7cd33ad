//! JSON strings, character by character: unescaping without a copy, and quoting.
use alloc::string::String;
use core::cmp::Ordering;
use core::fmt::Write;
use core::str::Chars;

/// The characters that the inside of a JSON string stands for.
///
/// Made for text that the scan has accepted; anything else yields some characters and ends.
#[derive(Clone, Debug)]
pub(crate) struct Unescaped<'a> {
    rest: Chars<'a>,
}

impl<'a> Unescaped<'a> {
    pub(crate) fn new(inside: &'a str) -> Self {
        Self { rest: inside.chars() }
    }

    fn unit(&mut self) -> Option<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            unit = unit * 16 + self.rest.next()?.to_digit(16)?;
        }
        Some(unit)
    }
}

impl Iterator for Unescaped<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let first = self.rest.next()?;
        if first != '\\' {
            return Some(first);
        }
        match self.rest.next()? {
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'u' => {
                let high = self.unit()?;
                if !(0xD800..0xDC00).contains(&high) {
                    return char::from_u32(high);
                }
                self.rest.next()?;
                self.rest.next()?;
                let low = self.unit()?.checked_sub(0xDC00)?;
                char::from_u32(0x10000 + ((high - 0xD800) << 10) + low)
            }
            other => Some(other),
        }
    }
}

/// Whether a text is so many hex digits as NIP-01 writes them: lowercase. The parsers of nostr take capitals, and leave out
/// what follows the last digit that they need.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// Orders two insides of JSON strings by what they stand for.
pub(crate) fn same_text_order(a: &str, b: &str) -> Ordering {
    Unescaped::new(a).cmp(Unescaped::new(b))
}

/// Finds the name that a key resembles without being it: equal when letter case is ignored, as Go's parser does.
pub(crate) fn resembled(key: &str, names: &[&'static str]) -> Option<&'static str> {
    let folded = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => c.to_ascii_lowercase(),
    };
    let resembles = |name: &str| key != name && key.chars().map(folded).eq(name.chars().map(folded));
    names.iter().copied().find(|name| resembles(name))
}

/// Counts the bytes before the first quote, backslash or control character, eight at a time.
pub(crate) fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut count = 0;
    let mut rest = bytes;
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = has_zero(word ^ (ONES * u64::from(b'"')));
        let backslash = has_zero(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let stop = quote | backslash | control;
        if stop != 0 {
            // The lowest flagged byte is exact; a borrow can only flag bytes above it.
            return count + (stop.trailing_zeros() / 8) as usize;
        }
        count += 8;
        rest = tail;
    }
    count + rest.iter().take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\').count()
}

/// Appends a JSON string, quotes included; escapes only what must be escaped.
pub(crate) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        let (plain, from) = rest.split_at_checked(plain_run(rest.as_bytes())).unwrap_or((rest, ""));
        out.push_str(plain);
        let mut special = from.chars();
        match special.next() {
            None => break,
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\u{c}') => out.push_str("\\f"),
            Some(control) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
        }
        rest = special.as_str();
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_escaped_string_stands_for_its_characters() {
        let all = r#"a\"\\\/\b\f\n\r\t\u0041\uD83D\uDE00é"#;
        let read: String = Unescaped::new(all).collect();
        assert_eq!(read, "a\"\\/\u{8}\u{c}\n\r\tA😀é");
    }

    #[test]
    fn text_that_the_scan_would_refuse_ends_without_a_panic() {
        for bad in [r"\", r"\u", r"\u12", r"\uD800", r"\uD800\u", r"\uD800\u0041", r"\uDC00"] {
            assert_eq!(Unescaped::new(bad).next(), None, "{bad}");
        }
    }

    #[test]
    fn a_key_in_another_case_resembles_a_name_and_the_name_itself_does_not() {
        let names = ["params", "_meta", "link"];
        for (key, name) in
            [("Params", "params"), ("param\u{17f}", "params"), ("_META", "_meta"), ("lin\u{212a}", "link")]
        {
            assert_eq!(resembled(key, &names), Some(name), "{key}");
        }
        for key in ["params", "_meta", "param", "params ", "arguments", ""] {
            assert_eq!(resembled(key, &names), None, "{key}");
        }
    }

    #[test]
    fn quoting_agrees_with_serde_json() {
        let mut every: String = (0..0x80u8).map(char::from).collect();
        every.push_str("é😀\u{2028}\u{feff}");
        let mut quoted = String::new();
        push_quoted(&mut quoted, &every);
        assert_eq!(quoted, serde_json::to_string(&every).unwrap());
        assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), every.to_string());
    }

    #[test]
    fn a_plain_run_ends_at_every_special_byte_in_every_place() {
        for len in 0..40 {
            for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
                for fill in [b'a', b' ', 0x21, 0x7f, 0x80, 0xff, b'#', b']'] {
                    let mut bytes = alloc::vec![fill; len];
                    bytes.push(special);
                    bytes.extend([special, fill, b'"', 0, fill, fill, fill, fill]);
                    assert_eq!(plain_run(&bytes), len, "{special} after {len} of {fill}");
                }
            }
        }
        assert_eq!(plain_run(&[b'a'; 19]), 19);
    }
}
