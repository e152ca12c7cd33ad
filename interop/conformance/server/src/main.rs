//! An MCP server for MCP's conformance suite, on rmcp's Streamable HTTP server, for 2025-11-25 and 2026-07-28.
//! `contextvm-conformance-server [PORT]` prints `{"ready":true,"url":...}` and runs until its standard input ends;
//! `contextvm-conformance-server stdio` speaks MCP there instead.
#![expect(deprecated, reason = "sampling, logging and resource subscriptions belong to the 2025 revisions")]

mod fixtures;
mod rounds;
mod tasks;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::model::*;
use rmcp::service::{RequestContext, SubscriptionContext, SubscriptionSink};
use rmcp::task_manager::TaskManager;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::fixtures::FIXTURES;
use crate::rounds::Round;

/// How long lists and resources may be taken for fresh, milliseconds.
const FRESH_MS: u64 = 60_000;

type Context = RequestContext<RoleServer>;

#[derive(Clone, Default)]
struct Conformance {
    /// Open `subscriptions/listen` streams.
    listeners: Arc<Mutex<HashMap<u64, SubscriptionSink>>>,
    next_listener: Arc<AtomicU64>,
    tasks: TaskManager,
}

/// A paginated result with the caching hints that 2026-07-28 wants.
macro_rules! listed {
    ($kind:ident, $items:ident) => {
        Ok($kind::with_all_items(FIXTURES.$items.clone())
            .with_ttl_ms(FRESH_MS)
            .with_cache_scope(CacheScope::Public))
    };
}

impl ServerHandler for Conformance {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_logging()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_tasks()
            .build();
        ServerConfig::new(capabilities).with_server_info(Implementation::new("conformance", "1.0.0"))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListToolsResult, ErrorData> {
        listed!(ListToolsResult, tools)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        FIXTURES.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: Context,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.as_ref();
        let capabilities = context.client_capabilities().unwrap_or_default();
        if let Some(answer) = FIXTURES.answers.get(name) {
            return Ok(answer.clone().into());
        }
        if FIXTURES.rounds.contains_key(name) {
            let state = request.request_state.as_deref();
            match rounds::play(name, request.input_responses.clone(), state, &capabilities)? {
                Round::Ask(ask) => return Ok(ask.into()),
                Round::Done(responses) if name != "test_tool_with_task" => {
                    return text(format!("state-ok: {}", json!(responses)));
                }
                Round::Done(_) => {}
            }
        }
        if let Some(outcome) = tasks::call(&self.tasks, &request, &capabilities).await {
            return outcome;
        }
        self.behave(&request, &context, &capabilities).await
    }

