//! The stateless client of CEP-35: `initialize` is answered here and never sent.
use alloc::format;
use alloc::string::String;
use contextvm_core::{envelope, object, rewrite};
use serde_json::value::RawValue;

use super::json;

const LATEST: &str = "2025-11-25";
const KNOWN: [&str; 5] = ["2024-10-07", "2024-11-05", "2025-03-26", "2025-06-18", LATEST];

/// Answers `initialize`: the requested revision when it is a known one, else the latest that has `initialize`.
pub(super) fn initialize_answer(id: &RawValue, params: Option<&RawValue>) -> String {
    let asked = rewrite::param(params, "protocolVersion").and_then(object::string);
    let version = KNOWN.into_iter().find(|known| asked.as_deref() == Some(known)).unwrap_or(LATEST);
    let result = format!(
        concat!(
            r#"{{"protocolVersion":"{}","#,
            r#""serverInfo":{{"name":"Emulated-Stateless-Server","version":"1.0.0"}},"#,
            r#""capabilities":{{"tools":{{"listChanged":true}},"prompts":{{"listChanged":true}},"#,
            r#""resources":{{"subscribe":true,"listChanged":true}}}}}}"#,
        ),
        version
    );
    json::raw(result).map_or_else(String::new, |result| envelope::response_result(id, &result))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(params: &str) -> serde_json::Value {
        let id = json::raw(String::from("\"x\"")).unwrap();
        let params = json::raw(String::from(params)).unwrap();
        serde_json::from_str(&initialize_answer(&id, Some(&params))).unwrap()
    }

    #[test]
    fn a_known_revision_is_echoed_and_an_unknown_one_gets_the_latest() {
        for known in KNOWN {
            let answer = answer(&format!(r#"{{"protocolVersion":"{known}"}}"#));
            assert_eq!(answer["result"]["protocolVersion"], known);
        }
        for other in [r#"{"protocolVersion":"2031-01-01"}"#, r#"{"protocolVersion":7}"#, "{}", "[]"] {
            assert_eq!(answer(other)["result"]["protocolVersion"], LATEST);
        }
    }

    #[test]
    fn the_emulated_server_has_the_capabilities_of_the_existing_sdk() {
        let answer = answer("{}");
        assert_eq!(answer["id"], "x");
        assert_eq!(answer["result"]["serverInfo"]["name"], "Emulated-Stateless-Server");
        assert_eq!(answer["result"]["capabilities"]["resources"]["subscribe"], true);
        assert_eq!(answer["result"]["capabilities"]["tools"]["listChanged"], true);
    }
}
