//! What passed by and stays readable: the initialize event and the latest list events.
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use nostr::event::Event;
use serde_json::value::RawValue;

/// Events of the server that an application may want to look at, one of each kind.
///
/// Worst case: six events, each bounded by the event limit.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) initialize: Option<(Event, Box<RawValue>)>,
    pub(super) first_tagged: Option<Event>,
    pub(super) tools: Option<Event>,
    pub(super) resources: Option<Event>,
    pub(super) templates: Option<Event>,
    pub(super) prompts: Option<Event>,
}

impl Facts {
    /// Keeps the answer to a call where it is one of those.
    pub(super) fn keep(&mut self, method: &str, event: &Event, result: &RawValue) {
        match method {
            "initialize" | "server/discover" => self.initialize = Some((event.clone(), result.to_owned())),
            "tools/list" => self.tools = Some(event.clone()),
            "resources/list" => self.resources = Some(event.clone()),
            "resources/templates/list" => self.templates = Some(event.clone()),
            "prompts/list" => self.prompts = Some(event.clone()),
            _ => {}
        }
    }

    /// Keeps the first event in which the server said something about itself.
    pub(super) fn keep_tagged(&mut self, event: &Event) {
        if self.first_tagged.is_none() {
            self.first_tagged = Some(event.clone());
        }
    }
}