    async fn get_task(&self, request: GetTaskParams, _: Context) -> Result<GetTaskResult, ErrorData> {
        self.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(&self, request: UpdateTaskParams, _: Context) -> Result<(), ErrorData> {
        self.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: Context) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListResourcesResult, ErrorData> {
        listed!(ListResourcesResult, resources)
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        listed!(ListResourceTemplatesResult, resource_templates)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.as_str();
        let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
        let contents = match (FIXTURES.contents.get(uri), id) {
            (Some(contents), _) => contents.clone(),
            (None, Some(id)) => {
                let text = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
                ResourceContents::text(text.to_string(), uri).with_mime_type("application/json")
            }
            (None, None) => {
                return Err(ErrorData::resource_not_found("no such resource", Some(json!({ "uri": uri }))));
            }
        };
        let result = ReadResourceResult::new(vec![contents]);
        Ok(result.with_ttl_ms(FRESH_MS).with_cache_scope(CacheScope::Public).into())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let number = self.next_listener.fetch_add(1, Relaxed);
        self.listeners.lock().expect("not poisoned").insert(number, context.sink().clone());
        context.cancelled().await;
        self.listeners.lock().expect("not poisoned").remove(&number);
        Ok(())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Context,
    ) -> Result<ListPromptsResult, ErrorData> {
        listed!(ListPromptsResult, prompts)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        let name = request.name.as_str();
        if FIXTURES.rounds.contains_key(name) {
            let capabilities = context.client_capabilities().unwrap_or_default();
            let state = request.request_state.as_deref();
            return Ok(match rounds::play(name, request.input_responses, state, &capabilities)? {
                Round::Ask(ask) => ask.into(),
                Round::Done(responses) => {
                    let message = PromptMessage::new_text(Role::User, json!(responses).to_string());
                    GetPromptResult::new(vec![message]).into()
                }
            });
        }
        let unknown = || ErrorData::invalid_params("no such prompt", Some(json!({ "name": name })));
        let mut text = json!(FIXTURES.messages.get(name).ok_or_else(unknown)?).to_string();
        for (argument, value) in request.arguments.unwrap_or_default() {
            let value = json!(value.as_str().unwrap_or_default()).to_string();
            text = text.replace(&format!("{{{argument}}}"), value.trim_matches('"'));
        }
        let messages: Vec<PromptMessage> = serde_json::from_str(&text)
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(GetPromptResult::new(messages).into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: Context,
    ) -> Result<CompleteResult, ErrorData> {
        let offered = ["paris", "park", "party"];
        let fitting = offered.iter().filter(|word| word.starts_with(&request.argument.value));
        let values = fitting.map(|word| (*word).to_owned()).collect();
        let completion =
            CompletionInfo::new(values).map_err(|error| ErrorData::internal_error(error, None))?;
        Ok(CompleteResult::new(completion))
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: Context) -> Result<(), ErrorData> {
        Ok(())
    }
}

impl Conformance {
    /// Tools that do something while they run.
    async fn behave(
        &self,
        request: &CallToolRequestParams,
        context: &Context,
        capabilities: &ClientCapabilities,
    ) -> Result<CallToolResponse, ErrorData> {
        let argument = |name: &str| {
            let value = request.arguments.as_ref().and_then(|arguments| arguments.get(name));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        match request.name.as_ref() {
            "test_tool_with_logging" => {
                for said in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
                    log(context, LoggingLevel::Info, said).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                text("logged")
            }
            "test_logging_tool" => {
                if let Some(level) = context.meta.log_level() {
                    log(context, level, "logged on request").await;
                }
                text("logged if wanted")
            }
            "test_tool_with_progress" => {
                for done in [0.0, 50.0, 100.0] {
                    if let Some(token) = context.meta.get_progress_token() {
                        let progress = ProgressNotificationParam::new(token, done).with_total(100.0);
                        // A client that is gone needs no progress.
                        let _gone = context.peer.notify_progress(progress).await;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                text("done")
            }
            "test_sampling" => {
                let message = SamplingMessage::user_text(argument("prompt"));
                let sampled =
                    context.peer.create_message(CreateMessageRequestParams::new(vec![message], 100));
                match sampled.await {
                    Ok(result) => text(format!("LLM response: {}", json!(result.message.content))),
                    Err(error) => {
                        Ok(CallToolResult::error(vec![ContentBlock::text(error.to_string())]).into())
                    }
                }
            }
            "test_reconnection" => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                text("This library cannot break a stream off.")
            }
            "test_missing_capability" if capabilities.sampling.is_none() => {
                let missing = ClientCapabilities::builder().enable_sampling().build();
                Err(ErrorData::missing_required_client_capability(missing))
            }
            "test_missing_capability" => text("sampling is there"),
            "test_trigger_tool_change" => {
                for listener in self.listeners() {
                    // A stream that asked for other news, or is gone, gets none.
                    let _unwanted = listener.notify_tool_list_changed().await;
                }
                text("announced")
            }
            "test_trigger_prompt_change" => {
                for listener in self.listeners() {
                    let _unwanted = listener.notify_prompt_list_changed().await;
                }
                text("announced")
            }
            name => match FIXTURES.elicitations.get(name) {
                Some(asked) => elicit(context, asked.clone(), argument("message")).await,
                None => Err(ErrorData::invalid_params("no such tool", Some(json!({ "name": name })))),
            },
        }
    }

    fn listeners(&self) -> Vec<SubscriptionSink> {
        self.listeners.lock().expect("not poisoned").values().cloned().collect()
    }
}

fn text(text: impl Into<String>) -> Result<CallToolResponse, ErrorData> {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

async fn log(context: &Context, level: LoggingLevel, said: &str) {
    let message = LoggingMessageNotificationParam::new(level, json!(said));
    // A client that is gone needs no log.
    let _gone = context.peer.notify_logging_message(message).await;
}

async fn elicit(
    context: &Context,
    mut asked: ElicitRequestParams,
    said: String,
) -> Result<CallToolResponse, ErrorData> {
    if let ElicitRequestParams::FormElicitationParams { message, .. } = &mut asked
        && message.is_empty()
    {
        *message = said;
    }
    match context.peer.create_elicitation(asked).await {
        Ok(ElicitResult { action, content, .. }) => {
            text(format!("Elicitation completed: action={}, content={}", json!(action), json!(content)))
        }
        Err(error) => Ok(CallToolResult::error(vec![ContentBlock::text(error.to_string())]).into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Conformance::default();
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("stdio") {
        server.serve(rmcp::transport::stdio()).await?.waiting().await?;
        return Ok(());
    }
    let port: u16 = argument.map_or(Ok(0), |port| port.parse())?;
    let service: StreamableHttpService<Conformance, LocalSessionManager> = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::default(),
        StreamableHttpServerConfig::default(),
    );
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://{}/mcp", listener.local_addr()?);
    println!("{}", json!({ "ready": true, "url": url }));
    let router = axum::Router::new().nest_service("/mcp", service);
    tokio::select! {
        served = axum::serve(listener, router) => served?,
        _ended = async { tokio::io::stdin().read_to_end(&mut Vec::new()).await } => {}
    }
    Ok(())
}
