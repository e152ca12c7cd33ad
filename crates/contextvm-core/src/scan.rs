//! The budgeted scan: one pass over JSON text that refuses what costs too much or reads two ways.
//!
//! It runs before any other parser sees a foreign text. It does not recurse, and what it holds is eight bytes per key of the
//! objects that are open and twelve per open container: with the old half of a growing list, about three times the text.
mod error;

use alloc::vec::Vec;

pub use self::error::ScanError;
use crate::Limits;
use crate::text::{Unescaped, plain_run, same_text_order};

/// Most JSON values in a text that was put together from several events (it may have one per eight bytes).
pub const ASSEMBLED_NODES: usize = 1_000_000;

/// What the scan counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Values of any type, the outermost included; keys are not values.
    pub nodes: usize,
    /// Deepest nesting of objects and arrays.
    pub depth: usize,
}

/// Checks that a text is one JSON value, within budget, and that all parsers read it alike.
///
/// A text up to `limits.event` bytes may hold `limits.json_nodes` values; a longer one (put together from several events)
/// one per eight bytes, at most [`ASSEMBLED_NODES`].
///
/// # Errors
/// Returns the first thing that is wrong, in order of the text; a duplicate key is found at the end of its object.
///
/// ```
/// use contextvm_core::{Limits, scan::{self, ScanError}};
/// let limits = Limits::default();
/// assert_eq!(scan::check(r#"{"a":[1,2]}"#, &limits).map(|scan| scan.nodes), Ok(4));
/// assert_eq!(scan::check(r#"{"a":1,"\u0061":2}"#, &limits), Err(ScanError::DuplicateKey { at: 17 }));
/// ```
pub fn check(text: &str, limits: &Limits) -> Result<Scan, ScanError> {
    let limit = limits.child_line.max(limits.event).min(u32::MAX as usize);
    if text.len() > limit {
        return Err(ScanError::TooLong { bytes: text.len(), limit });
    }
    if text.starts_with('\u{feff}') {
        return Err(ScanError::ByteOrderMark);
    }
    let mut scanner = Scanner {
        text,
        bytes: text.as_bytes(),
        at: 0,
        open: Vec::with_capacity(8),
        keys: Vec::with_capacity(16),
        scan: Scan::default(),
        max_depth: limits.json_depth,
        max_nodes: max_nodes(text.len(), limits),
        max_number: limits.json_number,
    };
    scanner.run()?;
    Ok(scanner.scan)
}

/// Most values that a text of this length may hold.
fn max_nodes(bytes: usize, limits: &Limits) -> usize {
    if bytes <= limits.event {
        limits.json_nodes
    } else {
        (bytes / 8).max(limits.json_nodes).min(ASSEMBLED_NODES.max(limits.json_nodes))
    }
}

/// One object key: offsets of its text between the quotes. `u32` because texts are shorter than 4 GiB.
#[derive(Clone, Copy)]
struct Key {
    start: u32,
    len: u32,
}

/// A container that is not closed yet.
#[derive(Clone, Copy)]
enum Open {
    Array,
    /// Its keys are those from this index on.
    Object {
        keys_from: u32,
        escaped: bool,
    },
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    CommaOrEnd,
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    open: Vec<Open>,
    keys: Vec<Key>,
    scan: Scan,
    max_depth: usize,
    max_nodes: usize,
    max_number: usize,
}

