//! A server's list of tools, resources, resource templates or prompts, and the tags beside it.
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use contextvm_core::object::{self, Object, string};
use contextvm_core::{Limits, scan};
use nostr::event::{Tag, Tags};
use serde_json::value::RawValue;

use super::{DocumentError, DocumentKind};
use crate::{Price, Signed};

/// One thing of a list.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name: of a resource its URI, of a template its pattern.
    pub name: String,
    /// The whole object as written.
    pub raw: Box<RawValue>,
}

impl Item {
    /// Returns what a string member of the object stands for, for instance `description`.
    #[must_use]
    pub fn text(&self, member: &str) -> Option<String> {
        object::member(&self.raw, member).and_then(string).map(|text| text.into_owned())
    }
}

/// One `i` tag: a tool follows a common schema, as its server claims (CEP-15).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaTag {
    /// The hash as written.
    pub hash: String,
    /// The tool's name; empty when the tag names none.
    pub tool: String,
}

/// A list as its server wrote it.
#[derive(Clone, Debug)]
pub struct ListDocument {
    /// Which list.
    pub kind: DocumentKind,
    /// The things in order, each name once, at most [`ListDocument::ITEMS`].
    pub items: Vec<Item>,
    /// How many were left out: no object, without a name, a name twice, or beyond the bound.
    pub skipped: usize,
    /// Whether the server has more pages than this document holds.
    pub more: bool,
    /// Prices (`cap`), also of things in other lists: other implementations do not filter them.
    pub prices: Vec<Price>,
    /// Common schemas (`i`) that tools claim to follow.
    pub schemas: Vec<SchemaTag>,
    /// Categories (`t`).
    pub categories: Vec<String>,
}

impl ListDocument {
    /// Most things that are read of one list: 2,048.
    pub const ITEMS: usize = 2_048;

    /// Reads an announced list (kinds 11317 to 11320).
    ///
    /// # Errors
    /// Refuses other kinds, and content that is no such result.
    pub fn read(event: &Signed) -> Result<Self, DocumentError> {
        let kind = event.kind.as_u16();
        let document = DocumentKind::from_kind(kind).ok_or(DocumentError::Kind(kind))?;
        Self::from_result(document, &event.content, &event.tags)
    }

    /// Reads the result of a list method and the tags of the event that carried it. Broken things in it are counted and left
    /// out.
    ///
    /// # Errors
    /// Refuses the kind of a server, and content beyond budget, that is no object, or that has no such list.
    pub fn from_result(kind: DocumentKind, result: &str, tags: &Tags) -> Result<Self, DocumentError> {
        let member = kind.member().ok_or(DocumentError::Kind(kind.kind()))?;
        scan::check(result, &Limits::default())?;
        let object = Object::parse(result).map_err(|_| DocumentError::NotAnObject)?;
        let list = object.get(member).filter(|list| list.get().starts_with('['));
        let list = list.ok_or(DocumentError::NoList(member))?;
        let list: Vec<&RawValue> =
            serde_json::from_str(list.get()).map_err(|_| DocumentError::NoList(member))?;
        let mut document = Self {
            kind,
            items: Vec::new(),
            skipped: 0,
            more: object.get("nextCursor").is_some_and(|cursor| cursor.get() != "null"),
            prices: exact(Price::of(tags)),
            schemas: exact(tags.iter().filter_map(schema_tag)),
            categories: exact(categories(tags)),
        };
        document.take(&list);
        Ok(document)
    }

    /// Returns the thing of this name.
    #[must_use]
    pub fn item(&self, name: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.name == name)
    }

    /// Lists the prices of one thing in this list.
    pub fn prices_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Price> {
        let kind = self.kind;
        self.prices.iter().filter(move |price| kind.prices(price) && price.capability.name() == name)
    }

    fn take(&mut self, list: &[&RawValue]) {
        let mut names = BTreeSet::new();
        for raw in list {
            let name = object::member(raw, self.kind.name_member()).and_then(string);
            match name.filter(|name| !name.is_empty()) {
                Some(name) if self.items.len() < Self::ITEMS && names.insert(name.to_string()) => {
                    self.items.push(Item { name: name.into_owned(), raw: (*raw).to_owned() });
                }
                _ => self.skipped += 1,
            }
        }
        self.items.shrink_to_fit();
    }

    /// Roughly what it takes in memory, bytes.
    pub(crate) fn bytes(&self) -> usize {
        let items = self.items.iter().map(|item| size_of::<Item>() + item.name.len() + item.raw.get().len());
        let schemas = self.schemas.iter().map(|tag| size_of::<SchemaTag>() + tag.hash.len() + tag.tool.len());
        let categories = self.categories.iter().map(|word| size_of::<String>() + word.len());
        let prices = self.prices.iter().map(price_bytes);
        size_of::<Self>() + items.chain(schemas).chain(categories).chain(prices).sum::<usize>()
    }
}

/// Collects without spare room: many of these are kept.
pub(super) fn exact<T>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.shrink_to_fit();
    items
}

fn schema_tag(tag: &Tag) -> Option<SchemaTag> {
    match tag.as_slice() {
        [name, hash, rest @ ..] if name == "i" => {
            Some(SchemaTag { hash: hash.clone(), tool: rest.first().cloned().unwrap_or_default() })
        }
        _ => None,
    }
}

fn categories(tags: &Tags) -> Vec<String> {
    let words = tags.iter().filter(|tag| tag.kind() == "t").filter_map(|tag| tag.content());
    let mut known = BTreeSet::new();
    let new = words.map(str::trim).filter(|word| !word.is_empty() && known.insert(*word));
    new.map(ToString::to_string).collect()
}

pub(super) fn price_bytes(price: &Price) -> usize {
    let texts = price.capability.name().len() + price.amount.len() + price.unit.len();
    size_of::<Price>() + texts + price.most.as_ref().map_or(0, String::len)
}

pub(crate) fn tag_bytes(tag: &Tag) -> usize {
    let elements = tag.as_slice().iter();
    size_of::<Tag>() + elements.map(|element| size_of::<String>() + element.len()).sum::<usize>()
}
