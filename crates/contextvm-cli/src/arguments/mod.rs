//! Tool arguments from the command line, converted to what the tool's schema wants.
use contextvm::core::Printable;
use contextvm::core::object::quote;
use serde_json::Value;

mod check;
mod convert;
mod parse;
mod schema;

pub(crate) use check::check_object;
pub(crate) use schema::{resolve, types};

use crate::nearest::nearest;
use crate::problem::{Code, Problem};
use parse::{Argument, Form};

/// An object that grows argument by argument; values are JSON text and stay as they were written.
#[derive(Debug)]
enum Node {
    Leaf(String),
    List(Vec<String>),
    Object(Vec<(String, Node)>),
}

impl Node {
    fn print(&self) -> String {
        match self {
            Self::Leaf(json) => json.clone(),
            Self::List(items) => format!("[{}]", items.join(",")),
            Self::Object(members) => {
                let members = members.iter().map(|(key, node)| format!("{}:{}", quote(key), node.print()));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// Builds the arguments object of a call and checks it against the tool's schema.
pub(crate) fn build(words: &[String], schema: &Value) -> Result<String, Problem> {
    let mut root = Vec::new();
    for word in words {
        place(&mut root, &Argument::parse(word)?, schema)?;
    }
    let text = Node::Object(root).print();
    check_object(&text, schema)?;
    Ok(text)
}

/// Puts one argument where its path leads, converted by the schema found on the way.
fn place(root: &mut Vec<(String, Node)>, argument: &Argument, schema: &Value) -> Result<(), Problem> {
    let path = path_of(&argument.key, schema);
    let (last, above) = path.split_last().ok_or_else(|| invalid("an argument needs a name"))?;
    let (mut members, mut here) = (root, resolve(schema, schema));
    for step in above {
        let known = known_property(here, step, &argument.key)?;
        here = known.map_or(&Value::Null, |known| resolve(known, schema));
        let at = match members.iter().position(|(name, _)| name == step) {
            Some(at) => at,
            None => {
                members.push((step.clone(), Node::Object(Vec::new())));
                members.len() - 1
            }
        };
        members = match members.get_mut(at) {
            Some((_, Node::Object(inner))) => inner,
            Some(_) | None => return Err(invalid(format!("{} has a value and fields", shown(step)))),
        };
    }
    let wanted =
        known_property(here, last, &argument.key)?.map_or(&Value::Null, |known| resolve(known, schema));
    let takes_list = types(wanted, schema).array;
    let is_text = matches!(argument.form, Form::Text(_));
    let existing = members.iter_mut().find(|(name, _)| name == last).map(|(_, node)| node);
    match existing {
        Some(Node::List(items)) if is_text && takes_list => {
            items.push(convert::item(argument, wanted, schema)?);
            Ok(())
        }
        Some(_) => Err(invalid(format!("{} is given twice", shown(&argument.key)))
            .hint("only lists take several values; give them as name:='[...]'")),
        None => {
            let node = convert::value(argument, wanted, schema)?;
            members.push((last.clone(), node));
            Ok(())
        }
    }
}

/// A name with dots is one field if the schema says so, else a path.
fn path_of(key: &str, schema: &Value) -> Vec<String> {
    let exact = resolve(schema, schema).get("properties").and_then(|all| all.get(key)).is_some();
    if exact { vec![key.to_owned()] } else { key.split('.').map(ToOwned::to_owned).collect() }
}

/// Finds a field; `None` when the object takes any field.
fn known_property<'a>(object: &'a Value, name: &str, full: &str) -> Result<Option<&'a Value>, Problem> {
    let properties = object.get("properties").and_then(Value::as_object);
    let Some(properties) = properties.filter(|all| !all.is_empty()) else { return Ok(None) };
    if let Some(found) = properties.get(name) {
        return Ok(Some(found));
    }
    match object.get("additionalProperties") {
        Some(Value::Bool(true)) => return Ok(None),
        Some(more @ Value::Object(_)) => return Ok(Some(more)),
        Some(_) | None => {}
    }
    Err(unknown(name, full, properties.keys().map(String::as_str)))
}

fn unknown<'a>(name: &str, full: &str, known: impl Iterator<Item = &'a str> + Clone) -> Problem {
    let problem = invalid(format!("the tool has no argument {}", shown(full)));
    let problem = match nearest(name, known.clone()) {
        Some(near) => problem.fact(format!("did you mean: {}", Printable(near))),
        None => problem,
    };
    let names: Vec<String> = known.take(40).map(|name| Printable(name).to_string()).collect();
    problem.fact(format!("it takes: {}", names.join(", ")))
}

fn invalid(message: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidArguments, message)
}

fn shown(text: &str) -> String {
    format!("\"{}\"", Printable::short(text, 80))
}

#[cfg(test)]
mod tests;
