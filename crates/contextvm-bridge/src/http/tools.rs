//! Which arguments of which tools are mirrored into headers: the `x-mcp-header` annotations of tool schemas.
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use contextvm_core::object;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::PARAM_PREFIX;
use super::value::print_number;

/// Most bytes of annotations that are remembered; those of further tools are not learnt.
const REMEMBERED: usize = 4 * 1024 * 1024;
/// The annotation, a keyword of a property's schema.
const ANNOTATION: &str = "x-mcp-header";

/// A header that mirrors one argument of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParamHeader {
    /// Its whole name, in lower case.
    pub(crate) name: String,
    /// The names of the properties that lead to the argument.
    path: Vec<String>,
}

/// What a header says of an argument, before it is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mirrored<'a> {
    pub(crate) text: Cow<'a, str>,
    /// Then every way to write the same number will do.
    pub(crate) is_number: bool,
}

impl ParamHeader {
    /// Returns what the header says of these arguments; `None` when it must not be sent.
    pub(crate) fn value_in<'a>(&self, arguments: Option<&'a RawValue>) -> Option<Mirrored<'a>> {
        let mut value = arguments?;
        for name in &self.path {
            value = object::member(value, name)?;
        }
        let json = value.get();
        match json.as_bytes().first()? {
            b'"' => Some(Mirrored { text: object::string(value)?, is_number: false }),
            b't' | b'f' => Some(Mirrored { text: Cow::Borrowed(json), is_number: false }),
            b'-' | b'0'..=b'9' => Some(Mirrored { text: print_number(json), is_number: true }),
            _ => None,
        }
    }

    fn weight(&self) -> usize {
        self.path.iter().map(|name| name.len() + size_of::<String>()).sum::<usize>()
            + self.name.len()
            + size_of::<Self>()
    }
}

/// Remembers the annotations of one server's tools, learnt from the answers to `tools/list`; at most 4 MiB of them.
#[derive(Debug, Default)]
pub(crate) struct ToolHeaders(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    tools: BTreeMap<String, Arc<[ParamHeader]>>,
    bytes: usize,
}

#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow)]
    tools: Vec<Tool<'a>>,
}

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "inputSchema", default)]
    schema: Option<&'a RawValue>,
}

impl ToolHeaders {
    /// Learns from the result of a `tools/list`. A tool with an invalid annotation counts as one without any.
    pub(crate) fn learn(&self, result: &RawValue) {
        let Ok(listed) = serde_json::from_str::<Listed<'_>>(result.get()) else { return };
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for tool in listed.tools {
            let headers = tool.schema.and_then(annotations).unwrap_or_default();
            remembered.set(tool.name.into_owned(), headers);
        }
    }

    /// Returns the headers that mirror arguments of this tool.
    pub(crate) fn of(&self, tool: &str) -> Arc<[ParamHeader]> {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.tools.get(tool).cloned().unwrap_or_default()
    }
}

impl Remembered {
    fn set(&mut self, tool: String, headers: Vec<ParamHeader>) {
        let weight = |name: &str, headers: &[ParamHeader]| {
            name.len() + headers.iter().map(ParamHeader::weight).sum::<usize>()
        };
        if let Some(old) = self.tools.remove(&tool) {
            self.bytes -= weight(&tool, &old);
        }
        let bytes = self.bytes + weight(&tool, &headers);
        if !headers.is_empty() && bytes <= REMEMBERED {
            self.bytes = bytes;
            self.tools.insert(tool, headers.into());
        }
    }
}

/// Returns the headers that a schema asks for; `None` when one of its annotations is invalid.
fn annotations(schema: &RawValue) -> Option<Vec<ParamHeader>> {
    // A key may be written with escapes.
    if !schema.get().contains(ANNOTATION) && !schema.get().contains("\\u") {
        return Some(Vec::new());
    }
    let mut found = Found::default();
    let mut deserializer = serde_json::Deserializer::from_str(schema.get());
    Walk { found: &mut found, at: At::Schema { is_reachable: true } }.deserialize(&mut deserializer).ok()?;
    let names: BTreeSet<&str> = found.headers.iter().map(|header| header.name.as_str()).collect();
    let is_valid = !found.is_broken && names.len() == found.headers.len();
    is_valid.then_some(found.headers)
}

/// What the walk over a schema found so far.
#[derive(Default)]
struct Found {
    headers: Vec<ParamHeader>,
    path: Vec<String>,
    /// What the headers weigh: every one holds its whole path, so that a long name counts as often as there are headers behind it.
    bytes: usize,
    is_broken: bool,
}

