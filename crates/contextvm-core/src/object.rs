//! JSON objects as ordered slices of their text: looked into, edited and printed without a tree.
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::Fault;
use crate::text::{plain_run, push_quoted};

/// Why a text is not an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The text is another JSON value, or not JSON.
    #[error("not a json object")]
    NotAnObject,
}

impl ObjectError {
    /// Says who misbehaved: whoever wrote the text.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// The members of a JSON object in the order of the text. Keys are unescaped, values are slices of the text.
///
/// It neither recurses nor copies (a key with an escape apart), but it takes forty bytes per member and does not look into
/// the values: foreign text goes through [`scan::check`](crate::scan::check) first.
#[derive(Clone, Debug, Default)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Parses one object.
    ///
    /// # Errors
    /// Refuses text that is not exactly one JSON object.
    pub fn parse(text: &'a str) -> Result<Self, ObjectError> {
        let mut members = Vec::new();
        visit(text, |key, value| members.push((key, value)))?;
        Ok(Self { members })
    }

    /// Returns the value of the first member with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.members.iter().find(|member| member.0 == key).map(|member| member.1)
    }

    /// Lists the members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.members.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// Returns how many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Starts an edit of this object.
    #[must_use]
    pub fn into_edit(self) -> Edit<'a> {
        let members = self.members.into_iter();
        Edit { members: members.map(|(key, value)| (key, Cow::Borrowed(value.get()))).collect() }
    }

    /// Prints the object: members in order, values as they were written, no whitespace between them.
    #[must_use]
    pub fn to_text(&self) -> String {
        print(self.members.iter().map(|(key, value)| (key.as_ref(), value.get())))
    }
}

/// An object under change. Values that are not touched keep their text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit<'a> {
    members: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Edit<'a> {
    /// Makes an empty object.
    #[must_use]
    pub const fn new() -> Self {
        Self { members: Vec::new() }
    }

    /// Returns the JSON text of a member.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.members.iter().find(|member| member.0 == key).map(|member| member.1.as_ref())
    }

    /// Sets a member to a JSON text, in its old place or at the end. The text must be one JSON value; it is not checked.
    pub fn set(&mut self, key: impl Into<Cow<'a, str>>, json: impl Into<Cow<'a, str>>) -> &mut Self {
        let (key, json) = (key.into(), json.into());
        match self.members.iter_mut().find(|member| member.0 == key) {
            Some(member) => member.1 = json,
            None => self.members.push((key, json)),
        }
        self
    }

    /// Sets a member to a string.
    pub fn set_string(&mut self, key: impl Into<Cow<'a, str>>, value: &str) -> &mut Self {
        self.set(key, quote(value))
    }

    /// Removes every member with this key and says whether there was one.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.members.len();
        self.members.retain(|member| member.0 != key);
        self.members.len() != before
    }

    /// Prints the object.
    #[must_use]
    pub fn to_text(&self) -> String {
        print(self.members.iter().map(|(key, value)| (key.as_ref(), value.as_ref())))
    }
}

/// Returns the value of one member of an object; `None` also when the text is no object.
#[must_use]
pub fn member<'a>(object: &'a RawValue, key: &str) -> Option<&'a RawValue> {
    let mut found = None;
    visit(object.get(), |name, value| {
        if found.is_none() && name == key {
            found = Some(value);
        }
    })
    .ok()?;
    found
}

/// Returns what a JSON string stands for; `None` when the value is not a string.
#[must_use]
pub fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let inside = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        serde_json::from_str(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

/// Prints a JSON string; escapes only what must be escaped.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_quoted(&mut out, text);
    out
}

/// Strips the whitespace between JSON tokens and touches nothing inside strings.
///
/// What comes out of valid JSON is one line: valid JSON has no raw line breaks inside strings.
///
/// ```
/// assert_eq!(contextvm_core::object::compact("{ \"a b\" :\n[ 1.0 ] }"), r#"{"a b":[1.0]}"#);
/// ```
#[must_use]
pub fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.bytes().position(|byte| byte == b'"' || is_space(char::from(byte))) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        rest = if from.starts_with('"') {
            let (string, after) = from.split_at(string_end(from));
            out.push_str(string);
            after
        } else {
            from.trim_start_matches(is_space)
        };
    }
    out.push_str(rest);
    out
}

/// Whether a character may stand between JSON tokens.
pub(crate) const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\n' | '\r' | '\t')
}

/// Length of the string, quotes included, that `text` starts with; all of the text when it is not closed.
fn string_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        at += plain_run(bytes.get(at..).unwrap_or_default());
        match bytes.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return text.len(),
        }
    }
}

