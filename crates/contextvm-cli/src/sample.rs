//! A small MCP server to try things with.
mod voice;

use std::time::Duration;

use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub(crate) struct Echo {
    /// What to say back
    message: String,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub(crate) struct Sum {
    /// First number
    a: f64,
    /// Second number
    b: f64,
}

#[derive(Clone, Copy, Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    #[default]
    Celsius,
    Fahrenheit,
}

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub(crate) struct Place {
    /// Name of a city
    city: String,
    /// Unit of the temperature
    #[serde(default)]
    unit: Unit,
}

#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct Weather {
    city: String,
    temperature: f64,
    sky: String,
}

use voice::Voice;

/// What stories are made of.
const STORY: [&str; 12] =
    ["far", "away", "somebody", "speaks", "of", "TOPIC", "and", "somebody", "near", "hears", "it", "first,"];

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub(crate) struct Story {
    /// What it is about
    topic: String,
    /// How many words it has, 60 unless told
    #[serde(default = "words")]
    words: u16,
    /// Milliseconds before each word, 20 unless told
    #[serde(default = "pause")]
    pause: u16,
}

const fn words() -> u16 {
    60
}

const fn pause() -> u16 {
    20
}

/// Tools that need nothing and always work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Nobody else speaks CEP-41 for it: it is a gateway's child.
    alone: bool,
}

impl Sample {
    /// A server in the process that serves it on Nostr.
    pub(crate) const fn served() -> Self {
        Self { alone: false }
    }

    /// A server on standard streams.
    pub(crate) const fn on_streams() -> Self {
        Self { alone: true }
    }
}

#[tool_router]
impl Sample {
    #[tool(description = "Says back what it is told")]
    fn echo(&self, Parameters(Echo { message }): Parameters<Echo>) -> String {
        message
    }

    #[tool(description = "Adds two numbers")]
    fn add(&self, Parameters(Sum { a, b }): Parameters<Sum>) -> String {
        (a + b).to_string()
    }

    #[tool(description = "Tells a story word by word, to callers that listen while it speaks")]
    async fn tell(
        &self,
        Parameters(Story { topic, words, pause }): Parameters<Story>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, String> {
        let mut voice = Voice::of(&context, self.alone);
        let pause = Duration::from_millis(pause.into());
        let (count, mut story) = (usize::from(words), String::new());
        for (at, word) in (1..=count).zip(STORY.into_iter().cycle()) {
            if voice.is_heard() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = context.ct.cancelled() => return Err("nobody listens any more".to_owned()),
                }
            }
            let word = if word == "TOPIC" { topic.as_str() } else { word };
            let word = format!("{word}{}", if at % STORY.len() == 0 || at == count { "\n" } else { " " });
            voice.say(&word).await?;
            story.push_str(&word);
        }
        voice.end().await?;
        Ok(story)
    }

    #[tool(description = "Tells the weather of an invented world")]
    fn weather(&self, Parameters(Place { city, unit }): Parameters<Place>) -> Json<Weather> {
        let letters = u32::try_from(city.chars().count()).unwrap_or(u32::MAX);
        let celsius = f64::from(letters % 30) + 4.0;
        let (temperature, sky) = match unit {
            Unit::Celsius => (celsius, "clear"),
            Unit::Fahrenheit => (celsius * 1.8 + 32.0, "clear"),
        };
        Json(Weather { city, temperature, sky: sky.to_owned() })
    }
}

#[tool_handler]
impl ServerHandler for Sample {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("cvm-demo", env!("CARGO_PKG_VERSION")))
    }
}