impl Found {
    /// Takes an annotation of the schema of the property at the current path.
    fn take(&mut self, annotation: &RawValue, kind: Option<&RawValue>) {
        let name = object::string(annotation).filter(|name| is_token(name));
        match name {
            Some(name) if !self.path.is_empty() && kind.is_some_and(is_primitive) => {
                self.bytes +=
                    PARAM_PREFIX.len() + name.len() + self.path.iter().map(String::len).sum::<usize>();
                if self.bytes > REMEMBERED {
                    self.is_broken = true;
                    return;
                }
                let name = [PARAM_PREFIX, &name.to_ascii_lowercase()].concat();
                self.headers.push(ParamHeader { name, path: self.path.clone() });
            }
            _ => self.is_broken = true,
        }
    }
}

/// Whether a text may be a part of the name of a header (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// Whether the keyword `type` admits strings, integers and booleans only, and perhaps null.
fn is_primitive(kind: &RawValue) -> bool {
    let kinds: Vec<Cow<'_, str>> = match object::string(kind) {
        Some(kind) => vec![kind],
        None => serde_json::from_str(kind.get()).unwrap_or_default(),
    };
    let is_null = |kind: &str| kind == "null";
    !kinds.iter().all(|kind| is_null(kind))
        && kinds.iter().all(|kind| matches!(kind.as_ref(), "string" | "integer" | "boolean") || is_null(kind))
}

/// Where in a schema the walk is; `is_reachable`: by `properties` alone, so that an annotation is valid there.
#[derive(Clone, Copy)]
enum At {
    Schema { is_reachable: bool },
    Properties { is_reachable: bool },
}

