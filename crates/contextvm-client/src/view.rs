//! What the server has shown of itself, as one snapshot.
use std::sync::Arc;

use contextvm_core::PeerTags;
use contextvm_engine::ClientMachine;
use nostr::event::Event;
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
}