impl Scanner<'_> {
    fn run(&mut self) -> Result<(), ScanError> {
        let mut next = Next::Value;
        loop {
            self.skip_whitespace();
            if next == Next::CommaOrEnd && self.open.is_empty() {
                break;
            }
            next = match next {
                Next::Value => self.value()?,
                Next::ValueOrEnd => {
                    if self.take(b']') {
                        self.close()?
                    } else {
                        self.value()?
                    }
                }
                Next::Key => self.key()?,
                Next::KeyOrEnd => {
                    if self.take(b'}') {
                        self.close()?
                    } else {
                        self.key()?
                    }
                }
                Next::CommaOrEnd => self.comma_or_end()?,
            };
        }
        if self.at < self.bytes.len() {
            return Err(ScanError::Trailing { at: self.at });
        }
        Ok(())
    }

    fn value(&mut self) -> Result<Next, ScanError> {
        self.scan.nodes += 1;
        if self.scan.nodes > self.max_nodes {
            return Err(ScanError::Nodes { at: self.at, limit: self.max_nodes });
        }
        match self.peek() {
            Some(b'{') => {
                let keys_from = u32::try_from(self.keys.len()).map_err(|_| self.syntax())?;
                self.enter(Open::Object { keys_from, escaped: false })?;
                Ok(Next::KeyOrEnd)
            }
            Some(b'[') => {
                self.enter(Open::Array)?;
                Ok(Next::ValueOrEnd)
            }
            Some(b'"') => {
                self.string()?;
                Ok(Next::CommaOrEnd)
            }
            Some(b'-' | b'0'..=b'9') => {
                self.number()?;
                Ok(Next::CommaOrEnd)
            }
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(_) => Err(self.syntax()),
            None => Err(ScanError::Truncated),
        }
    }

    fn enter(&mut self, open: Open) -> Result<(), ScanError> {
        if self.open.len() >= self.max_depth {
            return Err(ScanError::Depth { at: self.at, limit: self.max_depth });
        }
        self.open.push(open);
        self.scan.depth = self.scan.depth.max(self.open.len());
        self.at += 1;
        Ok(())
    }

    fn comma_or_end(&mut self) -> Result<Next, ScanError> {
        let object = matches!(self.open.last(), Some(Open::Object { .. }));
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(if object { Next::Key } else { Next::Value })
            }
            Some(b'}') if object => {
                self.at += 1;
                self.close()
            }
            Some(b']') if !object => {
                self.at += 1;
                self.close()
            }
            Some(_) => Err(self.syntax()),
            None => Err(ScanError::Truncated),
        }
    }

    /// Leaves the innermost container, whose closing bracket was just taken.
    fn close(&mut self) -> Result<Next, ScanError> {
        if let Some(Open::Object { keys_from, escaped }) = self.open.pop() {
            let from = keys_from as usize;
            let text = self.text;
            let keys = self.keys.get_mut(from..).unwrap_or_default();
            if has_twins(text, keys, escaped) {
                return Err(ScanError::DuplicateKey { at: self.at - 1 });
            }
            self.keys.truncate(from);
        }
        Ok(Next::CommaOrEnd)
    }

    fn key(&mut self) -> Result<Next, ScanError> {
        match self.peek() {
            Some(b'"') => {}
            Some(_) => return Err(self.syntax()),
            None => return Err(ScanError::Truncated),
        }
        let start = self.at + 1;
        let has_escape = self.string()?;
        let len = self.at - 1 - start;
        let (Ok(start), Ok(len)) = (u32::try_from(start), u32::try_from(len)) else {
            return Err(self.syntax());
        };
        self.keys.push(Key { start, len });
        if has_escape && let Some(Open::Object { escaped, .. }) = self.open.last_mut() {
            *escaped = true;
        }
        self.skip_whitespace();
        match self.peek() {
            Some(b':') => {
                self.at += 1;
                Ok(Next::Value)
            }
            Some(_) => Err(self.syntax()),
            None => Err(ScanError::Truncated),
        }
    }

    /// Takes a string, quotes included, and says whether it holds an escape.
    fn string(&mut self) -> Result<bool, ScanError> {
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += plain_run(self.rest());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(ScanError::ControlCharacter { at: self.at }),
                None => return Err(ScanError::Truncated),
            }
        }
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        let at = self.at;
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match self.unit(at)? {
                0xD800..=0xDBFF => match self.bytes.get(at + 6..at + 8) {
                    Some(b"\\u") => match self.unit(at + 6)? {
                        0xDC00..=0xDFFF => {
                            self.at += 12;
                            Ok(())
                        }
                        _ => Err(ScanError::LoneSurrogate { at }),
                    },
                    _ => Err(ScanError::LoneSurrogate { at }),
                },
                0xDC00..=0xDFFF => Err(ScanError::LoneSurrogate { at }),
                _ => {
                    self.at += 6;
                    Ok(())
                }
            },
            Some(_) => Err(ScanError::Syntax { at: at + 1 }),
            None => Err(ScanError::Truncated),
        }
    }

    /// Reads the four digits of the `\uXXXX` that starts at `at`.
    fn unit(&self, at: usize) -> Result<u32, ScanError> {
        let mut unit = 0;
        for at in at + 2..at + 6 {
            let Some(&byte) = self.bytes.get(at) else {
                return Err(ScanError::Truncated);
            };
            let Some(digit) = char::from(byte).to_digit(16) else {
                return Err(ScanError::Syntax { at });
            };
            unit = unit * 16 + digit;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        let exponent = self.take(b'e') || self.take(b'E');
        if exponent {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        let length = self.at - start;
        if length > self.max_number {
            return Err(ScanError::NumberLength { at: start, length, limit: self.max_number });
        }
        // Without an exponent a double holds every number of up to 308 digits.
        if exponent || length > 308 {
            let finite = self.text.get(start..self.at).and_then(|number| number.parse::<f64>().ok());
            if !finite.is_some_and(f64::is_finite) {
                return Err(ScanError::NumberRange { at: start });
            }
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        match (count, self.peek()) {
            (0, None) => Err(ScanError::Truncated),
            (0, Some(_)) => Err(self.syntax()),
            _ => Ok(()),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<Next, ScanError> {
        let rest = self.rest();
        if rest.starts_with(word) {
            self.at += word.len();
            Ok(Next::CommaOrEnd)
        } else if word.starts_with(rest) {
            Err(ScanError::Truncated)
        } else {
            Err(self.syntax())
        }
    }

    fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    const fn syntax(&self) -> ScanError {
        ScanError::Syntax { at: self.at }
    }
}

/// Whether two of the keys are the same text. Sorts more than a few: `n log n` comparisons, no allocation.
fn has_twins(text: &str, keys: &mut [Key], escaped: bool) -> bool {
    if keys.len() < 2 {
        return false;
    }
    let spelled = |key: &Key| {
        let start = key.start as usize;
        text.get(start..start + key.len as usize).unwrap_or_default()
    };
    if keys.len() <= 8 && !escaped {
        let mut rest = &*keys;
        while let Some((key, others)) = rest.split_first() {
            if others.iter().any(|other| other.len == key.len && spelled(other) == spelled(key)) {
                return true;
            }
            rest = others;
        }
        return false;
    }
    if escaped {
        keys.sort_unstable_by(|a, b| same_text_order(spelled(a), spelled(b)));
        keys.windows(2).any(|pair| match pair {
            [a, b] => Unescaped::new(spelled(a)).eq(Unescaped::new(spelled(b))),
            _ => false,
        })
    } else {
        // Length first: most keys differ in it. Byte order would do as well.
        keys.sort_unstable_by(|a, b| a.len.cmp(&b.len).then_with(|| spelled(a).cmp(spelled(b))));
        keys.windows(2).any(|pair| match pair {
            [a, b] => spelled(a) == spelled(b),
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests;
