//! Announcements: what a server is (11316) and its four lists (11317 to 11320), announced or answered directly (CEP-6).
mod list;
mod server;

use contextvm_core::object::Object;
use contextvm_core::{Fault, ScanError, kind};

pub(crate) use self::list::tag_bytes;
pub use self::list::{Item, ListDocument, SchemaTag};
pub use self::server::ServerDocument;
use crate::{Price, Priced};

/// Why a text or an event is no such document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The event has another kind.
    #[error("kind {0} is not this document")]
    Kind(u16),
    /// The content costs too much or is not JSON.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The content is no JSON object.
    #[error("document is not a json object")]
    NotAnObject,
    /// A server's document names no protocol version.
    #[error("document names no protocol version")]
    NoVersion,
    /// A list's document has no list.
    #[error("document has no list `{0}`")]
    NoList(&'static str),
}

impl DocumentError {
    /// Says who misbehaved: its author.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// Which of the five documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentKind {
    /// What the server is: 11316.
    Server,
    /// Its tools: 11317.
    Tools,
    /// Its resources: 11318.
    Resources,
    /// Its resource templates: 11319.
    ResourceTemplates,
    /// Its prompts: 11320.
    Prompts,
}

impl DocumentKind {
    /// All five, in the order of their kinds.
    pub const ALL: [Self; 5] =
        [Self::Server, Self::Tools, Self::Resources, Self::ResourceTemplates, Self::Prompts];
    /// The four lists, in the order of their kinds.
    pub const LISTS: [Self; 4] = [Self::Tools, Self::Resources, Self::ResourceTemplates, Self::Prompts];

    /// Returns the event kind.
    #[must_use]
    pub const fn kind(self) -> u16 {
        match self {
            Self::Server => kind::SERVER_ANNOUNCEMENT,
            Self::Tools => kind::TOOLS_LIST,
            Self::Resources => kind::RESOURCES_LIST,
            Self::ResourceTemplates => kind::RESOURCE_TEMPLATES_LIST,
            Self::Prompts => kind::PROMPTS_LIST,
        }
    }

    /// Returns the document of an event kind, if it is one.
    #[must_use]
    pub const fn from_kind(kind: u16) -> Option<Self> {
        match kind {
            kind::SERVER_ANNOUNCEMENT => Some(Self::Server),
            kind::TOOLS_LIST => Some(Self::Tools),
            kind::RESOURCES_LIST => Some(Self::Resources),
            kind::RESOURCE_TEMPLATES_LIST => Some(Self::ResourceTemplates),
            kind::PROMPTS_LIST => Some(Self::Prompts),
            _ => None,
        }
    }

    /// Returns the MCP method whose result it holds; of a server in the older era, `initialize`.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Server => "initialize",
            Self::Tools => "tools/list",
            Self::Resources => "resources/list",
            Self::ResourceTemplates => "resources/templates/list",
            Self::Prompts => "prompts/list",
        }
    }

    /// Returns the member of the result that holds the list; `None` of a server.
    #[must_use]
    pub const fn member(self) -> Option<&'static str> {
        match self {
            Self::Server => None,
            Self::Tools => Some("tools"),
            Self::Resources => Some("resources"),
            Self::ResourceTemplates => Some("resourceTemplates"),
            Self::Prompts => Some("prompts"),
        }
    }

    /// Tells by its members which document a result is; the text must have passed the budgeted scan.
    #[must_use]
    pub fn of_result(result: &str) -> Option<Self> {
        let object = Object::parse(result).ok()?;
        if object.get("protocolVersion").is_some() || object.get("supportedVersions").is_some() {
            return Some(Self::Server);
        }
        Self::LISTS.into_iter().find(|list| {
            let value = list.member().and_then(|member| object.get(member));
            value.is_some_and(|value| value.get().starts_with('['))
        })
    }

    /// Whether a price is one of things in this list; `resource:` prices count for resources and for templates.
    #[must_use]
    pub const fn prices(self, price: &Price) -> bool {
        matches!(
            (self, &price.capability),
            (Self::Tools, Priced::Tool(_))
                | (Self::Resources | Self::ResourceTemplates, Priced::Resource(_))
                | (Self::Prompts, Priced::Prompt(_))
        )
    }

    /// Returns the member of an item that names it.
    pub(crate) const fn name_member(self) -> &'static str {
        match self {
            Self::Server | Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::ResourceTemplates => "uriTemplate",
        }
    }
}
