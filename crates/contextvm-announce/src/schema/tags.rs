//! The tags that announce common schemas, and the filters that find them.
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use contextvm_core::kind::TOOLS_LIST;
use contextvm_core::object::quote;
use nostr::event::{Tag, Tags};

use super::{COMMON_SCHEMA, SchemaHash};

/// Most `i` tags, and most `t` tags, that are read from one event.
pub const MAX_SCHEMAS: usize = 1024;
/// Longest tool name or category that is read, bytes.
const MAX_TEXT: usize = 256;

/// What an event's `i`, `k` and `t` tags say about common schemas. Nothing of it is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaTags {
    /// Hash and tool name of each `i` tag, in order; at most [`MAX_SCHEMAS`].
    pub schemas: Vec<(SchemaHash, String)>,
    /// Whether there is the `k` tag of common schemas.
    pub common: bool,
    /// The `t` tags, in order; at most [`MAX_SCHEMAS`].
    pub categories: Vec<String>,
}

impl SchemaTags {
    /// Reads the tags of an event. Other `i` tags, texts longer than 256 bytes and what is too many are left out.
    #[must_use]
    pub fn read(tags: &Tags) -> Self {
        let mut read = Self::default();
        for tag in tags.iter() {
            match tag.as_slice() {
                [name, hash, tool, ..] if name == "i" && tool.len() <= MAX_TEXT => {
                    read.schemas.extend(hash.parse().map(|hash| (hash, tool.clone())));
                    read.schemas.truncate(MAX_SCHEMAS);
                }
                [name, value, ..] if name == "k" => read.common |= value == COMMON_SCHEMA,
                [name, value, ..] if name == "t" && value.len() <= MAX_TEXT => {
                    read.categories.push(value.clone());
                    read.categories.truncate(MAX_SCHEMAS);
                }
                _ => {}
            }
        }
        read
    }
}

/// Makes the `i` tag of each tool, one `k` tag and the `t` tags; nothing when there is no tool.
pub(super) fn write(tools: Vec<(SchemaHash, String)>, categories: &[String]) -> Vec<Tag> {
    if tools.is_empty() {
        return Vec::new();
    }
    let mut tags = Vec::with_capacity(tools.len() + 1 + categories.len());
    tags.extend(tools.into_iter().map(|(hash, tool)| Tag::custom("i", [hash.to_string(), tool])));
    tags.push(Tag::custom("k", [COMMON_SCHEMA]));
    tags.extend(self::categories(categories));
    tags
}

/// Makes the tags of categories.
pub(super) fn categories(categories: &[String]) -> Vec<Tag> {
    categories.iter().map(|category| Tag::custom("t", [category])).collect()
}

/// Prints the filter that finds the servers which announce a tool with this hash.
#[must_use]
pub fn providers_filter(hash: &SchemaHash) -> String {
    format!(r##"{{"kinds":[{TOOLS_LIST}],"#i":["{hash}"]}}"##)
}

/// Prints the filter that finds the servers which announce any common schema.
#[must_use]
pub fn common_filter() -> String {
    format!(r##"{{"kinds":[{TOOLS_LIST}],"#k":["{COMMON_SCHEMA}"]}}"##)
}

/// Prints the filter that finds the servers which announce a category.
///
/// ```
/// let filter = contextvm_announce::schema::category_filter(" translation ");
/// assert_eq!(filter, r##"{"kinds":[11317],"#t":["translation"]}"##);
/// ```
#[must_use]
pub fn category_filter(category: &str) -> String {
    format!(r##"{{"kinds":[{TOOLS_LIST}],"#t":[{}]}}"##, quote(category.trim()))
}
