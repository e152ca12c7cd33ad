//! What a tool returned, shown to a person: flat objects as a table, texts as they are, everything else in one line.
use serde_json::Value;

use crate::bar::size;
use crate::output::Out;
use crate::problem::Problem;

/// One block of content: of a resource, what is in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    pub(super) kind: &'a str,
    pub(super) text: Option<&'a str>,
    /// Bytes as base64.
    pub(super) data: Option<&'a str>,
    pub(super) mime: Option<&'a str>,
    pub(super) uri: Option<&'a str>,
}

impl<'a> Block<'a> {
    /// Reads all blocks of a result.
    pub(super) fn all(result: &'a Value) -> Vec<Self> {
        let content = result.get("content").and_then(Value::as_array);
        content.into_iter().flatten().map(Self::read).collect()
    }

    fn read(block: &'a Value) -> Self {
        let kind = block.get("type").and_then(Value::as_str).unwrap_or("?");
        let inner = block.get("resource").unwrap_or(block);
        let member = |name| inner.get(name).and_then(Value::as_str);
        let data = member("data").or_else(|| member("blob"));
        Self { kind, text: member("text"), data, mime: member("mimeType"), uri: member("uri") }
    }

    /// Says in one line what cannot be shown.
    fn summary(&self) -> String {
        let mut said = format!("[{}", self.kind);
        for part in [self.uri, self.mime].into_iter().flatten() {
            said.push_str(&format!(" {part}"));
        }
        match self.data {
            Some(data) => {
                said.push_str(&format!(", {}; --save DIR writes it to a file]", size(decoded(data))))
            }
            None if self.uri.is_some() => said.push(']'),
            None => said.push_str("; --json shows it]"),
        }
        said
    }
}

/// How many bytes a base64 text stands for.
fn decoded(data: &str) -> u64 {
    let padding = data.bytes().rev().take(2).filter(|byte| *byte == b'=').count();
    u64::try_from((data.len() / 4 * 3).saturating_sub(padding)).unwrap_or(u64::MAX)
}

/// Shows a result; `heard` is what the tool has written before, which is not said twice, and `saved` tells whether what is
/// in a block was written to a file.
pub(super) fn show(result: &Value, heard: Option<&str>, saved: bool, out: &mut Out) -> Result<(), Problem> {
    let blocks = Block::all(result);
    let structured = result.get("structuredContent");
    let flat = |object: &&serde_json::Map<String, Value>| {
        !object.is_empty() && object.values().all(|value| !value.is_object() && !value.is_array())
    };
    let table = structured.and_then(Value::as_object).filter(flat);
    let said = heard.is_some_and(|heard| repeats(heard, &blocks, structured.is_some()));
    let mut shown = said;
    if let Some(object) = table.filter(|_| !said) {
        let width = object.keys().map(|key| key.chars().count()).max().unwrap_or(0).min(40);
        for (key, value) in object {
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            out.foreign(&format!("{key:width$}  {value}"))?;
        }
        shown = true;
    }
    for block in &blocks {
        match block.text {
            // A table stands for the texts beside it.
            Some(_) if said || table.is_some() => {}
            Some(text) => out.foreign(text)?,
            None if saved && block.data.is_some() => {}
            None => out.foreign(&block.summary())?,
        }
        shown = true;
    }
    match structured {
        Some(structured) if !shown => out.foreign(&structured.to_string()),
        Some(_) | None => Ok(()),
    }
}

/// Whether the texts of a result say nothing that was not heard before.
fn repeats(heard: &str, blocks: &[Block<'_>], structured: bool) -> bool {
    let texts: Vec<&str> = blocks.iter().filter_map(|block| block.text).collect();
    let same = |between: &str| texts.join(between).trim_end() == heard.trim_end();
    if texts.is_empty() { !structured } else { same("") || same("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(texts: &[&str]) -> Value {
        json!({ "content": texts.iter().map(|text| json!({ "type": "text", "text": text })).collect::<Vec<_>>() })
    }

    #[test]
    fn a_result_repeats_what_was_heard_if_its_texts_do() {
        for (heard, result, repeated) in [
            ("a\nb\n", texts(&["a\nb"]), true),
            ("a\nb", texts(&["a", "b"]), true),
            ("ab", texts(&["a", "b"]), true),
            ("ab", texts(&["a", "c"]), false),
            ("ab", texts(&["2 letters"]), false),
            ("ab", texts(&[]), true),
            ("", texts(&["a"]), false),
        ] {
            assert_eq!(repeats(heard, &Block::all(&result), false), repeated, "{heard:?} {result}");
        }
        assert!(!repeats("ab", &[], true), "only a structured result remains");
    }

    #[test]
    fn what_cannot_be_shown_is_summed_up() {
        let result = json!({ "content": [
            { "type": "image", "data": "AAAA", "mimeType": "image/png" },
            { "type": "audio", "data": "AA==" },
            { "type": "resource", "resource": { "uri": "file:///a.bin", "blob": "AAA=", "mimeType": "x/y" } },
            { "type": "resource_link", "uri": "file:///b", "name": "b" },
            { "type": "strange" },
        ] });
        let said: Vec<String> = Block::all(&result).iter().map(Block::summary).collect();
        assert_eq!(
            said,
            [
                "[image image/png, 3 B; --save DIR writes it to a file]",
                "[audio, 1 B; --save DIR writes it to a file]",
                "[resource file:///a.bin x/y, 2 B; --save DIR writes it to a file]",
                "[resource_link file:///b]",
                "[strange; --json shows it]",
            ]
        );
        let text = json!({ "content": [{ "type": "resource", "resource": { "uri": "file:///a", "text": "in it" } }] });
        assert_eq!(Block::all(&text).first().and_then(|block| block.text), Some("in it"));
    }
}
