//! What the suite expects to be listed and answered, read from `fixtures.json`; the TypeScript server reads the same file.
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use rmcp::model::{
    CallToolResult, ElicitRequestParams, InputRequests, Prompt, PromptMessage, Resource, ResourceContents,
    ResourceTemplate, Tool,
};
use serde::Deserialize;

/// The fixtures.
pub static FIXTURES: LazyLock<Fixtures> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../fixtures.json")).expect("fixtures.json has this shape")
});

/// What is listed, and the answers that need no behaviour.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fixtures {
    pub tools: Vec<Tool>,
    /// Tools that always answer the same.
    pub answers: HashMap<String, CallToolResult>,
    /// Tools that ask the user by a request of the server's (2025 revisions).
    pub elicitations: HashMap<String, ElicitRequestParams>,
    /// Tools and the prompt that ask by results of kind `input_required` (2026-07-28).
    pub rounds: HashMap<String, Rounds>,
    pub resources: Vec<Resource>,
    pub resource_templates: Vec<ResourceTemplate>,
    pub contents: HashMap<String, ResourceContents>,
    pub prompts: Vec<Prompt>,
    /// Messages of the prompts, with `{name}` for an argument.
    pub messages: BTreeMap<String, Vec<PromptMessage>>,
}

/// What a tool asks, round after round.
#[derive(Deserialize)]
pub struct Rounds {
    /// Whether `requestState` is given out, and must come back unchanged.
    #[serde(default)]
    pub sealed: bool,
    pub rounds: Vec<InputRequests>,
}
