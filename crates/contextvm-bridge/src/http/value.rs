//! Values of mirrored headers: plain where HTTP carries them as they are, else base64 between two marks.
use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What stands before and after a base64 value.
const MARKS: (&str, &str) = ("=?base64?", "?=");

/// Returns the header value that stands for a text.
pub(crate) fn encode(text: &str) -> Cow<'_, str> {
    let is_plain = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    if is_plain && text.trim_matches(' ') == text && inside(text).is_none() {
        Cow::Borrowed(text)
    } else {
        Cow::Owned([MARKS.0, &STANDARD.encode(text), MARKS.1].concat())
    }
}

/// Returns the text that a header value stands for; `None` when it is marked as base64 of UTF-8 and is none.
pub(crate) fn decode(value: &str) -> Option<Cow<'_, str>> {
    let value = value.trim_matches([' ', '\t']);
    let Some(coded) = inside(value) else { return Some(Cow::Borrowed(value)) };
    String::from_utf8(STANDARD.decode(coded).ok()?).ok().map(Cow::Owned)
}

fn inside(value: &str) -> Option<&str> {
    value.strip_prefix(MARKS.0)?.strip_suffix(MARKS.1)
}

/// A number exactly as written: the sign, the digits without zeros at either end, and the power of ten of the last one.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, part].concat();
        if whole.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let kept = all.trim_end_matches('0');
        let digits = kept.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits, exponent: 0 });
        }
        let shift = i64::try_from(all.len() - kept.len()).ok()? - i64::try_from(part.len()).ok()?;
        Some(Self { is_negative, digits, exponent: i64::from(exponent) + shift })
    }
}

/// Whether two texts are the same number, `42.0` and `42` for one.
pub(crate) fn is_same_number(one: &str, other: &str) -> bool {
    Decimal::parse(one).is_some_and(|number| Decimal::parse(other) == Some(number))
}

/// Prints a JSON number in decimals if it is an integer of at most 2^53 - 1, else as it was written.
pub(crate) fn print_number(json: &str) -> Cow<'_, str> {
    let Some(number) = Decimal::parse(json) else { return Cow::Borrowed(json) };
    let zeros = match usize::try_from(number.exponent) {
        Ok(zeros @ 0..=16) => zeros,
        Ok(_) | Err(_) => return Cow::Borrowed(json),
    };
    let sign = if number.is_negative { "-" } else { "" };
    let digits = if number.digits.is_empty() { "0" } else { &number.digits };
    let integer = [sign, digits, &"0".repeat(zeros)].concat();
    let is_safe = integer
        .parse::<i64>()
        .is_ok_and(|integer| integer.unsigned_abs() <= contextvm_core::envelope::MAX_SAFE_INTEGER);
    if is_safe { Cow::Owned(integer) } else { Cow::Borrowed(json) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_are_encoded_as_it_says() {
        let table = [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("", ""),
            ("a b", "a b"),
            ("a\tb", "=?base64?YQli?="),
        ];
        for (text, value) in table {
            assert_eq!(encode(text), value);
            assert_eq!(decode(value).as_deref(), Some(text));
        }
    }

    #[test]
    fn only_strict_base64_of_utf8_between_both_marks_is_decoded() {
        let table = [
            ("=?base64?SGVsbG8=?=", Some("Hello")),
            ("\t =?base64?SGVsbG8=?= ", Some("Hello")),
            ("=?base64??=", Some("")),
            ("=?base64?SGVsbG8?=", None),
            ("=?base64?SGVs!!!bG8=?=", None),
            ("=?base64?SGVsbG9=?=", None),
            ("=?base64?/w==?=", None),
            ("SGVsbG8=", Some("SGVsbG8=")),
            ("=?base64?SGVsbG8=", Some("=?base64?SGVsbG8=")),
            ("=?BASE64?SGVsbG8=?=", Some("=?BASE64?SGVsbG8=?=")),
            ("  name  ", Some("name")),
        ];
        for (value, text) in table {
            assert_eq!(decode(value).as_deref(), text, "{value}");
        }
    }

    #[test]
    fn numbers_are_compared_exactly() {
        for (one, other) in [
            ("42", "42.0"),
            ("42", "4.2e1"),
            ("-7", "-70E-1"),
            ("0", "-0.0"),
            ("100", "1e2"),
            ("9007199254740993", "9007199254740993.0"),
        ] {
            assert!(is_same_number(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("42", "43"),
            ("7", "-7"),
            ("9007199254740993", "9007199254740992"),
            ("1", "10"),
            ("", ""),
            ("x", "x"),
            ("1.", ".1"),
            ("1e99999999999", "1e99999999999"),
        ] {
            assert!(!is_same_number(one, other), "{one} {other}");
        }
    }

    #[test]
    fn integers_are_printed_in_decimals() {
        let table = [
            ("42", "42"),
            ("42.0", "42"),
            ("-1.5e1", "-15"),
            ("1e2", "100"),
            ("-0", "0"),
            ("9007199254740991", "9007199254740991"),
            ("9007199254740992", "9007199254740992"),
            ("1e16", "1e16"),
            ("1.5", "1.5"),
            ("1e300", "1e300"),
        ];
        for (json, text) in table {
            assert_eq!(print_number(json), text);
        }
    }
}
