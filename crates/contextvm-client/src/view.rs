//! What the server has shown of itself, as one snapshot.
use std::sync::Arc;

use contextvm_announce::{Added, Directory, DocumentKind, Heard, Refused, Stamp};
use contextvm_core::PeerTags;
use contextvm_engine::ClientMachine;
use nostr::event::{Event, Tags};
use serde_json::value::RawValue;

/// What the server has shown of itself so far (CEP-35): its discovery tags and the signed events that carried its answers.
///
/// Worst case: six events, each bounded by `Limits::event`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServerView {
    /// Everything that it said in discovery tags: flags, name, about, website, picture, and the raw tags.
    pub tags: PeerTags,
    /// The event that answered `initialize` or `server/discover`, else the first one with discovery tags.
    pub initialize_event: Option<Arc<Event>>,
    /// The result of the latest `initialize` or `server/discover`, in the server's own text.
    pub initialize_result: Option<Arc<RawValue>>,
    /// The latest event that answered `tools/list`; its `cap` tags are prices.
    pub tools_list_event: Option<Arc<Event>>,
    /// The latest event that answered `resources/list`.
    pub resources_list_event: Option<Arc<Event>>,
    /// The latest event that answered `resources/templates/list`.
    pub resource_templates_list_event: Option<Arc<Event>>,
    /// The latest event that answered `prompts/list`.
    pub prompts_list_event: Option<Arc<Event>>,
    /// It understands gift wraps: it said so, or it sent one (CEP-4).
    pub supports_encryption: bool,
    /// It understands ephemeral gift wraps: it said so, or it sent one (CEP-19).
    pub supports_ephemeral_encryption: bool,
}

impl ServerView {
    pub(crate) fn of(machine: &ClientMachine) -> Self {
        let shared = |event: Option<&Event>| event.cloned().map(Arc::new);
        Self {
            tags: machine.server_tags().clone(),
            initialize_event: shared(machine.initialize_event()),
            initialize_result: machine.initialize_result().map(|result| Arc::from(result.to_owned())),
            tools_list_event: shared(machine.tools_list_event()),
            resources_list_event: shared(machine.resources_list_event()),
            resource_templates_list_event: shared(machine.resource_templates_list_event()),
            prompts_list_event: shared(machine.prompts_list_event()),
            supports_encryption: machine.server_supports_encryption(),
            supports_ephemeral_encryption: machine.server_supports_ephemeral_encryption(),
        }
    }

    /// Merges what the server has said about itself into the view of what is announced: its answer to `initialize` or
    /// `server/discover`, and its discovery tags. `None` when it has said nothing yet; `now` is our clock in Unix seconds.
    ///
    /// # Errors
    /// Says why the directory does not take it.
    pub fn add_to(&self, directory: &mut Directory, now: u64) -> Option<Result<Added, Refused>> {
        let event = self.initialize_event.as_ref()?;
        // The tags came with the first event of the session, which need not be the one that answered.
        let tags = Tags::from_list(self.tags.raw.clone());
        let heard = Heard { tags: &tags, ..Heard::of(event) };
        let result = self.initialize_result.as_ref();
        Some(directory.hear(&result.map_or(heard, |result| heard.with_result(result.get())), now))
    }

    /// Merges a list into the view of what is announced. `items` are those of all pages, which only the caller has;
    /// `None` when no list of this kind came yet. `now` is our clock in Unix seconds.
    ///
    /// # Errors
    /// Says why the directory does not take it.
    pub fn add_list_to(
        &self,
        directory: &mut Directory,
        kind: DocumentKind,
        items: &[Box<RawValue>],
        now: u64,
    ) -> Option<Result<Added, Refused>> {
        let event = self.list_event(kind)?;
        let member = kind.member()?;
        let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
        let result = format!("{{\"{member}\":[{}]}}", items.join(","));
        Some(directory.hear(&Heard { result: Some((kind, &result)), ..Heard::of(event) }, now))
    }

    /// Returns when the server signed its latest answer of this kind.
    #[must_use]
    pub fn stamp(&self, kind: DocumentKind) -> Option<Stamp> {
        let event = self.list_event(kind).or_else(|| {
            Some(&self.initialize_event).filter(|_| kind == DocumentKind::Server).and_then(Option::as_ref)
        })?;
        Some(Heard::of(event).stamp)
    }

    fn list_event(&self, kind: DocumentKind) -> Option<&Arc<Event>> {
        match kind {
            DocumentKind::Server => None,
            DocumentKind::Tools => self.tools_list_event.as_ref(),
            DocumentKind::Resources => self.resources_list_event.as_ref(),
            DocumentKind::ResourceTemplates => self.resource_templates_list_event.as_ref(),
            DocumentKind::Prompts => self.prompts_list_event.as_ref(),
        }
    }
}
