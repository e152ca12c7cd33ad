//! A small MCP server to try things with.
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::{ServerHandler, schemars, tool, tool_handler, tool_router};

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

/// Tools that need nothing and always work.
#[derive(Clone, Debug)]
pub(crate) struct Sample;

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