pub(crate) fn print<'b>(members: impl Iterator<Item = (&'b str, &'b str)> + Clone) -> String {
    let size: usize = members.clone().map(|(key, value)| key.len() + value.len() + 4).sum();
    let mut out = Printer::new(size + 2);
    for (key, value) in members {
        out.json(key, value);
    }
    out.finish()
}

/// Prints an object, one member after the other.
pub(crate) struct Printer(String);

impl Printer {
    /// Starts with room for so many bytes.
    pub(crate) fn new(size: usize) -> Self {
        let mut out = String::with_capacity(size);
        out.push('{');
        Self(out)
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        push_quoted(&mut self.0, key);
        self.0.push(':');
    }

    pub(crate) fn json(&mut self, key: &str, json: &str) -> &mut Self {
        self.key(key);
        self.0.push_str(json);
        self
    }

    pub(crate) fn raw(&mut self, key: &str, value: Option<&RawValue>) -> &mut Self {
        match value {
            Some(value) => self.json(key, value.get()),
            None => self,
        }
    }

    pub(crate) fn string(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        push_quoted(&mut self.0, value);
        self
    }

    pub(crate) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Walks over the members of exactly one object. Looks at the first letter itself: serde would quote a string in full in its
/// error.
pub(crate) fn visit<'a>(
    text: &'a str,
    each: impl FnMut(Cow<'a, str>, &'a RawValue),
) -> Result<(), ObjectError> {
    if !text.trim_start_matches(is_space).starts_with('{') {
        return Err(ObjectError::NotAnObject);
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer
        .deserialize_map(Members(each))
        .and_then(|()| deserializer.end())
        .map_err(|_| ObjectError::NotAnObject)
}

/// A key, borrowed when it holds no escape.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<F>(F);

impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            (self.0)(key, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;

    #[test]
    fn only_one_object_is_an_object() {
        for text in ["", "[]", "7", "null", "{", "{} {}", "{\"a\"}", "\"{}\""] {
            assert_eq!(Object::parse(text).err(), Some(ObjectError::NotAnObject), "{text}");
        }
        assert_eq!(ObjectError::NotAnObject.fault(), Fault::Peer);
    }

    #[test]
    fn order_and_number_forms_survive() {
        let text = r#"{"z":1.0,"a":-0,"m":1e2,"big":9007199254740993,"s":"\u0041\/","n":{"b":1, "a":2}}"#;
        let object = Object::parse(text).unwrap();
        assert_eq!(object.to_text(), text);
        assert_eq!(object.len(), 6);
        assert!(!object.is_empty());
        assert_eq!(object.get("a").map(RawValue::get), Some("-0"));
        assert_eq!(object.get("x").map(RawValue::get), None);
        assert_eq!(object.into_edit().to_text(), text);
    }

    #[test]
    fn an_edit_changes_what_it_names_and_nothing_else() {
        let object = Object::parse(r#"{ "a" : 1.0 , "b\n" : [ 1 ] }"#).unwrap();
        let mut edit = object.into_edit();
        edit.set("a", "2").set_string("c", "\"");
        assert_eq!(edit.to_text(), r#"{"a":2,"b\n":[ 1 ],"c":"\""}"#);
        assert!(edit.remove("b\n"));
        assert!(!edit.remove("b\n"));
        assert_eq!(edit.get("c"), Some(r#""\"""#));
        assert_eq!(Edit::new().to_text(), "{}");
    }

    #[test]
    fn members_and_strings_are_found_by_what_they_stand_for() {
        let raw: Box<RawValue> = RawValue::from_string(r#"{"\u0061":"\u0062"}"#.into()).unwrap();
        let found = member(&raw, "a").unwrap();
        assert_eq!(string(found).as_deref(), Some("b"));
        assert_eq!(string(&raw), None);
        assert!(member(found, "a").is_none());
    }

    #[test]
    fn compact_text_is_one_line_and_strings_keep_their_whitespace() {
        let table = [
            (" \r\n\t", ""),
            ("{\n\"a b\" :\r\n\"\\\" c\\\\\" , \"d\": [ 1 ,\t2 ] }\n", r#"{"a b":"\" c\\","d":[1,2]}"#),
            ("\"open \\", "\"open \\"),
            ("\"é \u{2028}\" ", "\"é \u{2028}\""),
        ];
        for (text, expected) in table {
            assert_eq!(compact(text), expected);
        }
    }
}
