//! Common tool schemas (CEP-15): two tools with one hash are called alike, whoever serves them.
//!
//! The hash is computed exactly as the TypeScript SDK computes it. Annotations are dropped by their key wherever it stands,
//! so also a *property* named `title` or `x-id` vanishes: tools that differ only in such properties share a hash.
mod common;

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use contextvm_core::object::{self, Object};
use contextvm_core::{Fault, ScanError};
use serde_json::value::RawValue;

pub use self::common::{Annotated, CommonSchemas, SchemaNote};
pub use crate::json::MAX_TOOL;
use crate::json::{self, Tree};

/// The namespace in a tool's `_meta`, and the value of the `k` tag.
pub const COMMON_SCHEMA: &str = "io.contextvm/common-schema";

/// Member of the namespace that carries the hash.
const SCHEMA_HASH: &str = "schemaHash";
/// Keys that say nothing about how a tool is called. Keys that begin with `x-` do not either.
const ANNOTATIONS: [&str; 7] =
    ["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"];

/// The hash of a tool's name and schemas: SHA-256 of their canonical form without annotations.
///
/// Printed and read as 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaHash([u8; 32]);

impl SchemaHash {
    /// Makes a hash of its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for SchemaHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        json::print_hex(&self.0, out)
    }
}

impl fmt::Debug for SchemaHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        json::print_hex(&self.0, out)
    }
}

impl FromStr for SchemaHash {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        json::read_hex(text).map(Self).ok_or(SchemaError::NotAHash)
    }
}

/// Why a schema has no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The text is not 64 lowercase hex digits.
    #[error("not a schema hash of 64 lowercase hex digits")]
    NotAHash,
    /// The value is not an object with a name and an input schema.
    #[error("not a tool with a name and an input schema")]
    NotATool,
    /// The value is not the result of `tools/list`.
    #[error("not a list of tools")]
    NotAList,
    /// A literal schema is not a JSON object.
    #[error("a schema is a json object")]
    NotAnObject,
    /// A `$ref` points out of the schema, so that the hash would not say what the tool takes.
    #[error("external $ref pointers must be resolved before computing a common schema hash")]
    ExternalRef,
    /// The text costs too much or reads two ways.
    #[error(transparent)]
    Text(#[from] ScanError),
}

impl SchemaError {
    /// Says who misbehaved: whoever wrote the schema.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// What became of the hash that a tool claims to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The tool has the hash that it claims.
    Match(SchemaHash),
    /// The tool claims another hash than it has: it must not stand in for others.
    Mismatch {
        /// What it claims, at most 64 characters of it.
        claimed: String,
        /// What it has.
        computed: SchemaHash,
    },
    /// The tool claims no hash.
    Absent,
}

/// Computes the hash of a tool. An output schema of `null` counts as none.
///
/// ```
/// use contextvm_announce::schema;
/// use serde_json::value::RawValue;
/// let input = RawValue::from_string(r#"{"type":"object"}"#.to_owned())?;
/// let documented = RawValue::from_string(r#"{"type":"object","description":"Words."}"#.to_owned())?;
/// assert_eq!(schema::hash("a", &input, None), schema::hash("a", &documented, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Refuses schemas that point out of themselves, are larger than [`MAX_TOOL`] bytes, nested deeper
/// than 64, or hold what parsers read in several ways. Of two members with one key the last counts, as in JavaScript.
pub fn hash(name: &str, input: &RawValue, output: Option<&RawValue>) -> Result<SchemaHash, SchemaError> {
    let text = canonical(name, input, output)?;
    Ok(SchemaHash(json::sha256(&text)))
}

/// Computes the hash of a tool as `tools/list` shows it.
///
/// # Errors
/// As [`hash`]; refuses also what is no tool.
pub fn hash_tool(tool: &RawValue) -> Result<SchemaHash, SchemaError> {
    let tool = Tool::read(tool)?;
    hash(&tool.name, tool.input, tool.output)
}

