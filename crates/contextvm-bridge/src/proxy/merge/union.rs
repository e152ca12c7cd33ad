//! What several servers say of themselves, said as one.
use std::collections::BTreeSet;

use contextvm_core::object::{self, Edit, Object, quote};
use serde_json::value::RawValue;

use crate::revision::MODERN;

/// `_meta` member of a list: the servers that are missing from it, and why.
pub(super) const LEFT_OUT: &str = "org.contextvm/leftOut";
/// Deepest nesting, and most members of one object, down to which descriptions are united.
const UNITED: (usize, usize) = (8, 256);

/// A server's name, with its answer or why there is none.
pub(super) type Introduction<'a> = (&'a str, Result<&'a RawValue, String>);

/// Prints the answer to `initialize`: the oldest granted revision, all capabilities, all instructions.
pub(super) fn welcome(said: &[Introduction<'_>]) -> Edit<'static> {
    let versions = results(said).filter_map(|result| object::member(result, "protocolVersion"));
    let oldest = versions.map(RawValue::get).min().unwrap_or("\"\"").to_owned();
    let mut welcome = Edit::new();
    welcome.set("protocolVersion", oldest);
    welcome.set("capabilities", capabilities(said));
    welcome.set("serverInfo", server_info(said));
    welcome.set_string("instructions", &instructions(said));
    welcome
}

/// Prints the answer to `server/discover`.
pub(super) fn discovered(said: &[Introduction<'_>]) -> Edit<'static> {
    let versions = results(said).filter_map(|result| object::member(result, "supportedVersions"));
    let mut versions = versions.filter_map(|list| serde_json::from_str::<Vec<String>>(list.get()).ok());
    let mut common = versions.next().unwrap_or_default();
    versions.for_each(|other| common.retain(|version| other.contains(version)));
    if common.is_empty() {
        common.push(MODERN.to_owned());
    }
    let common: Vec<String> = common.iter().map(|version| quote(version)).collect();
    let mut discovered = Edit::new();
    discovered.set("resultType", r#""complete""#);
    discovered.set("supportedVersions", format!("[{}]", common.join(",")));
    discovered.set("capabilities", capabilities(said));
    discovered.set_string("instructions", &instructions(said));
    cache(&mut discovered, results(said), said.iter().any(|(_, said)| said.is_err()));
    discovered.set("_meta", format!(r#"{{"io.modelcontextprotocol/serverInfo":{}}}"#, server_info(said)));
    discovered
}

/// Whether the host is promised to hear of changes to a list.
pub(super) fn tells(welcome: &Edit<'_>, part: &str) -> bool {
    let capabilities = welcome.get("capabilities").and_then(|all| Object::parse(all).ok());
    let part = capabilities.as_ref().and_then(|all| all.get(part));
    part.and_then(|part| object::member(part, "listChanged")).is_some_and(|flag| flag.get() == "true")
}

/// Caching hints (2026-07-28): the strictest of all; what is incomplete is not to be kept.
pub(super) fn cache<'a>(result: &mut Edit<'_>, all: impl Iterator<Item = &'a RawValue>, is_incomplete: bool) {
    let mut lifetime: Option<f64> = None;
    let mut scope = None;
    for one in all {
        let told = object::member(one, "ttlMs").and_then(|told| told.get().parse::<f64>().ok());
        lifetime = told.map(|told| lifetime.map_or(told, |least| least.min(told))).or(lifetime);
        let told = object::member(one, "cacheScope").map(RawValue::get);
        scope = scope.filter(|scope| *scope == r#""private""#).or(told).or(scope);
    }
    if let Some(lifetime) = lifetime {
        result.set("ttlMs", if is_incomplete { "0".to_owned() } else { lifetime.to_string() });
    }
    if let Some(scope) = scope {
        result.set("cacheScope", scope.to_owned());
    }
}

fn results<'a>(said: &'a [Introduction<'_>]) -> impl Iterator<Item = &'a RawValue> {
    said.iter().filter_map(|(_, said)| said.as_ref().ok().copied())
}

/// All capabilities; when a server is missing, the lists may change once it comes.
fn capabilities(said: &[Introduction<'_>]) -> String {
    let each = results(said).filter_map(|result| object::member(result, "capabilities"));
    let all = each.fold("{}".to_owned(), |all, one| unite(&all, one.get(), 0));
    let Some(united) = Object::parse(&all).ok().filter(|_| said.iter().any(|(_, said)| said.is_err())) else {
        return all;
    };
    let mut edit = united.into_edit();
    for part in ["tools", "prompts", "resources"] {
        if let Some(old) = edit.get(part) {
            let new = unite(old, r#"{"listChanged":true}"#, 0);
            edit.set(part, new);
        }
    }
    edit.to_text()
}

fn server_info(said: &[Introduction<'_>]) -> String {
    let names: Vec<&str> = said.iter().map(|(name, _)| *name).collect();
    let version = env!("CARGO_PKG_VERSION");
    format!(r#"{{"name":"cvm","title":{},"version":"{version}"}}"#, quote(&names.join(", ")))
}

fn instructions(said: &[Introduction<'_>]) -> String {
    let mut all = "Several servers as one: names of tools and prompts begin with the name of their server and two underscores.".to_owned();
    for (name, said) in said {
        let text = match said {
            Ok(result) => match object::member(result, "instructions").and_then(object::string) {
                Some(text) => text.into_owned(),
                None => continue,
            },
            Err(why) => format!("This server is left out: {why}"),
        };
        all.push_str(&format!("\n\n# {name}\n\n{text}"));
    }
    all
}

/// Unites two descriptions: members of objects, elements of lists; `true` wins over `false`, else the first over the second.
pub(super) fn unite(first: &str, second: &str, depth: usize) -> String {
    if depth >= UNITED.0 {
        return first.to_owned();
    }
    if let (Ok(one), Ok(other)) = (Object::parse(first), Object::parse(second))
        && one.len().max(other.len()) <= UNITED.1
    {
        let mut united = one.into_edit();
        for (key, value) in other.iter() {
            let value = match united.get(key) {
                Some(old) => unite(old, value.get(), depth + 1),
                None => value.get().to_owned(),
            };
            united.set(key.to_owned(), value);
        }
        return united.to_text();
    }
    let list = |text| serde_json::from_str::<Vec<&RawValue>>(text);
    if let (Ok(one), Ok(other)) = (list(first), list(second)) {
        let mut seen = BTreeSet::new();
        let all = one.into_iter().chain(other).map(RawValue::get).filter(|item| seen.insert(*item));
        return format!("[{}]", all.collect::<Vec<_>>().join(","));
    }
    if (first, second) == ("false", "true") { second } else { first }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_united_without_loss() {
        let table = [
            (
                r#"{"a":{"x":false,"n":1.0}}"#,
                r#"{"a":{"x":true,"n":2},"b":{}}"#,
                r#"{"a":{"x":true,"n":1.0},"b":{}}"#,
            ),
            (r#"["a","b"]"#, r#"["b","c"]"#, r#"["a","b","c"]"#),
            ("true", "false", "true"),
            ("{}", "[]", "{}"),
            ("{}", "{}", "{}"),
        ];
        for (one, other, expected) in table {
            assert_eq!(unite(one, other, 0), expected);
        }
        let deep = |leaf: &str| format!("{}{leaf}{}", r#"{"a":"#.repeat(40), "}".repeat(40));
        assert_eq!(unite(&deep("false"), &deep("true"), 0), deep("false"));
    }
}
