//! An MCP server on its standard streams that speaks 2026-07-28 and nothing older, for the tests of this crate.
use std::borrow::Cow;

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{Implementation, ProtocolVersion, ServerCapabilities, ServerConfig};
use rmcp::{ServerHandler, ServiceExt as _, schemars, tool, tool_handler, tool_router};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Sum {
    /// First number
    a: f64,
    /// Second number
    b: f64,
}

#[derive(Clone, Debug)]
struct Modern;

#[tool_router]
impl Modern {
    #[tool(description = "Adds two numbers")]
    fn add(&self, Parameters(Sum { a, b }): Parameters<Sum>) -> String {
        (a + b).to_string()
    }
}

#[tool_handler]
impl ServerHandler for Modern {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("modern", "1"))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(&[ProtocolVersion::V_2026_07_28])
    }
}

/// Refuses `initialize` and passes everything else on; rmcp by itself ends after the refusal.
async fn refuse_initialize(mut rest: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let message: Value = serde_json::from_str(&line)?;
        if message.get("method") == Some(&json!("initialize")) {
            let data = json!({ "supported": ["2026-07-28"], "requested": message.pointer("/params/protocolVersion") });
            let error = json!({ "code": -32022, "message": "Unsupported protocol version", "data": data });
            let refusal = json!({ "jsonrpc": "2.0", "id": message.get("id"), "error": error });
            let mut out = tokio::io::stdout();
            out.write_all(format!("{refusal}\n").as_bytes()).await?;
            out.flush().await?;
        } else {
            rest.write_all(format!("{line}\n").as_bytes()).await?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().nth(1).as_deref() == Some("ends") {
        Modern.serve((tokio::io::stdin(), tokio::io::stdout())).await?.waiting().await?;
        return Ok(());
    }
    let (rest, input) = tokio::io::duplex(64 * 1024);
    let refusing = tokio::spawn(refuse_initialize(rest));
    Modern.serve((input, tokio::io::stdout())).await?.waiting().await?;
    refusing.await??;
    Ok(())
}
