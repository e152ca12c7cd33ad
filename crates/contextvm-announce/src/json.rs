//! JSON as JavaScript's `JSON.parse` sees it: a bounded tree that is printed canonically (RFC 8785).
//!
//! Numbers are doubles, and of two members with one key the last counts. serde_json reads doubles exactly because
//! serde_json_canonicalizer asks for its feature `float_roundtrip`.
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bitcoin_hashes::sha256;
use contextvm_core::{Limits, ScanError, scan};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// Largest text of one tool or one schema that is looked into, bytes.
pub const MAX_TOOL: usize = 256 * 1024;

/// A JSON value. Members have no order: the canonical form sorts them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Tree>),
    Object(BTreeMap<String, Tree>),
}

impl Tree {
    /// Reads a text as JavaScript does: of two members with one key the last counts.
    ///
    /// # Errors
    /// Refuses what the budgeted scan refuses, a duplicate key excepted. Behind one the scan does not look; what is wrong
    /// there is reported as that duplicate key.
    pub(crate) fn read(text: &str) -> Result<Self, ScanError> {
        let limits = limits();
        match scan::check(text, &limits) {
            Ok(_) => Self::parse(text, usize::MAX).ok_or(ScanError::Truncated),
            Err(twin @ ScanError::DuplicateKey { .. }) => Self::parse(text, limits.json_nodes).ok_or(twin),
            Err(error) => Err(error),
        }
    }

    /// Reads a text that all parsers read alike.
    ///
    /// # Errors
    /// Refuses what the budgeted scan refuses.
    pub(crate) fn read_plain(text: &str) -> Result<Self, ScanError> {
        scan::check(text, &limits())?;
        Self::parse(text, usize::MAX).ok_or(ScanError::Truncated)
    }

    fn parse(text: &str, mut nodes: usize) -> Option<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let tree = Budget(&mut nodes).deserialize(&mut deserializer).ok()?;
        deserializer.end().ok()?;
        Some(tree)
    }

    /// Prints the canonical form.
    ///
    /// # Errors
    /// Refuses numbers that are not finite, which no text that was read holds.
    pub(crate) fn canonical(&self) -> Result<String, ScanError> {
        serde_json_canonicalizer::to_string(self).map_err(|_| ScanError::NumberRange { at: 0 })
    }
}

/// The limits of one tool.
fn limits() -> Limits {
    Limits { child_line: MAX_TOOL, ..Limits::default() }
}

/// Hashes a text with SHA-256.
pub(crate) fn sha256(text: &str) -> [u8; 32] {
    sha256::Hash::hash(text.as_bytes()).to_byte_array()
}

/// Prints a hash as 64 lowercase hex digits.
pub(crate) fn print_hex(hash: &[u8; 32], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    hash.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// Reads 64 lowercase hex digits: the only spelling that a relay finds by tag.
pub(crate) fn read_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |hex: &u8| match hex {
        b'0'..=b'9' => Some(hex - b'0'),
        b'a'..=b'f' => Some(hex - b'a' + 10),
        _ => None,
    };
    let mut hash = [0; 32];
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    if pairs.len() != hash.len() {
        return None;
    }
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(hash)
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => serializer.serialize_f64(*value),
            Self::String(value) => serializer.serialize_str(value),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(members) => serializer.collect_map(members),
        }
    }
}

/// Reads one value and counts it.
struct Budget<'a>(&'a mut usize);

impl<'de> DeserializeSeed<'de> for Budget<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        *self.0 = self.0.checked_sub(1).ok_or_else(|| D::Error::custom("too many values"))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Budget<'_> {
    type Value = Tree;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a json value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::String(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Budget(&mut *self.0))? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            members.insert(key, map.next_value_seed(Budget(&mut *self.0))?);
        }
        Ok(Tree::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn canonical(text: &str) -> Result<String, ScanError> {
        Tree::read(text)?.canonical()
    }

    #[test]
    fn values_are_printed_as_javascript_prints_them() {
        let table = [
            ("-0", "0"),
            ("-0.0e5", "0"),
            ("1.0", "1"),
            ("1e21", "1e+21"),
            ("123456789012345680000", "123456789012345680000"),
            ("1e-7", "1e-7"),
            ("0.000001", "0.000001"),
            ("9007199254740993", "9007199254740992"),
            ("18446744073709551615", "18446744073709552000"),
            ("-9223372036854775809", "-9223372036854776000"),
            ("5e-324", "5e-324"),
            ("1e-400", "0"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            (" [ true , null ] ", "[true,null]"),
            (r#"{"\uffff":1,"😀":2,"z":3,"":4}"#, "{\"\":4,\"z\":3,\"😀\":2,\"\u{ffff}\":1}"),
            (r#""\u0000\u001f\b\u007f\/\u2028é""#, "\"\\u0000\\u001f\\b\u{7f}/\u{2028}é\""),
        ];
        for (text, expected) in table {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn of_two_members_with_one_key_the_last_counts() {
        assert_eq!(canonical(r#"{"a":1,"b":2,"\u0061":3}"#).as_deref(), Ok(r#"{"a":3,"b":2}"#));
        assert_eq!(Tree::read_plain(r#"{"a":1,"a":2}"#).err(), Some(ScanError::DuplicateKey { at: 12 }));
        let many = format!(r#"{{"a":1,"a":[{}0]}}"#, "0,".repeat(Limits::default().json_nodes));
        assert!(matches!(canonical(&many), Err(ScanError::Nodes { .. })));
        let behind = format!(r#"[{{"a":1,"a":2}},[{}0]]"#, "0,".repeat(Limits::default().json_nodes));
        assert_eq!(canonical(&behind), Err(ScanError::DuplicateKey { at: 13 }));
        assert!(matches!(canonical(r#"[{"a":1,"a":2},1e999]"#), Err(ScanError::DuplicateKey { .. })));
    }

    #[test]
    fn what_costs_too_much_or_reads_two_ways_is_refused() {
        assert_eq!(canonical("1e999"), Err(ScanError::NumberRange { at: 0 }));
        assert_eq!(canonical(r#""\ud800""#), Err(ScanError::LoneSurrogate { at: 1 }));
        assert!(matches!(canonical(&"[".repeat(65)), Err(ScanError::Depth { .. })));
        assert!(matches!(canonical(&" ".repeat(MAX_TOOL + 1)), Err(ScanError::TooLong { .. })));
    }

    #[test]
    fn only_64_lowercase_digits_are_a_hash() {
        let hash = sha256("");
        let text = format!("{}", Hex(hash));
        assert_eq!(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(read_hex(&text), Some(hash));
        for bad in ["", &text[1..], &text[2..], &format!("{text}00"), &text.to_uppercase(), &"é".repeat(32)]
        {
            assert_eq!(read_hex(bad), None, "{bad}");
        }
    }

    struct Hex([u8; 32]);

    impl fmt::Display for Hex {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            print_hex(&self.0, out)
        }
    }
}
