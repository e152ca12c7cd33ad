//! JSON that is wrong in one place: members of objects, and letters of texts.
use contextvm_core::object::{Object, quote};
use serde_json::value::RawValue;

/// Values of every type, each with a name.
pub(crate) const VALUES: [(&str, &str); 19] = [
    ("null", "null"),
    ("true", "true"),
    ("false", "false"),
    ("zero", "0"),
    ("one", "1"),
    ("minus-one", "-1"),
    ("fraction", "1.5"),
    ("whole-double", "1.0"),
    ("exponent", "1e2"),
    ("beyond-2^53", "9007199254740993"),
    ("beyond-2^64", "18446744073709551616"),
    ("empty-string", "\"\""),
    ("string", "\"text\""),
    ("digit-string", "\"1\""),
    ("empty-array", "[]"),
    ("array-of-null", "[null]"),
    ("array-of-array", "[[]]"),
    ("empty-object", "{}"),
    ("object", "{\"a\":1}"),
];

/// An object as its members are written: keys with their quotes, values as JSON.
#[derive(Clone, Debug)]
pub(crate) struct Members(Vec<(String, String)>);

impl Members {
    /// Takes an object apart.
    pub(crate) fn of(json: &str) -> Self {
        let object = Object::parse(json).unwrap();
        Self(object.iter().map(|(key, value)| (quote(key), RawValue::get(value).to_owned())).collect())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(key, _)| key.trim_matches('"').to_owned()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn value(&self, name: &str) -> &str {
        &self.0.iter().find(|(key, _)| *key == quote(name)).unwrap().1
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(key, _)| *key != quote(name));
        self
    }

    /// Gives a member, which is there, another value.
    pub(crate) fn with(mut self, name: &str, json: impl Into<String>) -> Self {
        self.0.iter_mut().find(|(key, _)| *key == quote(name)).unwrap().1 = json.into();
        self
    }

    /// Writes a key, which is there, in another way; `key` comes with its quotes.
    pub(crate) fn respelt(mut self, name: &str, key: impl Into<String>) -> Self {
        self.0.iter_mut().find(|(key, _)| *key == quote(name)).unwrap().0 = key.into();
        self
    }

    /// Puts a member at a place, whether or not there is one of its name; `key` comes with its quotes.
    pub(crate) fn insert(mut self, at: usize, key: impl Into<String>, json: impl Into<String>) -> Self {
        self.0.insert(at, (key.into(), json.into()));
        self
    }

    pub(crate) fn push(self, key: &str, json: impl Into<String>) -> Self {
        let at = self.0.len();
        self.insert(at, quote(key), json)
    }

    pub(crate) fn rotated(mut self, by: usize) -> Self {
        self.0.rotate_left(by);
        self
    }

    pub(crate) fn reversed(mut self) -> Self {
        self.0.reverse();
        self
    }

    pub(crate) fn swapped(mut self, a: usize, b: usize) -> Self {
        self.0.swap(a, b);
        self
    }

    pub(crate) fn text(&self) -> String {
        self.text_with("{", ":", ",", "}")
    }

    /// Prints with other marks around and between, such as white space.
    pub(crate) fn text_with(&self, open: &str, colon: &str, comma: &str, close: &str) -> String {
        let members: Vec<_> = self.0.iter().map(|(key, value)| format!("{key}{colon}{value}")).collect();
        format!("{open}{}{close}", members.join(comma))
    }
}

/// Writes a key with its first letter as an escape: the same text in JSON.
pub(crate) fn escaped(name: &str) -> String {
    let first = name.chars().next().unwrap();
    format!("\"\\u{:04x}{}\"", u32::from(first), &name[first.len_utf8()..])
}

/// Flips one bit of lowercase hex.
pub(crate) fn flipped(hex: &str, bit: usize) -> String {
    let at = bit / 4;
    let digit = u8::from_str_radix(&hex[at..=at], 16).unwrap() ^ (1 << (bit % 4));
    format!("{}{digit:x}{}", &hex[..at], &hex[at + 1..])
}

/// Replaces the character at a byte.
pub(crate) fn replaced(text: &str, at: usize, by: &str) -> String {
    let width = text[at..].chars().next().unwrap().len_utf8();
    format!("{}{by}{}", &text[..at], &text[at + width..])
}

/// Returns where the marks of JSON stand: braces, brackets, colons, commas and the quotes around strings.
pub(crate) fn marks(json: &str) -> Vec<usize> {
    let mut marks = Vec::new();
    let (mut inside, mut skip) = (false, false);
    for (at, byte) in json.bytes().enumerate() {
        if skip {
            skip = false;
        } else if inside && byte == b'\\' {
            skip = true;
        } else if byte == b'"' {
            inside = !inside;
            marks.push(at);
        } else if !inside && b"{}[]:,".contains(&byte) {
            marks.push(at);
        }
    }
    marks
}

/// Returns the text without the character at a byte.
pub(crate) fn without(text: &str, at: usize) -> String {
    replaced(text, at, "")
}

/// Returns texts that are no JSON although one mark is all that is wrong, each with a name.
pub(crate) fn broken(json: &str) -> Vec<(String, String)> {
    let mut list = Vec::new();
    for at in marks(json) {
        let mark = &json[at..=at];
        list.push((format!("mark-missing/{at}"), without(json, at)));
        if mark != "\"" {
            list.push((format!("mark-twice/{at}"), replaced(json, at, &mark.repeat(2))));
        }
        let wrong = match mark {
            "\"" => "'",
            "{" => "[",
            "}" => "]",
            "[" => "{",
            "]" => "}",
            ":" => "=",
            _ => ";",
        };
        list.push((format!("mark-wrong/{at}"), replaced(json, at, wrong)));
    }
    list
}
