//! Which of a server's tools are common, and how their list says so.
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use contextvm_core::object::{self, Object, compact};
use contextvm_core::{Limits, scan};
use nostr::event::Tag;
use serde_json::value::RawValue;

use super::{COMMON_SCHEMA, SCHEMA_HASH, SchemaError, SchemaHash, claimed, hash, hash_tool, short};

/// The tools that a server offers under a common schema. Nothing is common by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommonSchemas {
    tools: BTreeMap<String, Option<Literal>>,
    categories: Vec<String>,
}

/// Schemas as their author wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Literal {
    input: String,
    output: Option<String>,
    hash: SchemaHash,
}

/// A list of tools that says which of them are common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotated {
    /// The result of `tools/list`; what was not changed is written as it was.
    pub text: String,
    /// An `i` tag for each common tool in order of the list, then one `k` and the `t` tags; empty when none of the common tools
    /// is listed. Where no tool is common at all, the `t` tags alone.
    pub tags: Vec<Tag>,
    /// What its owner should know.
    pub notes: Vec<SchemaNote>,
}

/// Something about a common tool that its owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaNote {
    /// The tool claimed another hash than it has; the claim was replaced.
    Replaced {
        /// The tool's name.
        tool: String,
        /// What it claimed, at most 64 characters of it.
        claimed: String,
        /// What it has and now says.
        computed: SchemaHash,
    },
    /// The tool has no hash, so it is not common.
    Refused {
        /// The tool's name.
        tool: String,
        /// Why not.
        error: SchemaError,
    },
}

impl CommonSchemas {
    /// Offers a tool under the schemas that it is listed with.
    #[must_use]
    pub fn with_tool(mut self, name: impl Into<String>) -> Self {
        self.tools.entry(name.into()).or_default();
        self
    }

    /// Offers a tool under literal schemas, which replace the generated ones in the list: generators add members that
    /// count, such as `$schema` and `additionalProperties`, so that tools alike would not hash alike.
    ///
    /// The two texts are all there is: without an output schema the tool is listed without one.
    ///
    /// # Errors
    /// Refuses texts that are not JSON objects or have no hash.
    pub fn with_literal(
        mut self,
        name: impl Into<String>,
        input: &str,
        output: Option<&str>,
    ) -> Result<Self, SchemaError> {
        let name = name.into();
        let (input, output) = (schema(input)?, output.map(schema).transpose()?);
        let hash = hash(&name, input, output)?;
        let (input, output) = (compact(input.get()), output.map(|output| compact(output.get())));
        self.tools.insert(name, Some(Literal { input, output, hash }));
        Ok(self)
    }

    /// Adds a category; blanks around it and repetitions do not count.
    #[must_use]
    pub fn with_category(mut self, category: &str) -> Self {
        let category = category.trim();
        if !category.is_empty() && !self.categories.iter().any(|known| known == category) {
            self.categories.push(category.into());
        }
        self
    }

    /// Whether there is nothing to say: no common tool and no category.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty() && self.categories.is_empty()
    }

    /// Lists the names of the common tools.
    pub fn tools(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(String::as_str)
    }

    /// Lists the categories.
    pub fn categories(&self) -> impl Iterator<Item = &str> {
        self.categories.iter().map(String::as_str)
    }

    /// Writes the hashes into a result of `tools/list` and makes the tags that go with it.
    ///
    /// # Errors
    /// Refuses what is no such result, and text that costs too much or reads two ways. A tool that has no hash is left as it
    /// is and noted.
    pub fn annotate(&self, result: &RawValue) -> Result<Annotated, SchemaError> {
        if self.tools.is_empty() {
            let (text, tags) = (result.get().into(), category_tags(&self.categories));
            return Ok(Annotated { text, tags, notes: Vec::new() });
        }
        scan::check(result.get(), &Limits::default())?;
        let list = Object::parse(result.get()).map_err(|_| SchemaError::NotAList)?;
        let tools = list.get("tools").ok_or(SchemaError::NotAList)?;
        let tools: Vec<&RawValue> = serde_json::from_str(tools.get()).map_err(|_| SchemaError::NotAList)?;
        let mut annotated = Annotated::default();
        let mut common = Vec::new();
        let mut items = Vec::with_capacity(tools.len());
        for tool in tools {
            items.push(self.item(tool, &mut common, &mut annotated.notes));
        }
        if items.iter().any(|item| matches!(item, Cow::Owned(_))) {
            let mut edit = list.into_edit();
            edit.set("tools", array(&items));
            annotated.text = edit.to_text();
        } else {
            annotated.text = result.get().into();
        }
        if !common.is_empty() {
            annotated.tags = tags(common);
            annotated.tags.extend(category_tags(&self.categories));
        }
        Ok(annotated)
    }

    /// Returns how a tool is listed.
    fn item<'a>(
        &'a self,
        tool: &'a RawValue,
        common: &mut Vec<(SchemaHash, String)>,
        notes: &mut Vec<SchemaNote>,
    ) -> Cow<'a, str> {
        let unchanged = Cow::Borrowed(tool.get());
        let Some(name) = object::member(tool, "name").and_then(object::string) else { return unchanged };
        let Some(literal) = self.tools.get(name.as_ref()) else { return unchanged };
        match Listed::new(tool, literal.as_ref()) {
            Ok(listed) => {
                if let Some(claimed) = listed.wrong {
                    let tool = name.to_string();
                    notes.push(SchemaNote::Replaced { tool, claimed, computed: listed.hash });
                }
                common.push((listed.hash, name.into_owned()));
                listed.text
            }
            Err(error) => {
                notes.push(SchemaNote::Refused { tool: name.into_owned(), error });
                unchanged
            }
        }
    }
}

