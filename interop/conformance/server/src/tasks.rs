//! The tools of the tasks extension (`io.modelcontextprotocol/tasks`).
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock,
    CreateTaskResult, InputRequest,
};
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use serde_json::{Value, json};

/// Tools that cannot be called without the extension.
const NEED_TASKS: [&str; 4] = ["failing_job", "confirm_delete", "multi_input", "test_tool_with_task"];

/// Runs the tool as a task if the client knows tasks, else at once; `None` if it is no tool of this extension.
pub async fn call(
    tasks: &TaskManager,
    request: &CallToolRequestParams,
    capabilities: &ClientCapabilities,
) -> Option<Result<CallToolResponse, ErrorData>> {
    let job = Job::new(request)?;
    let known = capabilities.supports_tasks();
    if NEED_TASKS.contains(&request.name.as_ref()) && !known {
        let missing = ClientCapabilities::builder().enable_tasks().build();
        return Some(Err(ErrorData::missing_required_client_capability(missing)));
    }
    if known && !matches!(job, Job::Greet(_)) {
        let task = tasks.spawn(TaskOptions::default(), move |context| {
            Box::pin(async move {
                tokio::select! {
                    () = context.cancelled() => Err(TaskExit::Cancelled),
                    outcome = job.run(Some(&context)) => outcome,
                }
            })
        });
        return Some(Ok(CreateTaskResult::new(task).into()));
    }
    Some(match job.run(None).await {
        Ok(result) => Ok(result.into()),
        Err(TaskExit::Error(error)) => Err(error),
        Err(TaskExit::Cancelled) => Err(ErrorData::internal_error("cancelled", None)),
    })
}

enum Job {
    Greet(String),
    Sleep(f64),
    Fail,
    Break,
    Ask(Vec<&'static str>),
    Tell(String),
}

impl Job {
    fn new(request: &CallToolRequestParams) -> Option<Self> {
        let argument = |name: &str| request.arguments.as_ref().and_then(|arguments| arguments.get(name));
        Some(match request.name.as_ref() {
            "greet" => Self::Greet(argument("name").and_then(Value::as_str).unwrap_or("you").to_owned()),
            "slow_compute" => Self::Sleep(argument("seconds").and_then(Value::as_f64).unwrap_or(1.0)),
            "failing_job" => Self::Fail,
            "protocol_error_job" => Self::Break,
            "confirm_delete" => Self::Ask(vec!["confirm"]),
            "multi_input" => Self::Ask(vec!["first", "second"]),
            "test_tool_with_task" => Self::Tell(told(request)),
            _ => return None,
        })
    }

    async fn run(self, context: Option<&TaskContext>) -> Result<CallToolResult, TaskExit> {
        let text = |text: String| Ok(CallToolResult::success(vec![ContentBlock::text(text)]));
        match self {
            Self::Greet(name) => text(format!("Hello, {name}!")),
            Self::Sleep(seconds) => {
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                text(format!("slept {seconds} s"))
            }
            Self::Fail => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(CallToolResult::error(vec![ContentBlock::text("failed on purpose")]))
            }
            Self::Break => Err(TaskExit::Error(ErrorData::internal_error("broken on purpose", None))),
            Self::Ask(keys) => {
                let Some(context) = context else { return text("nobody to ask".to_owned()) };
                let asked = keys.iter().map(|key| context.request_input(*key, question(key)));
                let answers = futures_util::future::try_join_all(asked).await?;
                text(json!(answers).to_string())
            }
            Self::Tell(name) => text(format!("Hello, {name}!")),
        }
    }
}

fn question(key: &str) -> InputRequest {
    let request = json!({ "method": "elicitation/create", "params": { "mode": "form", "message": key,
        "requestedSchema": { "type": "object", "properties": { key: { "type": "boolean" } } } } });
    serde_json::from_value(request).expect("a well-formed elicitation")
}

fn told(request: &CallToolRequestParams) -> String {
    let answer = request.input_responses.as_ref().and_then(|responses| responses.get("user_name"));
    let name = answer.and_then(|answer| answer.pointer("/content/name")).and_then(Value::as_str);
    name.unwrap_or("nobody").to_owned()
}
