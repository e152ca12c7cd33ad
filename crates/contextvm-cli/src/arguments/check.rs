//! The whole object against the schema: unknown, missing and unlisted, before anything is sent.
use serde_json::Value;

use super::convert::not_listed;
use super::schema::{listed, resolve, types};
use super::{invalid, known_property, shown};
use crate::problem::Problem;

/// Checks the fields at the top; what is inside them is the server's business.
pub(crate) fn check_object(text: &str, schema: &Value) -> Result<(), Problem> {
    let given: Value = serde_json::from_str(text)
        .map_err(|error| invalid("the arguments are not JSON").fact(error.to_string()))?;
    let Value::Object(given) = given else {
        return Err(invalid("the arguments are not a JSON object").hint("--args '{\"name\":\"value\"}'"));
    };
    let top = resolve(schema, schema);
    for (name, value) in &given {
        let Some(wanted) = known_property(top, name, name)? else { continue };
        let wanted = resolve(wanted, schema);
        if let Some(values) = listed(wanted, schema)
            && !values.contains(&value)
        {
            return Err(not_listed(name, &value.to_string(), &values));
        }
    }
    let required = top.get("required").and_then(Value::as_array);
    let names = required.into_iter().flatten().filter_map(Value::as_str);
    let missing: Vec<&str> = names.filter(|name| !given.contains_key(*name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.iter().map(|name| shown(name)).collect();
    let mut problem = invalid(format!("the tool needs {}", names.join(", ")));
    for name in &missing {
        let schema_of = top.get("properties").and_then(|all| all.get(*name)).unwrap_or(&Value::Null);
        problem =
            problem.fact(format!("{}: {}", shown(name), crate::signature::type_text(schema_of, schema)));
    }
    let example: Vec<String> = missing.iter().map(|name| example(name, top, schema)).collect();
    Err(problem.hint(format!("add {}", example.join(" "))))
}

fn example(name: &str, top: &Value, root: &Value) -> String {
    let wanted = top.get("properties").and_then(|all| all.get(name)).map_or(&Value::Null, |known| known);
    let wanted = types(wanted, root);
    let value = match (wanted.string || wanted.is_any(), wanted.integer || wanted.number, wanted.boolean) {
        (false, true, _) => "1",
        (false, false, true) => "true",
        (false, false, false) => "...",
        (true, _, _) => "text",
    };
    format!("{}={value}", contextvm::core::Printable(name))
}
