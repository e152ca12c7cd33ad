//! What a server is: the result of `initialize` or of `server/discover`, and the tags beside it.
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use contextvm_core::object::{self, Object, string};
use contextvm_core::{Limits, PeerTags, scan};
use nostr::event::Tags;
use serde_json::value::RawValue;

use super::list::exact;
use super::{DocumentError, DocumentKind};
use crate::{Price, Signed};

/// Member of `_meta` that names the server in the era of `server/discover`.
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// What a server says it is. Everything is its own claim.
#[derive(Clone, Debug)]
pub struct ServerDocument {
    /// Revisions of MCP: the one that `initialize` agreed on, or all that `server/discover` lists (at most
    /// [`ServerDocument::VERSIONS`]).
    pub protocol_versions: Vec<String>,
    /// `serverInfo.name`.
    pub name: Option<String>,
    /// `serverInfo.title`.
    pub title: Option<String>,
    /// `serverInfo.version`.
    pub version: Option<String>,
    /// `instructions`, a text for models.
    pub instructions: Option<String>,
    /// `capabilities` as written.
    pub capabilities: Option<Box<RawValue>>,
    /// Flags and identity of the tags.
    pub tags: PeerTags,
    /// Payment methods (`pmi`), most preferred first.
    pub pmi: Vec<String>,
    /// How payment may be negotiated (`payment_interaction`).
    pub payment_interaction: Option<String>,
    /// Prices (`cap`) of anything the server offers.
    pub prices: Vec<Price>,
}

impl ServerDocument {
    /// Most revisions that are read: 32.
    pub const VERSIONS: usize = 32;

    /// Reads an announcement (kind 11316).
    ///
    /// # Errors
    /// Refuses other kinds, and content that is no such result.
    pub fn read(event: &Signed) -> Result<Self, DocumentError> {
        match event.kind.as_u16() {
            kind if kind == DocumentKind::Server.kind() => Self::from_result(&event.content, &event.tags),
            other => Err(DocumentError::Kind(other)),
        }
    }

    /// Reads the result of `initialize` or `server/discover` and the tags of the event that carried it.
    ///
    /// # Errors
    /// Refuses content beyond budget, that is no object, or that names no protocol version.
    pub fn from_result(result: &str, tags: &Tags) -> Result<Self, DocumentError> {
        scan::check(result, &Limits::default())?;
        let object = Object::parse(result).map_err(|_| DocumentError::NotAnObject)?;
        let protocol_versions = versions(&object);
        if protocol_versions.is_empty() {
            return Err(DocumentError::NoVersion);
        }
        let info = object.get("serverInfo");
        let info = info.or_else(|| object::member(object.get("_meta")?, SERVER_INFO));
        let said = |member| info.and_then(|info| object::member(info, member)).and_then(text);
        let values = |name: &'static str| {
            tags.iter().filter(move |tag| tag.kind() == name).filter_map(|tag| tag.content())
        };
        let mut peer = PeerTags::default();
        peer.learn(tags);
        peer.raw.shrink_to_fit();
        Ok(Self {
            protocol_versions,
            name: said("name"),
            title: said("title"),
            version: said("version"),
            instructions: object.get("instructions").and_then(text),
            capabilities: object.get("capabilities").map(ToOwned::to_owned),
            tags: peer,
            pmi: exact(values("pmi").map(ToString::to_string)),
            payment_interaction: values("payment_interaction").next().map(ToString::to_string),
            prices: exact(Price::of(tags)),
        })
    }

    /// Lists the names of the capabilities, in order.
    #[must_use]
    pub fn capability_names(&self) -> Vec<String> {
        let object = self.capabilities.as_deref().and_then(|raw| Object::parse(raw.get()).ok());
        object.iter().flat_map(Object::iter).map(|(name, _)| name.to_string()).collect()
    }

    /// Roughly what it takes in memory, bytes.
    pub(crate) fn bytes(&self) -> usize {
        let texts = [&self.name, &self.title, &self.version, &self.instructions, &self.payment_interaction];
        let identity = [&self.tags.name, &self.tags.about, &self.tags.website, &self.tags.picture];
        let texts: usize = texts.into_iter().chain(identity).flatten().map(String::len).sum();
        let lists = self.protocol_versions.iter().chain(&self.pmi);
        let raw = self.tags.raw.iter().map(super::list::tag_bytes).sum::<usize>();
        size_of::<Self>()
            + texts
            + lists.map(|text| text.len() + size_of::<String>()).sum::<usize>()
            + self.capabilities.as_ref().map_or(0, |raw| raw.get().len())
            + raw
            + self.prices.iter().map(super::list::price_bytes).sum::<usize>()
    }
}

fn versions(object: &Object<'_>) -> Vec<String> {
    let version = |value: &RawValue| text(value).filter(|version| !version.is_empty());
    if let Some(one) = object.get("protocolVersion").and_then(version) {
        return alloc::vec![one];
    }
    let list = object.get("supportedVersions").map(RawValue::get);
    let list: Option<Vec<&RawValue>> = list.and_then(|list| serde_json::from_str(list).ok());
    list.into_iter().flatten().filter_map(version).take(ServerDocument::VERSIONS).collect()
}

fn text(value: &RawValue) -> Option<String> {
    string(value).map(|text| text.into_owned())
}