/// Prints what is hashed: name and schemas without annotations, in canonical form (RFC 8785).
///
/// # Errors
/// As [`hash`].
pub fn canonical(name: &str, input: &RawValue, output: Option<&RawValue>) -> Result<String, SchemaError> {
    let mut members = alloc::vec![("name", Tree::String(name.into())), ("inputSchema", stripped(input)?),];
    if let Some(output) = output.filter(|output| output.get() != "null") {
        members.push(("outputSchema", stripped(output)?));
    }
    let members = members.into_iter().map(|(key, value)| (key.into(), value)).collect();
    Ok(Tree::Object(members).canonical()?)
}

/// Compares the hash that a tool claims in its `_meta` with the one that it has.
///
/// # Errors
/// As [`hash_tool`], when the tool claims a hash.
pub fn verify(tool: &RawValue) -> Result<Verdict, SchemaError> {
    let Some(claimed) = claimed(tool)? else { return Ok(Verdict::Absent) };
    let computed = hash_tool(tool)?;
    Ok(if claimed.parse() == Ok(computed) {
        Verdict::Match(computed)
    } else {
        Verdict::Mismatch { claimed: short(&claimed), computed }
    })
}

/// Returns the hash that a tool claims; a claim that is no string is none.
fn claimed(tool: &RawValue) -> Result<Option<String>, SchemaError> {
    if tool.get().len() > json::MAX_TOOL {
        return Err(ScanError::TooLong { bytes: tool.get().len(), limit: json::MAX_TOOL }.into());
    }
    let claim = last(tool, "_meta")
        .and_then(|meta| last(meta, COMMON_SCHEMA))
        .and_then(|namespace| last(namespace, SCHEMA_HASH))
        .and_then(object::string);
    Ok(claim.map(Into::into))
}

/// Returns the first 64 characters of a claim.
fn short(claimed: &str) -> String {
    claimed.chars().take(64).collect()
}

/// Returns the last member with this key, the one that JavaScript sees.
fn last<'a>(object: &'a RawValue, key: &str) -> Option<&'a RawValue> {
    let object = Object::parse(object.get()).ok()?;
    object.iter().filter(|member| member.0 == key).last().map(|member| member.1)
}

/// The members of a tool that count.
struct Tool<'a> {
    name: alloc::borrow::Cow<'a, str>,
    input: &'a RawValue,
    output: Option<&'a RawValue>,
}

impl<'a> Tool<'a> {
    fn read(tool: &'a RawValue) -> Result<Self, SchemaError> {
        let bytes = tool.get().len();
        if bytes > json::MAX_TOOL {
            return Err(ScanError::TooLong { bytes, limit: json::MAX_TOOL }.into());
        }
        let (mut name, mut input, mut output) = (None, None, None);
        for (key, value) in Object::parse(tool.get()).map_err(|_| SchemaError::NotATool)?.iter() {
            match key {
                "name" => name = Some(value),
                "inputSchema" => input = Some(value),
                "outputSchema" => output = Some(value),
                _ => {}
            }
        }
        let name = name.and_then(object::string).ok_or(SchemaError::NotATool)?;
        Ok(Self { name, input: input.ok_or(SchemaError::NotATool)?, output })
    }
}

fn stripped(schema: &RawValue) -> Result<Tree, SchemaError> {
    let mut tree = Tree::read(schema.get())?;
    strip(&mut tree)?;
    Ok(tree)
}

/// Drops annotations from every object, whatever the object stands for.
fn strip(tree: &mut Tree) -> Result<(), SchemaError> {
    match tree {
        Tree::Array(items) => items.iter_mut().try_for_each(strip),
        Tree::Object(members) => {
            members.retain(|key, _| !key.starts_with("x-") && !ANNOTATIONS.contains(&key.as_str()));
            for (key, value) in members.iter_mut() {
                if key == "$ref" && matches!(value, Tree::String(target) if !target.starts_with('#')) {
                    return Err(SchemaError::ExternalRef);
                }
                strip(value)?;
            }
            // JavaScript loses it when it copies an object, but only after it has looked inside.
            members.remove("__proto__");
            Ok(())
        }
        Tree::Null | Tree::Bool(_) | Tree::Number(_) | Tree::String(_) => Ok(()),
    }
}