/// A common tool as it is listed.
struct Listed<'a> {
    text: Cow<'a, str>,
    hash: SchemaHash,
    /// Another hash that the tool claimed.
    wrong: Option<String>,
}

impl<'a> Listed<'a> {
    fn new(tool: &'a RawValue, literal: Option<&'a Literal>) -> Result<Self, SchemaError> {
        let object = Object::parse(tool.get()).map_err(|_| SchemaError::NotATool)?;
        let hash = match literal {
            Some(literal) => literal.hash,
            None => hash_tool(tool)?,
        };
        let claimed = claimed(tool)?;
        let agrees = claimed.as_ref().is_some_and(|claimed| claimed.parse() == Ok(hash));
        let wrong = claimed.filter(|_| !agrees).map(|claimed| short(&claimed));
        if agrees && literal.is_none() {
            return Ok(Self { text: Cow::Borrowed(tool.get()), hash, wrong });
        }
        let meta = object.get("_meta");
        let mut edit = object.into_edit();
        if let Some(literal) = literal {
            edit.set("inputSchema", &literal.input);
            match &literal.output {
                Some(output) => _ = edit.set("outputSchema", output),
                None => _ = edit.remove("outputSchema"),
            }
        }
        edit.set("_meta", with_hash(meta, hash));
        Ok(Self { text: Cow::Owned(edit.to_text()), hash, wrong })
    }
}

/// Prints a tool's `_meta` with the hash in it.
fn with_hash(meta: Option<&RawValue>, hash: SchemaHash) -> String {
    let meta = members(meta);
    let mut namespace = members(meta.get(COMMON_SCHEMA)).into_edit();
    namespace.set_string(SCHEMA_HASH, &hash.to_string());
    let namespace = namespace.to_text();
    let mut meta = meta.into_edit();
    meta.set(COMMON_SCHEMA, namespace);
    meta.to_text()
}

/// Returns the members of an object; what is none has none.
fn members(value: Option<&RawValue>) -> Object<'_> {
    value.and_then(|value| Object::parse(value.get()).ok()).unwrap_or_default()
}

/// Reads one literal schema.
fn schema(text: &str) -> Result<&RawValue, SchemaError> {
    scan::check(text, &Limits::default())?;
    Object::parse(text).map_err(|_| SchemaError::NotAnObject)?;
    serde_json::from_str(text).map_err(|_| SchemaError::NotAnObject)
}

/// Makes the `i` tag of each tool and one `k` tag.
fn tags(tools: Vec<(SchemaHash, String)>) -> Vec<Tag> {
    let tools = tools.into_iter().map(|(hash, tool)| Tag::custom("i", [hash.to_string(), tool]));
    tools.chain([Tag::custom("k", [COMMON_SCHEMA])]).collect()
}

fn category_tags(categories: &[String]) -> Vec<Tag> {
    categories.iter().map(|category| Tag::custom("t", [category])).collect()
}

/// Prints an array of JSON texts.
fn array(items: &[Cow<'_, str>]) -> String {
    let mut out = String::with_capacity(items.iter().map(|item| item.len() + 1).sum::<usize>() + 2);
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(item);
    }
    out.push(']');
    out
}