/// Walks once over one value of a schema.
struct Walk<'f> {
    found: &'f mut Found,
    at: At,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Walk<'_> {
    fn schema<'de, A: MapAccess<'de>>(self, mut map: A, is_reachable: bool) -> Result<(), A::Error> {
        let (mut annotation, mut kind): (Option<&RawValue>, Option<&RawValue>) = (None, None);
        while let Some(key) = map.next_key::<Key<'de>>()? {
            let at = match key.0.as_ref() {
                ANNOTATION => {
                    annotation = Some(map.next_value()?);
                    continue;
                }
                "type" => {
                    kind = Some(map.next_value()?);
                    continue;
                }
                // These hold data and no schemas.
                "const" | "default" | "enum" | "examples" => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                "properties" => At::Properties { is_reachable },
                _ => At::Schema { is_reachable: false },
            };
            map.next_value_seed(Walk { found: &mut *self.found, at })?;
        }
        if let Some(annotation) = annotation {
            if is_reachable {
                self.found.take(annotation, kind);
            } else {
                self.found.is_broken = true;
            }
        }
        Ok(())
    }

    fn properties<'de, A: MapAccess<'de>>(self, mut map: A, is_reachable: bool) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key<'de>>()? {
            self.found.path.push(key.0.into_owned());
            map.next_value_seed(Walk { found: &mut *self.found, at: At::Schema { is_reachable } })?;
            self.found.path.pop();
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a schema")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        match self.at {
            At::Schema { is_reachable } => self.schema(map, is_reachable),
            At::Properties { is_reachable } => self.properties(map, is_reachable),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let at = At::Schema { is_reachable: false };
        while seq.next_element_seed(Walk { found: &mut *self.found, at })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn names(schema: &str) -> Option<Vec<String>> {
        let headers = annotations(&raw(schema))?;
        Some(headers.iter().map(|header| format!("{} {}", header.path.join("."), header.name)).collect())
    }

    #[test]
    fn annotations_of_properties_are_found_at_any_depth() {
        let schema = r#"{"type":"object","properties":{
            "a":{"x-mcp-header":"Region","type":"string","default":{"x-mcp-header":1},"enum":[{"x-mcp-header":1}]},
            "x-mcp-header":{"type":"string"},
            "properties":{"type":"object","properties":{"b":{"type":["integer","null"],"\u0078-mcp-header":"N~1"}}},
            "c":{"type":"boolean","x-mcp-header":"c","examples":[true]}},"required":["a"],"n":[1,-1,1.5,null]}"#;
        assert_eq!(
            names(schema).unwrap(),
            ["a mcp-param-region", "properties.b mcp-param-n~1", "c mcp-param-c"]
        );
        assert_eq!(names(r#"{"type":"object","properties":{"a":{"type":"string"}}}"#), Some(Vec::new()));
        assert_eq!(names("true"), Some(Vec::new()));
    }

    /// Every header holds its whole path: a schema of some hundred kilobytes could ask for gigabytes.
    #[test]
    fn a_long_name_above_many_annotations_is_not_copied_for_each() {
        let property = |nth: usize| format!(r#""p{nth}":{{"type":"string","x-mcp-header":"p{nth}"}}"#);
        let below: Vec<_> = (0..5_000).map(property).collect();
        let schema =
            |name: &str| format!(r#"{{"properties":{{"{name}":{{"properties":{{{}}}}}}}}}"#, below.join(","));
        assert_eq!(names(&schema("short")).unwrap().len(), 5_000);
        assert_eq!(names(&schema(&"x".repeat(100_000))), None);
    }

    #[test]
    fn a_schema_with_one_invalid_annotation_has_none() {
        let property = |keywords: &str| {
            format!(r#"{{"properties":{{"ok":{{"type":"string","x-mcp-header":"ok"}},"a":{{{keywords}}}}}}}"#)
        };
        let in_string = r#"{"type":"string","x-mcp-header":"A"}"#;
        let table = [
            property(r#""type":"string","x-mcp-header":"""#),
            property(r#""type":"string","x-mcp-header":7"#),
            property(r#""type":"string","x-mcp-header":"a b""#),
            property(r#""type":"string","x-mcp-header":"a:b""#),
            property(r#""type":"string","x-mcp-header":"ä""#),
            property(r#""type":"string","x-mcp-header":"a\r\nb""#),
            property(r#""type":"string","x-mcp-header":"OK""#),
            property(r#""type":"number","x-mcp-header":"A""#),
            property(r#""type":"object","x-mcp-header":"A""#),
            property(r#""type":["string","array"],"x-mcp-header":"A""#),
            property(r#""type":"null","x-mcp-header":"A""#),
            property(r#""x-mcp-header":"A""#),
            property(&format!(r#""items":{in_string}"#)),
            property(&format!(r#""items":{{"properties":{{"b":{in_string}}}}}"#)),
            property(&format!(r#""oneOf":[{in_string}]"#)),
            property(&format!(r#""if":{in_string}"#)),
            format!(r#"{{"$defs":{{"d":{in_string}}}}}"#),
            r#"{"type":"string","x-mcp-header":"Root"}"#.to_owned(),
        ];
        for schema in table {
            assert_eq!(names(&schema), None, "{schema}");
        }
    }

    #[test]
    fn what_a_later_list_says_of_a_tool_takes_the_place_of_what_an_earlier_one_said() {
        let tools = ToolHeaders::default();
        let list = |tool: &str, schema: &str| {
            raw(&format!(
                r#"{{"tools":[{{"name":"{tool}","inputSchema":{{"properties":{{"a":{schema}}}}}}}]}}"#
            ))
        };
        let annotated = r#"{"type":"string","x-mcp-header":"A"}"#;
        tools.learn(&list("one", annotated));
        tools.learn(&list("two", annotated));
        assert_eq!(tools.of("one").len(), 1);
        tools.learn(&list("one", r#"{"type":"string"}"#));
        assert_eq!((tools.of("one").len(), tools.of("two").len(), tools.of("three").len()), (0, 1, 0));
        tools.learn(&raw(r#"{"tools":7}"#));
        tools.learn(&list("two", "{}"));
        let remembered = tools.0.lock().unwrap();
        assert_eq!((remembered.tools.len(), remembered.bytes), (0, 0));
    }

    #[test]
    fn memory_for_annotations_is_bounded() {
        let tools = ToolHeaders::default();
        for nth in 0..100 {
            let name = format!("{nth}{}", "x".repeat(100_000));
            tools.learn(&raw(&format!(
                r#"{{"tools":[{{"name":"{name}","inputSchema":{{"properties":{{"a":{{"type":"string","x-mcp-header":"A"}}}}}}}}]}}"#
            )));
        }
        let remembered = tools.0.lock().unwrap();
        assert!(remembered.bytes <= REMEMBERED && remembered.tools.len() > 30);
    }

    #[test]
    fn only_primitive_values_are_mirrored() {
        let header =
            ParamHeader { name: "mcp-param-a".to_owned(), path: vec!["o".to_owned(), "a".to_owned()] };
        let table = [
            (r#"{"o":{"a":"\u0041 b"}}"#, Some("A b")),
            (r#"{"o":{"a":""}}"#, Some("")),
            (r#"{"o":{"a":true}}"#, Some("true")),
            (r#"{"o":{"a":-7.0}}"#, Some("-7")),
            (r#"{"o":{"a":null}}"#, None),
            (r#"{"o":{"a":[1]}}"#, None),
            (r#"{"o":{"a":{}}}"#, None),
            (r#"{"o":7}"#, None),
            (r#"{}"#, None),
        ];
        for (arguments, expected) in table {
            let arguments = raw(arguments);
            let value = header.value_in(Some(&arguments));
            assert_eq!(value.as_ref().map(|value| value.text.as_ref()), expected, "{arguments}");
        }
        assert_eq!(header.value_in(None), None);
    }
}
